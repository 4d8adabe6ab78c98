"""A wrong call is an ArgumentError that names the argument, not an answer."""

import inspect
import warnings

import numpy as np
import pytest
from recovery_problems import noisy_problem
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from cspkit import recovery as rec
from cspkit.arguments import ArgumentError
from cspkit.recovery.validation import check_matrix

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
    with pytest.raises(ArgumentError, match=r"^A holds nan or inf"):
        solve(spoiled(A, value), y)
    with pytest.raises(ArgumentError, match=r"^y holds nan or inf"):
        solve(A, spoiled(y, value))
    with pytest.raises(ArgumentError, match=r"^A holds nan or inf"):
        solve(sparse.csc_array(spoiled(A, value)), y)
    with pytest.raises(ArgumentError, match=r"^A holds nan or inf"):
        solve(aslinearoperator(spoiled(A, value)), y)


@EVERY
def test_opposite_infinities_are_seen(solve):
    with pytest.raises(ArgumentError, match=r"^A holds"):
        solve(spoiled(spoiled(A, np.inf)[::-1], -np.inf), y)


def test_huge_finite_numbers_are_not_taken_for_inf():
    big = np.full((2, 2), 1.5e308)
    scaled, exponent = check_matrix(big)
    assert np.array_equal(np.ldexp(scaled, exponent), big)


@EVERY
def test_shapes(solve):
    with pytest.raises(ArgumentError, match=r"^y has shape \(59,\): expected 60 rows"):
        solve(A, y[:-1])
    with pytest.raises(ArgumentError, match=r"^A has shape \(60,\)"):
        solve(y, y)
    with pytest.raises(ArgumentError, match=r"^A has shape \(0, 3\)"):
        solve(np.zeros((0, 3)), np.zeros(0))
    with pytest.raises(ArgumentError, match=r"^y has shape"):
        solve(A, y[:, None, None])


@pytest.mark.parametrize("name", sorted(set(SOLVERS) - SEVERAL_SIGNALS))
def test_one_signal_only(name):
    with pytest.raises(ArgumentError, match=r"^y has shape \(60, 2\): expected \(m,\)"):
        SOLVERS[name](A, np.stack([y, y], axis=1))


@EVERY
def test_types(solve):
    with pytest.raises(ArgumentError, match=r"^A is complex"):
        solve(A + 0j, y)
    with pytest.raises(ArgumentError, match=r"^y is complex"):
        solve(A, y + 0j)
    with pytest.raises(ArgumentError, match=r"^A is complex"):
        solve(sparse.csc_array(A + 0j), y)
    with pytest.raises(ArgumentError, match=r"^A is complex"):
        solve(aslinearoperator(A + 0j), y)
    with pytest.raises(ArgumentError, match=r"^A has dtype"):
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
    with pytest.raises(ArgumentError, match=r"^k is .*: expected a whole number from 1 to 60"):
        solve(A, y, k)


@pytest.mark.parametrize("solve", [rec.ista, rec.fista, rec.lasso, rec.linearized_bregman])
@pytest.mark.parametrize("lam", [0, -1, np.nan, np.inf, "1", None])
def test_lam(solve, lam):
    with pytest.raises(ArgumentError, match=r"^lam is .*: expected a finite number > 0"):
        solve(A, y, lam)


@pytest.mark.parametrize("tol", [-1e-9, np.nan, "x"])
def test_tol(tol):
    for solve in (rec.ista, rec.fista, rec.lasso, rec.linearized_bregman):
        with pytest.raises(ArgumentError, match=r"^tol is"):
            solve(A, y, 1.0, tol=tol)
    for solve in (rec.basis_pursuit, rec.amp):
        with pytest.raises(ArgumentError, match=r"^tol is"):
            solve(A, y, tol=tol)


