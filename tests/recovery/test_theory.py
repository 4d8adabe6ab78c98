import numpy as np
import pytest
from scipy.optimize import brentq

from cspkit.recovery import (
    amp,
    basis_pursuit,
    coherence,
    exact_recovery_coefficient,
    gaussian,
    irrepresentability,
    lasso,
    lasso_risk,
    minimax_threshold,
    partial_dct,
    phase_transition,
    rademacher,
    rip_lower_bound,
    soft_threshold,
    soft_threshold_risk,
    sparse_signal,
    state_evolution,
    toeplitz,
    welch_bound,
)

PRIOR = ([-1, 0, 1], [0.05, 0.9, 0.05])


def test_phase_transition_reference_values():
    found = phase_transition([0.1, 0.25, 0.5, 0.75])
    assert found == pytest.approx([0.189429, 0.267384, 0.385690, 0.533712], abs=1e-6)
    assert isinstance(phase_transition(0.5), float)


def test_phase_transition_rises_to_one_and_nonnegative_signals_need_less():
    delta = np.linspace(0.01, 0.99, 40)
    signed, nonnegative = phase_transition(delta), phase_transition(delta, nonnegative=True)
    assert np.all(np.diff(signed) > 0)
    assert np.all(np.diff(nonnegative) > 0)
    assert np.all(nonnegative > signed)
    assert phase_transition(0.999999) == pytest.approx(1, abs=0.01)


def test_nonnegative_phase_transition_at_one_half():
    # At its threshold z, AMP's noise neither grows nor shrinks: with rho delta n entries far
    # above zero, delta = rho delta (1 + z^2) + (1 - rho delta) E[max(Z - z, 0)^2].
    rho, z = phase_transition(0.5, nonnegative=True), minimax_threshold(0.5, nonnegative=True)
    noise = np.random.default_rng(0).standard_normal(4_000_000)
    error = 0.5 * rho * (1 + z**2) + (1 - 0.5 * rho) * np.mean(np.maximum(noise - z, 0) ** 2)
    assert error == pytest.approx(0.5, abs=2e-3)


def test_soft_threshold_risk_is_the_mean_squared_error():
    Z = np.random.default_rng(0).standard_normal(1_000_000)
    for mu in (0.0, 0.7, -3.0):
        for t in (0.5, 1.5):
            sample = np.mean((soft_threshold(mu + Z, t) - mu) ** 2)
            assert soft_threshold_risk(mu, t) == pytest.approx(sample, rel=0.01)


def test_lasso_risk_reference_values():
    tau, lam, mse = lasso_risk(0.5, *PRIOR, noise=0.1, alpha=1.5)
    assert (tau, lam) == pytest.approx((0.19323, 0.16218), abs=1e-5)
    assert mse == pytest.approx(0.013670, abs=1e-6)


def test_state_evolution_ends_at_the_lasso_risk():
    tau = state_evolution(0.5, *PRIOR, noise=0.1, alpha=1.5, n_iter=200)
    assert tau[0] == pytest.approx(np.sqrt(0.01 + 0.1 / 0.5))
    assert tau[-1] == pytest.approx(lasso_risk(0.5, *PRIOR, 0.1, 1.5).tau, rel=1e-9)


def test_state_evolution_changes_at_the_phase_transition():
    z, rho = minimax_threshold(0.5), phase_transition(0.5)
    for share, recovered in ((0.9, True), (1.1, False)):
        p = share * rho * 0.5
        # huge nonzeros are the least favourable ones
        tau = state_evolution(0.5, [0, 1e4], [1 - p, p], 0.0, z, 600)
        assert (tau[-1] < 1e-3 * tau[0]) == recovered


def test_lasso_has_the_predicted_error():
    tau, lam, mse = lasso_risk(0.5, *PRIOR, noise=0.1, alpha=1.5)
    errors = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        A = gaussian(1000, 2000, rng)
        x = rng.permutation(np.repeat([-1.0, 0.0, 1.0], [100, 1800, 100]))
        y = A @ x + 0.1 * rng.standard_normal(1000)
        errors.append(np.mean((lasso(A, y, lam).x - x) ** 2))
    assert np.mean(errors) == pytest.approx(mse, rel=0.12)


def test_lasso_risk_refuses_a_threshold_without_fixed_point():
    with pytest.raises(ValueError, match="alpha"):
        lasso_risk(0.3, *PRIOR, noise=0.1, alpha=0.1)


def test_coherence_against_the_definition_and_welch():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((10, 25)) * rng.uniform(0.1, 10, 25)
    cosines = [
        abs(A[:, i] @ A[:, j]) / np.linalg.norm(A[:, i]) / np.linalg.norm(A[:, j])
        for i in range(25)
        for j in range(i)
    ]
    assert coherence(A) == pytest.approx(max(cosines), rel=1e-12)
    assert welch_bound(10, 25) <= coherence(A) <= 1
    assert coherence(np.eye(5)) == 0
    assert welch_bound(5, 5) == 0
    simplex = np.array([[1, -0.5, -0.5], [0, np.sqrt(0.75), -np.sqrt(0.75)]])
    assert coherence(simplex) == pytest.approx(welch_bound(2, 3), rel=1e-12)


