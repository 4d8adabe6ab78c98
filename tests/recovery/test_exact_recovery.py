"""Well inside its guarantee every exact method finds the signal; and where l1 is the goal,
its certificate is checked by a linear programme."""

import warnings

import numpy as np
import pytest
from recovery_problems import exact_problem, noisy_problem
from scipy import sparse
from scipy.optimize import linprog
from scipy.sparse.linalg import aslinearoperator

from cspkit.recovery import (
    ConvergenceWarning,
    amp,
    basis_pursuit,
    bpdn,
    coherence,
    cosamp,
    gaussian,
    htp,
    iht,
    lam_max_of,
    lasso,
    linearized_bregman,
    minimax_threshold,
    omp,
    state_evolution,
)

GREEDY = pytest.mark.parametrize("solver", [omp, cosamp, iht, htp])


def bregman(A, y, **options):
    return linearized_bregman(A, y, 20.0, **options)


@GREEDY
@pytest.mark.parametrize("seed", range(4))
def test_greedy_methods_recover(solver, seed):
    A, x, y = exact_problem(seed)
    result = solver(A, y, 10)
    assert np.max(np.abs(result.x - x)) < 1e-8
    assert result.converged
    assert np.isnan(result.gap)
    assert len(result.history) == result.n_iter
    assert result.history[-1] == pytest.approx(
        np.linalg.norm(y - A @ result.x) / np.linalg.norm(y), abs=1e-12
    )


@pytest.mark.parametrize("solver", [basis_pursuit, amp, bregman])
@pytest.mark.parametrize("seed", range(4))
def test_l1_methods_recover(solver, seed):
    A, x, y = exact_problem(seed)
    result = solver(A, y)
    assert np.max(np.abs(result.x - x)) < 1e-8
    assert result.converged
    assert len(result.history) == result.n_iter


def test_recovery_inside_the_coherence_guarantee():
    # Tall and nearly orthogonal, so that even the worst-case bound allows k = 3.
    A = gaussian(4000, 60, np.random.default_rng(0))
    k = 3
    assert k < (1 + 1 / coherence(A)) / 2
    x = np.zeros(60)
    x[[3, 20, 41]] = [1, -1e-3, 5]
    for solver in (lambda A, y: omp(A, y, k), basis_pursuit):
        assert np.max(np.abs(solver(A, A @ x).x - x)) < 1e-12


@GREEDY
def test_greedy_methods_in_float32_and_of_operators(solver):
    A, x, y = exact_problem()
    result = solver(A.astype(np.float32), y.astype(np.float32), 10)
    assert result.x.dtype == np.float32
    assert np.max(np.abs(result.x - x)) < 1e-4
    for wrap in (sparse.csr_array, aslinearoperator):
        assert np.max(np.abs(solver(wrap(A), y, 10).x - x)) < 1e-8


@pytest.mark.parametrize("solver", [basis_pursuit, amp, bregman])
def test_l1_methods_in_float32_and_of_operators(solver):
    A, x, y = exact_problem()
    for wrap in (sparse.csr_array, aslinearoperator):
        assert np.max(np.abs(solver(wrap(A), y).x - x)) < 1e-8
    if solver is basis_pursuit:
        result = solver(A.astype(np.float32), y.astype(np.float32), tol=1e-4)
        assert result.x.dtype == np.float32
        assert np.max(np.abs(result.x - x)) < 1e-3


@GREEDY
def test_greedy_methods_of_zero_measurements(solver):
    A, _, y = exact_problem()
    result = solver(A, 0 * y, 5)
    assert (result.n_iter, result.converged) == (0, True)
    assert not result.x.any()


@pytest.mark.parametrize("solver", [basis_pursuit, amp, bregman, lambda A, y: bpdn(A, y, 0.1)])
def test_l1_methods_of_zero_measurements(solver):
    A, _, y = exact_problem()
    result = solver(A, 0 * y)
    assert (result.n_iter, result.converged) == (0, True)
    assert not result.x.any()


