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
    threshold = kth_largest(flat, k)
    mask = flat > threshold
    ties = (flat == threshold).nonzero().squeeze(1)
    mask[ties[: k - int(mask.sum())]] = True
    return mask.view_as(magnitudes)


def kth_largest(values: Tensor, k: int) -> Tensor:
    """The k-th largest of values (n,), 1 <= k <= n; exact.

    Selection among all weights is the dearest part of a threshold. Every 37th of many values
    brackets the answer, and the selection is then among the few between the brackets.
    """
    n = len(values)
    if n > 50_000:
        sample = values[::37]
        rank, m = k * len(sample) / n, len(sample)
        margin = 5 + 4 * (rank * (1 - rank / m)) ** 0.5
        first, last = int(rank - margin), int(rank + margin) + 1
        if first >= 1 and last <= m:
            high, low = sample.kthvalue(m - first + 1).values, sample.kthvalue(m - last + 1).values
            between = values[(values >= low) & (values <= high)]
            above = int((values > high).sum())
            if above < k <= above + len(between):
                return between.kthvalue(len(between) - (k - above) + 1).values
    return values.kthvalue(n - k + 1).values


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
