"""Checks of the exercises of notebook 05, a layer is a sensing problem."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cspkit.recovery import soft_threshold
from cspkit.teach.cases import Case, table

Matrix = np.ndarray


def _layer(p: int, n: int, seed: int) -> tuple[Matrix, Matrix]:
    """Weights (p, n) and the Gram matrix (n, n) of correlated inputs of unequal size."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((60, n)) @ rng.standard_normal((n, n)) * rng.uniform(0.2, 2, n)
    return rng.standard_normal((p, n)), A.T @ A / 60


def _made(p: int, n: int) -> str:
    return f"a random W {(p, n)} and G = A^T A / 60 of 60 correlated inputs"


def _energy(D: Matrix, G: Matrix) -> float:
    return np.sum((D @ G) * D)


def _error(
    combine: Callable[[float, float, float], float] = lambda top, below, kept: np.sqrt(top / below),
    gram: Callable[[Matrix], Matrix] = lambda G: G,
    energy: Callable[[Matrix, Matrix], float] = _energy,
):
    """The relative output error; the options make its typical mistakes."""

    def answer(G: Matrix, Z: Matrix, W: Matrix) -> float:
        G = gram(G)
        with np.errstate(divide="ignore", invalid="ignore"):
            return combine(energy(Z - W, G), energy(W, G), energy(Z, G))

    return answer


def _error_cases() -> list[Case]:
    cases = [
        Case(
            "the example, G = diag(1, 4), W = [[3, 2]], Z = [[3, 0]]",
            (np.diag([1, 4]), np.array([[3, 0]]), np.array([[3, 2]])),
        )
    ]
    for p, n in ((4, 6), (5, 5)):
        W, G = _layer(p, n, seed=p)
        half = W * (np.random.default_rng(1).random((p, n)) < 0.5)
        for Z, what in (
            (half, "W with half of its entries zero"),
            (0.9 * W, "0.9 W"),
            (W, "W"),
            (0 * W, "0"),
        ):
            cases.append(Case(f"{_made(p, n)}, Z = {what}", (G, Z, W)))
    return cases


table(
    "05.gram_error",
    _error(),
    _error_cases(),
    [
        (
            _error(lambda top, below, kept: top / below),
            "this is the square of the error; the root is missing",
        ),
        (
            _error(lambda top, below, kept: np.sqrt(top)),
            "the error is not relative: divide by what W computes",
        ),
        (
            _error(lambda top, below, kept: top),
            "neither the division by what W computes nor the root is there",
        ),
        (
            _error(gram=lambda G: np.eye(len(G))),
            "this is the error of the weights; G, which knows the inputs, is not used",
        ),
        (
            _error(gram=lambda G: G @ G),
            "this is ||D G|| / ||W G||: the squared error of a row d is d^T G d, with G once",
        ),
        (
            _error(lambda top, below, kept: np.sqrt(kept / below)),
            "this is the size of what Z computes; take the difference Z - W first",
        ),
        (
            _error(lambda top, below, kept: np.sqrt(top / kept)),
            "divide by what W computes, not Z",
        ),
        (
            _error(gram=lambda G: np.diag(np.diag(G))),
            "only the diagonal of G is used; correlated inputs add up",
        ),
        (
            _error(
                lambda top, below, kept: np.sqrt(abs(top / below)),
                energy=lambda D, G: np.sum(D @ G @ D.T),
            ),
            "sum d^T G d over rows: the trace of D G D^T, not the sum of all its entries",
        ),
    ],
)


def _top(score: Matrix, k: int) -> Matrix:
    mask = np.zeros(score.shape, dtype=bool)
    np.put_along_axis(mask, np.argsort(-score, axis=1)[:, :k], True, axis=1)
    return mask


def _mask(score: Callable[[Matrix, Matrix], Matrix] = lambda W, rms: np.abs(W) * rms):
    return lambda W, G, k: _top(score(W, np.sqrt(np.diag(G))), k)


def _score(W: Matrix, G: Matrix) -> Matrix:
    return np.abs(W) * np.sqrt(np.diag(G))


def _mask_cases() -> list[Case]:
    cases = [Case("the example, W = [[3, 2]], G = diag(1, 4), k = 1",
                  (np.array([[3, 2]]), np.diag([1, 4]), 1))]  # fmt: skip
    for p, n, k, seed in ((6, 6, 2, 0), (4, 9, 3, 1), (3, 5, 5, 2)):
        cases.append(Case(f"{_made(p, n)}, k = {k}", (*_layer(p, n, seed), k)))
    return cases


def _wrong_mask(answer: object, right: Matrix, inputs: tuple) -> str:
    per_row, k = np.unique(np.count_nonzero(answer, axis=1)), inputs[2]
    if not np.array_equal(per_row, [k]):
        return f"the rows keep {', '.join(map(str, per_row))} entries, expected {k} in every row"
    return "other entries have a larger score |w| * sqrt(G[j, j])"


