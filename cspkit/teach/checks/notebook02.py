"""Checks of the exercises of notebook 02, solvers and certificates."""

from __future__ import annotations

import numpy as np

from cspkit.recovery import lam_max_of, lasso
from cspkit.teach.cases import table
from cspkit.teach.checks.systems import A, Array, Y, scatter

LAM = 0.3 * np.max(np.abs(A.T @ Y))
BEST = lasso(A, Y, LAM, tol=1e-12).x
SHOWN = np.eye(2), np.array([3, 1])


def violation(A: Array, y: Array, lam: float, x: Array, mistake: str = "") -> float:
    c = A.T @ {"residual": A @ x - y, "start": y}.get(mistake, y - A @ x)
    band = np.maximum(np.abs(c) - lam, 0)
    on = {"sign": np.abs(np.abs(c) - lam), "price": np.abs(c - lam), "band only": band}.get(
        mistake, np.abs(c - lam * np.sign(x))
    )
    off = {
        "open": np.abs(c) - lam,
        "signed band": np.maximum(c - lam, 0),
        "zeros on the line": np.abs(np.abs(c) - lam),
    }.get(mistake, band)
    if mistake in ("on only", "off only"):
        parts = on[x != 0] if mistake == "on only" else off[x == 0]
        return np.max(parts, initial=0)
    return (np.sum if mistake == "sum" else np.max)(np.where(x != 0, on, off))


FLIPPED, MORE = np.round(BEST, 2), np.round(BEST, 2)
FLIPPED[np.argmax(np.abs(BEST))] *= -1
MORE[np.argmin(np.abs(BEST))] = 0.4
table(
    "02.kkt_violation",
    violation,
    [
        (*SHOWN, 1, np.array([0, 0])),
        (*SHOWN, 1, np.array([2, 0])),
        (np.eye(2), np.array([0.5, 0.1]), 1.0, np.zeros(2)),
        *((A, Y, LAM, x) for x in (np.zeros(6), BEST, 0.5 * BEST, 1.4 * BEST, FLIPPED, MORE)),
        (A, -Y, LAM, np.zeros(6)),
        *((A, Y, LAM, scatter(6, 1, value)) for value in (-3.0, 3.0)),
    ],
    [
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
    ],
    right="It is 0 at the minimum only. How far P(x) is above the minimum, the gap tells.",
)


def gap(A: Array, y: Array, lam: float, x: Array, mistake: str = "") -> float:
    r, energy = y - A @ x, 0.5 * y @ y
    largest = np.max(A.T @ r if mistake == "signed" else np.abs(A.T @ r))
    scale = {
        "stretched": lam / largest,
        "not shrunk": 1.0,
        "best multiple": min(max(y @ r / max(r @ r, 1e-300), 0.0), lam / largest),
    }.get(mistake, min(1.0, lam / largest))
    price = {"no penalty": 0.0, "no lam": 1.0}.get(mistake, lam) * np.sum(np.abs(x))
    P = (1.0 if mistake == "no half" else 0.5) * r @ r + price
    difference = P - energy + 0.5 * np.sum((y - scale * r) ** 2)
    units = {"absolute": 1.0, "no half below": y @ y, "by P": P, "norm": np.sqrt(energy / 2)}
    return (-1 if mistake == "negative" else 1) * difference / units.get(mistake, energy)


FIT = np.linalg.lstsq(A, Y, rcond=None)[0]
table(
    "02.certified_gap",
    gap,
    [
        (np.eye(2), np.array([3, 0]), 1.5, np.array([0, 0])),
        *((A, unit * Y, abs(unit) * LAM, unit * x) for unit in (1.0, -3.0)
          for x in (np.zeros(6), 0.5 * BEST, 1.3 * BEST, 0.99 * FIT, 1.01 * FIT, BEST)),
    ],
    [
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
    ],
    also=[lambda *given: gap(*given, mistake="best multiple")],  # a certificate, and no larger
    right="The package's lasso stops when this number is at most its argument `tol`.",
)  # fmt: skip


