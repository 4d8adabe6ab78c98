import copy
import functools
import itertools
import signal

import numpy as np
import pytest
import torch
from blobs import Blobs
from torch import nn

from cspkit.arguments import ArgumentError
from cspkit.files import locked
from cspkit.resume import Interrupted
from cspkit.training import Pruner, Task, rate_factor, train

HOOKS = (
    "choose", "dense_now", "show", "after_backward", "before_update", "after_update", "conclude",
)  # fmt: skip


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


def test_the_base_pruner_prunes_nothing(task):
    dense, pruned = task.new_model(), task.new_model()
    train(dense, task, 20, rng=np.random.default_rng(0))
    pruner = Pruner(dict(pruned.named_parameters()))
    train(pruned, task, 20, pruner=pruner, rng=np.random.default_rng(0))
    assert torch.equal(weights(dense), weights(pruned))
    assert pruner.steps_done == 20 and pruner.finished


def test_the_hooks_come_in_order(task):
    calls = []

    class Scribe(Pruner):
        def __init__(self, weights):
            super().__init__(weights)
            for name in HOOKS:
                setattr(self, name, lambda *step, name=name: calls.append((name, *step)) or True)

    model = task.new_model()
    scribe = Scribe(dict(model.named_parameters()))
    train(model, task, 2, pruner=scribe, rng=np.random.default_rng(0))
    steps = [(hook, step) for step in (0, 1) for hook in HOOKS[:6]]
    assert [c for c in calls if c[0] != "show"] == [
        *[c for c in steps if c[0] != "show"],
        ("conclude",),
    ]
    assert calls.index(("show",)) == 2


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
        ({"optimizer": 3}, "optimizer is 3: expected a class such as torch.optim.SGD"),
        ({"optimizer": lambda weights, lr: lr}, "optimizer returned a float: expected a torch"),
        ({"optimizer": lambda weights: 3}, r"optimizer failed with \(parameters, lr=0.003\)"),
        (
            {"optimizer": torch.optim.LBFGS},
            "optimizer returned a LBFGS: expected .*without a closure",
        ),
        (
            {"optimizer": lambda weights, lr: torch.optim.SGD(nn.Linear(2, 2).parameters())},
            "optimizer returned an optimizer of other parameters",
        ),
        ({"pruner": 3}, "pruner is 3: expected a cspkit.training.Pruner"),
    ],
)
def test_bad_arguments_are_named(task, change, message):
    call = {"steps": 1, "rng": np.random.default_rng(0)} | change
    model = task.new_model()
    before = weights(model).clone()
    with pytest.raises(ValueError, match=message):
        train(model, task, **call)
    assert torch.equal(weights(model), before)


@pytest.mark.parametrize("kind", [list, iter])
def test_batches_that_end_start_over(task, kind):
    seen = []

    class Short(Blobs):
        def batches(self, split, rng):
            return kind(list(itertools.islice(super().batches(split, rng), 3)))

        def loss(self, model, batch):
            seen.append(batch[0].sum().item())
            return super().loss(model, batch)

    train(task.new_model(), Short(), np.int64(7), rng=np.random.default_rng(0))
    assert len(seen) == len(set(seen)) == 7  # the generator goes on


def test_a_data_loader_is_gone_through_again_and_again(task):
    class Loaded(Blobs):
        def batches(self, split, rng):
            data = torch.utils.data.TensorDataset(self.x[:90], self.y[:90])
            return torch.utils.data.DataLoader(data, batch_size=30)

    log = train(task.new_model(), Loaded(), 40, rng=np.random.default_rng(0), rate=1e-2)
    assert len(log) == 40 and log[-1]["loss"] < 0.5 * log[0]["loss"]


@pytest.mark.parametrize("stop", [0, 4, 9, 15])
def test_a_loader_that_shuffles_is_resumed_to_the_bit(task, tmp_path, stop):
    class Loaded(Blobs):
        def batches(self, split, rng):
            data = torch.utils.data.TensorDataset(self.x[:90], self.y[:90])
            return torch.utils.data.DataLoader(data, batch_size=30, shuffle=True)

    class KilledError(Exception): ...

    def run(kill_at=None, seed=3, **state):
        def watch(row):
            if row["step"] == kill_at:
                raise KilledError

        model = nn.Sequential(nn.Dropout(0.2), task.new_model())
        torch.manual_seed(seed)  # of the dropout
        call = {"on_step": watch, "state_every": 2, "rate": 1e-2} | state
        train(model, Loaded(), 20, rng=np.random.default_rng(1), **call)
        return weights(model)

    unbroken = run()
    state = tmp_path / "state"
    with pytest.raises(KilledError):
        run(stop, state_file=state)
    assert torch.equal(run(state_file=state, seed=9 if stop else 3), unbroken)


def test_batches_that_are_none_are_named(task):
    class Missing(Blobs):
        def batches(self, split, rng):
            return None

    with pytest.raises(ArgumentError, match="batches of Missing returned a NoneType"):
        train(task.new_model(), Missing(), 5, rng=np.random.default_rng(0))


def test_batches_that_give_nothing_are_named(task):
    class Empty(Blobs):
        def batches(self, split, rng):
            return []

    with pytest.raises(ArgumentError, match="batches of Empty gave nothing for 'dev'"):
        Task.evaluate(Empty(), task.new_model(), "dev")
    with pytest.raises(ArgumentError, match="batches of Empty gave nothing for 'train'"):
        train(task.new_model(), Empty(), 5, rng=np.random.default_rng(0))


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


