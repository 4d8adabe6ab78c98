"""A wrong call is a ValueError that names the argument, not an answer."""

import warnings

import numpy as np
import pytest
from recovery_problems import noisy_problem
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from cspkit import recovery as rec

A, _, y = noisy_problem()

SOLVERS = {
    "omp": lambda A, y: rec.omp(A, y, 3),
    "cosamp": lambda A, y: rec.cosamp(A, y, 3),
    "iht": lambda A, y: rec.iht(A, y, 3),
    "htp": lambda A, y: rec.htp(A, y, 3),
    "ista": lambda A, y: rec.ista(A, y, 0.1),
    "fista": lambda A, y: rec.fista(A, y, 0.1),
    "lasso": lambda A, y: rec.lasso(A, y, 0.1),
    "lasso_path": lambda A, y: rec.lasso_path(A, y),
    "reweighted_lasso": lambda A, y: rec.reweighted_lasso(A, y, 0.1),
    "group_lasso": lambda A, y: rec.group_lasso(A, y, 0.1, np.arange(120) // 2),
    "basis_pursuit": rec.basis_pursuit,
    "bpdn": lambda A, y: rec.bpdn(A, y, 0.1),
    "linearized_bregman": lambda A, y: rec.linearized_bregman(A, y, 1.0),
    "amp": rec.amp,
}
EVERY = pytest.mark.parametrize("solve", SOLVERS.values(), ids=SOLVERS.keys())
SEVERAL_SIGNALS = {"omp", "ista", "fista", "lasso", "amp"}


def spoiled(array, value):
    array = array.copy()
    array.flat[7] = value
    return array


@EVERY
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(solve, value):
    with pytest.raises(ValueError, match=r"^A holds nan or inf"):
        solve(spoiled(A, value), y)
    with pytest.raises(ValueError, match=r"^y holds nan or inf"):
        solve(A, spoiled(y, value))
    with pytest.raises(ValueError, match=r"^A holds nan or inf"):
        solve(sparse.csc_array(spoiled(A, value)), y)
    with pytest.raises(ValueError, match=r"^A holds nan or inf"):
        solve(aslinearoperator(spoiled(A, value)), y)


@EVERY
def test_opposite_infinities_are_seen(solve):
    with pytest.raises(ValueError, match=r"^A holds"):
        solve(spoiled(spoiled(A, np.inf)[::-1], -np.inf), y)


def test_huge_finite_numbers_are_not_taken_for_inf():
    big = np.full((2, 2), 1.5e308)
    assert rec.coherence is not None
    with np.errstate(over="ignore"):
        from cspkit.recovery.validation import check_matrix

        assert np.array_equal(check_matrix(big), big)


@EVERY
def test_shapes(solve):
    with pytest.raises(ValueError, match=r"^y has shape \(59,\), expected 60 rows"):
        solve(A, y[:-1])
    with pytest.raises(ValueError, match=r"^A has shape \(60,\)"):
        solve(y, y)
    with pytest.raises(ValueError, match=r"^A has shape \(0, 3\)"):
        solve(np.zeros((0, 3)), np.zeros(0))
    with pytest.raises(ValueError, match=r"^y has shape"):
        solve(A, y[:, None, None])


@pytest.mark.parametrize("name", sorted(set(SOLVERS) - SEVERAL_SIGNALS))
def test_one_signal_only(name):
    with pytest.raises(ValueError, match=r"^y has shape \(60, 2\), expected \(m,\)"):
        SOLVERS[name](A, np.stack([y, y], axis=1))


@EVERY
def test_types(solve):
    with pytest.raises(ValueError, match=r"^A is complex"):
        solve(A + 0j, y)
    with pytest.raises(ValueError, match=r"^y is complex"):
        solve(A, y + 0j)
    with pytest.raises(ValueError, match=r"^A is complex"):
        solve(sparse.csc_array(A + 0j), y)
    with pytest.raises(ValueError, match=r"^A is complex"):
        solve(aslinearoperator(A + 0j), y)
    with pytest.raises(ValueError, match=r"^A has dtype"):
        solve(np.full((3, 3), "a"), np.ones(3))


@EVERY
def test_integers_and_lists_are_taken(solve):
    whole = np.random.default_rng(0).integers(-3, 4, size=(60, 120))
    target = whole[:, :3].sum(axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rec.ConvergenceWarning)
        found, same = solve(whole.tolist(), target.tolist()), solve(1.0 * whole, 1.0 * target)
    if isinstance(found, tuple):
        found, same = found[1], same[1]
    assert found.x.dtype == np.float64
    assert np.array_equal(found.x, same.x)


@pytest.mark.parametrize("solve", [rec.omp, rec.cosamp, rec.iht, rec.htp])
@pytest.mark.parametrize("k", [0, -1, 61, 2.5, True, "3", None])
def test_k(solve, k):
    with pytest.raises(ValueError, match=r"^k is .*, expected an integer from 1 to .* = 60"):
        solve(A, y, k)


@pytest.mark.parametrize("solve", [rec.ista, rec.fista, rec.lasso, rec.linearized_bregman])
@pytest.mark.parametrize("lam", [0, -1, np.nan, np.inf, "1", None])
def test_lam(solve, lam):
    with pytest.raises(ValueError, match=r"^lam is .*, expected a finite number > 0"):
        solve(A, y, lam)


@pytest.mark.parametrize("tol", [-1e-9, np.nan, "x"])
def test_tol(tol):
    for solve in (rec.ista, rec.fista, rec.lasso, rec.linearized_bregman):
        with pytest.raises(ValueError, match=r"^tol is"):
            solve(A, y, 1.0, tol=tol)
    for solve in (rec.basis_pursuit, rec.amp):
        with pytest.raises(ValueError, match=r"^tol is"):
            solve(A, y, tol=tol)


@pytest.mark.parametrize("max_iter", [0, -3, 2.5, None])
def test_max_iter(max_iter):
    for solve in (rec.ista, rec.fista, rec.lasso, rec.linearized_bregman):
        with pytest.raises(ValueError, match=r"^max_iter is"):
            solve(A, y, 1.0, max_iter=max_iter)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: rec.bpdn(A, y, -1), r"^eps is -1"),
        (lambda: rec.amp(A, y, alpha=0), r"^alpha is 0"),
        (lambda: rec.lasso(A, y, 1, weights=np.ones(3)), r"^weights has shape \(3,\)"),
        (lambda: rec.lasso(A, y, 1, weights=np.zeros(120)), r"^weights holds"),
        (lambda: rec.lasso_path(A, y, [0.1, -0.1]), r"^lams is -0.1"),
        (lambda: rec.lasso_path(A, 0 * y), r"^y is zero"),
        (lambda: rec.group_lasso(A, y, 1, np.zeros(7)), r"^groups has shape \(7,\)"),
        (lambda: rec.group_lasso(A, y, 1, 2 * np.arange(120)), r"^groups holds"),
        (lambda: rec.reweighted_lasso(A, y, 1, rounds=0), r"^rounds is 0"),
        (lambda: rec.reweighted_lasso(A, y, 1, epsilon=0), r"^epsilon is 0"),
        (lambda: rec.phase_transition(1.5), r"^delta is 1.5"),
        (lambda: rec.phase_transition([0.5, 0.0]), r"^delta is .*0.0"),
        (lambda: rec.coherence(np.zeros((3, 3))), r"^A has a zero column"),
        (lambda: rec.coherence(sparse.eye(3)), r"^A is a dia_matrix, expected one of: array"),
        (lambda: rec.exact_recovery_coefficient(A, [1, 1]), r"^support is"),
        (lambda: rec.exact_recovery_coefficient(A, [200]), r"^support is"),
        (lambda: rec.exact_recovery_coefficient(np.ones((3, 3)), [0, 1]), r"^support names"),
        (lambda: rec.irrepresentability(A, [1, 2], [1, 0]), r"^signs is"),
        (lambda: rec.lasso_risk(0.5, [0, 1], [0.5, 0.6], 0.1, 1.0), r"^probabilities is"),
        (lambda: rec.lasso_risk(0.5, [0, 1], [1.0], 0.1, 1.0), r"^probabilities has shape"),
        (lambda: rec.state_evolution(-0.5, [0], [1.0], 0.1, 1.0, 5), r"^delta is -0.5"),
        (lambda: rec.welch_bound(0, 5), r"^m is 0"),
        (lambda: rec.gaussian(3, 0, np.random.default_rng(0)), r"^n is 0"),
        (lambda: rec.partial_dct(5, 3, np.random.default_rng(0)), r"^m is 5"),
        (lambda: rec.sparse_signal(5, 6, np.random.default_rng(0)), r"^k is 6"),
        (lambda: rec.sparse_signal(5, 2, np.random.default_rng(0), kind="x"), r"^kind is 'x'"),
        (lambda: rec.rip_lower_bound(A, 200, np.random.default_rng(0)), r"^k is 200"),
    ],
)
def test_named_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_matrix_free_operator_of_float32():
    single = A.astype(np.float32)
    operator = LinearOperator(
        A.shape, matvec=lambda v: single @ v, rmatvec=lambda v: single.T @ v, dtype=np.float32
    )
    result = rec.fista(operator, y.astype(np.float32), 0.1, tol=1e-4)
    assert result.x.dtype == np.float32
