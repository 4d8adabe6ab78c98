"""Compiled kernels: matrix-vector products in four layouts, LSTM steps, and the joiner.

A network is a table of matrices. Row k of the table `matrices` is

    kind, n_rows, n_columns, first value, first column index, first place, first scale, first bias

The values of all matrices stand one after the other in `values` (float32) or `codes` (int8, to be
multiplied by one scale for each row). `values` also holds the scales and the biases. `columns`
(uint16) holds column indices.

The kind SLICES (known as sliced ELLPACK) sorts the rows by their number of nonzeros, and cuts them
into slices of 16 rows. Each row of a slice is filled with zeros to the length of the longest row of
the slice. Entry n of all 16 rows is stored together, so one loop computes 16 rows at a time.
`places` holds first where each slice begins, counted in entries of one row, and then the numbers of
the rows in sorted order.

The kind TALL stores blocks of 8 neighbouring rows in one column, and WIDE stores blocks of one row
in 8 neighbouring columns. `places` holds where each row of blocks begins, counted in blocks. For
WIDE, `columns` holds the number of the block column, which is the first column divided by 8.

All that a step changes is in the rows of one array, `memory`.

References
----------
Kreutzer et al., "A unified sparse matrix data format for efficient general sparse matrix-vector
multiplication on modern processors with wide SIMD units", SIAM J. Scientific Computing 36 (2014),
arXiv:1307.6209 (slices).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

DENSE, SLICES, TALL, WIDE = 0, 1, 2, 3
INT8 = 4  # added to the kind of a matrix whose values are codes
BLOCK = 8
LANES = 16  # rows of a slice
FIELDS = 8
# Rows of `memory`; from STATES on: h and c of each layer of the encoder, then of the predictor.
FRAME, GATES, ENCODED, HISTORY, HIDDEN, LOGITS, STATES = range(7)
# Python's error model tests each divisor for 0, so that loops with a division are not vectorised.
JIT = {
    "cache": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz", "arcp"},
    "nogil": True,
}  # fmt: skip


def _cacheable() -> bool:
    """Whether numba finds a folder for its cache; without one it refuses to compile anything."""
    try:
        njit(cache=True)(_cacheable)
    except RuntimeError:
        return False
    return True


JIT["cache"] = _cacheable()
# tanh(x) = x P(x^2) / Q(x^2) on |x| <= 8.5, a least-squares fit with weights that even out the
# errors: at most 1.1e-8 in exact arithmetic.
P0, P1, P2, P3, P4 = (
    9.99999946e-01, 1.34062062e-01, 3.52581942e-03, 2.11215724e-05, 1.40992461e-08,
)  # fmt: skip
Q1, Q2, Q3, Q4 = 4.67395176e-01, 2.59911362e-02, 3.33569054e-04, 8.07361992e-07
LIMIT = 8.5


# Eight neighbouring numbers, for one vector instruction. LLVM unrolls loops of length 8 into scalar
# code, which is three times slower.
FLOATS = ir.VectorType(ir.FloatType(), BLOCK)
BYTES = ir.VectorType(ir.IntType(8), BLOCK)
FAST = {"flags": ("fast",)}


class Network(NamedTuple):
    """The matrices of a network, see the docstring of this module."""

    matrices: np.ndarray
    places: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    codes: np.ndarray


@njit(**JIT)
def tanh(x):
    """tanh with an error below 1e-6, without a branch, so that a loop over it is vectorised."""
    x = min(max(x, np.float32(-LIMIT)), np.float32(LIMIT))
    z = np.float64(x) * np.float64(x)
    p = (((P4 * z + P3) * z + P2) * z + P1) * z + P0
    q = (((Q4 * z + Q3) * z + Q2) * z + Q1) * z + 1.0
    return np.float32(x * p / q)


@njit(**JIT)
def sigmoid(x):
    """The logistic function, 1/2 + tanh(x / 2) / 2."""
    half = np.float32(0.5)
    return half + half * tanh(half * x)


@intrinsic
def add_scaled(context: Any, sums: Any, i: Any, values: Any, n: Any, x: Any) -> Any:
    """sums[i : i + 8] += values[n : n + 8] * x, with float32 sums and float32 or int8 values.

    The indices are uint64. As in all compiled code here, nothing checks them.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        s, i, v, n, x = arguments
        undefined = ir.Constant(FLOATS, ir.Undefined)
        first = builder.insert_element(undefined, x, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), BLOCK), [0] * BLOCK)
        scales = builder.shuffle_vector(first, undefined, zeros)
        factors = _load(context, builder, signature.args[2], v, n), scales
        return _accumulate(context, builder, signature.args[0], s, i, factors)

    return types.void(sums, types.uint64, values, types.uint64, types.float32), generate