table(
    "05.aware_mask",
    _mask(),
    _mask_cases(),
    [
        (
            lambda W, G, k: np.argsort(-_score(W, G), axis=1)[:, :k],
            "the places are returned; return a mask of the shape of W",
        ),
        (
            lambda W, G, k: W * _top(_score(W, G), k),
            "the weights that stay are returned; return the mask, True where they stay",
        ),
        (
            _mask(lambda W, rms: np.abs(W)),
            "this is the choice by magnitude; multiply every column by the rms of its input",
        ),
        (
            lambda W, G, k: _top(np.abs(W) * np.sqrt(np.diag(G))[:, None], k),
            "every row is multiplied by an rms; multiply every column by the rms of its input",
        ),
        (_mask(lambda W, rms: W * rms), "negative weights are overlooked; the score needs |W|"),
        (
            _mask(lambda W, rms: -np.abs(W) * rms),
            "the smallest scores are kept; the largest must stay",
        ),
        (
            _mask(lambda W, rms: np.abs(W) * rms**2),
            "the mean square is used; its root, the rms, is missing",
        ),
        (
            _mask(lambda W, rms: np.abs(W) / rms),
            "the magnitude is divided by the rms; multiply",
        ),
        (
            lambda W, G, k: ~_top(_score(W, G), k),
            "the mask is inverted: True means that the weight stays",
        ),
        (
            lambda W, G, k: _score(W, G) >= np.sort(_score(W, G), axis=None)[-k * len(W)],
            "the k largest must be chosen in every row, not over the whole layer",
        ),
        (
            lambda W, G, k: _top(_score(W, G).T, k).T,
            "k entries of each column were chosen; choose along the row",
        ),
        (_mask(lambda W, rms: rms + 0 * W), "the score has only the rms; multiply by |W|"),
    ],
    _wrong_mask,
)


def _refit(
    values: Callable[[Matrix, Matrix, Matrix], Matrix] = lambda w, G, S: np.linalg.solve(
        G[np.ix_(S, S)], G[S] @ w
    ),
    into: Callable[[Matrix], Matrix] = lambda w: np.zeros(w.size),
    order: Callable[[Matrix], Matrix] = lambda S: S,
):
    """The corrected row; the options make its typical mistakes."""

    def answer(w: Matrix, G: Matrix, support: Matrix) -> Matrix:
        z = into(w)
        z[order(support)] = values(w, G, support)
        return z

    return answer


def _correction(w: Matrix, G: Matrix, S: Matrix) -> Matrix:
    off = np.delete(np.arange(w.size), S)
    return np.linalg.solve(G[np.ix_(S, S)], G[np.ix_(S, off)] @ w[off])


def _refit_cases() -> list[Case]:
    cases = [
        Case(
            "the example, w = (2, 1), G = [[1, 0.5], [0.5, 1]], support [0]",
            (np.array([2, 1]), np.array([[1, 0.5], [0.5, 1]]), np.array([0])),
        )
    ]
    for n, support, seed in ((8, [6, 1, 3], 0), (12, [0, 11, 5, 7, 2], 1)):
        W, G = _layer(1, n, seed)
        cases.append(Case(f"{_made(1, n)}, support {support}", (W[0], G, np.array(support))))
    return cases


def _wrong_refit(answer: object, right: Matrix, inputs: tuple) -> str:
    z, support = np.asarray(answer), inputs[2]
    if not np.any(z):
        return "z is all zeros; are the solved values written into it?"
    if np.any(np.delete(z, support)):
        return f"{np.count_nonzero(np.delete(z, support))} entries off the support are not zero"
    return "the values on the support do not solve G[S, S] z_S = G[S] @ w"


table(
    "05.refit_row",
    _refit(),
    _refit_cases(),
    [
        (
            lambda w, G, S: _refit()(w, G, S)[S],
            "only the values on the support are returned; write them into n zeros",
        ),
        (
            _refit(into=np.zeros_like),
            "the values are cut to integers, since np.zeros_like(w) has the type of w; "
            "use np.zeros(w.size)",
        ),
        (
            _refit(lambda w, G, S: w[S]),
            "the survivors keep their old values: the right-hand side is G[S] @ w with all of w, "
            "the cut weights too",
        ),
        (
            _refit(lambda w, G, S: G[S] @ w),
            "this is the right-hand side G[S] @ w; solve with the block of G on S",
        ),
        (
            _refit(lambda w, G, S: np.linalg.solve(G[np.ix_(S, S)], w[S])),
            "the right-hand side is w[S]; it must be G[S] @ w",
        ),
        (_refit(_correction), "this is only the correction; the old values w[S] are missing"),
        (_refit(lambda w, G, S: w[S] - _correction(w, G, S)), "the correction has the wrong sign"),
        (
            _refit(lambda w, G, S: (G[S] @ w) / np.diag(G)[S]),
            "only the diagonal of the block is inverted",
        ),
        (
            _refit(lambda w, G, S: np.linalg.inv(G)[S] @ w),
            "all of G is inverted; take the block G[np.ix_(S, S)]",
        ),
        (
            _refit(order=np.sort),
            "the right values in the wrong order; value i belongs to position support[i]",
        ),
    ],
    _wrong_refit,
)


