"""Hard thresholding: take a gradient step, then keep the k largest entries (IHT, HTP)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cspkit.arguments import ArgumentError, count
from cspkit.recovery.operators import Matrix, least_squares
from cspkit.recovery.proximal import keep_largest
from cspkit.recovery.result import RecoveryResult, make_result
from cspkit.recovery.validation import check_system, check_tolerance, exponents


def iht(
    A: Matrix, y: ArrayLike, k: int, *, tol: float = 1e-10, max_iter: int = 5_000
) -> RecoveryResult:
    """Iterative hard thresholding with the normalised step.

        x <- H_k(x + mu A^T (y - A x)),      mu = ||g_S||^2 / ||A g_S||^2,

    where g = A^T (y - A x), and H_k keeps the k largest magnitudes. S is the support of x, or of
    H_k(g) if x = 0. If the support stays the same, mu is the step of the exact line search. If it
    changes, mu is halved until the step is short enough to lower the residual.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : array_like, shape (m,)
        Measurements.
    k : int
        Number of nonzeros, at most min(m, n).
    tol : float
        Stop when a step changes x by at most this, relative to ||x||. The solver uses at least
        ten times the spacing of floats near 1.
    max_iter : int
        Largest number of iterations.

    Returns
    -------
    RecoveryResult
        The history has the relative residual after each iteration. There is no gap (nan).

    Raises
    ------
    ArgumentError
        If an argument has the wrong shape, type or range, or holds nan or inf; if the range of
        the float type cannot hold x or the step.

    Warns
    -----
    ConvergenceWarning
        If x still changes by more than `tol` after `max_iter` iterations.

    References
    ----------
    Blumensath, Davies, "Normalized iterative hard thresholding: guaranteed stability and
    performance", IEEE J. Sel. Top. Signal Process. 2010. doi:10.1109/JSTSP.2010.2042411
    """
    A, y, scale = check_system(A, y)
    k, max_iter = count("k", k, 1, min(A.shape)), count("max_iter", max_iter)
    tol = check_tolerance(tol, y.dtype)
    x, residual, history = np.zeros(A.shape[1], dtype=y.dtype), y, []
    norm_y, converged = np.linalg.norm(y), not y.any()
    while len(history) < max_iter and not converged:
        g = A.T @ residual
        mu = _normalised_step(A, x, g, k)
        x_new = keep_largest(x + mu * g, k)
        while (
            not np.array_equal(x_new != 0, x != 0)
            and not _short_enough(A, x_new - x, mu)
            and mu > 0  # else the loop would never end if an operator returns nan
        ):
            mu /= 2
            x_new = keep_largest(x + mu * g, k)
        converged = np.linalg.norm(x_new - x) <= tol * np.linalg.norm(x_new)
        x = x_new
        residual = y - A @ x
        history.append(np.linalg.norm(residual) / norm_y)
    return make_result(x, len(history), converged, np.nan, history, scale, method="iht")


def htp(A: Matrix, y: ArrayLike, k: int, *, max_iter: int = 500) -> RecoveryResult:
    """Hard thresholding pursuit: IHT chooses the support, and least squares gives the values.

        S <- support of H_k(x + mu A^T (y - A x)),      x <- argmin over S of ||y - A x||_2

    The method ends when a step gives the same support again, usually after a few steps.

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
        The history has the relative residual after each iteration. There is no gap (nan).

    Raises
    ------
    ArgumentError
        If an argument has the wrong shape, type or range, or holds nan or inf; if the range of
        the float type cannot hold x or the step.

    Warns
    -----
    ConvergenceWarning
        If the support still changes after `max_iter` iterations, or returns to an earlier support.

    References
    ----------
    Foucart, "Hard thresholding pursuit: an algorithm for compressive sensing", SIAM J. Numer.
    Anal. 2011. doi:10.1137/100806278
    """
    A, y, scale = check_system(A, y)
    k, max_iter = count("k", k, 1, min(A.shape)), count("max_iter", max_iter)
    x, residual, history = np.zeros(A.shape[1], dtype=y.dtype), y, []
    S, norm_y, converged = np.empty(0, dtype=int), np.linalg.norm(y), not y.any()
    seen = set()
    while len(history) < max_iter and not converged and S.tobytes() not in seen:
        seen.add(S.tobytes())
        g = A.T @ residual
        v = x + _normalised_step(A, x, g, k) * g
        S_new = np.flatnonzero(keep_largest(v, k))
        x = least_squares(A, y, S_new)
        residual = y - A @ x
        history.append(np.linalg.norm(residual) / norm_y)
        converged = np.array_equal(S_new, S)
        S = S_new
    return make_result(x, len(history), converged, np.nan, history, scale, method="htp")


def _normalised_step(A, x, g, k, rescaled=False):
    """Step mu of the exact line search along g_S; S is the support of x, or of H_k(g) if x = 0."""
    g_S = np.where(x != 0, g, 0) if x.any() else keep_largest(g, k)
    A_g = A @ g_S
    curvature = A_g @ A_g
    if curvature == 0:  # A g_S is zero: no step on this support changes the residual
        A_g = A @ g
        g_S, curvature = g, A_g @ A_g
    single = g.dtype == np.float32
    if curvature > (1e-25 if single else 1e-150):
        return g_S @ g_S / curvature
    if not g.any():
        return 1.0
    if not rescaled:  # mu does not depend on the size of g
        return _normalised_step(A, x, np.ldexp(g, -exponents(g)), k, rescaled=True)
    if curvature < (2.0**-100 if single else 2.0**-600) * (g_S @ g_S):
        raise ArgumentError(
            "A has columns that are too small compared with others, so that x would overflow: "
            "divide each column by its norm"
        )
    return g_S @ g_S / curvature


def _short_enough(A, change, mu):
    """Whether mu ||A change||^2 <= 0.99 ||change||^2. If so, the step lowers the residual."""
    A_change = A @ change
    return mu * (A_change @ A_change) <= 0.99 * (change @ change)
