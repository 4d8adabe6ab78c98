"""Checks of the exercises of notebook 01, sparse signals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cspkit.teach.check import Verdict, compare, exercise

Vector = np.ndarray


def _axis(
    a: Vector, y: float, choose: Callable = lambda a: np.argmax(np.abs(a)), of: Callable = float
) -> Vector:
    """Return the solution of a^T x = y on one axis; other options are typical mistakes."""
    x, j = np.zeros(a.size), choose(a)
    x[j] = y / of(a[j])
    return x


@exercise("01.smallest_l1")
def smallest_l1(function: Callable[[Vector, float], Vector]) -> Verdict:
    """Check the solution of one equation of smallest l1 norm."""
    inputs = [
        (np.array([3, 4]), 2),
        (np.array([1, -2]), 3),
        (np.array([3.0, 4.0]), 2.0),
        (np.array([-0.5, 1.0, 0.2, -4.0, 2.0]), -6.0),
        (np.array([0.5, 2.0, 1.0]), 0.0),
    ]
    wrong = compare(
        function,
        _axis,
        inputs,
        [
            (lambda a, y: _axis(a, y, of=abs), "the sign is lost: divide by a[j], not |a[j]|"),
            (
                lambda a, y: a * y / (a @ a),
                "this is the shortest point, where the circle touches; the diamond touches at a "
                "corner",
            ),
            (
                lambda a, y: _axis(a, y, np.argmax),
                "the largest a was chosen, but a negative one may be larger in magnitude: use |a|",
            ),
            (
                lambda a, y: _axis(a, y, lambda a: np.argmin(np.abs(a))),
                "the wrong axis: the largest |a_i| reaches y with the smallest |x_i|",
            ),
            (
                lambda a, y: _axis(a, y).astype(a.dtype),
                "integer input gives integers: make x with np.zeros(a.size), whose type is float",
            ),
            (
                lambda a, y: _axis(a, y) * a[np.argmax(np.abs(a))],
                "x does not solve the equation: a^T x must be y, so divide y by a[j]",
            ),
        ],
    )
    if wrong and wrong.startswith("for "):
        for a, y in inputs:
            x = np.asarray(function(a.copy(), y), dtype=float)
            if x.shape == a.shape and np.isclose(a @ x, y) and np.count_nonzero(x) > 1:
                return f"{wrong}: a smaller l1 norm is possible, on one axis"
    return wrong


def _soft(v: Vector, t: float) -> Vector:
    return np.sign(v) * np.maximum(np.abs(v) - t, 0)


@exercise("01.soft_threshold")
def soft_threshold(function: Callable[[Vector, float], Vector]) -> Verdict:
    """Check soft thresholding of a vector, and of an array with two axes."""
    v = np.array([-3.0, -1.5, -1.0, -0.25, 0.0, 0.5, 1.0, 2.0, 4.0])
    return compare(
        function,
        _soft,
        [
            (np.array([-3, 0.5, 2]), 1.0),
            (v, 1.0),
            (np.array([-3, 0, 2]), 1),
            (np.array([-3, 0, 2]), 0.5),
            *((v.reshape(3, 3), t) for t in (0.0, 0.5, 2.5)),
        ],
        [
            (lambda v, t: np.maximum(np.abs(v) - t, 0), "the sign of negative inputs is lost"),
            (lambda v, t: -_soft(v, t), "every sign is flipped"),
            (
                lambda v, t: np.maximum(v - t, 0),
                "all negative inputs become zero; treat magnitude and sign separately",
            ),
            (
                lambda v, t: np.where(np.abs(v) > t, v, 0),
                "this is hard thresholding: entries beyond t are kept whole, but must shrink by t",
            ),
            (
                lambda v, t: np.sign(v) * (np.abs(v) - t),
                "entries smaller than t change their sign; stop at zero with np.maximum(..., 0)",
            ),
            (
                lambda v, t: v - t,
                "t is subtracted from negative inputs too, which moves them away from zero",
            ),
            (
                lambda v, t: np.clip(v, -t, t),
                "this is the part that is cut off; the answer is v minus this part",
            ),
            (
                lambda v, t: np.sign(v) * np.maximum(np.abs(v), t),
                "this shrinks towards t instead of zero",
            ),
            (
                lambda v, t: np.where(np.abs(v) > t, v - t, 0),
                "negative inputs beyond -t move away from zero; they must move up by t",
            ),
            (
                lambda v, t: np.sign(v) * (np.abs(v) > t),
                "only the sign is returned; the magnitude |v| - t is missing",
            ),
            (
                lambda v, t: _soft(v, t).astype(v.dtype),
                "integer input gives integers: the answer needs the type float",
            ),
        ],
    )


def _ista(
    A: Vector,
    y: Vector,
    lam: float,
    steps: int,
    mistake: str = "",
) -> Vector:
    """ISTA; the options are typical mistakes."""
    L, x = np.linalg.norm(A, 2) ** 2, np.zeros(A.shape[1])
    if mistake == "not squared":
        L = np.linalg.norm(A, 2)
    if mistake == "frobenius":
        L = np.linalg.norm(A) ** 2
    ahead = x
    for i in range(1, steps + 1):
        r = y if mistake == "old residual" else y - A @ ahead
        move = -A.T @ r / L if mistake == "uphill" else A.T @ r / L
        t = {"threshold": lam, "no threshold": 0.0}.get(mistake, lam / L)
        before = _soft(ahead, t) + move if mistake == "first" else ahead + move
        x_new = before if mistake == "first" else _soft(before, t)
        if mistake == "no x":
            x_new = _soft(move, t)
        ahead = x_new + (i - 1) / (i + 2) * (x_new - x) if mistake == "momentum" else x_new
        x = x_new
        if mistake == "one step":
            break
    return x


@exercise("01.ista")
def ista(function: Callable[[Vector, Vector, float, int], Vector]) -> Verdict:
    """Check ISTA after no step, one step and several steps."""
    A = np.array([[0.9, -0.4, 0.3, 0.0], [0.2, 0.8, -0.5, 0.6], [-0.3, 0.1, 0.7, 0.5]])
    y = np.array([2.0, -1.5, 1.0])
    sentences = {
        "not squared": "the step uses ||A||_2; it must use L = ||A||_2^2",
        "frobenius": "this is the Frobenius norm; ||A||_2 is np.linalg.norm(A, 2)",
        "old residual": "the residual stays y; compute y - A x again in every step",
        "uphill": "the gradient step goes uphill: add A^T (y - A x) / L",
        "threshold": "the threshold is lam; it must be lam / L",
        "no threshold": "this is a gradient method without a threshold: apply soft_threshold",
        "first": "the threshold comes before the gradient step; first the step, then the threshold",
        "no x": "the gradient step starts from 0 every time; add it to x",
        "momentum": "this is FISTA; ISTA has no momentum",
        "one step": "only one step is taken; repeat the formula `steps` times",
    }
    return compare(
        function,
        _ista,
        [
            (2 * np.eye(2), np.array([4, 1]), 2.0, 1),
            *((A, y, lam, steps) for lam, steps in ((0.3, 1), (0.3, 2), (0.1, 7), (0.0, 3))),
            (A, y, 0.3, 0),
            (np.array([[1, 2], [0, 1]]), np.array([3, -1]), 1, 3),
        ],
        [
            (lambda *given, name=name: _ista(*given, mistake=name), sentence)
            for name, sentence in sentences.items()
        ],
    )


def _debias(A: Vector, y: Vector, support: Vector, values: Callable | None = None) -> Vector:
    """Least squares on a support; other values are typical mistakes."""
    x = np.zeros(A.shape[1])
    x[support] = (values or _fit)(A, y, support)
    return x


def _fit(A: Vector, y: Vector, support: Vector) -> Vector:
    return np.linalg.lstsq(A[:, support], y, rcond=None)[0]


def _all_columns(A: Vector, y: Vector, support: Vector) -> Vector:
    return np.linalg.lstsq(A, y, rcond=None)[0]


def _in_front(A: Vector, y: Vector, support: Vector) -> Vector:
    return np.concatenate([_fit(A, y, support), np.zeros(A.shape[1] - support.size)])


@exercise("01.debias")
def debias(function: Callable[[Vector, Vector, Vector], Vector]) -> Verdict:
    """Check least squares on a support, in any order, and on an empty one."""
    A = np.array(
        [
            [0.7, -0.2, 0.1, 0.9, -0.6, 0.3],
            [-0.4, 0.8, 0.5, 0.2, 0.3, -0.9],
            [0.1, 0.6, -0.7, 0.4, 0.8, 0.2],
            [0.5, 0.3, 0.9, -0.8, 0.1, 0.4],
        ]
    )
    y = np.array([1.0, -2.0, 0.5, 1.5])
    shown = np.array([[1, 0, 1], [0, 2, 1]]), np.array([3, 4]), np.array([0, 1])
    first = function(*(part.copy() for part in shown))
    if isinstance(first, np.ndarray) and first.shape == (2,):
        return (
            "only the values on the support are returned, shape (2,); "
            "write them into a vector of n zeros"
        )
    return compare(
        function,
        _debias,
        [
            shown,
            (A, y, np.array([5, 1, 2])),
            (A, y, np.array([4, 0])),
            (A, y, np.array([], dtype=int)),
            (np.array([[2, 1], [0, 1], [1, 1]]), np.array([1, 2, 4]), np.array([0, 1])),
        ],
        [
            (lambda A, y, support: np.zeros(A.shape[1]), "x is all zeros; write the values into x"),
            (
                _all_columns,
                "this is least squares with all columns; fit with A[:, support] only",
            ),
            (_in_front, "the right values in the wrong places: x[support] = values"),
            (
                lambda A, y, support: _debias(
                    A, y, np.sort(support), lambda *_: _fit(A, y, support)
                ),
                "the right values in the wrong order; value i belongs to position support[i]",
            ),
            (
                lambda *given: _debias(*given, lambda A, y, S: _all_columns(A, y, S)[S]),
                "all columns were fitted and the rest cut off; fit with A[:, support] only",
            ),
            (
                lambda *given: _debias(*given, lambda A, y, S: A[:, S].T @ y),
                "these are the correlations A_S^T y; least squares also undoes A_S^T A_S",
            ),
        ],
    )


def _pursuit(A: Vector, y: Vector, eps: float, mistake: str = "") -> Vector:
    """OMP until the residual's norm is at most eps; the options are typical mistakes."""
    x, support, r, done = np.zeros(A.shape[1]), [], y, False
    for _ in range(A.shape[0]):
        small = np.linalg.norm(r) ** (2 if mistake == "squared" else 1) <= eps
        if mistake == "entries":
            small = np.max(np.abs(r)) <= eps
        if (small and mistake not in ("late", "never", "after")) or done:
            break
        done = small and mistake == "late"
        correlation = A.T @ r
        j = np.argmax(correlation if mistake == "signed" else np.abs(correlation))
        support.append(j)
        if mistake == "no fit":
            x[j] += correlation[j] / (A[:, j] @ A[:, j])
        else:
            x[support] = _fit(A, y, support)
        r = y - A @ x
        if mistake == "after" and np.linalg.norm(r) <= eps:
            break
    return x


