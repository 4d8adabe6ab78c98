"""Checks of the exercises of notebook 10, csp."""

import numpy as np
import torch

from cspkit.pruning.budget import keep_largest
from cspkit.teach.cases import table


def kept(t, n, s, p, total):
    s_t = s * (1 - (1 - t / n) ** p) if t < n else s
    return total - round(s_t * total)


RAMP = "s * (1 - (1 - t / n) ** p) if t < n else s"
FIXED = "after step n the sparsity stays at s: the ramp holds for t < n only"
NEAREST = "the number of zeros is rounded {}, but must be rounded to the nearest"
WEIGHTS = 331264  # prunable weights of the recogniser
table("10.kept", kept, [(t, 400, 0.95, p, WEIGHTS) for t, p in (
    (400, 6), (0, 6), (500, 6), (100, 3), (100, 6), (60, 2))], [
    ("round(s_t * total)", "this is the number of zeros; the weights that are left are asked for"),
    ("1 - s_t", "this is a share; the number of weights is asked for"),
    ("round =>", "a number of weights is an int; round the number of zeros"),
    ("round => int", NEAREST.format("down")),
    ("total - round(s_t * total) => int(total - s_t * total)", NEAREST.format("up")),
    ("s_t * total => s * total", "at step 0 nothing is cut yet, all weights are kept"),
    *((f"{RAMP} => {ramp}", FIXED) for ramp in
      ("s * (1 - (1 - t / n) ** p)", RAMP[:-1] + "0", RAMP[:-1] + "1")),
    (f"{RAMP} => 1 - max(0, 1 - t / n) ** p", "the ramp ends at s, not at 1: multiply by s"),
    ("1 - t / n => t / n", "the ramp begins at 0 zeros: use (1 - t / n) ** p"),
    ("(1 - (1 - t / n) ** p) => (1 - t / n) ** p", "this ramp falls from s to 0: take 1 minus it"),
    *((f"** p => ** {p}", "the exponent p has no effect") for p in (1, 2, 3, 6)),
], right="With p = 1 the ramp is linear. A larger p cuts early and leaves time to recover."
)  # fmt: skip


def hard_threshold(V, k):
    flat, Z = V.flatten(), torch.zeros(V.numel())
    places = flat.abs().topk(k).indices
    Z[places] = flat[places]
    return Z.view_as(V)


def in_front(V, k):
    """Of equal entries those with the lower indices."""
    return V * keep_largest(V.abs(), k)


SIGNED = "the largest values are kept, not the largest magnitudes: -2 is lost"
SMALLEST = "the smallest entries are kept, not the largest"
NO_PLACES = "only the kept entries are returned: their places are lost"
EQUAL = "with equal magnitudes {} than k entries are kept: exactly k are asked for"
LIMIT = "k is a number of entries; here it is used as a limit of their magnitude"
table("10.hard_threshold", hard_threshold, [
    (torch.tensor([0.5, -2.0, 0.1, 1.0]), 2),
    (torch.tensor([[3.0, -4.0, 5.0], [-0.1, 0.2, -1.0]]), 3), (torch.ones(4), 2),
], [
    ("flat.abs() => flat", SIGNED), ("V * (V >= flat.topk(k).values[-1])", SIGNED),
    ("V * (V >= V.topk(k).values[-1])", SIGNED),
    ("Z.view_as(V).abs()", "the sign is lost: -2 became 2"),
    ("(k) => (k, largest=False)", SMALLEST),
    ("V * (V.abs() <= flat.abs().kthvalue(k).values)", SMALLEST),
    ("V - Z.view_as(V)", "the k largest became 0; all others must become 0"),
    ("Z.view_as(V) != 0", "this is the mask; multiply V by it"),
    ("flat[places]", NO_PLACES), ("flat[places.sort().values]", NO_PLACES),
    ("V", "nothing was cut; all but k entries must become 0"),
    ("Z", "keep the shape of V"),
    ("V.sign() * (V.abs() - flat.abs().sort(descending=True).values[k]).clamp(min=0)",
     "this is the soft threshold: the kept entries must keep their values"),
    ("V * (V.abs() > k)", LIMIT), ("V * (V.abs() >= k)", LIMIT),
    ("V * torch.zeros_like(V).scatter(-1, V.abs().topk(min(k, V.shape[-1])).indices, 1.0)",
     "of each row k entries are kept: k counts those of the whole matrix"),
    ("V * (V.abs() >= flat.abs().topk(k).values[-1])", EQUAL.format("more")),
    ("V * (V.abs() > flat.abs().topk(k + 1).values[-1])", EQUAL.format("fewer")),
    ("V * (V.abs() > flat.abs().topk(k).values[-1])",
     "one entry is missing: the k-th largest stays, too"),
], lambda answer, right, inputs: "the k largest are in the first row" if right.ndim == 2 else "",
    also=[in_front, lambda V, k: in_front(V.flip(-1), k).flip(-1)],  # which of equals is free
    right="No other tensor with k nonzeros is closer to V.",
)  # fmt: skip


