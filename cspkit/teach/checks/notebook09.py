"""Checks of the exercises of notebook 09, pruning as people do it."""

import dis
import inspect
import re
from operator import itemgetter

import numpy as np
import torch
from torch import nn

from cspkit.teach.cases import Case, edited, table
from cspkit.teach.check import NOTHING, exercise


def largest(scores, k):
    mask = np.zeros(scores.size, dtype=bool)
    mask[np.argsort(-scores, axis=None)[:k]] = True
    return mask.reshape(scores.shape)


def uniform_masks(a, b, s):
    return tuple(largest(abs(w), round((1 - s) * w.size)) for w in (a, b))


def one_threshold(a, b, s):
    both = np.concatenate([a.ravel(), b.ravel()])
    mask = largest(abs(both), round((1 - s) * both.size))
    return mask[: a.size].reshape(a.shape), mask[a.size :].reshape(b.shape)


def by_row(a, b, s):
    return tuple(np.array([largest(abs(row), round((1 - s) * row.size)) for row in
                           np.atleast_2d(w)]).reshape(w.shape) for w in (a, b))  # fmt: skip


def wrong_uniform(answer, right, inputs):
    kept, expected = ([int(np.sum(np.asarray(m))) for m in masks] for masks in (answer, right))
    if kept != expected:
        return f"the layers keep {kept} weights, expected {expected}; use round"
    return "the numbers of kept weights are right, but they are not the largest"


BETTER = "At s = 0.6 the WER is 1.0 % with these masks, but over 100 % with one threshold for all."
TRUNCATED = "the number of weights is cut off to an integer; round it"
compared = table("09.uniform_masks", uniform_masks, [
    (np.array([1.0, -2, 3, 4]), np.array([0.1, 0.2]), 0.5),
    *("rng = default_rng(9); a = rng.standard_normal((4, 10)) * [[1], [2], [4], [8]]; "
      f"b = 0.01 * rng.standard_normal((5, 6)); s = {s}" for s in (0.4, 0.73)),
], [
    (one_threshold, "one threshold for all layers is the global budget; each layer needs its own"),
    ("largest => ~largest",
     "True means that a weight is kept; here it means that the weight is cut"),
    ("abs(w) => -abs(w)", "the smallest weights are kept, not the largest"),
    ("abs(w) => w", "the largest values are kept, not the largest magnitudes"),
    ("1 - s => s", "a share s is kept; s is the share that is cut"),
    (by_row, "the same share of every row is cut; use one threshold per matrix"),
    ("round => int", TRUNCATED),
    ("round((1 - s) * w.size) => w.size - int(s * w.size)", TRUNCATED),
    ("for w => .flatten() for w",
     "a mask has the shape of its matrix; view_as(w) gives the shape back"),
    ("largest => w * largest",
     "the weights are returned; return masks, True where a weight is kept"),
], wrong_uniform, parts=("the mask of a", "the mask of b"))  # fmt: skip


@exercise("09.uniform_masks", right=BETTER)
def exact_among_equals(answer):
    """Ask for an exact number among equal weights, which has several answers, and compare."""
    masks = answer({"a": torch.ones(2), "b": torch.ones(2, 4)}, 0.5)
    if masks is None:
        return NOTHING
    if not isinstance(masks, dict) or set(masks) != {"a", "b"}:
        return "the function must return a dict with the keys of W, here 'a' and 'b'"

    def of_arrays(a, b, s):
        W = {"b": torch.from_numpy(b), "a": torch.from_numpy(a)}
        return itemgetter("a", "b")(answer(W, s))

    wrong = compared(of_arrays)
    if wrong is None and (kept := int(masks["b"].sum())) != 4:
        return f"of 8 equal weights {kept} are kept, expected 4: use neither >= nor >"
    return wrong


def masked_step(weight, mask, adam):
    before = weight.detach().clone()
    weight.grad.mul_(mask)
    adam.step()
    weight.data.copy_(torch.where(mask, weight.data, before))


