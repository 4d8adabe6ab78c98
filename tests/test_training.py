import copy
import itertools

import numpy as np
import pytest
import torch
from blobs import Blobs
from torch import nn

from cspkit.training import Pruner, Task, rate_factor, train


@pytest.fixture
def task():
    return Blobs()


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_training_learns(task):
    model = task.new_model()
    before = task.evaluate(model, "dev")["error"]
    log = train(model, task, 200, rng=np.random.default_rng(0), rate=1e-2)
    assert before > 0.5
    assert task.evaluate(model, "dev")["error"] < 0.1
    assert [row["step"] for row in log] == list(range(200))
    assert log[-1]["loss"] < 0.2 * log[0]["loss"]


def test_two_runs_from_one_seed_agree_to_the_bit(task):
    models = [task.new_model() for _ in range(2)]
    for model in models:
        train(model, task, 30, rng=np.random.default_rng(3))
    assert torch.equal(weights(models[0]), weights(models[1]))


def test_the_reference_pulls_and_is_not_changed(task):
    reference = task.new_model()
    train(reference, task, 100, rng=np.random.default_rng(0), rate=1e-2)
    kept = weights(reference).clone()
    distances = []
    for mu in (0.0, 100.0):
        model = task.new_model(seed=1)
        log = train(
            model, task, 100, reference=reference, mu=mu, rng=np.random.default_rng(1), rate=1e-2
        )
        batch = next(task.batches("dev", np.random.default_rng(0)))
        _, outputs = task.loss(model, batch)
        _, reference_outputs = task.loss(reference, batch)
        distances.append(task.divergence(reference_outputs, outputs, batch).item())
    assert distances[1] < 0.5 * distances[0]
    assert log[0]["divergence"] > 0
    assert torch.equal(weights(reference), kept)


def test_a_pruner_that_does_nothing_is_dense_training(task):
    class Nothing:
        sparsity = 0.0

        def before_forward(self, step): ...
        def after_backward(self, step): ...
        def after_update(self, step): ...
        def finish(self): ...

    dense, pruned = task.new_model(), task.new_model()
    train(dense, task, 20, rng=np.random.default_rng(0))
    train(pruned, task, 20, pruner=Nothing(), rng=np.random.default_rng(0))
    assert torch.equal(weights(dense), weights(pruned))
    assert isinstance(Nothing(), Pruner)


def test_the_hooks_come_in_order(task):
    calls = []

    class Scribe:
        sparsity = 0.0

        def debiasing(self, step):
            return True

        def __getattr__(self, name):
            return lambda *step: calls.append((name, *step))

    train(task.new_model(), task, 2, pruner=Scribe(), rng=np.random.default_rng(0))
    one = ["before_forward", "after_backward", "after_update"]
    assert calls == [(c, 0) for c in one] + [(c, 1) for c in one] + [("finish",)]


def test_schedules():
    cosine = [rate_factor("cosine", t, 100) for t in range(100)]
    assert cosine[0] == 1 / 20
    assert np.all(np.diff(cosine[:19]) > 0)
    assert cosine[50] == pytest.approx(0.5)
    assert cosine[-1] < 1e-3
    cycle = [rate_factor("one-cycle", t, 100) for t in range(100)]
    assert cycle[0] == pytest.approx(1 / 25)
    assert max(cycle) == cycle[30] == 1
    assert np.all(np.diff(cycle[:31]) > 0)
    assert np.all(np.diff(cycle[30:]) < 0)


def test_a_loss_that_is_not_finite_stops_and_names_the_step(task):
    class Broken(Blobs):
        steps = 0

        def loss(self, model, batch):
            self.steps += 1
            loss, outputs = super().loss(model, batch)
            return loss * (float("nan") if self.steps == 4 else 1.0), outputs

    with pytest.raises(FloatingPointError, match="step 3"):
        train(task.new_model(), Broken(), 10, rng=np.random.default_rng(0))


