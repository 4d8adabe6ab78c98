"""The sizes of a Transducer, and the units that it writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from cspkit.arguments import ArgumentError, count, one_of
from cspkit.asr.corpus import DIGITS
from cspkit.asr.text import WORD_START, fewest_pieces

# The letters of the ten words, and the space
CHARACTERS = tuple(sorted(set(" ".join(DIGITS))))


@dataclass(frozen=True)
class TransducerConfig:
    """The sizes of a Transducer, and the units that it writes.

    Attributes
    ----------
    units : tuple of str
        The meaning of each label: words; or single characters including the space
        (`CHARACTERS`); or pieces of words, see `cspkit.asr.text.units_of`. The index of the blank
        is the number of units.
    n_features : int
        Number of coefficients of a feature frame.
    stack : int
        Number of feature frames that form one frame of the encoder.
    encoder_layers, encoder_size, embedding_size, predictor_size, joiner_size : int

    Raises
    ------
    ArgumentError
        If there are no units, if a unit is not a string, if two units are equal, or if a size is
        not a positive integer.
    """

    units: tuple[str, ...] = DIGITS
    n_features: int = 13
    stack: int = 3
    encoder_layers: int = 2
    encoder_size: int = 128
    embedding_size: int = 32
    predictor_size: int = 128
    joiner_size: int = 128

    def __post_init__(self) -> None:
        strings = not isinstance(self.units, str) and all(isinstance(u, str) for u in self.units)
        if not strings or not self.units or len(set(self.units)) < len(self.units):
            raise ArgumentError(
                f"units is {self.units!r}: expected one or more strings, all different"
            )
        for name, value in vars(self).items():
            if name != "units":
                count(name, value)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {unit: i for i, unit in enumerate(self.units)}

    @property
    def blank(self) -> int:
        """The index of the blank unit."""
        return len(self.units)

    @property
    def writes_characters(self) -> bool:
        """Whether the units are single characters."""
        return all(len(unit) == 1 for unit in self.units) and not self.writes_pieces

    @cached_property
    def writes_pieces(self) -> bool:
        """Whether the units are pieces of words."""
        return any(unit.startswith(WORD_START) for unit in self.units)

    def labels(self, text: str) -> list[int]:
        """Return the labels of a text.

        Of all ways to write it in pieces of words, `cspkit.asr.text.fewest_pieces` is used.

        Raises
        ------
        ArgumentError
            If a word, or a character, is not a unit, or if the pieces cannot write the text.
        """
        if self.writes_pieces:
            pieces = fewest_pieces(text, self._index)
            if pieces is None:
                raise ArgumentError(f"text is {text!r}: expected a text that the pieces can write")
        else:
            pieces = list(" ".join(text.split())) if self.writes_characters else text.split()
        unknown = [piece for piece in pieces if piece not in self._index]
        if unknown:
            raise ArgumentError(
                f"text has the unit {unknown[0]!r}: expected {', '.join(self.units)}"
            )
        return [self._index[piece] for piece in pieces]

    def text(self, labels: Sequence[int]) -> str:
        """Return the text of a sequence of labels."""
        if self.writes_pieces:
            written = "".join(self.units[label] for label in labels).replace(WORD_START, " ")
        else:
            between = "" if self.writes_characters else " "
            written = between.join(self.units[label] for label in labels)
        return " ".join(written.split())


def config_for(units: str | Sequence[str] = "words", width: int = 128) -> TransducerConfig:
    """Return the default configuration of a recogniser that writes these units.

    Parameters
    ----------
    units : {"words", "characters"} or sequence of str
        The ten digits as words or characters, or units as `TransducerConfig` takes them. Characters
        and pieces of words follow each other faster than words. So the model stacks two feature
        frames for them, and three for words.
    width : int
        Size of each LSTM and of the joiner.

    Raises
    ------
    ArgumentError
        If `units` is another string, or `width` is not a positive integer.
    """
    if isinstance(units, str):
        one_of("units", units, ("words", "characters"))
        units = CHARACTERS if units == "characters" else DIGITS
    sizes = dict.fromkeys(("encoder_size", "predictor_size", "joiner_size"), width)
    config = TransducerConfig(tuple(units), **sizes)
    shorter = config.writes_characters or config.writes_pieces
    return replace(config, stack=2) if shorter else config


def large_config(units: Sequence[str], *, n_features: int = 80, stack: int = 4) -> TransducerConfig:
    """Return the configuration of a streaming recogniser of about 30 million weights.

    It is meant for a corpus such as LibriSpeech-100h and 1,000 pieces of words. The encoder has
    five LSTM layers of 832 units; the predictor and the joiner have 640. With 80 features and 4
    stacked frames, the encoder has 26.0 million weights and the model 30.2 million. The logits
    of a batch are then too large to be held at once, see `cspkit.asr.joint`.

    Parameters
    ----------
    units : sequence of str
        The pieces of words, without the blank.
    n_features : int
        Number of coefficients of a feature frame.
    stack : int
        Number of feature frames that form one frame of the encoder: 4 frames of 10 ms, for example.

    Raises
    ------
    ArgumentError
        If `units` are not strings that all differ, or a number is not a positive integer.
    """
    return TransducerConfig(
        units=units if isinstance(units, str) else tuple(units),
        n_features=n_features,
        stack=stack,
        encoder_layers=5,
        encoder_size=832,
        embedding_size=256,
        predictor_size=640,
        joiner_size=640,
    )
