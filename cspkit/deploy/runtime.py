"""A pruned recogniser that streams on one core, with the layout of each matrix chosen by timing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import nn

from cspkit.arguments import ArgumentError
from cspkit.asr.search import MAX_SYMBOLS
from cspkit.asr.streaming import StreamingRecogniser
from cspkit.asr.transducer import Transducer, standard_model
from cspkit.deploy import kernels
from cspkit.deploy.kernels import ENCODED, LOGITS, STATES
from cspkit.deploy.layouts import LAYOUTS, Matrix, candidates, choose, network
from cspkit.deploy.packing import load_with_codes


class SparseTransducer(StreamingRecogniser):
    """Greedy decoding of feature frames as they arrive, with two compiled calls for each stack.

    One call is the encoder, the other one the joiner and the predictor. The weights are copied, so
    later changes of the model have no effect.

    The words are those of `StreamingRecogniser`, up to rounding: the logits differ by less than
    1e-4 of the largest logit. Each matrix has one of these layouts:

    - "dense";
    - "slices": the nonzeros of 16 rows at a time, see `cspkit.deploy.kernels`;
    - "blocks 8x1": eight neighbouring outputs of one input;
    - "blocks 1x8": eight neighbouring inputs of one output;
    - each of these with " int8" after its name, for a packed file with 8 or 4 bits.

    Parameters
    ----------
    model : Transducer, str or Path
        The model, or a packed file.
    autotune : bool
        Whether the layout of each matrix is chosen by timing all of them on this machine. The
        choice is stored in the folder that the environment variable CSPKIT_CACHE names
        (~/.cache/cspkit by default). Otherwise matrices with at least 90 % zeros are "slices", and
        all others "dense".
    layouts : dict of str, optional
        Layouts by name of the matrix, in place of a choice.

    Attributes
    ----------
    layouts : dict of str
        The layout of each matrix.

    Raises
    ------
    ArgumentError
        If the model is no Transducer, has weights that are not finite, or has more than 65,536
        columns in a matrix; or if a layout does not fit.
    PackError
        If the file is damaged.

    Examples
    --------
    >>> recogniser = SparseTransducer("model.csp")  # doctest: +SKIP
    >>> for frames in pieces:  # doctest: +SKIP
    ...     print(*recogniser.step(frames))
    """

    def __init__(
        self,
        model: Transducer | str | Path,
        *,
        autotune: bool = True,
        layouts: dict[str, str] | None = None,
    ) -> None:
        codes = {}
        if isinstance(model, str | Path):
            model, codes = load_with_codes(model)
            if not isinstance(model, nn.Module):
                raise ArgumentError("model is a file of tensors: expected a packed recogniser")
        self.model = standard_model(model)
        matrices = matrices_of(self.model, codes)
        for name, chosen in (layouts or {}).items():
            if name not in matrices or chosen not in candidates(matrices[name]):
                raise ArgumentError(
                    f"layouts has {name!r}: {chosen!r}; expected a matrix of the model and one of "
                    f"{', '.join(LAYOUTS)} that fits it"
                )
        others = {name: m for name, m in matrices.items() if name not in (layouts or {})}
        self.layouts = choose(others, autotune) | (layouts or {})
        self._network = network([(m, self.layouts[name]) for name, m in matrices.items()])
        self._mean, self._std, self._embedding = (
            tensor.detach().cpu().float().contiguous().numpy().copy()
            for tensor in (
                self.model.feature_mean, self.model.feature_std, self.model.embedding.weight
            )
        )  # fmt: skip
        c = self.model.config
        widest = max(*self._network.matrices[:, 1:3].max(axis=0), c.stack * c.n_features)
        n_rows = STATES + 2 * (c.encoder_layers + 1)
        self._memory = np.zeros((n_rows, widest), dtype=np.float32)
        self._labels = np.zeros(MAX_SYMBOLS, dtype=np.int64)
        self._start()

    def step(self, frames: np.ndarray) -> list[str]:
        """Take the next frames, and return the words that they complete.

        See `StreamingRecogniser.step`.
        """
        frames, stack = self._stacked(frames), self.model.config.stack
        labels = []
        for first in range(0, len(frames), stack):
            self.encode(frames[first : first + stack])
            n = kernels.emit(*self._network, self._memory, self._embedding, self._labels)
            labels += self._labels[:n].tolist()
        return self._words(labels)

    def encode(self, frames: np.ndarray) -> np.ndarray:
        """Take one stack of raw frames, and return its part of the joiner.

        Parameters
        ----------
        frames : ndarray, shape (stack, n_features)

        Returns
        -------
        ndarray, shape (J,)
            A view, which the next call overwrites.
        """
        frames = np.ascontiguousarray(frames, dtype=np.float32)
        shape = self.model.config.stack, self.model.config.n_features
        if frames.shape != shape:
            raise ArgumentError(f"frames have shape {frames.shape}: expected {shape}")
        kernels.encode(*self._network, self._memory, frames, self._mean, self._std)
        return self._memory[ENCODED, : self.model.config.joiner_size]

    def logits(self) -> np.ndarray:
        """Return the logits (K,) of the cell of the last encoded frame and the labels so far.

        They are a view, which the next call overwrites.
        """
        kernels.join(*self._network, self._memory)
        return self._memory[LOGITS, : len(self._embedding)]

    def _start(self) -> None:
        self._waiting = np.zeros((0, self.model.config.n_features), dtype=np.float32)
        self._word = ""
        kernels.start(*self._network, self._memory, self._embedding)


def matrices_of(
    model: Transducer, codes: dict[str, tuple[np.ndarray, np.ndarray]] | None = None
) -> dict[str, Matrix]:
    """Return the matrices of a model by name, in the order in which the kernels use them."""
    state = {name: t.detach().cpu().float().numpy() for name, t in model.state_dict().items()}
    layers = range(model.config.encoder_layers)
    names = [
        *(f"encoder.weight_{kind}_l{layer}" for layer in layers for kind in ("ih", "hh")),
        "joiner_encoder.weight",
        "predictor.weight_ih_l0", "predictor.weight_hh_l0", "joiner_predictor.weight",
        "output.weight",
    ]  # fmt: skip
    found = {}
    for name in names:
        values = np.ascontiguousarray(state[name])
        bias = state.get(name.replace("weight", "bias"), np.zeros(len(values), dtype=np.float32))
        found[name] = Matrix(values, bias, *(codes or {}).get(name, (None, None)))
    return found
