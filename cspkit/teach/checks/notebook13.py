"""Checks of the exercises of notebook 13, is it faster?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse

from cspkit.teach.cases import Case, table

Array = np.ndarray


def _product(of_row: Callable[[Array, Array, Array], float], whole: bool = False):
    """A product row by row; `of_row` gets the nonzeros of a row, their columns, and x."""

    def answer(data: Array, indices: Array, indptr: Array, x: Array) -> Array:
        rows = [slice(a, b) for a, b in zip(indptr[:-1], indptr[1:], strict=True)]
        y = [of_row(data[row], indices[row], x) for row in rows]
        return np.array(y, dtype=data.dtype if whole else float)

    return answer


def _product_cases() -> list[Case]:
    rng = np.random.default_rng(0)
    drawn = rng.integers(1, 9, (5, 4)) * (rng.random((5, 4)) < 0.4)
    cases = []
    for M, x in (
        (np.array([[0, 2], [0, 0], [3, 4]]), np.array([10, 1])),
        (np.array([[1, 0], [0, 1]]), np.array([10, 1])),
        (drawn, np.array([10, 1, -2.3, 5])),
        (drawn / 2, np.array([10, 1, -2.3, 5])),
    ):
        csr, example = scipy.sparse.csr_array(M), "" if cases else "the example, "
        where = f"{example}M = {M.tolist()}, x = {x.tolist()}"
        cases.append(Case(where, (csr.data, csr.indices, csr.indptr, x)))
    return cases


table("13.csr_product", _product(lambda v, j, x: v @ x[j]), _product_cases(), [
    (_product(lambda v, j, x: v.sum()), "the entries of x are missing"),
    (_product(lambda v, j, x: x[j].sum()), "the nonzeros themselves are missing"),
    (_product(lambda v, j, x: v @ np.resize(x, len(v))),
     "take x at the columns of the nonzeros: x[indices[...]]"),
    (_product(lambda v, j, x: -(v @ x[j])), "the sign is turned"),
    (_product(lambda v, j, x: v @ x[j], whole=True),
     "the result is cut to integers, since it has the type of data; use np.zeros(R)"),
])  # fmt: skip


table("13.crossover", lambda v, sparse: max(0.0, 1 - sparse / v), [
    Case(f"{'' if i else 'the example, '}v = {v:g}, v_sparse = {sparse:g}", (v, sparse))
    for i, (v, sparse) in enumerate(((8e9, 2e9), (1e9, 1e9), (1e9, 2e9), (16e9, 2e9)))
], [
    (lambda v, sparse: 1 - sparse / v, "a sparsity is not negative"),
    (lambda v, sparse: sparse / v, "this is the share of nonzeros, 1 - s"),
    (lambda v, sparse: min(1.0, sparse / v), "this is the share of nonzeros, 1 - s"),
    (lambda v, sparse: 1 - v / sparse, "the dense product is the faster one: v_sparse / v"),
    (lambda v, sparse: max(0.0, 1 - v / sparse),
     "the dense product is the faster one: v_sparse / v"),
])  # fmt: skip


def _cut(norm: Callable[[Array], Array] = lambda blocks: (blocks**2).sum(axis=1)):
    """The matrix with the k blocks of largest norm; `norm` makes the typical mistakes."""

    def answer(W: Array, r: int, k: int) -> Array:
        norms = norm(W.reshape(len(W) // r, r, W.shape[1]))
        mask = np.zeros(norms.size, dtype=bool)
        mask[np.argsort(norms, axis=None)[norms.size - k :]] = True
        return W * np.repeat(mask.reshape(norms.shape), r, axis=0)

    return answer


def _cut_cases() -> list[Case]:
    small = [[[3, 1], [0, 1]], [[2, 2], [1, 2]], [[-3, 1, 2.5], [0, 1, 0]], [[3, 2], [0, 2]]]
    cases = [Case(f"W = {W}, r = 2, k = 1", (np.array(W), 2, 1)) for W in small]
    cases[:2] = [case._replace(where=f"the example, {case.where}") for case in cases[:2]]
    drawn = np.random.default_rng(0).standard_normal((16, 5))
    made = "W = default_rng(0).standard_normal((16, 5))"
    return cases + [Case(f"{made}, r = {r}, k = {k}", (drawn, r, k)) for r, k in ((8, 3), (4, 1))]


def _wrong_cut(answer: object, right: Array, inputs: tuple) -> str:
    places = [tuple(map(int, place)) for place in np.argwhere(~np.isclose(answer, right))]
    return f"wrong at {places[:3]}, and at {len(places)} places in all"


table("13.cut_blocks", _cut(), _cut_cases(), [
    (_cut(lambda b: np.abs(b).sum(axis=1)), "add squares, not absolute values"),
    (_cut(lambda b: -(b**2).sum(axis=1)), "these are the blocks with the smallest norms"),
    (_cut(lambda b: b.sum(axis=1)), "square before the sum: signs cancel"),
    (lambda W, r, k: _cut()(W, 1, k * r), "these are single weights; cut whole blocks"),
    (lambda W, r, k: _cut()(W, 1, k), "these are single weights; cut whole blocks"),
    (_cut(lambda b: np.abs(b).max(axis=1)), "add the squares of the whole block"),
    (lambda W, r, k: _cut()(W, r, k) != 0, "this is the mask; multiply W by it"),
], _wrong_cut)  # fmt: skip


def _speedup(f: float, g: float) -> float:
    return 1 / (f + (1 - f) / g)


table("13.speedup", _speedup, [
    Case(f"{'the example, ' if i < 4 else ''}f = {f}, g = {g}", (f, g))
    for i, (f, g) in enumerate(((0.2, 20), (0.2, 2), (0, 7), (1, 5), (0.5, 2)))
], [
    (lambda f, g: 1 / _speedup(f, g),
     "this is the new time over the old one; the factor is its inverse"),
    (lambda f, g: f + (1 - f) * g, "the times are added, not the factors"),
    (lambda f, g: _speedup(1 - f, g), "f is the share that does not become faster"),
])  # fmt: skip


def _even(over: Callable[..., float], always: bool = True):
    """A bandwidth, and infinity if the packed file always wins."""

    def answer(D: float, P: float, t_D: float, t_P: float) -> float:
        with np.errstate(divide="ignore"):
            return np.inf if always and t_P <= t_D else over(D, P, *np.float64([t_D, t_P]))

    return answer


table("13.break_even", _even(lambda D, P, a, b: (D - P) / (b - a)), [
    Case(f"{'' if i else 'the example, '}D, P, t_D, t_P = {given}", given)
    for i, given in enumerate(((1_300_000, 30_000, 0.001, 0.031), (1_000_000, 100_000, 0.0, 0.1),
                               (1_000_000, 100_000, 0.2, 0.1), (1_000_000, 100_000, 0.1, 0.1)))
], [
    (_even(lambda D, P, a, b: (D - P) / (b - a), always=False),
     "if t_P <= t_D the packed file always wins: inf"),
    (_even(lambda D, P, a, b: (D - P) / (a - b)), "the sign is turned"),
    (_even(lambda D, P, a, b: (b - a) / (D - P)),
     "this is seconds a byte; the bandwidth is its inverse"),
    (_even(lambda D, P, a, b: D / (b - a)), "the packed file must be read, too: D - P"),
    (_even(lambda D, P, a, b: (D - P) / b), "the dense file has a time to load, too: t_P - t_D"),
])  # fmt: skip
