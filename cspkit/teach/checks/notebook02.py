"""Checks of the exercises of notebook 02, solvers and certificates."""

import numpy as np

from cspkit.recovery import lam_max_of, lasso, lasso_gap
from cspkit.teach.cases import table
from cspkit.teach.checks.systems import A, Y, scatter

LAM = 0.3 * lam_max_of(A, Y)
BEST = lasso(A, Y, LAM, tol=1e-12).x
FLIPPED, MORE = np.round(BEST, 2), np.round(BEST, 2)
FLIPPED[np.argmax(np.abs(BEST))] *= -1
MORE[np.argmin(np.abs(BEST))] = 0.4
SHOWN = np.eye(2), np.array([3, 1])


def kkt_violation(A, y, lam, x):
    c = A.T @ (y - A @ x)
    on, off = np.abs(c - lam * np.sign(x)), np.maximum(np.abs(c) - lam, 0)
    return np.max(np.where(x != 0, on, off))


table("02.kkt_violation", kkt_violation, [
    (*SHOWN, 1, np.array([0, 0])), (*SHOWN, 1, np.array([2, 0])),
    (np.eye(2), np.array([0.5, 0.1]), 1.0, np.zeros(2)),
    *((A, Y, LAM, x) for x in (np.zeros(6), BEST, 0.5 * BEST, 1.4 * BEST, FLIPPED, MORE)),
    (A, -Y, LAM, np.zeros(6)),
    *((A, Y, LAM, scatter(6, 1, value)) for value in (-3.0, 3.0)),
], [
    ("y - A @ x => A @ x - y", "the sign of the residual is wrong: c = A^T (y - A x)"),
    ("(y - A @ x) => y", "c is A^T y; it must be A^T (y - A x)"),
    ("c - lam * np.sign(x) => np.abs(c) - lam",
     "on the support |c| is compared with lam; c must also have the sign of x"),
    ("np.abs(c - lam * np.sign(x)) => c - lam * np.sign(x)",
     "on the support c may be too small as well: take the magnitude of c - lam * sign(x)"),
    ("lam * np.sign(x) => np.sign(x)",
     "on the support lam is missing: compare c with lam * sign(x)"),
    ("np.max(on)", "where x_j = 0 only the part of |c_j| above lam is a violation"),
    ("return => return 1 / lam *", "the violation is divided by lam; return it in the units of c"),
    ("* np.sign(x) =>", "on the support the sign of x is lost: compare c with lam * sign(x)"),
    ("np.maximum(np.abs(c) - lam, 0) => np.abs(c) - lam",
     "inside the band nothing is violated: np.maximum(|c| - lam, 0)"),
    ("np.abs(c) => c", "the band has two sides: a c below -lam is a violation, too"),
    ("np.max(off)", "on the support c must equal lam * sign(x), not only stay in the band"),
    ("np.maximum(np.abs(c) - lam, 0) => np.abs(np.abs(c) - lam)",
     "zeros may lie anywhere within the band, not only on its edge"),
    ("np.max(on[x != 0], initial=0)", "only the support is examined; zeros can be violated, too"),
    ("np.max(off[x == 0], initial=0)",
     "only the zeros are examined; the support has a condition, too"),
    ("np.max( => np.sum(", "the violations are added up; return the largest"),
], right="It is 0 at the minimum only. How far P(x) is above the minimum, the gap tells."
)  # fmt: skip


def certified_gap(A, y, lam, x):
    r, energy = y - A @ x, 0.5 * y @ y
    factor = min(1.0, lam / np.max(np.abs(A.T @ r)))
    floor = energy - 0.5 * np.sum((y - factor * r) ** 2)
    P = 0.5 * np.sum(r**2) + lam * np.sum(np.abs(x))
    return (P - floor) / energy


def best_multiple(A, y, lam, x):
    """The certificate with the best multiple of the residual: as valid, and no larger."""
    return lasso_gap(y, y - A @ x, x, lam, y - A @ x, A.T @ (y - A @ x))


