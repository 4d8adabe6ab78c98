"""One-shot magnitude pruning."""

from __future__ import annotations

from torch import nn

from cspkit.pruning.gradual import MaskedPruner


class OneShot(MaskedPruner):
    """One-shot magnitude pruning: cut the smallest weights at step 0, then fine-tune.

        Z <- H_k(W)                        once
        Z <- Z - eta mask * grad_Z L(Z)    in every step

    Every other method ends with the same phase of fine-tuning. Here the whole run is this phase.

    Parameters
    ----------
    weights, sparsity, steps, budget, floor
        See `MaskedPruner`.

    References
    ----------
    Han et al., "Learning both weights and connections for efficient neural networks",
    NeurIPS 2015, arXiv:1506.02626 (here only one round).
    """

    def __init__(
        self,
        weights: dict[str, nn.Parameter],
        sparsity: float,
        steps: int,
        *,
        budget: str = "global",
        floor: float = 0.0,
    ) -> None:
        super().__init__(weights, sparsity, steps, end=0.0, budget=budget, floor=floor)
