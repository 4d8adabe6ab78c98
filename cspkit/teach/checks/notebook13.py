"""Checks of the exercises of notebook 13, is it faster?"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy.sparse

from cspkit.teach.check import Verdict, as_array, exercise, named

Array = np.ndarray


@exercise("13.csr_product")
def csr_product(function: Callable[[Array, Array, Array, Array], Array]) -> Verdict:
    """Check the product of a matrix in compressed rows with a vector."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(1, 9, (5, 4)) * (rng.random((5, 4)) < 0.4) / 2
    for given in ([[0, 2], [0, 0], [3, 4]], [[1, 0], [0, 1]], drawn):
        M = np.array(given, dtype=float)
        x = np.array([10.0, 1.0, -2.5, 5.0])[: M.shape[1]]
        csr = scipy.sparse.csr_array(M)
        answer, wrong = as_array(function(csr.data, csr.indices, csr.indptr, x.copy()), (len(M),))
        case = f"M = {M.tolist()}, x = {x.tolist()}"
        if wrong:
            return f"{case}: {wrong}"
        right = M @ x
        if np.allclose(answer, right):
            continue
        rows = [slice(a, b) for a, b in zip(csr.indptr[:-1], csr.indptr[1:], strict=True)]
        known = (
            ([csr.data[r].sum() for r in rows], "the entries of x are missing"),
            ([x[csr.indices[r]].sum() for r in rows], "the nonzeros themselves are missing"),
            (
                [csr.data[r] @ x[: r.stop - r.start] for r in rows],
                "take x at the columns of the nonzeros: x[indices[...]]",
            ),
            (-right, "the sign is turned"),
        )
        return named(answer, known, f"{case} gives {answer.tolist()}, expected {right.tolist()}")
    return None


@exercise("13.crossover")
def crossover(function: Callable[[float, float], float]) -> Verdict:
    """Check the sparsity from which a sparse product is faster."""
    for v, sparse in ((8e9, 2e9), (1e9, 1e9), (1e9, 2e9), (16e9, 2e9)):
        answer, wrong = as_array(function(v, sparse), ())
        if wrong:
            return f"v = {v:g}, v_sparse = {sparse:g}: {wrong}"
        right = max(0.0, 1 - sparse / v)
        if np.isclose(answer, right):
            continue
        known = (
            (1 - sparse / v, "a sparsity is not negative"),
            (sparse / v, "this is the share of nonzeros, 1 - s"),
            (1 - v / sparse, "the dense product is the faster one: v_sparse / v"),
        )
        case = f"v = {v:g}, v_sparse = {sparse:g}"
        return named(answer, known, f"{case} gives {answer:.4g}, expected {right:.4g}")
    return None


@exercise("13.cut_blocks")
def cut_blocks(function: Callable[[Array, int, int], Array]) -> Verdict:
    """Check a matrix whose blocks of rows were cut."""
    rng = np.random.default_rng(0)
    drawn = rng.standard_normal((16, 5)).round(2)
    cases = (
        ([[3, 1], [0, 1]], 2, 1),
        ([[2, 2], [1, 2]], 2, 1),
        ([[-3, 1, 2.5], [0, 1, 0]], 2, 1),
        (drawn, 8, 3),
        (drawn, 4, 1),
        ([[3, 2], [0, 2]], 2, 1),
    )
    for given, r, k in cases:
        W = np.array(given, dtype=float)
        answer, wrong = as_array(function(W.copy(), r, k), W.shape)
        case = f"W of shape {W.shape}, r = {r}, k = {k}"
        if wrong:
            return f"{case}: {wrong}"

        def kept(norms, W=W, r=r, k=k):
            mask = np.zeros(norms.size, dtype=bool)
            mask[np.argsort(norms, axis=None)[norms.size - k :]] = True
            return W * np.repeat(mask.reshape(norms.shape), r, axis=0)

        R, C = W.shape
        blocks = W.reshape(R // r, r, C)
        right = kept((blocks**2).sum(axis=1))
        if np.allclose(answer, right):
            continue
        single = np.zeros(W.size, dtype=bool)
        single[np.argsort(np.abs(W), axis=None)[W.size - k * r :]] = True
        known = (
            (kept(np.abs(blocks).sum(axis=1)), "add squares, not absolute values"),
            (kept(-(blocks**2).sum(axis=1)), "these are the blocks with the smallest norms"),
            (kept(blocks.sum(axis=1)), "square before the sum: signs cancel"),
            (W * single.reshape(W.shape), "these are single weights; cut whole blocks"),
            (kept(np.abs(blocks).max(axis=1)), "add the squares of the whole block"),
        )
        wrong_at = [tuple(map(int, place)) for place in np.argwhere(~np.isclose(answer, right))]
        otherwise = f"{case}: wrong at {wrong_at[:3]}, and {len(wrong_at)} places in all"
        return named(answer, known, otherwise)
    return None


@exercise("13.speedup")
def speedup(function: Callable[[float, float], float]) -> Verdict:
    """Check Amdahl's law."""
    for f, g in ((0.2, 20.0), (0.2, 2.0), (0.0, 7.0), (1.0, 5.0), (0.5, 2.0)):
        answer, wrong = as_array(function(f, g), ())
        if wrong:
            return f"f = {f}, g = {g}: {wrong}"
        right = 1 / (f + (1 - f) / g)
        if np.isclose(answer, right):
            continue
        known = (
            (1 / right, "this is the new time over the old one; the factor is its inverse"),
            (f + (1 - f) * g, "the times are added, not the factors"),
            (1 / (1 - f + f / g), "f is the share that does not become faster"),
        )
        return named(answer, known, f"f = {f}, g = {g} gives {answer:.4g}, expected {right:.4g}")
    return None


@exercise("13.break_even")
def break_even(function: Callable[[float, float, float, float], float]) -> Verdict:
    """Check the bandwidth at which a packed and a dense file take equally long."""
    for D, P, t_D, t_P in (
        (1.3e6, 3e4, 0.001, 0.031),
        (1e6, 1e5, 0.0, 0.1),
        (1e6, 1e5, 0.2, 0.1),
        (1e6, 1e5, 0.1, 0.1),
    ):
        case = f"D = {D:g}, P = {P:g}, t_D = {t_D}, t_P = {t_P}"
        answer = function(D, P, t_D, t_P)
        if t_P <= t_D:
            if answer != math.inf:
                return f"{case}: the packed file always wins, expected inf, but got {answer}"
            continue
        answer, wrong = as_array(answer, ())
        if wrong:
            return f"{case}: {wrong}"
        right = (D - P) / (t_P - t_D)
        if np.isclose(answer, right):
            continue
        known = (
            (-right, "the sign is turned"),
            (1 / right, "this is seconds a byte; the bandwidth is its inverse"),
            (D / (t_P - t_D), "the packed file must be read, too: D - P"),
            ((D - P) / t_P, "the dense file has a time to load, too: t_P - t_D"),
        )
        return named(answer, known, f"{case} gives {answer:.4g}, expected {right:.4g}")
    return None
