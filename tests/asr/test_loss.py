from math import comb, log

import numpy as np
import pytest
import torch

from cspkit.arguments import ArgumentError
from cspkit.asr import lattice_posteriors, rnnt_loss

CASE = [
    [[0.1, 0.6, 0.1, 0.1, 0.1], [0.1, 0.1, 0.6, 0.1, 0.1], [0.1, 0.1, 0.2, 0.8, 0.1]],
    [[0.1, 0.6, 0.1, 0.1, 0.1], [0.1, 0.1, 0.2, 0.1, 0.1], [0.7, 0.1, 0.2, 0.1, 0.1]],
]


def brute_force(logits, labels, blank):
    """Sum over all alignments, each a way to place the labels among the frames."""

    def paths(t, u):
        if t == len(log_p) - 1 and u == len(labels):
            return log_p[t, u, blank].exp()
        total = torch.zeros((), dtype=torch.float64)
        if t + 1 < len(log_p):
            total = total + log_p[t, u, blank].exp() * paths(t + 1, u)
        if u < len(labels):
            total = total + log_p[t, u, labels[u]].exp() * paths(t, u + 1)
        return total

    log_p = logits.double().log_softmax(-1)
    return -paths(0, 0).log()


def random_case(N, T, U, K, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(N, T, U + 1, K, generator=generator, dtype=dtype)
    return logits, torch.randint(0, K - 1, (N, U), generator=generator)


@pytest.mark.parametrize(("blank", "cost"), [(0, 4.495666773770733), (-1, 5.095666773770732)])
def test_reference_values(blank, cost):
    logits = torch.tensor([CASE], dtype=torch.float64)
    lengths = torch.tensor([2])
    loss = rnnt_loss(logits, torch.tensor([[1, 2]]), lengths, lengths, blank=blank)
    assert abs(loss.item() - cost) < 1e-9


def test_equal_logits_have_a_closed_form():
    T, U, K = 10, 2, 4
    logits = torch.zeros(1, T, U + 1, K, dtype=torch.float64)
    loss = rnnt_loss(logits, torch.tensor([[0, 1]]), torch.tensor([T]), torch.tensor([U]))
    assert abs(loss.item() - ((T + U) * log(K) - log(comb(T - 1 + U, U)))) < 1e-9
    assert abs(loss.item() - 12.628199148206214) < 1e-9


@pytest.mark.parametrize("T", [1, 2, 4])
@pytest.mark.parametrize("U", [0, 1, 4])
@pytest.mark.parametrize("K", [2, 5])
def test_equals_the_sum_over_all_alignments(T, U, K):
    logits, targets = random_case(1, T, U, K)
    expected = brute_force(logits[0], targets[0].tolist(), K - 1)
    loss = rnnt_loss(logits, targets, torch.tensor([T]), torch.tensor([U]))
    assert abs(loss - expected) < 1e-9


@pytest.mark.parametrize("fused", [True, False])
def test_gradient_of_a_ragged_batch(fused):
    logits, targets = random_case(3, 5, 3, 4)
    frames, labels = torch.tensor([5, 3, 1]), torch.tensor([3, 1, 0])

    def costs(x):
        return rnnt_loss(x, targets, frames, labels, reduction="none", fused_log_softmax=fused)

    assert torch.autograd.gradcheck(costs, logits.requires_grad_())


def test_padding_neither_counts_nor_gets_a_gradient():
    logits, targets = random_case(2, 6, 4, 5)
    frames, labels = torch.tensor([6, 4]), torch.tensor([4, 2])
    logits.requires_grad_()
    batched = rnnt_loss(logits, targets, frames, labels, reduction="none")
    alone = rnnt_loss(logits[1:, :4, :3], targets[1:, :2], frames[1:], labels[1:])
    assert abs(batched[1] - alone) < 1e-12
    batched.sum().backward()
    assert logits.grad[1, 4:].abs().max() == 0
    assert logits.grad[1, :, 3:].abs().max() == 0
    assert logits.grad[1, :4, :3].abs().min() > 0


def test_float32_is_close_to_float64():
    logits, targets = random_case(2, 60, 20, 11, dtype=torch.float32)
    lengths = torch.tensor([60, 50]), torch.tensor([20, 15])
    single = rnnt_loss(logits, targets, *lengths)
    assert single.dtype == torch.float32
    assert abs(single.double() / rnnt_loss(logits.double(), targets, *lengths) - 1) < 1e-6


def test_extreme_logits_stay_finite():
    logits, targets = random_case(1, 8, 3, 5)
    logits = (1e4 * logits).requires_grad_()
    loss = rnnt_loss(logits, targets, torch.tensor([8]), torch.tensor([3]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("fused", [True, False])
def test_units_that_are_ruled_out_leave_cells_that_no_path_reaches(fused):
    logits, targets = random_case(1, 3, 2, 4)
    logits[0, 0, :2, -1] = -float("inf")  # both labels come in the first frame
    if not fused:
        logits = logits.log_softmax(-1)
    logits.requires_grad_()
    lengths = torch.tensor([3]), torch.tensor([2])
    cost = rnnt_loss(logits, targets, *lengths, fused_log_softmax=fused)
    (gradient,) = torch.autograd.grad(cost, logits)
    expected = brute_force(logits[0], targets[0].tolist(), 3)
    assert abs(cost - expected) < 1e-9
    if fused:
        torch.testing.assert_close(gradient, torch.autograd.grad(expected, logits)[0])
    assert not gradient[0, 1:, :2].any()  # not reached
    posteriors = lattice_posteriors(logits[0].detach(), targets[0])
    assert all(np.isfinite(part).all() for part in posteriors)


def test_targets_that_no_path_can_spell_cost_infinitely_much():
    logits, targets = random_case(1, 3, 2, 4)
    logits[..., -1] = -float("inf")
    assert rnnt_loss(logits, targets, torch.tensor([3]), torch.tensor([2])) == float("inf")


def test_reductions_and_clamp():
    logits, targets = random_case(3, 4, 2, 4)
    lengths = torch.tensor([4, 4, 4]), torch.tensor([2, 2, 2])
    each = rnnt_loss(logits, targets, *lengths, reduction="none")
    assert torch.allclose(rnnt_loss(logits, targets, *lengths, reduction="sum"), each.sum())
    assert torch.allclose(rnnt_loss(logits, targets, *lengths), each.mean())
    logits.requires_grad_()
    rnnt_loss(logits, targets, *lengths, reduction="sum", clamp=0.01).backward()
    assert logits.grad.abs().max() == 0.01
    logits.grad = None
    rnnt_loss(logits, targets, *lengths, reduction="mean", clamp=0.01).backward()
    assert logits.grad.abs().max().item() == pytest.approx(0.01 / 3)


def test_a_second_backward_gives_the_same_gradient():
    logits, targets = random_case(1, 4, 2, 4)
    logits.requires_grad_()
    loss = rnnt_loss(logits, targets, torch.tensor([4]), torch.tensor([2]))
    (first,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (second,) = torch.autograd.grad(loss, logits)
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": torch.tensor([[0, 1, 2]])}, r"targets have shape \(1, 3\): expected \(1, 2\)"),
        ({"targets": torch.tensor([[0, 4]])}, r"targets contain 4"),
        ({"targets": torch.tensor([[0, 3]])}, r"not the blank 3"),
        ({"targets": torch.tensor([[0, -1]])}, r"targets contain -1"),
        ({"targets": torch.tensor([[0.0, 1.0]])}, r"targets are torch.float32"),
        ({"logit_lengths": torch.tensor([6])}, r"logit_lengths are from 6 to 6: expected 1 to 5"),
        ({"logit_lengths": torch.tensor([0])}, r"logit_lengths are from 0 to 0"),
        ({"logit_lengths": torch.tensor([5, 5])}, r"logit_lengths have shape \(2,\)"),
        ({"target_lengths": torch.tensor([3])}, r"target_lengths are from 3 to 3"),
        ({"blank": 4}, r"blank is 4"),
        ({"blank": 1.5}, r"blank is 1.5"),
        ({"clamp": float("nan")}, r"clamp is nan"),
        ({"targets": [[0, 1]]}, r"targets is a list: expected a tensor"),
        ({"reduction": "max"}, r"reduction is 'max'"),
        ({"logits": torch.zeros(5, 3, 4)}, r"logits have shape \(5, 3, 4\)"),
        ({"logits": torch.zeros(1, 5, 3, 4).long()}, r"logits are torch.int64"),
        ({"logits": torch.zeros(1, 5, 3, 4) + 0j}, r"logits are torch.complex64"),
        ({"logits": np.zeros((1, 5, 3, 4), np.float32)}, r"logits is a ndarray: expected a tensor"),
        ({"logits": None}, r"logits is a NoneType"),
        ({"targets": None}, r"targets is a NoneType"),
        ({"logit_lengths": 5}, r"logit_lengths is a int"),
        ({"target_lengths": np.array([2])}, r"target_lengths is a ndarray"),
        ({"clamp": None}, r"clamp is None: expected a number"),
        ({"clamp": "1"}, r"clamp is '1'"),
        ({"clamp": True}, r"clamp is True"),
        ({"blank": None}, r"blank is None"),
        ({"blank": True}, r"blank is True"),
        ({"reduction": None}, r"reduction is None"),
    ],
)
def test_bad_input_is_named(change, message):
    call = {
        "logits": torch.zeros(1, 5, 3, 4),
        "targets": torch.tensor([[0, 1]]),
        "logit_lengths": torch.tensor([5]),
        "target_lengths": torch.tensor([2]),
    }
    with pytest.raises(ArgumentError, match=message):
        rnnt_loss(**(call | change))


RAGGED = torch.tensor([6, 4, 1]), torch.tensor([4, 2, 0])


def outside(shape, frames, labels):
    """Mask of the padding of logits."""
    _, T, U1, _ = shape
    frame, label = torch.arange(T)[:, None], torch.arange(U1)
    inside = (frame < frames[:, None, None]) & (label <= labels[:, None, None])
    return ~inside[..., None].expand(shape)


@pytest.mark.parametrize("filler", [float("nan"), float("inf"), -float("inf"), 1e38])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("clamp", [-1, 0.05])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_padding_may_hold_anything(filler, fused, clamp, dtype):
    logits, targets = random_case(3, 6, 4, 5, dtype=dtype)
    padding = outside(logits.shape, *RAGGED)
    found = []
    for value in (0.0, filler):
        filled = logits.masked_fill(padding, value).requires_grad_()
        costs = rnnt_loss(
            filled, targets, *RAGGED, clamp=clamp, reduction="none", fused_log_softmax=fused
        )
        found.append((costs, *torch.autograd.grad(costs.sum(), filled)))
    assert torch.equal(*(costs for costs, _ in found))
    assert torch.equal(*(gradient for _, gradient in found))
    gradient = found[1][1]
    assert (gradient[padding] == 0).all()
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 0


def test_one_bad_value_in_the_padding_is_enough_to_look_there():
    logits, targets = random_case(3, 6, 4, 5)
    clean = logits.clone().requires_grad_()
    rnnt_loss(clean, targets, *RAGGED).backward()
    for place in ((1, 4, 0, 2), (1, 0, 3, 0), (2, 5, 4, 4), (1, 3, 4, 1)):
        spoiled = logits.clone()
        spoiled[place] = float("nan")
        rnnt_loss(spoiled.requires_grad_(), targets, *RAGGED).backward()
        assert torch.equal(spoiled.grad, clean.grad)


@pytest.mark.parametrize("padding", [-1, -100, 4, 99])
def test_any_number_pads_the_targets(padding):
    logits, targets = random_case(3, 6, 4, 5)
    frames, labels = RAGGED
    padded = targets.masked_fill(torch.arange(4) >= labels[:, None], padding)
    found = []
    for labelled in (targets, padded):
        x = logits.clone().requires_grad_()
        rnnt_loss(x, labelled, frames, labels).backward()
        found.append(x.grad)
    assert torch.equal(*found)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_an_infinite_cost_has_no_gradient(fused, reduction):
    logits, targets = random_case(3, 4, 2, 4)
    logits[0, ..., -1] = -float("inf")  # no blank
    logits[1, 0, 0, :] = -float("inf")  # no unit at all in the first cell
    if not fused:
        logits = logits.log_softmax(-1).nan_to_num(-float("inf"), neginf=-float("inf"))
    logits.requires_grad_()
    lengths = torch.tensor([4, 4, 4]), torch.tensor([2, 2, 2])
    costs = rnnt_loss(logits, targets, *lengths, reduction="none", fused_log_softmax=fused)
    assert torch.isinf(costs).tolist() == [True, True, False]
    loss = rnnt_loss(logits, targets, *lengths, reduction=reduction, fused_log_softmax=fused)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    alone = logits[2:].detach().requires_grad_()
    cost = rnnt_loss(alone, targets[2:], *(part[2:] for part in lengths), fused_log_softmax=fused)
    (expected,) = torch.autograd.grad(cost / (3 if reduction == "mean" else 1), alone)
    assert (gradient[:2] == 0).all()
    torch.testing.assert_close(gradient[2:], expected)


def test_a_unit_of_infinite_weight_leaves_nothing_for_the_arcs():
    logits, targets = random_case(1, 3, 1, 4)
    targets[:] = 0
    logits[0, 0, 0, 2] = float("inf")  # neither the blank nor the label
    logits.requires_grad_()
    cost = rnnt_loss(logits, targets, torch.tensor([3]), torch.tensor([1]))
    assert cost == float("inf")
    assert (torch.autograd.grad(cost, logits)[0] == 0).all()


def test_nan_inside_an_utterance_is_not_hidden():
    logits, targets = random_case(2, 6, 4, 5)
    logits[0, 2, 1, 0] = float("nan")
    logits.requires_grad_()
    costs = rnnt_loss(logits, targets, torch.tensor([6, 6]), torch.tensor([4, 4]), reduction="none")
    (gradient,) = torch.autograd.grad(costs.sum(), logits)
    assert costs.isnan().tolist() == [True, False]
    assert gradient[0].isnan().any() and torch.isfinite(gradient[1]).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    logits, targets = random_case(2, 20, 6, 11, dtype=torch.float32)
    lengths = torch.tensor([20, 15]), torch.tensor([6, 3])
    half, single = logits.to(dtype).requires_grad_(), logits.to(dtype).float().requires_grad_()
    costs = [rnnt_loss(x, targets, *lengths) for x in (half, single)]
    assert costs[0].dtype == torch.float32 and torch.equal(*costs)
    for cost in costs:
        cost.backward()
    assert half.grad.dtype == dtype
    assert torch.equal(half.grad, single.grad.to(dtype))


def test_under_autocast_it_computes_in_float32():
    torch.manual_seed(0)
    joiner, hidden = torch.nn.Linear(8, 11), torch.randn(2, 20, 7, 8)
    _, targets = random_case(2, 20, 6, 11)
    lengths = torch.tensor([20, 15]), torch.tensor([6, 3])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = joiner(hidden)
        loss = rnnt_loss(logits, targets, *lengths)
    assert logits.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    assert loss == rnnt_loss(logits.float(), targets, *lengths)
    loss.backward()
    assert torch.isfinite(joiner.weight.grad).all() and joiner.weight.grad.abs().max() > 0
