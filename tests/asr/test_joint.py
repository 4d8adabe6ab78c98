import copy

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cspkit.arguments import ArgumentError
from cspkit.asr import DigitTask, Transducer, TransducerConfig, rnnt_loss
from cspkit.asr.joint import Joint, chunked_costs, chunked_divergence, joint_of
from cspkit.task import kl_divergence

FRAMES, LABELS = torch.tensor([7, 4, 1, 6]), torch.tensor([3, 5, 0, 1])
SIZES = [13, 40, 64, 128, 10**6]  # of chunks: one cell, a part of a row, rows, whole utterances


def problem(K=13, seed=0, dtype=torch.float64, joiner_size=6):
    """A model, the two inputs of its joiner, and targets with padding."""
    torch.manual_seed(seed)
    units = tuple(f"u{i}" for i in range(K - 1))
    sizes = {"encoder_size": 5, "predictor_size": 4, "embedding_size": 3, "encoder_layers": 1}
    model = Transducer(TransducerConfig(units=units, joiner_size=joiner_size, **sizes)).to(dtype)
    encoded = torch.randn(4, 7, 5, dtype=dtype, requires_grad=True)
    predicted = torch.randn(4, 6, 4, dtype=dtype, requires_grad=True)
    targets = torch.randint(0, K - 1, (4, 5))
    return model, encoded, predicted, targets


def inputs_and_weights(model, encoded, predicted):
    weights = [p for n, p in model.named_parameters() if n.startswith(("joiner", "output"))]
    return [encoded, predicted, *weights]


def inside():
    frame, label = torch.arange(7)[:, None], torch.arange(6)
    return (frame < FRAMES[:, None, None]) & (label <= LABELS[:, None, None])


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("largest", SIZES)
def test_costs_and_gradients_are_those_of_all_logits_at_once(largest):
    model, encoded, predicted, targets = problem()
    weights = inputs_and_weights(model, encoded, predicted)
    scale = torch.arange(1.0, 5, dtype=torch.float64)
    whole = rnnt_loss(model.join(encoded, predicted), targets, FRAMES, LABELS, reduction="none")
    costs = chunked_costs(model, encoded, predicted, targets, FRAMES, LABELS, largest=largest)
    assert costs.dtype == torch.float64
    close(costs, whole)
    expected = torch.autograd.grad((scale * whole).sum(), weights)
    found = torch.autograd.grad((scale * costs).sum(), weights, retain_graph=True)
    again = torch.autograd.grad((scale * costs).sum(), weights)
    close(found, expected)
    assert all(map(torch.equal, found, again))
    assert found[0][~inside().any(dim=2)].abs().max() == 0


@pytest.mark.parametrize("largest", [20, 10**6])
def test_the_gradient_of_the_costs_is_their_slope(largest):
    model, encoded, predicted, targets = problem(K=4, joiner_size=3)
    used = slice(2, 4)
    encoded, predicted = (x[used].detach().requires_grad_() for x in (encoded, predicted))

    def costs(encoded, predicted, weight):
        model.output.weight = weight
        integers = targets[used], FRAMES[used], LABELS[used]
        return chunked_costs(model, encoded, predicted, *integers, largest=largest)

    weight = model.output.weight.detach()
    del model.output.weight
    assert torch.autograd.gradcheck(costs, (encoded, predicted, weight.requires_grad_()))


@pytest.mark.parametrize("largest", SIZES)
def test_the_divergence_is_that_of_all_logits_at_once(largest):
    model, *parts, _ = problem()
    reference, *reference_parts, _ = problem(seed=1)
    weights = inputs_and_weights(model, *parts)
    others = inputs_and_weights(reference, *reference_parts)
    whole = kl_divergence(reference.join(*reference_parts)[inside()], model.join(*parts)[inside()])
    found = chunked_divergence(
        Joint(reference, *reference_parts), Joint(model, *parts), FRAMES, LABELS, largest=largest
    )
    close(found, whole)
    close(
        torch.autograd.grad(found, weights, retain_graph=True), torch.autograd.grad(whole, weights)
    )
    assert torch.autograd.grad(found, others, allow_unused=True) == (None,) * len(others)