def recover(V, mask, gradient, eta, rho):
    return V - eta * gradient - rho * (V - mask * V)


START = "with rho = 1 the step should start from Z"
FIVE = ("V = np.array([1.0, -2.0, 0.3, 0.0, -0.5]); mask = V * V >= 1; "
        "gradient = np.array([0.5, 1.0, -2.0, 4.0, 0.0]); eta = 0.1; rho = ")  # fmt: skip
table("10.recover", recover, [
    (np.array([1.0, -2.0, 0.3]), np.array([True, True, False]), np.array([0.0, 1.0, -1.0]),
     0.1, 0.5),
    f"{FIVE}0.25", f"{FIVE}1.0",
], [
    ("V - eta * gradient", "nothing is forgotten: the term with rho is missing"),
    ("mask * (V - eta * gradient - rho * (V - mask * V))",
     "cut weights are set to zero; they are to keep 1 - rho of their value"),
    ("np.where(mask, V, rho * V) - eta * gradient",
     "a cut weight keeps 1 - rho of its value, not rho"),
    ("return V => return mask * V", "the step starts from V, not from Z"),
    ("* gradient => * mask * gradient", "cut weights get their gradient, too"),
    ("(V - mask * V) => mask * V", "it is the kept weights that forget here"),
    ("(V - mask * V) => V", "all weights forget; kept ones have V - Z = 0"),
    ("(V - mask * V) => (V - mask)", "Z is mask * V, not the mask"),
    ("(V - mask * V) => abs(V - mask * V)", "the leak has the sign of V, so no absolute value"),
    ("- rho => + rho", "the memory grows: V is pulled to Z, so minus"),
    ("- eta => + eta", "the step goes uphill: minus eta times the gradient"),
    ("rho * =>", "that is rho = 1, whatever rho was given"),
    ("- rho => - eta * rho", "only the gradient is multiplied by eta, the leak is not"),
    ("(V - eta * gradient) * (1 - rho * ~mask)",
     "the leak comes after the step: rho multiplies the cut part of the old V"),
], lambda answer, right, inputs: START if inputs[4] == 1 else "",
    right="With rho = 0, V forgets nothing; with rho = 1 it forgets all that is cut.",
)  # fmt: skip


def divergence(log_P, log_Q):
    return (np.exp(log_P) * (log_P - log_Q)).sum(axis=1).mean()


LOGS = "the inputs are logarithms already: ln P - ln Q is log_P - log_Q"
MULTIPLIED = "P is multiplied by {}; it must be multiplied by ln P - ln Q, without np.exp"
table("10.divergence", divergence, [
    (np.log([[0.5, 0.5]]), np.log([[0.9, 0.1]])),
    *(tuple(np.log(np.random.default_rng(seed).dirichlet(np.ones(4), size=(2, 3))))
      for seed in (0, 1)),
], [
    ("(np.exp(log_Q) * (log_Q - log_P)).sum(axis=1).mean()",
     "the two models are exchanged: P weighs"),
    ("np.exp(log_P) => np.exp(log_Q)", "units are weighed by P, not by Q"),
    ("log_P - log_Q => log_Q - log_P", "the sign is turned: a divergence is never negative"),
    (".mean() => .sum()", "the sum over cells: their mean is asked for"),
    (".sum(axis=1).mean() => .mean()", "the mean over units, too: they are summed"),
    ("axis=1 => axis=0", "the sum over the cells; sum over the units of each cell, axis 1"),
    ("log_P - log_Q => -log_Q", "that is the cross entropy; take off that of P"),
    ("(log_P - log_Q) => abs(log_P - log_Q)",
     "a unit with Q above P counts with a minus: no absolute value"),
    ("np.exp(log_P) * =>", "units are weighed by P"),
    ("np.exp =>", "the weights are ln P, not P: np.exp is missing"),
    ("log_P - log_Q => np.log(log_P) - np.log(log_Q)", LOGS),
    ("(log_P - log_Q) => log_P / log_Q", LOGS),
    ("np.exp(log_P) * (log_P - log_Q) => log_P * np.log(log_P / log_Q)", LOGS),
    ("(log_P - log_Q) => np.exp(log_P - log_Q)", MULTIPLIED.format("P / Q")),
    ("log_P - log_Q => np.exp(log_P) - np.exp(log_Q)", MULTIPLIED.format("P - Q")),
], right="It is 0 only if both models give the same probabilities in every cell.")  # fmt: skip
