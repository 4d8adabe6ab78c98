"""What the methods share: masks, a schedule, and the debiasing under a frozen support."""

from __future__ import annotations

from numbers import Real

import torch
from torch import Tensor, nn

from cspkit.arguments import count, fraction, positive
from cspkit.pruning.budget import BUDGETS, masks_of_largest
from cspkit.pruning.schedule import polynomial_sparsity


class MaskedPruner:
    """Base of all methods: weights, their masks, and a last phase in which the masks stay.

    At step `end` the largest weights are kept, exactly as many as the target says, and the rest
    are zero from there on: the survivors alone are trained, the debiasing step of compressed
    sensing. What comes before `end` is up to the method, which extends the hooks below.

    Numbers and strings among a method's attributes are its settings. Dicts of tensors named in
    `remembers` are its state; anything else it must be able to make again from the first weights.

    Parameters
    ----------
    weights : dict of nn.Parameter
        The prunable weights, by name.
    sparsity : float
        Final zeros / prunable weights, 0 <= sparsity < 1, met to one weight.
    steps : int
        Length of the whole run.
    end : float
        Fraction of the steps after which the support is frozen.
    budget : {"global", "uniform", "erk"}
        How many weights each layer keeps, see `cspkit.pruning.budget`.
    floor : float
        Fraction of its weights that each layer keeps at the least.

    Attributes
    ----------
    masks : dict of Tensor
        bool; True is kept.
    """

    mu = 0.0  # default weight of the compression-error term
    budgets = BUDGETS
    remembers: tuple[str, ...] = ("masks",)

    def __init__(
        self,
        weights: dict[str, nn.Parameter],
        sparsity: float,
        steps: int,
        *,
        end: float = 2 / 3,
        budget: str = "global",
        floor: float = 0.0,
    ) -> None:
        _validate(weights, sparsity, budget, self.budgets)
        self.weights = weights
        self.target = float(sparsity)
        self.end = int(fraction("end", end) * steps)
        self.budget = budget
        self.floor = fraction("floor", floor)
        self.masks = {n: torch.ones_like(w, dtype=torch.bool) for n, w in weights.items()}
        self.largest(self.target)  # a target that the floors rule out is told before the training

    @property
    def sparsity(self) -> float:
        """Zeros / prunable weights of the masks."""
        kept = sum(int(m.count_nonzero()) for m in self.masks.values())
        return 1.0 - kept / sum(m.numel() for m in self.masks.values())

    @property
    def settings(self) -> dict[str, object]:
        """What tells this run from one with other settings."""
        sizes = {name: list(weight.shape) for name, weight in self.weights.items()}
        own = {n: v for n, v in vars(self).items() if isinstance(v, int | float | str)}
        return own | {"weights": sizes}

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs beside the weights."""
        return {
            f"{attribute}.{name}": tensor
            for attribute in self.remembers
            for name, tensor in getattr(self, attribute).items()
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        for attribute in self.remembers:
            kept = getattr(self, attribute)
            for name in kept:
                kept[name].copy_(state[f"{attribute}.{name}"])

    def before_forward(self, step: int) -> None:
        """Cut when the schedule is over."""
        if step == self.end:
            self.cut()

    def after_backward(self, step: int) -> None:
        """Give no gradient to what is cut."""
        if self.debiasing(step):
            self.mask_gradients()

    def after_update(self, step: int) -> None:
        """Undo what momentum did to weights that are cut."""
        if self.debiasing(step):
            self.apply_masks()

    def finish(self) -> None:
        """Leave the final weights in the model; a frozen support is its own largest part."""
        self.cut()

    def debiasing(self, step: int) -> bool:
        """Whether the support is frozen at this step."""
        return step >= self.end

    def largest(self, sparsity: float) -> dict[str, Tensor]:
        """Masks of the largest weights that the model holds, within the budget."""
        weights = {n: w.data for n, w in self.weights.items()}
        return masks_of_largest(weights, sparsity, self.budget, self.floor)

    def cut(self) -> None:
        """W <- H_k(W) at the final k."""
        self.masks = self.largest(self.target)
        self.apply_masks()

    def apply_masks(self) -> None:
        """Set what is cut to zero."""
        for name, weight in self.weights.items():
            weight.data.mul_(self.masks[name])

    def mask_gradients(self) -> None:
        """No gradient for what is cut."""
        for name, weight in self.weights.items():
            if weight.grad is not None:
                weight.grad.mul_(self.masks[name])


class GradualPruner(MaskedPruner):
    """Base of the methods whose sparsity rises along the polynomial schedule until `end`.

    Between steps the model's parameters may hold dense weights V. `hard_threshold` replaces them
    by the sparse Z, which keeps the entries of V in the mask; `restore_dense` puts V back, with
    the gradient taken at Z.

    Parameters
    ----------
    weights, sparsity, steps, end, budget, floor
        See `MaskedPruner`.
    exponent : float
        Of the polynomial schedule.
    every : int
        Steps between two updates of the masks.
    """

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
        floor: float = 0.0,
    ) -> None:
        super().__init__(weights, sparsity, steps, end=end, budget=budget, floor=floor)
        self.exponent = positive("exponent", exponent)
        self.every = count("every", every)
        self._dense = {n: torch.empty_like(w.data) for n, w in weights.items()}

    def scheduled(self, step: int) -> float:
        """Sparsity that the schedule asks for at a step."""
        return polynomial_sparsity(step, self.end, self.target, self.exponent)

    def hard_threshold(self, step: int) -> None:
        """Z <- H_k(V): choose the support (where it is due) and show Z to the loss."""
        if step >= self.end:
            MaskedPruner.before_forward(self, step)
            return
        if step % self.every == 0:
            self.masks = self.largest(self.scheduled(step))
        for name, weight in self.weights.items():
            self._dense[name].copy_(weight.data)
            torch.mul(self._dense[name], self.masks[name], out=weight.data)

    def restore_dense(self) -> None:
        """Put V back into the model; the gradient stays that at Z."""
        for name, weight in self.weights.items():
            weight.data.copy_(self._dense[name])


def _validate(weights, sparsity, budget, budgets) -> None:
    if not weights:
        raise ValueError("weights is empty: expected at least one prunable weight")
    for name, weight in weights.items():
        if not weight.requires_grad:
            raise ValueError(
                f"weights has {name!r}, which is frozen (requires_grad=False): expected weights "
                "that are trained; name the layers to prune without it"
            )
    if not isinstance(sparsity, Real) or not 0 <= sparsity < 1:
        raise ValueError(f"sparsity is {sparsity!r}: expected a number in [0, 1)")
    if budget not in budgets:
        raise ValueError(f"budget is {budget!r}: expected one of {', '.join(map(repr, budgets))}")