def _bregman(
    dual: Callable = lambda V, Z, W, G, lam, L: V - (Z - W) @ G / L,
    primal: Callable = lambda new, old, G, lam: soft_threshold(new, lam),
):
    """A step on the layer; the options make its typical mistakes."""

    def answer(V: Matrix, Z: Matrix, W: Matrix, G: Matrix, lam: float) -> tuple[Matrix, Matrix]:
        new = dual(V, Z, W, G, lam, np.linalg.norm(G, 2))
        return new, primal(new, V, G, lam)

    return answer


def _thresholded(*a) -> tuple[Matrix, Matrix]:
    Z = _bregman()(*a)[1]
    return Z, Z


def _bregman_cases() -> list[Case]:
    zero = np.zeros((1, 2))
    cases = [
        Case(
            "the example, V = Z = 0, W = [[3, -1]], G = I, lam = 2",
            (zero, zero, np.array([[3, -1]]), np.eye(2), 2.0),
        )
    ]
    rng = np.random.default_rng(4)
    for p, n, lam in ((3, 5, 0.4), (4, 4, 1.0)):
        W, G = _layer(p, n, seed=n)
        V = 2 * rng.standard_normal((p, n))
        where = f"{_made(p, n)}, a random V, Z = soft_threshold(V, lam), lam = {lam}"
        cases.append(Case(where, (V, soft_threshold(V, lam), W, G, lam)))
    return cases


def _wrong_bregman(answer: object, right: tuple, inputs: tuple) -> str:
    if np.allclose(answer[0], right[0]):
        return "V is right, but Z is not soft_threshold(V, lam)"
    return "the new V is not V - (Z - W) G / L"


table(
    "05.bregman_step",
    _bregman(),
    _bregman_cases(),
    [
        (_thresholded, "V itself is thresholded; V stays dense, only Z is thresholded"),
        (lambda *a: _bregman()(*a)[::-1], "V and Z are returned in the wrong order"),
        (lambda *a: _bregman()(*a)[0], "only V is returned; return the pair V, Z"),
        (lambda *a: _bregman()(*a)[1], "only Z is returned; return the pair V, Z"),
        (
            _bregman(lambda V, Z, W, G, lam, L: V + (Z - W) @ G / L),
            "the sign is wrong: V moves against the gradient (Z - W) G",
        ),
        (
            _bregman(lambda V, Z, W, G, lam, L: V - (V - W) @ G / L),
            "the gradient is taken at V; it must be taken at Z",
        ),
        (
            _bregman(lambda V, Z, W, G, lam, L: Z - (Z - W) @ G / L),
            "V is built from Z, so it forgets; build it from the old V",
        ),
        (_bregman(lambda V, Z, W, G, lam, L: V - (Z - W) @ G), "the step 1/L is missing"),
        (
            _bregman(lambda V, Z, W, G, lam, L: V - (Z - W) @ G * L),
            "the gradient is multiplied by L; divide by it",
        ),
        (
            _bregman(lambda V, Z, W, G, lam, L: V - (Z - W) @ G / np.linalg.norm(G)),
            "L is the spectral norm, np.linalg.norm(G, 2)",
        ),
        (
            _bregman(lambda V, Z, W, G, lam, L: V - (Z - W) @ G / L**2),
            "L is ||G||_2, not its square: G is A^T A already",
        ),
        (
            _bregman(lambda V, Z, W, G, lam, L: V - (Z - W) / L),
            "the Gram matrix is missing in the gradient (Z - W) G",
        ),
        (
            _bregman(lambda V, Z, W, G, lam, L: V - lam * (Z - W) @ G / L),
            "lam belongs to the threshold, not to the step",
        ),
        (_bregman(lambda V, Z, W, G, lam, L: V), "V has not moved"),
        (_bregman(primal=lambda V, old, G, lam: V), "Z equals V: the threshold is missing"),
        (
            _bregman(primal=lambda V, old, G, lam: soft_threshold(V, lam / np.linalg.norm(G, 2))),
            "the threshold is lam / L; here it is lam itself",
        ),
        (
            _bregman(primal=lambda V, old, G, lam: soft_threshold(old, lam)),
            "Z is made from the old V; threshold the new one",
        ),
        (
            _bregman(primal=lambda V, old, G, lam: np.where(np.abs(V) > lam, V, 0)),
            "this is the hard threshold; soft also shrinks by lam",
        ),
    ],
    _wrong_bregman,
    parts=("V", "Z"),
)
