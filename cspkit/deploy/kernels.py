"""Compiled kernels: matrix-vector products in five layouts, LSTM steps, and the joiner.

A network is a table of matrices. Row k of the table `matrices` is

    kind, n_rows, n_columns, first value, first column index, first pointer, first row, first scale

The values of all matrices stand one after the other in `values` (float32) or `codes` (int8, to be
multiplied by one scale for each row), and their column indices in `columns` (uint16).

The kind SLICES sorts the rows by their number of nonzeros, and cuts them into slices of 16 rows. A
slice has as many entries for each of its rows as the longest of them; entry n of all its rows stand
beside one another. So 16 rows are computed at a time, without a loop of its own for each row.
Pointer i is where slice i begins, counted in entries of a row, and `rows` has the numbers of the
rows. The kind TALL stores blocks of 8 neighbouring rows in one column, and WIDE blocks of one row
in 8 neighbouring columns; pointer i is where block row i begins, counted in blocks.

References
----------
Kreutzer et al., "A unified sparse matrix data format for efficient general sparse matrix-vector
multiplication on modern processors with wide SIMD units", SIAM J. Scientific Computing 36 (2014),
arXiv:1307.6209 (slices).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

DENSE, SLICES, TALL, WIDE = 0, 1, 2, 3
INT8 = 4  # added to the kind of a matrix whose values are codes
BLOCK = 8
LANES = 16  # rows of a slice
FIELDS = 8
JIT = {"cache": True, "fastmath": {"contract", "reassoc", "nsz", "arcp"}, "nogil": True}
# tanh(x) = x P(x^2) / Q(x^2) on |x| <= 8.5, a least-squares fit with weights that even out the
# errors: at most 1.1e-8 in exact arithmetic.
P0, P1, P2, P3, P4 = (
    9.99999946e-01, 1.34062062e-01, 3.52581942e-03, 2.11215724e-05, 1.40992461e-08,
)  # fmt: skip
Q1, Q2, Q3, Q4 = 4.67395176e-01, 2.59911362e-02, 3.33569054e-04, 8.07361992e-07
LIMIT = 8.5


class Tables(NamedTuple):
    """The matrices of a network, see the docstring of this module."""

    matrices: np.ndarray
    values: np.ndarray
    codes: np.ndarray
    columns: np.ndarray
    pointers: np.ndarray
    rows: np.ndarray
    scales: np.ndarray


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


@njit(**JIT)
def slices_product(values, columns, pointers, order, n_rows, x, y):
    """y <- y + M x for a matrix in slices."""
    sums = np.empty(LANES, dtype=np.float32)
    for i in range((n_rows + LANES - 1) // LANES):
        sums[:] = np.float32(0.0)
        for n in range(pointers[i], pointers[i + 1]):
            for lane in range(LANES):
                sums[lane] += values[n * LANES + lane] * x[columns[n * LANES + lane]]
        for lane in range(LANES):
            y[order[i * LANES + lane]] += sums[lane]


@njit(**JIT)
def codes_product(codes, columns, pointers, order, n_rows, scales, x, y):
    """The same with codes, and a scale for each row."""
    sums = np.empty(LANES, dtype=np.float32)
    for i in range((n_rows + LANES - 1) // LANES):
        sums[:] = np.float32(0.0)
        for n in range(pointers[i], pointers[i + 1]):
            for lane in range(LANES):
                code = np.float32(codes[n * LANES + lane])
                sums[lane] += code * x[columns[n * LANES + lane]]
        for lane in range(LANES):
            row = order[i * LANES + lane]
            y[row] += sums[lane] * scales[row]


@njit(**JIT)
def add_product(t, k, x, y):
    """y <- y + M x for matrix k of the tables."""
    kind, rows, cols = t.matrices[k, 0], t.matrices[k, 1], t.matrices[k, 2]
    v, c, p = t.matrices[k, 3], t.matrices[k, 4], t.matrices[k, 5]
    r, s = t.matrices[k, 6], t.matrices[k, 7]
    if kind == DENSE:
        for i in range(rows):
            row = t.values[v + i * cols : v + (i + 1) * cols]
            total = np.float32(0.0)
            for j in range(cols):
                total += row[j] * x[j]
            y[i] += total
    elif kind == DENSE + INT8:
        for i in range(rows):
            row8 = t.codes[v + i * cols : v + (i + 1) * cols]
            total = np.float32(0.0)
            for j in range(cols):
                total += np.float32(row8[j]) * x[j]
            y[i] += total * t.scales[s + i]
    elif kind == SLICES:
        slices_product(t.values[v:], t.columns[c:], t.pointers[p:], t.rows[r:], rows, x, y)
    elif kind == SLICES + INT8:
        codes_product(
            t.codes[v:], t.columns[c:], t.pointers[p:], t.rows[r:], rows, t.scales[s:], x, y
        )
    elif kind == TALL:
        for i in range(rows // BLOCK):
            out = y[BLOCK * i : BLOCK * i + BLOCK]
            for n in range(t.pointers[p + i], t.pointers[p + i + 1]):
                block = t.values[v + BLOCK * n : v + BLOCK * n + BLOCK]
                xj = x[t.columns[c + n]]
                for b in range(BLOCK):
                    out[b] += block[b] * xj
    else:  # WIDE
        for i in range(rows):
            total = np.float32(0.0)
            for n in range(t.pointers[p + i], t.pointers[p + i + 1]):
                block = t.values[v + BLOCK * n : v + BLOCK * n + BLOCK]
                first = BLOCK * np.int64(t.columns[c + n])
                part = x[first : first + BLOCK]
                for b in range(BLOCK):
                    total += block[b] * part[b]
            y[i] += total


@njit(**JIT)
def lstm_step(t, k, bias, x, h, c, gates):
    """One step of an LSTM layer: matrices k (input) and k + 1 (hidden); h and c change in place."""
    H = len(h)
    gates[:] = bias
    add_product(t, k, x, gates)
    add_product(t, k + 1, h, gates)
    for i in range(2 * H):
        gates[i] = sigmoid(gates[i])
    for i in range(2 * H, 3 * H):
        gates[i] = tanh(gates[i])
    for i in range(3 * H, 4 * H):
        gates[i] = sigmoid(gates[i])
    for i in range(H):
        c[i] = gates[H + i] * c[i] + gates[i] * gates[2 * H + i]
    for i in range(H):
        h[i] = gates[3 * H + i] * tanh(c[i])


@njit(**JIT)
def encode(t, biases, frame, states, gates, k, joined):
    """All layers of the encoder for one stacked frame, then its part of the joiner."""
    layers = states.shape[0]
    x = frame
    for layer in range(layers):
        bias, h, c = biases[layer, : len(gates)], states[layer, 0], states[layer, 1]
        lstm_step(t, k + 2 * layer, bias, x, h, c, gates)
        x = h
    joined[:] = biases[layers, : len(joined)]
    add_product(t, k + 2 * layers, x, joined)


@njit(**JIT)
def predict(t, bias, embedded, state, gates, k, joined):
    """The predictor for one label, then its part of the joiner."""
    lstm_step(t, k, bias, embedded, state[0], state[1], gates)
    joined[:] = np.float32(0.0)
    add_product(t, k + 2, state[0], joined)


@njit(**JIT)
def join(t, bias, frame, history, hidden, logits, k):
    """The logits of one cell."""
    for i in range(len(hidden)):
        hidden[i] = tanh(frame[i] + history[i])
    logits[:] = bias
    add_product(t, k, hidden, logits)


@njit(**JIT)
def repeat(t, k, x, y, times):
    """The product `times` times, to measure it."""
    for _ in range(times):
        add_product(t, k, x, y)
