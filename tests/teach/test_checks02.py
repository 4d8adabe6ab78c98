"""The checks of notebook 02 accept the right answer and name each typical mistake."""

import numpy as np
from answers import answer_tests

from cspkit.recovery import lasso_gap


def violation(on=None, off=None, pull=None, total=np.max):
    """The KKT violation; the options are typical mistakes."""

    def answer(A, y, lam, x):
        c = (pull or (lambda A, y, x: A.T @ (y - A @ x)))(A, y, x)
        first = (on or (lambda c, lam, x: np.abs(c - lam * np.sign(x))))(c, lam, x)
        second = (off or (lambda c, lam: np.maximum(np.abs(c) - lam, 0)))(c, lam)
        return total(np.where(x != 0, first, second))

    return answer


def only(which):
    def answer(A, y, lam, x):
        c, on = A.T @ (y - A @ x), x != 0
        if which == "off":
            return np.max(np.maximum(np.abs(c[~on]) - lam, 0))
        return np.max(np.abs(c[on] - lam * np.sign(x[on])), initial=0)

    return answer


def floor_under(A, y, lam, x, theta=None):
    r = y - A @ x
    theta = r * min(1, lam / np.max(np.abs(A.T @ r))) if theta is None else theta
    return 0.5 * y @ y - 0.5 * np.sum((y - theta) ** 2)


def objective(A, y, lam, x):
    return 0.5 * np.sum((y - A @ x) ** 2) + lam * np.sum(np.abs(x))


def certified_gap(A, y, lam, x):
    return (objective(A, y, lam, x) - floor_under(A, y, lam, x)) / (0.5 * y @ y)


def gap_with(theta):
    """The gap with another dual point."""

    def answer(A, y, lam, x):
        r = y - A @ x
        floor = floor_under(A, y, lam, x, theta(A, r, lam))
        return (objective(A, y, lam, x) - floor) / (0.5 * y @ y)

    return answer


def gap_of(
    misfit=lambda r: 0.5 * r @ r,
    size=lambda x: np.sum(np.abs(x)),
    relative=lambda P, floor, y: (P - floor) / (0.5 * y @ y),
):
    """The gap with other parts."""

    def answer(A, y, lam, x):
        return relative(misfit(y - A @ x) + lam * size(x), floor_under(A, y, lam, x), y)

    return answer


def package_gap(A, y, lam, x):
    r = y - A @ x
    return lasso_gap(y, r, x, lam, r, A.T @ r)


def exact(A, y, lam, S, s):
    x = np.zeros(A.shape[1])
    x[S] = np.linalg.solve(A[:, S].T @ A[:, S], A[:, S].T @ y - lam * s)
    return x


def exact_with(values):
    def answer(A, y, lam, S, s):
        x, A_S = np.zeros(A.shape[1]), A[:, S]
        x[S] = values(A_S.T @ A_S, A_S.T @ y, lam, s)
        return x

    return answer


def by_least_squares(A, y, lam, S, s):
    """The same linear system, solved by two least squares fits."""
    x, A_S = np.zeros(A.shape[1]), A[:, S]
    x[S] = np.linalg.lstsq(A_S, y - lam * np.linalg.pinv(A_S).T @ s, rcond=None)[0]
    return x


def sorted_support(A, y, lam, S, s):
    x = np.zeros(A.shape[1])
    x[np.sort(S)] = exact(A, y, lam, S, s)[S]
    return x


def in_front(A, y, lam, S, s):
    x = np.zeros(A.shape[1])
    x[: S.size] = exact(A, y, lam, S, s)[S]
    return x


def knot(keep=("leaves", "upper", "lower"), choose=np.max, bound=True, moving=True, nudge=1e-9):
    """The next knot; the options are typical mistakes."""

    def answer(A, y, lam, S, s):
        A_S, off = A[:, S], np.delete(np.arange(A.shape[1]), S)
        u, w = np.linalg.solve(A_S.T @ A_S, np.column_stack([A_S.T @ y, s])).T
        p, q = A[:, off].T @ (y - A_S @ u), A[:, off].T @ (A_S @ w) * moving
        parts = {"leaves": u / w, "upper": p / (1 - q), "lower": p / (-1 - q)}
        candidates = np.concatenate([parts[name] for name in keep])
        if bound:
            candidates = candidates[(candidates < lam * (1 - nudge)) & (candidates > 0)]
        return choose(candidates) if candidates.size else 0.0

    return answer


