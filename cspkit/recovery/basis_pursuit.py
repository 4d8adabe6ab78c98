"""The smallest l1 norm that explains the measurements, exactly or up to a noise bound."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cspkit.recovery.lasso import lam_max_of
from cspkit.recovery.operators import Matrix
from cspkit.recovery.result import RecoveryResult, make_result
from cspkit.recovery.validation import check_count, check_number, check_system
from cspkit.recovery.working_set import WorkingSet, solve_in_rounds

LASSO_TOL = 1e-13  # as exact as float64 allows: the lasso answers here are only a way to others
LASSO_ROUNDS = 200


def basis_pursuit(
    A: Matrix, y: ArrayLike, *, tol: float = 1e-9, max_iter: int = 10, nonnegative: bool = False
) -> RecoveryResult:
    """Minimise ||x||_1 subject to A x = y.

    For small lam the lasso answer has the support and the signs of this one. So lam falls by
    tens; each time least squares on the lasso's support gives x, the lasso's residual
    gives the dual point theta = (y - A x_lam) / lam, and both together a certificate:
    max y^T theta subject to ||A^T theta||_inf <= 1 is the dual problem.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : array_like, shape (m,)
        Measurements, in the range of A.
    tol : float
        Largest relative gap, and largest ||y - A x|| / ||y||.
    max_iter : int
        How many values of lam are tried.
    nonnegative : bool
        Add the constraint x >= 0.

    Returns
    -------
    RecoveryResult
        The gap here is (||x||_1 - y^T theta) / ||x||_1, and infinite while A x = y does not
        hold. The history has it for each lam.

    Raises
    ------
    ValueError
        If an argument has the wrong shape, type or range, or holds nan or inf.

    Warns
    -----
    ConvergenceWarning
        If no lam gives the certificate; so it is when A x = y has no solution.

    References
    ----------
    Chen, Donoho, Saunders, "Atomic decomposition by basis pursuit", SIAM J. Sci. Comput.
    1998. doi:10.1137/S1064827596304010
    """
    A, y = check_system(A, y)
    check_number("tol", tol)
    check_count("max_iter", max_iter)
    working_set = WorkingSet(A, y, None, nonnegative)
    lam, history = lam_max_of(A, y, nonnegative=nonnegative), []
    x, gap = np.zeros(A.shape[1], dtype=y.dtype), np.inf if y.any() else 0.0
    while len(history) < max_iter and gap > tol and lam > 0:
        lam /= 10
        solve_in_rounds(A, [working_set], lam, LASSO_TOL, LASSO_ROUNDS)
        x_new, misfit = _least_squares(working_set)
        dual = _dual_value(A, y, working_set.residual / lam, 0.0, nonnegative)
        norm = np.sum(np.abs(x_new), dtype=np.float64)
        wrong = misfit > max(tol, 10 * np.finfo(y.dtype).eps) or (nonnegative and np.any(x_new < 0))
        history.append(np.inf if wrong else max(norm - dual, 0) / norm)
        if history[-1] <= gap:
            x, gap = x_new, history[-1]
    return make_result(x, len(history), gap <= tol, gap, history, method="basis_pursuit")


def bpdn(
    A: Matrix,
    y: ArrayLike,
    eps: float,
    *,
    tol: float = 1e-9,
    max_iter: int = 100,
    nonnegative: bool = False,
) -> RecoveryResult:
    """Basis pursuit denoising: minimise ||x||_1 subject to ||y - A x||_2 <= eps.

    The answer is that of the lasso at the lam where the residual norm is eps. While the
    support S and its signs s stay, that norm obeys

        ||y - A x_lam||^2 = c + lam^2 s^T (A_S^T A_S)^-1 s,

    which gives the next lam; a bracket guards it.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : array_like, shape (m,)
        Measurements.
    eps : float
        Bound of the noise's norm, at least 0; for 0 see `basis_pursuit`.
    tol : float
        Largest relative gap, and largest relative error of the residual norm.
    max_iter : int
        How many values of lam are tried.
    nonnegative : bool
        Add the constraint x >= 0.

    Returns
    -------
    RecoveryResult
        The gap here is (||x||_1 - bound) / ||x||_1, where the bound is the value
        y^T theta - eps ||theta||_2 of a point of the dual problem. The history has it for
        each lam.

    Raises
    ------
    ValueError
        If an argument has the wrong shape, type or range, or holds nan or inf.

    Warns
    -----
    ConvergenceWarning
        If the certificate is not reached; so it is when no x comes as near to y as eps.

    References
    ----------
    van den Berg, Friedlander, "Probing the Pareto frontier for basis pursuit solutions", SIAM
    J. Sci. Comput. 2008. doi:10.1137/080714488
    """
    eps = check_number("eps", eps)
    if eps == 0:
        return basis_pursuit(A, y, tol=tol, nonnegative=nonnegative)
    A, y = check_system(A, y)
    check_number("tol", tol)
    check_count("max_iter", max_iter)
    working_set, history = WorkingSet(A, y, None, nonnegative), []
    low, high = 0.0, lam_max_of(A, y, nonnegative=nonnegative)
    lam, smallest = high / 2, 1e-10 * high
    gap = 0.0 if np.linalg.norm(y) <= eps else np.inf
    while len(history) < max_iter and gap > tol and high > smallest:
        solve_in_rounds(A, [working_set], lam, LASSO_TOL, LASSO_ROUNDS)
        residual = working_set.residual
        size = np.linalg.norm(residual.astype(np.float64))
        norm = np.sum(np.abs(working_set.x), dtype=np.float64)
        bound = _dual_value(A, y, residual / lam, eps, nonnegative)
        wrong = size > eps * (1 + max(tol, np.finfo(y.dtype).eps)) or norm == 0
        gap = np.inf if wrong else max(norm - bound, 0) / norm
        history.append(gap)
        low, high = (low, lam) if size > eps else (lam, high)
        S = np.flatnonzero(working_set.u)
        s = np.sign(working_set.u[S]) / working_set.norms[S]
        slope = s @ np.linalg.lstsq(working_set.gram[np.ix_(S, S)], s, rcond=None)[0]
        square = lam**2 + (eps**2 - size**2) / slope if slope > 0 else 0.0
        inside = low**2 < square < high**2
        lam = np.sqrt(square) if inside else (low + high) / 2 if low > 0 else high / 10
    x = working_set.x
    return make_result(x, len(history), gap <= tol, gap, history, method="bpdn")


def _least_squares(working_set):
    """Least squares on the support of the lasso answer, in float64, and its relative misfit."""
    members = np.flatnonzero(working_set.u)
    basis, y = working_set.unit_columns[members].T, working_set.y.astype(np.float64)
    u = np.linalg.lstsq(basis, y, rcond=None)[0]
    # The lasso's support may be too large by columns that the answer does not use.
    u[np.abs(u) < 1e-13 * np.max(np.abs(u))] = 0
    x = np.zeros(working_set.A.shape[1], dtype=working_set.y.dtype)
    x[working_set.members[members]] = u / working_set.norms[members]
    return x, np.linalg.norm(y - basis @ u) / np.linalg.norm(y)


def _dual_value(A, y, theta, eps, nonnegative):
    """y^T theta - eps ||theta||, with theta scaled so that |A^T theta| <= 1."""
    correlation = A.T @ theta
    largest = np.max(correlation if nonnegative else np.abs(correlation))
    theta = (theta / max(largest, 1)).astype(np.float64)
    return y @ theta - eps * np.linalg.norm(theta)
