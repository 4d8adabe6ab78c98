"""A pruned recogniser that streams on one core, with the layout of each matrix chosen by timing."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from cspkit.arguments import ArgumentError
from cspkit.asr.search import MAX_SYMBOLS
from cspkit.asr.streaming import StreamingRecogniser
from cspkit.asr.transducer import Transducer, checked_model
from cspkit.deploy import kernels
from cspkit.deploy.kernels import BLOCK, DENSE, FIELDS, INT8, LANES, SLICES, TALL, WIDE, Tables
from cspkit.deploy.packing import load, load_codes
from cspkit.files import replacing

LAYOUTS = {
    "dense": DENSE,
    "slices": SLICES,
    "blocks 8x1": TALL,
    "blocks 1x8": WIDE,
    "dense int8": DENSE + INT8,
    "slices int8": SLICES + INT8,
}
FILL = 1.5  # a block layout may store at most this many values per nonzero
REPEATS = 5  # of each timing, of which the least counts
SECONDS = 5e-4  # of one timing


class Matrix(NamedTuple):
    """A matrix (R, C), and, if it comes from such a file, its codes (R, C) and scales (R,)."""

    values: np.ndarray
    codes: np.ndarray | None = None
    scales: np.ndarray | None = None


class SparseTransducer(StreamingRecogniser):
    """Greedy decoding of feature frames as they arrive, with one compiled call per frame.

    The words are those of `StreamingRecogniser`, up to rounding: the logits differ by less than
    1e-4 of the largest logit. Each matrix has one of these layouts:

    - "dense";
    - "slices": the nonzeros of 16 rows at a time, see `cspkit.deploy.kernels`;
    - "blocks 8x1": eight neighbouring outputs of one input;
    - "blocks 1x8": eight neighbouring inputs of one output;
    - "dense int8" and "slices int8", for a packed file with 8 or 4 bits.

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
            model, codes = load(model), load_codes(model)
        self.model = checked_model(model)
        state = {name: t.detach().cpu().float() for name, t in self.model.state_dict().items()}
        self._names = matrix_names(self.model)
        matrices = {n: Matrix(state[n].numpy(), *codes.get(n, (None, None))) for n in self._names}
        for name, chosen in (layouts or {}).items():
            if name not in matrices or chosen not in candidates(matrices[name]):
                raise ArgumentError(
                    f"layouts has {name!r}: {chosen!r}; expected a matrix of the model and one of "
                    f"{', '.join(LAYOUTS)} that fits it"
                )
        self.layouts = _chosen(matrices, autotune) | (layouts or {})
        self.tables = tables([(matrices[n], self.layouts[n]) for n in self._names])
        self._prepare(state)
        self._start()

    def step(self, frames: np.ndarray) -> list[str]:
        """Take the next frames, and return the words that they complete.

        See `StreamingRecogniser.step`.
        """
        frames, stack = self._stacked(frames)
        labels = []
        for first in range(0, len(frames), stack):
            labels += self._emit(self.encode(frames[first : first + stack]))
        return self._words(labels)

    def encode(self, frames: np.ndarray) -> np.ndarray:
        """Take one stack of raw frames (stack, n_features); return its part of the joiner (J,)."""
        frame = ((frames - self._mean) / self._std).reshape(-1)
        kernels.encode(
            self.tables, self._encoder_biases, frame, self._encoder, self._encoder_gates, 0,
            self._frame,
        )  # fmt: skip
        return self._frame

    def logits(self, frame: np.ndarray) -> np.ndarray:
        """Return the logits (K,) of the cell of an encoded frame and the labels so far."""
        kernels.join(
            self.tables, self._output_bias, frame, self._history, self._hidden, self._logits,
            len(self._names) - 1,
        )  # fmt: skip
        return self._logits

    def _emit(self, encoded: np.ndarray) -> list[int]:
        labels = []
        for _ in range(MAX_SYMBOLS):
            best = int(self.logits(encoded).argmax())
            if best == self.model.config.blank:
                break
            labels.append(best)
            self._predict(best)
        return labels

    def _predict(self, label: int) -> None:
        kernels.predict(
            self.tables, self._predictor_bias, self._embedding[label], self._predictor,
            self._predictor_gates, self._first_of_predictor, self._history,
        )  # fmt: skip

    def _prepare(self, state: dict[str, Tensor]) -> None:
        """Make the arrays that the kernels use."""
        c = self.model.config
        array = {name: np.ascontiguousarray(t.numpy()) for name, t in state.items()}
        self._mean, self._std = array["feature_mean"], array["feature_std"]
        self._embedding = array["embedding.weight"]
        most = max(4 * c.encoder_size, c.joiner_size)
        self._encoder_biases = np.zeros((c.encoder_layers + 1, most), dtype=np.float32)
        for layer in range(c.encoder_layers):
            both = array[f"encoder.bias_ih_l{layer}"] + array[f"encoder.bias_hh_l{layer}"]
            self._encoder_biases[layer, : len(both)] = both
        self._encoder_biases[-1, : c.joiner_size] = array["joiner_encoder.bias"]
        self._predictor_bias = array["predictor.bias_ih_l0"] + array["predictor.bias_hh_l0"]
        self._output_bias = array["output.bias"]
        self._first_of_predictor = 2 * c.encoder_layers + 1
        self._encoder_gates = np.zeros(4 * c.encoder_size, dtype=np.float32)
        self._predictor_gates = np.zeros(4 * c.predictor_size, dtype=np.float32)
        self._frame, self._history, self._hidden = np.zeros((3, c.joiner_size), dtype=np.float32)
        self._logits = np.zeros(len(c.units) + 1, dtype=np.float32)

    def _start(self) -> None:
        c = self.model.config
        self._waiting = np.zeros((0, c.n_features), dtype=np.float32)
        self._word = ""
        self._encoder = np.zeros((c.encoder_layers, 2, c.encoder_size), dtype=np.float32)
        self._predictor = np.zeros((2, c.predictor_size), dtype=np.float32)
        self._predict(c.blank)


