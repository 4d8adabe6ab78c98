"""Gradual magnitude pruning."""

from __future__ import annotations

from cspkit.pruning.gradual import GradualPruner


class GMP(GradualPruner):
    """Gradual magnitude pruning: the smallest weights are masked, along a schedule.

        Z <- H_k(W)
        W <- W - eta mask * grad_Z L(Z)

    A masked weight keeps the value that it had when it was cut and gets no gradient, so it comes
    back only where others shrink below it.

    Parameters
    ----------
    weights, sparsity, steps, exponent, end, every, budget
        See `GradualPruner`. The masks are chosen anew in every step, which is the stronger
        baseline in short runs; the original does so every hundred steps or more.

    References
    ----------
    Zhu and Gupta, "To prune, or not to prune", arXiv:1710.01878.
    """

    def before_forward(self, step: int) -> None:
        self.hard_threshold(step)

    def after_backward(self, step: int) -> None:
        self.mask_gradients()

    def after_update(self, step: int) -> None:
        # Momentum moves a weight without a gradient: what is cut takes its value back.
        for name, weight in self.weights.items():
            cut = 0.0 if self.debiasing(step) else self._dense[name]
            weight.data.copy_(weight.data.where(self.masks[name], cut))
