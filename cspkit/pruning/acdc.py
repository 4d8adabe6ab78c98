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

    H_k keeps the k largest weights and sets all others to zero. In every sparse phase, k is the
    number that the final sparsity allows. AC/DC is iterative hard thresholding with many gradient
    steps between two hard thresholds; in the dense phases these steps also move weights outside the
    support. The first phase is dense. The last dense phase ends at `end`, and the run stays sparse
    after it.

    Parameters
    ----------
    weights, sparsity, steps, end, budget, floor
        See `MaskedPruner`.
    cycles : int
        Number of dense phases. With the sparse phases between them there are 2 cycles - 1 phases
        before `end`, all of equal length.

    Notes
    -----
    A weight that was cut starts a dense phase from zero. The moments of Adam belong to the
    optimizer and are not reset. In a sparse phase a cut weight gets no gradient, and its first
    moment is multiplied by 0.9 in each step. At the end of the phase it is almost zero, so no old
    gradient moves the weight. In the original, the last dense phase is longer than the others,
    and the momentum of SGD is reset.

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
        """Number of the phase of a step before `end`; even phases are dense."""
        return step * (2 * self.cycles - 1) // self.end

    def choose(self, step: int) -> None:
        super().choose(step)
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
