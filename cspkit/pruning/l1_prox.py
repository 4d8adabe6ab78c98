"""Proximal Adam for an l1 penalty."""

from __future__ import annotations

import torch
from torch.nn.functional import softshrink

from cspkit.pruning.gradual import GradualPruner, MaskedPruner


class L1Prox(GradualPruner):
    """Proximal pruning: a soft threshold after each step of the optimizer, then debiasing.

        V <- W - the optimizer's step for L(W)
        W <- argmin_W 1/2 ||W - V||^2 + tau ||W||_1  =  sign(V) max(|V| - tau, 0)

    This is the proximal step for L + lam ||W||_1 with tau = eta lam. A fixed lam does not lead to a
    given sparsity, so lam changes. In each step tau is the smallest threshold that leaves the k
    weights of the schedule: the (k + 1)-th largest magnitude. This rule does not need the learning
    rate; lam = tau / eta follows from it. At `end` the support is frozen and trained without a
    penalty. This undoes the shrinkage, as the debiasing of the lasso does.

    Parameters
    ----------
    weights, sparsity, steps, exponent, end, budget, floor
        See `GradualPruner`. With a floor, or with a budget or a sparsity for each layer, each layer
        has its own tau.
    every : int
        Steps between two soft thresholds.

    Notes
    -----
    The proximal step uses the Euclidean norm, with one tau for all coordinates. In the norm that
    belongs to Adam's steps, tau would be divided by the sqrt(v) of each coordinate, where v is
    Adam's average of squared gradients (Yun et al.).

    References
    ----------
    Parikh and Boyd, "Proximal algorithms", 2014, doi:10.1561/2400000003.
    Yun, Lozano and Yang, "A general family of stochastic proximal gradient methods for deep
    learning", arXiv:2007.07484.
    """

    def choose(self, step: int) -> None:
        MaskedPruner.choose(self, step)  # before the freeze, `after_update` makes the zeros

    def dense_now(self, step: int) -> bool:
        return False

    def after_update(self, step: int) -> None:
        if self.debiasing(step):
            self.apply_masks()
        elif step % self.every == 0:
            self.soft_threshold(self.scheduled(step))

    @torch.no_grad()
    def soft_threshold(self, sparsity: float) -> None:
        """W <- soft threshold of W, with the smallest tau that leaves this sparsity."""
        self.masks = self.largest(sparsity)
        cut = {
            name: float((weight * ~self.masks[name]).abs().max())
            for name, weight in self.weights.items()
        }
        shared = self.budget == "global" and self.floor == 0 and not self._by_name
        for name, weight in self.weights.items():
            tau = max(cut.values()) if shared else cut[name]
            weight.copy_(softshrink(weight, tau))
