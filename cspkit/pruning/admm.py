"""Pruning by the alternating direction method of multipliers."""

from __future__ import annotations

import torch
from torch import nn

from cspkit.arguments import count, positive
from cspkit.pruning.gradual import MaskedPruner


class ADMM(MaskedPruner):
    """ADMM pruning: a penalty pulls the dense weights toward a sparse copy, then they are cut.

    For min L(W) subject to W = Z, ||Z||_0 <= k, with the scaled multiplier U:

        W <- W - eta grad [ L(W) + rho/2 ||W - Z + U||^2 ]      in every step
        Z <- H_k(W + U)                                         every few steps
        U <- U + W - Z                                          after that

    H_k keeps the k largest weights and sets all others to zero. The start is Z = H_k(W), U = 0. At
    `end` W is cut. After that, the kept weights are fine-tuned.

    Parameters
    ----------
    weights, sparsity, steps, end, budget, floor
        See `MaskedPruner`.
    rho : float
        Weight of the penalty.
    every : int
        Steps between two updates of Z and U.

    Notes
    -----
    The penalty is a part of the loss, as in the original: its gradient rho (W - Z + U) goes through
    the optimizer together with the gradient of L. It is added after the loop has clipped the
    gradient of L, and is not clipped itself. ADMM takes the gradient of L at W, but CSP takes it
    at Z.

    References
    ----------
    Zhang et al., "A systematic DNN weight pruning framework using alternating direction method
    of multipliers", ECCV 2018, arXiv:1804.03294.
    """

    remembers = ("masks", "Z", "U")

    def __init__(
        self,
        weights: dict[str, nn.Parameter],
        sparsity: float,
        steps: int,
        *,
        rho: float = 0.01,
        every: int = 20,
        end: float = 2 / 3,
        budget: str = "global",
        floor: float = 0.0,
    ) -> None:
        super().__init__(weights, sparsity, steps, end=end, budget=budget, floor=floor)
        self.rho = positive("rho", rho)
        self.every = count("every", every)
        kept = self.largest(self.target)
        self.Z = {n: w.data * kept[n] for n, w in weights.items()}
        self.U = {n: torch.zeros_like(w.data) for n, w in weights.items()}

    def before_update(self, step: int) -> None:
        if self.debiasing(step):
            return
        for name, weight in self.weights.items():
            if weight.grad is not None:
                weight.grad.add_(weight - self.Z[name] + self.U[name], alpha=self.rho)

    def after_update(self, step: int) -> None:
        super().after_update(step)
        if self.debiasing(step) or (step + 1) % self.every != 0:
            return
        shifted = {n: w + self.U[n] for n, w in self.weights.items()}
        kept = self.masks_of({n: v.abs() for n, v in shifted.items()}, self.target)
        self.Z = {n: v * kept[n] for n, v in shifted.items()}
        self.U = {n: v - self.Z[n] for n, v in shifted.items()}
