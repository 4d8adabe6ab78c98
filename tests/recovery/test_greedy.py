import numpy as np
import pytest
from recovery_problems import exact_problem
from scipy import sparse
from scipy.sparse.linalg import aslinearoperator
from sklearn.linear_model import orthogonal_mp

from cspkit.recovery import omp


@pytest.mark.parametrize("seed", range(5))
def test_omp_recovers_exactly(seed):
    A, x, y = exact_problem(seed)
    result = omp(A, y, 10)
    assert np.max(np.abs(result.x - x)) < 1e-12
    assert np.array_equal(result.support, np.flatnonzero(x))
    assert result.n_iter == 10 and result.converged and np.isnan(result.gap)


def test_omp_stops_when_nothing_is_left():
    A, x, y = exact_problem()
    result = omp(A, y, 50)
    assert result.n_iter == 10 and np.max(np.abs(result.x - x)) < 1e-12


@pytest.mark.parametrize("k", [1, 7, 30])
def test_omp_agrees_with_scikit_learn_on_noise(k):
    A, _, _ = exact_problem()
    y = np.random.default_rng(3).standard_normal(100)
    assert omp(A, y, k).x == pytest.approx(orthogonal_mp(A, y, n_nonzero_coefs=k), abs=1e-10)


@pytest.mark.parametrize("r, k", [(3, 10), (60, 10)])  # signal by signal; with the Gram matrix
def test_omp_of_columns_agrees_with_single_signals(r, k):
    A, X, Y = exact_problem(r=r)
    Y = Y + 0.1 * np.random.default_rng(0).standard_normal(Y.shape)
    Y[:, 1] = 0
    Y[:, 2] = A[:, 5]
    result = omp(A, Y, k)
    assert result.n_iter[:3].tolist() == [k, 0, 1]
    for i in range(r):
        alone = omp(A, Y[:, i], k)
        assert result.x[:, i] == pytest.approx(alone.x, abs=1e-11)
        assert np.array_equal(result.support[i], alone.support)
        steps = result.history[: alone.n_iter, i]
        assert steps == pytest.approx(alone.history, abs=1e-7)


def test_omp_of_columns_recovers_exactly():
    A, X, Y = exact_problem(r=60)
    assert np.max(np.abs(omp(A, Y, 10).x - X)) < 1e-12


@pytest.mark.parametrize("r", [None, 60])  # signal by signal; with the Gram matrix
def test_omp_fits_nearly_parallel_columns_to_rounding(r):
    rng = np.random.default_rng(0)
    A = rng.standard_normal((100, 1)) + 1e-4 * rng.standard_normal((100, 200))
    A /= np.linalg.norm(A, axis=0)
    Y = rng.standard_normal((100, r or 1))
    X = omp(A, Y if r else Y[:, 0], 12).x.reshape(200, -1)
    for x, y in zip(X.T, Y.T, strict=True):
        S = np.flatnonzero(x)
        best = np.linalg.lstsq(A[:, S], y, rcond=1e-15)[0]
        assert S.size == 12
        assert np.linalg.norm(A[:, S] @ (x[S] - best)) < 1e-10 * np.linalg.norm(y)


def test_omp_with_equal_and_zero_columns():
    A, x, y = exact_problem()
    A = np.hstack([A, A, np.zeros((100, 3))])
    for result in (omp(A, y, 20), omp(A, np.stack([y] * 60, axis=1), 20)):
        fit = A @ result.x
        assert np.max(np.abs((fit.T - y).T if fit.ndim == 2 else fit - y)) < 1e-10


@pytest.mark.parametrize("wrap", [sparse.csr_matrix, sparse.csc_array, aslinearoperator])
def test_omp_of_sparse_matrices_and_operators(wrap):
    A, x, y = exact_problem()
    assert omp(wrap(A), y, 10).x == pytest.approx(x, abs=1e-12)


@pytest.mark.parametrize("r", [None, 60])
def test_omp_in_float32(r):
    A, x, y = exact_problem(r=r)
    result = omp(A.astype(np.float32), y.astype(np.float32), 10)
    assert result.x.dtype == np.float32
    assert np.max(np.abs(result.x - x)) < 1e-4
