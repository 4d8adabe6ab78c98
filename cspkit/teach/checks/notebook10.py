"""Checks of the exercises of notebook 10, csp."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cspkit.pruning.budget import keep_largest
from cspkit.pruning.schedule import polynomial_sparsity
from cspkit.teach.cases import table

Array = np.ndarray
TOTAL = 331264  # prunable weights of the recogniser


def kept(number: Callable = round, ramp: Callable = polynomial_sparsity) -> Callable:
    """The number of weights kept; the options make its typical mistakes."""
    return lambda t, n, s, p, total: total - number(ramp(t, n, s, p) * total)


def zeros(t: int, n: int, s: float, p: float, total: int) -> int:
    return round(polynomial_sparsity(t, n, s, p) * total)


table(
    "10.kept",
    lambda t, n, s, p, total: kept()(t, n, s, p, total),
    [(t, 400, 0.95, p, TOTAL) for t, p in ((400, 6), (0, 6), (500, 6), (100, 3), (100, 6), (60, 2))]
    + [(t, 10, 0.5, 1, 7) for t in (1, 3, 4, 6, 7, 9)],
    [
        (zeros, "this is the number of zeros; the weights that are left are asked for"),
        (kept(float), "a number of weights is an int; round the number of zeros"),
        (kept(int), "the number of zeros is rounded down, but must be rounded to the nearest"),
        (kept(lambda zeros: int(np.ceil(zeros))),
         "the number of zeros is rounded up, but must be rounded to the nearest"),
        (lambda t, n, s, p, total: total - round(s * total),
         "at step 0 nothing is cut yet, all weights are kept"),
        (kept(ramp=lambda t, n, s, p: s * (1 - (1 - t / n) ** p)),
         "after step n the sparsity stays at s: the ramp holds for t < n only"),
        *((kept(ramp=lambda t, n, s, p, fixed=fixed: polynomial_sparsity(t, n, s, fixed)),
           "the exponent p has no effect") for fixed in (1, 2, 3, 6)),
    ],
    right="With p = 1 the ramp is linear. A larger p cuts early and leaves time to recover.",
)  # fmt: skip


def cut(V: Tensor, k: int, by: Callable = torch.abs) -> Tensor:
    """The k entries with the largest score; another score than the magnitude is a mistake."""
    flat, places = V.flatten(), by(V).flatten().topk(k).indices
    return torch.zeros_like(flat).scatter(0, places, flat[places]).view_as(V)


def above(V: Tensor, k: int) -> Tensor:
    """Entries above the largest magnitude that is to be cut."""
    return V * (V.abs() > V.abs().flatten().sort(descending=True).values[k])


def by_row(V: Tensor, k: int) -> Tensor:
    return cut(V, k) if V.ndim == 1 else torch.stack([cut(row, min(k, len(row))) for row in V])


def in_front(V: Tensor, k: int) -> Tensor:
    """Of equal entries those with the lower indices."""
    return V * keep_largest(V.abs(), k)


table(
    "10.hard_threshold",
    lambda V, k: cut(V, k),
    [
        (torch.tensor([0.5, -2.0, 0.1, 1.0]), 2),
        (torch.tensor([[3.0, -4.0, 5.0], [-0.1, 0.2, -1.0]]), 3),
        (torch.ones(4), 2),
    ],
    [
        *((largest, "the largest values are kept, not the largest magnitudes: -2 is lost")
          for largest in (lambda V, k: cut(V, k, lambda V: V),
                          lambda V, k: V * (V >= V.flatten().topk(k).values[-1]),
                          lambda V, k: V * (V >= V.topk(k).values[-1]))),
        (lambda V, k: cut(V, k).abs(), "the sign is lost: -2 became 2"),
        (lambda V, k: cut(V, k, lambda V: -V.abs()),
         "the smallest entries are kept, not the largest"),
        (lambda V, k: V * (V.abs() <= V.abs().flatten().kthvalue(k).values),
         "the smallest entries are kept, not the largest"),
        *((lambda V, k, values=values: values(V.flatten(), k),
           "only the kept entries are returned: their places are lost")
          for values in (lambda V, k: V[keep_largest(V.abs(), k)],
                         lambda V, k: V[V.abs().topk(k).indices])),
        (lambda V, k: V, "nothing was cut; all but k entries must become 0"),
        (lambda V, k: cut(V, k).flatten(), "keep the shape of V"),
        (by_row, "of each row k entries are kept: k counts those of the whole matrix"),
        (lambda V, k: V * (V.abs() >= V.abs().flatten().topk(k).values[-1]),
         "with equal magnitudes more than k entries are kept: exactly k are asked for"),
        (above, "with equal magnitudes fewer than k entries are kept: exactly k are asked for"),
        (lambda V, k: above(V, k - 1), "one entry is missing: the k-th largest stays, too"),
    ],
    lambda answer, right, inputs: "the k largest are in the first row" if right.ndim == 2 else "",
    also=[in_front, lambda V, k: in_front(V.flip(-1), k).flip(-1)],  # which of equals is free
    right="No other tensor with k nonzeros is closer to V.",
)  # fmt: skip


def step(V: Array, mask: Array, gradient: Array, eta: float, rho: float) -> Array:
    return V - eta * gradient - rho * (V - mask * V)


def with_rho_1(answer: Array, right: Array, inputs: tuple) -> str:
    return "with rho = 1 the step should start from Z" if inputs[4] == 1 else ""


FIVE = (
    np.array([1.0, -2.0, 0.3, 0.0, 0.5]),
    np.array([True, True, False, False, False]),
    np.array([0.5, 1.0, -2.0, 4.0, 0.0]),
    0.1,
)
table(
    "10.recover",
    step,
    [
        (np.array([1.0, -2.0, 0.3]), np.array([True, True, False]), np.array([0.0, 1.0, -1.0]),
         0.1, 0.5),
        (*FIVE, 0.25),
        (*FIVE, 1.0),
    ],
    [
        (lambda V, m, g, eta, rho: V - eta * g,
         "nothing is forgotten: the term with rho is missing"),
        (lambda V, m, g, eta, rho: m * step(V, m, g, eta, rho),
         "cut weights are set to zero; they are to keep 1 - rho of their value"),
        (lambda V, m, g, eta, rho: step(V, m, m * g, eta, rho),
         "cut weights get their gradient, too"),
        (lambda V, m, g, eta, rho: V - eta * g - rho * m * V,
         "it is the kept weights that forget here"),
        (lambda V, m, g, eta, rho: V - eta * g - rho * V,
         "all weights forget; kept ones have V - Z = 0"),
        (lambda V, m, g, eta, rho: step(V, m, g, eta, -rho),
         "the memory grows: V is pulled to Z, so minus"),
        (lambda V, m, g, eta, rho: step(V, m, -g, eta, rho),
         "the step goes uphill: minus eta times the gradient"),
        (lambda V, m, g, eta, rho: m * V - eta * g, "that is rho = 1, whatever rho was given"),
        (lambda V, m, g, eta, rho: step(V - eta * g, m, 0 * g, eta, rho),
         "the leak comes after the step: rho multiplies the cut part of the old V"),
    ],
    with_rho_1,
    right="rho = 0 forgets nothing, as the method DPF does; rho = 1 forgets all that is cut.",
)  # fmt: skip


def divergence(log_P: Array, log_Q: Array) -> float:
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
        (lambda log_P, log_Q: -divergence(log_P, log_Q),
         "the sign is turned: a divergence is never negative"),
        (lambda log_P, log_Q: len(log_P) * divergence(log_P, log_Q),
         "the sum over cells: their mean is asked for"),
        (lambda log_P, log_Q: divergence(log_P, log_Q) / log_P.shape[1],
         "the mean over units, too: they are summed"),
        (lambda log_P, log_Q: -(np.exp(log_P) * log_Q).sum(axis=1).mean(),
         "that is the cross entropy; take off that of P"),
        (lambda log_P, log_Q: (log_P - log_Q).sum(axis=1).mean(), "units are weighed by P"),
        (lambda log_P, log_Q: (log_P * (log_P - log_Q)).sum(axis=1).mean(),
         "the weights are ln P, not P: np.exp is missing"),
        (lambda log_P, log_Q: (np.exp(log_P) * np.exp(log_P - log_Q)).sum(axis=1).mean(),
         "P is multiplied by P / Q; it must be multiplied by ln P - ln Q, without np.exp"),
        (lambda log_P, log_Q: (np.exp(log_P) * (np.exp(log_P) - np.exp(log_Q))).sum(axis=1).mean(),
         "P is multiplied by P - Q; it must be multiplied by ln P - ln Q, without np.exp"),
    ],
    right="It is 0 only if both models give the same probabilities in every cell.",
)  # fmt: skip
