"""Checks of notebook 10."""

from __future__ import annotations

from numbers import Integral

import torch

from cspkit.teach.check import Verdict, exercise


@exercise("10.kept")
def kept(answer) -> Verdict:
    total = 331264
    end = answer(400, 400, 0.95, 6, total)
    if end == round(0.95 * total):
        return "this is the number of zeros; the weights that are left are asked for"
    if not isinstance(end, Integral):
        return f"a number of weights is an int, but this is a {type(end).__name__}"
    if answer(0, 400, 0.95, 6, total) != total:
        return "at step 0 nothing is cut yet, all weights are kept"
    if answer(500, 400, 0.95, 6, total) != end:
        return "after step n the sparsity stays at s: the ramp holds for t < n only"
    if answer(100, 400, 0.95, 3, total) == answer(100, 400, 0.95, 6, total):
        return "the exponent p has no effect"
    quarter = total - round(0.95 * (1 - 0.75**6) * total)
    got = (end, answer(100, 400, 0.95, 6, total))
    if got != (16563, quarter):
        return f"expected 16563 at step 400 and {quarter} at step 100, got {got[0]} and {got[1]}"
    return None


@exercise("10.hard_threshold")
def hard_threshold(answer) -> Verdict:
    V = torch.tensor([0.5, -2.0, 0.1, 1.0])
    given = V.clone()
    Z = answer(V, 2)
    if not isinstance(Z, torch.Tensor):
        return f"expected a tensor, got {type(Z).__name__}"
    if not torch.equal(V, given):
        return "V itself was changed: it is the memory, return a new tensor"
    if torch.equal(Z, torch.tensor([0.5, 0.0, 0.0, 1.0])):
        return "the largest values are kept, not the largest magnitudes: -2 is lost"
    if torch.equal(Z, torch.tensor([0.0, 2.0, 0.0, 1.0])):
        return "the sign is lost: -2 became 2"
    if torch.equal(Z, torch.tensor([0.5, 0.0, 0.1, 0.0])):
        return "the smallest entries are kept, not the largest"
    if Z.shape == (2,):
        return "only the kept entries are returned: their places are lost"
    if not torch.equal(Z, torch.tensor([0.0, -2.0, 0.0, 1.0])):
        return f"expected [0, -2, 0, 1], got {Z.tolist()}"
    matrix = torch.arange(6.0).view(2, 3)
    if answer(matrix, 3).shape != (2, 3):
        return f"a (2, 3) matrix became {tuple(answer(matrix, 3).shape)}: keep the shape of V"
    if int((answer(torch.ones(4), 2) != 0).sum()) != 2:
        return "with equal magnitudes more than k entries are kept: exactly k are asked for"
    return None
