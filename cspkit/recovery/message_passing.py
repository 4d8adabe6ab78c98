"""Approximate message passing, and the one number per step that describes it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cspkit.recovery.operators import Matrix
from cspkit.recovery.proximal import soft_threshold
from cspkit.recovery.result import RecoveryResult, make_result
from cspkit.recovery.risk import prior_risk
from cspkit.recovery.theory import minimax_threshold
from cspkit.recovery.validation import check_count, check_number, check_system, check_tolerance


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

    The last term, which plain thresholding lacks, makes x + A^T z look like the signal plus
    white noise of standard deviation tau. That is true of large matrices with independent
    entries of variance 1/m; on others the iteration may diverge.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix, with columns of norm about 1.
    y : array_like, shape (m,) or (m, r)
        Measurements, one signal per column.
    alpha : float, optional
        Threshold in units of tau; `minimax_threshold` of m/n if not given, which recovers
        noiseless signals up to the phase transition.
    tol : float
        Stop when x changes by at most this, relative to ||x||.
    max_iter : int
        Largest number of iterations.
    nonnegative : bool
        Threshold to x >= 0.

    Returns
    -------
    RecoveryResult
        The history is tau before each iteration, to be laid beside `state_evolution`. There is
        no gap (nan).

    Raises
    ------
    ValueError
        If an argument has the wrong shape, type or range, or holds nan or inf.

    Warns
    -----
    ConvergenceWarning
        If x still changes by more after `max_iter` iterations, or grows without bound.

    References
    ----------
    Donoho, Maleki, Montanari, "Message-passing algorithms for compressed sensing", PNAS 2009.
    arXiv:0907.3574
    """
    A, y = check_system(A, y, columns=True)
    tol = check_tolerance(tol, y.dtype)
    check_count("max_iter", max_iter)
    m, n = A.shape
    if alpha is None:
        alpha = minimax_threshold(min(m / n, 0.99), nonnegative=nonnegative)
    alpha = check_number("alpha", alpha, open_low=True)
    x, z, history = np.zeros((n, *y.shape[1:]), dtype=y.dtype), y, []
    n_iter = np.zeros(y.shape[1:], dtype=int)
    limit = 1e6 * np.linalg.norm(y, axis=0)
    going = np.linalg.norm(y, axis=0) > 0
    converged = ~going
    while np.any(going) and len(history) < max_iter:
        tau = np.linalg.norm(z, axis=0) / y.dtype.type(np.sqrt(m))
        x_new = soft_threshold(x + A.T @ z, y.dtype.type(alpha) * tau, nonnegative=nonnegative)
        onsager = np.count_nonzero(x_new, axis=0).astype(y.dtype) / m
        z_new = y - A @ x_new + z * onsager
        history.append(np.where(going, tau, np.nan))
        n_iter = n_iter + going
        change, size = np.linalg.norm(x_new - x, axis=0), np.linalg.norm(x_new, axis=0)
        x, z = np.where(going, x_new, x), np.where(going, z_new, z)
        converged = converged | (going & (change <= tol * size))
        going = going & ~converged & (np.linalg.norm(z, axis=0) < limit)
    history = np.reshape(history, (-1, *y.shape[1:]))
    return make_result(x, n_iter, converged, np.nan, history, method="amp")


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

    with Z standard normal, starting at tau_0^2 = noise^2 + E[X^2] / delta.

    Parameters
    ----------
    delta : float
        Measurements per unknown, m/n.
    values, probabilities : array_like, shape (q,)
        Distribution of the entries of x: values, zero among them, and their probabilities.
    noise : float
        Standard deviation of each measurement's noise.
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
    ValueError
        If an argument is out of range.

    References
    ----------
    Bayati, Montanari, "The dynamics of message passing on dense graphs, with applications to
    compressed sensing", IEEE Trans. Inf. Theory 2011. arXiv:1001.3448
    """
    delta = check_number("delta", delta, open_low=True)
    noise, alpha = check_number("noise", noise), check_number("alpha", alpha)
    check_count("n_iter", n_iter)
    second_moment = prior_risk(values, probabilities, 1.0, np.inf)
    tau = [np.sqrt(noise**2 + second_moment / delta)]
    for _ in range(n_iter):
        risk = prior_risk(values, probabilities, tau[-1], alpha) if tau[-1] > 0 else 0.0
        tau.append(np.sqrt(noise**2 + risk / delta))
    return np.array(tau)
