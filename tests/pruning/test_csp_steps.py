import copy

import numpy as np
import pytest
import torch
from blobs import Blobs

from cspkit.pruning import CSP, GMP, prunable_weights, prune
from cspkit.training import train

TOTAL = 10 * 40 + 40 * 40 + 40 * 5


@pytest.mark.parametrize(("method", "moves"), [(CSP, True), (GMP, False)])
def test_csp_moves_what_it_cuts_and_gmp_does_not(task, dense, method, moves):
    model = copy.deepcopy(dense)
    pruner = method(prunable_weights(model), 0.5, 30)
    seen = []
    train(
        model, task, 10, pruner=pruner, rng=np.random.default_rng(0), rate=1e-2,
        on_step=lambda row: seen.append(
            [(w.detach().clone(), pruner.masks[n]) for n, w in pruner.weights.items()]
        ),
    )  # fmt: skip
    for (before, was_in), (after, is_in) in zip(seen[8], seen[9], strict=True):
        cut = ~was_in & ~is_in
        assert int(cut.sum()) > 10
        moved = before[cut] != after[cut]
        assert bool(moved.float().mean() > 0.5) == moves
        assert moves or not moved.any()
        assert (before[cut] != 0).any()  # the values are kept, not set to zero


def test_the_gradient_is_taken_at_the_sparse_weights(task, dense):
    seen = []

    class Watching(Blobs):
        def loss(self, model, batch):
            weights = prunable_weights(model).values()
            seen.append(sum(int((w == 0).sum()) for w in weights) / TOTAL)
            return super().loss(model, batch)

    pruned = prune(dense, Watching(), "csp", 0.8, steps=30, mu=0.0, exponent=3)
    assert seen == pytest.approx([row["sparsity"] for row in pruned.log])


def test_a_cut_weight_can_come_back(task, dense):
    model = copy.deepcopy(dense)
    pruner = CSP(prunable_weights(model), 0.9, 200, rho=0.0)
    history = []
    train(
        model, task, 200, pruner=pruner, rng=np.random.default_rng(0), rate=1e-2, schedule="cosine",
        on_step=lambda row: history.append(pruner.masks["2.weight"].clone()),
    )  # fmt: skip
    out_before = torch.stack([~mask for mask in history]).any(dim=0)
    assert int((history[-1] & out_before).sum()) > 0


def test_the_support_is_frozen_after_the_schedule(task, dense):
    model = copy.deepcopy(dense)
    pruner = CSP(prunable_weights(model), 0.9, 90)
    history = []
    train(
        model, task, 90, pruner=pruner, rng=np.random.default_rng(0), rate=1e-2,
        on_step=lambda row: history.append({n: m.clone() for n, m in pruner.masks.items()}),
    )  # fmt: skip
    for later in history[61:]:
        assert all(torch.equal(later[n], history[60][n]) for n in later)
    assert any(not torch.equal(history[30][n], history[60][n]) for n in history[60])


def test_without_mu_no_reference_is_asked(task, dense):
    class Counting(Blobs):
        calls = 0

        def loss(self, model, batch):
            Counting.calls += 1
            return super().loss(model, batch)

    prune(dense, Counting(), "csp", 0.5, steps=5)
    assert Counting.calls == 5
    prune(dense, Counting(), "csp", 0.5, steps=5, mu=1.0)
    assert Counting.calls == 15
