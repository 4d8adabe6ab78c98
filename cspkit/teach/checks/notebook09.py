"""Other masks, steps of Adam, and checks that ask more than a table can, for notebook 09."""

import dis
import inspect
import re
from operator import itemgetter

import numpy as np
import torch
from torch import nn

from cspkit.teach.check import NOTHING


def largest(scores, k):
    mask = np.zeros(scores.size, dtype=bool)
    mask[np.argsort(-scores, axis=None)[:k]] = True
    return mask.reshape(scores.shape)


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


def exact_among_equals(answer, compare):
    """Ask for an exact number among equal weights, which has several answers, and compare."""
    masks = answer({"a": torch.ones(2), "b": torch.ones(2, 4)}, 0.5)
    if masks is None:
        return NOTHING
    if not isinstance(masks, dict) or set(masks) != {"a", "b"}:
        return "the function must return a dict with the keys of W, here 'a' and 'b'"

    def of_arrays(a, b, s):
        W = {"b": torch.from_numpy(b), "a": torch.from_numpy(a)}
        return itemgetter("a", "b")(answer(W, s))

    wrong = compare(of_arrays)
    if wrong is None and (kept := int(masks["b"].sum())) != 4:
        return f"of 8 equal weights {kept} are kept, expected 4: use neither >= nor >"
    return wrong


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


def same_memory(answer, compare):
    """Compare what the steps leave; say so if a step only gives the name weight to a new tensor."""
    wrong = compare(trained(answer))
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


def wrong_soft(answer, right, inputs):
    size, expected = np.abs(np.asarray(answer)), np.abs(right)
    if (left := np.count_nonzero(size)) != inputs[1]:
        return f"nonzeros: {left}, expected {inputs[1]}"
    if np.all((size > 0) == (expected > 0)) and np.all(size <= expected + 1e-6):
        return "the right entries are left, but tau is not the smallest: too much is taken off"
    return ""


def of_tensors(answer, compare):
    return compare(lambda w, k: answer(torch.from_numpy(w), k))