def test_coherence_allows_far_less_than_the_phase_transition():
    values = [coherence(gaussian(250, 1000, np.random.default_rng(s))) for s in range(5)]
    assert np.median(values) == pytest.approx(0.287, abs=0.02)
    assert int((1 + 1 / np.median(values)) / 2) == 2
    assert int(250 * phase_transition(0.25)) == 66


def test_exact_recovery_condition():
    A = gaussian(60, 100, np.random.default_rng(0))
    S = np.array([3, 10, 50])
    pinv = np.linalg.pinv(A[:, S])
    expected = max(np.sum(np.abs(pinv @ A[:, j])) for j in range(100) if j not in S)
    assert exact_recovery_coefficient(A, S) == pytest.approx(expected, rel=1e-10)
    assert exact_recovery_coefficient(np.eye(4), [0, 1]) == 0
    assert exact_recovery_coefficient(np.eye(2), [0, 1]) == 0


def test_irrepresentability_decides_whether_the_lasso_finds_the_support():
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(12):
        A, S = gaussian(20, 30, rng), rng.choice(30, 4, replace=False)
        signs = rng.choice([-1, 1], 4)
        value = irrepresentability(A, S, signs)
        expected = np.max(
            np.abs(np.delete(A, S, 1).T @ A[:, S] @ np.linalg.inv(A[:, S].T @ A[:, S]) @ signs)
        )
        assert value == pytest.approx(expected, rel=1e-9)
        x = np.zeros(30)
        x[S] = signs
        # no noise and a small lam
        found = set(lasso(A, A @ x, 1e-4, tol=1e-12).support) == set(S)
        assert found == (value < 1)
        outcomes.add(found)
    assert outcomes == {True, False}


def test_rip_lower_bound():
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((30, 30)))[0]
    assert rip_lower_bound(Q, 5, rng, trials=50) < 1e-12
    assert rip_lower_bound(2 * Q, 5, rng, trials=5) == pytest.approx(3)
    A = gaussian(50, 80, rng)
    worst = max(
        abs(np.linalg.eigvalsh(A[:, [i, j]].T @ A[:, [i, j]])[e] - 1)
        for i in range(80) for j in range(i) for e in (0, 1)
    )  # fmt: skip
    few, many = (rip_lower_bound(A, 2, np.random.default_rng(1), trials=t) for t in (20, 2000))
    assert few <= many <= worst * (1 + 1e-12)


def test_ensembles():
    rng = np.random.default_rng(0)
    for draw in (gaussian, rademacher, partial_dct, toeplitz):
        A = draw(80, 200, rng)
        assert A.shape == (80, 200)
        assert A.dtype == np.float64
        assert np.mean(np.sum(A**2, axis=0)) == pytest.approx(1, abs=0.2)
        again = [draw(8, 20, np.random.default_rng(5)) for _ in range(2)]
        assert np.array_equal(*again)
    assert np.array_equal(np.unique(rademacher(4, 30, rng)), [-0.5, 0.5])
    A = partial_dct(80, 200, rng)
    assert A @ A.T == pytest.approx(2.5 * np.eye(80), abs=1e-12)
    A = toeplitz(5, 9, rng)
    assert np.array_equal(A[1:, 1:], A[:-1, :-1])
    assert np.unique(A).size == 13


@pytest.mark.parametrize("draw", [rademacher, partial_dct, toeplitz])
def test_other_ensembles_recover_too(draw):
    rng = np.random.default_rng(0)
    A, x = draw(100, 200, rng), sparse_signal(200, 15, rng)
    assert np.max(np.abs(basis_pursuit(A, A @ x).x - x)) < 1e-8
    if draw is not toeplitz:
        assert np.max(np.abs(amp(A, A @ x).x - x)) < 1e-8


def test_sparse_signal():
    rng = np.random.default_rng(0)
    for k in (0, 1, 20):
        assert np.count_nonzero(sparse_signal(20, k, rng)) == k
    assert set(sparse_signal(50, 20, rng, kind="sign")) == {-1, 0, 1}
    assert np.all(sparse_signal(50, 20, rng, nonnegative=True) >= 0)


def test_minimax_threshold_is_stationary():
    for delta in (0.1, 0.5, 0.9):
        z = minimax_threshold(delta)
        # delta = 2 phi(z) / (z + 2 (phi(z) - z Phi(-z))) on the curve (Donoho, Maleki, Montanari)
        from scipy.stats import norm

        def on_curve(z):
            return 2 * norm.pdf(z) / (z + 2 * (norm.pdf(z) - z * norm.cdf(-z)))

        assert z == pytest.approx(brentq(lambda z, d=delta: on_curve(z) - d, 1e-9, 10), abs=1e-5)
