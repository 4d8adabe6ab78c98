"""Checks of the exercises of notebook 14, your own speech, and more than one machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from cspkit.pruner import Pruner
from cspkit.pruning import GradualPruner
from cspkit.teach.check import NOTHING, Verdict, as_array, exercise, named

Array = np.ndarray


@exercise("14.plain")
def plain(function: Callable[[str], str]) -> Verdict:
    """Check a rule for texts."""
    for text in (
        "Turn LEFT, please!",
        "It's  5 o'clock.",
        "",
        "blue-green\nred",
        "Zürich (à Paris)",
        "snake_case",
    ):
        answer = function(text)
        if answer is None:
            return NOTHING
        if not isinstance(answer, str):
            return f"the text {text!r} gives a {type(answer).__name__}, expected a str"
        right = " ".join(re.sub(r"[^\w']|_", " ", text.lower()).split())
        if answer == right:
            continue
        kept = re.sub(r"[^\w']|_", " ", text)
        known = {
            " ".join(kept.split()): "make all letters small",
            " ".join(re.sub(r"[^\w]|_", " ", text.lower()).split()): "an apostrophe stays",
            " ".join(re.sub(r"[^\w' ]|_", "", text.lower()).split()): (
                "what is removed leaves a space, so that two words do not become one"
            ),
            " ".join(re.sub(r"[^a-z']", " ", text.lower()).split()): (
                "digits stay, and so do the letters of other languages, such as ü"
            ),
            " ".join(re.sub(r"[^a-z0-9']", " ", text.lower()).split()): (
                "the letters of other languages stay, such as ü"
            ),
            " ".join(text.lower().split()): "replace commas, points and other signs by a space",
            " ".join(re.sub(r"[^\w']", " ", text.lower()).split()): (
                "_ is neither a letter nor a digit"
            ),
        }
        otherwise = f"gives {answer!r}, expected {right!r}"
        if " ".join(answer.split()) == right:
            otherwise = "one space between words, and none at the ends"
        return f"the text {text!r}: {known.get(answer, otherwise)}"
    return None


@exercise("14.held_out")
def held_out(function: Callable[[Sequence[str], float], Array]) -> Verdict:
    """Check a split in which no speaker is in both parts."""
    cases = (
        (["b", "a", "b", "c", "a"], 0.3),
        (["c", "c", "b", "a"], 0.25),
        (["b", "b", "a", "a", "c", "c"], 0.5),
        (["dan", "ada", "ben", "dan"], 0.6),
    )
    for speakers, share in cases:
        case = f"speakers {speakers}, share {share}"
        answer, wrong = as_array(function(list(speakers), share), (len(speakers),))
        if wrong:
            return f"{case}: {wrong}"
        names, n = np.array(speakers), len(speakers)

        def taken(order, more=0, names=names, enough=share * n):
            order, n_taken = list(order), 0
            while np.isin(names, order[:n_taken]).sum() < enough:
                n_taken += 1
            return np.isin(names, order[: n_taken + more])

        in_order = sorted(set(speakers))
        right = taken(in_order)
        if np.array_equal(answer, right):
            continue
        groups = [names[answer == value] for value in (0, 1)]
        both = sorted(set(groups[0].tolist()) & set(groups[1].tolist()))
        lines = np.arange(n) < np.ceil(share * n)
        known = (
            (~right, "True is for the test lines"),
            (lines, f"speaker {both[0] if both else ''!r} is in both parts: take whole speakers"),
            (taken(dict.fromkeys(speakers)), "take the speakers in the order of their names"),
            (taken(in_order, more=-1), "the test part is smaller than the share"),
            (taken(in_order, more=1), "stop as soon as the share is reached"),
        )
        if both:
            otherwise = f"speaker {both[0]!r} is in both parts"
        else:
            otherwise = f"the answer is {answer.astype(bool).tolist()}, expected {right.tolist()}"
        return f"{case}: {named(answer, known, otherwise)}"
    return None


@exercise("14.pauses")
def pauses(function: Callable[[Array, float], Array]) -> Verdict:
    """Check the middles of the pauses inside an utterance."""
    cases = (
        ([0, 0.9, 0.8, 0.1, 0.1, 0.1, 0.7, 0], 0.5),
        ([0.9, 0.1, 0.2, 0.2, 0.1, 0.8, 0.3, 0.9], 0.5),
        ([0.6, 0.7], 0.5),
        ([0, 0.1, 0.5, 0.2, 0.0, 0.0, 0.1, 0.9, 0.4, 0.4, 0.6, 0, 0], 0.5),
        ([0.1, 0.2, 0.1], 0.5),
    )
    for loudness, level in cases:
        a = np.array(loudness, dtype=float)
        case = f"a = {loudness}, level {level}"
        found = function(a.copy(), level)
        answer, wrong = as_array(found, np.shape(found))
        if wrong:
            return f"{case}: {wrong}"

        def runs(quiet):
            edges = np.diff(np.concatenate([[0], quiet.astype(int), [0]]))
            return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)

        starts, stops = runs(a < level)
        inside = (starts > 0) & (stops < len(a))
        first, stop = starts[inside], stops[inside]
        right = (first + stop) // 2
        if np.array_equal(answer, right):
            continue
        loud_starts, loud_stops = runs(a >= level)
        level_first, level_stop = runs(a <= level)
        level_in = (level_first > 0) & (level_stop < len(a))
        known = (
            ((starts + stops) // 2, "the silence at the beginning and at the end is no pause"),
            ((starts + stops)[starts > 0] // 2, "the silence at the end is no pause"),
            ((starts + stops)[stops < len(a)] // 2, "the silence at the beginning is no pause"),
            (first, "this is where the pauses begin; take their middles"),
            (stop, "this is where the pauses end; take their middles"),
            ((first + stop) / 2, "frames are whole numbers: use //"),
            ((first + stop - 1) // 2, "stop is the first frame after the pause"),
            ((loud_starts + loud_stops) // 2, "these are the middles of the words"),
            (
                ((level_first + level_stop) // 2)[level_in],
                "a frame at the level itself is loud: a < level",
            ),
            (np.flatnonzero(a < level), "these are all quiet frames; each pause gives one cut"),
        )
        otherwise = f"the answer is {np.asarray(found).tolist()}, expected {right.tolist()}"
        return f"{case}: {named(answer, known, otherwise)}"
    return None


class _NeverBack(GradualPruner):
    def scores(self):
        return {name: self.masks[name] * s for name, s in super().scores().items()}


class _Negative(GradualPruner):
    def scores(self):
        return {name: s.where(self.masks[name], -1) for name, s in super().scores().items()}


class _MasksOnly(GradualPruner):
    def scores(self):
        return {name: mask.float() for name, mask in self.masks.items()}


@exercise("14.never_back")
def never_back(answer: Callable[..., GradualPruner]) -> Verdict:
    """Check a pruner whose cut weights stay cut."""
    if isinstance(answer, GradualPruner):
        return "this is an object; give the class itself"
    cases = (
        ([0.25, 1.0, 3.0, 2.0, 4.0, 1.5, 6.0, 5.0], [-1.0, 0, 0, 0, 0, 0, 0, 0]),
        ([4.0, -8.0, 0.5, 3.0, -1.0, 6.0, -2.0, 7.0], [0.5, -0.25, -2.0, 0, 1.0, 0.5, 0.25, 1.0]),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], [0.0] * 8),
    )
    for weights, gradient in cases:
        case = f"weights {weights}, gradient {gradient}"
        try:
            masks, dense = _watched(answer, weights, gradient)
        except (AttributeError, TypeError):
            scores = _scores(answer, weights)
            if scores is None:
                return NOTHING
            if not isinstance(scores, dict):
                return f"`scores` returns a {type(scores).__name__}, expected a dict, by name"
            raise
        if masks is None:
            return NOTHING
        right, right_dense = _watched(_NeverBack, weights, gradient)
        if np.array_equal(masks, right) and np.array_equal(dense, right_dense):
            continue
        if np.array_equal(masks, right):
            return f"{case}: the dense weights V have changed; `scores` must only rank them"
        if np.array_equal(masks, _watched(_Negative, weights, gradient)[0]):
            return f"{case}: a score is at least 0; absolute values are ranked"
        back = np.argwhere(masks[1:] & ~masks[:-1])
        if len(back):
            t, i = (int(n) for n in back[0])
            return f"{case}: weight {i} was cut before step {t + 1}, and comes back in this step"
        if np.array_equal(masks, _watched(_MasksOnly, weights, gradient)[0]):
            return f"{case}: among the weights that are not cut, the magnitude decides"
        t = int(np.flatnonzero((masks != right).any(axis=1))[0])
        kept, wanted = (np.flatnonzero(m[t]).tolist() for m in (masks, right))
        return f"{case}: step {t} keeps the weights {kept}, expected {wanted}"
    return None


def _watched(
    method: Callable[..., GradualPruner], start: list[float], gradient: list[float]
) -> tuple[Array, Array] | tuple[None, None]:
    """Return the masks of each step, and the dense weights after the last step."""
    weight, direction = nn.Parameter(torch.tensor(start)), torch.tensor(gradient)
    pruner = method({"w": weight}, 0.5, 9)
    if pruner is None:
        return None, None
    optimizer, masks = torch.optim.SGD([weight], lr=1.0), []
    pruner.attach(optimizer)
    for _ in range(6):  # the steps before the support is frozen
        optimizer.zero_grad()
        with pruner.sparse():
            masks.append(pruner.masks["w"].numpy().copy())
            (direction * weight).sum().backward()
        optimizer.step()
    pruner.detach()
    return np.array(masks), weight.detach().numpy().copy()


def _scores(method: type[GradualPruner], start: list[float]) -> object:
    """What the method `scores` of a class returns, without a call of it by the base class."""
    pruner = method.__new__(method)
    Pruner.__init__(pruner, {"w": nn.Parameter(torch.tensor(start))})
    return pruner.scores()


@exercise("14.share")
def share(function: Callable[[int, int, int], tuple[Sequence[int], float]]) -> Verdict:
    """Check the share of a batch that one process has, and its weight."""
    for B, r, P in ((7, 1, 2), (7, 0, 2), (8, 0, 2), (5, 2, 3), (4, 0, 1), (2, 2, 3)):
        case = f"B = {B}, r = {r}, P = {P}"
        returned = function(B, r, P)
        if returned is None:
            return NOTHING
        if not isinstance(returned, tuple | list) or len(returned) != 2:
            return (
                f"{case}: expected a pair, the positions and the weight, but got {returned!r:.60}"
            )
        own = np.arange(r, B, P)
        positions, wrong = as_array(list(returned[0]), np.shape(list(returned[0])))
        if wrong:
            return f"{case}: positions: {wrong}"
        if not np.array_equal(positions, own):
            blocks = np.array_split(np.arange(B), P)[r]
            known = (
                (blocks, "take every P-th position, not a block of neighbours"),
                (np.arange(B), "this is the whole batch: each process would do all the work"),
                (np.arange(r * B, (r + 1) * B), "the batch of all processes together is B"),
                (own + 1, "positions start at 0"),
            )
            listed = positions.tolist()
            otherwise = f"positions are {listed}, expected {own.tolist()}"
            return f"{case}: {named(positions, known, otherwise)}"
        weight, wrong = as_array(returned[1], ())
        if wrong:
            return f"{case}: weight: {wrong}"
        right = P * len(own) / B
        if np.isclose(weight, right):
            continue
        known = (
            (1.0, "the shares have different sizes; this gives a small share too much weight"),
            (len(own) / B, "the mean over processes divides by P once more: multiply by P"),
            (1 / P, "the weight depends on the size of the share, len(positions)"),
            (B / (P * len(own)) if len(own) else np.inf, "this is the inverse of the weight"),
        )
        otherwise = f"the weight is {weight:.4g}, expected {right:.4g}"
        return f"{case}: {named(weight, known, otherwise)}"
    return None
