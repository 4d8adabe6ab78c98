"""The pool: fixed groups of strings, whose reference outputs are computed once."""

import copy
import pickle
from itertools import islice

import numpy as np
import pytest
import torch

from cspkit.arguments import ArgumentError
from cspkit.asr import DigitTask
from cspkit.pruning import CSP, prunable_weights
from cspkit.training import train


class Counting(DigitTask):
    """Counts the utterances whose outputs were computed."""

    computed = 0

    def outputs(self, model, batch, bucket=8):
        self.computed += len(batch.targets)
        return super().outputs(model, batch, bucket)


def batches(task, n, seed=0):
    return list(islice(task.batches("train", np.random.default_rng(seed)), n))


@pytest.fixture(scope="module")
def task():
    return DigitTask(batch_size=6, pool=2)


@pytest.fixture(scope="module")
def models(task):
    return [task.new_model(seed) for seed in range(2)]


def strings(batch, positions):
    """The features of some utterances, without padding."""
    return [
        batch.features[i, :length]
        for i, length in zip(positions, batch.feature_lengths[positions], strict=True)
    ]


def test_the_utterances_of_a_group_are_the_same_and_the_others_are_new(task):
    groups, new = {}, []
    for batch in batches(task, 12):
        assert len(batch.targets) == 6 and len(batch.compared) == 3
        assert (batch.feature_lengths.diff() >= 0).all()
        pooled = strings(batch, batch.compared)
        for one, other in zip(groups.setdefault(batch.group, pooled), pooled, strict=True):
            assert torch.equal(one, other)
        rest = [i for i in range(6) if i not in batch.compared.tolist()]
        new += [tuple(s.flatten().tolist()) for s in strings(batch, rest)]
    assert len(groups) == 2 and len(set(new)) == len(new) == 36
    first, second = groups.values()
    assert not torch.equal(torch.cat(first), torch.cat(second))


def test_the_generator_alone_decides_the_pool(task):
    for one, other in zip(batches(task, 4), batches(task, 4), strict=True):
        assert torch.equal(one.features, other.features) and one.group == other.group
    keys = {b.group[0] for seed in (0, 1) for b in batches(task, 2, seed)}
    assert len(keys) == 2


def test_the_pool_is_off_with_a_curriculum_and_when_it_is_0():
    assert DigitTask().pool == 128 and DigitTask().settings["pool"] == 128
    assert DigitTask(curriculum=100).pool == 0
    assert batches(DigitTask(pool=0, batch_size=4), 1)[0].group is None
    with pytest.raises(ArgumentError, match="pool is 3 with curriculum 100: expected one of them"):
        DigitTask(pool=3, curriculum=100)
    with pytest.raises(ArgumentError, match="pool is -1: expected a whole number"):
        DigitTask(pool=-1)


def test_the_divergence_is_that_of_the_pooled_utterances(task, models):
    (batch,), (reference, model) = batches(task, 1), models
    with torch.no_grad():
        found = task.divergence(
            task.reference_outputs(reference, batch), task.outputs(model, batch), batch
        )
        pooled, whole = batch.pick(batch.compared), DigitTask(divergence_every=1, pool=0)
        expected = whole.divergence(
            whole.outputs(reference, pooled), whole.outputs(model, pooled), pooled
        )
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_outputs_of_a_reference_are_computed_once_for_each_group(models):
    task = Counting(batch_size=6, pool=2)
    for batch in batches(task, 10):
        outputs = task.reference_outputs(models[0], batch)
        assert not outputs.requires_grad
        assert torch.equal(outputs, DigitTask.outputs(task, models[0], batch.pick(batch.compared)))
    assert task.computed == 2 * 3


@pytest.mark.parametrize("change", ["another model", "another weight", "another pool", "copy"])
def test_stored_outputs_are_not_used_for_anything_else(models, change):
    task, model, seed = Counting(batch_size=6, pool=1), copy.deepcopy(models[0]), 0
    before = task.reference_outputs(model, batches(task, 1)[0])
    if change == "another model":
        model = models[1]
    elif change == "another weight":
        with torch.no_grad():
            model.output.bias[0] += 1
    elif change == "another pool":
        seed = 1
    else:
        task = pickle.loads(pickle.dumps(task))
        assert not task._stored and not copy.deepcopy(task)._stored
    task.computed = 0
    (batch,) = batches(task, 1, seed)
    after = task.reference_outputs(model, batch)
    assert task.computed == 3
    if change != "copy":
        assert before.shape != after.shape or not torch.equal(before, after)


def test_a_resumed_run_ends_with_the_same_weights(models, tmp_path):
    def run(state_file, kill_after=None):
        def on_step(row):
            if row["step"] == kill_after:
                raise KeyError

        model = copy.deepcopy(models[0])
        train(
            model, DigitTask(batch_size=6, pool=3), 8, mu=1.0, reference=models[1],
            pruner=CSP(prunable_weights(model), 0.9, 8), rng=np.random.default_rng(0),
            on_step=on_step, state_file=state_file, state_every=3,
        )  # fmt: skip
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    with pytest.raises(KeyError):
        run(tmp_path / "state", 4)
    assert torch.equal(run(tmp_path / "state"), run(None))
