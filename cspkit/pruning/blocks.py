"""Structured supports: neighbours that live and die together, or N of every M."""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F
from torch import Tensor

from cspkit.pruning.budget import masks_of_largest

Tensors = dict[str, Tensor]


class Block:
    """A shape of the support: "1x1", "1xB" or "N:M".

    "1xB": blocks of B neighbours of a row, kept by their Euclidean norm, as the group prox keeps
    them; the last block of a row may be shorter. "N:M": the N largest of every M neighbours of a
    row are ahead of all others, so that a rising sparsity thins out to them.

    Parameters
    ----------
    name : str

    Raises
    ------
    ValueError
        If `name` is no such shape.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.size, self.pattern = 1, None
        text = name if isinstance(name, str) else ""
        if match := re.fullmatch(r"1x([1-9]\d*)", text):
            self.size = int(match[1])
        elif match := re.fullmatch(r"([1-9]\d*):([1-9]\d*)", text):
            self.pattern = int(match[1]), int(match[2])
        if self.pattern is not None and self.pattern[0] >= self.pattern[1] or not match:
            raise ValueError(f"block is {name!r}: expected '1xB', such as '1x4', or 'N:M': '2:4'")

    def check(self, weights: Tensors, sparsity: float, budget: str, floor: float) -> None:
        """Refuse what the shape cannot be made for.

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
        ValueError
            If the budget of blocks or patterns is not "global", without floors; or if, with N:M,
            the sparsity is not 1 - N / M, or a row is no whole number of M weights.
        """
        if self.name != "1x1" and (budget, floor) != ("global", 0.0):
            raise ValueError(
                f"block is {self.name!r} with budget {budget!r} and floor {floor}: "
                "expected 'global' and 0"
            )
        if self.pattern is None:
            return
        n, m = self.pattern
        if abs(sparsity - (1 - n / m)) > 1e-9:
            raise ValueError(f"sparsity is {sparsity!r}: expected {1 - n / m} with block {n}:{m}")
        for name, weight in weights.items():
            if weight[0].numel() % m:
                raise ValueError(
                    f"block is {self.name!r}, but a row of {name} has {weight[0].numel()} weights:"
                    f" expected a multiple of {m}; name the layers to prune without it"
                )

    def masks(self, scores: Tensors, sparsity: float, budget: str, floor: float) -> Tensors:
        """Masks that keep the weights, or blocks, of largest score.

        Parameters
        ----------
        scores : dict of Tensor
            Not negative, by the name of the weight.
        sparsity : float
            Zeros / weights. With "1xB" they are met to one block.
        budget, floor
            See `masks_of_largest`.

        Returns
        -------
        dict of Tensor
            bool; True is kept.
        """
        if self.size > 1:
            return _masks_of_blocks(scores, sparsity, self.size)
        if self.pattern is not None:
            scores = _winners_first(scores, *self.pattern)
        return masks_of_largest(scores, sparsity, budget, floor)


def block_norms(scores: Tensor, size: int) -> Tensor:
    """Euclidean norms of the blocks of `size` neighbours of each row, (out, ceil(n / size))."""
    rows = scores.flatten(1)
    return F.pad(rows, (0, -rows.shape[1] % size)).unflatten(1, (-1, size)).norm(dim=2)


def spread(values: Tensor, like: Tensor, size: int) -> Tensor:
    """A value for each block, (out, ceil(n / size)), given to all of its weights."""
    rows = values.repeat_interleave(size, dim=1)
    return rows[:, : like[0].numel()].reshape(like.shape)


def _masks_of_blocks(scores: Tensors, sparsity: float, size: int) -> Tensors:
    norms = {name: block_norms(s, size) for name, s in scores.items()}
    sizes = {name: block_norms(torch.ones_like(s), size).square() for name, s in scores.items()}
    total = sum(s.numel() for s in scores.values())
    smallest_first = torch.cat([n.flatten() for n in norms.values()]).argsort(stable=True)
    zeros = torch.cat([s.flatten() for s in sizes.values()])[smallest_first].double().cumsum(0)
    kept = torch.ones(len(zeros), dtype=torch.bool, device=zeros.device)
    kept[smallest_first[zeros.round() <= round(sparsity * total)]] = False
    masks, parts = {}, kept.split([n.numel() for n in norms.values()])
    for (name, s), part in zip(scores.items(), parts, strict=True):
        masks[name] = spread(part.view_as(norms[name]), s, size)
    return masks


def _winners_first(scores: Tensors, n: int, m: int) -> Tensors:
    top = max(float(s.max()) for s in scores.values()) + 1.0
    preferred = {}
    for name, s in scores.items():
        groups = s.reshape(-1, m)
        winners = torch.zeros_like(groups).scatter_(1, groups.topk(n, dim=1).indices, top)
        preferred[name] = (groups + winners).view_as(s)
    return preferred