@intrinsic
def add_products(context: Any, sums: Any, values: Any, n: Any, x: Any, j: Any) -> Any:
    """sums[0:8] += values[n : n + 8] * x[j : j + 8], float32 sums and x; values as above."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        s, v, n, x, j = arguments
        zero = ir.Constant(ir.IntType(64), 0)
        factors = (
            _load(context, builder, signature.args[1], v, n),
            _load(context, builder, signature.args[3], x, j),
        )
        return _accumulate(context, builder, signature.args[0], s, zero, factors)

    return types.void(sums, values, types.uint64, x, types.uint64), generate


def _accumulate(context: Any, builder: Any, kind: Any, array: Any, i: Any, factors: Any) -> Any:
    """Add a product to array[i : i + 8]."""
    total = builder.fadd(
        _load(context, builder, kind, array, i), builder.fmul(*factors, **FAST), **FAST
    )
    builder.store(total, _pointer(context, builder, kind, array, i)).align = 4
    return context.get_dummy_value()


def _load(context: Any, builder: Any, kind: Any, array: Any, i: Any) -> Any:
    """Load array[i : i + 8] as float32."""
    loaded = builder.load(_pointer(context, builder, kind, array, i))
    loaded.align = kind.dtype.bitwidth // 8
    return loaded if kind.dtype == types.float32 else builder.sitofp(loaded, FLOATS)


def _pointer(context: Any, builder: Any, kind: Any, array: Any, i: Any) -> Any:
    """A pointer to the vector that starts at array[i]."""
    data = context.make_array(kind)(context, builder, array).data
    vector = FLOATS if kind.dtype == types.float32 else BYTES
    return builder.bitcast(builder.gep(data, [i]), vector.as_pointer())


@njit(**JIT)
def dense_product(values, n_columns, x, y):
    """y <- M x for a dense matrix."""
    for i in range(len(y)):
        row = values[i * n_columns : (i + 1) * n_columns]
        total = np.float32(0.0)
        for j in range(n_columns):
            total += np.float32(row[j]) * x[j]
        y[i] = total


@njit(**JIT)
def slices_product(values, columns, places, x, y):
    """y <- M x for a matrix in slices."""
    n_slices = (len(y) + LANES - 1) // LANES
    order = places[n_slices + 1 :]
    sums = np.empty(LANES, dtype=np.float32)
    for i in range(n_slices):
        sums[:] = np.float32(0.0)
        for n in range(places[i], places[i + 1]):
            for lane in range(LANES):
                value = np.float32(values[n * LANES + lane])
                sums[lane] += value * x[columns[n * LANES + lane]]
        for lane in range(min(LANES, len(y) - i * LANES)):
            y[order[i * LANES + lane]] = sums[lane]


@njit(**JIT)
def tall_product(values, columns, places, x, y):
    """y <- M x for blocks of 8 neighbouring rows."""
    sums = np.empty(2 * BLOCK, dtype=np.float32)  # two, so that an addition need not wait
    for i in range(len(y) // BLOCK):
        sums[:] = np.float32(0.0)
        first, end = places[i], places[i + 1]
        for n in range(first, end - 1, 2):
            add_scaled(sums, np.uint64(0), values, np.uint64(BLOCK * n), x[columns[n]])
            add_scaled(
                sums, np.uint64(BLOCK), values, np.uint64(BLOCK * (n + 1)), x[columns[n + 1]]
            )
        if (end - first) % 2:
            add_scaled(
                sums, np.uint64(0), values, np.uint64(BLOCK * (end - 1)), x[columns[end - 1]]
            )
        for b in range(BLOCK):
            y[BLOCK * i + b] = sums[b] + sums[BLOCK + b]


@njit(**JIT)
def wide_product(values, columns, places, x, y):
    """y <- M x for blocks of 8 neighbouring columns."""
    sums = np.empty(BLOCK, dtype=np.float32)
    for i in range(len(y)):
        sums[:] = np.float32(0.0)
        for n in range(places[i], places[i + 1]):
            j = np.uint64(columns[n]) * np.uint64(BLOCK)
            add_products(sums, values, np.uint64(BLOCK * n), x, j)
        total = np.float32(0.0)
        for b in range(BLOCK):
            total += sums[b]
        y[i] = total


@njit(**JIT)
def product(kind, values, n_columns, columns, places, x, y):
    """y <- M x in any layout."""
    if kind == DENSE:
        dense_product(values, n_columns, x, y)
    elif kind == SLICES:
        slices_product(values, columns, places, x, y)
    elif kind == TALL:
        tall_product(values, columns, places, x, y)
    else:
        wide_product(values, columns, places, x, y)


@njit(**JIT)
def multiply(net, k, x, y):
    """y <- M x + b for matrix k of a network and its bias."""
    kind, rows, n_columns, value, column, place, scale, bias = net.matrices[k]
    columns, places = net.columns[column:], net.places[place:]
    if kind >= INT8:
        product(kind - INT8, net.codes[value:], n_columns, columns, places, x, y[:rows])
        for i in range(rows):
            y[i] = y[i] * net.values[scale + i] + net.values[bias + i]
    else:
        product(kind, net.values[value:], n_columns, columns, places, x, y[:rows])
        for i in range(rows):
            y[i] += net.values[bias + i]


@njit(**JIT)
def lstm_step(net, k, x, memory, state):
    """One step of an LSTM layer: matrices k (input) and k + 1 (hidden)."""
    H = net.matrices[k + 1, 2]
    gates, recurrent, h, c = memory[GATES], memory[HIDDEN], memory[state], memory[state + 1]
    multiply(net, k, x, gates)
    multiply(net, k + 1, h, recurrent)
    for i in range(2 * H):
        gates[i] = sigmoid(gates[i] + recurrent[i])
    for i in range(2 * H, 3 * H):
        gates[i] = tanh(gates[i] + recurrent[i])
    for i in range(3 * H, 4 * H):
        gates[i] = sigmoid(gates[i] + recurrent[i])
    for i in range(H):
        c[i] = gates[H + i] * c[i] + gates[i] * gates[2 * H + i]
    for i in range(H):
        h[i] = gates[3 * H + i] * tanh(c[i])


@njit(**JIT)
def encode(matrices, places, columns, values, codes, memory, frames, mean, std):
    """All layers of the encoder for one stack of raw frames, then its part of the joiner."""
    net = Network(matrices, places, columns, values, codes)
    x = memory[FRAME]
    for t in range(frames.shape[0]):
        for f in range(frames.shape[1]):
            x[t * frames.shape[1] + f] = (frames[t, f] - mean[f]) / std[f]
    layers = (len(matrices) - 5) // 2
    for layer in range(layers):
        lstm_step(net, 2 * layer, x, memory, STATES + 2 * layer)
        x = memory[STATES + 2 * layer]
    multiply(net, 2 * layers, x, memory[ENCODED])


@njit(**JIT)
def join(matrices, places, columns, values, codes, memory):
    """The logits of one cell; return the index of the largest."""
    net = Network(matrices, places, columns, values, codes)
    k = len(net.matrices) - 1
    encoded, history, hidden = memory[ENCODED], memory[HISTORY], memory[HIDDEN]
    logits = memory[LOGITS]
    for i in range(net.matrices[k, 2]):
        hidden[i] = tanh(encoded[i] + history[i])
    multiply(net, k, hidden, logits)
    best = 0
    for i in range(1, net.matrices[k, 1]):
        if logits[i] > logits[best]:
            best = i
    return best


@njit(**JIT)
def predict(net, memory, embedded):
    """The predictor for one label, then its part of the joiner."""
    k, state = len(net.matrices) - 4, len(memory) - 2
    lstm_step(net, k, embedded, memory, state)
    multiply(net, k + 2, memory[state], memory[HISTORY])


@njit(**JIT)
def start(matrices, places, columns, values, codes, memory, embedding):
    """Forget all frames and labels."""
    memory[:] = np.float32(0.0)
    net = Network(matrices, places, columns, values, codes)
    predict(net, memory, embedding[len(embedding) - 1])


@njit(**JIT)
def emit(matrices, places, columns, values, codes, memory, embedding, labels):
    """Write the labels of an encoded frame to `labels`, at most as many as fit; return how many."""
    net = Network(matrices, places, columns, values, codes)
    for n in range(len(labels)):
        best = join(matrices, places, columns, values, codes, memory)
        if best == len(embedding) - 1:
            return n
        labels[n] = best
        predict(net, memory, embedding[best])
    return len(labels)


@njit(**JIT)
def repeat(matrices, places, columns, values, codes, x, y, times):
    """The product with the first matrix `times` times, to measure it."""
    net = Network(matrices, places, columns, values, codes)
    for _ in range(times):
        multiply(net, 0, x, y)
