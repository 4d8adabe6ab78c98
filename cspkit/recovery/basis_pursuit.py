"""The smallest l1 norm that explains the measurements, exactly or up to a noise bound."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cspkit.arguments import count, positive
from cspkit.recovery.operators import Matrix, in_float64
from cspkit.recovery.penalties import L1
from cspkit.recovery.result import RecoveryResult, make_result
from cspkit.recovery.validation import check_system, check_tolerance
from cspkit.recovery.working_set import WorkingSet, solve_in_rounds

LASSO_TOL = 1e-13  # as small as float64 allows: x and theta are computed from the lasso answer
LASSO_ROUNDS = 200


def basis_pursuit(
    A: Matrix, y: ArrayLike, *, tol: float = 1e-9, max_iter: int = 10, nonnegative: bool = False
) -> RecoveryResult:
    """Minimise ||x||_1 subject to A x = y.

    For small lam the lasso answer has the same support and signs as the answer of basis pursuit.
    So lam is divided by ten in each step. In each step, least squares on the lasso's support gives
    x, and the lasso's residual gives the dual point theta = (y - A x_lam) / lam. Together they give
    a certificate: the dual problem is to maximise y^T theta subject to ||A^T theta||_inf <= 1.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : array_like, shape (m,)
        Measurements, in the range of A.
    tol : float
        Bound on the relative gap and on ||y - A x|| / ||y||. The solver uses at least ten
        times the spacing of floats near 1.
    max_iter : int
        The solver tries at most this many values of lam.
    nonnegative : bool
        Add the constraint x >= 0.

    Returns
    -------
    RecoveryResult
        The gap is relative to the answer, (||x||_1 - y^T theta) / ||x||_1, and it is infinite if
        A x = y or the constraint x >= 0 does not hold. The history has the gap for each lam.

    Raises
    ------
    ArgumentError
        If an argument has the wrong shape, type or range, or holds nan or inf; if the range of
        the float type cannot hold x.

    Warns
    -----
    ConvergenceWarning
        If no lam gives a gap of at most `tol`. This happens if A x = y has no solution.

    References
    ----------
    Chen, Donoho, Saunders, "Atomic decomposition by basis pursuit", SIAM J. Sci. Comput.
    1998. doi:10.1137/S1064827596304010
    """
    A, y, scale = check_system(A, y)
    fields = _solve(A, y, tol, max_iter, nonnegative)
    return make_result(*fields, scale, method="basis_pursuit")


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

    The answer is the lasso answer x_lam for the lam at which ||y - A x_lam||_2 = eps. While the
    support S and its signs s stay the same, the residual norm satisfies

        ||y - A x_lam||^2 = c + lam^2 s^T (A_S^T A_S)^-1 s,

    with a constant c. This formula gives the next lam. If this lam lies outside the interval that
    is known to contain the right lam, the search takes a point inside the interval instead.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : array_like, shape (m,)
        Measurements.
    eps : float
        Bound on the norm of the noise, at least 0. For 0, `basis_pursuit` solves the problem, with
        its default `max_iter`.
    tol : float
        Bound on the relative gap, and on (||y - A x||_2 - eps) / eps. The solver uses at least
        ten times the spacing of floats near 1.
    max_iter : int
        The solver tries at most this many values of lam.
    nonnegative : bool
        Add the constraint x >= 0.

    Returns
    -------
    RecoveryResult
        The gap is relative to the answer, (||x||_1 - bound) / ||x||_1, where the bound is the
        value y^T theta - eps ||theta||_2 of a point of the dual problem. The gap is infinite if
        ||y - A x||_2 is above eps by more than `tol` allows. The history has the gap for each lam.

    Raises
    ------
    ArgumentError
        If an argument has the wrong shape, type or range, or holds nan or inf; if the range of
        the float type cannot hold x.

    Warns
    -----
    ConvergenceWarning
        If the gap is still above `tol`. This happens if no x satisfies ||y - A x||_2 <= eps.

    References
    ----------
    van den Berg, Friedlander, "Probing the Pareto frontier for basis pursuit solutions", SIAM
    J. Sci. Comput. 2008. doi:10.1137/080714488
    """
    eps = positive("eps", eps, zero=True)
    A, y, scale = check_system(A, y)
    eps = scale.of_residual(eps)
    if eps == 0:
        return make_result(*_solve(A, y, tol, 10, nonnegative), scale, method="basis_pursuit")
    tol, max_iter = check_tolerance(tol, y.dtype), count("max_iter", max_iter)
    penalty = L1(nonnegative=nonnegative)
    working_set, history = WorkingSet(A, y, penalty), []
    low, high = 0.0, max(penalty.dual_norm(A.T @ y), 0)
    lam, smallest = high / 2, 1e-10 * high
    gap = 0.0 if np.linalg.norm(y) <= eps else np.inf
    while len(history) < max_iter and gap > tol and high > smallest:
        solve_in_rounds(A, [working_set], lam, LASSO_TOL, LASSO_ROUNDS)
        residual = working_set.residual
        size = np.linalg.norm(residual.astype(np.float64))
        norm = np.sum(np.abs(working_set.x), dtype=np.float64)
        bound = _dual_value(A, y, residual, lam, eps, penalty)
        wrong = size > eps * (1 + tol) or norm == 0
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
    return make_result(x, len(history), gap <= tol, gap, history, scale, method="bpdn")


def _solve(A, y, tol, max_iter, nonnegative):
    """Basis pursuit of a scaled problem. Returns x, n_iter, converged, gap and history."""
    tol, max_iter = check_tolerance(tol, y.dtype), count("max_iter", max_iter)
    penalty = L1(nonnegative=nonnegative)
    working_set, history = WorkingSet(A, y, penalty), []
    lam = max(penalty.dual_norm(A.T @ y), 0)
    x, gap = np.zeros(A.shape[1], dtype=y.dtype), np.inf if y.any() else 0.0
    while len(history) < max_iter and gap > tol and lam > 0:
        lam /= 10
        solve_in_rounds(A, [working_set], lam, LASSO_TOL, LASSO_ROUNDS)
        x_new, misfit = _least_squares(working_set)
        dual = _dual_value(A, y, working_set.residual, lam, 0.0, penalty)
        norm = np.sum(np.abs(x_new), dtype=np.float64)
        wrong = misfit > tol or (nonnegative and np.any(x_new < 0))
        history.append(np.inf if wrong else max(norm - dual, 0) / norm)
        if history[-1] <= gap:
            x, gap = x_new, history[-1]
    return x, len(history), gap <= tol, gap, history


def _least_squares(working_set):
    """Least squares on the support of the lasso answer, and its relative misfit."""
    members = np.flatnonzero(working_set.u)
    basis, y = working_set.unit_columns[members].T, working_set.y.astype(np.float64)
    u = np.linalg.lstsq(basis, y, rcond=None)[0]
    # The lasso support may contain columns that basis pursuit does not use.
    u[np.abs(u) < 1e-13 * np.max(np.abs(u))] = 0
    x = np.zeros(working_set.A.shape[1], dtype=working_set.y.dtype)
    x[working_set.members[members]] = u / working_set.norms[members]
    return x, np.linalg.norm(y - basis @ u) / np.linalg.norm(y)


def _dual_value(A, y, residual, lam, eps, penalty):
    """y^T theta - eps ||theta||, at theta = residual / lam, scaled down if |A^T theta| > 1."""
    r = residual.astype(np.float64)
    value = y @ r - eps * np.linalg.norm(r)
    return value / max(penalty.dual_norm(in_float64(A).T @ r), lam)
