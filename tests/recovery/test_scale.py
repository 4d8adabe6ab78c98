"""The magnitude of A and y does not matter: a wrong answer never counts as converged."""

import warnings

import numpy as np
import pytest
from recovery_problems import exact_problem, noisy_problem
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from cspkit import recovery as rec
from cspkit.arguments import ArgumentError

A, X, Y = exact_problem(m=40, n=80, k=4)
LAM = 0.1 * np.max(np.abs(A.T @ Y))


def solvers(a, b):
    """Every solver of 2^a A x = 2^b y, with its other arguments in the same units."""
    lam, groups = np.ldexp(LAM, a + b), np.arange(80) // 2
    return {
        "omp": lambda A, y: rec.omp(A, y, 4),
        "cosamp": lambda A, y: rec.cosamp(A, y, 4),
        "iht": lambda A, y: rec.iht(A, y, 4),
        "htp": lambda A, y: rec.htp(A, y, 4),
        "ista": lambda A, y: rec.ista(A, y, lam, tol=1e-4),
        "fista": lambda A, y: rec.fista(A, y, lam, tol=1e-5),
        "lasso": lambda A, y: rec.lasso(A, y, lam, weights=np.linspace(1, 2, 80)),
        "lasso_path": lambda A, y: rec.lasso_path(A, y, [lam, 2 * lam])[1],
        "reweighted_lasso": lambda A, y: rec.reweighted_lasso(A, y, lam),
        "group_lasso": lambda A, y: rec.group_lasso(A, y, lam, groups, tol=1e-4),
        "basis_pursuit": rec.basis_pursuit,
        "bpdn": lambda A, y: rec.bpdn(A, y, np.ldexp(0.1, b)),
        "linearized_bregman": lambda A, y: rec.linearized_bregman(
            A, y, np.ldexp(4.0, b - a), tol=1e-3
        ),
        "amp": rec.amp,
    }


@pytest.mark.parametrize("name", solvers(0, 0))
@pytest.mark.parametrize(
    "a, b, dtype",
    [
        (-300, 0, np.float64), (300, 0, np.float64), (0, -900, np.float64),
        (0, 900, np.float64), (500, 400, np.float64), (-500, -500, np.float64),
        (-500, 400, np.float64), (20, 0, np.float32), (-20, 0, np.float32),
        (0, 66, np.float32), (0, -73, np.float32), (60, 50, np.float32),
        (-60, -60, np.float32),
    ],
)  # fmt: skip
def test_a_power_of_two_changes_no_bit(name, a, b, dtype):
    base, y = A.astype(dtype), Y.astype(dtype)
    expected = solvers(0, 0)[name](base, y)
    found = solvers(a, b)[name](np.ldexp(base, a), np.ldexp(y, b))
    assert np.all(expected.converged)
    assert np.array_equal(np.ldexp(found.x, a - b), expected.x)
    for field in ("n_iter", "converged", "gap"):
        assert np.array_equal(getattr(found, field), getattr(expected, field), equal_nan=True)


@pytest.mark.parametrize("name", solvers(0, 0))
def test_operators_of_any_size(name):
    # The size of an operator is estimated, so that its power of two may be another one.
    found = solvers(400, -300)[name](aslinearoperator(np.ldexp(A, 400)), np.ldexp(Y, -300))
    expected = solvers(0, 0)[name](A, Y)
    assert np.all(found.converged)
    assert np.ldexp(found.x, 700) == pytest.approx(expected.x, abs=1e-6)


@pytest.mark.parametrize("name", ["omp", "ista", "fista", "lasso", "amp"])
def test_every_signal_has_its_own_scale(name):
    sizes = np.array([0, -600, 600])
    solve = {
        "omp": lambda A, Y: rec.omp(A, Y, 4),
        "amp": rec.amp,
        "lasso": lambda A, Y: rec.lasso(A, Y, LAM),
        "ista": lambda A, Y: rec.ista(A, Y, LAM, max_iter=20),
        "fista": lambda A, Y: rec.fista(A, Y, LAM, max_iter=20),
    }[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rec.ConvergenceWarning)
        together = solve(A, np.ldexp(Y[:, None], sizes))
        for i, b in enumerate(sizes):
            alone = solve(A, np.ldexp(Y, b))
            assert np.ldexp(together.x[:, i], -b) == pytest.approx(np.ldexp(alone.x, -b), abs=1e-9)
            assert together.converged[i] == alone.converged
            assert together.gap[i] == pytest.approx(alone.gap, abs=1e-12, nan_ok=True)
    if name == "omp":
        assert np.ldexp(together.x, -sizes) == pytest.approx(np.stack([X] * 3, axis=1), abs=1e-9)