@exercise("01.omp_until")
def omp_until(function: Callable[[Vector, Vector, float], Vector]) -> Verdict:
    """Check OMP that stops at a residual norm, also where it needs no column or all of them."""
    A = np.array(
        [
            [0.8, -0.3, 0.1, 0.4, -0.5, 0.2],
            [-0.2, 0.7, 0.5, -0.1, 0.4, -0.6],
            [0.3, 0.2, -0.8, 0.5, 0.1, 0.4],
            [0.4, 0.6, 0.2, -0.7, 0.7, 0.6],
        ]
    )
    y = np.array([1.5, -2.0, 0.6, 0.4])
    sentences = {
        "squared": "the squared norm of the residual is compared with eps; compare the norm",
        "entries": "the largest entry of the residual is compared with eps; compare its l2 norm",
        "late": "one column too many: test the residual before a column is chosen, not after",
        "after": "a column is chosen where none is needed: test the residual before the choice",
        "signed": "columns with a negative correlation are overlooked: choose by |a_j^T r|",
        "no fit": "the values chosen earlier are not fitted again: least squares on the support",
        "never": "it never stops before all m columns are used; is eps compared with the norm?",
    }

    def zeros(A: Vector, y: Vector, eps: float) -> Vector:
        return np.zeros(A.shape[1])

    return compare(
        function,
        _pursuit,
        [
            (np.eye(3), np.array([3, -2, 0.1]), 0.5),
            *((A, y, eps) for eps in (1.5, 0.9, 0.3, 0.05)),
            (A, y, 5.0),
            (A, np.zeros(4), 0.0),
            (np.eye(3, dtype=int), np.array([3, -2, 1]), 1),
        ],
        [
            (lambda *given, name=name: _pursuit(*given, mistake=name), sentence)
            for name, sentence in sentences.items()
        ]
        + [(zeros, "x is all zeros; are the fitted values written into it?")],
    )
