"""Gradual magnitude pruning."""

from __future__ import annotations

from torch import nn

from cspkit.pruning.gradual import GradualPruner


class GMP(GradualPruner):
    """Gradual magnitude pruning: a schedule says how many of the smallest weights are masked.

        Z <- H_k(W)
        W <- W - eta mask * grad_Z L(Z)

    H_k keeps the k largest weights and sets all others to zero. In W, a masked weight keeps the
    value that it had when it was cut, and gets no gradient. It comes back only if other weights
    shrink below it. With `keep_values=False` it is set to zero, W <- Z, as some implementations do,
    and never comes back.

    Parameters
    ----------
    weights, sparsity, steps, exponent, end, every, budget, floor
        See `GradualPruner`. By default the masks are chosen again in every step. In short runs this
        is a stronger baseline than the original, which chooses them every hundred steps or more.
    keep_values : bool
        Whether masked weights keep their values.

    References
    ----------
    Zhu and Gupta, "To prune, or not to prune", arXiv:1710.01878.
    """

    def __init__(
        self,
        weights: dict[str, nn.Parameter],
        sparsity: float,
        steps: int,
        *,
        keep_values: bool = True,
        exponent: float = 6.0,
        end: float = 2 / 3,
        every: int = 1,
        budget: str = "global",
        floor: float = 0.0,
    ) -> None:
        super().__init__(
            weights, sparsity, steps,
            exponent=exponent, end=end, every=every, budget=budget, floor=floor,
        )  # fmt: skip
        self.keep_values = bool(keep_values)

    def after_backward(self, step: int) -> None:
        self.mask_gradients()

    def after_update(self, step: int) -> None:
        if self.debiasing(step) or not self.keep_values:
            self.apply_masks()
            return
        # Momentum moves weights even without a gradient: restore the values of masked weights.
        for name, weight in self.weights.items():
            weight.copy_(self._dense[name].lerp(weight, self.masks[name].to(weight.dtype)))