@pytest.mark.parametrize("solve", [rec.omp, rec.cosamp, rec.iht, rec.htp])
def test_a_large_float32_matrix(solve):
    big = np.float32(1e6) * np.random.default_rng(0).standard_normal((64, 128)).astype(np.float32)
    result = solve(big, 2 * big[:, 3], 1)
    assert result.support.tolist() == [3]
    assert result.x[3] == pytest.approx(2, rel=1e-5)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("size, dtype", [(1e20, np.float32), (1e160, np.float64)])
def test_iht_ends_for_large_measurements(size, dtype):
    result = rec.iht(A.astype(dtype), (size * Y).astype(dtype), 4)
    assert result.converged
    assert result.x / size == pytest.approx(X, abs=1e-5)


@pytest.mark.timeout(20)
def test_iht_ends_if_an_operator_overflows_on_the_way():
    def forward(x):
        return np.where(np.count_nonzero(x) == 4, np.nan, A @ x)

    operator = LinearOperator(A.shape, matvec=forward, rmatvec=lambda y: A.T @ y, dtype=float)
    with pytest.raises(ArgumentError, match=r"^A makes x nan or inf"):
        rec.iht(operator, Y, 4, max_iter=3)


@pytest.mark.parametrize("size", [1e-24, 1e20])
def test_omp_of_small_and_large_float32(size):
    y = np.array([size, 0], dtype=np.float32)
    assert np.array_equal(rec.omp(np.eye(2, dtype=np.float32), y, 1).x, y)


def test_tiny_measurements_in_float64():
    y = [1e-170, 0]
    result = rec.lasso(np.eye(2), y, 1e-172)
    assert result.converged
    assert result.x == pytest.approx([0.99e-170, 0], rel=1e-12, abs=0)
    assert rec.basis_pursuit(np.eye(2), y).x == pytest.approx(y, rel=1e-12, abs=0)
    assert rec.bpdn(np.eye(2), y, 1e-171).x == pytest.approx([0.9e-170, 0], rel=1e-9, abs=0)
    assert rec.lasso_path(np.eye(2), y)[1].x[0, -1] == pytest.approx(0.999e-170, rel=1e-9, abs=0)


@pytest.mark.parametrize(
    "solve",
    [
        lambda A, y: rec.iht(A, y, 4),
        rec.amp,
        lambda A, y: rec.linearized_bregman(A, y, 4e-22, tol=1e-5),
    ],
)
def test_small_float32_measurements(solve):
    result = solve(A.astype(np.float32), (1e-22 * Y).astype(np.float32))
    assert result.converged
    assert 1e22 * result.x == pytest.approx(X, abs=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1.0, 2.0**-20, 2.0**-45, 2.0**-400])
def test_a_column_that_is_small_beside_another(size, dtype):
    if dtype == np.float32 and size < 1e-30:
        size = 2.0**-90
    D, y = np.diag([1.0, size]).astype(dtype), np.array([0, 1], dtype=dtype)
    calls = {
        "omp": lambda: rec.omp(D, y, 1),
        "omp of several": lambda: rec.omp(D, np.stack([y] * 4, axis=1), 1),
        "cosamp": lambda: rec.cosamp(D, y, 1),
        "htp": lambda: rec.htp(D, y, 1),
        "iht": lambda: rec.iht(D, y, 1),
        "lasso": lambda: rec.lasso(D, y, 1e-6 * size, tol=1e-4),
        "basis_pursuit": lambda: rec.basis_pursuit(D, y),
    }
    for name, call in calls.items():
        if name in ("iht", "htp") and size < (2.0**-60 if dtype == np.float32 else 2.0**-350):
            with pytest.raises(ArgumentError, match=r"^A has columns that are too small"):
                call()
            continue
        result = call()
        assert np.all(result.converged), name
        x = result.x if result.x.ndim == 1 else result.x[:, 0]
        assert size * x[1] == pytest.approx(1, rel=1e-5), name
        assert x[0] == 0, name


