"""What makes each method what it is."""

import copy
import math

import numpy as np
import pytest
import torch
from by_hand import Moves, at, one_layer
from torch import nn

from cspkit.pruning import (
    ACDC,
    ADMM,
    DPF,
    GMP,
    L1Prox,
    Narang,
    OneShot,
    RigL,
    prunable_weights,
    prune,
)
from cspkit.pruning.budget import keep_largest, masks_of_largest
from cspkit.pruning.schedule import polynomial_sparsity
from cspkit.training import train

TOTAL = 10 * 40 + 40 * 40 + 40 * 5


def watched(method, task, dense, steps, sparsity=0.9, **settings):
    """Prune a copy of the classifier; return for each step its weights and masks, flat."""
    model = copy.deepcopy(dense)
    pruner = method(prunable_weights(model), sparsity, steps, **settings)
    history = []

    def look(row):
        weights = torch.cat([w.detach().flatten() for w in pruner.weights.values()])
        history.append((weights, torch.cat([m.flatten() for m in pruner.masks.values()])))

    rng = np.random.default_rng(0)
    train(model, task, steps, pruner=pruner, rng=rng, rate=1e-2, schedule="cosine", on_step=look)
    return history


@pytest.mark.parametrize("method", ["csp", "dpf", "gmp", "l1-prox"])
def test_every_step_meets_the_schedule(task, dense, method):
    pruned = prune(dense, task, method, 0.9, steps=60, every=1, exponent=3)
    for row in pruned.log:
        s = polynomial_sparsity(row["step"], 40, 0.9, 3)
        assert row["sparsity"] == pytest.approx(round(s * TOTAL) / TOTAL)


def test_oneshot_cuts_the_smallest_weights_before_the_first_step(task, dense):
    dense_weights = {n: w.data for n, w in prunable_weights(dense).items()}
    expected = masks_of_largest(dense_weights, 0.9, "global")
    expected = torch.cat([m.flatten() for m in expected.values()])
    history = watched(OneShot, task, dense, 20)
    for weights, mask in history:
        assert torch.equal(mask, expected)
        assert torch.equal(weights != 0, expected)


@pytest.mark.parametrize("keep_values", [True, False])
def test_gmp_keeps_masked_values_or_sets_them_to_zero(task, dense, keep_values):
    history = watched(GMP, task, dense, 60, keep_values=keep_values, exponent=3)
    for (before, was_in), (after, is_in) in zip(history[5:38], history[6:39], strict=True):
        cut = ~was_in & ~is_in
        assert torch.equal(before[cut], after[cut])
        assert bool(after[~is_in].any()) == keep_values
        assert keep_values or not (~was_in & is_in).any()


def test_gmp_takes_a_kept_value_back_where_others_shrink_below_it():
    weight, pruner = one_layer(GMP, torch.tensor([[4.0, 3.0, 2.0, 1.0]]), 0.5, 30, exponent=1)
    with at(pruner, 10):  # half way: one of the four is cut
        assert weight.tolist() == [[4, 3, 2, 0]]
        weight.grad = torch.ones(1, 4)
    assert weight.grad.tolist() == [[1, 1, 1, 0]]
    pruner.step(Moves(weight, torch.tensor([[0.5, 3.0, 2.0, 7.0]])))  # 7 is momentum's
    assert weight.tolist() == [[0.5, 3, 2, 1]]
    with at(pruner, 10):
        assert weight.tolist() == [[0, 3, 2, 1]]


def test_dpf_applies_the_gradient_at_the_sparse_weights_to_the_dense_ones():
    torch.manual_seed(0)
    V, target = torch.randn(8, 8), torch.randn(8, 8)
    weight, pruner = one_layer(DPF, V, 0.75, 90, exponent=1)
    with at(pruner, 30):
        Z = V * keep_largest(V.abs(), 40)
        assert torch.equal(weight.data, Z)
        (0.5 * (weight - target).square().sum()).backward()
    assert torch.equal(weight.data, V)
    pruner.step(torch.optim.SGD([weight], lr=0.1))
    torch.testing.assert_close(weight.data, V - 0.1 * (Z - target))