def overwrites(function):
    def answer(A, y, *arguments):
        value = function(A, y, *arguments)
        y[:] = 0
        return value

    return answer


RIGHT = [
    ("02.kkt_violation", violation()),
    ("02.certified_gap", certified_gap),
    ("02.certified_gap", package_gap),
    ("02.certified_gap", gap_of()),
    ("02.certified_gap", lambda *given: np.float32(certified_gap(*given))),
    ("02.exact_values", lambda *given: exact(*given).tolist()),
    ("02.exact_values", by_least_squares),
    ("02.exact_values", exact),
    ("02.next_knot", knot()),
]

WRONG = [
    (
        "02.kkt_violation",
        violation(pull=lambda A, y, x: A.T @ (A @ x - y)),
        "the sign of the residual is wrong",
    ),
    ("02.kkt_violation", violation(pull=lambda A, y, x: A.T @ y), "c is A^T y"),
    (
        "02.kkt_violation",
        violation(on=lambda c, lam, x: np.abs(np.abs(c) - lam)),
        "c must also have the sign of x",
    ),
    (
        "02.kkt_violation",
        violation(on=lambda c, lam, x: np.abs(c - lam)),
        "on the support the sign of x is lost",
    ),
    ("02.kkt_violation", violation(off=lambda c, lam: np.maximum(c - lam, 0)), "two sides"),
    (
        "02.kkt_violation",
        violation(on=lambda c, lam, x: np.maximum(np.abs(c) - lam, 0)),
        "not only stay in the band",
    ),
    (
        "02.kkt_violation",
        violation(off=lambda c, lam: np.abs(np.abs(c) - lam)),
        "zeros may lie anywhere within the band",
    ),
    ("02.kkt_violation", only("on"), "only the support is examined"),
    ("02.kkt_violation", only("off"), "only the zeros are examined"),
    ("02.kkt_violation", violation(total=np.sum), "return the largest"),
    ("02.kkt_violation", violation(total=np.array), "shape (2,), expected one number"),
    ("02.kkt_violation", lambda *a: 1.0, "the answer is 1, expected 2"),
    ("02.kkt_violation", lambda *a: 0.0, "x = [0, 0]\nthe answer is 0, expected 2"),
    ("02.kkt_violation", overwrites(violation()), "in place"),
    (
        "02.certified_gap",
        lambda A, y, lam, x: certified_gap(A, y, lam, x) * (y @ y) / 2,
        "right but absolute",
    ),
    ("02.certified_gap", lambda *a: certified_gap(*a) / 2, "not by ||y||^2"),
    (
        "02.certified_gap",
        lambda A, y, lam, x: certified_gap(A, y, lam, x) * np.linalg.norm(y),
        "not half the norm",
    ),
    (
        "02.certified_gap",
        lambda A, y, lam, x: certified_gap(A, y, lam, x) * (y @ y) / 2 / objective(A, y, lam, x),
        "divided by the objective",
    ),
    (
        "02.certified_gap",
        lambda A, y, lam, x: certified_gap(A, y, lam, x) - lam * np.sum(np.abs(x)) * 2 / (y @ y),
        "lacks its l1 term",
    ),
    (
        "02.certified_gap",
        lambda A, y, lam, x: (
            certified_gap(A, y, lam, x) + (1 - lam) * np.sum(np.abs(x)) * 2 / (y @ y)
        ),
        "lacks its weight lam",
    ),
    (
        "02.certified_gap",
        lambda A, y, lam, x: certified_gap(A, y, lam, x) + np.sum((y - A @ x) ** 2) / (y @ y),
        "lacks its factor 1/2",
    ),
    ("02.certified_gap", lambda *a: -certified_gap(*a), "objective minus floor"),
    ("02.certified_gap", gap_with(lambda A, r, lam: r), "theta must be shrunk"),
    (
        "02.certified_gap",
        gap_with(lambda A, r, lam: r * lam / np.max(np.abs(A.T @ r))),
        "the factor is at most 1",
    ),
    (
        "02.certified_gap",
        gap_with(lambda A, r, lam: r * min(1, lam / np.max(A.T @ r))),
        "the constraint has two sides",
    ),
    ("02.certified_gap", lambda *a: 0.5, "the answer is 0.5, expected 0.25"),
    ("02.certified_gap", lambda *a: 0.0, "x = [0, 0]\nthe answer is 0, expected 0.25"),
    ("02.certified_gap", lambda A, y, lam, x: y, "shape (2,), expected one number"),
    ("02.certified_gap", overwrites(certified_gap), "in place"),
    ("02.exact_values", exact_with(lambda G, z, lam, s: np.linalg.solve(G, z)), "debiasing"),
    (
        "02.exact_values",
        exact_with(lambda G, z, lam, s: np.linalg.solve(G, z + lam * s)),
        "the sign of lam * s is wrong",
    ),
    (
        "02.exact_values",
        exact_with(lambda G, z, lam, s: np.linalg.solve(G, z - lam)),
        "the signs are lost",
    ),
    (
        "02.exact_values",
        exact_with(lambda G, z, lam, s: np.linalg.solve(G, z - s)),
        "the weight lam is missing",
    ),
    (
        "02.exact_values",
        exact_with(lambda G, z, lam, s: np.linalg.solve(G, z) - lam * s),
        "subtracted after solving",
    ),
    ("02.exact_values", exact_with(lambda G, z, lam, s: z - lam * s), "was not undone"),
    (
        "02.exact_values",
        sorted_support,
        "in the wrong order",
    ),
    ("02.exact_values", in_front, "in the wrong places"),
    ("02.exact_values", lambda A, y, lam, S, s: exact(A, y, lam, S, s)[S], "only the values"),
    ("02.exact_values", lambda *a: exact(*a) + 1, "the answer is [3., 1.], expected [2., 0.]"),
    ("02.exact_values", lambda *a: 1.1 * exact(*a), "the answer is [2.2, 0. ]"),
    ("02.exact_values", overwrites(exact), "in place"),
    ("02.next_knot", knot(keep=("upper", "lower")), "an entry reaches zero was missed"),
    ("02.next_knot", knot(keep=("leaves",)), "a knot where a column enters was missed"),
    ("02.next_knot", knot(keep=("leaves", "lower")), "at +lam were missed"),
    ("02.next_knot", knot(keep=("leaves", "upper")), "at -lam were missed"),
    ("02.next_knot", knot(moving=False), "the correlation changes with lam"),
    ("02.next_knot", knot(choose=np.min), "meets the largest one first"),
    ("02.next_knot", knot(bound=False), "were passed already"),
    ("02.next_knot", lambda A, y, lam, S, s: lam, "it returns lam itself"),
    ("02.next_knot", lambda *a: 0.9 * knot()(*a), "the answer is 0.9, expected 1"),
    ("02.next_knot", lambda *a: np.nan, "nan or inf"),
    ("02.next_knot", overwrites(knot()), "in place"),
    (
        "02.kkt_violation",
        violation(on=lambda c, lam, x: c - lam * np.sign(x)),
        "the magnitude of c",
    ),
    (
        "02.kkt_violation",
        violation(on=lambda c, lam, x: np.abs(c - np.sign(x))),
        "on the support lam is missing",
    ),
    ("02.kkt_violation", violation(off=lambda c, lam: np.abs(c)), "only the part of |c_j| above"),
    (
        "02.kkt_violation",
        lambda A, y, lam, x: violation()(A, y, lam, x) / lam,
        "is divided by lam",
    ),
    (
        "02.certified_gap",
        gap_of(misfit=lambda r: 0.5 * np.linalg.norm(r)),
        "the square of the norm",
    ),
    ("02.certified_gap", gap_of(size=np.sum), "adds magnitudes"),
    ("02.certified_gap", gap_of(size=np.linalg.norm), "the l2 norm of x"),
    ("02.certified_gap", gap_of(relative=lambda P, f, y: (P - f) / 0.5 * y @ y), "missing below"),
    ("02.certified_gap", gap_of(relative=lambda P, f, y: P - f / (0.5 * y @ y)), "missing above"),
]


test_right, test_wrong, test_unsolved, test_nothing = answer_tests(RIGHT, WRONG)