def test_the_reference_runs_without_dropout_and_keeps_its_mode():
    model, *parts, _ = problem()
    reference = copy.deepcopy(model)
    reference.output = torch.nn.Sequential(torch.nn.Dropout(0.5), reference.output)
    reference.train()
    found = chunked_divergence(Joint(reference, *parts), Joint(model, *parts), FRAMES, LABELS)
    assert abs(found) < 1e-14
    assert reference.output[0].training


@pytest.mark.parametrize("filler", [float("nan"), float("inf")])
def test_padding_may_hold_anything(filler):
    model, encoded, predicted, targets = problem()
    results = []
    for value, label in ((0.0, 0), (filler, -100)):
        frames = encoded.detach().clone()
        for n, S in enumerate(FRAMES.tolist()):
            frames[n, S:] = value
        frames.requires_grad_()
        labels = targets.masked_fill(torch.arange(5) >= LABELS[:, None], label)
        costs = chunked_costs(model, frames, predicted, labels, FRAMES, LABELS, largest=64)
        joint = Joint(model, frames, predicted)
        divergence = chunked_divergence(joint, joint, FRAMES, LABELS, largest=64)
        results.append((costs, divergence, *torch.autograd.grad(costs.sum(), frames)))
    for clean, spoiled in zip(*results, strict=True):
        assert torch.equal(clean, spoiled)


@pytest.mark.parametrize("every", [False, True])
def test_units_that_are_ruled_out_cost_as_much_as_in_the_full_loss(every):
    model, encoded, predicted, targets = problem()
    found = []
    # The first label of the first utterance, or every unit of every cell
    with torch.no_grad():
        model.output.bias[slice(None) if every else targets[0, 0]] = -float("inf")
    for loss in (
        lambda: rnnt_loss(
            model.join(encoded, predicted), targets, FRAMES, LABELS, reduction="none"
        ),
        lambda: chunked_costs(model, encoded, predicted, targets, FRAMES, LABELS, largest=64),
    ):
        costs = loss()
        found.append((costs, *torch.autograd.grad(costs.sum(), (encoded, model.output.weight))))
    assert found[0][0].isinf().any() and found[0][0].isinf().all() == every
    close(found[1], found[0])


