"""The certified lasso: a working set of columns, an exact solver on it, a duality gap."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cspkit.recovery.operators import Matrix
from cspkit.recovery.result import RecoveryResult, make_result
from cspkit.recovery.validation import check_count, check_number, check_system, check_weights
from cspkit.recovery.working_set import WorkingSet, solve_in_rounds


def lasso(
    A: Matrix,
    y: ArrayLike,
    lam: float,
    *,
    tol: float = 1e-6,
    max_iter: int = 200,
    weights: ArrayLike | None = None,
    nonnegative: bool = False,
) -> RecoveryResult:
    """Minimise 1/2 ||y - A x||_2^2 + lam sum_j w_j |x_j| to a certified relative gap.

    Only columns whose correlation |a_j^T (y - A x)| exceeds lam w_j can lower the objective.
    In every round the strongest of them join a working set; on it the problem is solved
    exactly, by Cholesky factorisations on the support with its signs; then one product A^T r
    over all columns gives the duality gap and the next candidates.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : array_like, shape (m,) or (m, r)
        Measurements, one signal per column.
    lam : float
        Weight of the l1 term, above 0.
    tol : float
        Largest relative duality gap of the answer.
    max_iter : int
        Largest number of rounds.
    weights : array_like, shape (n,), optional
        Positive weights w_j of the l1 norm; 1 if not given.
    nonnegative : bool
        Add the constraint x >= 0.

    Returns
    -------
    RecoveryResult
        With the relative duality gap after each round as history. For lam at least
        max_j |a_j^T y| / w_j the answer is zero, after no round.

    Raises
    ------
    ValueError
        If an argument has the wrong shape, type or range, or holds nan or inf.

    Warns
    -----
    ConvergenceWarning
        If the gap stays above `tol`: in `max_iter` rounds, or because `tol` is smaller than
        what rounding allows.

    References
    ----------
    Tibshirani, "Regression shrinkage and selection via the lasso", J. R. Stat. Soc. B 1996.
    doi:10.1111/j.2517-6161.1996.tb02080.x
    Massias, Gramfort, Salmon, "Celer: a fast solver for the lasso with dual extrapolation",
    ICML 2018. arXiv:1802.07481
    """
    A, y = check_system(A, y, columns=True)
    lam = check_number("lam", lam, open_low=True)
    weights = _check_options(A, tol, max_iter, weights)
    sets = [WorkingSet(A, signal, weights, nonnegative) for signal in y.reshape(len(y), -1).T]
    solution = solve_in_rounds(A, sets, lam, tol, max_iter)
    return _as_result(solution, y, tol, "lasso")


def lasso_path(
    A: Matrix,
    y: ArrayLike,
    lams: ArrayLike | None = None,
    *,
    tol: float = 1e-6,
    max_iter: int = 200,
    weights: ArrayLike | None = None,
    nonnegative: bool = False,
) -> tuple[np.ndarray, RecoveryResult]:
    """Lasso answers for a falling sequence of lam, each started from the one before.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : array_like, shape (m,)
        Measurements.
    lams : array_like, shape (L,), optional
        Weights of the l1 term; 50 from lam_max down to lam_max / 1000, equal ratios, if not
        given.
    tol, max_iter, weights, nonnegative
        As in `lasso`, for every lam.

    Returns
    -------
    lams : ndarray, shape (L,)
        The weights, falling.
    result : RecoveryResult
        One column for each weight.

    Raises
    ------
    ValueError
        If an argument has the wrong shape, type or range, or holds nan or inf; if y is zero
        and `lams` is not given.

    Warns
    -----
    ConvergenceWarning
        If the gap of an answer stays above `tol`.
    """
    A, y = check_system(A, y)
    weights = _check_options(A, tol, max_iter, weights)
    if lams is None:
        lam_max = lam_max_of(A, y, weights, nonnegative)
        if lam_max == 0:
            raise ValueError("y is zero or orthogonal to all columns of A: lams must be given")
        lams = np.geomspace(lam_max, lam_max / 1000, 50)
    lams = -np.sort(-np.array([check_number("lams", lam, open_low=True) for lam in lams]))
    working_set, solutions = WorkingSet(A, y, weights, nonnegative), []
    for lam in lams:
        solutions.append(solve_in_rounds(A, [working_set], lam, tol, max_iter))
    x, n_iter, gap, history = (list(field) for field in zip(*solutions, strict=True))
    longest = max(len(h) for h in history)
    history = [np.pad(h, ((0, longest - len(h)), (0, 0)), constant_values=np.nan) for h in history]
    solution = [np.concatenate(field, axis=-1) for field in (x, n_iter, gap, history)]
    x, n_iter, gap, history = solution
    return lams, make_result(x, n_iter, gap <= tol, gap, history, method="lasso_path")


def reweighted_lasso(
    A: Matrix,
    y: ArrayLike,
    lam: float,
    *,
    rounds: int = 4,
    epsilon: float = 0.1,
    tol: float = 1e-6,
    nonnegative: bool = False,
) -> RecoveryResult:
    """Reweighted l1: large entries are penalised less in the next round.

    Each round solves the weighted lasso, then sets w_j = 1 / (1 + |x_j| / (epsilon max|x|)).
    Zeros keep the weight 1, so lam still decides what is zero; the largest entry is left with
    about epsilon, and so has little bias. The penalty that this linearises anew in each round,
    a sum of log(1 + |x_j| / constant), is not convex: nearer to counting nonzeros.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : array_like, shape (m,)
        Measurements.
    lam : float
        Weight of the l1 term, above 0.
    rounds : int
        Number of weighted problems, the first of them with equal weights.
    epsilon : float
        Size, relative to the largest entry, under which entries count as small.
    tol : float
        Largest relative duality gap of each weighted problem.
    nonnegative : bool
        Add the constraint x >= 0.

    Returns
    -------
    RecoveryResult
        Of the last weighted problem; its certificate holds for that convex problem. The
        history has the gap at the end of each round.

    Raises
    ------
    ValueError
        If an argument has the wrong shape, type or range, or holds nan or inf.

    References
    ----------
    Candes, Wakin, Boyd, "Enhancing sparsity by reweighted l1 minimization", J. Fourier Anal.
    Appl. 2008. arXiv:0711.1612
    """
    check_count("rounds", rounds)
    check_number("epsilon", epsilon, open_low=True)
    A, y = check_system(A, y)
    weights, gaps = np.ones(A.shape[1]), []
    for _ in range(rounds):
        result = lasso(A, y, lam, tol=tol, weights=weights, nonnegative=nonnegative)
        gaps.append(result.gap)
        size = np.abs(result.x) / (np.max(np.abs(result.x)) or 1)
        weights = 1 / (1 + size / epsilon)
    return make_result(
        result.x, rounds, result.converged, result.gap, gaps, method="reweighted_lasso"
    )


def lam_max_of(
    A: Matrix, y: ArrayLike, weights: ArrayLike | None = None, nonnegative: bool = False
) -> float:
    """Smallest lam whose lasso answer is zero: max_j |a_j^T y| / w_j.

    Parameters
    ----------
    A : ndarray, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : ndarray, shape (m,)
        Measurements.
    weights : ndarray, shape (n,), optional
        Weights of the l1 norm; 1 if not given.
    nonnegative : bool
        Whether x >= 0 is a constraint; then max_j (a_j^T y) / w_j, at least 0.

    Returns
    -------
    float
        lam_max.
    """
    correlation = A.T @ y if weights is None else (A.T @ y) / weights
    return float(max(np.max(correlation if nonnegative else np.abs(correlation)), 0))


def _as_result(solution, y, tol, method):
    x, n_iter, gap, history = solution
    if y.ndim == 1:
        x, n_iter, gap, history = x[:, 0], n_iter[0], gap[0], history[:, 0]
    return make_result(x, n_iter, gap <= tol, gap, history, method=method)


def _check_options(A, tol, max_iter, weights):
    check_number("tol", tol)
    check_count("max_iter", max_iter)
    return None if weights is None else check_weights(weights, A.shape[1])
