"""The mean squared error of soft thresholding, and so of the lasso on large random matrices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import norm

from cspkit.recovery.validation import check_number


def soft_threshold_risk(mu: float | np.ndarray, t: float | np.ndarray) -> float | np.ndarray:
    """Mean squared error of soft thresholding one value in standard normal noise.

    E[(soft_threshold(mu + Z, t) - mu)^2]; for mu = 0 it is 2 M(t) of `phase_transition`.

    Parameters
    ----------
    mu : float or ndarray
        The value.
    t : float
        The threshold, at least 0.

    Returns
    -------
    float or ndarray
        The error, at most 1 + t^2.
    """
    if np.isinf(t):
        return np.square(mu)
    below = norm.cdf(t - mu) - norm.cdf(-t - mu)
    tails = (t - mu) * norm.pdf(t + mu) + (t + mu) * norm.pdf(t - mu)
    return 1 + t**2 + (mu**2 - 1 - t**2) * below - tails


def prior_risk(values, probabilities, tau, alpha) -> float:
    """Mean squared error E[(soft_threshold(X + tau Z, alpha tau) - X)^2] over a distribution.

    Parameters
    ----------
    values, probabilities : array_like, shape (q,)
        Distribution of X.
    tau : float
        Noise level, above 0.
    alpha : float
        Threshold in units of tau.

    Returns
    -------
    float
        The error.

    Raises
    ------
    ValueError
        If `probabilities` does not fit `values` or does not sum to 1.
    """
    values, probabilities = np.asarray(values, dtype=float), np.asarray(probabilities, dtype=float)
    if values.shape != probabilities.shape or values.ndim != 1:
        raise ValueError(
            f"probabilities has shape {probabilities.shape}, expected {values.shape} as values"
        )
    if np.any(probabilities < 0) or abs(np.sum(probabilities) - 1) > 1e-9:
        raise ValueError(f"probabilities is {probabilities}, expected parts of 1 that sum to 1")
    return float(tau**2 * probabilities @ soft_threshold_risk(values / tau, alpha))


class LassoRisk(NamedTuple):
    """What a large lasso problem comes to, as `lasso_risk` computes it.

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

    With tau the largest solution of tau^2 = noise^2 + E[(eta - X)^2] / delta, where
    eta = soft_threshold(X + tau Z, alpha tau), the lasso with

        lam = alpha tau (1 - P(eta != 0) / delta)

    has the error E[(eta - X)^2] = delta (tau^2 - noise^2).

    Parameters
    ----------
    delta : float
        Measurements per unknown, m/n.
    values, probabilities : array_like, shape (q,)
        Distribution of the entries of x: values, zero among them, and their probabilities.
    noise : float
        Standard deviation of each measurement's noise, above 0.
    alpha : float
        Threshold in units of tau.

    Returns
    -------
    LassoRisk
        tau, lam and mse.

    Raises
    ------
    ValueError
        If an argument is out of range, or alpha is too small for a finite tau.

    References
    ----------
    Bayati, Montanari, "The LASSO risk for Gaussian matrices", IEEE Trans. Inf. Theory 2012.
    arXiv:1008.2581
    """
    delta = check_number("delta", delta, open_low=True)
    noise = check_number("noise", noise, open_low=True)
    alpha = check_number("alpha", alpha)

    def excess(tau):
        return tau**2 - noise**2 - prior_risk(values, probabilities, tau, alpha) / delta

    high = 2 * noise + 1
    while excess(high) < 0:
        high *= 2
        if high > 1e12:
            raise ValueError(f"alpha is {alpha}, too small for a bounded error at delta {delta}")
    tau = brentq(excess, noise, high, xtol=1e-15, rtol=1e-14)
    mu = np.asarray(values, dtype=float) / tau
    detection = np.asarray(probabilities) @ (norm.cdf(mu - alpha) + norm.cdf(-mu - alpha))
    lam = alpha * tau * (1 - float(detection) / delta)
    return LassoRisk(float(tau), lam, float(delta * (tau**2 - noise**2)))
