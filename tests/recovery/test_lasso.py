import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recovery_problems import kkt_violation, noisy_problem, objective
from scipy import sparse
from scipy.optimize import minimize, nnls
from scipy.sparse.linalg import aslinearoperator
from sklearn.linear_model import Lasso

from cspkit.recovery import (
    ConvergenceWarning,
    fista,
    group_lasso,
    lam_max_of,
    lasso,
    lasso_path,
    omp,
    reweighted_lasso,
    sparse_signal,
)
from cspkit.recovery.active_set import minimise_on_columns


def scikit_learn(A, y, lam, positive=False):
    model = Lasso(
        alpha=lam / len(y), fit_intercept=False, tol=1e-15, max_iter=10**6, positive=positive
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(np.asfortranarray(A), y).coef_


def assert_optimal(A, y, lam, result, reference, rounding=1e-13):
    """No worse than the reference, and optimal by its own conditions."""
    own, other = objective(A, y, result.x, lam), objective(A, y, reference, lam)
    assert own <= other * (1 + 1e-9) + 1e-300
    assert result.gap <= rounding
    assert kkt_violation(A, y, result.x, lam) < 1e-9


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 60), st.floats(1e-3, 1.2), st.integers(0, 10**6),
    st.sampled_from(["plain", "duplicates", "zeros", "scales", "parallel", "integers"]),
)  # fmt: skip
def test_objective_no_worse_than_scikit_learn(m, n, fraction, seed, kind):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((m, n))
    if kind == "duplicates":
        A = A[:, rng.integers(0, n, n)]
    elif kind == "zeros":
        A[:, rng.random(n) < 0.4] = 0
    elif kind == "scales":
        A *= 10.0 ** rng.uniform(-6, 6, n)
    elif kind == "parallel":
        A = np.outer(A[:, 0], np.ones(n)) + 1e-3 * A
    elif kind == "integers":
        A = np.sign(A)
    y = A @ sparse_signal(n, max(1, n // 8), rng) + rng.standard_normal(m)
    lam = fraction * lam_max_of(A, y)
    if lam > 0:
        # Nearly parallel columns may need entries of 1e3 that cancel, with their rounding errors.
        hard = kind in ("parallel", "scales")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if hard else "error", ConvergenceWarning)
            result = lasso(A, y, lam, tol=1e-13)
        assert_optimal(A, y, lam, result, scikit_learn(A, y, lam), 1e-8 if hard else 1e-13)


@pytest.mark.parametrize("shape", [(50, 200), (200, 50), (1, 30), (30, 1), (1, 1)])
@pytest.mark.parametrize("fraction", [0.5, 0.05, 1e-4])
def test_shapes(shape, fraction):
    rng = np.random.default_rng(0)
    A, y = rng.standard_normal(shape), rng.standard_normal(shape[0])
    lam = fraction * lam_max_of(A, y)
    result = lasso(A, y, lam, tol=1e-13)
    assert result.converged
    assert_optimal(A, y, lam, result, scikit_learn(A, y, lam))
    assert np.array_equal(result.support, np.flatnonzero(result.x))


@pytest.mark.parametrize("fraction", [0.1, 0.01, 0.001])
def test_nearly_parallel_columns(fraction):
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((100, 400))
    A = np.empty((100, 400))
    A[:, 0] = noise[:, 0]
    for j in range(1, 400):
        A[:, j] = 0.99 * A[:, j - 1] + np.sqrt(1 - 0.99**2) * noise[:, j]
    y = A @ sparse_signal(400, 10, rng) + 0.1 * rng.standard_normal(100)
    lam = fraction * lam_max_of(A, y)
    result = lasso(A, y, lam)
    assert result.converged
    assert result.gap < 1e-10
    assert kkt_violation(A, y, result.x, lam) < 1e-9


@pytest.mark.parametrize("nonnegative", [False, True])
def test_zeros_at_once_from_lam_max_on(nonnegative):
    A, _, y = noisy_problem()
    lam_max = lam_max_of(A, y, nonnegative=nonnegative)
    for factor in (1.0, 1.5, 100):
        result = lasso(A, y, factor * lam_max, tol=1e-12, nonnegative=nonnegative)
        assert not result.x.any()
        assert (result.n_iter, result.converged) == (0, True)
    assert lasso(A, y, 0.99 * lam_max, nonnegative=nonnegative).support.size == 1


def test_zero_measurements_and_zero_matrix():
    A, _, y = noisy_problem()
    for result in (lasso(A, 0 * y, 0.1), lasso(0 * A, y, 0.1)):
        assert not result.x.any()
        assert (result.gap, result.converged) == (0, True)


def test_gap_is_reported_truly():
    # With one round the answer is not optimal; its gap must still bound the excess.
    A, _, y = noisy_problem(m=200, n=1000, k=40)
    lam = 0.02 * lam_max_of(A, y)
    with pytest.warns(ConvergenceWarning, match="lasso stopped after 1 iter"):
        result = lasso(A, y, lam, max_iter=1)
    excess = objective(A, y, result.x, lam) - objective(A, y, lasso(A, y, lam).x, lam)
    assert not result.converged
    assert 0 < excess / (0.5 * y @ y) <= result.gap


def test_unreachable_tolerance_warns_and_ends():
    A, _, y = noisy_problem()
    with pytest.warns(ConvergenceWarning):
        results = [lasso(A, y, lam, tol=0) for lam in (0.01, 0.02, 0.03, 0.04)]
    assert all(result.gap < 1e-13 for result in results)
    assert all(result.converged == (result.gap == 0) for result in results)


def test_nonnegative_agrees_with_scikit_learn_and_with_nnls():
    A, _, y = noisy_problem()
    lam = 0.05 * lam_max_of(A, y, nonnegative=True)
    result = lasso(A, y, lam, nonnegative=True)
    reference = scikit_learn(A, y, lam, positive=True)
    assert result.x == pytest.approx(reference, abs=1e-8)
    assert kkt_violation(A, y, result.x, lam, nonnegative=True) < 1e-10
    tall, y = np.vstack([A.T, A.T]), np.tile(A.T @ y, 2)
    assert lasso(tall, y, 1e-9, nonnegative=True, tol=1e-9).x == pytest.approx(
        nnls(tall, y)[0], abs=1e-6
    )


def test_weights_are_a_change_of_units():
    A, _, y = noisy_problem()
    w = np.random.default_rng(0).uniform(0.2, 5, A.shape[1])
    result = lasso(A, y, 0.05, weights=w)
    assert result.x == pytest.approx(lasso(A / w, y, 0.05).x / w, abs=1e-10)
    assert result.gap < 1e-10
    c, on = A.T @ (y - A @ result.x) / w, result.x != 0
    assert c[on] == pytest.approx(0.05 * np.sign(result.x[on]), abs=1e-12)
    assert np.max(np.abs(c[~on])) <= 0.05


def test_columns_agree_with_single_signals():
    A, _, _ = noisy_problem()
    Y = np.random.default_rng(5).standard_normal((60, 5)) * [1, 0.1, 0, 30, 1]
    together = lasso(A, Y, 0.3)
    for i in range(5):
        alone = lasso(A, Y[:, i], 0.3)
        assert together.x[:, i] == pytest.approx(alone.x, abs=1e-10)
        assert together.n_iter[i] == alone.n_iter
        assert np.array_equal(together.support[i], alone.support)
        assert together.history[: alone.n_iter, i] == pytest.approx(alone.history, abs=1e-8)


@pytest.mark.parametrize("wrap", [sparse.csr_matrix, sparse.csc_array, aslinearoperator])
def test_sparse_matrices_and_operators(wrap):
    A, _, y = noisy_problem()
    A[np.abs(A) < 0.05] = 0
    assert lasso(wrap(A), y, 0.05).x == pytest.approx(lasso(A, y, 0.05).x, abs=1e-12)


def test_float32_stays_float32():
    A, _, y = noisy_problem()
    result = lasso(A.astype(np.float32), y.astype(np.float32), 0.05, tol=1e-5)
    assert result.x.dtype == np.float32
    assert result.converged
    assert result.x == pytest.approx(lasso(A, y, 0.05).x, abs=1e-4)
    assert lasso(A.astype(np.float32), y, 0.05).x.dtype == np.float64


def test_known_bias():
    # Orthonormal columns: the lasso answer is the soft-thresholded signal.
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 20)))[0]
    x = sparse_signal(20, 6, np.random.default_rng(1))
    expected = np.sign(x) * np.maximum(np.abs(x) - 0.2, 0)
    assert lasso(Q, Q @ x, 0.2).x == pytest.approx(expected, abs=1e-12)