def trained(step):
    """What three dense steps and three of `step` leave: values, Adam's memory, what leaked."""

    def after(start, mask):
        weight = nn.Parameter(start.clone())
        adam = torch.optim.Adam([weight], lr=0.1)
        for t in range(6):
            weight.grad = torch.tensor([[1.0, -2.0, 0.5, 3.0], [-1.0, 0.2, 2.0, -0.4]])
            if t < 3:
                adam.step()
                squares = adam.state[weight]["exp_avg_sq"].clone()
            else:
                step(weight, mask, adam)
        memory = adam.state[weight]
        # Without new gradients the squares only shrink. A step may also clear what is cut.
        leaked = ~mask & (memory["exp_avg_sq"] > squares)
        return weight.detach(), memory["exp_avg"][mask], leaked

    return after


GRADIENT, VALUE = "weight.grad.mul_(mask) =>", "weight.data.copy_(torch.where(mask, weight.data, "
same_steps = table("09.masked_step", trained(masked_step), [
Case(f"weights from -2 to 2, shape (2, 4), after dense steps of Adam; mask {mask}",
(torch.linspace(-2, 2, 8).view(2, 4), torch.tensor(mask)))
for mask in ([[False] * 4] * 2, [[True, False, True, False], [False, True, True, False]])
], [(trained(edited(masked_step, edit)), sentence) for edit, sentence in [
 ("adam.step() =>", "no weight has moved: call adam.step(), write into weight.data"),
 ("before = => mask = ~mask; before =",
  "the mask is read the wrong way round: True is what is kept, and learns"),
 (", before => , 0.0", "cut weights became zero; they must keep their value"),
 (f"{VALUE}before)) =>",
  "cut weights have moved: Adam's momentum moves them, so put their old values back, into "
  "weight.data; if you do, remember them with .clone(), since the step also changes "
  "weight.detach() and weight.data"),
 (f"{GRADIENT} && {VALUE}before)) =>",
  "cut weights have moved: their gradient is not masked, and their old values, remembered with "
  ".clone(), are not put back"),
 (GRADIENT, "the gradient of cut weights got into Adam's memory: mask weight.grad before the step"),
 ("adam.step() => adam.step(); adam.step()", "adam.step() was called twice; make one step"),
]], "the kept weights or Adam's running means are not those of one plain step",
    parts=("the weights", "Adam's memory of what is kept", "of what is cut"),
)  # fmt: skip


@exercise("09.masked_step", right="Putting the old values back also undoes weight decay.")
def same_memory(answer):
    """Compare what the steps leave; say so if a step only gives the name weight to a new tensor."""
    wrong = same_steps(trained(answer))
    if wrong and wrong.startswith("cut weights have moved") and assigns_argument(answer):
        return "`weight = ...` only names a new tensor; to change the parameter, use weight.data"
    return wrong


def assigns_argument(function):
    """Whether a function assigns a new value to the name of its first argument."""
    name = next(iter(inspect.signature(function).parameters))
    return any(
        step.opname.startswith("STORE_FAST") and name in re.findall(r"\w+", step.argrepr)
        for step in dis.get_instructions(function)
    )


def returns(masks):
    a, b = masks[:-1], masks[1:]
    return (~a & b).sum(axis=0)


ALONG = "the sum runs over the weights; sum over the steps, axis 0"
table("09.returns", returns, [
    *(f"masks = np.array([{life}]).T == 1" for life in (
        [1, 0, 0, 1, 0, 1], [1, 0, 0, 1, 0, 1, 1], [1, 1, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0, 0], [1, 0, 1, 0, 1, 1, 0])),
    "masks = default_rng(9).random((11, 40)) < 0.5",
], [
    ("sum => any", "this says whether it came back; count how often"),
    ("~a & b => a & ~b", "these are the cuts, kept and then cut"),
    ("~a & b => a != b", "all changes are counted; a cut is no return"),
    ("(~masks).sum(axis=0)", "these are the steps for which a weight was cut"),
    ("masks.sum(axis=0)", "these are the steps for which a weight was kept"),
    ("masks[-1] & ~masks.all(axis=0)", "only weights that are kept at the end are counted"),
    ("~a & b => ~a & b & masks[-1]", "a return counts even if the weight is cut again later"),
    ("axis=0 =>", "this is one number; a number for each weight is expected"),
    ("axis=0 => axis=1", ALONG),
    ("masks.sum(axis=1)", ALONG),
], right="If the masks never change, as with oneshot, every count is 0.")  # fmt: skip


