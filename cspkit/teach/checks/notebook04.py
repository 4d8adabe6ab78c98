"""Checks of the exercises of notebook 04, how many measurements."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from scipy.stats import norm

from cspkit.recovery import coherence, phase_transition, soft_threshold
from cspkit.teach.cases import Case, table

Array = np.ndarray


def below(bound: float) -> float:
    return np.ceil(bound - 1e-9) - 1


def promise(A: Array, last: Callable = below, largest: Callable = coherence) -> float:
    """The promised k; other arguments are mistakes."""
    return last((1 + 1 / largest(A)) / 2)


def of_any_length(A: Array) -> float:
    return np.max(np.abs(A.T @ A)[~np.eye(A.shape[1], dtype=bool)])


def signed(A: Array) -> float:
    unit = A / np.linalg.norm(A, axis=0)
    return np.max((unit.T @ unit)[~np.eye(A.shape[1], dtype=bool)])


def two_columns(cosine: float) -> Array:
    return np.array([[1.0, cosine], [0.0, np.sqrt(1 - cosine**2)]])


table(
    "04.promised_k",
    lambda A: promise(A),
    [
        Case("the example, two unit vectors with cosine 1/3", (two_columns(1 / 3),)),
        Case("two unit vectors with cosine 0.22", (two_columns(0.22),)),
        Case("two columns, lengths 10 and 1/2, cosine 0.22", (two_columns(0.22) * [10, 0.5],)),
        Case("two unit vectors with cosine -0.6", (two_columns(-0.6),)),
        (np.array([[1, 1], [0, 1]]),),
        "A = default_rng(0).standard_normal((250, 1000)) / np.sqrt(250)",
    ],
    [
        (coherence,
         "this is the coherence; the answer is the largest integer below (1 + 1/coh(A)) / 2"),
        (lambda A: promise(A, largest=of_any_length),
         "the columns have other lengths than 1; normalise them first"),
        (lambda A: promise(A, largest=signed), "the cosines have a sign; use absolute values"),
        (lambda A: 0.0, "k = 0: is the diagonal (the cosine of a column with itself, 1) left out?"),
        (lambda A: promise(A, lambda b: np.floor(b + 1e-9)),
         "the answer is rounded down, but must be strictly less than the bound"),
        (lambda A: promise(A, lambda b: np.ceil(b - 1e-9)),
         "the answer is rounded up; it must be below the bound"),
        (lambda A: promise(A, lambda b: below(2 * b)), "the factor 1/2 is missing"),
        (lambda A: promise(A, lambda b: b), "the bound is returned, which is no integer"),
    ],
    right="This k holds for every signal. Section 2 allows a far larger k for nearly every signal.",
)  # fmt: skip


GRID = np.linspace(0.01, 8, 4000)
A_SQUARED = 1 + GRID**2
TAIL = A_SQUARED * norm.cdf(-GRID) - GRID * norm.pdf(GRID)


def line(best: Callable = np.max, above: Callable = lambda delta: 2 / delta, below: float = 2,
         M: Array = TAIL) -> Callable:  # fmt: skip
    """The line of l1; the options make its typical mistakes."""
    return lambda delta: best((1 - above(delta) * M) / (A_SQUARED - below * M))


table(
    "04.weak_threshold",
    lambda delta: line()(delta),
    [(0.5,), Case("the example, delta = 0.25", (0.25,)), (0.1,), (0.75,)],
    [
        (line(lambda f: f), "the whole curve over alpha is returned; take its maximum"),
        (line(lambda f: GRID[np.argmax(f)]),
         "this is the alpha of the maximum; return the value of the fraction there"),
        (lambda delta: line()(delta) * delta,
         "this is k/n; the line is k/m, so do not multiply by delta"),
        (line(above=lambda delta: 1 / delta, below=1),
         "this is the line for nonnegative signals: both factors of M(alpha) must be 2"),
        (line(np.min), "this is the minimum over alpha; take the maximum"),
        (line(above=lambda delta: 2 * delta),
         "2 M(alpha) is multiplied by delta, but must be divided by it"),
        (line(below=0), "the - 2 M(alpha) of the denominator is missing"),
        (line(M=A_SQUARED * norm.cdf(GRID) - GRID * norm.pdf(GRID)),
         "M(alpha) has Phi(-alpha), the small tail, not Phi(alpha)"),
        (line(M=A_SQUARED * norm.cdf(-GRID) + GRID * norm.pdf(GRID)),
         "M(alpha) has - alpha phi(alpha), not + alpha phi(alpha)"),
        (line(M=A_SQUARED * norm.pdf(GRID) - GRID * norm.cdf(-GRID)),
         "Phi (norm.cdf) and phi (norm.pdf) are swapped"),
        (line(M=(1 + GRID) * norm.cdf(-GRID) - GRID * norm.pdf(GRID)),
         "M(alpha) starts with 1 + alpha**2, not 1 + alpha"),
    ],
    rtol=5e-4,
    right="phase_transition of the package is this line, for one delta or many.",
)  # fmt: skip


def step(
    combine: Callable = lambda mse, delta, sigma: np.sqrt(sigma**2 + mse / delta),
    error: Callable = lambda X, noisy, t: soft_threshold(noisy, t) - X,
    noise: Callable = lambda tau, xi: tau * xi,
    threshold: Callable = lambda tau, alpha: alpha * tau,
    mean: Callable = np.mean,
) -> Callable:
    """One step of state evolution; the options make its typical mistakes."""

    def answer(tau: float, X: Array, xi: Array, delta: float, sigma: float, alpha: float) -> float:
        errors = error(X, X + noise(tau, xi), threshold(tau, alpha))
        return combine(mean(errors**2), delta, sigma)

    return answer


SAMPLES = (
    "rng = default_rng(2); X = rng.choice([-1.0, 0.0, 1.0], size=5_000, p=[0.05, 0.9, 0.05]); "
    "xi = rng.standard_normal(5_000); "
)
table(
    "04.next_tau",
    lambda tau, X, xi, delta, sigma, alpha: step()(tau, X, xi, delta, sigma, alpha),
    [
        (0.5, np.array([0.0, 1.0]), np.array([1.0, -1.0]), 0.5, 0.1, 1.0),
        SAMPLES + "tau = 0.458; delta = 0.5; sigma = 0.1; alpha = 1.5",
        SAMPLES + "tau = 0.2; delta = 0.25; sigma = 0.3; alpha = 1.2",
    ],
    [
        (step(lambda e, d, s: s**2 + e / d), "this is tau squared; the square root is missing"),
        (step(lambda e, d, s: e),
         "this is the mean squared error alone; divide by delta, add sigma**2, take the root"),
        (step(lambda e, d, s: np.sqrt(s**2 + e)), "the division by delta is missing"),
        (step(lambda e, d, s: np.sqrt(s**2 + e * d)),
         "the error is multiplied by delta; divide by it"),
        (step(lambda e, d, s: np.sqrt(e / d)), "the measurements' own noise sigma**2 is missing"),
        (step(lambda e, d, s: np.sqrt((s**2 + e) / d)),
         "sigma**2 is divided by delta too; only the error is"),
        (step(lambda e, d, s: np.sqrt(s + e / d)), "sigma is added, but must be squared first"),
        (step(mean=np.sum), "the squared errors are summed; take their mean"),
        (step(threshold=lambda tau, alpha: alpha),
         "the threshold is alpha; it must be alpha * tau"),
        (step(threshold=lambda tau, alpha: tau), "the threshold is tau; it must be alpha * tau"),
        (step(threshold=lambda tau, alpha: 0.0), "nothing is thresholded"),
        (step(noise=lambda tau, xi: xi), "the noise is xi; it must be tau * xi"),
        (step(noise=lambda tau, xi: 0 * xi), "the noise tau * xi is missing"),
        (step(noise=lambda tau, xi: tau**2 * xi),
         "the noise is tau**2 * xi; tau is a standard deviation"),
        (step(error=lambda X, noisy, t: soft_threshold(noisy, t)),
         "the signal X is not subtracted: the error is the shrunk value minus X"),
    ],
    right="A tau that comes back unchanged is the noise level at which AMP stops.",
)  # fmt: skip


@cache
def rho(n: int) -> Array:
    return phase_transition(np.arange(1, n) / n)


def needed(n: int, k: int, enough: Callable = lambda n, k, m: k <= m * rho(n)) -> int:
    m = np.arange(1, n)
    return m[np.argmax(enough(n, k, m))]


table(
    "04.measurements_needed",
    lambda n, k: needed(n, k),
    [(100, 5), Case("the example, n = 100, k = 33", (100, 33)), (60, 1), (120, 50)],
    [
        (lambda n, k: needed(n, k) - 1, "one too small: at this m the line is still below k"),
        (lambda n, k: needed(n, k) + 1, "one too large: one measurement less is enough"),
        (lambda n, k: needed(n, k, lambda n, k, m: k / n <= rho(n)),
         "rho was compared with k/n; it counts nonzeros per measurement, k/m"),
        (lambda n, k: needed(n, k) / n, "this is delta = m/n; return m"),
        (lambda n, k: n - 1, "this is the largest m; the smallest is asked for"),
        (lambda n, k: 2 * k, "2 k is the limit of uniqueness; l1 needs more"),
        (lambda n, k: k, "m = k: these are the nonzeros, not the measurements"),
        (lambda n, k: np.ceil(2 * k * np.log(n / k)),
         "this is the rule 2 k ln(n/k), which asks too much here; use the line"),
    ],
    lambda answer, right, inputs: "" if answer == np.round(answer) else "it is no integer",
    right="The line is that of large n; at a small n, take a few measurements more.",
)  # fmt: skip
