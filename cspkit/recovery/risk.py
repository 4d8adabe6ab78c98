"""The mean squared error of soft thresholding, and of the lasso on large random matrices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import norm

from cspkit.arguments import ArgumentError, positive
from cspkit.recovery.validation import check_finite, exponents, real_array


def soft_threshold_risk(mu: float | ArrayLike, t: float) -> float | np.ndarray:
    """Mean squared error of soft thresholding for one value in standard normal noise.

    This is E[(soft_threshold(mu + Z, t) - mu)^2], where Z is standard normal. For mu = 0 it is
    2 M(t), with M as in `phase_transition`.

    Parameters
    ----------
    mu : float or array_like
        The value.
    t : float
        The threshold, at least 0; it may be infinite.

    Returns
    -------
    float or ndarray of the shape of mu
        The error, at most 1 + t^2.

    Raises
    ------
    ArgumentError
        If `mu` is not real and finite, or `t` is not a number >= 0.
    """
    mu = real_array("mu", mu).astype(np.float64)
    check_finite("mu", mu)
    t = t if isinstance(t, float) and t == np.inf else positive("t", t, zero=True)
    return _risk(mu, t)[()]


def _risk(mu, t):
    """`soft_threshold_risk` without checks; mu may be infinite."""
    with np.errstate(over="ignore"):
        far = np.abs(mu) - t
        limits = np.where(far > 0, 1 + np.float64(t) ** 2, np.square(mu))
        # If |mu| and t differ by more than 40, the other terms are zero in float64.
        near = np.abs(far) <= 40
        mu, t = np.where(near, mu, 0), np.where(near, t, 0)
        above = norm.cdf(mu - t) + norm.cdf(-mu - t)  # P(|mu + Z| > t)
        tails = (t - mu) * norm.pdf(t + mu) + (t + mu) * norm.pdf(t - mu)
        return np.where(near, mu**2 * (1 - above) + (1 + t**2) * above - tails, limits)


def check_prior(values, probabilities, noise):
    """Check a distribution of entries, and scale it and the noise to a size near 1.

    Parameters
    ----------
    values, probabilities : array_like, shape (q,)
        The distribution.
    noise : float
        Standard deviation of the noise, at least 0.

    Returns
    -------
    values, probabilities : ndarray, shape (q,)
        The distribution, with values divided by 2^e.
    noise : float
        The noise, divided by 2^e.
    e : int
        The exponent.

    Raises
    ------
    ArgumentError
        If `values` is not a list of finite numbers, or `probabilities` has another shape, a
        negative entry or another sum than 1.
    """
    values = real_array("values", values).astype(np.float64)
    probabilities = real_array("probabilities", probabilities).astype(np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ArgumentError(f"values has shape {values.shape}: expected (q,) with q >= 1")
    check_finite("values", values)
    if values.shape != probabilities.shape:
        raise ArgumentError(
            f"probabilities has shape {probabilities.shape}: expected {values.shape}, as values has"
        )
    if not (np.all(probabilities >= 0) and abs(np.sum(probabilities) - 1) <= 1e-9):
        raise ArgumentError(
            f"probabilities is {probabilities.tolist()}: expected numbers >= 0 that sum to 1"
        )
    e = int(exponents(np.append(values, noise)))
    return np.ldexp(values, -e), probabilities, float(np.ldexp(noise, -e)), e


def prior_risk(values, probabilities, tau, alpha) -> float:
    """Mean squared error of soft thresholding over a distribution of entries, divided by tau^2.

    E[(soft_threshold(X + tau Z, alpha tau) - X)^2] / tau^2

    Parameters
    ----------
    values, probabilities : ndarray, shape (q,)
        Distribution of X, as `check_prior` returns it.
    tau : float
        Noise level, above 0.
    alpha : float
        Threshold in units of tau.

    Returns
    -------
    float
        The ratio of the error to tau^2.
    """
    with np.errstate(over="ignore"):
        return float(probabilities @ _risk(values / tau, alpha))


class LassoRisk(NamedTuple):
    """The error of a large lasso problem, as `lasso_risk` computes it.

    Attributes
    ----------
    tau : float
        Standard deviation of the effective noise on each entry.
    lam : float
        Weight of the l1 term.
    mse : float
        Mean squared error per entry.
    """

    tau: float
    lam: float
    mse: float


def lasso_risk(
    delta: float, values: ArrayLike, probabilities: ArrayLike, noise: float, alpha: float
) -> LassoRisk:
    """Mean squared error per entry of the lasso, in the limit of large Gaussian matrices.

    Let tau be the largest solution of tau^2 = noise^2 + E[(eta - X)^2] / delta, where
    eta = soft_threshold(X + tau Z, alpha tau), X is an entry of x, and Z is standard normal. Then
    the lasso with

        lam = alpha tau (1 - P(eta != 0) / delta)

    has the error E[(eta - X)^2] = delta (tau^2 - noise^2).

    Parameters
    ----------
    delta : float
        Measurements per unknown, m/n.
    values, probabilities : array_like, shape (q,)
        Distribution of the entries of x: values, including zero, and their probabilities.
    noise : float
        Standard deviation of the noise of each measurement, above 0.
    alpha : float
        Threshold in units of tau.

    Returns
    -------
    LassoRisk
        tau, lam and mse. If alpha is so small that lam is negative, there is no such lasso problem.

    Raises
    ------
    ArgumentError
        If an argument is out of range, or alpha is too small for a finite tau.

    References
    ----------
    Bayati, Montanari, "The LASSO risk for Gaussian matrices", IEEE Trans. Inf. Theory 2012.
    arXiv:1008.2581
    """
    delta, noise = positive("delta", delta), positive("noise", noise)
    alpha = positive("alpha", alpha, zero=True)
    values, probabilities, noise, e = check_prior(values, probabilities, noise)

    def excess(log_ratio):
        tau = noise * np.exp(log_ratio)
        risk = prior_risk(values, probabilities, tau, alpha)
        return 1 - np.exp(-2 * log_ratio) - risk / delta

    high = np.log(2 + 1 / noise)
    while excess(high) < 0:
        high += 1
        if high > np.log(1e12 / noise):
            raise ArgumentError(
                f"alpha is {alpha}: expected a larger threshold, since at delta {delta} the error "
                "has no bound"
            )
    tau = noise * np.exp(brentq(excess, 0, high, xtol=1e-15, rtol=1e-14))
    mu = values / tau
    detection = probabilities @ (norm.cdf(mu - alpha) + norm.cdf(-mu - alpha))
    lam = alpha * tau * (1 - float(detection) / delta)
    mse = tau**2 * prior_risk(values, probabilities, tau, alpha)
    return LassoRisk(*(float(np.ldexp(v, f)) for v, f in ((tau, e), (lam, e), (mse, 2 * e))))
