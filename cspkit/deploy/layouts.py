"""How the matrices of a network lie in memory, and which layout is the fastest for each."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
from llvmlite.binding import get_host_cpu_name

from cspkit import __version__
from cspkit.arguments import ArgumentError
from cspkit.deploy import kernels
from cspkit.deploy.kernels import BLOCK, DENSE, FIELDS, INT8, LANES, SLICES, TALL, WIDE, Network
from cspkit.files import replacing

KINDS = {"dense": DENSE, "slices": SLICES, "blocks 8x1": TALL, "blocks 1x8": WIDE}
LAYOUTS = KINDS | {f"{name} int8": kind + INT8 for name, kind in KINDS.items()}
SHAPES = {TALL: (BLOCK, 1), WIDE: (1, BLOCK)}
FILL = 1.5  # a block layout may store at most this many values per nonzero
REPEATS = 5  # of each timing, of which the least counts
SECONDS = 5e-4  # of one timing


class Matrix(NamedTuple):
    """A matrix (R, C), its bias (R,), and, if its values are codes, these and the scales (R,)."""

    values: np.ndarray
    bias: np.ndarray
    codes: np.ndarray | None = None
    scales: np.ndarray | None = None


def candidates(matrix: Matrix) -> list[str]:
    """Return the layouts that fit a matrix."""
    R, C = matrix.values.shape
    nonzero = matrix.values != 0
    n, found = int(nonzero.sum()), ["dense"]
    if n <= nonzero.size / 2:
        found.append("slices")
        for name in ("blocks 8x1", "blocks 1x8"):
            r, c = SHAPES[KINDS[name]]
            if R % r == 0 and C % c == 0:
                used = int(_blocks(nonzero, (r, c)).any(axis=2).sum())
                if used * BLOCK <= FILL * n:
                    found.append(name)
    if matrix.codes is not None:
        found += [f"{name} int8" for name in found]
    return found


def network(matrices: list[tuple[Matrix, str]]) -> Network:
    """Put matrices with their layouts into the arrays that the kernels read."""
    table = np.zeros((len(matrices), FIELDS), dtype=np.int64)
    types = {"places": "i4", "columns": "u2", "values": "f4", "codes": "i1"}
    parts: dict[str, list[np.ndarray]] = {name: [] for name in types}
    sizes = dict.fromkeys(types, 0)

    def add(name: str, part: np.ndarray) -> int:
        parts[name].append(part)
        sizes[name] += len(part)
        return sizes[name] - len(part)

    for row, (matrix, layout) in zip(table, matrices, strict=True):
        kind, (R, C) = LAYOUTS[layout], matrix.values.shape
        if C > 1 << 16:
            raise ArgumentError(f"a matrix has {C} columns: expected at most 65536")
        values, columns, places = _parts(matrix, kind)
        row[:] = [
            kind, R, C, add("codes" if kind >= INT8 else "values", values),
            add("columns", columns), add("places", places),
            add("values", matrix.scales) if kind >= INT8 else 0, add("values", matrix.bias),
        ]  # fmt: skip
    joined = {
        name: np.concatenate([np.zeros(0, kind), *(p.astype(kind) for p in parts[name])])
        for name, kind in types.items()
    }
    return Network(table, **joined)


def _parts(matrix: Matrix, kind: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return values, columns and places of one matrix in a layout, see `cspkit.deploy.kernels`."""
    values = matrix.codes if kind >= INT8 else matrix.values
    kind %= INT8
    if kind == DENSE:
        return values.reshape(-1), np.zeros(0), np.zeros(0)
    if kind == SLICES:
        return _slices(values)
    blocks = _blocks(values, SHAPES[kind])
    used = blocks.any(axis=2)
    return (
        blocks[used].reshape(-1),
        np.nonzero(used)[1],
        np.concatenate([[0], used.sum(axis=1).cumsum()]),
    )


def _slices(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
    found: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for rows, own in zip(order, lengths, strict=True):
        entry = np.arange(own.max(initial=0))[:, None]
        for part, array in zip(found, (sorted_values, columns), strict=True):
            part.append(np.where(entry < own, array[rows, entry], 0).reshape(-1))
    return *map(np.concatenate, found), np.concatenate([pointers, order.reshape(-1)])


def _blocks(matrix: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """View a matrix (R, C) as blocks of r x c entries: (R / r, C / c, r c)."""
    (R, C), (r, c) = matrix.shape, shape
    return matrix.reshape(R // r, r, C // c, c).swapaxes(1, 2).reshape(R // r, C // c, r * c)


def choose(matrices: dict[str, Matrix], autotune: bool) -> dict[str, str]:
    """Choose the layout of each matrix, see `SparseTransducer`."""
    if not autotune:
        return {
            name: "slices" if (matrix.values == 0).mean() >= 0.9 else "dense"
            for name, matrix in matrices.items()
        }
    machine = [platform.node(), get_host_cpu_name(), numba.__version__, __version__]
    digest = hashlib.sha256(json.dumps(machine).encode())
    for name, matrix in matrices.items():
        facts = name, matrix.values.shape, matrix.codes is not None
        digest.update(repr(facts).encode() + np.packbits(matrix.values != 0).tobytes())
    folder = os.environ.get("CSPKIT_CACHE") or "~/.cache/cspkit"
    file = Path(os.path.expanduser(folder)) / f"layouts-{digest.hexdigest()[:16]}.json"
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
    made = {name: network([(matrix, name)]) for name in candidates(matrix)}
    times = {}
    for name, net in made.items():
        kernels.repeat(*net, x, y, 1)  # compiles
        start = time.perf_counter()
        kernels.repeat(*net, x, y, 10)
        times[name] = max(1, int(10 * SECONDS / (time.perf_counter() - start)))
    found = dict.fromkeys(made, float("inf"))
    for _ in range(REPEATS):  # the layouts take turns, so that a disturbance hits all of them
        for name, net in made.items():
            start = time.perf_counter()
            kernels.repeat(*net, x, y, times[name])
            found[name] = min(found[name], (time.perf_counter() - start) / times[name])
    return found
