"""A gradient step, then a soft threshold (ISTA); the same with momentum (FISTA)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cspkit.arguments import count, positive
from cspkit.recovery.duality import allowed_gap, certificate, certificate_in_float64
from cspkit.recovery.operators import Matrix, largest_singular_value
from cspkit.recovery.penalties import L1, GroupNorm
from cspkit.recovery.result import RecoveryResult, make_result
from cspkit.recovery.validation import check_groups, check_system, check_weights


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

    The objective falls in every step. In general its distance to the minimum falls like 1/t
    after t steps.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : array_like, shape (m,) or (m, r)
        Measurements, one signal per column.
    lam : float
        Weight of the l1 term, above 0.
    tol : float
        Stop when the duality gap, relative to 1/2 ||y||_2^2, is at most this. The gap must also
        be at most sqrt(tol) times the objective, which matters if lam is very small.
    max_iter : int
        Largest number of iterations.
    nonnegative : bool
        Add the constraint x >= 0.

    Returns
    -------
    RecoveryResult
        The iterate with the smallest gap. The history has the relative duality gap after each
        iteration.

    Raises
    ------
    ArgumentError
        If an argument has the wrong shape, type or range, or holds nan or inf; if the range of
        the float type cannot hold x.

    Warns
    -----
    ConvergenceWarning
        If the gap is still too large after `max_iter` iterations.

    References
    ----------
    Daubechies, Defrise, De Mol, "An iterative thresholding algorithm for linear inverse
    problems with a sparsity constraint", CPAM 2004. doi:10.1002/cpa.20042
    """
    A, y, scale = check_system(A, y, columns=True)
    penalty = L1(nonnegative=nonnegative)
    fields = _proximal_gradient(A, y, lam, scale, penalty, tol, max_iter, accelerated=False)
    return make_result(*fields, scale, method="ista")


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
        z     <- x_new + (t - 1) / t_new (x_new - x).

    After k steps the distance of the objective to its minimum falls like 1/k^2. If the step points
    against the momentum, <z - x_new, x_new - x> > 0, the momentum starts again from zero.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : array_like, shape (m,) or (m, r)
        Measurements, one signal per column.
    lam : float
        Weight of the l1 term, above 0.
    tol : float
        Stop when the duality gap, relative to 1/2 ||y||_2^2, is at most this. The gap must also
        be at most sqrt(tol) times the objective, which matters if lam is very small.
    max_iter : int
        Largest number of iterations.
    nonnegative : bool
        Add the constraint x >= 0.

    Returns
    -------
    RecoveryResult
        The iterate with the smallest gap. The history has the relative duality gap after each
        iteration.

    Raises
    ------
    ArgumentError
        If an argument has the wrong shape, type or range, or holds nan or inf; if the range of
        the float type cannot hold x.

    Warns
    -----
    ConvergenceWarning
        If the gap is still too large after `max_iter` iterations.

    References
    ----------
    Beck, Teboulle, "A fast iterative shrinkage-thresholding algorithm for linear inverse
    problems", SIAM J. Imaging Sci. 2009. doi:10.1137/080716542
    O'Donoghue, Candes, "Adaptive restart for accelerated gradient schemes", Found. Comput.
    Math. 2015. arXiv:1204.3982
    """
    A, y, scale = check_system(A, y, columns=True)
    penalty = L1(nonnegative=nonnegative)
    fields = _proximal_gradient(A, y, lam, scale, penalty, tol, max_iter)
    return make_result(*fields, scale, method="fista")


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
    """Group lasso by FISTA: each group is either all zero or, in general, has no zeros.

    Minimises 1/2 ||y - A x||_2^2 + lam sum_g w_g ||x_g||_2. The iteration is that of `fista`,
    but with `block_soft_threshold` in place of `soft_threshold`.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : array_like, shape (m,)
        Measurements.
    lam : float
        Weight of the group norms, above 0.
    groups : array_like of int, shape (n,)
        The group number of each entry. Each of 0, 1, ..., G - 1 must occur.
    tol : float
        Stop when the duality gap, relative to 1/2 ||y||_2^2, is at most this. The gap must also
        be at most sqrt(tol) times the objective, which matters if lam is very small.
    max_iter : int
        Largest number of iterations.
    weights : array_like, shape (G,), optional
        Positive weight w_g of each group. The default is 1 for every group. For groups of
        different sizes, the square root of the size is a usual weight.

    Returns
    -------
    RecoveryResult
        The iterate with the smallest gap. The history has the relative duality gap after each
        iteration.

    Raises
    ------
    ArgumentError
        If an argument has the wrong shape, type or range, or holds nan or inf; if the range of
        the float type cannot hold x.

    Warns
    -----
    ConvergenceWarning
        If the gap is still too large after `max_iter` iterations.

    References
    ----------
    Yuan, Lin, "Model selection and estimation in regression with grouped variables", J. R.
    Stat. Soc. B 2006. doi:10.1111/j.1467-9868.2005.00532.x
    """
    A, y, scale = check_system(A, y)
    groups = check_groups(groups, A.shape[1])
    n_groups = int(np.max(groups)) + 1
    weights = np.ones(n_groups) if weights is None else check_weights(weights, n_groups)
    penalty = GroupNorm(groups, weights)
    fields = _proximal_gradient(A, y, lam, scale, penalty, tol, max_iter)
    return make_result(*fields, scale, method="group_lasso")


def _proximal_gradient(A, y, lam, scale, penalty, tol, max_iter, accelerated=True):
    """FISTA, or ISTA without momentum, for 1/2 ||y - A x||^2 + lam Omega(x).

    The momentum restarts for each column separately. Returns x, n_iter, converged, gap, history.
    """
    lam = scale.of_penalty(positive("lam", lam))
    tol, max_iter = positive("tol", tol, zero=True), count("max_iter", max_iter)
    L = largest_singular_value(A) ** 2 or 1.0
    step = (lam / L).astype(y.dtype)
    x = np.zeros((A.shape[1], *y.shape[1:]), dtype=y.dtype)
    z, t, best = x, np.ones(y.shape[1:], dtype=y.dtype), _Best(x, tol)
    residual, residual_z, correlation = y, y, A.T @ y
    while True:
        largest = penalty.dual_norm(correlation) / lam
        gap, objective = certificate(y, residual, lam * penalty.norm(x), residual_z, largest)
        if y.dtype == np.float32 and best.would_stop(gap, objective):
            gap, objective = certificate_in_float64(A, y, x, lam, penalty)
        best.offer(x, gap, objective)
        if best.n_iter == max_iter or best.stopped.all():
            break
        x_new = penalty.prox(z + correlation / L, step)
        residual_new = y - A @ x_new
        if accelerated:
            t = np.where(np.sum((z - x_new) * (x_new - x), axis=0) > 0, 1, t).astype(y.dtype)
            t_new = (1 + np.sqrt(1 + 4 * t**2)) / 2
            momentum = (t - 1) / t_new
            z = x_new + momentum * (x_new - x)
            # No product A z is needed: z is a combination of x_new and x, so y - A z is the same
            # combination of their residuals.
            residual_z = residual_new + momentum * (residual_new - residual)
            t = t_new
        else:
            z, residual_z = x_new, residual_new
        correlation = A.T @ residual_z
        x, residual = x_new, residual_new
    gap = best.gap
    if y.dtype == np.float32:
        gap = np.where(best.stopped, gap, certificate_in_float64(A, y, best.x, lam, penalty)[0])
    n_iter = np.where(best.stopped, best.n_stopped, best.n_iter)
    return best.x, n_iter, best.stopped, gap, best.history[1:]


class _Best:
    """The iterate with the smallest gap, for each column. A column stops at a small enough gap."""

    def __init__(self, x, tol):
        self.x, self.tol = x, tol
        self.gap = np.full(x.shape[1:], np.inf)
        self.stopped = np.zeros(x.shape[1:], dtype=bool)
        self.history, self.n_iter, self.n_stopped = [], -1, np.zeros(x.shape[1:], dtype=int)

    def would_stop(self, gap, objective):
        """Whether any column that is still running would now stop."""
        return (~self.stopped & (gap <= allowed_gap(objective, self.tol))).any()

    def offer(self, x, gap, objective):
        self.n_iter += 1
        self.history.append(np.where(self.stopped, np.nan, gap))
        better = ~self.stopped & (gap < self.gap)
        self.x = np.where(better, x, self.x)
        self.gap = np.where(better, gap, self.gap)
        stops = better & (gap <= allowed_gap(objective, self.tol))
        if stops.any():
            self.n_stopped = np.where(stops, self.n_iter, self.n_stopped)
            self.stopped = self.stopped | stops
