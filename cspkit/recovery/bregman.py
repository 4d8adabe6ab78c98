"""Linearized Bregman iteration: dual ascent, whose sparse point is a thresholded dense one."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cspkit.recovery.operators import Matrix, largest_singular_value
from cspkit.recovery.proximal import soft_threshold
from cspkit.recovery.result import RecoveryResult, make_result
from cspkit.recovery.validation import check_count, check_number, check_system, check_tolerance


def linearized_bregman(
    A: Matrix, y: ArrayLike, lam: float, *, tol: float = 1e-10, max_iter: int = 50_000
) -> RecoveryResult:
    """Minimise lam ||x||_1 + 1/2 ||x||_2^2 subject to A x = y, by gradient ascent on the dual.

        v <- v + A^T (y - A x) / ||A||_2^2
        x <- soft_threshold(v, lam)

    The dense v = A^T theta gathers every residual so far; the sparse x is what it shows above
    the threshold. So an entry of x that has become zero can return. For lam large enough, some
    multiple of max|x|, the answer is that of basis pursuit.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : array_like, shape (m,)
        Measurements, in the range of A.
    lam : float
        Weight of the l1 term, above 0, in units of x.
    tol : float
        Stop when ||y - A x|| / ||y|| is at most this: x then is the minimiser for those
        measurements that A x makes.
    max_iter : int
        Largest number of iterations; they are many where lam is large.

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
        If `max_iter` iterations do not reach `tol`.

    References
    ----------
    Yin, Osher, Goldfarb, Darbon, "Bregman iterative algorithms for l1-minimization with
    applications to compressed sensing", SIAM J. Imaging Sci. 2008. doi:10.1137/070703983
    Yin, "Analysis and generalizations of the linearized Bregman method", SIAM J. Imaging Sci.
    2010. doi:10.1137/090760350
    """
    A, y = check_system(A, y)
    lam = check_number("lam", lam, open_low=True)
    tol = check_tolerance(tol, y.dtype)
    check_count("max_iter", max_iter)
    x = v = np.zeros(A.shape[1], dtype=y.dtype)
    L = largest_singular_value(A) ** 2 or 1.0
    residual, norm_y, history = y, np.linalg.norm(y), []
    misfit = 1.0 if norm_y > 0 else 0.0
    while misfit > tol and len(history) < max_iter:
        v = v + (A.T @ residual) / L
        x = soft_threshold(v, lam)
        residual = y - A @ x
        misfit = np.linalg.norm(residual) / norm_y
        history.append(misfit)
    return make_result(x, len(history), misfit <= tol, np.nan, history, method="linearized_bregman")