def test_path_agrees_with_single_answers():
    A, _, y = noisy_problem()
    lams, path = lasso_path(A, y, tol=1e-10)
    assert lams[0] == lam_max_of(A, y)
    assert np.all(np.diff(lams) < 0)
    assert np.all(path.gap <= 1e-10)
    assert path.x.shape == (120, 50)
    for i in (0, 10, 49):
        assert path.x[:, i] == pytest.approx(lasso(A, y, lams[i], tol=1e-10).x, abs=1e-8)


def test_path_of_given_weights():
    A, _, y = noisy_problem()
    lams, path = lasso_path(A, y, [0.1, 0.3, 0.2], nonnegative=True)
    assert lams.tolist() == [0.3, 0.2, 0.1]
    assert np.all(path.x >= 0)


def test_reweighting_lowers_bias_and_its_objective():
    A, x, y = noisy_problem(noise=0.01)
    lam, epsilon = 0.1, 0.1
    once, often = lasso(A, y, lam), reweighted_lasso(A, y, lam, rounds=5, epsilon=epsilon)
    assert np.linalg.norm(often.x - x) < 0.6 * np.linalg.norm(once.x - x)
    assert often.support.size <= once.support.size
    assert reweighted_lasso(A, y, lam, rounds=1).x == pytest.approx(once.x, abs=1e-12)


