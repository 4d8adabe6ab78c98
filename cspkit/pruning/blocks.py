"""Structured supports: neighbouring weights that are kept or cut together, or N of every M."""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F
from torch import Tensor

from cspkit.arguments import ArgumentError
from cspkit.pruning.budget import masks_of_largest

Tensors = dict[str, Tensor]
TINY = 1e-12


class Block:
    """A shape of the support: "1x1", "RxC" or "N:M".

    Each weight is treated as a matrix (out, n). For the kernel of a convolution, n = channels *
    width.

    "RxC": blocks of R neighbouring outputs by C neighbouring inputs. The blocks with the largest
    Euclidean norms are kept, as by the proximal operator of the group lasso. "1x8" means eight
    inputs of one output, "8x1" eight outputs of one input; one vector instruction can multiply such
    a block. The last blocks are smaller if R does not divide `out`, or if C does not divide n.

    "N:M": of every M neighbours in a row, the N largest are ranked before all other weights. So a
    rising sparsity cuts the other weights first, until N of every M are left.

    Parameters
    ----------
    name : str

    Attributes
    ----------
    shape : tuple of int
        (R, C); (1, 1) for "N:M".
    pattern : tuple of int or None
        (N, M) for "N:M", otherwise None.

    Raises
    ------
    ArgumentError
        If `name` is not one of these shapes.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.shape, self.pattern = (1, 1), None
        text = name if isinstance(name, str) else ""
        if match := re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text):
            self.shape = int(match[1]), int(match[2])
        elif match := re.fullmatch(r"([1-9]\d*):([1-9]\d*)", text):
            self.pattern = int(match[1]), int(match[2])
        if not match or (self.pattern is not None and self.pattern[0] >= self.pattern[1]):
            raise ArgumentError(
                f"block is {name!r}: expected 'RxC', such as '8x1', or 'N:M', such as '2:4'"
            )

    @property
    def size(self) -> int:
        """Number of weights in a full block."""
        return self.shape[0] * self.shape[1]

    def check(self, weights: Tensors, sparsity: float, budget: str, floor: float) -> None:
        """Refuse weights and settings that do not fit this shape.

        Parameters
        ----------
        weights : dict of Tensor
            (out, ...), by name.
        sparsity : float
            Final zeros / weights.
        budget, floor
            See `masks_of_largest`.

        Raises
        ------
        ArgumentError
            If blocks or patterns have a budget other than "global" or a floor above zero; or if,
            with N:M, the sparsity is not 1 - N / M, or M does not divide the length of a row.
        """
        if self.name != "1x1" and (budget, floor) != ("global", 0.0):
            raise ArgumentError(
                f"block is {self.name!r} with budget {budget!r} and floor {floor}: "
                "expected budget 'global' and floor 0"
            )
        if self.pattern is None:
            return
        n, m = self.pattern
        if abs(sparsity - (1 - n / m)) > 1e-9:
            raise ArgumentError(
                f"sparsity is {sparsity!r}: expected {1 - n / m} with block {n}:{m}"
            )
        for name, weight in weights.items():
            if weight[0].numel() % m:
                raise ArgumentError(
                    f"block is {self.name!r}, but a row of {name} has {weight[0].numel()} weights: "
                    f"expected a multiple of {m}; exclude this layer"
                )

    def masks(self, scores: Tensors, sparsity: float, budget: str, floor: float) -> Tensors:
        """Make masks that keep the weights, or blocks, with the largest scores.

        Parameters
        ----------
        scores : dict of Tensor
            Scores >= 0, by the name of the weight.
        sparsity : float
            Zeros / weights. With "RxC" it is exact up to one block.
        budget, floor
            See `masks_of_largest`.

        Returns
        -------
        dict of Tensor
            bool; True is kept.
        """
        if self.size > 1:
            return self._masks_of_blocks(scores, sparsity)
        if self.pattern is not None:
            scores = _winners_first(scores, *self.pattern)
        return masks_of_largest(scores, sparsity, budget, floor)

    def norms(self, values: Tensor) -> Tensor:
        """Euclidean norms of the blocks, (ceil(out / R), ceil(n / C))."""
        matrix, (R, C) = values.flatten(1), self.shape
        padded = F.pad(matrix, (0, -matrix.shape[1] % C, 0, -matrix.shape[0] % R))
        return padded.unflatten(1, (-1, C)).unflatten(0, (-1, R)).norm(dim=(1, 3))

    def spread(self, values: Tensor, like: Tensor) -> Tensor:
        """Give the value of each block to all its weights; the result has the shape of `like`."""
        whole = values.repeat_interleave(self.shape[0], 0).repeat_interleave(self.shape[1], 1)
        return whole[: len(like), : like[0].numel()].reshape(like.shape)

    def shrink(self, Z: Tensor, lam: Tensor, firm: bool) -> Tensor:
        """Apply a soft or firm threshold to each block z of Z. If ||z|| <= lam, z becomes 0.

        (1 - lam / ||z||) z         soft: the proximal operator of the group lasso
        2 (1 - lam / ||z||) z       firm, where ||z|| < 2 lam; z elsewhere
        """
        norms = self.norms(Z)
        factor = (1.0 - lam / norms.clamp_min(TINY)).clamp_min(0.0)
        if firm:
            factor = torch.where(norms < 2 * lam, 2 * factor, 1.0)
        return Z * self.spread(factor, Z)

    def _masks_of_blocks(self, scores: Tensors, sparsity: float) -> Tensors:
        norms = {name: self.norms(s) for name, s in scores.items()}
        sizes = [self.norms(torch.ones_like(s)).square().flatten() for s in scores.values()]
        total = sum(s.numel() for s in scores.values())
        smallest_first = torch.cat([n.flatten() for n in norms.values()]).argsort(stable=True)
        zeros = torch.cat(sizes)[smallest_first].double().cumsum(0)
        kept = torch.ones(len(zeros), dtype=torch.bool, device=zeros.device)
        kept[smallest_first[zeros.round() <= round(sparsity * total)]] = False
        parts = kept.split([n.numel() for n in norms.values()])
        return {
            name: self.spread(part.view_as(norms[name]), s)
            for (name, s), part in zip(scores.items(), parts, strict=True)
        }


def _winners_first(scores: Tensors, n: int, m: int) -> Tensors:
    top = max(float(s.max()) for s in scores.values()) + 1.0
    preferred = {}
    for name, s in scores.items():
        groups = s.reshape(-1, m)
        winners = torch.zeros_like(groups).scatter_(1, groups.topk(n, dim=1).indices, top)
        preferred[name] = (groups + winners).view_as(s)
    return preferred
