"""Everything is computed where the model is: nothing is created on a device of its own choice."""

import copy
from collections import namedtuple

import numpy as np
import pytest
import torch
from blobs import Blobs

from cspkit.arguments import ArgumentError
from cspkit.asr import (
    DigitTask,
    StreamingRecogniser,
    Transducer,
    align,
    beam_search,
    emissions,
    rnnt_loss,
    transcribe,
)
from cspkit.asr.ctc import CTCTask, ctc_transcribe
from cspkit.pruning import prune
from cspkit.training import on_device, train

DIGITS = "seven three"


@pytest.fixture(scope="module")
def task():
    return DigitTask(batch_size=4)


@pytest.fixture(scope="module")
def model(task):
    model = task.new_model(0)
    model.output.weight.data *= 10  # so that an untrained model says something
    return model


@pytest.fixture(scope="module")
def batch(task):
    return next(task.batches("dev", np.random.default_rng(0)))


@pytest.fixture(scope="module")
def strings(task):
    return [s.features for s in task.corpus.strings("dev")[:3]]


def loss_and_gradient(task, model, batch):
    model = copy.deepcopy(model)
    loss, outputs = task.loss(model, batch)
    reference = task.reference_outputs(model, batch).detach()
    reference = reference + torch.ones_like(reference)
    divergence = task.divergence(reference, outputs, batch)
    (loss + divergence).backward()
    return [loss.item(), *(p.grad.clone() for p in model.parameters())]


COMPUTATIONS = {
    "loss, divergence, gradient": lambda task, model, batch, strings: loss_and_gradient(
        task, model, batch
    ),
    "greedy": lambda task, model, batch, strings: transcribe(model, strings),
    "emissions": lambda task, model, batch, strings: emissions(model, strings),
    "beam": lambda task, model, batch, strings: transcribe(model, strings, beam=3),
    "beam search": lambda task, model, batch, strings: beam_search(
        model, batch.features, batch.feature_lengths, 2
    ),
    "streaming": lambda task, model, batch, strings: StreamingRecogniser(model).step(strings[0]),
    "alignment": lambda task, model, batch, strings: align(model, strings[0], DIGITS).gamma,
}


def same(one, other):
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(np.all(np.asarray(one) == np.asarray(other)))


@pytest.mark.parametrize("name", COMPUTATIONS)
def test_no_tensor_is_made_on_the_default_device(task, model, batch, strings, name):
    # Tensors of the device "meta" have no values: with it as the default, one that is made
    # without a word about its device breaks what it is used in.
    expected = COMPUTATIONS[name](task, model, batch, strings)
    with torch.device("meta"):
        assert torch.zeros(1).is_meta
        found = COMPUTATIONS[name](task, model, batch, strings)
    assert same(found, expected)
    assert len(expected) > 0


def test_no_tensor_of_the_ctc_model_is_made_on_the_default_device(batch, strings):
    task = CTCTask(batch_size=4)
    model = task.new_model(0)
    model.output.weight.data *= 30
    loss, words = loss_and_gradient(task, model, batch), ctc_transcribe(model, strings)
    assert any(words)
    with torch.device("meta"):
        assert same(loss_and_gradient(task, model, batch), loss)
        assert ctc_transcribe(model, strings) == words


def test_batches_go_where_the_model_is():
    Pair = namedtuple("Pair", "x y")  # noqa: PYI024
    x = torch.zeros(2)
    moved = on_device(Pair(x, {"z": [x, "name"]}), torch.device("meta"))
    assert isinstance(moved, Pair)
    assert moved.x.is_meta and moved.y["z"][0].is_meta and moved.y["z"][1] == "name"


def test_the_loop_moves_each_batch_to_the_model():
    asked = []

    class Batch:
        def __init__(self, parts):
            self.parts = parts

        def to(self, device):
            asked.append(device)
            return self.parts

    class Boxed(Blobs):
        def batches(self, split, rng):
            return map(Batch, super().batches(split, rng))

    task = Boxed()
    train(task.new_model(), task, 2, rng=np.random.default_rng(0))
    assert asked == [torch.device("cpu")] * 2


def test_a_batch_moves_as_a_whole(batch):
    moved = batch.to("meta")
    for name in ("features", "feature_lengths", "targets", "target_lengths"):
        assert getattr(moved, name).is_meta
        assert getattr(moved, name).shape == getattr(batch, name).shape
    assert Transducer().to("meta").device.type == "meta"


def test_the_loss_wants_all_of_its_input_on_one_device():
    logits = torch.zeros(1, 4, 3, 5)
    integers = [torch.ones(1, 2, dtype=torch.long), torch.tensor([4]), torch.tensor([2])]
    for i, name in enumerate(("targets", "logit_lengths", "target_lengths")):
        elsewhere = [n.to("meta") if i == j else n for j, n in enumerate(integers)]
        with pytest.raises(ArgumentError, match=f"{name} are on meta, logits on cpu"):
            rnnt_loss(logits, *elsewhere)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")
def test_a_gpu_gives_what_the_cpu_gives(task, model, batch, strings, tmp_path):
    there = copy.deepcopy(model).to("cuda")
    for beam in (1, 3):
        assert transcribe(there, strings, beam=beam) == transcribe(model, strings, beam=beam)
    assert StreamingRecogniser(there).step(strings[0]) == StreamingRecogniser(model).step(
        strings[0]
    )
    np.testing.assert_allclose(
        align(there, strings[0], DIGITS).gamma, align(model, strings[0], DIGITS).gamma, atol=1e-3
    )
    loss = task.loss(model, batch)[0].item()
    assert task.loss(there, batch.to("cuda"))[0].item() == pytest.approx(loss, rel=1e-3)
    pruned = prune(there, task, "csp", 0.9, steps=3, state_file=tmp_path / "state")
    assert pruned.model.device.type == "cuda"
    assert pruned.sparsity == pytest.approx(0.9, abs=1e-5)
    figures = (task.evaluate(m, "dev")["loss"] for m in (there, model))
    assert next(figures) == pytest.approx(next(figures), rel=1e-3)