def test_a_divergence_that_is_not_finite_is_named(task):
    class Broken(Blobs):
        def divergence(self, *given):
            return super().divergence(*given) * float("inf")

    with pytest.raises(FloatingPointError, match="the divergence of step 0 is inf"):
        train(
            task.new_model(), Broken(), 3, reference=task.new_model(1), mu=1.0,
            rng=np.random.default_rng(0),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": lambda model, batch: torch.ones(())}, "returned a Tensor: expected the loss and"),
        ({"loss": lambda model, batch: (1.0, None)}, "loss of the task has a float: expected a sc"),
        ({"loss": lambda model, batch: (torch.ones(3), 0)}, r"loss of the task has shape \(3,\)"),
        ({"loss": lambda model, batch: (torch.ones(()), None)}, "loss without a gradient"),
        ({"divergence": lambda *given: torch.ones(3)}, r"divergence of the task has shape \(3,\)"),
        ({"divergence": None}, "Blobs has no divergence"),
    ],
)
def test_what_a_task_must_not_return_is_named(change, message):
    task = Blobs()
    for name, method in change.items():
        setattr(task, name, method)
    call = {"reference": task.new_model(1), "mu": 1.0, "rng": np.random.default_rng(0)}
    with pytest.raises(ValueError, match=message):
        train(task.new_model(), task, 2, **call)
    with pytest.raises(ValueError, match="task is the class Blobs: expected an object"):
        train(task.new_model(), Blobs, 2, **call)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"steps": 2.5}, "steps is 2.5"),
        ({"steps": 5.0}, "steps is 5.0"),
        ({"mu": -1.0}, "mu is -1.0"),
        ({"mu": 1.0}, "reference is None"),
        ({"rate": 0.0}, "rate is 0.0"),
        ({"schedule": "linear"}, "schedule is 'linear'"),
        ({"state_every": 0}, "state_every is 0"),
        ({"clip": 0.0}, "clip is 0.0"),
        ({"clip": -1.0}, "clip is -1.0"),
        ({"clip": float("nan")}, "clip is nan"),
        ({"rng": 0}, "rng is 0"),
    ],
)
def test_bad_arguments_are_named(task, change, message):
    call = {"steps": 1, "rng": np.random.default_rng(0)} | change
    model = task.new_model()
    before = weights(model).clone()
    with pytest.raises(ValueError, match=message):
        train(model, task, **call)
    assert torch.equal(weights(model), before)


def test_a_list_of_batches_is_gone_through_and_its_end_is_named(task):
    seen = []

    class Listed(Blobs):
        def batches(self, split, rng):
            return list(itertools.islice(super().batches(split, rng), 3))

        def loss(self, model, batch):
            seen.append(batch[0].sum().item())
            return super().loss(model, batch)

    train(task.new_model(), Listed(), np.int64(3), rng=np.random.default_rng(0))
    assert len(set(seen)) == 3
    with pytest.raises(ValueError, match="end before step 3"):
        train(task.new_model(), Listed(), 4, rng=np.random.default_rng(0))


def test_batches_that_end_are_named(task):
    class Short(Blobs):
        def batches(self, split, rng):
            return itertools.islice(super().batches(split, rng), 3)

    with pytest.raises(ValueError, match="end before step 3"):
        train(task.new_model(), Short(), 5, rng=np.random.default_rng(0))


def test_the_reference_is_evaluated_and_not_changed(task):
    reference = nn.Sequential(nn.BatchNorm1d(10), nn.Dropout(0.5), task.new_model()).train()
    reference[1].eval()
    before = copy.deepcopy(reference.state_dict())
    seen = []
    reference.register_forward_hook(lambda module, _, out: seen.append((module.training, out)))
    model, rng = task.new_model(1), np.random.default_rng(0)
    train(model, task, 3, reference=reference, mu=1.0, rng=rng)
    assert [training for training, _ in seen] == [False] * 3
    assert reference.training and reference[0].training and not reference[1].training
    assert all(torch.equal(before[name], t) for name, t in reference.state_dict().items())


def test_a_task_without_divergence_needs_mu_zero(task):
    class Plain:
        batches, loss, evaluate = task.batches, task.loss, task.evaluate

    model = task.new_model()
    assert isinstance(Plain(), Task)
    with pytest.raises(ValueError, match="has no divergence"):
        train(
            model, Plain(), 1, reference=copy.deepcopy(model), mu=1.0, rng=np.random.default_rng(0)
        )
    train(model, Plain(), 1, rng=np.random.default_rng(0))
