"""The certified lasso: a working set of columns, an exact solver on it, a duality gap."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cspkit.arguments import ArgumentError, count, positive
from cspkit.recovery.duality import allowed_gap, certificate_in_float64
from cspkit.recovery.operators import Matrix
from cspkit.recovery.penalties import L1
from cspkit.recovery.result import RecoveryResult, make_result
from cspkit.recovery.validation import check_system, check_weights, real_array
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

    A column outside the support can lower the objective only if its correlation
    |a_j^T (y - A x)| exceeds lam w_j. In every round the columns with the largest correlations
    above this bound, relative to w_j, join a working set. The problem on this set is solved
    exactly, with a Cholesky factorisation for each support and its signs. Then the product
    A^T (y - A x) over all columns gives the duality gap and the next candidates.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : array_like, shape (m,) or (m, r)
        Measurements, one signal per column.
    lam : float
        Weight of the l1 term, above 0.
    tol : float
        Largest duality gap of the answer, relative to 1/2 ||y||_2^2. The gap must also be at
        most sqrt(tol) times the objective, which matters if lam is very small.
    max_iter : int
        Largest number of rounds.
    weights : array_like, shape (n,), optional
        Positive weights w_j of the l1 norm. The default is 1 for every entry.
    nonnegative : bool
        Add the constraint x >= 0.

    Returns
    -------
    RecoveryResult
        The history has the relative duality gap after each round. If lam is at least lam_max, see
        `lam_max_of`, the answer is zero, and no round is needed.

    Raises
    ------
    ArgumentError
        If an argument has the wrong shape, type or range, or holds nan or inf; if the range of
        the float type cannot hold x.

    Warns
    -----
    ConvergenceWarning
        If the gap is too large after `max_iter` rounds, or if rounding errors keep it too large.
        If A x = y has a solution, rounding errors matter for lam below about 1e-13 lam_max in
        float64, and below about 1e-4 lam_max in float32.

    References
    ----------
    Tibshirani, "Regression shrinkage and selection via the lasso", J. R. Stat. Soc. B 1996.
    doi:10.1111/j.2517-6161.1996.tb02080.x
    Massias, Gramfort, Salmon, "Celer: a fast solver for the lasso with dual extrapolation",
    ICML 2018. arXiv:1802.07481
    """
    A, y, scale = check_system(A, y, columns=True)
    lam = scale.of_penalty(positive("lam", lam))
    tol, max_iter, penalty = _check_options(A, tol, max_iter, weights, nonnegative)
    Y = y.reshape(len(y), -1)
    sets = [WorkingSet(A, signal, penalty) for signal in Y.T]
    n_iter, *certificate, history = solve_in_rounds(A, sets, lam, tol, max_iter)
    x = np.stack([part.x for part in sets], axis=1)
    converged, gap = _certified(A, Y, x, lam, penalty, tol, certificate)
    if y.ndim == 1:
        x, n_iter, converged, gap, history = (
            field[..., 0] for field in (x, n_iter, converged, gap, history)
        )
    return make_result(x, n_iter, converged, gap, history, scale, method="lasso")


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
    """Lasso answers for a decreasing sequence of lam. Each solve starts from the previous answer.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : array_like, shape (m,)
        Measurements.
    lams : array_like, shape (L,), optional
        Weights of the l1 term, in any order. The default is 50 values with equal ratios from
        lam_max down to lam_max / 1000.
    tol, max_iter, weights, nonnegative
        As in `lasso`, for every lam.

    Returns
    -------
    lams : ndarray, shape (L,)
        The weights, in decreasing order.
    result : RecoveryResult
        One column of x for each weight.

    Raises
    ------
    ArgumentError
        If an argument has the wrong shape, type or range, or holds nan or inf; if `lams` is not
        given and the answer is zero for every lam; if the range of the float type cannot hold x.

    Warns
    -----
    ConvergenceWarning
        If the gap of an answer is too large, as in `lasso`.
    """
    A, y, scale = check_system(A, y)
    tol, max_iter, penalty = _check_options(A, tol, max_iter, weights, nonnegative)
    if lams is None:
        lam_max = scale.restore_penalty(_largest_lam(A, y, penalty))
        if lam_max == 0:
            raise ArgumentError(
                f"y is zero, or no column of A has a {'positive' if nonnegative else 'nonzero'} "
                "correlation with y, so lam_max is 0: expected lams to be given"
            )
        lams = np.geomspace(lam_max, lam_max / 1000, 50)
    lams = real_array("lams", lams).astype(np.float64)
    if lams.ndim != 1 or lams.size == 0:
        raise ArgumentError(f"lams has shape {lams.shape}: expected (L,) with L >= 1")
    lams = -np.sort(-np.array([positive("lams", lam) for lam in lams.tolist()]))
    working_set, answers, solutions = WorkingSet(A, y, penalty), [], []
    for lam in scale.of_penalty(lams):
        solutions.append(solve_in_rounds(A, [working_set], lam, tol, max_iter))
        answers.append(working_set.x)
    n_iter, converged, gap, histories = zip(*solutions, strict=True)
    history = np.full((max(len(h) for h in histories), len(lams)), np.nan)
    for i, h in enumerate(histories):
        history[: len(h), i] = h[:, 0]
    x, n_iter = np.stack(answers, axis=1), np.concatenate(n_iter)
    certificate = np.concatenate(converged), np.concatenate(gap)
    converged, gap = _certified(A, y[:, None], x, scale.of_penalty(lams), penalty, tol, certificate)
    return lams, make_result(x, n_iter, converged, gap, history, scale, method="lasso_path")


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
    Zeros keep the weight 1, so lam still decides which entries are zero. The largest entry gets
    a weight of about epsilon, and so it has little bias. Each round linearises the penalty
    sum_j log(1 + |x_j| / c), with c = epsilon max|x|. This penalty is not convex. It is closer to
    the number of nonzeros than the l1 norm is.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : array_like, shape (m,)
        Measurements.
    lam : float
        Weight of the l1 term, above 0.
    rounds : int
        Number of weighted problems. The first one has equal weights.
    epsilon : float
        An entry counts as small if it is below epsilon times the largest entry.
    tol : float
        Largest relative duality gap of each weighted problem, as in `lasso`.
    nonnegative : bool
        Add the constraint x >= 0.

    Returns
    -------
    RecoveryResult
        The answer to the last weighted problem. Its gap certifies this convex problem. The
        history has the gap at the end of each round.

    Raises
    ------
    ArgumentError
        If an argument has the wrong shape, type or range, or holds nan or inf; if the range of
        the float type cannot hold x.

    Warns
    -----
    ConvergenceWarning
        If the gap of the last weighted problem is too large.

    References
    ----------
    Candes, Wakin, Boyd, "Enhancing sparsity by reweighted l1 minimization", J. Fourier Anal.
    Appl. 2008. arXiv:0711.1612
    """
    rounds, epsilon = count("rounds", rounds), positive("epsilon", epsilon)
    A, y, scale = check_system(A, y)
    lam = scale.of_penalty(positive("lam", lam))
    tol, max_iter, penalty = _check_options(A, tol, 200, np.ones(A.shape[1]), nonnegative)
    gaps = []
    for _ in range(rounds):
        part = WorkingSet(A, y, penalty)
        _, *certificate, _ = solve_in_rounds(A, [part], lam, tol, max_iter)
        x = part.x
        converged, gap = _certified(A, y[:, None], x[:, None], lam, penalty, tol, certificate)
        gaps.append(gap[0])
        size = (np.abs(x) / (np.max(np.abs(x)) or 1)).astype(np.float64)
        with np.errstate(over="ignore"):
            weights = 1 / (1 + size / epsilon)
        penalty = L1(np.maximum(weights, np.finfo(np.float64).tiny), nonnegative)
    return make_result(x, rounds, converged[0], gap[0], gaps, scale, method="reweighted_lasso")


def lam_max_of(
    A: Matrix, y: ArrayLike, weights: ArrayLike | None = None, nonnegative: bool = False
) -> float:
    """Smallest lam for which the lasso answer is zero: max_j |a_j^T y| / w_j.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : array_like, shape (m,)
        Measurements.
    weights : array_like, shape (n,), optional
        Positive weights of the l1 norm. The default is 1 for every entry.
    nonnegative : bool
        Whether x >= 0 is a constraint. The result is then max_j (a_j^T y) / w_j, at least 0.

    Returns
    -------
    float
        lam_max.

    Raises
    ------
    ArgumentError
        If an argument has the wrong shape, type or range, or holds nan or inf; if float64
        cannot hold the result.
    """
    A, y, scale = check_system(A, y)
    weights = None if weights is None else check_weights(weights, A.shape[1])
    return float(scale.restore_penalty(_largest_lam(A, y, L1(weights, nonnegative))))


def _largest_lam(A, y, penalty):
    return float(max(penalty.dual_norm(A.T @ y), 0))


def _certified(A, Y, x, lam, penalty, tol, certificate):
    """`converged` and `gap`. For float32 both are computed again, from the rounded answer x."""
    if x.dtype == np.float64:
        return certificate
    gap, objective = certificate_in_float64(A, Y, x, lam, penalty)
    return gap <= allowed_gap(objective, tol), gap


def _check_options(A, tol, max_iter, weights, nonnegative):
    weights = None if weights is None else check_weights(weights, A.shape[1])
    return positive("tol", tol, zero=True), count("max_iter", max_iter), L1(weights, nonnegative)
