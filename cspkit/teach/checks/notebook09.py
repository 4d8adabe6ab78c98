"""Masks, steps of Adam, and checks that ask more than a table can, for notebook 09."""

import dis

import numpy as np
import torch
from torch import nn

from cspkit.teach.check import NOTHING


def largest(scores, k):
    return (-scores).argsort(axis=None).argsort().reshape(scores.shape) < k


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
        found = answer({"b": torch.from_numpy(b), "a": torch.from_numpy(a)}, s)
        return found["a"], found["b"]

    if (wrong := compare(of_arrays)) or (kept := int(masks["b"].sum())) == 4:
        return wrong
    return f"of 8 equal weights {kept} are kept, expected 4: use neither >= nor >"


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
    if wrong is None or not wrong.startswith("cut weights have moved"):
        return wrong
    steps = dis.get_instructions(answer)
    stored = ", ".join(step.argrepr for step in steps if step.opname.startswith("STORE_FAST"))
    told = "`weight = ...` only names a new tensor; to change the parameter, use weight.data"
    return told if answer.__code__.co_varnames[0] in stored.split(", ") else wrong


def wrong_soft(answer, right, k):
    if (left := int(answer.count_nonzero())) != k:
        return f"nonzeros: {left}, expected {k}"
    smaller = (answer.abs() <= right.abs() + 1e-6).all()
    told = "the right entries are left, but tau is not the smallest: too much is taken off"
    return told if smaller else ""
