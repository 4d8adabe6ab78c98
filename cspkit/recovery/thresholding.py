"""Hard thresholding: a gradient step, then the k largest entries (IHT, HTP)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cspkit.recovery.operators import Matrix, least_squares
from cspkit.recovery.proximal import hard_threshold
from cspkit.recovery.result import RecoveryResult, make_result
from cspkit.recovery.validation import check_count, check_sparsity, check_system, check_tolerance


def iht(
    A: Matrix, y: ArrayLike, k: int, *, tol: float = 1e-10, max_iter: int = 5_000
) -> RecoveryResult:
    """Iterative hard thresholding with the normalised step.

        x <- H_k(x + mu A^T (y - A x)),      mu = ||g_S||^2 / ||A g_S||^2,

    where g = A^T (y - A x), S is the support of x, and H_k keeps the k largest magnitudes.
    mu is the exact line search if the support stays; if it changes, mu is halved until the
    step is short enough to lower the residual.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : array_like, shape (m,)
        Measurements.
    k : int
        Number of nonzeros, at most min(m, n).
    tol : float
        Stop when a step changes x by at most this, relative to ||x||.
    max_iter : int
        Largest number of iterations.

    Returns
    -------
    RecoveryResult
        With the relative residual after each iteration as history. There is no gap (nan).

    Raises
    ------
    ValueError
        If an argument has the wrong shape, type or range, or holds nan or inf.

    Warns
    -----
    ConvergenceWarning
        If x still changes by more after `max_iter` iterations.

    References
    ----------
    Blumensath, Davies, "Normalized iterative hard thresholding: guaranteed stability and
    performance", IEEE J. Sel. Top. Signal Process. 2010. doi:10.1109/JSTSP.2010.2042411
    """
    A, y, k = _check_arguments(A, y, k, max_iter)
    tol = check_tolerance(tol, y.dtype)
    x, residual, history = np.zeros(A.shape[1], dtype=y.dtype), y, []
    norm_y, converged = np.linalg.norm(y), not y.any()
    while len(history) < max_iter and not converged:
        g = A.T @ residual
        mu = _normalised_step(A, x, g, k)
        x_new = hard_threshold(x + mu * g, k)
        while not np.array_equal(x_new != 0, x != 0) and not _short_enough(A, x_new - x, mu):
            mu /= 2
            x_new = hard_threshold(x + mu * g, k)
        converged = np.linalg.norm(x_new - x) <= tol * np.linalg.norm(x_new)
        x = x_new
        residual = y - A @ x
        history.append(np.linalg.norm(residual) / norm_y)
    return make_result(x, len(history), converged, np.nan, history, method="iht")


def htp(A: Matrix, y: ArrayLike, k: int, *, max_iter: int = 500) -> RecoveryResult:
    """Hard thresholding pursuit: IHT chooses the support, least squares the values.

        S <- support of H_k(x + mu A^T (y - A x)),      x <- argmin over S of ||y - A x||_2

    It ends when the support repeats, in a handful of steps.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : array_like, shape (m,)
        Measurements.
    k : int
        Number of nonzeros, at most min(m, n).
    max_iter : int
        Largest number of iterations.

    Returns
    -------
    RecoveryResult
        With the relative residual after each iteration as history. There is no gap (nan).

    Raises
    ------
    ValueError
        If an argument has the wrong shape, type or range, or holds nan or inf.

    Warns
    -----
    ConvergenceWarning
        If the support still changes after `max_iter` iterations, or returns to an earlier one.

    References
    ----------
    Foucart, "Hard thresholding pursuit: an algorithm for compressive sensing", SIAM J. Numer.
    Anal. 2011. doi:10.1137/100806278
    """
    A, y, k = _check_arguments(A, y, k, max_iter)
    x, residual, history = np.zeros(A.shape[1], dtype=y.dtype), y, []
    S, norm_y, converged = np.empty(0, dtype=int), np.linalg.norm(y), not y.any()
    seen = set()
    while len(history) < max_iter and not converged and S.tobytes() not in seen:
        seen.add(S.tobytes())
        g = A.T @ residual
        v = x + _normalised_step(A, x, g, k) * g
        S_new = np.flatnonzero(hard_threshold(v, k))
        x = least_squares(A, y, S_new)
        residual = y - A @ x
        history.append(np.linalg.norm(residual) / norm_y)
        converged = np.array_equal(S_new, S)
        S = S_new
    return make_result(x, len(history), converged, np.nan, history, method="htp")


def _check_arguments(A, y, k, max_iter):
    A, y = check_system(A, y)
    check_count("max_iter", max_iter)
    return A, y, check_sparsity(k, A)


def _normalised_step(A, x, g, k):
    """mu of the exact line search along g on the support of x, or of H_k(g) at the start."""
    g_S = np.where(x != 0, g, 0) if x.any() else hard_threshold(g, k)
    A_g = A @ g_S
    curvature = A_g @ A_g
    if curvature == 0:  # g_S is zero: x is the best on its support, any step will do
        A_g = A @ g
        g_S, curvature = g, A_g @ A_g
    return g_S @ g_S / curvature if curvature > 0 else 1.0


def _short_enough(A, change, mu):
    """Whether mu ||A change||^2 <= 0.99 ||change||^2, which lowers the residual."""
    A_change = A @ change
    return mu * (A_change @ A_change) <= 0.99 * (change @ change)
