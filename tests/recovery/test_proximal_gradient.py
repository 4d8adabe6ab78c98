import warnings

import numpy as np
import pytest
from recovery_problems import kkt_violation, noisy_problem, objective
from scipy import sparse
from scipy.sparse.linalg import aslinearoperator
from sklearn.linear_model import Lasso

from cspkit.recovery import ConvergenceWarning, fista, ista

SOLVERS = pytest.mark.parametrize("solver", [ista, fista])


@SOLVERS
@pytest.mark.parametrize("fraction", [0.5, 0.1, 0.02])
def test_gap_bounds_the_distance_to_the_optimum(solver, fraction):
    A, _, y = noisy_problem()
    lam = fraction * np.max(np.abs(A.T @ y))
    best = Lasso(alpha=lam / len(y), fit_intercept=False, tol=1e-14, max_iter=10**6).fit(A, y).coef_
    for tol in (1e-2, 1e-5, 1e-9):
        result = solver(A, y, lam, tol=tol, max_iter=100_000)
        excess = objective(A, y, result.x, lam) - objective(A, y, best, lam)
        assert result.converged and result.gap <= tol
        assert excess <= result.gap * 0.5 * (y @ y) * (1 + 1e-9) + 1e-13


@SOLVERS
@pytest.mark.parametrize("nonnegative", [False, True])
def test_kkt(solver, nonnegative):
    A, _, y = noisy_problem(1)
    lam = 0.1 * np.max(np.abs(A.T @ y))
    result = solver(A, y, lam, tol=1e-14, max_iter=100_000, nonnegative=nonnegative)
    assert kkt_violation(A, y, result.x, lam, nonnegative) < 1e-6
    assert np.array_equal(result.support, np.flatnonzero(result.x))


def test_fista_needs_far_fewer_iterations_than_ista():
    A, _, y = noisy_problem(2)
    lam = 0.01 * np.max(np.abs(A.T @ y))
    slow, fast = (f(A, y, lam, tol=1e-8, max_iter=100_000) for f in (ista, fista))
    assert fast.n_iter * 4 < slow.n_iter


def test_ista_objective_falls_in_every_step():
    A, _, y = noisy_problem(3)
    lam = 0.05 * np.max(np.abs(A.T @ y))
    values = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for steps in range(1, 30):
            # gap 0 is never reached: every run makes exactly so many steps
            values.append(objective(A, y, ista(A, y, lam, tol=0, max_iter=steps).x, lam))
    assert np.all(np.diff(values) <= 1e-14)


@SOLVERS
def test_zeros_at_once_above_lam_max(solver):
    A, _, y = noisy_problem()
    result = solver(A, y, 1.0001 * np.max(np.abs(A.T @ y)), tol=1e-12)
    assert result.n_iter == 0 and result.converged and not result.x.any()


@SOLVERS
def test_zero_measurements(solver):
    A, _, y = noisy_problem()
    result = solver(A, 0 * y, 0.1)
    assert result.gap == 0 and result.converged and not result.x.any()


@SOLVERS
def test_columns_agree_with_single_signals(solver):
    A, _, _ = noisy_problem()
    Y = np.random.default_rng(5).standard_normal((60, 4)) * [1, 0.1, 0, 2]
    together = solver(A, Y, 0.3, tol=1e-10)
    assert together.history.shape == (np.max(together.n_iter), 4)
    for i in range(4):
        alone = solver(A, Y[:, i], 0.3, tol=1e-10)
        assert together.x[:, i] == pytest.approx(alone.x, abs=1e-5)
        assert together.n_iter[i] == alone.n_iter
        assert np.array_equal(together.support[i], alone.support)


@SOLVERS
@pytest.mark.parametrize("wrap", [sparse.csr_matrix, sparse.csc_array, aslinearoperator])
def test_sparse_matrices_and_operators(solver, wrap):
    A, _, y = noisy_problem()
    assert solver(wrap(A), y, 0.05).x == pytest.approx(solver(A, y, 0.05).x, abs=1e-10)


@SOLVERS
def test_float32_stays_float32(solver):
    A, _, y = noisy_problem()
    result = solver(A.astype(np.float32), y.astype(np.float32), 0.05, tol=1e-5)
    assert result.x.dtype == np.float32 and result.converged
    assert result.x == pytest.approx(solver(A, y, 0.05, tol=1e-12).x, abs=1e-2)


@SOLVERS
def test_too_few_iterations_warn_and_say_so(solver):
    A, _, y = noisy_problem()
    with pytest.warns(ConvergenceWarning, match=solver.__name__):
        result = solver(A, y, 0.01, tol=1e-12, max_iter=3)
    assert not result.converged and result.gap > 1e-12 and result.n_iter == 3
