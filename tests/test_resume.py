import functools
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from blobs import Blobs
from safetensors.torch import save_file

from cspkit.pruning import CSP, GMP, PRUNERS, prunable_weights, prune
from cspkit.resume import FORMAT, stored_weights
from cspkit.training import train

STEPS = 90


class KilledError(Exception):
    pass


def run(
    state_file, method=CSP, kill_after=None, seed=0, weights=0, teacher=1, part=0, sparsity=0.9,
    **change,
):  # fmt: skip
    """Prune a new classifier; return all of its weights. May be killed after a step."""
    task = Blobs()
    task.settings = {"part": part}
    model = task.new_model(weights)
    pruner = method(prunable_weights(model), sparsity, STEPS) if method else None

    def on_step(row):
        if row["step"] == kill_after:
            raise KilledError

    call = {"steps": STEPS, "state_every": 7, "rate": 1e-2} | change
    log = train(
        model, task, pruner=pruner, reference=task.new_model(teacher), mu=0.5, on_step=on_step,
        rng=np.random.default_rng(seed), state_file=state_file, **call,
    )  # fmt: skip
    return torch.cat([p.detach().flatten() for p in model.parameters()]), log


@functools.cache
def unbroken_run(method):
    return run(None, method)


@pytest.mark.parametrize(
    ("method", "kill_after"),
    [(method, step) for method in (None, GMP, CSP) for step in (0, 6, 20, 59, 60, 75, 89)]
    + [(method, step) for method in PRUNERS.values() for step in (34, 75)],
)
def test_a_killed_run_ends_with_the_same_weights_to_the_bit(tmp_path, method, kill_after):
    state = tmp_path / "state.safetensors"
    unbroken, unbroken_log = unbroken_run(method)
    with pytest.raises(KilledError):
        run(state, method, kill_after)
    resumed, log = run(state, method)
    assert torch.equal(resumed, unbroken)
    assert log == unbroken_log
    assert not list(tmp_path.iterdir())


def test_killed_again_and_again(tmp_path):
    state = tmp_path / "state.safetensors"
    for kill_after in (10, 30, 31, 70):
        with pytest.raises(KilledError):
            run(state, kill_after=kill_after)
    assert torch.equal(run(state)[0], run(None)[0])


