"""Checks of the exercises of notebook 10, csp."""

import math

import numpy as np
import torch

from cspkit.pruning.budget import keep_largest
from cspkit.teach.cases import table

TOTAL = 331264  # prunable weights of the recogniser


def kept(t, n, s, p, total):
    s_t = s * (1 - (1 - t / n) ** p) if t < n else s
    return total - round(s_t * total)


table(
    "10.kept",
    kept,
    [(t, 400, 0.95, p, TOTAL)
     for t, p in ((400, 6), (0, 6), (500, 6), (100, 3), (100, 6), (60, 2))],
    [
        ("round(s_t * total)",
         "this is the number of zeros; the weights that are left are asked for"),
        ("round =>", "a number of weights is an int; round the number of zeros"),
        ("round => int",
         "the number of zeros is rounded down, but must be rounded to the nearest"),
        (lambda t, n, s, p, total: math.floor(total - total * s * (1 - max(0, 1 - t / n) ** p)),
         "the number of zeros is rounded up, but must be rounded to the nearest"),
        ("s_t * total => s * total", "at step 0 nothing is cut yet, all weights are kept"),
        ("if t < n else s =>",
         "after step n the sparsity stays at s: the ramp holds for t < n only"),
        *((f"** p => ** {p}", "the exponent p has no effect") for p in (1, 2, 3, 6)),
    ],
    right="With p = 1 the ramp is linear. A larger p cuts early and leaves time to recover.",
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
table(
    "10.hard_threshold",
    hard_threshold,
    [
        (torch.tensor([0.5, -2.0, 0.1, 1.0]), 2),
        (torch.tensor([[3.0, -4.0, 5.0], [-0.1, 0.2, -1.0]]), 3),
        (torch.ones(4), 2),
    ],
    [
        ("flat.abs() => flat", SIGNED),
        ("V * (V >= flat.topk(k).values[-1])", SIGNED),
        ("V * (V >= V.topk(k).values[-1])", SIGNED),
        ("Z.view_as(V).abs()", "the sign is lost: -2 became 2"),
        ("(k) => (k, largest=False)", SMALLEST),
        ("V * (V.abs() <= flat.abs().kthvalue(k).values)", SMALLEST),
        ("flat[places]", NO_PLACES),
        ("flat[places.sort().values]", NO_PLACES),
        ("V", "nothing was cut; all but k entries must become 0"),
        ("Z", "keep the shape of V"),
        ("V * torch.zeros_like(V).scatter(-1, V.abs().topk(min(k, V.shape[-1])).indices, 1.0)",
         "of each row k entries are kept: k counts those of the whole matrix"),
        ("V * (V.abs() >= flat.abs().topk(k).values[-1])",
         "with equal magnitudes more than k entries are kept: exactly k are asked for"),
        ("V * (V.abs() > flat.abs().topk(k + 1).values[-1])",
         "with equal magnitudes fewer than k entries are kept: exactly k are asked for"),
        ("V * (V.abs() > flat.abs().topk(k).values[-1])",
         "one entry is missing: the k-th largest stays, too"),
    ],
    lambda answer, right, inputs: "the k largest are in the first row" if right.ndim == 2 else "",
    also=[in_front, lambda V, k: in_front(V.flip(-1), k).flip(-1)],  # which of equals is free
    right="No other tensor with k nonzeros is closer to V.",
)  # fmt: skip


def recover(V, mask, gradient, eta, rho):
    return V - eta * gradient - rho * (V - mask * V)


FIVE = (
    np.array([1.0, -2.0, 0.3, 0.0, 0.5]),
    np.array([True, True, False, False, False]),
    np.array([0.5, 1.0, -2.0, 4.0, 0.0]),
    0.1,
)
table(
    "10.recover",
    recover,
    [
        (np.array([1.0, -2.0, 0.3]), np.array([True, True, False]), np.array([0.0, 1.0, -1.0]),
         0.1, 0.5),
        (*FIVE, 0.25),
        (*FIVE, 1.0),
    ],
    [
        ("V - eta * gradient", "nothing is forgotten: the term with rho is missing"),
        ("mask * (V - eta * gradient - rho * (V - mask * V))",
         "cut weights are set to zero; they are to keep 1 - rho of their value"),
        ("* gradient => * mask * gradient", "cut weights get their gradient, too"),
        ("(V - mask * V) => mask * V", "it is the kept weights that forget here"),
        ("(V - mask * V) => V", "all weights forget; kept ones have V - Z = 0"),
        ("- rho => + rho", "the memory grows: V is pulled to Z, so minus"),
        ("- eta => + eta", "the step goes uphill: minus eta times the gradient"),
        ("rho * =>", "that is rho = 1, whatever rho was given"),
        ("(V - eta * gradient) * (1 - rho * ~mask)",
         "the leak comes after the step: rho multiplies the cut part of the old V"),
    ],
    lambda *a: "with rho = 1 the step should start from Z" if a[2][4] == 1 else "",
    right="rho = 0 forgets nothing, as the method DPF does; rho = 1 forgets all that is cut.",
)  # fmt: skip


def divergence(log_P, log_Q):
    return (np.exp(log_P) * (log_P - log_Q)).sum(axis=1).mean()


table(
    "10.divergence",
    divergence,
    [
        (np.log([[0.5, 0.5]]), np.log([[0.9, 0.1]])),
        *(tuple(np.log(np.random.default_rng(seed).dirichlet(np.ones(4), size=(2, 3))))
          for seed in (0, 1)),
    ],
    [
        (lambda log_P, log_Q: divergence(log_Q, log_P), "the two models are exchanged: P weighs"),
        ("log_P - log_Q => log_Q - log_P", "the sign is turned: a divergence is never negative"),
        (".mean() => .sum()", "the sum over cells: their mean is asked for"),
        (".sum(axis=1).mean() => .mean()", "the mean over units, too: they are summed"),
        ("log_P - log_Q => -log_Q", "that is the cross entropy; take off that of P"),
        ("np.exp(log_P) * =>", "units are weighed by P"),
        ("np.exp =>", "the weights are ln P, not P: np.exp is missing"),
        ("(log_P - log_Q) => np.exp(log_P - log_Q)",
         "P is multiplied by P / Q; it must be multiplied by ln P - ln Q, without np.exp"),
        ("log_P - log_Q => np.exp(log_P) - np.exp(log_Q)",
         "P is multiplied by P - Q; it must be multiplied by ln P - ln Q, without np.exp"),
    ],
    right="It is 0 only if both models give the same probabilities in every cell.",
)  # fmt: skip
