"""Checks of the exercises of notebook 05, a layer is a sensing problem."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cspkit.recovery import soft_threshold
from cspkit.teach.cases import table
from cspkit.teach.checks.systems import Array, scatter


def layer(p: int, n: int, seed: int) -> str:
    """Code of a layer: weights, and the Gram matrix of correlated inputs of unequal size."""
    return (
        f"rng = default_rng({seed}); A = rng.standard_normal((60, {n})) @ "
        f"rng.standard_normal(({n}, {n})) * rng.uniform(0.2, 2, {n}); G = A.T @ A / 60; "
        f"W = rng.standard_normal(({p}, {n})); "
    )


def energy(D: Array, G: Array) -> float:
    return np.sum((D @ G) * D)


def error(
    combine: Callable = lambda top, below, kept: np.sqrt(top / below),
    gram: Callable = lambda G: G,
    energy: Callable = energy,
) -> Callable:
    """The relative output error; the options make its typical mistakes."""

    def answer(G: Array, Z: Array, W: Array) -> float:
        return combine(*(energy(D, gram(G)) for D in (Z - W, W, Z)))

    return answer


table(
    "05.gram_error",
    lambda G, Z, W: error()(G, Z, W),
    [
        (np.diag([1, 4]), np.array([[3, 0]]), np.array([[3, 2]])),
        *(layer(p, n, seed=p) + Z for p, n in ((4, 6), (5, 5))
          for Z in ("Z = W * (rng.random(W.shape) < 0.5)", "Z = 0.9 * W", "Z = W", "Z = 0 * W")),
    ],
    [
        (error(lambda top, below, kept: top / below),
         "this is the square of the error; the root is missing"),
        (error(lambda top, below, kept: np.sqrt(top)),
         "the error is not relative: divide by what W computes"),
        (error(lambda top, below, kept: top),
         "neither the division by what W computes nor the root is there"),
        (error(gram=lambda G: np.eye(len(G))),
         "this is the error of the weights; G, which knows the inputs, is not used"),
        (error(gram=lambda G: G @ G),
         "this is ||D G|| / ||W G||: the squared error of a row d is d^T G d, with G once"),
        (error(lambda top, below, kept: np.sqrt(kept / below)),
         "this is the size of what Z computes; take the difference Z - W first"),
        (error(lambda top, below, kept: np.sqrt(top / kept)), "divide by what W computes, not Z"),
        (error(gram=lambda G: np.diag(np.diag(G))),
         "only the diagonal of G is used; correlated inputs add up"),
        (error(lambda top, below, kept: np.sqrt(abs(top / below)),
               energy=lambda D, G: np.sum(D @ G @ D.T)),
         "sum d^T G d over rows: the trace of D G D^T, not the sum of all its entries"),
    ],
    right="G has n^2 entries, however many inputs m there are: A itself need not be kept.",
)  # fmt: skip


def top(score: Array, k: int) -> Array:
    mask = np.zeros(score.shape, dtype=bool)
    np.put_along_axis(mask, np.argsort(-score, axis=1)[:, :k], True, axis=1)
    return mask


def mask(score: Callable = lambda W, rms: np.abs(W) * rms) -> Callable:
    return lambda W, G, k: top(score(W, np.sqrt(np.diag(G))), k)


def aware(W: Array, G: Array) -> Array:
    return np.abs(W) * np.sqrt(np.diag(G))


def wrong_mask(answer: Array, right: Array, inputs: tuple) -> str:
    per_row, k = np.unique(np.count_nonzero(answer, axis=1)), inputs[2]
    if not np.array_equal(per_row, [k]):
        return f"the rows keep {', '.join(map(str, per_row))} entries, expected {k} in every row"
    return "other entries have a larger score |w| * sqrt(G[j, j])"


table(
    "05.aware_mask",
    lambda W, G, k: mask()(W, G, k),
    [
        (np.array([[3, 2]]), np.diag([1, 4]), 1),
        *(f"{layer(p, n, seed)}k = {k}" for p, n, k, seed in
          ((6, 6, 2, 0), (4, 9, 3, 1), (3, 5, 5, 2))),
    ],
    [
        (lambda W, G, k: np.argsort(-aware(W, G), axis=1)[:, :k],
         "the places are returned; return a mask of the shape of W"),
        (lambda W, G, k: W * top(aware(W, G), k),
         "the weights that stay are returned; return the mask, True where they stay"),
        (mask(lambda W, rms: np.abs(W)),
         "this is the choice by magnitude; multiply every column by the rms of its input"),
        (lambda W, G, k: top(np.abs(W) * np.sqrt(np.diag(G))[:, None], k),
         "every row is multiplied by an rms; multiply every column by the rms of its input"),
        (mask(lambda W, rms: W * rms), "negative weights are overlooked; the score needs |W|"),
        (mask(lambda W, rms: -np.abs(W) * rms),
         "the smallest scores are kept; the largest must stay"),
        (mask(lambda W, rms: np.abs(W) * rms**2),
         "the mean square is used; its root, the rms, is missing"),
        (mask(lambda W, rms: np.abs(W) / rms), "the magnitude is divided by the rms; multiply"),
        (lambda W, G, k: ~top(aware(W, G), k),
         "the mask is inverted: True means that the weight stays"),
        (lambda W, G, k: aware(W, G) >= np.sort(aware(W, G), axis=None)[-k * len(W)],
         "the k largest must be chosen in every row, not over the whole layer"),
        (lambda W, G, k: top(aware(W, G).T, k).T,
         "k entries of each column were chosen; choose along the row"),
        (mask(lambda W, rms: rms + 0 * W), "the score has only the rms; multiply by |W|"),
    ],
    wrong_mask,
    right="If all inputs have the same rms, this is the choice by magnitude.",
)  # fmt: skip


def refit(values: Callable = lambda w, G, S: np.linalg.solve(G[np.ix_(S, S)], G[S] @ w),
          order: Callable = lambda S: S) -> Callable:  # fmt: skip
    """The corrected row; the options make its typical mistakes."""
    return lambda w, G, S: scatter(w.size, order(S), values(w, G, S))


def correction(w: Array, G: Array, S: Array) -> Array:
    off = np.delete(np.arange(w.size), S)
    return np.linalg.solve(G[np.ix_(S, S)], G[np.ix_(S, off)] @ w[off])


def wrong_refit(answer: Array, right: Array, inputs: tuple) -> str:
    z, support = np.asarray(answer), inputs[2]
    if not np.any(z):
        return "z is all zeros; are the solved values written into it?"
    if np.any(np.delete(z, support)):
        return f"{np.count_nonzero(np.delete(z, support))} entries off the support are not zero"
    return "the values on the support do not solve G[S, S] z_S = G[S] @ w"


table(
    "05.refit_row",
    lambda w, G, support: refit()(w, G, support),
    [
        (np.array([2, 1]), np.array([[1, 0.5], [0.5, 1]]), np.array([0])),
        *(f"{layer(1, n, seed)}w = W[0]; support = np.array({support})"
          for n, support, seed in ((8, [6, 1, 3], 0), (12, [0, 11, 5, 7, 2], 1))),
    ],
    [
        (lambda w, G, S: refit()(w, G, S)[S],
         "only the values on the support are returned; write them into n zeros"),
        (lambda w, G, S: refit()(w, G, S).astype(w.dtype),
         "the values are cut to integers, since np.zeros_like(w) has the type of w; "
         "use np.zeros(w.size)"),
        (refit(lambda w, G, S: w[S]),
         "the survivors keep their old values: the right-hand side is G[S] @ w with all of w, "
         "the cut weights too"),
        (refit(lambda w, G, S: G[S] @ w),
         "this is the right-hand side G[S] @ w; solve with the block of G on S"),
        (refit(lambda w, G, S: np.linalg.solve(G[np.ix_(S, S)], w[S])),
         "the right-hand side is w[S]; it must be G[S] @ w"),
        (refit(correction), "this is only the correction; the old values w[S] are missing"),
        (refit(lambda w, G, S: w[S] - correction(w, G, S)), "the correction has the wrong sign"),
        (refit(lambda w, G, S: (G[S] @ w) / np.diag(G)[S]),
         "only the diagonal of the block is inverted"),
        (refit(lambda w, G, S: np.linalg.inv(G)[S] @ w),
         "all of G is inverted; take the block G[np.ix_(S, S)]"),
        (refit(order=np.sort),
         "the right values in the wrong order; value i belongs to position support[i]"),
    ],
    wrong_refit,
    right="If no kept input is correlated with a cut one, the kept weights keep their values.",
)  # fmt: skip


def bregman(
    dual: Callable = lambda V, Z, W, G, lam, L: V - (Z - W) @ G / L,
    primal: Callable = lambda new, old, G, lam: soft_threshold(new, lam),
) -> Callable:
    """A step on the layer; the options make its typical mistakes."""

    def answer(V: Array, Z: Array, W: Array, G: Array, lam: float) -> tuple[Array, Array]:
        new = dual(V, Z, W, G, lam, np.linalg.norm(G, 2))
        return new, primal(new, V, G, lam)

    return answer


def wrong_bregman(answer: tuple, right: tuple, inputs: tuple) -> str:
    if np.allclose(answer[0], right[0]):
        return "V is right, but Z is not soft_threshold(V, lam)"
    return "the new V is not V - (Z - W) G / L"


table(
    "05.bregman_step",
    lambda V, Z, W, G, lam: bregman()(V, Z, W, G, lam),
    [
        (np.zeros((1, 2)), np.zeros((1, 2)), np.array([[3, -1]]), np.eye(2), 2.0),
        *(f"{layer(p, n, seed=n)}lam = {lam}; V = 2 * rng.standard_normal(W.shape); "
          "Z = np.sign(V) * np.maximum(np.abs(V) - lam, 0)"
          for p, n, lam in ((3, 5, 0.4), (4, 4, 1.0))),
    ],
    [
        (lambda *a: (bregman()(*a)[1],) * 2,
         "V itself is thresholded; V stays dense, only Z is thresholded"),
        (lambda *a: bregman()(*a)[::-1], "V and Z are returned in the wrong order"),
        (lambda *a: bregman()(*a)[0], "only V is returned; return the pair V, Z"),
        (lambda *a: bregman()(*a)[1], "only Z is returned; return the pair V, Z"),
        (bregman(lambda V, Z, W, G, lam, L: V + (Z - W) @ G / L),
         "the sign is wrong: V moves against the gradient (Z - W) G"),
        (bregman(lambda V, Z, W, G, lam, L: V - (V - W) @ G / L),
         "the gradient is taken at V; it must be taken at Z"),
        (bregman(lambda V, Z, W, G, lam, L: Z - (Z - W) @ G / L),
         "V is built from Z, so it forgets; build it from the old V"),
        (bregman(lambda V, Z, W, G, lam, L: V - (Z - W) @ G), "the step 1/L is missing"),
        (bregman(lambda V, Z, W, G, lam, L: V - (Z - W) @ G * L),
         "the gradient is multiplied by L; divide by it"),
        (bregman(lambda V, Z, W, G, lam, L: V - (Z - W) @ G / np.linalg.norm(G)),
         "L is the spectral norm, np.linalg.norm(G, 2)"),
        (bregman(lambda V, Z, W, G, lam, L: V - (Z - W) @ G / L**2),
         "L is ||G||_2, not its square: G is A^T A already"),
        (bregman(lambda V, Z, W, G, lam, L: V - (Z - W) / L),
         "the Gram matrix is missing in the gradient (Z - W) G"),
        (bregman(lambda V, Z, W, G, lam, L: V - lam * (Z - W) @ G / L),
         "lam belongs to the threshold, not to the step"),
        (bregman(lambda V, Z, W, G, lam, L: V), "V has not moved"),
        (bregman(primal=lambda V, old, G, lam: V), "Z equals V: the threshold is missing"),
        (bregman(primal=lambda V, old, G, lam: soft_threshold(V, lam / np.linalg.norm(G, 2))),
         "the threshold is lam / L; here it is lam itself"),
        (bregman(primal=lambda V, old, G, lam: soft_threshold(old, lam)),
         "Z is made from the old V; threshold the new one"),
        (bregman(primal=lambda V, old, G, lam: np.where(np.abs(V) > lam, V, 0)),
         "this is the hard threshold; soft also shrinks by lam"),
    ],
    wrong_bregman,
    parts=("V", "Z"),
    right="With the gradient of the loss, and the hard threshold, csp of notebook 10 does this.",
)  # fmt: skip
