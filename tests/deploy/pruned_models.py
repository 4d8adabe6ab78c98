"""Models with zeros, for the tests of this folder."""

import copy

import torch

from cspkit.pruning.budget import keep_largest


def pruned(model, sparsity, block=(1, 1)):
    """A copy of a model with the smallest blocks of its matrices set to zero."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in model.prunable:
                (r, c), (R, C) = block, weight.shape
                r, c = (r, c) if R % r == 0 and C % c == 0 else (1, 1)
                norms = weight.abs().view(R // r, r, C // c, c).sum(dim=(1, 3))
                kept = keep_largest(norms, round((1 - sparsity) * norms.numel()))
                weight.mul_(kept.repeat_interleave(r, 0).repeat_interleave(c, 1)).add_(0.0)
    return model