def test_dependent_columns_of_very_different_size():
    # The Gram matrix of batch OMP would underflow.
    D = np.diag([1.0, 1e-200, 0.0])
    result = rec.omp(D, np.tile([[0.0], [1.0], [0.0]], 6), 1)
    assert result.x[1] == pytest.approx(np.full(6, 1e200), rel=1e-12)


@pytest.mark.parametrize("b, word", [(-120, "small"), (110, "large")])
@pytest.mark.parametrize("name", solvers(0, 0))
def test_an_answer_that_floats_cannot_hold_is_refused(name, b, word):
    base, y = A.astype(np.float32), Y.astype(np.float32)
    with pytest.raises(ArgumentError, match=rf"^y is too {word} for A.* range of float32"):
        solvers(-b // 4, b)[name](np.ldexp(base, -b // 4), np.ldexp(y, b))


def test_lam_max_of_any_size():
    for a, b in ((300, 300), (-300, -300), (900, -900)):
        found = rec.lam_max_of(np.ldexp(A, a), np.ldexp(Y, b))
        assert found == np.ldexp(rec.lam_max_of(A, Y), a + b)
    for size in (1e-200, 1e200):
        with pytest.raises(ArgumentError, match=r"^y is too .*: lam_max would be outside"):
            rec.lam_max_of(size * np.eye(2), [size, 0])
        with pytest.raises(ArgumentError, match=r"^y is too .*: lam_max would be outside"):
            rec.lasso_path(size * np.eye(2), [size, 0])


def test_a_lam_or_eps_beyond_every_float_of_the_scaled_problem():
    assert not rec.lasso(np.eye(2), [1e-300, 0], 1e300).x.any()
    assert not rec.bpdn(np.eye(2), [1e-300, 0], 1e300).x.any()
    with pytest.warns(rec.ConvergenceWarning):
        assert not rec.linearized_bregman(np.eye(2), [1e-300, 0], 1e300, max_iter=3).x.any()
    assert rec.bpdn(np.eye(2), [1e300, 0], 1e-300).x.tolist() == [1e300, 0]


def test_amp_needs_no_unit_columns_but_says_what_it_does():
    for factor in (1e-30, 0.1, 0.6, 1.3, 7, 1e30):
        result = rec.amp(factor * A, factor * Y)
        assert result.converged, factor
        assert result.x == pytest.approx(X, abs=1e-7), factor
    tau = rec.amp(A, Y).history
    assert rec.amp(A, np.ldexp(Y, 600)).history == pytest.approx(np.ldexp(tau, 600))


def test_gaps_of_any_size():
    y, x = A @ X, np.where(X != 0, 0.5 * X, 0)
    r = y - A @ x
    expected = rec.lasso_gap(y, r, x, 0.1, r, A.T @ r)
    for a, b, c in ((0, -560, 0), (0, 510, 0), (-500, 500, 0), (0, 0, -600), (0, 0, 600)):
        found = rec.lasso_gap(
            np.ldexp(y, b), np.ldexp(r, b), np.ldexp(x, b - a), np.ldexp(0.1, a + b),
            np.ldexp(r, b + c), np.ldexp(A.T @ r, a + b + c),
        )  # fmt: skip
        assert found == expected
    largest = np.max(np.abs(A.T @ r)) / 0.1
    found = rec.relative_gap(y * 1e-150, r * 1e-150, 0.0, r * 1e-180, largest * 1e-30)
    assert found == pytest.approx(rec.relative_gap(y, r, 0.0, r, largest), rel=1e-12)


def test_theory_of_any_size():
    S, signs = [1, 5, 9], [1, -1, 1]
    for size in (2.0**-600, 2.0**600):
        for call in (
            rec.coherence,
            lambda A: rec.exact_recovery_coefficient(A, S),
            lambda A: rec.irrepresentability(A, S, signs),
        ):
            assert call(size * A) == pytest.approx(call(A), rel=1e-12)
    D = np.array([[1.0, 1e-180, 0.5], [0, 1e-180, 0.5]])
    assert rec.coherence(D) == pytest.approx(1, rel=1e-12)
    assert rec.exact_recovery_coefficient(np.diag([1, 1e-40, 1]), [0, 1]) == 0
    rng = np.random.default_rng(0)
    assert rec.rip_lower_bound(1e-200 * A, 2, rng, trials=5) == 1
    with pytest.raises(ArgumentError, match=r"^A is too large"):
        rec.rip_lower_bound(1e200 * A, 2, rng, trials=5)


def test_risk_of_any_size():
    assert rec.soft_threshold_risk([1e160, -1e160], 2.0).tolist() == [5, 5]
    assert rec.soft_threshold_risk(0.0, 1e160) == 0
    assert rec.soft_threshold_risk(3.0, np.inf) == 9
    # 2 M(10) = 2 (1 + z^2) Phi(-z) - 2 z phi(z) at z = 10, computed with 50 digits
    assert rec.soft_threshold_risk(0.0, 10.0) == pytest.approx(2.90452e-25, rel=1e-3)
    prior = ([0.0, 1.0, -1.0], [0.9, 0.05, 0.05])
    tau = rec.state_evolution(0.5, *prior, 0.1, 1.5, 5)
    expected = rec.lasso_risk(0.5, *prior, 0.1, 1.5)
    for size in (2.0**-600, 2.0**500):
        scaled = ([size * v for v in prior[0]], prior[1], size * 0.1, 1.5)
        assert rec.state_evolution(0.5, *scaled, 5) == pytest.approx(size * tau, rel=1e-12)
        found = rec.lasso_risk(0.5, *scaled)
        assert found[:2] == pytest.approx((size * expected.tau, size * expected.lam), rel=1e-12)
    # For little noise tau is proportional to it: the large entries are all found.
    small, smaller = (rec.lasso_risk(0.9, *prior, noise, 2.0).tau for noise in (1e-8, 1e-20))
    assert smaller == pytest.approx(1e-12 * small, rel=1e-6)


# Operators


def selection(dtype):
    rows = np.random.default_rng(0).choice(200, 100, replace=False)

    def back(y):
        x = np.zeros((200, *y.shape[1:]), dtype=y.dtype)
        x[rows] = y
        return x

    operator = LinearOperator((100, 200), matvec=lambda x: x[rows], rmatvec=back, dtype=dtype)
    return operator, rows


@pytest.mark.parametrize("dtype", [None, np.int8, np.int64, bool, np.float16, np.float64])
@pytest.mark.parametrize("name", ["ista", "fista", "linearized_bregman", "lasso", "basis_pursuit"])
def test_a_selection_operator_of_any_dtype(name, dtype):
    operator, rows = selection(dtype)
    y = np.arange(100.0) - 50
    result = {
        "ista": lambda: rec.ista(operator, y, 5.0),
        "fista": lambda: rec.fista(operator, y, 5.0),
        "lasso": lambda: rec.lasso(operator, y, 5.0),
        "linearized_bregman": lambda: rec.linearized_bregman(operator, y, 5.0),
        "basis_pursuit": lambda: rec.basis_pursuit(operator, y),
    }[name]()
    shrunken = name not in ("linearized_bregman", "basis_pursuit")
    expected = rec.soft_threshold(y, 5.0) if shrunken else y
    assert result.converged and result.x.dtype == np.float64
    assert result.x[rows] == pytest.approx(expected, abs=2e-2 if shrunken else 1e-7)
    assert not np.delete(result.x, rows).any()


@pytest.mark.parametrize("solve", [rec.omp, rec.cosamp, rec.iht, rec.htp])
def test_an_int8_operator_does_not_overflow(solve):
    M = np.array([[43, 3], [20, 30], [2, 7]], dtype=np.int8)
    operator = aslinearoperator(M) * np.int8(3)  # 3 * 43 is -127 in int8
    assert operator.dtype == np.int8
    assert solve(operator, M @ [6.0, 0.0], 1).x == pytest.approx([2, 0], abs=1e-9)
    assert solve(M, M @ [2.0, 0.0], 1).x == pytest.approx([2, 0], abs=1e-9)
    assert solve(sparse.csr_array(M), M @ [2.0, 0.0], 1).x == pytest.approx([2, 0], abs=1e-9)


def test_operators_that_do_not_work_are_refused():
    M = np.array([[100.0, 3], [50, 90], [2, 7]])

    class WithoutAdjoint(LinearOperator):
        def __init__(self):
            super().__init__(float, M.shape)

        def _matvec(self, x):
            return M @ x

    def operator(forward=lambda x: M @ x, back=lambda y: M.T @ y, dtype=float):
        return LinearOperator(M.shape, matvec=forward, rmatvec=back, dtype=dtype)

    cases = [
        (operator(back=None), r"^A cannot compute A\.T @ v .*rmatvec"),
        (WithoutAdjoint(), r"^A cannot compute A\.T @ v .*rmatvec"),
        (operator(back=lambda y: np.ones(3)), r"^A cannot compute A\.T @ v"),
        (operator(back=lambda y: {}["missing"]), r"^A cannot compute A\.T @ v .*KeyError"),
        (operator(forward=lambda x: np.ones(7)), r"^A cannot compute A @ u"),
        (operator(forward=lambda x: 2 * (M @ x)), r"^A has an rmatvec that does not belong"),
        (operator(forward=lambda x: 1j * (M @ x)), r"^A is complex"),
        (operator(forward=lambda x: np.nan * (M @ x)), r"^A holds nan or inf"),
        (operator(dtype=complex), r"^A is complex"),
        (operator(dtype=object), r"^A has dtype object"),
        (sparse.coo_array(np.ones(3)), r"^A has shape \(3,\)"),
    ]
    for A_bad, message in cases:
        for solve in (lambda A: rec.omp(A, np.ones(3), 1), lambda A: rec.lasso(A, np.ones(3), 1.0)):
            with pytest.raises(ArgumentError, match=message):
                solve(A_bad)


def test_an_operator_stays_in_float32():
    single, _, y = noisy_problem()
    single, y = single.astype(np.float32), y.astype(np.float32)
    for result in (
        rec.omp(aslinearoperator(single), y, 3),
        rec.ista(aslinearoperator(single), y, 0.3),
    ):
        assert result.x.dtype == np.float32


# Nothing to find


@pytest.mark.parametrize(
    "problem", [(np.eye(4), np.zeros((4, 4))), (np.zeros((4, 4)), np.ones((4, 4)))]
)
def test_several_signals_of_which_none_can_be_found(problem):
    for solve in (
        lambda A, Y: rec.omp(A, Y, 1),
        lambda A, Y: rec.ista(A, Y, 0.1),
        lambda A, Y: rec.fista(A, Y, 0.1),
        lambda A, Y: rec.lasso(A, Y, 0.1),
        rec.amp,
    ):
        result = solve(*problem)
        assert result.x.shape == (4, 4) and not result.x.any()
        assert np.all(result.converged)
        assert result.history.ndim == 2 and result.history.shape[1] == 4


def test_a_zero_matrix_of_any_size_and_kind():
    for wrap in (np.asarray, sparse.csr_array, aslinearoperator):
        zero, y = wrap(np.zeros((70, 90))), np.ones(70)
        for result in (
            rec.ista(zero, y, 0.1),
            rec.fista(zero, np.ones((70, 2)), 0.1),
            rec.group_lasso(zero, y, 0.1, np.arange(90)),
            rec.omp(zero, y, 3),
            rec.iht(zero, y, 3),
        ):
            assert not result.x.any() and np.all(result.converged)
        with pytest.warns(rec.ConvergenceWarning):
            assert not rec.linearized_bregman(zero, y, 0.1, max_iter=5).converged
        with pytest.warns(rec.ConvergenceWarning):
            assert not rec.basis_pursuit(zero, y).converged
