"""Checks of the exercises of notebook 05, a layer is a sensing problem."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cspkit.teach.check import Verdict, as_array, exercise

Matrix = np.ndarray


def _layer(p: int, n: int, seed: int) -> tuple[Matrix, Matrix]:
    """Weights (p, n) and the Gram matrix (n, n) of correlated inputs of unequal size."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((60, n)) @ rng.standard_normal((n, n)) * rng.uniform(0.2, 2, n)
    return rng.standard_normal((p, n)), A.T @ A / 60


def _same(given: tuple, kept: tuple) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(given, kept, strict=True))


@exercise("05.gram_error")
def gram_error(function: Callable[[Matrix, Matrix, Matrix], float]) -> Verdict:
    """Check the relative output error, on a layer that is not square and on one that is."""
    for p, n in ((4, 6), (5, 5)):
        W, G = _layer(p, n, seed=p)
        Z = W * (np.random.default_rng(1).random((p, n)) < 0.5)
        for other in (Z, 0.9 * W, W, np.zeros_like(W)):
            given = G.copy(), other.copy(), W.copy()
            answer, wrong = as_array(function(*given), ())
            if wrong:
                return wrong
            if not _same(given, (G, other, W)):
                return "an input was modified in place; work on new arrays"
            D = other - W
            right = np.sqrt(np.sum((D @ G) * D) / np.sum((W @ G) * W))
            if not np.isclose(answer, right, atol=1e-9):
                return _wrong_error(float(answer), right, G, other, W)
    return None


def _wrong_error(answer: float, right: float, G: Matrix, Z: Matrix, W: Matrix) -> str:
    D = Z - W
    top, below = np.sum((D @ G) * D), np.sum((W @ G) * W)
    known = (
        (right**2, "this is the square of the error; the root is missing"),
        (np.sqrt(top), "the error is not relative: divide by what W computes"),
        (top, "neither the division by what W computes nor the root is there"),
        (
            np.linalg.norm(D) / np.linalg.norm(W),
            "this is the error of the weights; G, which knows the inputs, is not used",
        ),
        (
            np.linalg.norm(D @ G) / np.linalg.norm(W @ G),
            "this is ||D G|| / ||W G||: the squared error of a row d is d^T G d, with G once",
        ),
        (
            np.sqrt(np.sum((Z @ G) * Z) / below),
            "this is the size of what Z computes; take the difference Z - W first",
        ),
        (np.sqrt(top / max(np.sum((Z @ G) * Z), 1e-300)), "divide by what W computes, not Z"),
        (
            np.sqrt(np.sum(D**2 * np.diag(G)) / np.sum(W**2 * np.diag(G))),
            "only the diagonal of G is used; correlated inputs add up",
        ),
        (np.sqrt(np.sum(D @ G @ D.T) / np.sum(W @ G @ W.T)) if below else 0.0,
         "sum d^T G d over rows: the trace of D G D^T, not the sum of all its entries"),
    )  # fmt: skip
    for value, sentence in known:
        if np.isclose(answer, value):
            return sentence
    return f"it gives {answer:.4f}, expected {right:.4f}"


@exercise("05.aware_mask")
def aware_mask(function: Callable[[Matrix, Matrix, int], Matrix]) -> Verdict:
    """Check the choice by |w| * rms, on a square layer first and on others."""
    for p, n, k, seed in ((6, 6, 2, 0), (4, 9, 3, 1), (3, 5, 5, 2)):
        W, G = _layer(p, n, seed)
        given = W.copy(), G.copy()
        answer = function(*given, k)
        if np.shape(answer) == (p, k) and k != n:
            return f"the places are returned, shape {(p, k)}; return a mask of shape {(p, n)}"
        mask, wrong = as_array(answer, (p, n))
        if wrong:
            return wrong
        if not _same(given, (W, G)):
            return "an input was modified in place; work on new arrays"
        right = _top(np.abs(W) * np.sqrt(np.diag(G)), k)
        if np.array_equal(mask, W * right) and not np.array_equal(mask, right):
            return "the weights that stay are returned; return the mask, True where they stay"
        if not np.array_equal(mask, right):
            return _wrong_mask(mask, W, G, k)
    return None