@pytest.mark.parametrize("max_iter", [0, -3, 2.5, None])
def test_max_iter(max_iter):
    for solve in (rec.ista, rec.fista, rec.lasso, rec.linearized_bregman):
        with pytest.raises(ArgumentError, match=r"^max_iter is"):
            solve(A, y, 1.0, max_iter=max_iter)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: rec.bpdn(A, y, -1), r"^eps is -1"),
        (lambda: rec.amp(A, y, alpha=0), r"^alpha is 0"),
        (lambda: rec.lasso(A, y, 1, weights=np.ones(3)), r"^weights has shape \(3,\)"),
        (lambda: rec.lasso(A, y, 1, weights=np.zeros(120)), r"^weights holds"),
        (lambda: rec.lasso_path(A, y, [0.1, -0.1]), r"^lams is -0.1"),
        (lambda: rec.lasso_path(A, y, 0.1), r"^lams has shape \(\): expected \(L,\)"),
        (lambda: rec.lasso_path(A, y, []), r"^lams has shape \(0,\): expected \(L,\)"),
        (lambda: rec.lasso_path(A, y, [[0.1], [0.2]]), r"^lams has shape \(2, 1\)"),
        (lambda: rec.lasso_path(A, y, [[0.1], [0.2, 0.3]]), r"^lams is not an array"),
        (lambda: rec.lasso_path(A, 0 * y), r"^y is zero"),
        (lambda: rec.lasso_path(np.eye(3), [-1, -2, -3], nonnegative=True), r"^y .* positive"),
        (lambda: rec.omp([[1, 2], [3]], [1, 2], 1), r"^A is not an array .*equal length"),
        (lambda: rec.omp(np.eye(2), [[1], [2, 3]], 1), r"^y is not an array"),
        (lambda: rec.omp(np.array(["2020"], dtype="M8[D]"), [1], 1), r"^A has dtype datetime"),
        (lambda: rec.omp(np.eye(2), np.array([1, 2], dtype="m8[s]"), 1), r"^y has dtype timede"),
        (lambda: rec.lam_max_of(A, y, weights=[1, 2]), r"^weights has shape \(2,\)"),
        (lambda: rec.lam_max_of(A, y[:3]), r"^y has shape \(3,\)"),
        (lambda: rec.lasso_gap(y, y[:3], A[0], 1.0, y, A[0]), r"^residual has shape \(3,\)"),
        (lambda: rec.lasso_gap(y, y, A[0], 1.0, y, y), r"^correlation has shape"),
        (lambda: rec.lasso_gap(y, y, A[0], 0.0, y, A[0]), r"^lam is 0"),
        (lambda: rec.relative_gap(y, y, -1.0, y, 1.0), r"^penalty is -1"),
        (lambda: rec.group_lasso(A, y, 1, np.zeros(7)), r"^groups has shape \(7,\)"),
        (lambda: rec.group_lasso(A, y, 1, 2 * np.arange(120)), r"^groups holds"),
        (lambda: rec.reweighted_lasso(A, y, 1, rounds=0), r"^rounds is 0"),
        (lambda: rec.reweighted_lasso(A, y, 1, epsilon=0), r"^epsilon is 0"),
        (lambda: rec.phase_transition(1.5), r"^delta is 1.5"),
        (lambda: rec.phase_transition([0.5, 0.0]), r"^delta is .*0.0"),
        (lambda: rec.coherence(np.zeros((3, 3))), r"^A has a zero column"),
        (lambda: rec.coherence(sparse.eye(3)), r"^A is a dia_matrix: expected one of: array"),
        (lambda: rec.exact_recovery_coefficient(A, [1, 1]), r"^support is"),
        (lambda: rec.exact_recovery_coefficient(A, [200]), r"^support is"),
        (lambda: rec.exact_recovery_coefficient(A, [True, False]), r"^support is"),
        (lambda: rec.exact_recovery_coefficient(np.ones((3, 3)), [0, 1]), r"^support names"),
        (lambda: rec.irrepresentability(A, [1, 2], [1, 0]), r"^signs is"),
        (lambda: rec.lasso_risk(0.5, [0, 1], [0.5, 0.6], 0.1, 1.0), r"^probabilities is"),
        (lambda: rec.lasso_risk(0.5, [0, 1], [1.0], 0.1, 1.0), r"^probabilities has shape"),
        (lambda: rec.lasso_risk(0.5, [0, 1], [np.nan, 1], 0.1, 1.0), r"^probabilities is"),
        (lambda: rec.lasso_risk(0.5, [0, 1j], [0.5, 0.5], 0.1, 1.0), r"^values is complex"),
        (lambda: rec.soft_threshold_risk(1.0, -1), r"^t is -1"),
        (lambda: rec.phase_transition("half"), r"^delta has dtype"),
        (lambda: rec.minimax_threshold("half"), r"^delta is 'half'"),
        (lambda: rec.gaussian(3, 4, 0), r"^rng is 0: expected a Generator"),
        (lambda: rec.sparse_signal(3, 1, np.random), r"^rng is <module"),
        (lambda: rec.rip_lower_bound(A, 2, 0), r"^rng is 0"),
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
    with pytest.raises(ArgumentError, match=message):
        call()


