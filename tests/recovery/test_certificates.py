"""The reported gap is an upper bound of the true one, and `converged` means what it says."""

import warnings

import numpy as np
import pytest
from recovery_problems import exact_problem, noisy_problem, objective

from cspkit.recovery import (
    ConvergenceWarning,
    basis_pursuit,
    bpdn,
    fista,
    group_lasso,
    ista,
    lam_max_of,
    lasso,
    lasso_gap,
    lasso_path,
    relative_gap,
    reweighted_lasso,
)

SOLVERS = pytest.mark.parametrize("solver", [ista, fista, lasso])


@SOLVERS
def test_all_correlations_negative(solver):
    result = solver(np.eye(3), -np.ones(3), 0.1, nonnegative=True)
    assert not result.x.any()
    assert (result.n_iter, result.gap, result.converged) == (0, 0, True)
    together = solver(np.eye(3), np.array([[-1.0, 2], [-1, -1], [-2, 0]]), 0.1, nonnegative=True)
    assert together.gap[0] == 0 and np.all(together.converged)
    assert together.x[:, 1] == pytest.approx([1.9, 0, 0], abs=1e-5)


def test_all_correlations_negative_in_other_methods():
    A, y = np.eye(3), -np.ones(3)
    _, path = lasso_path(A, y, [0.1, 0.2], nonnegative=True)
    assert path.gap.tolist() == [0, 0] and np.all(path.converged)
    assert reweighted_lasso(A, y, 0.1, nonnegative=True).gap == 0
    assert lasso_gap(y, y, np.zeros(3), 0.1, y, A.T @ y, nonnegative=True) == 0
    assert relative_gap(y, y, 0.0, y, -10.0) == 0
    # x >= 0 cannot explain y at all
    for solve in (basis_pursuit, lambda *args, **options: bpdn(*args, 0.5, **options)):
        with pytest.warns(ConvergenceWarning):
            assert not solve(A, y, nonnegative=True).converged
    assert bpdn(A, y, 2.0, nonnegative=True).converged


@pytest.mark.parametrize("seed", range(3))
def test_the_gap_of_a_nonnegative_answer_bounds_its_excess(seed):
    A, _, _ = noisy_problem(seed)
    y = -A @ np.abs(np.random.default_rng(seed).standard_normal(120))
    lam = 0.05 * np.max(np.abs(A.T @ y))
    best = objective(A, y, lasso(A, y, lam, tol=1e-14, nonnegative=True).x, lam)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for steps in (1, 3, 10, 100):
            result = fista(A, y, lam, max_iter=steps, nonnegative=True)
            excess = objective(A, y, result.x, lam) - best
            assert excess <= result.gap * 0.5 * (y @ y) * (1 + 1e-9) + 1e-13


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("fraction", [0.5, 0.05, 0.005])
def test_a_float32_gap_is_that_of_the_answer_in_float64(seed, fraction):
    A, _, y = noisy_problem(seed)
    A, y = A.astype(np.float32), y.astype(np.float32)
    A64, y64 = A.astype(np.float64), y.astype(np.float64)
    lam = fraction * lam_max_of(A, y)

    def true_gap(x, lam=lam):
        residual = y64 - A64 @ x
        return lasso_gap(y64, residual, x.astype(np.float64), lam, residual, A64.T @ residual)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for result in (
            ista(A, y, lam, max_iter=300),
            fista(A, y, lam),
            fista(A, y, lam, tol=1e-12, max_iter=300),
            lasso(A, y, lam),
            lasso(A, y, lam, max_iter=1),
        ):
            assert result.x.dtype == np.float32
            assert result.gap >= true_gap(result.x) * (1 - 1e-6) - 1e-15
            assert not result.converged or result.gap <= 1e-6
        lams, path = lasso_path(A, y, [lam, 2 * lam])
        for i in range(2):
            assert path.gap[i] >= true_gap(path.x[:, i], lams[i]) * (1 - 1e-6) - 1e-15
        single = group_lasso(A, y, lam, np.arange(120))
        assert single.gap >= true_gap(single.x) * (1 - 1e-6) - 1e-15
        several = fista(A, np.stack([y, 0.1 * y], axis=1), lam)
        assert several.gap[0] >= true_gap(several.x[:, 0]) * (1 - 1e-6) - 1e-15


def test_basis_pursuit_of_float32_converges_and_bounds_its_norm():
    A, x, y = exact_problem()
    result = basis_pursuit(A.astype(np.float32), y.astype(np.float32))
    assert result.converged and result.x.dtype == np.float32
    assert np.sum(np.abs(result.x)) <= np.sum(np.abs(x)) * (1 + result.gap + 1e-6)


@pytest.mark.parametrize("share", [1e-5, 1e-6, 1e-8, 1e-10])
def test_a_tiny_lam_needs_a_small_gap_beside_the_objective(share):
    # min 1/2 ||y - A x||^2 + lam ||x||_1 is about lam here, far below 1e-6 * 1/2 ||y||^2.
    A, x, y = exact_problem(m=60, n=120, k=8)
    lam = share * lam_max_of(A, y)
    best = lasso(A, y, lam)
    assert best.converged and np.array_equal(best.support, np.flatnonzero(x))
    smallest = objective(A, y, best.x, lam)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        results = [fista(A, y, lam, max_iter=6000), ista(A, y, lam, max_iter=300)]
    for result in results:
        if result.converged:
            assert objective(A, y, result.x, lam) <= smallest * (1 + 1e-3)
            assert np.array_equal(result.support, best.support)
    assert results[0].converged == (share >= 1e-6)


def test_gap_arguments_may_be_lists():
    y, x, lam = [1.0, 2.0], [0.0, 1.0], 0.5
    expected = lasso_gap(np.array(y), np.array([1.0, 1]), np.array(x), lam, np.array([1.0, 1]),
                         np.array([1.0, 1]))  # fmt: skip
    assert lasso_gap([1, 2], [1, 1], [0, 1], lam, [1, 1], [1, 1]) == expected
    assert relative_gap([1, 2], [1, 1], 0.5, [1, 1], 2) == expected


@pytest.mark.parametrize(
    "call",
    [
        lambda A, y: fista(A, y, 0.01, max_iter=2),
        lambda A, y: ista(A, y, 0.01, max_iter=2),
        lambda A, y: lasso(A, y, 0.01, max_iter=1),
        lambda A, y: group_lasso(A, y, 0.01, np.arange(120), max_iter=2),
        lambda A, y: basis_pursuit(A, y, max_iter=1, tol=0),
        lambda A, y: bpdn(A, y, 0.01, max_iter=1),
    ],
)
def test_the_warning_points_to_the_call(call):
    A, _, y = noisy_problem()
    with pytest.warns(ConvergenceWarning) as caught:
        call(A, y)
    assert [warning.filename for warning in caught] == [__file__]
