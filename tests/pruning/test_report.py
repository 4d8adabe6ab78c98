"""What a pruned model says of itself, and how its zeros are kept."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from cspkit.arguments import ArgumentError
from cspkit.pruning import Hold, prune
from cspkit.training import train


def test_the_report_counts_by_layer(task, dense):
    pruned = prune(dense, task, "gmp", 0.9, steps=20, budget="uniform")
    report = pruned.report()
    assert list(report.columns) == ["layer", "shape", "weights", "nonzeros", "sparsity", "state"]
    assert list(report.layer) == ["0.weight", "2.weight", "4.weight", "total", "all parameters"]
    assert list(report["shape"])[:3] == [(40, 10), (40, 40), (5, 40)]
    assert list(report.weights) == [400, 1600, 200, 2200, 2285]
    assert list(report.nonzeros) == [40, 160, 20, 220, 305]
    assert list(report.sparsity) == pytest.approx([0.9] * 4 + [1980 / 2285])
    assert list(report.state) == ["pruned"] * 3 + ["", ""]


def test_the_report_says_what_was_left_dense_and_what_was_emptied(task, dense):
    model = copy.deepcopy(dense)
    model[2].weight.data *= 1e-9
    model[4].weight.requires_grad_(False)
    model[0].unused = nn.Embedding(30, 10)
    with (
        pytest.warns(UserWarning, match="'4.weight' is frozen"),
        pytest.warns(UserWarning, match="2,000 of the model's 2,585 .*: '0.unused.weight'"),
    ):
        pruned = prune(model, task, "oneshot", 0.9, steps=1)
    report = pruned.report().set_index("layer")
    assert list(report.index) == [
        "0.weight", "2.weight", "total", "0.unused.weight", "4.weight", "all parameters",
    ]  # fmt: skip
    assert list(report.state) == ["pruned", "emptied", "", "dense", "dense", ""]
    assert list(report.nonzeros) == [200, 0, 200, 300, 200, 200 + 300 + 200 + 85]
    assert list(report.sparsity[["total", "4.weight"]]) == pytest.approx([0.9, 0.0])
    assert report.sparsity["all parameters"] == pytest.approx(1800 / 2585)


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_a_pruned_model_keeps_its_zeros_in_further_training(task, dense, optimizer):
    pruned = prune(dense, task, "gmp", 0.9, steps=20)
    before = copy.deepcopy(pruned.model.state_dict())
    hold = pruned.hold()
    assert isinstance(hold, Hold)

    def make(parameters, lr):
        return optimizer(parameters, lr=lr, weight_decay=0.1)

    rng = np.random.default_rng(1)
    log = train(pruned.model, task, 30, pruner=hold, rng=rng, optimizer=make)
    assert pruned.n_nonzero == 220
    assert all(row["sparsity"] == pytest.approx(0.9) and row["frozen"] for row in log)
    for name, mask in pruned.masks.items():
        weight = pruned.model.state_dict()[name]
        assert torch.equal(weight != 0, mask)
        assert not torch.equal(weight, before[name])


def test_the_zeros_go_into_a_model_of_the_same_shape(task, dense):
    pruned = prune(dense, task, "gmp", 0.9, steps=20)
    other = task.new_model(seed=1)
    train(other, task, 5, pruner=pruned.hold(nn.DataParallel(other)), rng=np.random.default_rng(0))
    for name, mask in pruned.masks.items():
        assert torch.equal(other.state_dict()[name] != 0, mask)
    assert pruned.n_nonzero == 220
    with pytest.raises(ArgumentError, match="model has no weight '2.weight'"):
        pruned.hold(nn.Sequential(nn.Linear(10, 40)))
    wide = nn.Sequential(nn.Linear(11, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), other[4])
    with pytest.raises(ArgumentError, match="masks have shapes and dtypes"):
        pruned.hold(wide)
    with pytest.raises(ArgumentError, match="model is 3: expected an nn.Module"):
        pruned.hold(3)