def matrix_names(model: Transducer) -> list[str]:
    """Return the names of the matrices of a model, in the order in which the kernels use them."""
    layers = range(model.config.encoder_layers)
    encoder = [f"encoder.weight_{part}_l{layer}" for layer in layers for part in ("ih", "hh")]
    return [
        *encoder, "joiner_encoder.weight",
        "predictor.weight_ih_l0", "predictor.weight_hh_l0", "joiner_predictor.weight",
        "output.weight",
    ]  # fmt: skip


def candidates(matrix: Matrix) -> list[str]:
    """Return the layouts that fit a matrix."""
    R, C = matrix.values.shape
    nonzero = matrix.values != 0
    n, found = int(nonzero.sum()), ["dense"]
    if n <= nonzero.size / 2:
        found.append("slices")
        for name, shape in (("blocks 8x1", (BLOCK, 1)), ("blocks 1x8", (1, BLOCK))):
            if R % shape[0] == 0 and C % shape[1] == 0:
                blocks = int(_blocks(nonzero, shape).any(axis=2).sum())
                if blocks * BLOCK <= FILL * n:
                    found.append(name)
    if matrix.codes is not None:
        found += [f"{name} int8" for name in found if name in ("dense", "slices")]
    return found


def tables(matrices: list[tuple[Matrix, str]]) -> Tables:
    """Put matrices with their layouts into the tables that the kernels read."""
    table = np.zeros((len(matrices), FIELDS), dtype=np.int64)
    parts: dict[str, list[np.ndarray]] = {
        "values": [], "codes": [], "columns": [], "pointers": [], "rows": [], "scales": [],
    }  # fmt: skip
    starts = dict.fromkeys(parts, 0)
    for row, (matrix, layout) in zip(table, matrices, strict=True):
        R, C = matrix.values.shape
        if C > 1 << 16:
            raise ArgumentError(f"a matrix has {C} columns: expected at most 65536")
        kind = LAYOUTS[layout]
        first = "codes" if kind >= INT8 else "values"
        row[:] = [
            kind, R, C, starts[first], starts["columns"], starts["pointers"], starts["rows"],
            starts["scales"],
        ]  # fmt: skip
        for name, part in _parts(matrix, kind).items():
            parts[name].append(part)
            starts[name] += len(part)
    kinds = {"values": "f4", "codes": "i1", "columns": "u2", "pointers": "i4"}
    kinds |= {"rows": "i4", "scales": "f4"}
    joined = {n: np.concatenate([np.zeros(0), *part]).astype(kinds[n]) for n, part in parts.items()}
    return Tables(table, **joined)


