"""The check of a pruner whose cut weights stay cut, for notebook 14."""

import numpy as np
import torch
from torch import nn

from cspkit.pruner import Pruner
from cspkit.pruning import GradualPruner
from cspkit.teach.check import NOTHING, a_kind


class NeverBack(GradualPruner):
    def scores(self):
        return {name: self.masks[name] * size for name, size in super().scores().items()}


class MasksOnly(GradualPruner):
    def scores(self):
        return {name: mask.float() for name, mask in self.masks.items()}


def watched(method, start, gradient):
    """Return the masks of each step, the lowest score, and the dense weights after the last."""
    weight, gradient = nn.Parameter(torch.tensor(start)), torch.tensor(gradient)
    pruner, optimizer = method({"w": weight}, 0.5, 9), torch.optim.SGD([weight], lr=1.0)
    masks, lowest = [], 0.0
    for _ in range(6):  # the steps before the support is frozen
        optimizer.zero_grad()
        lowest = min(lowest, pruner.scores()["w"].min().item())
        with pruner.sparse():
            masks.append(pruner.masks["w"].tolist())
            (gradient * weight).sum().backward()
        pruner.step(optimizer)
    return np.array(masks), lowest, weight.detach().numpy()


def wrong_scores(answer):
    """What is wrong with the value of the method `scores`, without a call of it by its base."""
    weights = {"w": nn.Parameter(torch.arange(8.0))}
    if isinstance(answer, type):
        pruner = answer.__new__(answer)
        Pruner.__init__(pruner, weights)
        pruner.masks["w"][0] = False
        scores = pruner.scores()
    else:
        scores = answer(weights, 0.5, 9)
    if scores is None:
        return NOTHING
    if not isinstance(scores, dict):
        return f"`scores` returns {a_kind(scores)}, expected a dict, by name"
    if set(scores) != {"w"}:
        return f"the keys are {list(scores)}, expected those of self.weights, here ['w']"
    right = isinstance(scores["w"], torch.Tensor) and scores["w"].shape == (8,)
    return None if right else "the scores of a weight must be a tensor of its shape"


CASES = (
    ([0.25, 1.0, 3.0, 2.0, 4.0, 1.5, 6.0, 5.0], [-1.0, 0, 0, 0, 0, 0, 0, 0]),
    ([4.0, -8.0, 0.5, 3.0, -1.0, 6.0, -2.0, 7.0], [0.5, -0.25, -2.0, 0, 1.0, 0.5, 0.25, 1.0]),
    ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], [0.0] * 8),
)


def never_back(answer, compare):
    """Check a pruner whose cut weights stay cut."""
    if isinstance(answer, GradualPruner):
        return "this is an object; give the class itself"
    try:
        watched(answer, *CASES[0])
    except Exception:
        if wrong := wrong_scores(answer):
            return wrong
        raise
    for case in CASES:
        masks, lowest, V = watched(answer, *case)
        right, _, right_V = watched(NeverBack, *case)
        where, back = "weights {}, gradient {}".format(*case), np.argwhere(masks[1:] & ~masks[:-1])
        if lowest < 0:
            return f"{where}: a score is {lowest:g}, but must be at least 0; magnitudes are ranked"
        if np.array_equal(masks, right):
            if np.array_equal(V, right_V):
                continue
            return f"{where}: the dense weights V have changed; `scores` must only rank them"
        if len(back):
            t, i = back[0]
            return f"{where}: weight {i} was cut before step {t + 1}, and comes back in this step"
        if np.array_equal(masks, watched(MasksOnly, *case)[0]):
            return f"{where}: among the weights that are not cut, the magnitude decides"
        t = np.flatnonzero((masks != right).any(axis=1))[0]
        kept, wanted = (np.flatnonzero(m[t]).tolist() for m in (masks, right))
        return f"{where}: step {t} keeps the weights {kept}, expected {wanted}"
    return None