def _top(score: Matrix, k: int) -> Matrix:
    mask = np.zeros(score.shape, dtype=bool)
    np.put_along_axis(mask, np.argsort(-score, axis=1)[:, :k], True, axis=1)
    return mask


def _wrong_mask(mask: Matrix, W: Matrix, G: Matrix, k: int) -> str:
    rms, size = np.sqrt(np.diag(G)), np.abs(W)
    score = size * rms
    known = (
        (
            _top(size, k),
            "this is the choice by magnitude; multiply every column by the rms of its input",
        ),
        (_top(W * rms, k), "negative weights are overlooked; the score needs |W|"),
        (_top(-score, k), "the smallest scores are kept; the largest must stay"),
        (_top(size * np.diag(G), k), "the mean square is used; its root, the rms, is missing"),
        (_top(size / rms, k), "the magnitude is divided by the rms; multiply"),
        (~_top(score, k), "the mask is inverted: True means that the weight stays"),
        (
            score >= np.sort(score, axis=None)[-k * len(W)],
            "the k largest must be chosen in every row, not over the whole layer",
        ),
        (_top(score.T, k).T, "k entries of each column were chosen; choose along the row"),
        (_top(np.broadcast_to(rms, W.shape), k), "the score has only the rms; multiply by |W|"),
    )
    for value, sentence in known:
        if np.array_equal(mask, value):
            return sentence
    per_row = np.unique(np.count_nonzero(mask, axis=1))
    if not np.array_equal(per_row, [k]):
        return f"the rows keep {', '.join(map(str, per_row))} entries, expected {k} in every row"
    return "other entries have a larger score |w| * sqrt(G[j, j])"


@exercise("05.refit_row")
def refit_row(function: Callable[[Matrix, Matrix, Matrix], Matrix]) -> Verdict:
    """Check least squares on a support, given in no order."""
    for n, S, seed in ((8, [6, 1, 3], 0), (12, [0, 11, 5, 7, 2], 1)):
        W, G = _layer(1, n, seed)
        w, S = W[0], np.array(S)
        given = w.copy(), G.copy(), S.copy()
        answer = function(*given)
        if isinstance(answer, np.ndarray) and answer.shape == S.shape:
            return f"only the values on S are returned, shape {S.shape}; write them into n zeros"
        z, wrong = as_array(answer, (n,))
        if wrong:
            return wrong
        if not _same(given, (w, G, S)):
            return "an input was modified in place (z = w is no copy); start from np.zeros_like(w)"
        values = np.linalg.solve(G[np.ix_(S, S)], G[S] @ w)
        right = np.zeros(n)
        right[S] = values
        if not np.allclose(z, right):
            return _wrong_refit(z, w, G, S, values)
    return None


def _wrong_refit(z: Matrix, w: Matrix, G: Matrix, S: Matrix, values: Matrix) -> str:
    block = G[np.ix_(S, S)]
    if not np.any(z):
        return "z is all zeros; are the solved values written into it?"
    if np.any(np.delete(z, S)):
        return f"{np.count_nonzero(np.delete(z, S))} entries off S are not zero"
    off = np.delete(np.arange(w.size), S)
    known = (
        (
            w[S],
            "the survivors keep their old values: the right-hand side is G[S] @ w with all of w, "
            "the cut weights too",
        ),
        (G[S] @ w, "this is the right-hand side G[S] @ w; solve with the block of G on S"),
        (
            np.linalg.solve(block, w[S]),
            "the right-hand side is w[S]; it must be G[S] @ w",
        ),
        (
            np.linalg.solve(block, G[np.ix_(S, off)] @ w[off]),
            "this is only the correction; the old values w[S] are missing",
        ),
        (
            w[S] - np.linalg.solve(block, G[np.ix_(S, off)] @ w[off]),
            "the correction has the wrong sign",
        ),
        ((G[S] @ w) / np.diag(G)[S], "only the diagonal of the block is inverted"),
        (np.linalg.inv(G)[S] @ w, "all of G is inverted; take the block G[np.ix_(S, S)]"),
    )
    for value, sentence in known:
        if np.allclose(z[S], value):
            return sentence
    if np.allclose(np.sort(z[S]), np.sort(values)):
        return "the right values in the wrong order; value i belongs to position S[i]"
    return "the values on S do not solve G[S, S] z_S = G[S] @ w"