def exact(A: Array, y: Array, lam: float, support: Array, s: Array, mistake: str = "") -> Array:
    gram, z = A[:, support].T @ A[:, support], A[:, support].T @ y
    sides = {"no l1": z, "plus": z + lam * s, "no signs": z - lam, "no lam": z - s}
    values = np.linalg.solve(gram, sides.get(mistake, z - lam * s))
    if mistake == "later":
        values = np.linalg.solve(gram, z) - lam * s
    if mistake == "not solved":
        values = z - lam * s
    if mistake == "values":
        return values
    places = {"in front": slice(support.size), "order": np.sort(support)}
    return scatter(A.shape[1], places.get(mistake, support), values)


SIGNS = np.array([1.0, -1.0, -1.0])
table(
    "02.exact_values",
    exact,
    [
        (*SHOWN, 1, np.array([0]), np.array([1])),
        (A, Y, 0.2, np.array([5, 1, 2]), SIGNS),
        (A, Y, 0.5, np.array([4, 0]), SIGNS[1::-1]),
        (A, Y, 0.0, np.array([5, 1, 2]), SIGNS),
    ],
    [
        ("values",
         "only the values on the support are returned; write them into a vector of n zeros"),
        ("no l1", "the l1 term is missing: this is debiasing; use lam * s"),
        ("plus", "the sign of lam * s is wrong: it shrinks x"),
        ("no signs", "the signs are lost: subtract lam * s, not lam"),
        ("no lam", "the weight lam is missing: subtract lam * s"),
        ("later",
         "lam * s is subtracted after solving; it belongs on the right side of the system"),
        ("not solved", "A_S^T A_S was not undone; solve the linear system"),
        ("order", "the right values in the wrong order; value i belongs to position support[i]"),
        ("in front", "the right values in the wrong places: x[support] = values"),
    ],
    right="If x has the signs s and no zero leaves the band, x is the minimum, without iterations.",
)  # fmt: skip


def knot(A: Array, y: Array, lam: float, support: Array, s: Array, mistake: str = "") -> float:
    A_S, off = A[:, support], np.delete(np.arange(A.shape[1]), support)
    u, w = np.linalg.solve(A_S.T @ A_S, np.column_stack([A_S.T @ y, s])).T
    p, q = A[:, off].T @ (y - A_S @ u), A[:, off].T @ (A_S @ w) * (mistake != "flat")
    parts = {"leaves": u / w, "upper": p / (1 - q), "lower": p / (-1 - q)}
    lost = ("upper", "lower") if mistake == "enters" else (mistake,)
    candidates = np.concatenate([part for name, part in parts.items() if name not in lost])
    below = candidates[(candidates < lam * (1 - 1e-9)) & (candidates > 0)]
    if mistake == "smallest":
        return np.min(below, initial=lam)
    return {"above": np.max(candidates), "lam": lam}.get(mistake, np.max(below, initial=0.0))


def path_points() -> list[tuple]:
    points = []
    for y in (np.array([-0.8, 0.8, -0.6, 1.3]), np.array([1.1, -1.1, 0.7, -1.9])):
        for share in (0.9, 0.7, 0.5, 0.3, 0.15):
            lam = share * lam_max_of(A, y)
            x = lasso(A, y, lam, tol=1e-12).x
            points.append((A, y, lam, np.flatnonzero(x), np.sign(x[x != 0])))
    return points


table(
    "02.next_knot",
    knot,
    [(*SHOWN, 2, np.array([0]), np.array([1])), *path_points()],
    [
        ("leaves", "a knot where an entry reaches zero was missed: u / w"),
        ("enters", "a knot where a column enters was missed: p / (1 - q) and p / (-1 - q)"),
        ("upper", "columns that enter at +lam were missed: p / (1 - q)"),
        ("lower", "columns that enter at -lam were missed: p / (-1 - q)"),
        ("flat", "lam falls, and the correlation changes, too: divide p by +-1 - q"),
        ("smallest",
         "the smallest candidate was taken; lam falls, so it meets the largest one first"),
        ("above", "candidates above lam were passed already; keep those below"),
        ("lam", "it returns lam itself, where the last entry came in; ask for < lam * (1 - 1e-9)"),
    ],
    right="Between two knots every entry of x is a straight line in lam.",
)  # fmt: skip
