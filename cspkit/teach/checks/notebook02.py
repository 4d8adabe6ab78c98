"""Checks of the exercises of notebook 02, solvers and certificates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cspkit.recovery import lasso
from cspkit.teach.check import Verdict, as_array, exercise, named

Vector = np.ndarray


def _changed(given: tuple[Vector, ...], kept: tuple[Vector, ...]) -> bool:
    return not all(map(np.array_equal, given, kept))


def _problem() -> tuple[Vector, Vector, float, Vector]:
    """Return A, y, lam and the lasso answer for them, which has both signs."""
    rng = np.random.default_rng(5)
    A = rng.standard_normal((20, 40)) / np.sqrt(20)
    signal = np.zeros(40)
    signal[[3, 12, 25, 33]] = 2.0, -1.5, -2.5, 1.0
    y = A @ signal + 0.1 * rng.standard_normal(20)
    lam = 0.15 * np.max(np.abs(A.T @ y))
    return A, y, lam, lasso(A, y, lam, tol=1e-12).x


def _violation(A: Vector, y: Vector, lam: float, x: Vector, mistake: str = "") -> float:
    """Largest violation of the optimality conditions; the options are typical mistakes."""
    c = A.T @ (A @ x - y if mistake == "residual" else y - A @ x)
    if mistake == "start":
        c = A.T @ y
    on, off = np.abs(c - lam * np.sign(x)), np.maximum(np.abs(c) - lam, 0)
    if mistake == "sign":
        on = np.abs(np.abs(c) - lam)
    if mistake == "price":
        on = np.abs(c - lam)
    if mistake == "open":
        off = np.abs(c) - lam
    if mistake == "signed band":
        off = np.maximum(c - lam, 0)
    if mistake == "band only":
        on = off
    if mistake == "zeros on the line":
        off = np.abs(np.abs(c) - lam)
    parts = np.where(x != 0, on, off)
    if mistake == "on only":
        parts = on[x != 0] if x.any() else np.zeros(1)
    if mistake == "off only":
        parts = off[x == 0]
    return float(np.sum(parts) if mistake == "sum" else np.max(parts))


@exercise("02.kkt_violation")
def kkt_violation(function: Callable[[Vector, Vector, float, Vector], float]) -> Verdict:
    """Check the largest KKT violation at zero, at the minimum, and at points near it."""
    A, y, lam, best = _problem()
    flipped, large = best.copy(), best.copy()
    j = np.argmax(np.abs(best))
    flipped[j] *= -1
    large[np.flatnonzero(best)] *= 1.4
    fitted = np.zeros(40)
    S = np.flatnonzero(best)
    fitted[S] = np.linalg.lstsq(A[:, S], y, rcond=None)[0]
    points = [np.zeros(40), flipped, large, best * 0.5, fitted, best]
    told = []
    for x in points:
        given = A.copy(), y.copy(), x.copy()
        answer = function(given[0], given[1], lam, given[2])
        if np.shape(answer) == (40,):
            return "one value per column is returned; return the largest of them"
        value, wrong = as_array(answer, ())
        if wrong:
            return wrong
        if _changed(given, (A, y, x)):
            return "an input was modified in place; work on new arrays"
        told.append(float(value))
    if np.allclose(told, [_violation(A, y, lam, x) for x in points], atol=1e-8):
        return None
    mistakes = (
        ("residual", "the sign of the residual is wrong: c = A^T (y - A x)"),
        ("start", "c is A^T y; it must be A^T (y - A x)"),
        ("sign", "on the support |c| is compared with lam; c must also have the sign of x"),
        ("price", "on the support the sign of x is lost: compare c with lam * sign(x)"),
        ("open", "inside the band nothing is violated: np.maximum(|c| - lam, 0)"),
        ("signed band", "the band has two sides: a c below -lam is a violation, too"),
        ("band only", "on the support c must equal lam * sign(x), not only stay in the band"),
        ("zeros on the line", "zeros may lie anywhere within the band, not only on its edge"),
        ("on only", "only the support is examined; zeros can be violated, too"),
        ("off only", "only the zeros are examined; the support has a condition, too"),
        ("sum", "the violations are added up; return the largest"),
    )
    for mistake, sentence in mistakes:
        if np.allclose(told, [_violation(A, y, lam, x, mistake) for x in points], atol=1e-8):
            return sentence
    if told[-1] > 1e-6:
        return f"at the minimum the violation is {told[-1]:.3g}, expected 0 up to rounding"
    i = next(i for i, x in enumerate(points) if not np.isclose(told[i], _violation(A, y, lam, x)))
    where = ("at x = 0", "after one sign is flipped", "with the support 1.4 times too large",
             "at half the minimum", "at the debiased minimum", "at the minimum")[i]  # fmt: skip
    return f"{where} it is {told[i]:.4g}, expected {_violation(A, y, lam, points[i]):.4g}"


def _gap(A: Vector, y: Vector, lam: float, x: Vector, mistake: str = "") -> float:
    """Relative duality gap; the options are typical mistakes."""
    r = y - A @ x
    largest = np.max(A.T @ r) if mistake == "signed" else np.max(np.abs(A.T @ r))
    scale = lam / largest if mistake == "stretched" else min(1.0, lam / largest)
    theta = r if mistake == "not shrunk" else r * scale
    bound = 0.5 * y @ y - 0.5 * np.sum((y - theta) ** 2)
    penalty = 0 if mistake == "no penalty" else lam * np.sum(np.abs(x))
    if mistake == "no lam":
        penalty = np.sum(np.abs(x))
    misfit = np.sum(r**2) * (1.0 if mistake == "no half" else 0.5)
    P = misfit + penalty
    energy = {"absolute": 1.0, "no half below": y @ y, "by P": P, "norm": 0.5 * np.linalg.norm(y)}
    gap = (P - bound) / energy.get(mistake, 0.5 * y @ y)
    return float(-gap if mistake == "negative" else gap)


def _gap_best_multiple(A: Vector, y: Vector, lam: float, x: Vector) -> float:
    """Gap with the best multiple of the residual, which is as valid and no larger."""
    r = y - A @ x
    scale = min(max(y @ r / (r @ r), 0.0), lam / np.max(np.abs(A.T @ r)))
    theta = scale * r
    P = 0.5 * r @ r + lam * np.sum(np.abs(x))
    return float((P - 0.5 * y @ y + 0.5 * np.sum((y - theta) ** 2)) / (0.5 * y @ y))


@exercise("02.certified_gap")
def certified_gap(function: Callable[[Vector, Vector, float, Vector], float]) -> Verdict:
    """Check the relative duality gap, with y loud and quiet."""
    A, y, lam, best = _problem()
    shrunk = np.zeros(40)
    S = np.flatnonzero(best)
    shrunk[S] = np.linalg.lstsq(A[:, S], y, rcond=None)[0]
    over = np.linalg.lstsq(A, y, rcond=None)[0] * 0.99
    points = [np.zeros(40), 0.5 * best, shrunk, 1.3 * best, over, best]
    cases = [(scale * y, scale * lam, scale * x) for scale in (1.0, 3.0) for x in points]
    told = []
    for y_i, lam_i, x in cases:
        given = A.copy(), y_i.copy(), x.copy()
        value, wrong = as_array(function(given[0], given[1], lam_i, given[2]), ())
        if wrong:
            return wrong
        if _changed(given, (A, y_i, x)):
            return "an input was modified in place; work on new arrays"
        told.append(float(value))
    for right in (_gap, _gap_best_multiple):
        if np.allclose(told, [right(A, *case) for case in cases], atol=1e-9):
            return None
    mistakes = (
        ("absolute", "the gap is right but absolute; divide by 1/2 ||y||^2"),
        ("no half below", "divide by 1/2 ||y||^2, not by ||y||^2"),
        ("norm", "divide by half the squared norm of y, not half the norm"),
        ("by P", "the gap is divided by the objective; divide by 1/2 ||y||^2"),
        ("no penalty", "the objective lacks its l1 term"),
        ("no lam", "the l1 term lacks its weight lam"),
        ("no half", "the misfit lacks its factor 1/2"),
        ("negative", "the sign is wrong: objective minus floor"),
        ("not shrunk", "theta must be shrunk: the residual breaks |a_j^T theta| <= lam"),
        ("stretched", "theta is stretched where it need not be: the factor is at most 1"),
        ("signed", "the constraint has two sides: max |a_j^T r|, not max a_j^T r"),
    )
    for mistake, sentence in mistakes:
        if np.allclose(told, [_gap(A, *case, mistake) for case in cases], atol=1e-9):
            return sentence
    if told[len(points) - 1] > 1e-6:
        return f"at the minimum the gap is {told[len(points) - 1]:.3g}, expected 0 up to rounding"
    right = [_gap(A, *case) for case in cases]
    i = next(i for i in range(len(cases)) if not np.isclose(told[i], right[i], atol=1e-9))
    where = ("at x = 0", "at half the minimum", "at the debiased minimum",
             "at 1.3 times the minimum", "near the shortest solution",
             "at the minimum")[i % len(points)]  # fmt: skip
    return f"{where} the relative gap is {told[i]:.4g}, expected {right[i]:.4g}"


@exercise("02.exact_values")
def exact_values(function: Callable[..., Vector]) -> Verdict:
    """Check the linear system of the equality part of KKT."""
    A, y, lam, best = _problem()
    S = np.roll(np.flatnonzero(best), 2)  # in no order
    s = np.sign(best[S])
    given = A.copy(), y.copy(), S.copy(), s.copy()
    answer = function(given[0], given[1], lam, given[2], given[3])
    if isinstance(answer, np.ndarray) and answer.shape == S.shape:
        return (
            f"only the values on the support are returned, shape {answer.shape}; "
            "write them into a vector of n zeros"
        )
    x, wrong = as_array(answer, (40,))
    if wrong:
        return wrong
    if _changed(given, (A, y, S, s)):
        return "an input was modified in place; work on new arrays"
    if np.allclose(x, best, atol=1e-8):
        return None
    A_S = A[:, S]
    G, z = A_S.T @ A_S, A_S.T @ y

    def spread(values: Vector) -> Vector:
        full = np.zeros(40)
        full[S] = values
        return full

    in_front = np.zeros(40)
    in_front[: S.size] = best[S]
    known = (
        (spread(np.linalg.solve(G, z)), "the l1 term is missing: this is debiasing; use lam * s"),
        (spread(np.linalg.solve(G, z + lam * s)), "the sign of lam * s is wrong: it shrinks x"),
        (spread(np.linalg.solve(G, z - lam)), "the signs are lost: subtract lam * s, not lam"),
        (spread(np.linalg.solve(G, z - s)), "the price lam is missing: subtract lam * s"),
        (
            spread(np.linalg.solve(G, z) - lam * s),
            "lam * s is subtracted after solving; it belongs on the right side of the system",
        ),
        (
            spread(z - lam * s),
            "A_S^T A_S was not undone; solve the linear system",
        ),
        (
            spread(np.sort(best[S])),
            "the right values in the wrong order; value i belongs to position S[i]",
        ),
        (
            spread(best[np.sort(S)]),
            "the right values in the wrong order; value i belongs to position S[i]",
        ),
        (in_front, "the right values in the wrong places: x[S] = values"),
    )
    off = np.count_nonzero(np.delete(x, S))
    miss = np.max(np.abs(A_S.T @ (y - A @ x) - lam * s))
    otherwise = f"A_S^T (y - A x) differs from lam * s by up to {miss:.3g}"
    return named(x, known, f"{off} entries off S are not zero" if off else otherwise)


def _knot(A: Vector, y: Vector, lam: float, S: Vector, s: Vector, mistake: str = "") -> float:
    """Next knot of the path below lam; the options are typical mistakes."""
    A_S, off = A[:, S], np.delete(np.arange(A.shape[1]), S)
    G = A_S.T @ A_S
    u, w = np.linalg.solve(G, A_S.T @ y), np.linalg.solve(G, s)
    p, q = A[:, off].T @ (y - A_S @ u), A[:, off].T @ (A_S @ w)
    parts = {"leaves": u / w, "upper": p / (1 - q), "lower": p / (-1 - q)}
    parts.pop(mistake, None)
    if mistake == "enters":
        parts = {"leaves": u / w}
    if mistake == "flat":
        parts = {"leaves": u / w, "upper": p, "lower": -p}
    candidates = np.concatenate(list(parts.values()))
    below = candidates[(candidates < lam * (1 - 1e-9)) & (candidates > 0)]
    if mistake == "smallest":
        return float(np.min(below))
    if mistake == "above":
        return float(np.max(candidates))
    return float(np.max(below, initial=0.0))


@exercise("02.next_knot")
def next_knot(function: Callable[..., float]) -> Verdict:
    """Check the next knot where entries enter, on both sides, and where one leaves."""
    rng = np.random.default_rng(8)
    A = rng.standard_normal((15, 30)) / np.sqrt(15)
    for j in range(1, 30):
        A[:, j] = 0.7 * A[:, j - 1] + 0.71 * A[:, j]
    y = rng.standard_normal(15)
    cases, lam_max = [], np.max(np.abs(A.T @ y))
    for share in np.geomspace(0.97, 0.02, 40):
        x = lasso(A, y, share * lam_max, tol=1e-12).x
        S = np.flatnonzero(x)
        cases.append((share * lam_max, S, np.sign(x[S])))
    told = []
    for lam, S, s in cases:
        given = A.copy(), y.copy(), S.copy(), s.copy()
        value, wrong = as_array(function(given[0], given[1], lam, given[2], given[3]), ())
        if wrong:
            return wrong
        if _changed(given, (A, y, S, s)):
            return "an input was modified in place; work on new arrays"
        told.append(float(value))
    right = [_knot(A, y, *case) for case in cases]
    if np.allclose(told, right, rtol=1e-6):
        return None
    mistakes = (
        ("leaves", "a knot where an entry reaches zero was missed: u / w"),
        ("enters", "a knot where a column enters was missed: p / (1 - q) and p / (-1 - q)"),
        ("upper", "columns that enter at +lam were missed: p / (1 - q)"),
        ("lower", "columns that enter at -lam were missed: p / (-1 - q)"),
        ("flat", "the price falls with lam, and the correlation moves, too: divide p by +-1 - q"),
        ("smallest", "the smallest candidate was taken; the first on the way down is the largest"),
        ("above", "candidates above lam lie behind us; keep those below"),
    )
    for mistake, sentence in mistakes:
        if np.allclose(told, [_knot(A, y, *case, mistake) for case in cases], rtol=1e-6):
            return sentence
    if np.allclose(told, [case[0] for case in cases], rtol=1e-6):
        return "it returns lam itself, where the last entry came in; ask for < lam * (1 - 1e-9)"
    i = next(i for i in range(len(cases)) if not np.isclose(told[i], right[i], rtol=1e-6))
    return (
        f"at {cases[i][0] / lam_max:.2f} lam_max, with {cases[i][1].size} nonzeros, the next knot "
        f"is at {right[i] / lam_max:.3f} lam_max, not at {told[i] / lam_max:.3f}"
    )
