"""Models that the project does not own: any module with linear, recurrent or kernel weights."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from cspkit.pruning import PRUNERS, prunable_weights, prune
from cspkit.training import Task, train


class Tagger(nn.Module):
    """A label for each time step; two layers, one or two directions."""

    def __init__(self, cell, bidirectional):
        super().__init__()
        self.recurrent = cell(6, 10, 2, batch_first=True, bidirectional=bidirectional)
        self.output = nn.Linear(20 if bidirectional else 10, 3)

    def forward(self, x):  # (N, T, 6) -> (N, T, 3)
        return self.output(self.recurrent(x)[0])


class Kernels(nn.Module):
    """The same by convolution."""

    def __init__(self):
        super().__init__()
        self.stack = nn.Sequential(
            nn.Conv1d(6, 12, 3, padding=1), nn.BatchNorm1d(12), nn.ReLU(), nn.Conv1d(12, 3, 3, 1, 1)
        )

    def forward(self, x):
        return self.stack(x.transpose(1, 2)).transpose(1, 2)


MODELS = {
    "mlp": lambda: nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Linear(24, 3)),
    "gru": lambda: Tagger(nn.GRU, False),
    "gru in two directions": lambda: Tagger(nn.GRU, True),
    "lstm": lambda: Tagger(nn.LSTM, False),
    "kernels": Kernels,
}
WEIGHTS = {"mlp": 216, "gru": 1110, "gru in two directions": 2820, "lstm": 1470, "kernels": 324}


class Tags(Task):
    """Which of three directions a frame points to."""

    def __init__(self):
        self.directions = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 3))).float()

    def batches(self, split, rng):
        while True:
            x = torch.from_numpy(rng.normal(size=(8, 9, 6))).float()
            yield x, (x @ self.directions).argmax(dim=-1)

    def loss(self, model, batch):
        outputs = model(batch[0])
        return nn.functional.cross_entropy(outputs.flatten(0, 1), batch[1].flatten()), outputs

    def evaluate(self, model, split):
        with torch.no_grad():
            loss, _ = self.loss(model, next(self.batches(split, np.random.default_rng(9))))
        return {"loss": float(loss)}


def new_model(kind):
    torch.manual_seed(0)
    return MODELS[kind]()


@pytest.mark.parametrize("kind", sorted(MODELS))
@pytest.mark.parametrize("method", sorted(PRUNERS))
def test_the_count_is_exact_and_the_zeros_survive_a_state_dict(kind, method):
    model = new_model(kind)
    before = copy.deepcopy(model.state_dict())
    pruned = prune(model, Tags(), method, 0.8, steps=15, mu=0.0)
    n = WEIGHTS[kind]
    report = pruned.report().set_index("layer")
    assert report.weights["total"] == n
    assert pruned.n_nonzero == n - round(0.8 * n)
    again = new_model(kind)
    again.load_state_dict(pruned.model.state_dict())
    for name, weight in prunable_weights(again).items():
        assert torch.equal(weight != 0, pruned.masks[name])
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize(
    ("kind", "optimizer"),
    [(kind, torch.optim.Adam) for kind in sorted(MODELS)]
    + [("mlp", torch.optim.AdamW), ("gru", torch.optim.SGD)],
)
def test_training_goes_on_under_the_masks(kind, optimizer):
    task = Tags()
    model = new_model(kind)
    train(model, task, 40, rng=np.random.default_rng(0), rate=1e-2)
    pruned = prune(model, task, "oneshot", 0.8, steps=1, mu=0.0)
    weights = prunable_weights(pruned.model)
    before = {n: w.detach().clone() for n, w in weights.items()}
    loss_before = task.evaluate(pruned.model, "dev")["loss"]
    batches = task.batches("train", np.random.default_rng(1))
    steps = optimizer(pruned.model.parameters(), lr=0.1 if optimizer is torch.optim.SGD else 1e-2)
    for _ in range(25):
        steps.zero_grad()
        task.loss(pruned.model, next(batches))[0].backward()
        for name, weight in weights.items():
            weight.grad.mul_(pruned.masks[name])
        steps.step()
    for name, weight in weights.items():
        assert torch.equal(weight != 0, pruned.masks[name])
        assert (weight != before[name])[pruned.masks[name]].any()
    assert task.evaluate(pruned.model, "dev")["loss"] < loss_before
