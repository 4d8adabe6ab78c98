"""Checks of the exercises of notebook 02, solvers and certificates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cspkit.recovery import lasso
from cspkit.teach.check import Verdict, compare, exercise

Vector = np.ndarray

A = np.array(
    [
        [0.8, -0.3, 0.1, 0.4, -0.5, 0.2],
        [-0.2, 0.7, 0.5, -0.1, 0.4, -0.6],
        [0.3, 0.2, -0.8, 0.5, 0.1, 0.4],
        [0.4, 0.6, 0.2, -0.7, 0.7, 0.6],
    ]
)
Y = np.array([1.5, -2.0, 0.6, 0.4])
LAM_MAX = np.max(np.abs(A.T @ Y))
SHOWN = np.eye(2), np.array([3, 1])


def _variants(function: Callable, sentences: dict[str, str]) -> list[tuple[Callable, str]]:
    """Pair a function with each of its mistakes, and the sentence for it."""
    return [
        (lambda *given, name=name: function(*given, mistake=name), sentence)
        for name, sentence in sentences.items()
    ]


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
        parts = off[x == 0] if not x.all() else np.zeros(1)
    return float(np.sum(parts) if mistake == "sum" else np.max(parts))


@exercise("02.kkt_violation")
def kkt_violation(function: Callable[[Vector, Vector, float, Vector], float]) -> Verdict:
    """Check the largest KKT violation at zero, at the minimum, and at points near it."""
    lam = 0.3 * LAM_MAX
    best = lasso(A, Y, lam, tol=1e-12).x
    flipped, more = np.round(best, 2), np.round(best, 2)
    flipped[np.argmax(np.abs(best))] *= -1
    more[np.argmin(np.abs(best))] = 0.4
    return compare(
        function,
        _violation,
        [
            (*SHOWN, 1, np.array([0, 0])),
            (*SHOWN, 1, np.array([2, 0])),
            (np.eye(2), np.array([0.5, 0.1]), 1.0, np.zeros(2)),
            *((A, Y, lam, x) for x in (np.zeros(6), best, 0.5 * best, 1.4 * best, flipped, more)),
            (A, -Y, lam, np.zeros(6)),
            (A, Y, lam, np.array([0.0, -3.0, 0.0, 0.0, 0.0, 0.0])),
            (A, Y, lam, np.array([0.0, 3.0, 0.0, 0.0, 0.0, 0.0])),
        ],
        _variants(
            _violation,
            {
                "residual": "the sign of the residual is wrong: c = A^T (y - A x)",
                "start": "c is A^T y; it must be A^T (y - A x)",
                "sign": "on the support |c| is compared with lam; c must also have the sign of x",
                "price": "on the support the sign of x is lost: compare c with lam * sign(x)",
                "open": "inside the band nothing is violated: np.maximum(|c| - lam, 0)",
                "signed band": "the band has two sides: a c below -lam is a violation, too",
                "band only": "on the support c must equal lam * sign(x), not only stay in the band",
                "zeros on the line": "zeros may lie anywhere within the band, not only on its edge",
                "on only": "only the support is examined; zeros can be violated, too",
                "off only": "only the zeros are examined; the support has a condition, too",
                "sum": "the violations are added up; return the largest",
            },
        ),
    )


def _gap(A: Vector, y: Vector, lam: float, x: Vector, mistake: str = "") -> float:
    """Relative duality gap; the options are typical mistakes."""
    r = y - A @ x
    largest = np.max(A.T @ r) if mistake == "signed" else np.max(np.abs(A.T @ r))
    scale = min(1.0, lam / largest)
    if mistake in ("stretched", "not shrunk"):
        scale = lam / largest if mistake == "stretched" else 1.0
    if mistake == "best multiple":  # as valid as the reference, and no larger
        scale = min(max(y @ r / (r @ r), 0.0), lam / largest)
    bound = 0.5 * y @ y - 0.5 * np.sum((y - scale * r) ** 2)
    price = {"no penalty": 0, "no lam": 1}.get(mistake, lam) * np.sum(np.abs(x))
    P = np.sum(r**2) * (1.0 if mistake == "no half" else 0.5) + price
    energy = {"absolute": 1.0, "no half below": y @ y, "by P": P, "norm": 0.5 * np.linalg.norm(y)}
    gap = (P - bound) / energy.get(mistake, 0.5 * y @ y)
    return float(-gap if mistake == "negative" else gap)


@exercise("02.certified_gap")
def certified_gap(function: Callable[[Vector, Vector, float, Vector], float]) -> Verdict:
    """Check the relative duality gap, in two units of y."""
    lam = 0.3 * LAM_MAX
    best = lasso(A, Y, lam, tol=1e-12).x
    fit = np.linalg.lstsq(A, Y, rcond=None)[0]
    points = [np.zeros(6), 0.5 * best, 1.3 * best, 0.99 * fit, 1.01 * fit, best]
    return compare(
        function,
        _gap,
        [
            (np.eye(2), np.array([3, 0]), 1.5, np.array([0, 0])),
            *((A, scale * Y, abs(scale) * lam, scale * x) for scale in (1.0, -3.0) for x in points),
        ],
        _variants(
            _gap,
            {
                "absolute": "the gap is right but absolute; divide by 1/2 ||y||^2",
                "no half below": "divide by 1/2 ||y||^2, not by ||y||^2",
                "norm": "divide by half the squared norm of y, not half the norm",
                "by P": "the gap is divided by the objective; divide by 1/2 ||y||^2",
                "no penalty": "the objective lacks its l1 term",
                "no lam": "the l1 term lacks its weight lam",
                "no half": "the misfit lacks its factor 1/2",
                "negative": "the sign is wrong: objective minus floor",
                "not shrunk": "theta must be shrunk: the residual breaks |a_j^T theta| <= lam",
                "stretched": "theta is stretched where it need not be: the factor is at most 1",
                "signed": "the constraint has two sides: max |a_j^T r|, not max a_j^T r",
            },
        ),
        also=[lambda *given: _gap(*given, mistake="best multiple")],
    )


def _exact(
    A: Vector, y: Vector, lam: float, support: Vector, s: Vector, mistake: str = ""
) -> Vector:
    """Solve the equality part of KKT; the options are typical mistakes."""
    gram, z = A[:, support].T @ A[:, support], A[:, support].T @ y
    right = {"no l1": z, "plus": z + lam * s, "no signs": z - lam, "no lam": z - s}
    values = np.linalg.solve(gram, right.get(mistake, z - lam * s))
    if mistake == "later":
        values = np.linalg.solve(gram, z) - lam * s
    if mistake == "not solved":
        values = z - lam * s
    x = np.zeros(A.shape[1])
    if mistake == "in front":
        x[: support.size] = values
    else:
        x[np.sort(support) if mistake == "order" else support] = values
    return x


@exercise("02.exact_values")
def exact_values(function: Callable[..., Vector]) -> Verdict:
    """Check the linear system of the equality part of KKT."""
    shown = (*SHOWN, 1, np.array([0]), np.array([1]))
    first = function(*(np.copy(part) for part in shown))
    if isinstance(first, np.ndarray) and first.shape == (1,):
        return (
            "only the values on the support are returned, shape (1,); "
            "write them into a vector of n zeros"
        )
    support = np.array([5, 1, 2])
    return compare(
        function,
        _exact,
        [
            shown,
            (A, Y, 0.2, support, np.array([1.0, -1.0, -1.0])),
            (A, Y, 0.5, np.array([4, 0]), np.array([-1.0, 1.0])),
            (A, Y, 0.0, support, np.array([1.0, -1.0, -1.0])),
        ],
        _variants(
            _exact,
            {
                "no l1": "the l1 term is missing: this is debiasing; use lam * s",
                "plus": "the sign of lam * s is wrong: it shrinks x",
                "no signs": "the signs are lost: subtract lam * s, not lam",
                "no lam": "the weight lam is missing: subtract lam * s",
                "later": "lam * s is subtracted after solving; it belongs on the right side of "
                "the system",
                "not solved": "A_S^T A_S was not undone; solve the linear system",
                "order": "the right values in the wrong order; value i belongs to position "
                "support[i]",
                "in front": "the right values in the wrong places: x[support] = values",
            },
        ),
    )


def _knot(A: Vector, y: Vector, lam: float, support: Vector, s: Vector, mistake: str = "") -> float:
    """Next knot of the path below lam; the options are typical mistakes."""
    A_S, off = A[:, support], np.delete(np.arange(A.shape[1]), support)
    gram = A_S.T @ A_S
    u, w = np.linalg.solve(gram, A_S.T @ y), np.linalg.solve(gram, s)
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
        return float(np.min(below, initial=lam))
    if mistake == "above":
        return float(np.max(candidates))
    if mistake == "lam":
        return float(lam)
    return float(np.max(below, initial=0.0))


@exercise("02.next_knot")
def next_knot(function: Callable[..., float]) -> Verdict:
    """Check the next knot where entries enter, on both sides, and where one leaves."""
    inputs = [(*SHOWN, 2, np.array([0]), np.array([1]))]
    for y in (np.array([-0.8, 0.8, -0.6, 1.3]), np.array([1.1, -1.1, 0.7, -1.9])):
        lam_max = np.max(np.abs(A.T @ y))
        for share in (0.9, 0.7, 0.5, 0.3, 0.15):
            x = lasso(A, y, share * lam_max, tol=1e-12).x
            support = np.flatnonzero(x)
            inputs.append((A, y, share * lam_max, support, np.sign(x[support])))
    return compare(
        function,
        _knot,
        inputs,
        _variants(
            _knot,
            {
                "leaves": "a knot where an entry reaches zero was missed: u / w",
                "enters": "a knot where a column enters was missed: p / (1 - q) and p / (-1 - q)",
                "upper": "columns that enter at +lam were missed: p / (1 - q)",
                "lower": "columns that enter at -lam were missed: p / (-1 - q)",
                "flat": "lam falls, and the correlation changes, too: divide p by +-1 - q",
                "smallest": "the smallest candidate was taken; lam falls, so it meets the largest "
                "one first",
                "above": "candidates above lam were passed already; keep those below",
                "lam": "it returns lam itself, where the last entry came in; ask for "
                "< lam * (1 - 1e-9)",
            },
        ),
    )
