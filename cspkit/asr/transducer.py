"""A compact RNN-Transducer.

Shapes: N utterances, T feature frames, S = T // stack stacked frames, U labels, K output units
(the words, then the blank), H a hidden size.

    features (N, T, 13) -> normalise, stack -> encoder LSTM -> (N, S, H)
    labels   (N, U)     -> embed            -> predictor LSTM -> (N, U + 1, H)
    joiner   tanh(A_enc encoded + A_pred predicted) -> output layer -> logits (N, S, U + 1, K)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cspkit.arguments import count
from cspkit.asr.corpus import DIGITS

# Letters of the ten words, and the space between them
CHARACTERS = tuple(sorted(set(" ".join(DIGITS))))
State = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class TransducerConfig:
    """Sizes of a Transducer, and the units that it writes.

    Attributes
    ----------
    units : tuple of str
        What a label stands for: words, or single characters (`CHARACTERS`), the space among
        them. The blank is the unit after the last.
    n_features : int
        Coefficients per feature frame.
    stack : int
        Feature frames per encoder frame.
    encoder_layers, encoder_size, embedding_size, predictor_size, joiner_size : int

    Raises
    ------
    ValueError
        If there are no units, or two are the same, or a size is no positive integer.
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
        if not self.units or len(set(self.units)) < len(self.units):
            raise ValueError(f"units is {self.units!r}: expected different units, at least one")
        for name, value in vars(self).items():
            if name != "units":
                count(name, value)

    @property
    def blank(self) -> int:
        """Index of the blank unit."""
        return len(self.units)

    @property
    def writes_characters(self) -> bool:
        """Whether the units are single characters."""
        return all(len(unit) == 1 for unit in self.units)

    def labels(self, text: str) -> list[int]:
        """Labels of a text; a word or character that is no unit raises ValueError."""
        pieces = list(" ".join(text.split())) if self.writes_characters else text.split()
        unknown = [piece for piece in pieces if piece not in self.units]
        if unknown:
            raise ValueError(f"text has the unit {unknown[0]!r}: expected {', '.join(self.units)}")
        return [self.units.index(piece) for piece in pieces]

    def text(self, labels: Sequence[int]) -> str:
        """Text of a sequence of labels."""
        between = "" if self.writes_characters else " "
        return " ".join(between.join(self.units[label] for label in labels).split())


def config_for(units: str = "words", width: int = 128) -> TransducerConfig:
    """The default configuration of a recogniser that writes words, or characters.

    Parameters
    ----------
    units : {"words", "characters"}
        Characters come faster than words do: two frames are stacked for them, not three.
    width : int
        Units of each LSTM and of the joiner.

    Raises
    ------
    ValueError
        If there are no such units.
    """
    sizes = dict.fromkeys(("encoder_size", "predictor_size", "joiner_size"), width)
    if units == "characters":
        return TransducerConfig(**sizes, units=CHARACTERS, stack=2)
    if units != "words":
        raise ValueError(f"units is {units!r}: expected 'words' or 'characters'")
    return TransducerConfig(**sizes)


class Transducer(nn.Module):
    """RNN-Transducer: encoder and predictor LSTMs, additive tanh joiner.

    It takes raw features: their normalisation is part of the model, as buffers, so that a
    checkpoint is complete.

    Parameters
    ----------
    config : TransducerConfig

    References
    ----------
    Graves, "Sequence transduction with recurrent neural networks", arXiv:1211.3711.
    """

    def __init__(self, config: TransducerConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or TransducerConfig()
        self.encoder = nn.LSTM(
            c.n_features * c.stack, c.encoder_size, c.encoder_layers, batch_first=True
        )
        self.embedding = nn.Embedding(len(c.units) + 1, c.embedding_size)
        self.predictor = nn.LSTM(c.embedding_size, c.predictor_size, batch_first=True)
        self.joiner_encoder = nn.Linear(c.encoder_size, c.joiner_size)
        self.joiner_predictor = nn.Linear(c.predictor_size, c.joiner_size, bias=False)
        self.output = nn.Linear(c.joiner_size, len(c.units) + 1)
        self.register_buffer("feature_mean", torch.zeros(c.n_features))
        self.register_buffer("feature_std", torch.ones(c.n_features))

    @property
    def device(self) -> torch.device:
        """Where the model computes; what is given to `forward` and `encode` is to be there."""
        return self.feature_mean.device

    @property
    def prunable(self) -> list[str]:
        """Names of the weights that pruning may cut: all matrices of the LSTMs and the joiner."""
        return [
            name
            for name, weight in self.named_parameters()
            if weight.dim() == 2 and not name.startswith(("embedding.", "output."))
        ]

    def parameter_counts(self) -> dict[str, int]:
        """Trained numbers of each part: encoder, embedding, predictor, joiner and output layer."""
        counts: dict[str, int] = {}
        for name, parameter in self.named_parameters():
            part = name.split(".")[0].split("_")[0]
            counts[part] = counts.get(part, 0) + parameter.numel()
        return counts

    def set_normalisation(self, mean: Tensor, std: Tensor) -> None:
        """Take the mean and standard deviation (n_features,) of the training part."""
        self.feature_mean.copy_(mean)
        self.feature_std.copy_(std)

    def forward(self, features: Tensor, targets: Tensor) -> Tensor:
        """Logits of all cells of the lattices.

        Parameters
        ----------
        features : Tensor, shape (N, T, n_features)
            Raw, float32.
        targets : Tensor, shape (N, U)
            Labels.

        Returns
        -------
        Tensor, shape (N, T // stack, U + 1, K)
        """
        predicted, _ = self.predict(self.start(targets))
        return self.join(self.encode(features)[0], predicted)

    def encode(self, features: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Encode features (N, T, n_features) to (N, T // stack, encoder_size).

        Frames at the end that do not fill a stack are dropped.
        """
        N, T, C = features.shape
        S = T // self.config.stack
        if self.config.n_features != C or S == 0:
            raise ValueError(
                f"features have shape {tuple(features.shape)}: expected "
                f"(N, T, {self.config.n_features}) with T >= {self.config.stack}"
            )
        normalised = (features[:, : S * self.config.stack] - self.feature_mean) / self.feature_std
        return self.encoder(normalised.reshape(N, S, -1), state)

    def start(self, targets: Tensor) -> Tensor:
        """Put the start of sequence, for which the blank stands, before labels (N, U)."""
        return nn.functional.pad(targets, (1, 0), value=self.config.blank)

    def predict(self, labels: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Run the predictor over labels (N, U): (N, U, predictor_size) and its new state."""
        return self.predictor(self.embedding(labels), state)

    def join(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """Join (N, S, encoder_size) with (N, U, predictor_size) to logits (N, S, U, K)."""
        frames = self.joiner_encoder(encoded)[:, :, None]
        history = self.joiner_predictor(predicted)[:, None]
        return self.output((frames + history).tanh_())