FIT = np.linalg.lstsq(A, Y, rcond=None)[0]
table("02.certified_gap", certified_gap, [
    (np.eye(2), np.array([3, 0]), 1.5, np.array([0, 0])),
    *((A, unit * Y, abs(unit) * LAM, unit * x) for unit in (1.0, -3.0)
      for x in (np.zeros(6), 0.5 * BEST, 1.3 * BEST, 0.99 * FIT, 1.01 * FIT, BEST)),
], [
    ("P - floor", "the gap is right but absolute; divide by 1/2 ||y||^2"),
    ("(P - floor) / (y @ y)", "divide by 1/2 ||y||^2, not by ||y||^2"),
    ("(P - floor) / (0.5 * np.sqrt(y @ y))",
     "divide by half the squared norm of y, not half the norm"),
    ("(P - floor) / P", "the gap is divided by the objective; divide by 1/2 ||y||^2"),
    ("+ lam * np.sum(np.abs(x)) =>", "the objective lacks its l1 term"),
    ("np.sum(np.abs(x)) => np.sum(x)", "the l1 norm adds magnitudes: np.sum(np.abs(x))"),
    ("np.sum(np.abs(x)) => np.linalg.norm(x)",
     "this is the l2 norm of x; the l1 norm is np.sum(np.abs(x))"),
    ("np.sum(r**2) => np.linalg.norm(r)", "the misfit is the square of the norm of y - A x"),
    ("(P - floor) / 0.5 * (y @ y)", "brackets are missing below: / (0.5 * y @ y)"),
    ("P - floor / energy", "brackets are missing above: (P - floor)"),
    ("lam * np.sum => np.sum", "the l1 term lacks its weight lam"),
    ("0.5 * np.sum(r**2) => np.sum(r**2)", "the misfit lacks its factor 1/2"),
    ("P - floor => floor - P", "the sign is wrong: objective minus floor"),
    ("factor * r => r", "theta must be shrunk: the residual breaks |a_j^T theta| <= lam"),
    ("min(1.0, => (", "theta is stretched where it need not be: the factor is at most 1"),
    ("np.abs(A.T @ r) => A.T @ r", "the constraint has two sides: max |a_j^T r|, not max a_j^T r"),
], also=[best_multiple],
    right="The package's lasso stops when this number is at most its argument `tol`.",
)  # fmt: skip


def exact_values(A, y, lam, support, s):
    A_S, x = A[:, support], np.zeros(A.shape[1])
    x[support] = np.linalg.solve(A_S.T @ A_S, A_S.T @ y - lam * s)
    return x


SIGNS = np.array([1.0, -1.0, -1.0])
table("02.exact_values", exact_values, [
    (*SHOWN, 1, np.array([0]), np.array([1])), (A, Y, 0.2, np.array([5, 1, 2]), SIGNS),
    (A, Y, 0.5, np.array([4, 0]), SIGNS[1::-1]), (A, Y, 0.0, np.array([5, 1, 2]), SIGNS),
], [
    ("x[support]",
     "only the values on the support are returned; write them into a vector of n zeros"),
    ("- lam * s =>", "the l1 term is missing: this is debiasing; use lam * s"),
    ("- lam * s => + lam * s", "the sign of lam * s is wrong: it shrinks x"),
    ("lam * s => lam", "the signs are lost: subtract lam * s, not lam"),
    ("lam * s => s", "the weight lam is missing: subtract lam * s"),
    ("- lam * s) => ) - lam * s",
     "lam * s is subtracted after solving; it belongs on the right side of the system"),
    ("np.linalg.solve(A_S.T @ A_S, => (", "A_S^T A_S was not undone; solve the linear system"),
    ("x[support] => x[np.sort(support)]",
     "the right values in the wrong order; value i belongs to position support[i]"),
    ("x[support] => x[: support.size]",
     "the right values in the wrong places: x[support] = values"),
], right="If x has the signs s and no zero leaves the band, x is the minimum, without iterations."
)  # fmt: skip


def next_knot(A, y, lam, support, s):
    A_S, off = A[:, support], np.delete(np.arange(A.shape[1]), support)
    u, w = np.linalg.solve(A_S.T @ A_S, np.column_stack([A_S.T @ y, s])).T
    p, q = A[:, off].T @ (y - A_S @ u), A[:, off].T @ (A_S @ w)
    candidates = np.concatenate([u / w, p / (1 - q), p / (-1 - q)])
    below = candidates[(candidates < lam * (1 - 1e-9)) & (candidates > 0)]
    return np.max(below, initial=0.0)


def path_points():
    for y in (np.array([-0.8, 0.8, -0.6, 1.3]), np.array([1.1, -1.1, 0.7, -1.9])):
        for share in (0.9, 0.7, 0.5, 0.3, 0.15):
            lam = share * lam_max_of(A, y)
            x = lasso(A, y, lam, tol=1e-12).x
            yield A, y, lam, np.flatnonzero(x), np.sign(x[x != 0])


table("02.next_knot", next_knot, [
    (*SHOWN, 2, np.array([0]), np.array([1])),
    *path_points(),
], [
    ("u / w, =>", "a knot where an entry reaches zero was missed: u / w"),
    (", p / (1 - q), p / (-1 - q) =>",
     "a knot where a column enters was missed: p / (1 - q) and p / (-1 - q)"),
    (", p / (1 - q) =>", "columns that enter at +lam were missed: p / (1 - q)"),
    (", p / (-1 - q) =>", "columns that enter at -lam were missed: p / (-1 - q)"),
    ("p / (1 - q), p / (-1 - q) => p, -p",
     "lam falls, and the correlation changes, too: divide p by +-1 - q"),
    ("np.min(below, initial=lam)",
     "the smallest candidate was taken; lam falls, so it meets the largest one first"),
    ("np.max(candidates)", "candidates above lam were passed already; keep those below"),
    ("lam", "it returns lam itself, where the last entry came in; ask for < lam * (1 - 1e-9)"),
], right="Between two knots every entry of x is a straight line in lam.")  # fmt: skip