def test_a_process_that_is_really_killed(tmp_path):
    state = tmp_path / "state.safetensors"
    script = (
        "import os, signal, sys, test_resume\n"
        "test_resume.KilledError = None\n"
        "def die(row):\n"
        "    row['step'] == 40 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "original = test_resume.train\n"
        "test_resume.train = lambda *a, **k: original(*a, **(k | {'on_step': die}))\n"
        "test_resume.run(sys.argv[1])\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    dead = subprocess.run([sys.executable, "-c", script, str(state)], env=environment, check=False)
    assert dead.returncode == -signal.SIGKILL
    assert state.is_file()
    assert torch.equal(run(state)[0], run(None)[0])


def tied(state_file, kill_after=None):
    task = Blobs()
    model = task.new_model()
    model[4] = torch.nn.Linear(40, 40)
    model[4].weight = model[2].weight

    def on_step(row):
        if row["step"] == kill_after:
            raise KilledError

    pruned = prune(
        model, task, "csp", 0.9, steps=STEPS, state_file=state_file, state_every=7, on_step=on_step
    )
    assert pruned.model[4].weight is pruned.model[2].weight
    return torch.cat([p.detach().flatten() for p in pruned.model.parameters()])


def pruned_weights(task, model, state_file=None, kill_after=None, method="csp"):
    """Prune for 24 steps; return all weights. May be killed after a step."""

    def on_step(row):
        if row["step"] == kill_after:
            raise KilledError

    call = {"steps": 24, "state_file": state_file, "state_every": 7, "on_step": on_step}
    pruned = prune(model, task, method, 0.9, **call).model
    return torch.cat([p.detach().flatten() for p in pruned.parameters()])


@pytest.mark.parametrize("method", ["csp", "admm"])
def test_weights_that_lie_transposed_in_memory_are_resumed(tmp_path, method):
    task, state_file = Blobs(), tmp_path / "state.safetensors"
    model = task.new_model()
    model[2].weight.data = model[2].weight.data.T.contiguous().T
    assert not model[2].weight.is_contiguous()
    with pytest.raises(KilledError):
        pruned_weights(task, model, state_file, 15, method)
    resumed = pruned_weights(task, model, state_file, None, method)
    assert torch.equal(resumed, pruned_weights(task, model, None, None, method))


def test_a_model_of_half_precision_is_resumed(tmp_path):
    task, state_file = Blobs(), tmp_path / "state.safetensors"
    task.x = task.x.bfloat16()
    model = task.new_model().bfloat16()
    with pytest.raises(KilledError):
        pruned_weights(task, model, state_file, 15)
    assert torch.equal(pruned_weights(task, model, state_file), pruned_weights(task, model))


def test_a_model_with_tied_weights_is_resumed(tmp_path):
    state = tmp_path / "state.safetensors"
    with pytest.raises(KilledError):
        tied(state, kill_after=40)
    assert torch.equal(tied(state), tied(None))


def test_numbers_of_numpy_are_as_good(tmp_path):
    task = Blobs()
    train(
        task.new_model(), task, np.int64(9), rate=np.float32(0.01), rng=np.random.default_rng(0),
        state_file=tmp_path / "state", state_every=np.int64(4),
    )  # fmt: skip


def test_the_weights_of_the_last_good_step_can_be_read(tmp_path):
    class Bad(Blobs):
        def loss(self, model, batch):
            loss, outputs = super().loss(model, batch)
            self.step = getattr(self, "step", -1) + 1
            return loss * (float("nan") if self.step == 10 else 1), outputs

    state, model = tmp_path / "state", Blobs().new_model()
    seen = []
    with pytest.raises(FloatingPointError, match=f"last good state is in {state}"):
        train(
            model, Bad(), 30, rng=np.random.default_rng(0), state_file=state, state_every=4,
            on_step=lambda row: seen.append(model[0].weight.detach().clone()),
        )  # fmt: skip
    again = Blobs().new_model(1)
    again.load_state_dict(stored_weights(state))
    assert torch.equal(again[0].weight, seen[7])
    save_file({"a": torch.zeros(1)}, tmp_path / "other", metadata={"format": FORMAT})
    with pytest.raises(ValueError, match="holds no training state"):
        stored_weights(tmp_path / "other")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 2e-2}, "its rate is 0.01"),
        ({"seed": 5}, "its generator is"),
        ({"steps": 80}, "steps"),
        ({"method": GMP}, "method is"),
        ({"method": None}, "method is"),
        ({"sparsity": 0.8}, "method is"),
        ({"weights": 1}, "weights is"),
        ({"teacher": 2}, "reference is"),
        ({"part": 1}, "its task is .*'part': 0"),
    ],
)
def test_the_state_of_another_run_is_refused(tmp_path, change, message):
    state = tmp_path / "state.safetensors"
    with pytest.raises(KilledError):
        run(state, kill_after=30)
    with pytest.raises(ValueError, match=f"belongs to another run.*{message}"):
        run(state, **change)


def test_a_damaged_state_is_refused(tmp_path):
    state = tmp_path / "state.safetensors"
    with pytest.raises(KilledError):
        run(state, kill_after=30)
    state.write_bytes(state.read_bytes()[:200])
    with pytest.raises(ValueError, match="truncated"):
        run(state)


def test_a_pruner_that_cannot_be_resumed_is_refused(tmp_path):
    class Forgetful(CSP):
        state = property(lambda self: getattr(self, "missing"))  # noqa: B009

    with pytest.raises(ValueError, match="Forgetful without `state`"):
        run(tmp_path / "state.safetensors", Forgetful)


def test_dropout_goes_on_where_it_was(tmp_path):
    task, ends = Blobs(), []
    for kill_after in (None, 20):
        torch.manual_seed(0)
        model = torch.nn.Sequential(task.new_model(), torch.nn.Dropout(0.5))

        def on_step(row, kill_after=kill_after):
            if row["step"] == kill_after:
                raise KilledError

        call = {"state_file": tmp_path / "state", "state_every": 7}
        if kill_after is not None:
            fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            with pytest.raises(KilledError):
                train(model, task, 40, rng=np.random.default_rng(0), on_step=on_step, **call)
            model.load_state_dict(fresh)
        train(model, task, 40, rng=np.random.default_rng(0), **call)
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*ends)


def test_on_step_can_end_a_run():
    task = Blobs()
    log = train(
        task.new_model(), task, 50, rng=np.random.default_rng(0), on_step=lambda r: r["step"] == 9
    )
    assert len(log) == 10
