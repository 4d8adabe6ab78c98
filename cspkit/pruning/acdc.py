"""Alternating compressed and decompressed training."""

from __future__ import annotations

import torch
from torch import nn

from cspkit.arguments import count
from cspkit.pruning.gradual import MaskedPruner


class ACDC(MaskedPruner):
    """Alternating compressed / decompressed training (AC/DC): dense and sparse phases in turn.

        dense phase     W <- W - eta grad L(W)
        sparse phase    W <- H_k(W)  at its start, then  W <- W - eta mask * grad L(W)

    The target's k holds in every sparse phase: iterative hard thresholding with many steps
    between two thresholds, of which some may leave the support. The first phase is dense, the
    last dense one is over at `end`, and the run stays sparse from there on.

    Parameters
    ----------
    weights, sparsity, steps, end, budget, floor
        See `MaskedPruner`.
    cycles : int
        Dense phases. With the sparse phases between them they are 2 cycles - 1, of one length.

    Notes
    -----
    A weight that was cut starts a dense phase from zero. The moments of Adam are not reset
    there, being the optimizer's: without a gradient the first moment has died out by then (0.9
    to the power of the phase's length) and nothing old moves the weight. The original's dense
    phase at the end is longer than the others, and its SGD resets momentum.

    References
    ----------
    Peste et al., "AC/DC: alternating compressed/decompressed training of deep neural networks",
    NeurIPS 2021, arXiv:2106.12379.
    """

    def __init__(
        self,
        weights: dict[str, nn.Parameter],
        sparsity: float,
        steps: int,
        *,
        cycles: int = 4,
        end: float = 2 / 3,
        budget: str = "global",
        floor: float = 0.0,
    ) -> None:
        super().__init__(weights, sparsity, steps, end=end, budget=budget, floor=floor)
        self.cycles = count("cycles", cycles)

    def phase(self, step: int) -> int:
        """Number of the phase that a step before `end` is in; even ones are dense."""
        return step * (2 * self.cycles - 1) // self.end

    def before_forward(self, step: int) -> None:
        super().before_forward(step)
        if self.debiasing(step) or (step > 0 and self.phase(step) == self.phase(step - 1)):
            return
        if self.phase(step) % 2 == 1:
            self.cut()
        else:
            self.masks = {n: torch.ones_like(m) for n, m in self.masks.items()}

    def after_backward(self, step: int) -> None:
        self.mask_gradients()

    def after_update(self, step: int) -> None:
        self.apply_masks()
