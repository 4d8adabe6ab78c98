"""Hold the masks of a pruned model while it is trained further."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cspkit.arguments import ArgumentError
from cspkit.pruner import Pruner


class Hold(Pruner):
    """Hold given masks: the zeros of a pruned model stay while its other weights are trained.

        W <- mask * (W - eta mask * grad L(W))    in every step

    Use it to fine-tune or to quantise a pruned model.

    Parameters
    ----------
    weights : dict of nn.Parameter
        The prunable weights, by name. Those that the masks cut are set to zero immediately.
    masks : dict of Tensor
        bool, with the same names and shapes; True is kept.

    Raises
    ------
    ArgumentError
        If the masks do not fit the weights.
    """

    def __init__(self, weights: dict[str, nn.Parameter], masks: dict[str, Tensor]) -> None:
        super().__init__(weights)
        expected = {name: (tuple(weight.shape), torch.bool) for name, weight in weights.items()}
        found = {name: (tuple(mask.shape), mask.dtype) for name, mask in masks.items()}
        if not expected or expected != found:
            raise ArgumentError(f"masks have shapes and dtypes {found}: expected {expected}")
        self.masks = {n: mask.to(weights[n].device, copy=True) for n, mask in masks.items()}
        self.conclude()

    def debiasing(self, step: int) -> bool:
        """The support is frozen in every step."""
        return True

    def after_backward(self, step: int) -> None:
        """Give no gradient to weights that are cut."""
        self.mask_gradients()

    def after_update(self, step: int) -> None:
        """Undo what momentum and weight decay did to weights that are cut."""
        self.apply_masks()

    def conclude(self) -> None:
        """Set the weights that are cut to zero."""
        self.apply_masks()
