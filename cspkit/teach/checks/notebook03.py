"""Checks of the exercises of notebook 03, greedy and thresholding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cspkit.recovery import hard_threshold
from cspkit.teach.cases import Case, table
from cspkit.teach.checks.systems import Array, fit_on


def ratio(A: Array, above: Array, below: Array) -> float:
    return above @ above / np.sum((A @ below) ** 2)


def on(g: Array, support: Array) -> Array:
    return np.where(np.isin(np.arange(g.size), support), g, 0)


def best(A: Array, g: Array, support: Array) -> float:
    return ratio(A, on(g, support), on(g, support))


table(
    "03.best_step",
    best,
    [
        Case("the example, A = diag(1, 2, 10), g = (3, 1, 5), support [0, 1]",
             (np.diag([1, 2, 10]), np.array([3, 1, 5]), np.array([0, 1]))),
        "rng = default_rng(1); A = rng.standard_normal((12, 20)); "
        "g = A.T @ rng.standard_normal(12); support = np.array([3, 17, 8, 11])",
    ],
    [
        (lambda *a: 1 / best(*a), "the fraction is upside down: ||g_S||^2 belongs on top"),
        (lambda *a: np.sqrt(best(*a)), "the norms must be squared, above and below"),
        (lambda A, g, S: ratio(A, g, g), "the whole g is used; only its entries on S move"),
        (lambda A, g, S: ratio(A, g, on(g, S)),
         "||g||^2 on top takes the whole g; use g on S above and below"),
        (lambda A, g, S: ratio(A, on(g, S), g), "A g below takes the whole g; use A[:, S] @ g[S]"),
        (lambda *a: -best(*a), "the sign is wrong: g already points downhill"),
        (lambda *a: 2 * best(*a),
         "a factor 2 too large: the derivative of the square has it twice"),
        (lambda *a: best(*a) / 2,
         "a factor 2 too small: the derivative of the square has it twice"),
        (lambda A, g, S: 1 / np.linalg.norm(A, 2) ** 2,
         "this is 1/L, safe for all directions; take the best step along g_S"),
    ],
    "another step makes ||r - eta A g_S|| smaller",
    right="If the step changes the support, it may be too long: the package's iht then halves it.",
)  # fmt: skip


def htp(moved: Callable = lambda A, y, x, eta: x + eta * A.T @ (y - A @ x)) -> Callable:
    """A step of HTP; another moved point is a mistake."""

    def step(A: Array, y: Array, x: Array, k: int, eta: float) -> Array:
        return fit_on(A, y, np.flatnonzero(hard_threshold(moved(A, y, x, eta), k)))

    return step


def iht(A: Array, y: Array, x: Array, k: int, eta: float) -> Array:
    return hard_threshold(x + eta * A.T @ (y - A @ x), k)


def wrong_htp(answer: Array, right: Array, inputs: tuple) -> str:
    count, k = np.count_nonzero(answer), inputs[3]
    if count != k:
        return f"{count} entries are not zero, expected {k}"
    return "the values are not the least squares fit on the support of the moved point"


MADE = (
    "rng = default_rng(2); A = rng.standard_normal((15, 30)) / np.sqrt(15); "
    "y = rng.standard_normal(15); k = 4; x = np.zeros(30); "
)
SOMEWHERE = MADE + "x[[2, 9, 21, 28]] = 1.5, -0.8, 0.6, -1.2; "
table(
    "03.htp_step",
    lambda A, y, x, k, eta: htp()(A, y, x, k, eta),
    [
        Case("the example, A = I, y = (3, 0, -4), x = 0, k = 1, eta = 0.5",
             (np.eye(3, dtype=int), np.array([3, 0, -4]), np.zeros(3, dtype=int), 1, 0.5)),
        SOMEWHERE + "eta = 0.7",
        MADE + "eta = 1.0",
        SOMEWHERE + "eta = 3.0",
    ],
    [
        (iht, "this is a step of IHT: the support is right, now fit its values to y"),
        (lambda A, y, x, k, eta: iht(A, y, x, x.size, eta),
         "nothing was cut; keep the k largest with hard_threshold"),
        (lambda A, y, x, k, eta: htp()(A, y, x, k, -eta),
         "the step goes uphill: add eta A^T (y - A x)"),
        (htp(lambda A, y, x, eta: A.T @ (y - A @ x)),
         "the support is chosen from the gradient alone; the step starts at x"),
        (htp(lambda A, y, x, eta: A.T @ y),
         "x is ignored; the gradient is taken at x and the step starts there"),
        (htp(lambda A, y, x, eta: x + eta * A.T @ y),
         "the gradient needs the residual y - A x, not y"),
        (lambda A, y, x, *a: fit_on(A, y, np.flatnonzero((x != 0) | (iht(A, y, x, *a) != 0))),
         "the old support was kept as well; the k chosen positions replace it"),
        (htp(lambda A, y, x, eta: x), "the support is the old one; move before you choose"),
        (lambda A, y, x, k, eta: htp()(A, y, x, k, 1.0), "eta is not used"),
        (lambda A, y, x, k, eta: fit_on(A, y, np.argsort(-iht(A, y, x, x.size, eta))[:k]),
         "the k largest values were kept; compare magnitudes"),
        (lambda A, y, x, k, eta: hard_threshold(np.linalg.lstsq(A, y, rcond=None)[0], k),
         "all columns were fitted and then cut; choose first, then fit the chosen ones"),
    ],
    wrong_htp,
    right="If a step chooses the same support again, the next one returns the same answer: done.",
)  # fmt: skip


def memory(at: str = "z", start: str = "v", sign: float = -1, rate: bool = True,
           keep: Callable = hard_threshold, only_kept: bool = False) -> Callable:  # fmt: skip
    """A step with memory; the options make its typical mistakes."""

    def step(A: Array, y: Array, v: Array, k: int, eta: float) -> tuple[Array, Array]:
        points = {"z": keep(v, k), "v": v}
        gradient = A.T @ (A @ points[at] - y)
        if only_kept:
            gradient = np.where(points["z"] != 0, gradient, 0)
        return points["z"], points[start] + sign * (eta if rate else 1.0) * gradient

    return step


def cut_afterwards(at: str) -> Callable:
    def step(*a) -> tuple[Array, Array]:
        v_new = memory(at)(*a)[1]
        return hard_threshold(v_new, a[3]), v_new

    return step


def wrong_memory(answer: tuple, right: tuple, inputs: tuple) -> str:
    if not np.allclose(answer[0], right[0]):
        return "z is not H_k(v)"
    return "the next v is not v - eta A^T (A z - y)"


LATE = "z is cut from the new v; cut first, then take the gradient at this z"
table(
    "03.memory_step",
    lambda A, y, v, k, eta: memory()(A, y, v, k, eta),
    [
        Case("the example, A = I, y = (1, 1), v = (2, 0.5), k = 1, eta = 0.1",
             (np.eye(2, dtype=int), np.array([1, 1]), np.array([2, 0.5]), 1, 0.1)),
        "rng = default_rng(3); A, y, v = rng.standard_normal((8, 12)), rng.standard_normal(8), "
        "rng.standard_normal(12); k = 3; eta = 0.2",
    ],
    [
        (lambda *a: memory()(*a)[::-1], "z and v are returned in the wrong order"),
        (lambda *a: (a[2], memory()(*a)[1]),
         "z is not cut; it keeps only the k largest magnitudes of v"),
        (memory("v", keep=lambda v, k: v), "nothing is cut: z is H_k(v)"),
        (cut_afterwards("z"), LATE),
        (cut_afterwards("v"), LATE),
        (memory(keep=lambda v, k: np.where(v >= np.sort(v)[-k], v, 0)),
         "z keeps the largest values; compare magnitudes"),
        (memory(at="v"),
         "the gradient is taken at v, so the misfit never sees the cut; take it at z"),
        (memory(start="z"),
         "the step starts at z: this is IHT, which forgets what it cuts; start at v"),
        (memory(only_kept=True),
         "the gradient reaches only the kept entries, so the cut ones cannot come back"),
        (lambda *a: (memory()(*a)[0], hard_threshold(memory()(*a)[1], a[3])),
         "the new v is cut; the memory stays dense"),
        (memory(sign=1), "the sign is wrong: v moves against the gradient A^T (A z - y)"),
        (memory(rate=False), "eta is not used"),
        (lambda *a: (memory()(*a)[0], a[2]), "v did not move"),
        (lambda *a: (memory()(*a)[0],) * 2, "the new v is z: nothing is remembered"),
        (memory(at="v", start="z"), "z and v have changed places: gradient at z, step from v"),
    ],
    wrong_memory,
    parts=("z", "v"),
    right="Pruning with csp does this in notebook 10: V is the memory, Z are the weights in use.",
)  # fmt: skip


def rests(A: Array, y: Array, support: Array, ratio: float, mistake: str = "") -> bool:
    z = fit_on(A, y, support)
    off = np.delete(A.T @ (y if mistake == "start" else y - A @ z), support)
    kept = z if mistake == "everywhere" else z[support]
    off, kept = (v if mistake == f"signed {s}" else abs(v) for s, v in (("g", off), ("z", kept)))
    push = (np.min if mistake == "smallest g" else np.max)(off)
    bar = (np.max if mistake == "largest z" else np.min)(kept)
    if mistake == "turned":
        return bool(push <= ratio * bar)
    push *= 1.0 if mistake == "no ratio" else ratio
    return bool(push < bar if mistake == "strict" else push <= bar) != (mistake == "opposite")


SMALL = "A = np.array([[1, 0, 0.6], [0, 1, 0.8]]); y = np.array([1, 0.5]); "
DRAWN = (
    "rng = default_rng(4); A = rng.standard_normal((10, 16)) / np.sqrt(10); "
    "y = A[:, 2] - A[:, 7] + A[:, 11] + 0.1 * rng.standard_normal(10); "
)
SUPPORTS = [[2, 7, 11]]
SUPPORTS += [np.random.default_rng(i).choice(16, 3, replace=False).tolist() for i in range(40)]
table(
    "03.rests",
    rests,
    [
        *(f"{SMALL}support = np.array([0]); ratio = {ratio}" for ratio in (1, 4)),
        *(f"{DRAWN}support = np.array({support}); ratio = {ratio}"
          for support in SUPPORTS for ratio in (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)),
        "A = np.eye(4)[:, [0, 1, 2, 3, 0]]; y = np.array([2.0, 0, 0, 0]); "
        "support = np.array([0, 1]); ratio = 1e6",
    ],
    [
        ("opposite", "the answer is the opposite: True means that it rests"),
        ("turned", "the ratio is on the wrong side: ratio * max |g_j| <= min |z_i|"),
        ("signed z", "the values of z are compared with their sign; use np.abs(z[S])"),
        ("signed g", "g is compared with its sign; use np.abs(g) off S"),
        ("everywhere",
         "it never rests; a minimum over all of z is 0, as z is 0 off S: take z[S]"),
        ("largest z", "the largest |z_i| was taken; the smallest one leaves first"),
        ("smallest g", "the smallest |g_j| was taken; the largest one enters first"),
        ("start", "g is A^T y; it must be the gradient at z, A^T (y - A z)"),
        ("no ratio", "the ratio is not used"),
        ("strict", "with g = 0 and z_i = 0 the two sides are equal, and it rests: use <="),
    ],
    right="A larger ratio leaves fewer resting places; a support that explains y always is one.",
)  # fmt: skip
