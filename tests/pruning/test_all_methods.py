"""What every method promises, whatever its mathematics."""

import copy
import inspect
import json

import numpy as np
import pytest
import torch
from torch import nn

from cspkit.asr import DigitTask, load_transducer, save_transducer
from cspkit.pruning import PRUNERS, prunable_weights, prune
from cspkit.training import Pruner, train

TOTAL = 10 * 40 + 40 * 40 + 40 * 5
ALL = pytest.mark.parametrize("method", sorted(PRUNERS))
OTHER_VALUES = {"budget": "erk", "end": 0.4, "every": 3, "keep_values": False, "quantile": 0.7}
OTHER_VALUES |= {"cycles": 2, "start": 0.1, "ramp": 0.3, "floor": 0.01}
OTHER_VALUES |= {"measurement": "identity", "updates": 2, "seed": 3, "block": "1x4"}
OTHER_VALUES |= {"threshold": "soft"}


@ALL
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.95])
def test_sparsity_is_exact_and_the_dense_model_untouched(task, dense, method, sparsity):
    before = copy.deepcopy(dense.state_dict())
    pruned = prune(dense, task, method, sparsity, steps=60)
    assert pruned.n_nonzero == TOTAL - round(sparsity * TOTAL)
    assert pruned.sparsity == pytest.approx(round(sparsity * TOTAL) / TOTAL)
    for name, weight in prunable_weights(pruned.model).items():
        assert torch.equal(weight != 0, pruned.masks[name])
    assert all(torch.equal(dense.state_dict()[n], t) for n, t in before.items())


@ALL
def test_a_classifier_survives_pruning(task, dense, method):
    settings = {"budget": "global"} if method == "narang" else {}
    pruned = prune(dense, task, method, 0.9, steps=300, **settings)
    assert (
        task.evaluate(pruned.model, "dev")["error"] <= task.evaluate(dense, "dev")["error"] + 0.05
    )


@ALL
def test_a_transducer_is_pruned_exactly_and_zeros_survive_the_file(tmp_path, method):
    task = DigitTask(batch_size=4)
    pruned = prune(task.new_model(0), task, method, 0.95, steps=6)
    assert pruned.n_nonzero == 331_264 - round(0.95 * 331_264)
    save_transducer(pruned.model, tmp_path / "pruned.safetensors")
    loaded = prunable_weights(load_transducer(tmp_path / "pruned.safetensors"))
    for name, mask in pruned.masks.items():
        assert torch.equal(loaded[name] != 0, mask)


@ALL
@pytest.mark.parametrize("budget", ["global", "uniform", "erk"])
def test_every_budget_ends_on_the_exact_count(task, dense, method, budget):
    pruned = prune(dense, task, method, 0.87, steps=30, budget=budget, floor=0.02)
    assert pruned.n_nonzero == TOTAL - round(0.87 * TOTAL)
    assert (pruned.report().nonzeros >= 0.02 * pruned.report().weights).all()


@ALL
def test_two_runs_agree_to_the_bit(task, dense, method):
    first, second = (prune(dense, task, method, 0.9, steps=40) for _ in range(2))
    for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)


@ALL
def test_in_the_last_phase_the_support_stays_and_momentum_moves_no_zero(task, dense, method):
    model = copy.deepcopy(dense)
    pruner = PRUNERS[method](prunable_weights(model), 0.9, 60)
    history = []
    train(
        model, task, 60, pruner=pruner, rng=np.random.default_rng(0), rate=1e-2,
        on_step=lambda row: history.append(
            [(m.clone(), pruner.weights[n].detach().clone()) for n, m in pruner.masks.items()]
        ),
    )  # fmt: skip
    assert isinstance(pruner, Pruner)
    for earlier, later in zip(history[40:], history[41:], strict=False):
        for (mask, before), (same, after) in zip(earlier, later, strict=True):
            assert torch.equal(mask, same)
            assert not after[~mask].any()
            assert (before[mask] != after[mask]).float().mean() > 0.5


@ALL
def test_the_cut_comes_with_the_first_step_the_last_or_none(task, dense, method):
    for end in (0.0, 1.0):
        settings = {} if method == "oneshot" else {"end": end}
        pruned = prune(dense, task, method, 0.8, steps=12, **settings)
        assert pruned.n_nonzero == TOTAL - round(0.8 * TOTAL)


@ALL
def test_a_run_that_ends_early_has_the_sparsity_that_was_asked_for(task, dense, method):
    pruned = prune(dense, task, method, 0.9, steps=60, on_step=lambda row: row["step"] == 0)
    assert len(pruned.log) == 1
    assert pruned.n_nonzero == TOTAL - round(0.9 * TOTAL)


@ALL
def test_settings_tell_every_argument(dense, method):
    weights = prunable_weights(copy.deepcopy(dense))
    plain = json.dumps(PRUNERS[method](weights, 0.9, 60).settings)
    names = {
        p.name: p.default
        for cls in reversed(PRUNERS[method].__mro__[:-1])
        for p in inspect.signature(cls).parameters.values()
        if p.kind is p.KEYWORD_ONLY and (method, p.name) != ("oneshot", "end")
    }
    assert {"budget", "floor"} <= set(names)
    assert json.dumps(PRUNERS[method](weights, 0.8, 60).settings) != plain
    for name, default in names.items():
        value = OTHER_VALUES.get(name, 0.123)
        if value == default:
            value = "global"
        needed = {"measurement": "identity"} if name == "threshold" else {}
        other = PRUNERS[method](weights, 0.9, 60, **needed, **{name: value}).settings
        assert json.dumps(other) != plain, name


@ALL
def test_weights_without_a_gradient_do_no_harm(task, method):
    class Spare(nn.Module):
        """Has a layer that the loss does not see."""

        def __init__(self):
            super().__init__()
            self.used, self.spare = task.new_model(), nn.Linear(9, 9)

        def forward(self, x):
            return self.used(x)

    pruned = prune(Spare(), task, method, 0.5, steps=30)
    assert pruned.n_nonzero == 2281 - round(0.5 * 2281)
