"""Checks of the exercises of notebook 01, sparse signals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cspkit.teach.check import Verdict, as_array, exercise

Vector = np.ndarray


@exercise("01.smallest_l1")
def smallest_l1(function: Callable[[Vector, float], Vector]) -> Verdict:
    """Check the solution of one equation of smallest l1 norm."""
    for a, y in (([3.0, 4.0], 2.0), ([1.0, -2.0], 3.0), ([-0.5, 1.0, 0.2, -4.0, 2.0], -6.0)):
        a = np.array(a)
        kept = a.copy()
        x, wrong = as_array(function(a, y), a.shape)
        if wrong:
            return wrong
        if not np.array_equal(a, kept):
            return "the input a was modified in place; work on a new array"
        j = np.argmax(np.abs(a))
        right = np.zeros(a.size)
        right[j] = y / a[j]
        if not np.allclose(x, right):
            return _wrong_point(x, a, y, right)
    return None


def _wrong_point(x: Vector, a: Vector, y: float, right: Vector) -> str:
    if np.allclose(x, -right):
        return f"the sign is lost: a^T x is {a @ x:g}, expected {y:g}; divide by a[j], not |a[j]|"
    if np.allclose(x, a * y / (a @ a)):
        return (
            "this is the shortest point, where the circle touches; the diamond touches at a corner"
        )
    if not np.isclose(a @ x, y):
        return f"x does not solve the equation for a = {a}: a^T x is {a @ x:g}, expected {y:g}"
    if np.count_nonzero(x) == 1 and x[np.argmax(a)] != 0:
        return "the largest a was chosen, but a negative one may be larger in magnitude: use |a|"
    if np.count_nonzero(x) == 1:
        return (
            "the corner is on the wrong axis: the largest |a_i| reaches y with the smallest |x_i|"
        )
    norm, smallest = np.sum(np.abs(x)), np.sum(np.abs(right))
    return f"x solves the equation with l1 norm {norm:g}, but {smallest:g} is possible"


@exercise("01.soft_threshold")
def soft_threshold(function: Callable[[Vector, float], Vector]) -> Verdict:
    """Check soft thresholding of a vector, and of an array with two axes."""
    v, t = np.array([-3.0, -1.5, -1.0, -0.25, 0.0, 0.5, 1.0, 2.0, 4.0]), 1.0
    given = v.copy()
    x, wrong = as_array(function(given, t), v.shape)
    if wrong:
        return wrong
    if not np.array_equal(given, v):
        return "the input v was modified in place; work on a new array"
    if not np.allclose(x, _soft(v, t)):
        return _wrong_threshold(x, v, t)
    for t in (0.0, 0.5, 2.5):
        for shape in ((9,), (3, 3)):
            x, wrong = as_array(function(v.reshape(shape).copy(), t), shape)
            if wrong:
                return wrong
            if not np.allclose(x, _soft(v, t).reshape(shape)):
                return (
                    f"right for t = 1, but wrong for t = {t:g}; is the threshold used everywhere?"
                )
    return None


def _soft(v: Vector, t: float) -> Vector:
    return np.sign(v) * np.maximum(np.abs(v) - t, 0)


def _wrong_threshold(x: Vector, v: Vector, t: float) -> str:
    size, sign = np.abs(v), np.sign(v)
    known = (
        (np.maximum(size - t, 0), "the sign of negative inputs is lost"),
        (-_soft(v, t), "every sign is flipped"),
        (np.maximum(v - t, 0), "all negative inputs become zero; treat magnitude and sign apart"),
        (
            np.where(size > t, v, 0),
            "this is hard thresholding: entries beyond t are kept whole, but must shrink by t",
        ),
        (
            sign * (size - t),
            "entries smaller than t change their sign; stop at zero with np.maximum(..., 0)",
        ),
        (v - t, "t is subtracted from negative inputs too, which moves them away from zero"),
        (
            np.clip(v, -t, t),
            "this is the part that is cut off; the answer is v minus this part",
        ),
        (sign * np.maximum(size, t), "this shrinks towards t instead of zero"),
        (
            np.where(size > t, v - t, 0),
            "negative inputs beyond -t move away from zero; they must move up by t",
        ),
        (sign * (size > t), "only the sign is returned; the magnitude |v| - t is missing"),
    )
    for answer, sentence in known:
        if np.allclose(x, answer):
            return sentence
    i = np.flatnonzero(~np.isclose(x, _soft(v, t)))[0]
    return f"v = {v[i]:g} with t = {t:g} gives {x[i]:g}, expected {_soft(v, t)[i]:g}"


@exercise("01.debias")
def debias(function: Callable[[Vector, Vector, Vector], Vector]) -> Verdict:
    """Check least squares on a support, given in no order."""
    rng = np.random.default_rng(1)
    A, y, support = rng.standard_normal((12, 20)), rng.standard_normal(12), np.array([17, 2, 9, 4])
    given = A.copy(), y.copy(), support.copy()
    answer = function(*given)
    values = np.linalg.lstsq(A[:, support], y, rcond=None)[0]
    if isinstance(answer, np.ndarray) and answer.shape == support.shape:
        return (
            f"only the values on the support are returned, shape {answer.shape}; "
            "write them into a vector of n zeros"
        )
    x, wrong = as_array(answer, (20,))
    if wrong:
        return wrong
    if not all(map(np.array_equal, given, (A, y, support))):
        return "an input was modified in place; work on new arrays"
    right = np.zeros(20)
    right[support] = values
    if not np.allclose(x, right):
        return _wrong_fit(x, A, y, support, values)
    x, wrong = as_array(function(A, y, support[:0]), (20,))
    if wrong:
        return f"for an empty support {wrong}"
    return "an empty support must give all zeros" if np.any(x) else None


def _wrong_fit(x: Vector, A: Vector, y: Vector, support: Vector, values: Vector) -> str:
    full = np.linalg.lstsq(A, y, rcond=None)[0]
    off = np.delete(x, support)
    if not np.any(x):
        return "x is all zeros; are the fitted values written into it?"
    if np.allclose(x, full):
        return "this is least squares with all columns; fit with A[:, support] only"
    if np.any(off) and _same_values(x[x != 0], values):
        return "the right values in the wrong places: x[support] = values"
    if np.any(off):
        return f"{np.count_nonzero(off)} entries off the support are not zero"
    if np.allclose(x[support], full[support]):
        return "all columns were fitted and the rest cut off; fit with A[:, support] only"
    if np.allclose(x[support], A[:, support].T @ y):
        return "these are the correlations A_S^T y; least squares also undoes A_S^T A_S"
    if _same_values(x[support], values):
        return "the right values in the wrong order; value i belongs to position support[i]"
    return "the values on the support are not the least squares fit of y"


def _same_values(x: Vector, values: Vector) -> bool:
    return x.size == values.size and np.allclose(np.sort(x), np.sort(values))


@exercise("01.omp_until")
def omp_until(function: Callable[[Vector, Vector, float], Vector]) -> Verdict:
    """Check OMP that stops at a residual norm, against variants with one mistake each."""
    rng = np.random.default_rng(3)
    A = rng.standard_normal((30, 60)) / np.sqrt(30)
    signal = np.zeros(60)
    signal[[5, 17, 30, 41, 58]] = -3.0, 2.0, -1.5, 2.5, -2.0
    y = A @ signal + 0.05 * rng.standard_normal(30)
    for eps in (0.3, 2.0):
        given = A.copy(), y.copy()
        x, wrong = as_array(function(*given, eps), (60,))
        if wrong:
            return wrong
        if not all(map(np.array_equal, given, (A, y))):
            return "an input was modified in place; work on new arrays"
        if not np.allclose(x, _pursuit(A, y, eps)):
            return _wrong_pursuit(x, A, y, eps)
    x, wrong = as_array(function(A, np.zeros(30), eps), (60,))
    if wrong or np.any(x):
        return f"for y = 0 {wrong or 'the answer must be all zeros: the residual is below eps'}"
    return None


def _pursuit(
    A: Vector,
    y: Vector,
    eps: float,
    *,
    signed: bool = False,
    refit: bool = True,
    late: bool = False,
    squared: bool = False,
) -> Vector:
    """OMP until the residual's norm is at most eps; the options are typical mistakes."""
    x, support, residual, done = np.zeros(A.shape[1]), [], y, False
    for _ in range(A.shape[0]):
        small = np.linalg.norm(residual) ** (2 if squared else 1) <= eps
        if done or (small and not late):
            break
        done = small
        correlation = A.T @ residual
        j = np.argmax(correlation if signed else np.abs(correlation))
        support.append(j)
        if refit:
            x[support] = np.linalg.lstsq(A[:, support], y, rcond=None)[0]
        else:
            x[j] += correlation[j]
        residual = y - A @ x
    return x


