"""Checks of the exercises of notebook 03, greedy and thresholding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cspkit.recovery import hard_threshold
from cspkit.teach.check import NOTHING, Verdict, as_array, exercise, named

Vector = np.ndarray


def _changed(given: tuple[Vector, ...], kept: tuple[Vector, ...]) -> bool:
    return not all(map(np.array_equal, given, kept))


def _fit(A: Vector, y: Vector, S: Vector) -> Vector:
    x = np.zeros(A.shape[1])
    x[S] = np.linalg.lstsq(A[:, S], y, rcond=None)[0]
    return x


@exercise("03.best_step")
def best_step(function: Callable[[Vector, Vector, Vector], float]) -> Verdict:
    """Check the exact line search on a support."""
    rng = np.random.default_rng(1)
    A, r, S = rng.standard_normal((12, 20)), rng.standard_normal(12), np.array([3, 17, 8, 11])
    g = A.T @ r
    given = A.copy(), g.copy(), S.copy()
    mu, wrong = as_array(function(*given), ())
    if wrong:
        return wrong
    if _changed(given, (A, g, S)):
        return "an input was modified in place; work on new arrays"
    A_g, A_all = A[:, S] @ g[S], A @ g
    square, curvature = g[S] @ g[S], A_g @ A_g
    if np.isclose(mu, square / curvature):
        return None
    known = [
        (curvature / square, "the fraction is upside down: ||g_S||^2 belongs on top"),
        (np.sqrt(square / curvature), "the norms must be squared, above and below"),
        (g @ g / (A_all @ A_all), "the whole g is used; only its entries on S move"),
        (g @ g / curvature, "||g||^2 on top takes the whole g; use g on S above and below"),
        (square / (A_all @ A_all), "A g below takes the whole g; use A[:, S] @ g[S]"),
        (-square / curvature, "the sign is wrong: g already points downhill"),
        (2 * square / curvature, "a factor 2 too large: the derivative of the square has it twice"),
        (square / curvature / 2, "a factor 2 too small: the derivative of the square has it twice"),
        (1 / np.linalg.norm(A, 2) ** 2, "this is 1/L, safe for all directions; take the best here"),
    ]
    left = np.linalg.norm(r - mu * A_g) / np.linalg.norm(r - square / curvature * A_g)
    return named(mu, known, f"||r - mu A g_S|| is {left:.2f} times as large as it could be")


@exercise("03.htp_step")
def htp_step(function: Callable[[Vector, Vector, Vector, int, float], Vector]) -> Verdict:
    """Check one step of hard thresholding pursuit, from zero and from another answer."""
    rng = np.random.default_rng(2)
    A, y, k = rng.standard_normal((15, 30)) / np.sqrt(15), rng.standard_normal(15), 4
    start = np.zeros(30)
    start[[2, 9, 21, 28]] = 1.5, -0.8, 0.6, -1.2
    for x, mu in ((start, 0.7), (np.zeros(30), 1.0), (start, 3.0)):
        given = A.copy(), y.copy(), x.copy()
        answer, wrong = as_array(function(*given, k, mu), (30,))
        if wrong:
            return wrong
        if _changed(given, (A, y, x)):
            return "an input was modified in place; work on new arrays"
        g = A.T @ (y - A @ x)
        moved = hard_threshold(x + mu * g, k)
        right = _fit(A, y, np.flatnonzero(moved))
        if np.allclose(answer, right):
            continue
        known = [
            (moved, "this is a step of IHT: the support is right, now fit its values to y"),
            (x + mu * g, "nothing was cut; keep the k largest with hard_threshold"),
            (
                _fit(A, y, np.flatnonzero(hard_threshold(x - mu * g, k))),
                "the step goes uphill: add mu A^T (y - A x)",
            ),
            (
                _fit(A, y, np.flatnonzero(hard_threshold(g, k))),
                "the support is chosen from the gradient alone; the step starts at x",
            ),
            (
                _fit(A, y, np.flatnonzero(hard_threshold(mu * (A.T @ y), k))),
                "x is ignored; the gradient is taken at x and the step starts there",
            ),
            (
                _fit(A, y, np.flatnonzero(hard_threshold(x + mu * A.T @ y, k))),
                "the gradient needs the residual y - A x, not y",
            ),
            (
                _fit(A, y, np.union1d(np.flatnonzero(x), np.flatnonzero(moved))),
                "the old support was kept as well; the k chosen positions replace it",
            ),
            (_fit(A, y, np.flatnonzero(x)), "the support is the old one; move before you choose"),
            (
                _fit(A, y, np.flatnonzero(hard_threshold(x + g, k))),
                "mu is not used",
            ),
            (
                _fit(A, y, np.argsort(-(x + mu * g))[:k]),
                "the k largest values were kept; compare magnitudes",
            ),
            (
                hard_threshold(np.linalg.lstsq(A, y, rcond=None)[0], k),
                "all columns were fitted and then cut; choose first, then fit the chosen ones",
            ),
        ]
        count = np.count_nonzero(answer)
        return named(
            answer,
            known,
            f"{count} entries are not zero, expected {k}"
            if count != k
            else "the values are not the least squares fit on the support of the moved point",
        )
    return None


@exercise("03.memory_step")
def memory_step(function: Callable[..., tuple[Vector, Vector]]) -> Verdict:
    """Check one step with memory; its typical mistakes are other methods."""
    rng = np.random.default_rng(3)
    A, y, k, eta = rng.standard_normal((8, 12)), rng.standard_normal(8), 3, 0.2
    v = rng.standard_normal(12)
    given = A.copy(), y.copy(), v.copy()
    answer = function(*given, k, eta)
    if answer is None:
        return NOTHING
    if not isinstance(answer, (tuple, list)) or len(answer) != 2:
        return "the function must return two arrays, z and the next v"
    z, wrong = as_array(answer[0], (12,))
    if wrong:
        return f"of z: {wrong}"
    v_new, wrong = as_array(answer[1], (12,))
    if wrong:
        return f"of v: {wrong}"
    if _changed(given, (A, y, v)):
        return "an input was modified in place; work on new arrays"
    right = hard_threshold(v, k)
    gradient = A.T @ (A @ right - y)
    if np.allclose(z, v - eta * gradient) and np.allclose(v_new, right):
        return "z and v are returned in the wrong order"
    if not np.allclose(z, right):
        known = [
            (v, "z is not cut; it keeps only the k largest magnitudes of v"),
            (
                hard_threshold(v_new, k),
                "z is cut from the new v; cut first, then take the gradient at this z",
            ),
            (np.where(v >= np.sort(v)[-k], v, 0), "z keeps the largest values; compare magnitudes"),
        ]
        return named(z, known, "z is not H_k(v)")
    dense = A.T @ (A @ v - y)
    known = [
        (
            v - eta * dense,
            "the gradient is taken at v, so the misfit never sees the cut; take it at z",
        ),
        (
            right - eta * gradient,
            "the step starts at z: this is IHT, which forgets what it cuts; start at v",
        ),
        (
            v - eta * np.where(right != 0, gradient, 0),
            "the gradient reaches only the kept entries, so the cut ones cannot come back",
        ),
        (
            hard_threshold(v - eta * gradient, k),
            "the new v is cut; the memory stays dense",
        ),
        (v + eta * gradient, "the sign is wrong: v moves against the gradient A^T (A z - y)"),
        (v - gradient, "eta is not used"),
        (v, "v did not move"),
        (right, "the new v is z: nothing is remembered"),
        (right - eta * dense, "z and v have changed places: gradient at z, step from v"),
    ]
    return _wrong_memory(v_new, v - eta * gradient, known)


def _wrong_memory(v_new: Vector, right: Vector, known: list[tuple[object, str]]) -> Verdict:
    if np.allclose(v_new, right):
        return None
    return named(v_new, known, "the next v is not v - eta A^T (A z - y)")


@exercise("03.rests")
def rests(function: Callable[[Vector, Vector, Vector, float], bool]) -> Verdict:
    """Check the test for a resting place on many supports and ratios."""
    rng = np.random.default_rng(4)
    A = rng.standard_normal((10, 16)) / np.sqrt(10)
    signal = np.zeros(16)
    signal[[2, 7, 11]] = 1.0, -1.0, 1.0
    y = A @ signal + 0.1 * rng.standard_normal(10)
    supports = [np.array([2, 7, 11])]
    supports += [rng.choice(16, size=3, replace=False) for _ in range(40)]
    cases = [(S, ratio) for S in supports for ratio in (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)]
    given = A.copy(), y.copy()
    answers = []
    for S, ratio in cases:
        answer = function(*given, S.copy(), ratio)
        if answer is None:
            return NOTHING
        if not np.isscalar(answer) and np.shape(answer) != ():
            return f"the answer has shape {np.shape(answer)}, expected one True or False"
        if not isinstance(answer, (bool, np.bool_)):
            kind = type(answer).__name__
            return f"the function returns a {kind}, expected True or False"
        answers.append(bool(answer))
    if _changed(given, (A, y)):
        return "an input was modified in place; work on new arrays"
    if answers == [_rests(A, y, *case) for case in cases]:
        return _rests_at_exact_fit(function)
    mistakes = (
        ("opposite", "the answer is the opposite: True means that it rests"),
        ("turned", "the ratio is on the wrong side: ratio * max |g_j| <= min |z_i|"),
        ("values", "the values of z are compared with their sign; use np.abs(z[S])"),
        ("gradient", "g is compared with its sign; use np.abs(g) off S"),
        ("everywhere", "it never rests; a minimum over all of z is 0, as z is off S: take z[S]"),
        ("largest", "the largest |z_i| was taken; the smallest one is in danger"),
        ("smallest", "the smallest |g_j| was taken; the largest one breaks in first"),
        ("start", "g is A^T y; it must be the gradient at z, A^T (y - A z)"),
        ("no ratio", "the ratio is not used"),
    )
    for mistake, sentence in mistakes:
        if answers == [_rests(A, y, *case, mistake=mistake) for case in cases]:
            return sentence
    i = next(i for i, case in enumerate(cases) if answers[i] != _rests(A, y, *case))
    S, ratio = cases[i]
    return f"wrong for S = {S.tolist()} and ratio {ratio:g}: expected {not answers[i]}"


def _rests(A: Vector, y: Vector, S: Vector, ratio: float, mistake: str = "") -> bool:
    z = _fit(A, y, S)
    g = A.T @ (y if mistake == "start" else y - A @ z)
    off = np.delete(g if mistake == "gradient" else np.abs(g), S)
    on = z[S] if mistake == "values" else np.abs(z if mistake == "everywhere" else z[S])
    bar = np.max(on) if mistake == "largest" else np.min(on)
    push = np.min(off) if mistake == "smallest" else np.max(off)
    if mistake == "no ratio":
        ratio = 1.0
    rest = push <= ratio * bar if mistake == "turned" else ratio * push <= bar
    return bool(rest != (mistake == "opposite"))


def _rests_at_exact_fit(function: Callable[[Vector, Vector, Vector, float], bool]) -> Verdict:
    """A support that explains y exactly is a resting place for every ratio."""
    A, y, S = np.eye(4)[:, [0, 1, 2, 3, 0]], np.array([2.0, 0, 0, 0]), np.array([0, 1])
    if not function(A, y, S, 1e6):
        return "with g = 0 and z_i = 0 the two sides are equal, and it rests: use <="
    return None
