"""What is wrong with a choice of speakers, and the check of a pruner, for notebook 14."""

import numpy as np
import torch
from torch import nn

from cspkit.pruner import Pruner
from cspkit.pruning import GradualPruner
from cspkit.teach.check import NOTHING, a_kind


def wrong_held_out(answer, right, inputs):
    sides = [{name for name, chosen in zip(inputs[0], answer, strict=True) if bool(chosen) == side}
             for side in (True, False)]  # fmt: skip
    both = sorted(sides[0] & sides[1])
    return f"speaker {both[0]!r} is in both parts: take whole speakers" if both else ""


class NeverBack(GradualPruner):
    def scores(self):
        return {name: self.masks[name] * size for name, size in super().scores().items()}


class MasksOnly(GradualPruner):
    def scores(self):
        return {name: mask.float() for name, mask in self.masks.items()}


def watched(method, start, gradient):
    """Return the masks of each step, the lowest score, and the dense weights after the last."""
    weight, direction = nn.Parameter(torch.tensor(start)), torch.tensor(gradient)
    pruner = method({"w": weight}, 0.5, 9)
    optimizer, masks = torch.optim.SGD([weight], lr=1.0), []
    lowest = 0.0
    pruner.attach(optimizer)
    for _ in range(6):  # the steps before the support is frozen
        optimizer.zero_grad()
        lowest = min(lowest, pruner.scores()["w"].min().item())
        with pruner.sparse():
            masks.append(pruner.masks["w"].numpy().copy())
            (direction * weight).sum().backward()
        optimizer.step()
    pruner.detach()
    return np.array(masks), lowest, weight.detach().numpy().copy()


def scores_of(method):
    """What the method `scores` of a class returns, without a call of it by the base class."""
    weights = {"w": nn.Parameter(torch.arange(8.0))}
    if not isinstance(method, type):
        return method(weights, 0.5, 9)
    pruner = method.__new__(method)
    Pruner.__init__(pruner, weights)
    pruner.masks["w"][0] = False
    return pruner.scores()


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
    except NotImplementedError:
        raise
    except Exception:
        scores = scores_of(answer)
        if scores is None:
            return NOTHING
        if not isinstance(scores, dict):
            return f"`scores` returns {a_kind(scores)}, expected a dict, by name"
        if set(scores) != {"w"}:
            return f"the keys are {list(scores)}, expected those of self.weights, here ['w']"
        if not isinstance(scores["w"], torch.Tensor) or scores["w"].shape != (8,):
            return "the scores of a weight must be a tensor of its shape"
        raise
    for case in CASES:
        (masks, lowest, V), (right, _, right_V), (only, *_) = (
            watched(method, *case) for method in (answer, NeverBack, MasksOnly)
        )
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
        if np.array_equal(masks, only):
            return f"{where}: among the weights that are not cut, the magnitude decides"
        t = np.flatnonzero((masks != right).any(axis=1))[0]
        kept, wanted = (np.flatnonzero(m[t]).tolist() for m in (masks, right))
        return f"{where}: step {t} keeps the weights {kept}, expected {wanted}"
    return None
