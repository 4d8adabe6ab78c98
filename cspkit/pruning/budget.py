"""Which: how many weights each layer keeps, and the hard threshold that keeps the largest."""

from __future__ import annotations

import torch
from torch import Tensor

BUDGETS = ("global", "uniform")


def keep_largest(magnitudes: Tensor, k: int) -> Tensor:
    """Mask of the k largest entries, exactly k: the support of the hard threshold H_k.

    Parameters
    ----------
    magnitudes : Tensor
        Of any shape; ties are kept in the order of their index.
    k : int
        0 to magnitudes.numel().

    Returns
    -------
    Tensor
        bool, shaped as `magnitudes`.
    """
    flat = magnitudes.flatten()
    if k <= 0:
        return torch.zeros_like(magnitudes, dtype=torch.bool)
    threshold = flat.kthvalue(len(flat) - k + 1).values
    mask = flat > threshold
    ties = (flat == threshold).nonzero().squeeze(1)
    mask[ties[: k - int(mask.sum())]] = True
    return mask.view_as(magnitudes)


def masks_of_largest(weights: dict[str, Tensor], sparsity: float, budget: str) -> dict[str, Tensor]:
    """Masks that keep the weights of largest magnitude.

    Parameters
    ----------
    weights : dict of Tensor
        By name.
    sparsity : float
        Zeros / all of these weights; their number is rounded to the nearest whole one.
    budget : {"global", "uniform"}
        One threshold for all layers, or the same sparsity in each.

    Returns
    -------
    dict of Tensor
        bool; True is kept.
    """
    total = sum(w.numel() for w in weights.values())
    n_kept = total - round(sparsity * total)
    if budget == "global":
        magnitudes = torch.cat([w.abs().flatten() for w in weights.values()])
        parts = keep_largest(magnitudes, n_kept).split([w.numel() for w in weights.values()])
        return {
            name: part.view_as(w) for (name, w), part in zip(weights.items(), parts, strict=True)
        }
    masks, left, unseen = {}, n_kept, total
    for name, w in weights.items():
        # Rounding errors are carried on, so that the total is exact.
        k = round(left * w.numel() / unseen)
        masks[name] = keep_largest(w.abs(), k)
        left, unseen = left - k, unseen - w.numel()
    return masks