@GREEDY
def test_greedy_methods_keep_to_k_on_noise(solver):
    A, _, _ = exact_problem()
    y = np.random.default_rng(1).standard_normal(100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        result = solver(A, y, 7)
    assert 0 < result.support.size <= 7
    assert np.linalg.norm(y - A @ result.x) < np.linalg.norm(y)


def test_iht_residual_never_rises():
    # On coherent columns a full step overshoots when the support changes.
    rng = np.random.default_rng(0)
    for _ in range(10):
        A = rng.standard_normal((30, 1)) + 0.3 * rng.standard_normal((30, 80))
        y = rng.standard_normal(30)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            history = iht(A, y, 6, max_iter=100).history
        assert np.all(np.diff(np.concatenate([[1], history])) <= 1e-12)


def test_htp_values_are_least_squares_on_its_support():
    A, _, y = noisy_problem()
    result = htp(A, y, 8)
    S = result.support
    assert result.x[S] == pytest.approx(np.linalg.lstsq(A[:, S], y, rcond=None)[0], abs=1e-12)


@pytest.mark.parametrize("solver", [cosamp, iht, htp])
def test_too_few_iterations_warn(solver):
    A, _, _ = exact_problem()
    y = np.random.default_rng(1).standard_normal(100)
    with pytest.warns(ConvergenceWarning, match=solver.__name__):
        assert not solver(A, y, 20, max_iter=1).converged


@pytest.mark.parametrize("solver", [bregman, amp])
def test_too_few_iterations_warn_l1(solver):
    A, x, y = exact_problem()
    with pytest.warns(ConvergenceWarning, match="stopped after 3 iterations"):
        limited = solver(A, y, max_iter=3)
    assert not limited.converged


@pytest.mark.parametrize("k", [10, 30, 60])  # recovered; at the edge; not recovered
@pytest.mark.parametrize("nonnegative", [False, True])
def test_basis_pursuit_agrees_with_a_linear_programme(k, nonnegative):
    A, x, y = exact_problem(k=k, nonnegative=nonnegative)
    result = basis_pursuit(A, y, nonnegative=nonnegative)
    if nonnegative:
        best = linprog(np.ones(200), A_eq=A, b_eq=y, bounds=(0, None)).fun
        assert np.all(result.x >= 0)
    else:
        best = linprog(np.ones(400), A_eq=np.hstack([A, -A]), b_eq=y, bounds=(0, None)).fun
    assert result.converged
    assert np.sum(np.abs(result.x)) == pytest.approx(best, rel=1e-8)
    assert A @ result.x == pytest.approx(y, abs=1e-9 * np.linalg.norm(y))


def test_basis_pursuit_with_equal_and_zero_columns():
    A, x, y = exact_problem()
    wide = np.hstack([A, A, np.zeros((100, 5)), 2 * A[:, :10]])
    result = basis_pursuit(wide, y)
    assert result.converged
    assert np.sum(np.abs(result.x)) <= np.sum(np.abs(x)) * (1 + 1e-9)


def test_basis_pursuit_without_solution_says_so():
    A = gaussian(50, 20, np.random.default_rng(0))
    with pytest.warns(ConvergenceWarning):
        result = basis_pursuit(A, np.ones(50))
    assert not result.converged
    assert np.isinf(result.gap)


@pytest.mark.parametrize("share", [0.9, 0.3, 0.02])
@pytest.mark.parametrize("nonnegative", [False, True])
def test_bpdn_is_the_lasso_at_the_right_lam(share, nonnegative):
    A, _, y = noisy_problem()
    eps = share * np.linalg.norm(y)
    result = bpdn(A, y, eps, nonnegative=nonnegative)
    residual = y - A @ result.x
    assert result.converged
    assert np.linalg.norm(residual) == pytest.approx(eps, rel=1e-8)
    # Optimality, independently: A^T r is lam sign(x) on the support and at most lam off it.
    c, on = A.T @ residual, result.x != 0
    lam = np.max(np.abs(c[on]))
    assert c[on] == pytest.approx(lam * np.sign(result.x[on]), rel=1e-7)
    assert np.all((c if nonnegative else np.abs(c)) <= lam * (1 + 1e-9))
    assert result.x == pytest.approx(lasso(A, y, lam, nonnegative=nonnegative).x, abs=1e-6)


def test_bpdn_at_its_limits():
    A, _, y = noisy_problem()
    assert not bpdn(A, y, np.linalg.norm(y)).x.any()
    assert bpdn(A, y, 0).x == pytest.approx(basis_pursuit(A, y).x, abs=1e-12)
    tall = gaussian(50, 20, np.random.default_rng(0))
    with pytest.warns(ConvergenceWarning):
        assert not bpdn(tall, np.ones(50), 1e-3).converged


def test_linearized_bregman_solves_its_own_problem():
    # lam ||x||_1 + 1/2 ||x||^2 with A x = y: optimal if x = soft_threshold(A^T theta, lam).
    A, _, y = exact_problem(k=25)
    lam = 0.5
    result = linearized_bregman(A, y, lam)
    assert result.converged
    S, rest = result.support, np.setdiff1d(np.arange(200), result.support)
    target = lam * np.sign(result.x[S]) + result.x[S]
    theta = np.linalg.lstsq(A[:, S].T, target, rcond=None)[0]
    assert A[:, S].T @ theta == pytest.approx(target, abs=1e-7)
    if S.size >= 100:
        assert np.max(np.abs(A[:, rest].T @ theta)) <= lam * (1 + 1e-7)
    assert A @ result.x == pytest.approx(y, abs=1e-9)


def test_amp_of_columns_agrees_with_single_signals():
    A, X, Y = exact_problem(r=3)
    Y[:, 1] = 0
    together = amp(A, Y)
    for i in range(3):
        alone = amp(A, Y[:, i])
        assert together.x[:, i] == pytest.approx(alone.x, abs=1e-9)
        assert together.n_iter[i] == alone.n_iter


def test_amp_of_nonnegative_signals_needs_fewer_measurements():
    A, x, y = exact_problem(m=100, n=200, k=45, nonnegative=True)
    result = amp(A, y, nonnegative=True, max_iter=3000)
    assert np.max(np.abs(result.x - x)) < 1e-7


def test_amp_that_diverges_says_so():
    A = gaussian(50, 100, np.random.default_rng(0)) + 1.0  # far from zero mean
    with pytest.warns(ConvergenceWarning, match="amp"):
        result = amp(A, A @ np.ones(100))
    assert not result.converged
    assert np.all(np.isfinite(result.x))


def test_amp_follows_state_evolution_to_the_lasso():
    # delta 0.5, x = +1 or -1 with probability 0.05 each, noise 0.1: mean over eight draws.
    n, m, alpha = 2000, 1000, 1.5
    entries = np.repeat([-1.0, 0.0, 1.0], [100, 1800, 100])
    taus, errors = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        A = gaussian(m, n, rng)
        x = rng.permutation(entries)
        y = A @ x + 0.1 * rng.standard_normal(m)
        result = amp(A, y, alpha=alpha, tol=1e-8)
        taus.append(result.history[:12])
        errors.append(np.mean((result.x - x) ** 2))
        if seed == 0:
            tau = result.history[-1]
            lam = alpha * tau * (1 - result.support.size / m)
            assert result.x == pytest.approx(lasso(A, y, lam, tol=1e-12).x, abs=1e-5)
    predicted = state_evolution(0.5, [-1, 0, 1], [0.05, 0.9, 0.05], 0.1, alpha, 11)
    assert np.mean(taus, axis=0) == pytest.approx(predicted, rel=0.04)
    assert np.mean(errors) == pytest.approx(0.013670, rel=0.1)


def test_amp_uses_the_minimax_threshold():
    A, _, y = exact_problem()
    assert np.array_equal(amp(A, y).x, amp(A, y, alpha=minimax_threshold(0.5)).x)


def test_lam_max_of_weights():
    A, _, y = noisy_problem()
    w = np.linspace(1, 3, 120)
    assert lam_max_of(A, y, w) == pytest.approx(np.max(np.abs(A.T @ y) / w))
    assert lam_max_of(A.tolist(), y.tolist(), w.tolist()) == lam_max_of(A, y, w)
    assert lam_max_of([[1, 2], [3, 4]], [1, 1]) == 6
