"""Linearized Bregman iteration: dual ascent with a dense vector and its sparse soft threshold."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cspkit.arguments import count, positive
from cspkit.recovery.operators import Matrix, largest_singular_value
from cspkit.recovery.proximal import shrink
from cspkit.recovery.result import RecoveryResult, make_result
from cspkit.recovery.validation import check_system, check_tolerance


def linearized_bregman(
    A: Matrix, y: ArrayLike, lam: float, *, tol: float = 1e-10, max_iter: int = 50_000
) -> RecoveryResult:
    """Minimise lam ||x||_1 + 1/2 ||x||_2^2 subject to A x = y, by gradient ascent on the dual.

        v <- v + A^T (y - A x) / ||A||_2^2
        x <- soft_threshold(v, lam)

    The dense vector v is A^T times the sum of all residuals so far, divided by ||A||_2^2. The
    sparse x is the part of v above the threshold. So an entry of x that has become zero can become
    nonzero again. If lam is a large enough multiple of max|x|, the answer is the same as that of
    basis pursuit.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : array_like, shape (m,)
        Measurements, in the range of A.
    lam : float
        Weight of the l1 term, above 0, in units of x.
    tol : float
        Stop when ||y - A x|| / ||y|| is at most this. The answer x is the exact minimiser
        for the measurements A x in place of y. The solver uses at least ten times the spacing of
        floats near 1.
    max_iter : int
        Largest number of iterations. A large lam needs many iterations.

    Returns
    -------
    RecoveryResult
        The history has the relative residual after each iteration. There is no gap (nan).

    Raises
    ------
    ArgumentError
        If an argument has the wrong shape, type or range, or holds nan or inf; if the range of
        the float type cannot hold x.

    Warns
    -----
    ConvergenceWarning
        If the residual is still too large after `max_iter` iterations.

    References
    ----------
    Yin, Osher, Goldfarb, Darbon, "Bregman iterative algorithms for l1-minimization with
    applications to compressed sensing", SIAM J. Imaging Sci. 2008. doi:10.1137/070703983
    Yin, "Analysis and generalizations of the linearized Bregman method", SIAM J. Imaging Sci.
    2010. doi:10.1137/090760350
    """
    A, y, scale = check_system(A, y)
    lam = float(scale.of_signal(positive("lam", lam)))
    tol, max_iter = check_tolerance(tol, y.dtype), count("max_iter", max_iter)
    x = v = np.zeros(A.shape[1], dtype=y.dtype)
    L = largest_singular_value(A) ** 2 or 1.0
    residual, norm_y, history = y, np.linalg.norm(y), []
    misfit = 1.0 if norm_y > 0 else 0.0
    while misfit > tol and len(history) < max_iter:
        v = v + (A.T @ residual) / L
        x = shrink(v, lam)
        residual = y - A @ x
        misfit = np.linalg.norm(residual) / norm_y
        history.append(misfit)
    converged = misfit <= tol
    return make_result(
        x, len(history), converged, np.nan, history, scale, method="linearized_bregman"
    )
