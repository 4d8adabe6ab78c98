"""Sparse training with a support that is rebuilt by gradients."""

from __future__ import annotations

import math

import torch
from torch import nn

from cspkit.arguments import count, fraction
from cspkit.pruning.budget import keep_largest
from cspkit.pruning.gradual import MaskedPruner


class RigL(MaskedPruner):
    """RigL: sparse from the first step; weights with large gradients replace small weights.

        W <- W - eta mask * grad L(W)                       in every step
        drop the f(t) k_l active weights of smallest |W|    every few steps, in each layer
        grow as many others of largest |grad L(W)|          from zero

        f(t) = alpha/2 (1 + cos(pi t / end))

    Until `end`, layer l has the same number k_l of active weights; by default the budget "erk" sets
    this number. A weight that was just dropped may be grown again in the same step. It then keeps
    its value.

    Parameters
    ----------
    weights, sparsity, steps, end, budget, floor
        See `MaskedPruner`. The support changes until `end`.
    alpha : float
        f(0). The first updates of the support exchange about this fraction of the weights.
    every : int
        Steps between two updates of the support. The original takes 100, in much longer runs.

    Notes
    -----
    The original starts from random weights and a random support. Here the run starts from the
    largest weights of the dense model. In the original, a step that updates the support does not
    move the weights. Here the optimizer moves the weights of the new support in the same step, by
    the gradient that chose them. A weight whose gradient is zero is not grown.

    References
    ----------
    Evci et al., "Rigging the lottery: making all tickets winners", ICML 2020, arXiv:1911.11134.
    """

    def __init__(
        self,
        weights: dict[str, nn.Parameter],
        sparsity: float,
        steps: int,
        *,
        alpha: float = 0.3,
        every: int = 10,
        end: float = 2 / 3,
        budget: str = "erk",
        floor: float = 0.0,
    ) -> None:
        super().__init__(weights, sparsity, steps, end=end, budget=budget, floor=floor)
        self.alpha = fraction("alpha", alpha)
        self.every = count("every", every)

    def choose(self, step: int) -> None:
        super().choose(step)
        if step == 0:
            self.cut()

    def exchanges(self, step: int) -> bool:
        """Whether the support changes in this step."""
        return 0 < step < self.end and step % self.every == 0

    def after_backward(self, step: int) -> None:
        if not self.exchanges(step):
            self.mask_gradients()

    def before_update(self, step: int) -> None:
        if self.exchanges(step):
            self.exchange(self.alpha / 2 * (1 + math.cos(math.pi * step / self.end)))
            self.mask_gradients()

    def after_update(self, step: int) -> None:
        self.apply_masks()

    @torch.no_grad()
    def exchange(self, drop: float) -> None:
        """Drop a fraction of each layer's active weights, and grow the same number of weights."""
        for name, weight in self.weights.items():
            if weight.grad is None:
                continue
            mask, gradient = self.masks[name], weight.grad.abs()
            active = int(mask.sum())
            n = min(int(drop * active), int((gradient.masked_fill(mask, 0.0) > 0).sum()))
            kept = keep_largest(weight.abs().masked_fill(~mask, -1.0), active - n)
            self.masks[name] = kept | keep_largest(gradient.masked_fill(kept, -1.0), n)
        self.apply_masks()