@pytest.mark.parametrize("reach", [1.0, 1.5])
def test_narang_thresholds_are_two_lines_that_end_at_the_quantile(reach):
    values = torch.arange(1, 1001)[torch.randperm(1000)].view(20, 50) / 1000
    settings = {"quantile": 0.9, "start": 0.1, "ramp": 0.25, "reach": reach}
    weight, pruner = one_layer(Narang, values, 0.8, 200, **settings)
    eps = np.array([float(pruner.threshold("w", t)) for t in range(20, 101)])
    theta = reach * 2 * 0.901 / (2 * (50 - 20) + 3 * (100 - 50))
    np.testing.assert_allclose(np.diff(eps)[:30], theta, rtol=1e-4)
    np.testing.assert_allclose(np.diff(eps)[30:], 1.5 * theta, rtol=1e-4)
    assert eps[0] == 0
    assert eps[-1] == pytest.approx(reach * 0.901)  # 900 of the 1,000 are smaller


def test_narang_cuts_below_the_threshold_for_good_and_no_more_than_the_target():
    torch.manual_seed(0)
    values = torch.randn(30, 40)
    weight, pruner = one_layer(Narang, values, 0.8, 200, quantile=0.95, every=5)
    for step in range(100):
        with at(pruner, step):
            eps = float(pruner.threshold("w", step - step % 5))
            expected = max(int((values.abs() >= eps).sum()), 240)
            assert int((weight != 0).sum()) == int(pruner.masks["w"].sum()) == expected
        pruner.step(Moves(weight, weight.data + 0.5 * (weight.data == 0)))  # as momentum might
    with at(pruner, 100):
        pass
    assert torch.equal(weight.data, values * keep_largest(values.abs(), 240))


@pytest.mark.parametrize("budget", ["global", "uniform"])
def test_l1_prox_makes_the_proximal_step_that_leaves_k_weights(budget):
    torch.manual_seed(0)
    V = {"a": torch.randn(20, 30), "b": 3 * torch.randn(10, 20)}
    weights = {n: nn.Parameter(v.clone()) for n, v in V.items()}
    pruner = L1Prox(weights, 0.9, 300, exponent=1, budget=budget)
    pruner.steps_done = 100  # half way: 45 % zeros
    with torch.no_grad():
        pruner.after_update(100)
    assert sum(int((w != 0).sum()) for w in weights.values()) == 800 - 360
    taus = []
    for name, weight in weights.items():
        W, residual = weight.detach(), V[name] - weight.detach()
        kept = W != 0
        tau = float(residual.abs().max())
        # V - W is tau times a subgradient of the l1 norm at W: the condition of the minimum.
        torch.testing.assert_close(residual[kept], tau * W[kept].sign(), rtol=1e-5, atol=1e-6)
        assert V[name][~kept].abs().max() <= tau + 1e-6
        taus.append(tau)
    assert (taus[0] == pytest.approx(taus[1], abs=1e-5)) == (budget == "global")


def test_l1_prox_shrinks_until_the_freeze_and_not_after():
    V = torch.randn(20, 20)
    weight, pruner = one_layer(L1Prox, V, 0.5, 30)
    with torch.no_grad():
        pruner.after_update(10)
    assert float(weight.detach().abs().sum()) < 0.9 * float((V * pruner.masks["w"]).abs().sum())
    with at(pruner, 20):
        frozen = weight.detach().clone()
    pruner.step(Moves(weight, frozen + ~pruner.masks["w"]))
    assert torch.equal(weight.data, frozen)
    assert int((weight != 0).sum()) == 200


def test_acdc_alternates_dense_phases_and_sparse_ones_of_exactly_k(task, dense):
    history = watched(ACDC, task, dense, 300, cycles=3)  # five phases of forty steps, then sparse
    k = TOTAL - round(0.9 * TOTAL)
    for step, (weights, mask) in enumerate(history):
        if step < 200 and step // 40 % 2 == 0:
            assert mask.all()
        else:
            assert int(mask.sum()) == k
            assert torch.equal(weights != 0, mask)
    for first in (80, 160):  # a dense phase moves what was cut, and the next mask is another one
        moved = history[first][0][~history[first - 1][1]]
        assert (moved != 0).float().mean() > 0.5
        assert not torch.equal(history[first - 1][1], history[first + 40][1])
    assert all(torch.equal(mask, history[200][1]) for _, mask in history[200:])


