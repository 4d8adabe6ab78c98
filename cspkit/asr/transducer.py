"""A compact RNN-Transducer.

Shapes: N utterances, T feature frames, S = T // stack stacked frames, U labels, K output units
(the words, then the blank), H a hidden size.

    features (N, T, 13) -> normalise, stack -> encoder LSTM -> (N, S, H)
    labels   (N, U)     -> add start, embed -> predictor LSTM -> (N, U + 1, H)
    joiner   tanh(A_enc encoded + A_pred predicted) -> output layer -> logits (N, S, U + 1, K)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cspkit.arguments import ArgumentError
from cspkit.asr.exchange import check_parts, exchanged_parts
from cspkit.asr.transducer_config import TransducerConfig
from cspkit.modules import unwrapped

State = Any  # of an LSTM a pair of tensors, of another encoder what it returns


class Transducer(nn.Module):
    """RNN-Transducer: encoder and predictor LSTMs, additive tanh joiner.

    The model takes raw features. Their mean and standard deviation are buffers of the model, so
    that a checkpoint contains everything that recognition needs.

    `torch.export.export` can export `encode`, `predict` and `join` of a model on the CPU. The batch
    size and the lengths may be dynamic; an utterance needs at least 2 * stack feature frames. The
    exported program has no gradient with respect to the embedding.

    Parameters
    ----------
    config : TransducerConfig, optional
        The default writes words.
    encoder : nn.Module, optional
        Takes the place of the encoder LSTM. Called with normalised, stacked features
        (N, S, n_features * stack) and a state, it returns outputs (N, S, H) and a new state. A
        state of None is the start of an utterance. An encoder that returns None as its new state
        cannot be used for streaming. With the default joiner, H must be `config.encoder_size`.
    joiner : nn.Module, optional
        Takes the place of the additive joiner and its output layer. Called with encoded frames
        (N, S, H) and outputs of the predictor (N, U, predictor_size), it returns logits
        (N, S, U, K). Logits of a cell may depend only on the frame and the output of this cell.

    Attributes
    ----------
    exchanged : dict of str
        The class names of the parts that were given, by "encoder" and "joiner".

    Raises
    ------
    ArgumentError
        If a part that was given does not return what is described above.

    References
    ----------
    Graves, "Sequence transduction with recurrent neural networks", arXiv:1211.3711.
    """

    def __init__(
        self,
        config: TransducerConfig | None = None,
        encoder: nn.Module | None = None,
        joiner: nn.Module | None = None,
    ) -> None:
        super().__init__()
        c = self.config = config or TransducerConfig()
        self.exchanged = exchanged_parts(encoder=encoder, joiner=joiner)
        # The order of these lines decides the random weights.
        if encoder is None:
            encoder = nn.LSTM(
                c.n_features * c.stack, c.encoder_size, c.encoder_layers, batch_first=True
            )
        self.encoder = encoder
        self.embedding = nn.Embedding(len(c.units) + 1, c.embedding_size)
        self.predictor = nn.LSTM(c.embedding_size, c.predictor_size, batch_first=True)
        if joiner is None:
            self.joiner_encoder = nn.Linear(c.encoder_size, c.joiner_size)
            self.joiner_predictor = nn.Linear(c.predictor_size, c.joiner_size, bias=False)
            self.output = nn.Linear(c.joiner_size, len(c.units) + 1)
        else:
            self.joiner = joiner
        self.register_buffer("feature_mean", torch.zeros(c.n_features))
        self.register_buffer("feature_std", torch.ones(c.n_features))
        if self.exchanged:
            check_parts(self)

    @property
    def device(self) -> torch.device:
        """The device of the model. All inputs must be on the same device."""
        return self.feature_mean.device

    @property
    def prunable(self) -> list[str]:
        """Names of the weights that pruning may cut: all matrices of the LSTMs and the joiner.

        In parts that were exchanged these are the weights of two or more dimensions, except
        embeddings, and matrices of the joiner with a row for each unit.
        """
        kept = {id(m.weight) for m in self.modules() if isinstance(m, nn.Embedding)}
        n_units = self.config.blank + 1
        return [
            name
            for name, weight in self.named_parameters()
            if weight.dim() >= 2
            and id(weight) not in kept
            and not name.startswith("output.")
            and not (name.startswith("joiner.") and len(weight) == n_units)
        ]

    def parameter_counts(self) -> dict[str, int]:
        """Return how many parameters the encoder, embedding, predictor, joiner and output have."""
        counts: dict[str, int] = {}
        for name, parameter in self.named_parameters():
            part = name.split(".")[0].split("_")[0]
            counts[part] = counts.get(part, 0) + parameter.numel()
        return counts

    def set_normalisation(self, mean: Tensor, std: Tensor) -> None:
        """Set the mean and standard deviation of the features of the training part.

        Parameters
        ----------
        mean, std : Tensor, shape (n_features,)

        Raises
        ------
        ArgumentError
            If a shape is wrong, if a value is NaN or infinite, or if a standard deviation is not
            positive.
        """
        mean, std = torch.as_tensor(mean), torch.as_tensor(std)
        for name, value in (("mean", mean), ("std", std)):
            if value.shape != self.feature_mean.shape or not torch.isfinite(value).all():
                raise ArgumentError(
                    f"{name} is {value}: expected {self.config.n_features} finite numbers"
                )
        if (std <= 0).any():
            raise ArgumentError(f"std is {std}: expected positive numbers")
        self.feature_mean.copy_(mean)
        self.feature_std.copy_(std)

    def forward(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return the logits of all cells of the lattices.

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
        """Encode features (N, T, n_features) as (N, T // stack, encoder_size).

        Frames at the end that do not fill a stack are dropped. The second result is the new state
        of the encoder.
        """
        stack, C = self.config.stack, self.config.n_features
        if features.dim() != 3 or features.shape[2] != C or features.shape[1] < stack:
            raise ArgumentError(
                f"features have shape {tuple(features.shape)}: expected (N, T, {C}) "
                f"with T >= {stack}"
            )
        normalised = (features - self.feature_mean) / self.feature_std
        end = features.shape[1] + 1 - stack
        stacked = [normalised[:, i : end + i : stack] for i in range(stack)]
        return run_lstm(self.encoder, torch.cat(stacked, dim=2), state)

    def start(self, targets: Tensor) -> Tensor:
        """Put the blank before labels (N, U). It marks the start of the sequence."""
        return nn.functional.pad(targets, (1, 0), value=self.config.blank)

    def predict(self, labels: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Run the predictor over labels (N, U).

        Returns its outputs, (N, U, predictor_size), and its new state.
        """
        return run_lstm(self.predictor, self.embedding(labels), state)

    def join(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """Join (N, S, encoder_size) and (N, U, predictor_size) to logits (N, S, U, K)."""
        if "joiner" in self.exchanged:
            return self.joiner(encoded, predicted)
        return self.join_projected(self.joiner_encoder(encoded), self.joiner_predictor(predicted))

    def join_projected(self, frames: Tensor, histories: Tensor) -> Tensor:
        """Join (N, S, joiner_size) and (N, U, joiner_size) to logits (N, S, U, K)."""
        return self.output((frames[:, :, None] + histories[:, None]).tanh_())


def run_lstm(lstm: nn.LSTM, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
    """Run an LSTM so that torch.export keeps the number of frames dynamic."""
    if not torch.compiler.is_exporting():
        return lstm(inputs, state)
    # torch.export fixes the number of steps of an LSTM, unless the LSTM may use oneDNN and its
    # inputs need no gradient.
    with torch.backends.mkldnn.flags(enabled=True):
        return lstm(inputs.detach(), state)


def non_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor that contains NaN or infinity."""
    if math.isfinite(sum(tensor.detach().sum() for tensor in tensors.values())):
        return None
    # A sum of large finite numbers may be infinite too, so check each tensor.
    bad = (name for name, tensor in tensors.items() if not torch.isfinite(tensor).all())
    return next(bad, None)


def checked_model(model: nn.Module, kind: type[nn.Module] = Transducer) -> nn.Module:
    """Return a model without its wrappers, see `cspkit.modules.unwrapped`.

    Raises
    ------
    ArgumentError
        If the model is not of this kind, or its weights contain NaN or infinity.
    """
    inner = unwrapped(model)
    if not isinstance(inner, kind):
        raise ArgumentError(f"model is a {type(inner).__name__}: expected a {kind.__name__}")
    bad = non_finite(dict([*inner.named_parameters(), *inner.named_buffers()]))
    if bad is not None:
        raise ArgumentError(
            f"model has NaN or infinity in {bad}: expected finite weights; load or train it again"
        )
    return inner


def standard_model(model: nn.Module) -> Transducer:
    """Return a Transducer without wrappers, if its encoder and joiner are the default ones.

    Raises
    ------
    ArgumentError
        As for `checked_model`, or if a part was exchanged.
    """
    inner = checked_model(model)
    if inner.exchanged:
        name, kind = next(iter(inner.exchanged.items()))
        raise ArgumentError(
            f"model has the {name} {kind}: expected a Transducer with the default encoder and "
            "joiner; only the training, decoding and checkpoints of cspkit.asr work with others"
        )
    return inner