def calls():
    """One good call of every public function, by keyword."""
    r, rng = y - 0.1, np.random.default_rng(0)
    system = {"A": A, "y": y}
    greedy, loop = system | {"k": 3}, {"tol": 1e-3, "max_iter": 20}
    convex = system | loop | {"lam": 2.0}
    prior = {
        "delta": 0.5,
        "values": [0, 1],
        "probabilities": [0.9, 0.1],
        "noise": 0.1,
        "alpha": 2.0,
    }
    size = {"m": 3, "n": 4, "rng": rng}
    return {
        "omp": greedy, "cosamp": greedy | loop, "iht": greedy | loop,
        "htp": greedy | {"max_iter": 20}, "ista": convex, "fista": convex,
        "lasso": convex | {"weights": np.ones(120)},
        "lasso_path": system | loop | {"lams": [2.0, 3.0], "weights": np.ones(120)},
        "reweighted_lasso": system | {"lam": 2.0, "rounds": 2, "epsilon": 0.1, "tol": 1e-3},
        "group_lasso": convex | {"groups": np.arange(120) // 2, "weights": np.ones(60)},
        "basis_pursuit": system | loop, "bpdn": system | loop | {"eps": 1.0},
        "linearized_bregman": convex, "amp": system | loop | {"alpha": 2.0},
        "lam_max_of": system | {"weights": np.ones(120)},
        "lasso_gap": {"y": y, "residual": r, "x": A[0], "lam": 0.1, "dual_residual": r,
                      "correlation": A.T @ r},
        "relative_gap": {"y": y, "residual": r, "penalty": 0.1, "dual_residual": r, "largest": 2.0},
        "soft_threshold": {"v": y, "t": 0.1}, "hard_threshold": {"v": y, "k": 2},
        "l0_threshold": {"v": y, "t": 0.1},
        "block_soft_threshold": {"v": y, "t": 0.1, "groups": np.arange(60) // 2},
        "project_l2_ball": {"v": y, "radius": 0.1}, "project_linf_ball": {"v": y, "radius": 0.1},
        "soft_threshold_risk": {"mu": 1.0, "t": 1.0}, "lasso_risk": prior,
        "state_evolution": prior | {"n_iter": 3}, "coherence": {"A": A},
        "welch_bound": {"m": 3, "n": 5}, "exact_recovery_coefficient": {"A": A, "support": [1, 2]},
        "irrepresentability": {"A": A, "support": [1, 2], "signs": [1, -1]},
        "rip_lower_bound": {"A": A, "k": 2, "rng": rng, "trials": 3},
        "phase_transition": {"delta": 0.5}, "minimax_threshold": {"delta": 0.5},
        "sparse_signal": {"n": 5, "k": 2, "rng": rng, "kind": "sign"}, "gaussian": size,
        "rademacher": size, "partial_dct": size, "toeplitz": size,
    }  # fmt: skip


NONSENSE = [None, "x", [[1], [1, 2]], np.nan, [np.nan], 1j, [3 + 4j], object(), {"a": 1}]


@pytest.mark.filterwarnings("ignore::cspkit.recovery.ConvergenceWarning")
@pytest.mark.parametrize("name", [n for n in rec.__all__ if inspect.isfunction(getattr(rec, n))])
def test_every_argument_of_every_function_is_named(name):
    function, good = getattr(rec, name), calls()[name]
    optional = {
        p.name for p in inspect.signature(function).parameters.values() if p.default is None
    }
    function(**good)
    for argument in good:
        for value in NONSENSE:
            if value is None and argument in optional:
                continue
            with pytest.raises(ArgumentError, match=rf"^({argument}|residual|correlation) "):
                function(**good | {argument: value})


def test_matrix_free_operator_of_float32():
    single = A.astype(np.float32)
    operator = LinearOperator(
        A.shape, matvec=lambda v: single @ v, rmatvec=lambda v: single.T @ v, dtype=np.float32
    )
    result = rec.fista(operator, y.astype(np.float32), 0.1, tol=1e-4)
    assert result.x.dtype == np.float32