def test_autocast_computes_the_lattice_in_float32():
    model, encoded, predicted, targets = problem(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model.join(encoded, predicted)
        whole = rnnt_loss(logits, targets, FRAMES, LABELS, reduction="none")
        costs = chunked_costs(model, encoded, predicted, targets, FRAMES, LABELS, largest=64)
        joint = Joint(model, encoded, predicted)
        divergence = chunked_divergence(joint, joint, FRAMES, LABELS)
    assert logits.dtype == torch.bfloat16
    assert costs.dtype == divergence.dtype == torch.float32
    torch.testing.assert_close(costs, whole, rtol=1e-5, atol=0)
    weights = inputs_and_weights(model, encoded, predicted)
    for found, expected in zip(
        torch.autograd.grad(costs.sum(), weights),
        torch.autograd.grad(whole.sum(), weights),
        strict=True,
    ):
        assert (found - expected).norm() < 0.02 * expected.norm()


class Largest(TorchDispatchMode):
    """Notes how many numbers the largest new tensor has."""

    most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        results = function(*args, **(kwargs or {}))
        for result in results if isinstance(results, (tuple, list)) else [results]:
            if isinstance(result, torch.Tensor):
                self.most = max(self.most, result.numel())
        return results


@pytest.mark.parametrize(("K", "joiner_size"), [(41, 8), (5, 80)])
@pytest.mark.parametrize("largest", [600, 1000])
def test_no_tensor_is_larger_than_the_bound(K, joiner_size, largest):
    model, encoded, predicted, targets = problem(K, joiner_size=joiner_size)
    encoded, predicted, targets = encoded[:1], predicted[:1], targets[:1]
    lengths = FRAMES[:1], LABELS[:1]
    with Largest() as notes:
        model.join(encoded, predicted[:, :4])
    assert notes.most == 7 * 4 * max(K, joiner_size) > largest
    with Largest() as notes:
        chunked_costs(
            model, encoded, predicted, targets, *lengths, largest=largest
        ).sum().backward()
    assert largest / 2 < notes.most <= largest
    joint = Joint(model, encoded, predicted)
    with Largest() as notes:
        chunked_divergence(joint, joint, *lengths, largest=largest).backward()
    assert largest / 2 < notes.most <= largest


def test_weights_that_change_before_the_backward_pass_are_noticed():
    model, encoded, predicted, targets = problem()
    loss = chunked_costs(model, encoded, predicted, targets, FRAMES, LABELS).sum()
    with torch.no_grad():
        model.output.weight *= 2
    with pytest.raises(RuntimeError, match="weights of the model have changed since the forward"):
        loss.backward()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"largest": 12}, "largest is 12: expected a whole number >= 13"),
        ({"targets": torch.zeros(4, 4, dtype=torch.long)}, r"targets have shape \(4, 4\)"),
        ({"logit_lengths": FRAMES + 1}, "logit_lengths are from 2 to 8: expected 1 to 7"),
        ({"target_lengths": LABELS + 1}, "target_lengths are from 1 to 6: expected 0 to 5"),
        ({"targets": torch.full((4, 5), 12)}, "targets contain 12"),
        ({"encoded": torch.zeros(4, 7)}, r"encoded is \(4, 7\): expected a tensor of 3"),
        ({"predicted": None}, "predicted is NoneType: expected a tensor of 3"),
        ({"predicted": torch.zeros(3, 6, 4)}, r"predicted has 3 utterances: expected 4"),
    ],
)
def test_bad_input_is_named(change, message):
    model, encoded, predicted, targets = problem()
    call = {"model": model, "encoded": encoded, "predicted": predicted, "targets": targets}
    call |= {"logit_lengths": FRAMES, "target_lengths": LABELS}
    with pytest.raises(ArgumentError, match=message):
        chunked_costs(**(call | change))


def test_joints_of_different_units_are_refused():
    model, *parts, _ = problem()
    other, *_ = problem(K=14)
    with pytest.raises(ArgumentError, match=r"reference has \(N, K\) = \(4, 14\) .*joint \(4, 13"):
        chunked_divergence(Joint(other, *parts), Joint(model, *parts), FRAMES, LABELS)


def test_a_task_may_return_a_joint_in_place_of_the_logits():
    task = DigitTask(batch_size=12, divergence_every=2, pool=0)
    reference, model = task.new_model(0), task.new_model(1)
    batch = next(task.batches("train", np.random.default_rng(0)))
    loss, logits = task.loss(model, batch)
    divergence = task.divergence(task.reference_outputs(reference, batch), logits, batch)
    lengths = batch.feature_lengths // task.config.stack, batch.target_lengths
    joint = joint_of(model, batch.features, batch.feature_lengths, batch.targets)
    costs = chunked_costs(*joint, batch.targets, *lengths, largest=5000)
    used = slice(None, None, 2)
    expected = joint_of(reference, *(part[used] for part in batch[:3]))
    found = chunked_divergence(expected, joint.pick(used), *(part[used] for part in lengths))
    torch.testing.assert_close((costs / lengths[1]).mean(), loss)
    torch.testing.assert_close(found, divergence)
    (divergence + loss).backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    (found + (costs / lengths[1]).mean()).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad - gradients[name]).norm() < 1e-4 * gradients[name].norm(), name


def test_no_utterances_have_no_divergence():
    model, *_ = problem(dtype=torch.float32)
    nothing = torch.zeros(0, dtype=torch.long)
    joint = joint_of(model, torch.zeros(0, 9, 13), nothing, torch.zeros(0, 2, dtype=torch.long))
    assert chunked_divergence(joint, joint, nothing, nothing) == 0