class Plain(Task):
    """Only what a task must have."""

    def __init__(self):
        self.blobs = Blobs()

    def batches(self, split, rng):
        return self.blobs.batches(split, rng)

    def loss(self, model, batch):
        return self.blobs.loss(model, batch)


def test_a_task_without_divergence_needs_mu_zero(task):
    model = task.new_model()
    call = {"reference": copy.deepcopy(model), "rng": np.random.default_rng(0)}
    with pytest.raises(
        ArgumentError, match="mu is 1.0, but Plain has no divergence: expected mu=0"
    ):
        train(model, Plain(), 1, mu=1.0, **call)
    train(model, Plain(), 1, **call)


def test_a_task_is_evaluated_by_its_mean_loss_in_evaluation_mode(task):
    model = nn.Sequential(nn.Dropout(0.9), task.new_model()).train()
    batch = next(task.batches("dev", np.random.default_rng(0)))
    loss, _ = task.loss(copy.deepcopy(model).eval(), batch)
    assert Plain().evaluate(model, "dev") == {"loss": pytest.approx(loss.item())}
    assert model.training


@pytest.mark.parametrize("wrong", [[1, 2], None, object()])
def test_an_object_that_is_no_task_is_refused(task, wrong):
    with pytest.raises(ArgumentError, match="task is a .*: expected an object of a subclass of"):
        train(task.new_model(), wrong, 1, rng=np.random.default_rng(0))


def test_a_task_without_its_methods_says_which():
    class Half(Task):
        def batches(self, split, rng):
            yield 0

    with pytest.raises(NotImplementedError, match=r"Half needs a method `loss\(model, batch\)`"):
        train(nn.Linear(2, 2), Half(), 1, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    "optimizer",
    [
        torch.optim.AdamW,
        torch.optim.Adagrad,
        functools.partial(torch.optim.SGD, momentum=0.9),
        lambda weights, lr: torch.optim.RMSprop([{"params": weights, "lr": lr / 2}]),
    ],
)
def test_any_optimizer_may_train_and_is_resumed_to_the_bit(task, tmp_path, optimizer):
    class KilledError(Exception): ...

    def run(kill_at=None, **state):
        def watch(row):
            if row["step"] == kill_at:
                raise KilledError

        model = task.new_model()
        call = {"rate": 0.02, "optimizer": optimizer, "on_step": watch, "state_every": 4} | state
        log = train(model, task, 30, rng=np.random.default_rng(0), **call)
        assert log[-1]["loss"] < log[0]["loss"]
        return weights(model)

    unbroken = run()
    with pytest.raises(KilledError):
        run(21, state_file=tmp_path / "state")
    assert torch.equal(run(state_file=tmp_path / "state"), unbroken)


def test_what_the_loop_cannot_train_is_refused_before_training(task):
    wrong = {
        "'0.weight', whose shape is not known yet": nn.Sequential(nn.LazyLinear(5)),
        "'0.weight' on the meta device": nn.Sequential(nn.Linear(10, 5, device="meta")),
        "'0.weight', which is complex": nn.Sequential(nn.Linear(10, 5, dtype=torch.complex64)),
        "'1', an Embedding with sparse=True": nn.Sequential(
            nn.Linear(10, 5), nn.Embedding(3, 4, sparse=True)
        ),
        "ReLU has no weights": nn.ReLU(),
    }
    for message, model in wrong.items():
        with pytest.raises(ArgumentError, match=f"model .*{message}"):
            train(model, task, 1, rng=np.random.default_rng(0))


def test_ctrl_c_ends_the_step_saves_and_says_how_to_go_on(task, tmp_path):
    def run(interrupt_at=None):
        def watch(row):
            if row["step"] == interrupt_at:
                signal.raise_signal(signal.SIGINT)

        model = task.new_model()
        call = {"state_file": tmp_path / "state", "on_step": watch, "rate": 1e-2}
        train(model, task, 20, rng=np.random.default_rng(0), **call)
        return weights(model)

    unbroken = run()
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(
        Interrupted, match="after 8 of 20 steps; the state of the run is in .*state"
    ):
        run(7)
    assert signal.getsignal(signal.SIGINT) is handler
    assert torch.equal(run(), unbroken)
    assert not list(tmp_path.iterdir())


def test_a_state_file_has_one_writer(task, tmp_path):
    call = {"rng": np.random.default_rng(0), "state_file": tmp_path / "state"}
    with locked(tmp_path / "state"), pytest.raises(ArgumentError, match="in use by another proc"):
        train(task.new_model(), task, 5, **call)
    with pytest.raises(ArgumentError, match="state_file is '/dev/null'"):
        train(task.new_model(), task, 5, rng=call["rng"], state_file="/dev/null")


def test_extra_state_of_a_module_is_no_tensor(task, tmp_path):
    class Counting(nn.Sequential):
        def get_extra_state(self):
            return {"calls": 3}

        def set_extra_state(self, state): ...

    model = Counting(task.new_model())
    train(model, task, 2, rng=np.random.default_rng(0))
    with pytest.raises(ArgumentError, match="state_file cannot keep '_extra_state' of the model"):
        train(model, task, 2, rng=np.random.default_rng(0), state_file=tmp_path / "state")
