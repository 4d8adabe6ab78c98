"""Gradient step, then soft threshold: ISTA, and FISTA with momentum."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cspkit.recovery.duality import lasso_gap, relative_gap
from cspkit.recovery.operators import Matrix, largest_singular_value
from cspkit.recovery.proximal import block_soft_threshold, soft_threshold
from cspkit.recovery.result import RecoveryResult, make_result
from cspkit.recovery.validation import (
    check_count,
    check_groups,
    check_number,
    check_system,
    check_weights,
)


def ista(
    A: Matrix,
    y: ArrayLike,
    lam: float,
    *,
    tol: float = 1e-6,
    max_iter: int = 10_000,
    nonnegative: bool = False,
) -> RecoveryResult:
    """Lasso by the iterative shrinkage-thresholding algorithm.

    Minimises 1/2 ||y - A x||_2^2 + lam ||x||_1 by

        x <- soft_threshold(x + A^T (y - A x) / L, lam / L),      L = ||A||_2^2.

    The objective falls in every step, at the rate 1/t in general.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : array_like, shape (m,) or (m, r)
        Measurements, one signal per column.
    lam : float
        Weight of the l1 term, above 0.
    tol : float
        Stop when the relative duality gap is at most this.
    max_iter : int
        Largest number of iterations.
    nonnegative : bool
        Add the constraint x >= 0.

    Returns
    -------
    RecoveryResult
        With the relative duality gap after each iteration as history.

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
    Daubechies, Defrise, De Mol, "An iterative thresholding algorithm for linear inverse
    problems with a sparsity constraint", CPAM 2004. doi:10.1002/cpa.20042
    """
    A, y, lam = _check_arguments(A, y, lam, tol, max_iter)
    L = largest_singular_value(A) ** 2 or 1.0
    x = np.zeros((A.shape[1], *y.shape[1:]), dtype=y.dtype)
    residual, best = y, _Best(x, tol)
    correlation = A.T @ residual
    best.offer(x, lasso_gap(y, residual, x, lam, residual, correlation, nonnegative=nonnegative))
    while best.n_iter < max_iter and not best.reached:
        x = soft_threshold(x + correlation / L, lam / L, nonnegative=nonnegative)
        residual = y - A @ x
        correlation = A.T @ residual
        gap = lasso_gap(y, residual, x, lam, residual, correlation, nonnegative=nonnegative)
        best.offer(x, gap)
    return best.result("ista")


def fista(
    A: Matrix,
    y: ArrayLike,
    lam: float,
    *,
    tol: float = 1e-6,
    max_iter: int = 10_000,
    nonnegative: bool = False,
) -> RecoveryResult:
    """Lasso by accelerated proximal gradient with adaptive restart.

    Minimises 1/2 ||y - A x||_2^2 + lam ||x||_1 by ISTA steps from an extrapolated point,

        x_new <- soft_threshold(z + A^T (y - A z) / L, lam / L),
        t_new <- (1 + sqrt(1 + 4 t^2)) / 2,
        z     <- x_new + (t - 1) / t_new (x_new - x),

    at the rate 1/t^2. Where the step points against the momentum, <z - x_new, x_new - x> > 0,
    the momentum starts anew.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : array_like, shape (m,) or (m, r)
        Measurements, one signal per column.
    lam : float
        Weight of the l1 term, above 0.
    tol : float
        Stop when the relative duality gap is at most this.
    max_iter : int
        Largest number of iterations.
    nonnegative : bool
        Add the constraint x >= 0.

    Returns
    -------
    RecoveryResult
        The iterate of smallest gap, with the relative duality gap after each iteration as
        history.

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
    Beck, Teboulle, "A fast iterative shrinkage-thresholding algorithm for linear inverse
    problems", SIAM J. Imaging Sci. 2009. doi:10.1137/080716542
    O'Donoghue, Candes, "Adaptive restart for accelerated gradient schemes", Found. Comput.
    Math. 2015. arXiv:1204.3982
    """
    A, y, lam = _check_arguments(A, y, lam, tol, max_iter)

    def prox(v, t):
        return soft_threshold(v, t, nonnegative=nonnegative)

    def norm(x):
        return np.sum(np.abs(x), axis=0, dtype=np.float64)

    def dual_norm(correlation):
        return np.max(correlation if nonnegative else np.abs(correlation), axis=0)

    return _accelerate(A, y, lam, prox, norm, dual_norm, tol, max_iter, "fista")


def group_lasso(
    A: Matrix,
    y: ArrayLike,
    lam: float,
    groups: ArrayLike,
    *,
    tol: float = 1e-6,
    max_iter: int = 10_000,
    weights: ArrayLike | None = None,
) -> RecoveryResult:
    """Group lasso by FISTA: whole groups of entries are zero, or none of the group is.

    Minimises 1/2 ||y - A x||_2^2 + lam sum_g w_g ||x_g||_2. The iteration is that of `fista`
    with `block_soft_threshold` as proximal step.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : array_like, shape (m,)
        Measurements.
    lam : float
        Weight of the group norms, above 0.
    groups : array_like of int, shape (n,)
        Number of the group of each entry; all of 0, 1, ..., G - 1 occur.
    tol : float
        Stop when the relative duality gap is at most this.
    max_iter : int
        Largest number of iterations.
    weights : array_like, shape (G,), optional
        Positive weight w_g of each group; 1 if not given. Groups of unequal size are often
        weighted by the square root of their size.

    Returns
    -------
    RecoveryResult
        The iterate of smallest gap, with the relative duality gap after each iteration as
        history.

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
    Yuan, Lin, "Model selection and estimation in regression with grouped variables", J. R.
    Stat. Soc. B 2006. doi:10.1111/j.1467-9868.2005.00532.x
    """
    A, y, lam = _check_arguments(A, y, lam, tol, max_iter, columns=False)
    groups = check_groups(groups, A.shape[1])
    n_groups = int(np.max(groups)) + 1
    w = np.ones(n_groups) if weights is None else check_weights(weights, n_groups)

    def group_norms(x):
        return np.sqrt(np.bincount(groups, weights=np.square(x, dtype=np.float64)))

    def prox(v, t):
        return block_soft_threshold(v, t * w, groups)

    def norm(x):
        return w @ group_norms(x)

    def dual_norm(correlation):
        return np.max(group_norms(correlation) / w)

    return _accelerate(A, y, lam, prox, norm, dual_norm, tol, max_iter, "group_lasso")


def _accelerate(A, y, lam, prox, norm, dual_norm, tol, max_iter, method):
    """FISTA with restart for 1/2 ||y - A x||^2 + lam norm(x); every column restarts alone."""
    L = largest_singular_value(A) ** 2 or 1.0
    x = np.zeros((A.shape[1], *y.shape[1:]), dtype=y.dtype)
    z, t, best = x, np.ones(y.shape[1:], dtype=y.dtype), _Best(x, tol)
    residual, correlation = y, A.T @ y
    best.offer(x, relative_gap(y, y, 0.0, y, dual_norm(correlation) / lam))
    while best.n_iter < max_iter and not best.reached:
        x_new = prox(z + correlation / L, lam / L)
        t = np.where(np.sum((z - x_new) * (x_new - x), axis=0) > 0, 1, t).astype(y.dtype)
        t_new = (1 + np.sqrt(1 + 4 * t**2)) / 2
        momentum = (t - 1) / t_new
        z = x_new + momentum * (x_new - x)
        residual_new = y - A @ x_new
        # A z costs no second product: it is the same combination of A x_new and A x.
        residual_z = residual_new + momentum * (residual_new - residual)
        correlation = A.T @ residual_z
        x, residual, t = x_new, residual_new, t_new
        largest = dual_norm(correlation) / lam
        best.offer(x, relative_gap(y, residual, lam * norm(x), residual_z, largest))
    return best.result(method)


def _check_arguments(A, y, lam, tol, max_iter, columns=True):
    A, y = check_system(A, y, columns=columns)
    check_number("tol", tol)
    check_count("max_iter", max_iter)
    return A, y, check_number("lam", lam, open_low=True)


class _Best:
    """The iterate of smallest gap of each column, and the history of the gaps."""

    def __init__(self, x, tol):
        self.x, self.tol = x, tol
        self.gap = np.full(x.shape[1:], np.inf)
        self.history, self.n_iter = [], -1
        self.stopped = np.full(x.shape[1:], -1)

    def offer(self, x, gap):
        self.n_iter += 1
        self.history.append(np.where(self.stopped >= 0, np.nan, gap))
        self.x = np.where(gap < self.gap, x, self.x)
        self.gap = np.minimum(gap, self.gap)
        first = (self.stopped < 0) & (self.gap <= self.tol)
        self.stopped = np.where(first, self.n_iter, self.stopped)

    @property
    def reached(self):
        return np.all(self.gap <= self.tol)

    def result(self, method):
        n_iter = np.where(self.stopped >= 0, self.stopped, self.n_iter)
        return make_result(
            self.x, n_iter, self.gap <= self.tol, self.gap, self.history[1:], method=method
        )
