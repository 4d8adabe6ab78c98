"""Checks of the exercises of notebook 04, how many measurements."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import norm

from cspkit.teach.check import NOTHING, Verdict, exercise

Vector = np.ndarray


def _number(answer: object) -> tuple[float, Verdict]:
    """Turn an answer into a float, or say why it is none."""
    if answer is None:
        return 0.0, NOTHING
    try:
        array = np.asarray(answer, dtype=float)
    except (TypeError, ValueError):
        return 0.0, f"the function returns a {type(answer).__name__}, expected one number"
    if array.shape != ():
        return 0.0, f"the answer has shape {array.shape}, expected one number"
    if not np.isfinite(array):
        return 0.0, f"the answer is {float(array)}, expected a finite number"
    return float(array), None


@exercise("04.promised_k")
def promised_k(function: Callable[[Vector], int]) -> Verdict:
    """Check the coherence bound: lengths, signs, the diagonal, and the strict inequality."""
    rng = np.random.default_rng(0)
    cases = (
        (_two_columns(0.22), 2, "two columns with cosine 0.22"),
        (
            _two_columns(0.22) * [10, 0.5],
            2,
            "the columns have lengths 10 and 1/2; normalise them first",
        ),
        (_two_columns(-0.6), 1, "the cosine is -0.6; use absolute values"),
        (
            _two_columns(1 / 3),
            1,
            "with cosine 1/3 the bound is exactly 2, and k must be strictly less",
        ),
        (rng.standard_normal((250, 1000)) / np.sqrt(250), 2, "a Gaussian 250 x 1000 matrix"),
    )
    for A, right, what in cases:
        given = A.copy()
        k, wrong = _number(function(given))
        if wrong:
            return wrong
        if not np.array_equal(given, A):
            return "the input A was modified in place; work on a new array"
        if k != right:
            return _wrong_promise(k, right, A, what)
    return None


def _two_columns(cosine: float) -> Vector:
    return np.array([[1.0, cosine], [0.0, np.sqrt(1 - cosine**2)]])


def _wrong_promise(k: float, right: int, A: Vector, what: str) -> str:
    unit = A / np.linalg.norm(A, axis=0)
    cosines = np.abs(unit.T @ unit)
    np.fill_diagonal(cosines, 0)
    bound = (1 + 1 / cosines.max()) / 2
    if np.isclose(k, cosines.max()):
        return "this is the coherence; the answer is the largest integer below (1 + 1/mu) / 2"
    if k != round(k):
        return f"k = {k:g} is no integer"
    if k == 0 and np.allclose(np.linalg.norm(A, axis=0), 1):
        return "k = 0: is the diagonal (the cosine of a column with itself, 1) left out?"
    if k == np.ceil(1 + 1 / cosines.max() - 1e-9) - 1:
        return "the factor 1/2 is missing"
    if k == right + 1 and k > bound:
        return f"{what}: k = {k:g} is rounded up, above the bound {bound:.2f}"
    return f"{what}: k = {k:g}, expected {right}"


def _fraction(delta: float, z: Vector, M: Vector, c: float = 2.0) -> Vector:
    return (1 - c / delta * M) / (1 + z**2 - c * M)


@exercise("04.weak_threshold")
def weak_threshold(function: Callable[[float], float]) -> Verdict:
    """Check the phase transition of l1 at four values of m/n."""
    z = np.linspace(0.01, 8, 4000)
    for delta in (0.5, 0.25, 0.1, 0.75):
        M = (1 + z**2) * norm.cdf(-z) - z * norm.pdf(z)
        right = np.max(_fraction(delta, z, M))
        answer = function(delta)
        if isinstance(answer, np.ndarray) and answer.shape == z.shape:
            return "the whole curve over z is returned; take its maximum"
        rho, wrong = _number(answer)
        if wrong:
            return wrong
        if abs(rho - right) > 1e-4:
            return _wrong_line(rho, right, delta, z, M)
    return None


def _wrong_line(rho: float, right: float, delta: float, z: Vector, M: Vector) -> str:
    best = np.argmax(_fraction(delta, z, M))
    up = (1 + z**2) * norm.cdf(z) - z * norm.pdf(z)
    plus = (1 + z**2) * norm.cdf(-z) + z * norm.pdf(z)
    swapped = (1 + z**2) * norm.pdf(z) - z * norm.cdf(-z)
    linear = (1 + z) * norm.cdf(-z) - z * norm.pdf(z)
    with np.errstate(divide="ignore", invalid="ignore"):
        known = (
            (z[best], "this is the z of the maximum; return the value of the fraction there"),
            (
                right * delta,
                "this is k/n; the line is k/m, so do not multiply by delta",
            ),
            (
                np.max(_fraction(delta, z, M, 1.0)),
                "this is the line for nonnegative signals: both factors of M(z) must be 2",
            ),
            (np.min(_fraction(delta, z, M)), "this is the minimum over z; take the maximum"),
            (
                np.max((1 - 2 * delta * M) / (1 + z**2 - 2 * M)),
                "2 M(z) is multiplied by delta, but must be divided by it",
            ),
            (
                np.max((1 - 2 / delta * M) / (1 + z**2)),
                "the - 2 M(z) of the denominator is missing",
            ),
            (np.max(_fraction(delta, z, up)), "M(z) has Phi(-z), the small tail, not Phi(z)"),
            (np.max(_fraction(delta, z, plus)), "M(z) has - z phi(z), not + z phi(z)"),
            (np.max(_fraction(delta, z, swapped)), "Phi (norm.cdf) and phi (norm.pdf) are swapped"),
            (np.max(_fraction(delta, z, linear)), "M(z) starts with 1 + z**2, not 1 + z"),
        )
    for value, sentence in known:
        if np.isclose(rho, value, atol=1e-4):
            return sentence
    return f"at delta = {delta:g} it gives {rho:.4f}, expected {right:.4f}"


@exercise("04.next_tau")
def next_tau(function: Callable[[float, Vector, Vector, float, float, float], float]) -> Verdict:
    """Check one sampled step of state evolution."""
    rng = np.random.default_rng(2)
    X = rng.choice([-1.0, 0.0, 1.0], size=5_000, p=[0.05, 0.9, 0.05])
    G = rng.standard_normal(5_000)
    for tau, delta, sigma, alpha in ((0.458, 0.5, 0.1, 1.5), (0.2, 0.25, 0.3, 1.2)):
        given = X.copy(), G.copy()
        answer, wrong = _number(function(tau, *given, delta, sigma, alpha))
        if wrong:
            return wrong
        if not all(map(np.array_equal, given, (X, G))):
            return "an input was modified in place; work on new arrays"
        right = _step(tau, X, G, delta, sigma, alpha)
        if not np.isclose(answer, right, rtol=1e-6):
            return _wrong_step(answer, right, (tau, X, G, delta, sigma, alpha))
    return None


def _soft(v: Vector, t: float) -> Vector:
    return np.sign(v) * np.maximum(np.abs(v) - t, 0)


def _step(
    tau: float, X: Vector, G: Vector, delta: float, sigma: float, alpha: float,
    *, t: float | None = None, scale: float | None = None,
) -> float:  # fmt: skip
    """One step; t is another threshold than alpha tau, scale another noise level than tau."""
    error = _soft(X + (tau if scale is None else scale) * G, alpha * tau if t is None else t) - X
    return float(np.sqrt(sigma**2 + np.mean(error**2) / delta))


def _wrong_step(answer: float, right: float, arguments: tuple) -> str:
    tau, X, G, delta, sigma, alpha = arguments
    mse = np.mean((_soft(X + tau * G, alpha * tau) - X) ** 2)
    known = (
        (right**2, "this is tau squared; the square root is missing"),
        (mse, "this is the mean squared error alone; divide by delta, add sigma**2, take the root"),
        (np.sqrt(sigma**2 + mse), "the division by delta is missing"),
        (np.sqrt(sigma**2 + mse * delta), "the error is multiplied by delta; divide by it"),
        (np.sqrt(mse / delta), "the measurements' own noise sigma**2 is missing"),
        (np.sqrt((sigma**2 + mse) / delta), "sigma**2 is divided by delta too; only the error is"),
        (np.sqrt(sigma + mse / delta), "sigma is added, but must be squared first"),
        (
            np.sqrt(sigma**2 + mse * X.size / delta),
            "the squared errors are summed; take their mean",
        ),
        (_step(*arguments, t=alpha), "the threshold is alpha; it must be alpha * tau"),
        (_step(*arguments, t=tau), "the threshold is tau; it must be alpha * tau"),
        (_step(*arguments, t=0.0), "nothing is thresholded"),
        (_step(*arguments, scale=1.0), "the noise is G; it must be tau * G"),
        (_step(*arguments, scale=0.0), "the noise tau * G is missing"),
        (_step(*arguments, scale=tau**2), "the noise is tau**2 * G; tau is a standard deviation"),
        (
            np.sqrt(sigma**2 + np.mean(_soft(X + tau * G, alpha * tau) ** 2) / delta),
            "the signal X is not subtracted: the error is the shrunk value minus X",
        ),
    )
    for value, sentence in known:
        if np.isclose(answer, value, rtol=1e-6):
            return sentence
    return f"it gives {answer:.4f} where {right:.4f} is expected"


@exercise("04.measurements_needed")
def measurements_needed(function: Callable[[int, int], int]) -> Verdict:
    """Check the smallest m on or below the line."""
    from cspkit.recovery import phase_transition

    for n, k in ((100, 5), (100, 33), (60, 1), (120, 50)):
        m = np.arange(1, n)
        rho = phase_transition(m / n)
        right = m[np.argmax(k <= m * rho)]
        answer, wrong = _number(function(n, k))
        if wrong:
            return wrong
        if answer == right:
            continue
        known = (
            (right - 1, "one too small: at this m the line is still below k"),
            (
                m[np.argmax(k / n <= rho)],
                "rho was compared with k/n; it counts nonzeros per measurement, k/m",
            ),
            (right / n, "this is delta = m/n; return m"),
            (m[-1], "this is the largest m; the smallest is asked for"),
            (2 * k, "2 k is the limit of uniqueness; l1 needs more"),
            (k, "m = k: these are the nonzeros, not the measurements"),
            (
                np.ceil(2 * k * np.log(n / k)),
                "this is the rule 2 k ln(n/k), which asks too much here; use the line",
            ),
        )
        for value, sentence in known:
            if np.isclose(answer, value):
                return sentence
        if answer != round(answer):
            return f"for n = {n}, k = {k} it gives {answer:g}, which is no integer"
        if answer == right + 1:
            return f"one too large: for n = {n}, k = {k}, {right} measurements are enough"
        return f"for n = {n}, k = {k} it gives {answer:g}, expected {right}"
    return None