@exercise("05.bregman_step")
def bregman_step(function: Callable[..., tuple[Matrix, Matrix]]) -> Verdict:
    """Check one step of linearized Bregman iteration, away from the start."""
    rng = np.random.default_rng(4)
    for p, n, lam in ((3, 5, 0.4), (4, 4, 1.0)):
        W, G = _layer(p, n, seed=n)
        V = 2 * rng.standard_normal((p, n))
        Z = _soft(V, lam)
        given = V.copy(), Z.copy(), W.copy(), G.copy()
        answer = function(*given, lam)
        if answer is None:
            return "the function returns None; does it end with a return line?"
        if isinstance(answer, np.ndarray) and answer.shape == (p, n):
            return "one matrix is returned; return the pair V, Z"
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            return f"the function returns a {type(answer).__name__}, expected the pair V, Z"
        new = []
        for part, name in zip(answer, "VZ", strict=True):
            array, wrong = as_array(part, (p, n))
            if wrong:
                return f"for {name}: {wrong}"
            new.append(array)
        if not _same(given, (V, Z, W, G)):
            return "an input was modified in place; write V = V - ..., not V -= ..."
        right = V - (Z - W) @ G / np.linalg.norm(G, 2)
        if not np.allclose(new[0], right):
            return _wrong_dual(new, V, Z, W, G, lam)
        if not np.allclose(new[1], _soft(right, lam)):
            return _wrong_primal(new[1], V, right, G, lam)
    return None


def _soft(v: Matrix, t: float) -> Matrix:
    return np.sign(v) * np.maximum(np.abs(v) - t, 0)


def _wrong_dual(new: list[Matrix], V: Matrix, Z: Matrix, W: Matrix, G: Matrix, lam: float) -> str:
    L, gradient = np.linalg.norm(G, 2), (Z - W) @ G
    known = (
        (_soft(V - gradient / L, lam), "V itself is thresholded; V stays dense, Z is its shadow"),
        (V + gradient / L, "the sign is wrong: V moves against the gradient (Z - W) G"),
        (V - (V - W) @ G / L, "the gradient is taken at V; it must be taken at Z"),
        (Z - gradient / L, "V is built from Z, so it forgets; build it from the old V"),
        (V - gradient, "the step 1/L is missing"),
        (V - gradient * L, "the gradient is multiplied by L; divide by it"),
        (V - gradient / np.linalg.norm(G), "L is the spectral norm, np.linalg.norm(G, 2)"),
        (V - gradient / L**2, "L is ||G||_2, not its square: G is A^T A already"),
        (V - (Z - W) / L, "the Gram matrix is missing in the gradient (Z - W) G"),
        (V - lam * gradient / L, "lam belongs to the threshold, not to the step"),
        (V, "V has not moved"),
    )
    for value, sentence in known:
        if np.allclose(new[0], value):
            return sentence
    if np.allclose(new[1], V - gradient / L):
        return "V and Z are returned in the wrong order"
    return "the new V is not V - (Z - W) G / L"


def _wrong_primal(Z: Matrix, old: Matrix, V: Matrix, G: Matrix, lam: float) -> str:
    known = (
        (V, "Z equals V: the threshold is missing"),
        (_soft(V, lam / np.linalg.norm(G, 2)), "the threshold is lam / L; here it is lam itself"),
        (_soft(old, lam), "Z is made from the old V; threshold the new one"),
        (np.where(np.abs(V) > lam, V, 0), "this is the hard threshold; soft also shrinks by lam"),
    )
    for value, sentence in known:
        if np.allclose(Z, value):
            return sentence
    return "V is right, but Z is not soft_threshold(V, lam)"