def _parts(matrix: Matrix, kind: int) -> dict[str, np.ndarray]:
    """The arrays of one matrix in a layout."""
    found, name, values = {}, "values", matrix.values
    if kind >= INT8:
        found, name, values = {"scales": matrix.scales}, "codes", matrix.codes
    if kind % INT8 == DENSE:
        return found | {name: values.reshape(-1)}
    if kind % INT8 == SLICES:
        return found | _slices(values, name)
    shape = {TALL: (BLOCK, 1), WIDE: (1, BLOCK)}[kind % INT8]
    blocks = _blocks(values, shape)
    used = blocks.any(axis=2)
    return found | {
        name: blocks[used].reshape(-1),
        "columns": np.nonzero(used)[1],
        "pointers": np.concatenate([[0], used.sum(axis=1).cumsum()]),
    }


def _slices(values: np.ndarray, name: str) -> dict[str, np.ndarray]:
    """The arrays of the layout "slices"."""
    used = values != 0
    counts = used.sum(axis=1)
    order = np.argsort(-counts, kind="stable")
    order = np.pad(order, (0, -len(order) % LANES)).reshape(-1, LANES)
    # Each row with its nonzeros first. A padded lane repeats row 0 and gets no entries.
    columns = np.argsort(~used, axis=1, kind="stable")
    sorted_values = np.take_along_axis(np.where(used, values, 0), columns, axis=1)
    lengths = counts[order]
    lengths.reshape(-1)[len(values) :] = 0
    pointers = np.concatenate([[0], lengths.max(axis=1, initial=0).cumsum()])
    parts = {name: [], "columns": []}
    for rows, own in zip(order, lengths, strict=True):
        entry = np.arange(own.max(initial=0))[:, None]
        parts[name].append(np.where(entry < own, sorted_values[rows, entry], 0).reshape(-1))
        parts["columns"].append(np.where(entry < own, columns[rows, entry], 0).reshape(-1))
    found = {key: np.concatenate(arrays) for key, arrays in parts.items()}
    return found | {"pointers": pointers, "rows": order.reshape(-1)}


def _blocks(matrix: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """View a matrix (R, C) as blocks of r x c entries: (R / r, C / c, r c)."""
    (R, C), (r, c) = matrix.shape, shape
    return matrix.reshape(R // r, r, C // c, c).swapaxes(1, 2).reshape(R // r, C // c, r * c)


def _chosen(matrices: dict[str, Matrix], autotune: bool) -> dict[str, str]:
    """Choose the layout of each matrix."""
    if not autotune:
        return {
            name: "slices" if (matrix.values == 0).mean() >= 0.9 else "dense"
            for name, matrix in matrices.items()
        }
    digest = hashlib.sha256(json.dumps([platform.node(), platform.processor()]).encode())
    for name, matrix in matrices.items():
        facts = name, matrix.values.shape, matrix.codes is not None
        digest.update(repr(facts).encode() + np.packbits(matrix.values != 0).tobytes())
    folder = Path(os.environ.get("CSPKIT_CACHE", Path.home() / ".cache" / "cspkit"))
    file = folder / f"layouts-{digest.hexdigest()[:16]}.json"
    try:
        stored = json.loads(file.read_text())
        if all(stored[n] in candidates(m) for n, m in matrices.items()):
            return {n: stored[n] for n in matrices}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    chosen = {name: min(timings(m).items(), key=lambda f: f[1])[0] for name, m in matrices.items()}
    try:
        with replacing(file) as new:
            new.write_text(json.dumps(chosen))
    except (OSError, ArgumentError):
        pass  # the choice is made again next time
    return chosen


def timings(matrix: Matrix) -> dict[str, float]:
    """Measure the product of a matrix with a vector in each layout that fits, in seconds."""
    R, C = matrix.values.shape
    x = np.random.default_rng(0).standard_normal(C).astype(np.float32)
    y = np.zeros(R, dtype=np.float32)
    names = candidates(matrix)
    made = {name: tables([(matrix, name)]) for name in names}
    times = {}
    for name, table in made.items():
        kernels.repeat(table, 0, x, y, 1)  # compiles
        start = time.perf_counter()
        kernels.repeat(table, 0, x, y, 10)
        times[name] = max(1, int(10 * SECONDS / (time.perf_counter() - start)))
    found = dict.fromkeys(names, float("inf"))
    for _ in range(REPEATS):  # the layouts take turns, so that a disturbance hits all of them
        for name, table in made.items():
            start = time.perf_counter()
            kernels.repeat(table, 0, x, y, times[name])
            found[name] = min(found[name], (time.perf_counter() - start) / times[name])
    return found
