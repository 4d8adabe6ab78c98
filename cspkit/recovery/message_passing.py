"""Approximate message passing (AMP), and state evolution, which predicts the noise level in AMP."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cspkit.arguments import count, positive
from cspkit.recovery.operators import Matrix
from cspkit.recovery.proximal import shrink
from cspkit.recovery.result import RecoveryResult, make_result
from cspkit.recovery.risk import check_prior, prior_risk
from cspkit.recovery.theory import minimax_threshold
from cspkit.recovery.validation import check_system, check_tolerance


def amp(
    A: Matrix,
    y: ArrayLike,
    *,
    alpha: float | None = None,
    tol: float = 1e-10,
    max_iter: int = 1_000,
    nonnegative: bool = False,
) -> RecoveryResult:
    """Approximate message passing with soft thresholding.

        tau <- ||z||_2 / sqrt(m)
        x   <- soft_threshold(x + A^T z, alpha tau)
        z   <- y - A x + z (number of nonzeros of x) / m

    The last term of z does not occur in plain iterative thresholding. With this term, x + A^T z
    looks like the signal plus white noise of standard deviation tau. This holds for large matrices
    with independent entries of variance 1/m. For other matrices the iteration may diverge.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix. If the mean norm of its columns is not about 1, it is first divided by
        a power of two.
    y : array_like, shape (m,) or (m, r)
        Measurements, one signal per column.
    alpha : float, optional
        Threshold in units of tau. The default is `minimax_threshold` of min(m/n, 0.99), which
        recovers noiseless signals up to the phase transition.
    tol : float
        Stop when x changes by at most this, relative to ||x||. The solver uses at least ten
        times the spacing of floats near 1.
    max_iter : int
        Largest number of iterations.
    nonnegative : bool
        Add the constraint x >= 0: the threshold sets negative entries to zero.

    Returns
    -------
    RecoveryResult
        The history has tau before each iteration, to compare with `state_evolution`. There is
        no gap (nan).

    Raises
    ------
    ArgumentError
        If an argument has the wrong shape, type or range, or holds nan or inf; if the range of
        the float type cannot hold x.

    Warns
    -----
    ConvergenceWarning
        If x still changes by more than `tol` after `max_iter` iterations, or if the
        iteration diverges.

    References
    ----------
    Donoho, Maleki, Montanari, "Message-passing algorithms for compressed sensing", PNAS 2009.
    arXiv:0907.3574
    """
    A, y, scale = check_system(A, y, columns=True, unit_columns=True)
    tol, max_iter = check_tolerance(tol, y.dtype), count("max_iter", max_iter)
    m, n = A.shape
    if alpha is None:
        alpha = minimax_threshold(min(m / n, 0.99), nonnegative=nonnegative)
    alpha = positive("alpha", alpha)
    x, z, history = np.zeros((n, *y.shape[1:]), dtype=y.dtype), y, []
    n_iter = np.zeros(y.shape[1:], dtype=int)
    limit = 1e6 * np.linalg.norm(y, axis=0)
    going = np.linalg.norm(y, axis=0) > 0
    converged = ~going
    while np.any(going) and len(history) < max_iter:
        tau = np.linalg.norm(z, axis=0) / y.dtype.type(np.sqrt(m))
        x_new = shrink(x + A.T @ z, y.dtype.type(alpha) * tau, nonnegative)
        onsager = np.count_nonzero(x_new, axis=0).astype(y.dtype) / m
        z_new = y - A @ x_new + z * onsager
        history.append(np.where(going, tau, np.nan))
        n_iter = n_iter + going
        change, size = np.linalg.norm(x_new - x, axis=0), np.linalg.norm(x_new, axis=0)
        x, z = np.where(going, x_new, x), np.where(going, z_new, z)
        converged = converged | (going & (change <= tol * size))
        going = going & ~converged & (np.linalg.norm(z, axis=0) < limit)
    with np.errstate(over="ignore"):
        history = np.ldexp(np.reshape(history, (-1, *y.shape[1:])).astype(np.float64), scale.b)
    return make_result(x, n_iter, converged, np.nan, history, scale, method="amp")


def state_evolution(
    delta: float,
    values: ArrayLike,
    probabilities: ArrayLike,
    noise: float,
    alpha: float,
    n_iter: int,
) -> np.ndarray:
    """Noise level tau of each step of AMP, in the limit of large matrices.

        tau_{t+1}^2 = noise^2 + E[(soft_threshold(X + tau_t Z, alpha tau_t) - X)^2] / delta

    Z is standard normal, and tau_0^2 = noise^2 + E[X^2] / delta.

    Parameters
    ----------
    delta : float
        Measurements per unknown, m/n.
    values, probabilities : array_like, shape (q,)
        Distribution of the entries of x: values, including zero, and their probabilities.
    noise : float
        Standard deviation of the noise of each measurement, at least 0.
    alpha : float
        Threshold in units of tau.
    n_iter : int
        Number of steps.

    Returns
    -------
    ndarray, shape (n_iter + 1,)
        tau_0, tau_1, ...

    Raises
    ------
    ArgumentError
        If an argument is out of range.

    References
    ----------
    Bayati, Montanari, "The dynamics of message passing on dense graphs, with applications to
    compressed sensing", IEEE Trans. Inf. Theory 2011. arXiv:1001.3448
    """
    delta, noise = positive("delta", delta), positive("noise", noise, zero=True)
    alpha, n_iter = positive("alpha", alpha, zero=True), count("n_iter", n_iter)
    values, probabilities, noise, e = check_prior(values, probabilities, noise)
    tau = [np.sqrt(noise**2 + probabilities @ values**2 / delta)]
    for _ in range(n_iter):
        risk = prior_risk(values, probabilities, tau[-1], alpha) if tau[-1] > 0 else 0.0
        tau.append(np.sqrt(noise**2 + tau[-1] ** 2 * risk / delta))
    return np.ldexp(tau, e)
