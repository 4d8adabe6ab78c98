"""Which weights are kept: their number in each layer, and the hard threshold that picks them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cspkit.arguments import ArgumentError

BUDGETS = ("global", "uniform", "erk")


def keep_largest(magnitudes: Tensor, k: int) -> Tensor:
    """Mask of the k largest entries, exactly k: the support of the hard threshold H_k.

    Parameters
    ----------
    magnitudes : Tensor
        Of any shape. If entries are equal, those with lower indices are kept.
    k : int
        0 to magnitudes.numel().

    Returns
    -------
    Tensor
        bool, shaped as `magnitudes`.

    Raises
    ------
    ArgumentError
        If the k largest entries cannot be found because of NaN. A NaN is never kept.
    """
    flat = magnitudes.flatten()
    n = len(flat)
    if k <= 0:
        return torch.zeros_like(magnitudes, dtype=torch.bool)
    if n > 50_000:
        # A sample, every 37th value, gives bounds on the k-th largest value. Then only the
        # few values between the bounds must be ranked.
        sample = flat[::37]
        m = len(sample)
        rank = k * m / n
        margin = 5 + 4 * (rank * (1 - rank / m)) ** 0.5
        first, last = int(rank - margin), int(rank + margin) + 1
        if first >= 1 and last <= m:
            high, low = (sample.kthvalue(m - r + 1).values for r in (first, last))
            mask = flat > high
            between = ((flat >= low) & ~mask).nonzero().squeeze(1)
            missing = k - int(mask.count_nonzero())
            if 0 < missing <= len(between):
                mask[between] = _largest(flat[between], missing)
                return mask.view_as(magnitudes)
    return _largest(flat, k).view_as(magnitudes)


def _largest(values: Tensor, k: int) -> Tensor:
    threshold = values.kthvalue(len(values) - k + 1).values
    mask = values >= threshold
    excess = int(mask.count_nonzero()) - k
    if excess < 0:
        raise ArgumentError("magnitudes contain NaN: expected numbers that can be ranked")
    if excess > 0:
        mask[(values == threshold).nonzero().squeeze(1)[-excess:]] = False
    return mask


def masks_of_largest(
    weights: dict[str, Tensor], sparsity: float, budget: str, floor: float = 0.0
) -> dict[str, Tensor]:
    """Make masks that keep the weights of largest magnitude.

    Parameters
    ----------
    weights : dict of Tensor
        By name.
    sparsity : float
        Zeros / weights, of all layers together. The number of zeros is rounded to the nearest
        whole number.
    budget : {"global", "uniform", "erk"}
        "global" is one threshold for all layers. The others give each layer its own number of
        weights, see `layer_counts`.
    floor : float
        Each layer keeps at least this fraction of its weights, rounded up. With any floor above
        zero, no layer becomes empty.

    Returns
    -------
    dict of Tensor
        bool; True is kept.

    Raises
    ------
    ArgumentError
        If the floors keep more weights than the sparsity allows, or if weights cannot be ranked
        because of NaN.
    """
    total = sum(w.numel() for w in weights.values())
    n_kept = total - round(sparsity * total)
    least = {n: math.ceil(floor * w.numel() - 1e-9) for n, w in weights.items()}
    if sum(least.values()) > n_kept:
        raise ArgumentError(
            f"sparsity is {sparsity}: expected at most {1 - sum(least.values()) / total:.6g}, "
            f"since floor = {floor} keeps {sum(least.values())} of {total} weights"
        )
    if budget == "global":
        magnitudes = [w.abs().flatten() for w in weights.values()]
        if floor > 0:
            for layer, k in zip(magnitudes, least.values(), strict=True):
                layer[keep_largest(layer, k)] = math.inf
        parts = keep_largest(torch.cat(magnitudes), n_kept).split([len(m) for m in magnitudes])
        return {
            name: part.view_as(w) for (name, w), part in zip(weights.items(), parts, strict=True)
        }
    counts = layer_counts({n: w.shape for n, w in weights.items()}, n_kept, budget, least)
    return {name: keep_largest(w.abs(), counts[name]) for name, w in weights.items()}


def layer_counts(
    shapes: dict[str, tuple[int, ...]],
    n_kept: int,
    budget: str,
    least: dict[str, int] | None = None,
) -> dict[str, int]:
    """Compute how many weights each layer keeps, from the shapes alone.

    A layer of n weights gets the density

        uniform    c
        erk        c (sum of its dimensions) / n;    for a matrix c (n_in + n_out) / (n_in n_out)

    limited to the range from its floor to 1. The factor c is chosen so that the layers keep n_kept
    weights together. A recurrent matrix is used as it is stored, with its gates stacked.

    Parameters
    ----------
    shapes : dict of tuple
        By name.
    n_kept : int
        Number of weights to keep in all layers together.
    budget : {"uniform", "erk"}
    least : dict of int, optional
        Smallest number of weights of each layer; the default is 0.

    Returns
    -------
    dict of int
        Their sum is n_kept.

    References
    ----------
    Evci et al., "Rigging the lottery", arXiv:1911.11134 (ERK).
    """
    size = {name: math.prod(shape) for name, shape in shapes.items()}
    least = least or dict.fromkeys(shapes, 0)
    share = {n: size[n] if budget == "uniform" else sum(shapes[n]) for n in shapes}
    counts, free, left = {}, dict(share), n_kept
    while free:
        # A share outside its bounds is set to the bound. In one round this happens either to all
        # shares that are too large or to all that are too small: to the group that is farther
        # from its bounds in total. The other layers share the rest.
        c = left / sum(free.values())
        over = {n: c * s - size[n] for n, s in free.items() if c * s > size[n] - 1e-6}
        under = {n: least[n] - c * s for n, s in free.items() if c * s < least[n] + 1e-6}
        if not over and not under:
            break
        cap = not under or (over and sum(over.values()) >= sum(under.values()))
        for name in over if cap else under:
            counts[name] = size[name] if cap else least[name]
            left -= counts[name]
            del free[name]
    spent, shared = 0, 0.0
    for name, s in free.items():
        # Rounding the running sum keeps the total exact, and no layer is off by more than one.
        shared += c * s
        counts[name] = math.floor(shared + 0.5) - spent
        spent += counts[name]
    return counts
