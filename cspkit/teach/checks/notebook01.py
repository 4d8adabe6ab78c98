"""Checks of the exercises of notebook 01, sparse signals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cspkit.recovery import soft_threshold
from cspkit.teach.cases import table
from cspkit.teach.checks.systems import A, Array, Y, fit_on, scatter, values_on


def largest(a: Array) -> int:
    return np.argmax(np.abs(a))


def on_axis(a: Array, y: float, choose: Callable = largest, of: Callable = float) -> Array:
    """The solution of a^T x = y on one axis; other options are mistakes."""
    return scatter(a.size, choose(a), y / of(a[choose(a)]))


def one_axis_is_better(x: Array, right: Array, inputs: tuple) -> str:
    solved = np.isclose(inputs[0] @ x, inputs[1]) and np.count_nonzero(x) > 1
    return "a smaller l1 norm is possible, on one axis" if solved else ""


table(
    "01.smallest_l1",
    lambda a, y: on_axis(a, y),
    [
        (np.array([3, 4]), 2),
        (np.array([1, -2]), 3),
        (np.array([3.0, 4.0]), 2.0),
        (np.array([-0.5, 1.0, 0.2, -4.0, 2.0]), -6.0),
        (np.array([0.5, 2.0, 1.0]), 0.0),
    ],
    [
        (lambda a, y: on_axis(a, y, of=abs), "the sign is lost: divide by a[j], not |a[j]|"),
        (lambda a, y: a * y / (a @ a),
         "this is the shortest point, where the circle touches; the diamond touches at a corner"),
        (lambda a, y: on_axis(a, y, np.argmax),
         "the largest a was chosen, but a negative one may be larger in magnitude: use |a|"),
        (lambda a, y: on_axis(a, y, lambda a: np.argmin(np.abs(a))),
         "the wrong axis: the largest |a_i| reaches y with the smallest |x_i|"),
        (lambda a, y: on_axis(a, y).astype(a.dtype),
         "integer input gives integers: make x with np.zeros(a.size), whose type is float"),
        (lambda a, y: on_axis(a, y, of=lambda a_j: 1),
         "x does not solve the equation: a^T x must be y, so divide y by a[j]"),
    ],
    one_axis_is_better,
    right="One equation needs one nonzero; m equations never need more than m.",
)  # fmt: skip


V = np.array([-3.0, -1.5, -1.0, -0.25, 0.0, 0.5, 1.0, 2.0, 4.0])
table(
    "01.soft_threshold",
    lambda v, t: soft_threshold(v, t),
    [
        (np.array([-3, 0.5, 2]), 1.0),
        (V, 1.0),
        (np.array([-3, 0, 2]), 1),
        (np.array([-3, 0, 2]), 0.5),
        *((V.reshape(3, 3), t) for t in (0.0, 0.5, 2.5)),
    ],
    [
        (lambda v, t: np.maximum(np.abs(v) - t, 0), "the sign of negative inputs is lost"),
        (lambda v, t: -soft_threshold(v, t), "every sign is flipped"),
        (lambda v, t: np.maximum(v - t, 0),
         "all negative inputs become zero; treat magnitude and sign separately"),
        (lambda v, t: np.where(np.abs(v) > t, v, 0),
         "this is hard thresholding: entries beyond t are kept whole, but must shrink by t"),
        (lambda v, t: np.sign(v) * (np.abs(v) - t),
         "entries smaller than t change their sign; stop at zero with np.maximum(..., 0)"),
        (lambda v, t: v - t,
         "t is subtracted from negative inputs too, which moves them away from zero"),
        (lambda v, t: np.clip(v, -t, t),
         "this is the part that is cut off; the answer is v minus this part"),
        (lambda v, t: np.sign(v) * np.maximum(np.abs(v), t),
         "this shrinks towards t instead of zero"),
        (lambda v, t: np.where(np.abs(v) > t, v - t, 0),
         "negative inputs beyond -t move away from zero; they must move up by t"),
        (lambda v, t: np.sign(v) * (np.abs(v) > t),
         "only the sign is returned; the magnitude |v| - t is missing"),
        (lambda v, t: soft_threshold(v, t).astype(v.dtype),
         "integer input gives integers: the answer needs the type float"),
    ],
    right="Notebooks 03 and 10 use the hard threshold, which keeps large entries whole.",
)  # fmt: skip


def ista(A: Array, y: Array, lam: float, steps: int, mistake: str = "") -> Array:
    norm = np.linalg.norm(A, 2)
    L = {"not squared": norm, "frobenius": np.linalg.norm(A) ** 2}.get(mistake, norm**2)
    t = {"threshold": lam, "no threshold": 0.0}.get(mistake, lam / L)
    x = ahead = np.zeros(A.shape[1])
    for i in range(1, 1 + min(steps, 1 if mistake == "one step" else steps)):
        r = y if mistake == "old residual" else y - A @ ahead
        move = A.T @ r / (-L if mistake == "uphill" else L)
        new = soft_threshold(move + (mistake != "no x") * ahead, t)
        if mistake == "first":
            new = soft_threshold(ahead, t) + move
        ahead = new + (mistake == "momentum") * (i - 1) / (i + 2) * (new - x)
        x = new
    return x


WIDE = np.array([[0.9, -0.4, 0.3, 0.0], [0.2, 0.8, -0.5, 0.6], [-0.3, 0.1, 0.7, 0.5]])
table(
    "01.ista",
    ista,
    [
        (2 * np.eye(2), np.array([4, 1]), 2.0, 1),
        *((WIDE, np.array([2.0, -1.5, 1.0]), lam, steps)
          for lam, steps in ((0.3, 1), (0.3, 2), (0.1, 7), (0.0, 3), (0.3, 0))),
        (np.array([[1, 2], [0, 1]]), np.array([3, -1]), 1, 3),
    ],
    [
        ("not squared", "the step uses ||A||_2; it must use L = ||A||_2^2"),
        ("frobenius", "this is the Frobenius norm; ||A||_2 is np.linalg.norm(A, 2)"),
        ("old residual", "the residual stays y; compute y - A x again in every step"),
        ("uphill", "the gradient step goes uphill: add A^T (y - A x) / L"),
        ("threshold", "the threshold is lam; it must be lam / L"),
        ("no threshold", "this is a gradient method without a threshold: apply soft_threshold"),
        ("first", "the threshold comes before the gradient step; "
         "first the step, then the threshold"),
        ("no x", "the gradient step starts from 0 every time; add it to x"),
        ("momentum", "this is FISTA; ISTA has no momentum"),
        ("one step", "only one step is taken; repeat the formula `steps` times"),
    ],
    right="Its excess falls at least like 1 / steps, and that of FISTA at least like 1 / steps^2.",
)  # fmt: skip


def debias(A: Array, y: Array, support: Array, values: Callable = values_on) -> Array:
    return scatter(A.shape[1], support, values(A, y, support))


def all_columns(A: Array, y: Array, support: Array) -> Array:
    return np.linalg.lstsq(A, y, rcond=None)[0]


table(
    "01.debias",
    fit_on,
    [
        (np.array([[1, 0, 1], [0, 2, 1]]), np.array([3, 4]), np.array([0, 1])),
        *((A, Y, np.array(support, dtype=int)) for support in ([5, 1, 2], [4, 0], [])),
        (np.array([[2, 1], [0, 1], [1, 1]]), np.array([1, 2, 4]), np.array([0, 1])),
    ],
    [
        (values_on,
         "only the values on the support are returned; write them into a vector of n zeros"),
        (lambda A, y, S: np.zeros(A.shape[1]), "x is all zeros; write the values into x"),
        (all_columns, "this is least squares with all columns; fit with A[:, support] only"),
        (lambda A, y, S: scatter(A.shape[1], slice(S.size), values_on(A, y, S)),
         "the right values in the wrong places: x[support] = values"),
        (lambda A, y, S: scatter(A.shape[1], np.sort(S), values_on(A, y, S)),
         "the right values in the wrong order; value i belongs to position support[i]"),
        (lambda A, y, S: debias(A, y, S, lambda *a: all_columns(*a)[S]),
         "all columns were fitted and the rest cut off; fit with A[:, support] only"),
        (lambda A, y, S: debias(A, y, S, lambda *a: A[:, S].T @ y),
         "these are the correlations A_S^T y; least squares also undoes A_S^T A_S"),
    ],
    right="Fine-tuning does this to a network: the zeros stay, the other weights are fitted again.",
)  # fmt: skip


def pursuit(A: Array, y: Array, eps: float, mistake: str = "") -> Array:
    x, support, r, done = np.zeros(A.shape[1]), [], y, False
    for _ in range(A.shape[0]):
        size = np.max(np.abs(r)) if mistake == "entries" else np.linalg.norm(r)
        small = size ** (2 if mistake == "squared" else 1) <= eps
        if done or small and mistake not in ("late", "never", "after"):
            break
        correlation = A.T @ r
        j = np.argmax(correlation if mistake == "signed" else np.abs(correlation))
        support.append(j)
        if mistake == "no fit":
            x[j] += correlation[j] / (A[:, j] @ A[:, j])
        else:
            x = fit_on(A, y, support)
        r = y - A @ x
        done = small and mistake == "late" or mistake == "after" and np.linalg.norm(r) <= eps
    return x


table(
    "01.omp_until",
    pursuit,
    [
        (np.eye(3), np.array([3, -2, 0.1]), 0.5),
        *((A, Y, eps) for eps in (1.5, 0.9, 0.3, 0.05, 5.0)),
        (A, np.zeros(4), 0.0),
        (np.eye(3, dtype=int), np.array([3, -2, 1]), 1),
    ],
    [
        ("squared", "the squared norm of the residual is compared with eps; compare the norm"),
        ("entries", "the largest entry of the residual is compared with eps; compare its l2 norm"),
        ("late", "one column too many: test the residual before a column is chosen, not after"),
        ("after", "a column is chosen where none is needed: test the residual before the choice"),
        ("signed", "columns with a negative correlation are overlooked: choose by |a_j^T r|"),
        ("no fit", "the values chosen earlier are not fitted again: least squares on the support"),
        ("never", "it never stops before all m columns are used; is eps compared with the norm?"),
        (lambda A, y, eps: np.zeros(A.shape[1]),
         "x is all zeros; are the fitted values written into it?"),
    ],
    right="With an eps below the norm of the noise, OMP goes on and fits the noise.",
)  # fmt: skip
