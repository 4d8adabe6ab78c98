"""What gradual methods share: dense weights, masks, a schedule, and the debiasing at its end."""

from __future__ import annotations

from numbers import Real

import torch
from torch import Tensor, nn

from cspkit.pruning.budget import BUDGETS, masks_of_largest
from cspkit.pruning.schedule import polynomial_sparsity


class GradualPruner:
    """Base of the methods that cut along a schedule, then train the survivors alone.

    Between steps the model's parameters hold the dense weights V. `before_forward` replaces them
    by the sparse Z, which keeps the entries of V in the mask; `after_backward` puts V back, with
    the gradient taken at Z. From step `end` on the support is frozen (Z is all that is left) and
    its values are trained on: the debiasing step of compressed sensing.

    Parameters
    ----------
    weights : dict of nn.Parameter
        The prunable weights, by name.
    sparsity : float
        Final zeros / prunable weights, 0 <= sparsity < 1, met to one weight.
    steps : int
        Length of the whole run.
    exponent : float
        Of the polynomial schedule.
    end : float
        Fraction of the steps after which the support is frozen.
    every : int
        Steps between two updates of the masks.
    budget : {"global", "uniform"}

    Attributes
    ----------
    masks : dict of Tensor
        bool; True is kept.
    """

    mu = 0.0  # default weight of the compression-error term

    def __init__(
        self,
        weights: dict[str, nn.Parameter],
        sparsity: float,
        steps: int,
        *,
        exponent: float = 6.0,
        end: float = 2 / 3,
        every: int = 1,
        budget: str = "global",
    ) -> None:
        _validate(weights, sparsity, exponent, end, every, budget)
        self.weights = weights
        self.target = sparsity
        self.end = int(end * steps)
        self.exponent = exponent
        self.every = every
        self.budget = budget
        self.masks = {n: torch.ones_like(w, dtype=torch.bool) for n, w in weights.items()}
        self._dense: dict[str, Tensor] = {}

    @property
    def sparsity(self) -> float:
        """Zeros / prunable weights of the masks."""
        kept = sum(int(m.sum()) for m in self.masks.values())
        return 1.0 - kept / sum(m.numel() for m in self.masks.values())

    @property
    def settings(self) -> dict[str, object]:
        """What tells this run from one with other settings."""
        sizes = {name: list(weight.shape) for name, weight in self.weights.items()}
        names = ("target", "end", "exponent", "every", "budget")
        return {name: getattr(self, name) for name in names} | {"weights": sizes}

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs beside the weights."""
        return dict(self.masks)

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        self.masks = dict(state)

    def debiasing(self, step: int) -> bool:
        """Whether the support is frozen at this step."""
        return step >= self.end

    def hard_threshold(self, step: int) -> None:
        """Z <- H_k(V): choose the support (where it is due) and show Z to the loss."""
        if step <= self.end and (step % self.every == 0 or step == self.end):
            s = polynomial_sparsity(step, self.end, self.target, self.exponent)
            dense = {n: w.data for n, w in self.weights.items()}
            self.masks = masks_of_largest(dense, s, self.budget)
        for name, weight in self.weights.items():
            if not self.debiasing(step):
                self._dense[name] = weight.data.clone()
            weight.data.mul_(self.masks[name])

    def restore_dense(self) -> None:
        """Put V back into the model; the gradient stays that at Z."""
        for name, weight in self.weights.items():
            weight.data.copy_(self._dense[name])

    def mask_gradients(self) -> None:
        """No gradient for what is cut."""
        for name, weight in self.weights.items():
            if weight.grad is not None:
                weight.grad.mul_(self.masks[name])

    def finish(self) -> None:
        """Leave Z in the model: H_k(V) at the final k, which a frozen support already is."""
        self.hard_threshold(self.end)


def _validate(weights, sparsity, exponent, end, every, budget) -> None:
    if not weights:
        raise ValueError("weights is empty: expected at least one prunable weight")
    if not isinstance(sparsity, Real) or not 0 <= sparsity < 1:
        raise ValueError(f"sparsity is {sparsity!r}: expected a number in [0, 1)")
    if not exponent > 0:
        raise ValueError(f"exponent is {exponent!r}: expected a number > 0")
    if not 0 <= end <= 1:
        raise ValueError(f"end is {end!r}: expected a fraction of the steps in [0, 1]")
    if int(every) != every or every < 1:
        raise ValueError(f"every is {every!r}: expected a positive number of steps")
    if budget not in BUDGETS:
        raise ValueError(f"budget is {budget!r}: expected {' or '.join(map(repr, BUDGETS))}")