def _wrong_pursuit(x: Vector, A: Vector, y: Vector, eps: float) -> str:
    residual, chosen = np.linalg.norm(y - A @ x), np.count_nonzero(x)
    expected = np.count_nonzero(_pursuit(A, y, eps))
    known = (
        (
            _pursuit(A, y, eps, squared=True),
            "the squared residual norm is compared with eps; compare the norm itself",
        ),
        (
            _pursuit(A, y, eps, late=True),
            "one column too many: test the residual before a column is chosen, not after",
        ),
        (
            _pursuit(A, y, eps, signed=True),
            "columns with a negative correlation are overlooked: choose by |a_j^T r|",
        ),
        (
            _pursuit(A, y, eps, refit=False),
            "the values chosen earlier are not fitted again: least squares on the whole support",
        ),
        (
            _pursuit(A, y, 0.0),
            "it never stops before all m columns are used; is eps compared with the residual?",
        ),
    )
    if not np.any(x):
        return "x is all zeros; are the fitted values written into it?"
    for answer, sentence in known:
        if np.allclose(x, answer, atol=1e-6):
            return sentence
    if residual > eps:
        return f"it stops at residual norm {residual:.2f}, which is above eps = {eps:g}"
    if chosen > expected:
        return f"{chosen} columns were chosen where {expected} bring the residual below eps"
    return "the values are not those of OMP; is every fit least squares on the chosen columns?"