def test_admm_projects_onto_z_and_accumulates_the_difference_in_u():
    torch.manual_seed(0)
    weight, pruner = one_layer(ADMM, torch.randn(10, 10), 0.8, 60, rho=0.3, every=4)
    assert torch.equal(pruner.Z["w"], weight.data * keep_largest(weight.data.abs(), 20))
    U, Z = torch.zeros(10, 10), pruner.Z["w"].clone()
    for step in range(40):
        W, gradient = weight.detach().clone(), torch.randn(10, 10)
        with at(pruner, step):
            weight.grad = gradient.clone()
        pruner.step(torch.optim.SGD([weight], lr=0.1))
        torch.testing.assert_close(weight.data, W - 0.1 * (gradient + 0.3 * (W - Z + U)))
        if step % 4 == 3:
            Z = (weight.data + U) * keep_largest((weight.data + U).abs(), 20)
            U = U + weight.data - Z
        torch.testing.assert_close(pruner.Z["w"], Z)
        torch.testing.assert_close(pruner.U["w"], U)
    W = weight.data.clone()
    with at(pruner, 40):
        pass
    assert torch.equal(weight.data, W * keep_largest(W.abs(), 20))


def test_admm_meets_its_constraint_where_the_loss_is_simple():
    torch.manual_seed(0)
    target = torch.randn(10, 10)
    weight, pruner = one_layer(ADMM, torch.randn(10, 10), 0.8, 900, rho=1.0, every=10)
    for step in range(599):
        with at(pruner, step):
            weight.grad = weight.data - target
        pruner.step(torch.optim.SGD([weight], lr=0.3))
    solution = target * keep_largest(target.abs(), 20)
    torch.testing.assert_close(weight.data, solution, atol=0.05, rtol=0)


def test_rigl_drops_the_smallest_and_grows_the_largest_gradients():
    torch.manual_seed(0)
    weight, pruner = one_layer(RigL, torch.randn(20, 20), 0.75, 150, alpha=0.4, every=10)
    with at(pruner, 0):
        pass
    W, mask = weight.data.clone(), pruner.masks["w"].clone()
    assert torch.equal(mask, keep_largest(W.abs(), 100))
    gradient = torch.randn(20, 20)
    with at(pruner, 30):
        weight.grad = gradient.clone()
    pruner.step(Moves(weight, weight.detach().clone()))
    n = int(0.2 * (1 + math.cos(math.pi * 30 / 100)) * 100)
    after, survivors = pruner.masks["w"], keep_largest(W.abs(), 100 - n)
    grown = after & ~survivors
    assert n == int(grown.sum()) == 31
    assert after[survivors].all()
    candidates = gradient.abs().masked_fill(survivors, -1.0)
    assert torch.equal(grown, keep_largest(candidates, n))
    assert torch.equal(weight.data, W * after)  # a new weight starts from zero
    assert torch.equal(weight.grad, gradient * after)


def test_rigl_has_the_same_count_in_every_step_and_exchanges_ever_less(task, dense):
    history = watched(RigL, task, dense, 90, every=5)
    k = TOTAL - round(0.9 * TOTAL)
    for weights, mask in history:
        assert int(mask.sum()) == k
        assert not weights[~mask].any()
    new = [int((b & ~a).sum()) for (_, a), (_, b) in zip(history, history[1:], strict=False)]
    assert sum(n > 0 for n in new[:59]) >= 10
    assert all(n == 0 for step, n in enumerate(new, 1) if step % 5 or step >= 60)
    assert new[4] > 3 * new[54]


def test_rigl_grows_nothing_that_has_no_gradient():
    weight, pruner = one_layer(RigL, torch.randn(10, 10), 0.5, 30, every=1)
    with at(pruner, 0):
        mask = pruner.masks["w"].clone()
    with at(pruner, 1):
        weight.grad = torch.zeros(10, 10)
    pruner.step(torch.optim.SGD([weight], lr=0.1))
    assert torch.equal(pruner.masks["w"], mask)
