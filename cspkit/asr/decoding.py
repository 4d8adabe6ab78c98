"""Decoding of a Transducer: greedy search, beam search, and the emission time of each unit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from cspkit.arguments import ArgumentError, count
from cspkit.asr.features import HOP, SAMPLE_RATE, checked_frames
from cspkit.asr.search import MAX_SYMBOLS, Path, beam_paths, greedy_paths
from cspkit.asr.transducer import Transducer, checked_model
from cspkit.asr.transducer_config import TransducerConfig
from cspkit.training import evaluating

__all__ = [
    "MAX_SYMBOLS",
    "Emission",
    "beam_search",
    "emissions",
    "greedy",
    "latencies",
    "transcribe",
]

T = TypeVar("T")


class Emission(NamedTuple):
    """A unit that was recognised, and its time.

    Attributes
    ----------
    label : int
    unit : str
        The word or character of the label.
    time : float
        Seconds from the start of the utterance to the end of the stacked frame that emits the
        unit. Before this time the frame is not complete.
    """

    label: int
    unit: str
    time: float


def transcribe(
    model: Transducer,
    features: np.ndarray | Sequence[np.ndarray],
    batch_size: int = 128,
    *,
    beam: int = 1,
) -> str | list[str]:
    """Recognise one utterance, or many.

    Parameters
    ----------
    model : Transducer
    features : ndarray, shape (T, n_features), or a sequence of such arrays
        Raw features.
    batch_size : int
        How many utterances to decode together.
    beam : int
        Width of the beam search; 1 is greedy decoding.

    Returns
    -------
    str or list of str
        The words; a list for a sequence of utterances. A model that was trained only on speech
        may recognise words where nobody speaks. The recorded models recognise no words in silence,
        but they recognise digits in loud noise.

    Raises
    ------
    ArgumentError
        If the features contain NaN or infinity, have another shape, or fill no stacked frame; if
        the weights of the model contain NaN or infinity; or if `batch_size` or `beam` is not a
        positive integer.
    """
    if isinstance(features, np.ndarray) and features.ndim == 2:
        return transcribe(model, [features], batch_size, beam=beam)[0]
    config, paths = _decode(model, features, batch_size, beam)
    return [config.text(_labels(path)) for path in paths]


def emissions(
    model: Transducer,
    features: np.ndarray | Sequence[np.ndarray],
    batch_size: int = 128,
    *,
    beam: int = 1,
) -> list[Emission] | list[list[Emission]]:
    """Recognise one utterance, or many, and return the time at which each unit was emitted.

    The stacked frame s is complete at the time (s + 1) * stack * 25 ms. The latency of a word is
    this time minus the time at which the word ends in the sound.

    Parameters
    ----------
    model : Transducer
    features : ndarray, shape (T, n_features), or a sequence of such arrays
        Raw features.
    batch_size : int
        How many utterances to decode together.
    beam : int
        Width of the beam search; 1 is greedy decoding. A beam search merges alignments with equal
        labels. Each unit gets its time from the most probable of the merged alignments.

    Returns
    -------
    list of Emission
        Sorted by time; a list of these lists for a sequence of utterances.

    Raises
    ------
    ArgumentError
        For the same reasons as `transcribe`.
    """
    if isinstance(features, np.ndarray) and features.ndim == 2:
        return emissions(model, [features], batch_size, beam=beam)[0]
    config, paths = _decode(model, features, batch_size, beam)
    seconds = config.stack * HOP / SAMPLE_RATE
    return [
        [Emission(label, config.units[label], (s + 1) * seconds) for label, s in path]
        for path in paths
    ]


def latencies(emitted: Sequence[Emission], word_ends: Sequence[float]) -> np.ndarray:
    """Return the time from the end of each word to its emission.

    Parameters
    ----------
    emitted : sequence of Emission
        Emissions of one utterance, by a model that writes words.
    word_ends : sequence of float
        Time at which each word ends in the sound, in seconds, see `Corpus.word_ends`.

    Returns
    -------
    ndarray, shape (n_words,)
        Seconds; negative if a word was recognised before its end.

    Raises
    ------
    ArgumentError
        If the numbers of units and words differ. It is then unknown which unit belongs to which
        word.
    """
    if len(emitted) != len(word_ends):
        raise ArgumentError(
            f"emitted has {len(emitted)} units and word_ends {len(word_ends)} words: "
            "expected equal numbers"
        )
    return np.array([e.time - end for e, end in zip(emitted, word_ends, strict=True)])


def greedy(model: Transducer, features: Tensor, lengths: Tensor) -> list[list[int]]:
    """Decode greedily: emit the best unit until it is the blank, then go to the next frame.

    A frame emits at most MAX_SYMBOLS units.

    Parameters
    ----------
    model : Transducer
    features : Tensor, shape (N, T, n_features)
    lengths : Tensor, shape (N,)
        Feature frames of each utterance.

    Returns
    -------
    list of list of int
        Labels of each utterance.
    """
    model = checked_model(model)
    return [_labels(path) for path in greedy_paths(model, features, lengths)]


def beam_search(
    model: Transducer, features: Tensor, lengths: Tensor, width: int = 5
) -> list[list[int]]:
    """Find the most probable labels, summed over their alignments, by beam search.

    After each stacked frame s, the search keeps the `width` label sequences y with the highest

        P(y, s) = sum over alignments of y to frames 0..s of  prod over arcs of  p(arc)

    The sum has two restrictions: an alignment emits at most MAX_SYMBOLS labels in a frame, and
    the search does not try a label that makes a hypothesis more than 8 nats less probable than
    the best one. Hypotheses with equal labels are merged, and their probabilities are added.

    Parameters
    ----------
    model : Transducer
    features : Tensor, shape (N, T, n_features)
    lengths : Tensor, shape (N,)
        Feature frames of each utterance.
    width : int
        How many hypotheses to keep for each utterance.

    Returns
    -------
    list of list of int
        Labels of each utterance.

    Raises
    ------
    ArgumentError
        If `width` is not a positive integer, or the weights of the model contain NaN or infinity.

    References
    ----------
    Graves, "Sequence transduction with recurrent neural networks", arXiv:1211.3711, section 2.5.
    """
    count("width", width)
    model = checked_model(model)
    return [_labels(path) for path in beam_paths(model, features, lengths, width)[0]]


def _decode(
    model: Transducer, features: Sequence[np.ndarray], batch_size: int, beam: int
) -> tuple[TransducerConfig, list[Path]]:
    count("beam", beam)
    model = checked_model(model)

    def search(padded: Tensor, lengths: Tensor) -> list[Path]:
        if beam == 1:
            return greedy_paths(model, padded, lengths)
        return beam_paths(model, padded, lengths, beam)[0]

    return model.config, in_batches(model, features, batch_size, search)


def in_batches(
    model: nn.Module,
    features: Sequence[np.ndarray],
    batch_size: int,
    search: Callable[[Tensor, Tensor], list[T]],
) -> list[T]:
    """Decode utterances in padded batches of similar length, in evaluation mode.

    Parameters
    ----------
    model : Transducer or CTCModel
    features : sequence of ndarray, shape (T, n_features)
    batch_size : int
    search : callable
        A function of features (N, T, n_features) and lengths (N,) on the device of the model. It
        returns a list of N results.

    Returns
    -------
    list
        The result of each utterance, in the order of `features`.
    """
    batch_size = count("batch_size", batch_size)
    if not np.iterable(features):
        raise ArgumentError(f"features is {features!r}: expected an array or a sequence of arrays")
    names = ["features"] if len(features) == 1 else [f"features[{i}]" for i in range(len(features))]
    tensors = [checked_features(model, *pair) for pair in zip(features, names, strict=True)]
    by_length = sorted(range(len(tensors)), key=lambda i: len(tensors[i]))
    results: dict[int, T] = {}
    with evaluating(model):
        for first in range(0, len(by_length), batch_size):
            chosen = by_length[first : first + batch_size]
            padded = pad_sequence([tensors[i] for i in chosen], batch_first=True).to(model.device)
            lengths = torch.tensor([len(tensors[i]) for i in chosen], device=model.device)
            results |= zip(chosen, search(padded, lengths), strict=True)
    return [results[i] for i in range(len(tensors))]


def _labels(path: Path) -> list[int]:
    return [label for label, _ in path]


def checked_features(model: Transducer, features: np.ndarray, name: str = "features") -> Tensor:
    """Return the features of one utterance as a float32 tensor (T, n_features)."""
    config = model.config
    return torch.from_numpy(
        checked_frames(features, name, n_features=config.n_features, least=config.stack)
    )