def test_group_lasso_is_optimal():
    A, _, y = noisy_problem()
    groups = np.repeat(np.arange(30), 4)
    w = np.linspace(0.5, 2, 30)
    result = group_lasso(A, y, 0.2, groups, tol=1e-13, weights=w)
    c = A.T @ (y - A @ result.x)
    for g in range(30):
        inside = groups == g
        size = np.linalg.norm(result.x[inside])
        if size == 0:
            assert np.linalg.norm(c[inside]) <= 0.2 * w[g] * (1 + 1e-9)
        else:
            assert c[inside] == pytest.approx(0.2 * w[g] * result.x[inside] / size, abs=1e-6)
    assert 0 < result.support.size < 120


def test_group_lasso_of_single_entries_is_the_lasso():
    A, _, y = noisy_problem()
    result = group_lasso(A, y, 0.1, np.arange(120), tol=1e-13)
    assert result.x == pytest.approx(lasso(A, y, 0.1).x, abs=1e-6)
    assert fista(A, y, 0.1, tol=1e-13).x == pytest.approx(result.x, abs=1e-12)


def test_active_set_from_any_starting_point():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((30, 12))
    A /= np.linalg.norm(A, axis=0)
    y, t = rng.standard_normal(30), rng.uniform(0.05, 0.3, 12)
    G, c = A.T @ A, A.T @ y
    best = minimise_on_columns(G, c, t, np.zeros(12), 1e-13)
    for _ in range(10):
        x0 = rng.standard_normal(12) * (rng.random(12) < 0.5)
        assert minimise_on_columns(G, c - G @ x0, t, x0, 1e-13) == pytest.approx(best, abs=1e-12)
    # Split into positive and negative parts, the problem is smooth with bounds.
    found = minimize(
        lambda v: 0.5 * np.sum((y - A @ (v[:12] - v[12:])) ** 2) + np.tile(t, 2) @ v,
        np.zeros(24), bounds=[(0, None)] * 24, method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-10},
    )  # fmt: skip
    assert best == pytest.approx(found.x[:12] - found.x[12:], abs=1e-6)


def test_lasso_support_contains_what_omp_finds():
    A, x, y = noisy_problem(noise=0.001)
    found = set(lasso(A, y, 0.02 * lam_max_of(A, y)).support)
    assert set(omp(A, y, 8).support) == set(np.flatnonzero(x))
    assert set(np.flatnonzero(np.abs(x) > 0.1)) <= found