def soft_to(w, k):
    tau = np.sort(np.abs(w))[::-1][k]
    return np.sign(w) * np.maximum(np.abs(w) - tau, 0)


def wrong_soft(answer, right, inputs):
    size, expected = np.abs(np.asarray(answer)), np.abs(right)
    if (left := np.count_nonzero(size)) != inputs[1]:
        return f"nonzeros: {left}, expected {inputs[1]}"
    if np.all((size > 0) == (expected > 0)) and np.all(size <= expected + 1e-6):
        return "the right entries are left, but tau is not the smallest: too much is taken off"
    return ""


LARGE = "tau is one rank too large: it also cuts the k-th largest"
NO_MAGNITUDES = "magnitudes are missing: sort w.abs(), and shrink w.abs()"
same_soft = table("09.soft_to", soft_to, [
    "w = np.array([3, -2, 1, 0.5]); k = 2", "w = np.array([0.1, 0.9, -0.4]); k = 1",
    *(f"w = default_rng(4).standard_normal(30); k = {k}" for k in (0, 7, 29)),
], [
    ("np.where(np.abs(w) > tau, w, 0)",
     "this is the hard threshold: the survivors must lose tau as well"),
    ("np.sign(w) * =>", "the sign of negative entries is lost"),
    ("w", "nothing is cut: this is w"),
    ("np.sign(w) * (np.abs(w) - tau)", "magnitudes below tau become negative"),
    ("[k] => [max(k - 1, 0)]", LARGE),
    ("[k] => [k - 1]", LARGE),
    ("[::-1][k] => [k]",
     "tau is the magnitude at place k of the ascending order; sort in descending order"),
    ("np.sort(np.abs(w)) => np.sort(w)",
     "tau is taken from the values; it must come from the magnitudes, w.abs()"),
    ("np.maximum(np.abs(w) => np.maximum(w",
     "all negative entries are cut: shrink magnitudes, w.abs() - tau"),
    ("np.sort(np.abs(w)) => np.sort(w) && np.maximum(np.abs(w) => np.maximum(w", NO_MAGNITUDES),
    ("np.sort(np.abs(w)) => np.sort(w) && np.sign(w) * => && np.maximum(np.abs(w) => np.maximum(w",
     NO_MAGNITUDES),
    ("[k] => [min(k + 1, w.size - 1)]", "tau is one rank too small: k + 1 entries are left"),
], wrong_soft)  # fmt: skip


@exercise("09.soft_to", right="The hard threshold keeps the same entries, at full size.")
def of_tensors(answer):
    return same_soft(lambda w, k: answer(torch.from_numpy(w), k))


def narang_threshold(t, start, ramp, end, q):
    theta = 2 * q / (2 * (ramp - start) + 3 * (end - ramp))
    slow, fast = np.clip(t - start, 0, ramp - start), np.clip(t - ramp, 0, end - ramp)
    return theta * (slow + 1.5 * fast)


def wrong_narang(answer, right, inputs):
    t, start, _, end, _ = inputs
    return "from end on it is q" if t >= end else "before start it is 0" if t < start else ""


table("09.narang_threshold", narang_threshold, [
    *((t, 0, 20, 40, 1.0) for t in (20, 40, 50, 0, 10, 27)),
    *((t, 10, 25, 50, 0.3) for t in (25, 50, 80, 6, 17, 32)),
], [
    ("3 * => 2 * && 1.5 * =>", "there is one slope all the way: from ramp on it is 1.5 theta"),
    ("1.5 * =>", "theta is right, but from ramp on the slope is 1.5 theta"),
    ("np.clip(t - ramp, 0, end - ramp) => max(t - ramp, 0)",
     "the threshold rises after end; it must stay at q"),
    ("np.clip(t - start, 0, ramp - start) => min(t - start, ramp - start)",
     "the threshold is negative before start; it must be 0"),
], wrong_narang,
    right="A threshold fixes no number of zeros: how many weights are cut depends on their sizes.",
)  # fmt: skip
