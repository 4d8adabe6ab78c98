"""Checks of the exercises of notebook 04, how many measurements."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from scipy.stats import norm

from cspkit.recovery import phase_transition, soft_threshold
from cspkit.teach.cases import Case, table

Vector = np.ndarray


def _promise(
    last: Callable = lambda b: np.ceil(b - 1e-9) - 1, unit: bool = True, size=np.abs, diagonal=0.0
):
    """The promised k; the options make its typical mistakes."""

    def answer(A: Vector) -> float:
        A = A / np.linalg.norm(A, axis=0) if unit else A
        cosines = size(A.T @ A).astype(float)
        np.fill_diagonal(cosines, diagonal)
        return last((1 + 1 / cosines.max()) / 2)

    return answer


def _two_columns(cosine: float) -> Vector:
    return np.array([[1.0, cosine], [0.0, np.sqrt(1 - cosine**2)]])


table(
    "04.promised_k",
    _promise(),
    [
        Case("the example, two unit vectors with cosine 1/3", (_two_columns(1 / 3),)),
        Case("two unit vectors with cosine 0.22", (_two_columns(0.22),)),
        Case(
            "two columns of lengths 10 and 1/2 with cosine 0.22", (_two_columns(0.22) * [10, 0.5],)
        ),
        Case("two unit vectors with cosine -0.6", (_two_columns(-0.6),)),
        Case("the integers A = [[1, 1], [0, 1]]", (np.array([[1, 1], [0, 1]]),)),
        Case(
            "default_rng(0).standard_normal((250, 1000)) / sqrt(250)",
            (np.random.default_rng(0).standard_normal((250, 1000)) / np.sqrt(250),),
        ),
    ],
    [
        (
            lambda A: 1 / (2 * _promise(lambda b: b)(A) - 1),
            "this is the coherence; the answer is the largest integer below (1 + 1/coh(A)) / 2",
        ),
        (_promise(unit=False), "the columns have other lengths than 1; normalise them first"),
        (_promise(size=np.array, diagonal=-2.0), "the cosines have a sign; use absolute values"),
        (lambda A: 0.0, "k = 0: is the diagonal (the cosine of a column with itself, 1) left out?"),
        (
            _promise(lambda b: np.floor(b + 1e-9)),
            "the answer is rounded down, but must be strictly less than the bound",
        ),
        (
            _promise(lambda b: np.ceil(b - 1e-9)),
            "the answer is rounded up; it must be below the bound",
        ),
        (_promise(lambda b: np.ceil(2 * b - 1e-9) - 1), "the factor 1/2 is missing"),
        (_promise(lambda b: b), "the bound is returned, which is no integer"),
    ],
)


GRID = np.linspace(0.01, 8, 4000)


def _line(best=np.max, above: float = 2.0, below: float = 2.0, M: Callable | None = None):
    """The line of l1; the options make its typical mistakes."""

    def answer(delta: float, a: Vector = GRID) -> float:
        left = (1 + a**2) * norm.cdf(-a) - a * norm.pdf(a) if M is None else M(a)
        with np.errstate(divide="ignore", invalid="ignore"):
            return best((1 - above / delta * left) / (1 + a**2 - below * left))

    return answer


def _times_delta(delta: float) -> float:
    a = GRID
    left = (1 + a**2) * norm.cdf(-a) - a * norm.pdf(a)
    return np.max((1 - 2 * delta * left) / (1 + a**2 - 2 * left))


table(
    "04.weak_threshold",
    _line(),
    [
        Case("the example, delta = 0.5", (0.5,)),
        Case("the example, delta = 0.25", (0.25,)),
        Case("delta = 0.1", (0.1,)),
        Case("delta = 0.75", (0.75,)),
    ],
    [
        (_line(best=lambda f: f), "the whole curve over alpha is returned; take its maximum"),
        (
            _line(best=lambda f: GRID[np.argmax(f)]),
            "this is the alpha of the maximum; return the value of the fraction there",
        ),
        (
            lambda delta: _line()(delta) * delta,
            "this is k/n; the line is k/m, so do not multiply by delta",
        ),
        (
            _line(above=1, below=1),
            "this is the line for nonnegative signals: both factors of M(alpha) must be 2",
        ),
        (_line(best=np.min), "this is the minimum over alpha; take the maximum"),
        (_times_delta, "2 M(alpha) is multiplied by delta, but must be divided by it"),
        (_line(below=0), "the - 2 M(alpha) of the denominator is missing"),
        (
            _line(M=lambda a: (1 + a**2) * norm.cdf(a) - a * norm.pdf(a)),
            "M(alpha) has Phi(-alpha), the small tail, not Phi(alpha)",
        ),
        (
            _line(M=lambda a: (1 + a**2) * norm.cdf(-a) + a * norm.pdf(a)),
            "M(alpha) has - alpha phi(alpha), not + alpha phi(alpha)",
        ),
        (
            _line(M=lambda a: (1 + a**2) * norm.pdf(a) - a * norm.cdf(-a)),
            "Phi (norm.cdf) and phi (norm.pdf) are swapped",
        ),
        (
            _line(M=lambda a: (1 + a) * norm.cdf(-a) - a * norm.pdf(a)),
            "M(alpha) starts with 1 + alpha**2, not 1 + alpha",
        ),
    ],
    rtol=5e-4,
)


def _step(
    combine: Callable = lambda mse, delta, sigma: np.sqrt(sigma**2 + mse / delta),
    error: Callable = lambda X, noise, t: soft_threshold(X + noise, t) - X,
    noise: Callable = lambda tau, xi: tau * xi,
    threshold: Callable = lambda tau, alpha: alpha * tau,
    mean: Callable = np.mean,
):
    """One step of state evolution; the options make its typical mistakes."""

    def answer(
        tau: float, X: Vector, xi: Vector, delta: float, sigma: float, alpha: float
    ) -> float:
        X = np.asarray(X, dtype=float)
        return combine(mean(error(X, noise(tau, xi), threshold(tau, alpha)) ** 2), delta, sigma)

    return answer


def _tau_cases() -> list[Case]:
    rng = np.random.default_rng(2)
    X = rng.choice([-1.0, 0.0, 1.0], size=5_000, p=[0.05, 0.9, 0.05])
    xi = rng.standard_normal(5_000)
    made = "X of 5000 entries (-1, 0, 1 with chances 0.05, 0.9, 0.05), xi standard normal, "
    return [
        Case(
            "the example, X = (0, 1), xi = (1, -1), tau = 0.5, delta = 0.5, sigma = 0.1, alpha = 1",
            (0.5, np.array([0.0, 1.0]), np.array([1.0, -1.0]), 0.5, 0.1, 1.0),
        ),
        Case(
            f"{made}tau = 0.458, delta = 0.5, sigma = 0.1, alpha = 1.5",
            (0.458, X, xi, 0.5, 0.1, 1.5),
        ),
        Case(
            f"{made}tau = 0.2, delta = 0.25, sigma = 0.3, alpha = 1.2", (0.2, X, xi, 0.25, 0.3, 1.2)
        ),
    ]


table(
    "04.next_tau",
    _step(),
    _tau_cases(),
    [
        (_step(lambda e, d, s: s**2 + e / d), "this is tau squared; the square root is missing"),
        (
            _step(lambda e, d, s: e),
            "this is the mean squared error alone; divide by delta, add sigma**2, take the root",
        ),
        (_step(lambda e, d, s: np.sqrt(s**2 + e)), "the division by delta is missing"),
        (
            _step(lambda e, d, s: np.sqrt(s**2 + e * d)),
            "the error is multiplied by delta; divide by it",
        ),
        (
            _step(lambda e, d, s: np.sqrt(e / d)),
            "the measurements' own noise sigma**2 is missing",
        ),
        (
            _step(lambda e, d, s: np.sqrt((s**2 + e) / d)),
            "sigma**2 is divided by delta too; only the error is",
        ),
        (
            _step(lambda e, d, s: np.sqrt(s + e / d)),
            "sigma is added, but must be squared first",
        ),
        (_step(mean=np.sum), "the squared errors are summed; take their mean"),
        (
            _step(threshold=lambda tau, alpha: alpha),
            "the threshold is alpha; it must be alpha * tau",
        ),
        (_step(threshold=lambda tau, alpha: tau), "the threshold is tau; it must be alpha * tau"),
        (_step(threshold=lambda tau, alpha: 0.0), "nothing is thresholded"),
        (_step(noise=lambda tau, xi: xi), "the noise is xi; it must be tau * xi"),
        (_step(noise=lambda tau, xi: 0 * xi), "the noise tau * xi is missing"),
        (
            _step(noise=lambda tau, xi: tau**2 * xi),
            "the noise is tau**2 * xi; tau is a standard deviation",
        ),
        (
            _step(error=lambda X, noise, t: soft_threshold(X + noise, t)),
            "the signal X is not subtracted: the error is the shrunk value minus X",
        ),
    ],
)


@cache
def _rho(n: int) -> Vector:
    return phase_transition(np.arange(1, n) / n)


def _needed(
    enough: Callable = lambda n, k, m: k <= m * _rho(n), more: int = 0
) -> Callable[[int, int], float]:
    def answer(n: int, k: int) -> float:
        m = np.arange(1, n)
        return m[np.argmax(enough(n, k, m))] + more

    return answer


table(
    "04.measurements_needed",
    _needed(),
    [
        Case("the example, n = 100, k = 5", (100, 5)),
        Case("the example, n = 100, k = 33", (100, 33)),
        *(Case(f"n = {n}, k = {k}", (n, k)) for n, k in ((60, 1), (120, 50))),
    ],
    [
        (_needed(more=-1), "one too small: at this m the line is still below k"),
        (_needed(more=1), "one too large: one measurement less is enough"),
        (
            _needed(lambda n, k, m: k / n <= _rho(n)),
            "rho was compared with k/n; it counts nonzeros per measurement, k/m",
        ),
        (lambda n, k: _needed()(n, k) / n, "this is delta = m/n; return m"),
        (lambda n, k: n - 1, "this is the largest m; the smallest is asked for"),
        (lambda n, k: 2 * k, "2 k is the limit of uniqueness; l1 needs more"),
        (lambda n, k: k, "m = k: these are the nonzeros, not the measurements"),
        (
            lambda n, k: np.ceil(2 * k * np.log(n / k)),
            "this is the rule 2 k ln(n/k), which asks too much here; use the line",
        ),
    ],
    lambda answer, right, inputs: "" if answer == np.round(answer) else "it is no integer",
)
