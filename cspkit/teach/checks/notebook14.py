"""Checks of the exercises of notebook 14, your own speech, and more than one machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from cspkit.pruner import Pruner
from cspkit.pruning import GradualPruner
from cspkit.teach.cases import Case, table
from cspkit.teach.check import NOTHING, Verdict, exercise

Array = np.ndarray


def _plain(drop: str = r"[^\w']|_", by: str = " ", lower: bool = True):
    """A rule for texts; the options make its typical mistakes."""
    return lambda text: " ".join(re.sub(drop, by, text.lower() if lower else text).split())


def _wrong_plain(answer: object, right: str, inputs: tuple) -> str:
    same = " ".join(str(answer).split()) == right
    return "put one space between words, and none at the ends" if same else ""


table("14.plain", _plain(), [
    Case(f"{'the example ' if i < 2 else 'the text '}{text!r}", (text,))
    for i, text in enumerate(("Turn LEFT, please!", "It's  5 o'clock.", "", "blue-green\nred",
                              "Zürich (à Paris)", "snake_case"))
], [
    (_plain(lower=False), "make all letters small"),
    (_plain(r"[^\w]|_"), "an apostrophe stays"),
    (_plain(r"[^\w' ]|_", ""),
     "what is removed leaves a space, so that two words do not become one"),
    (_plain(r"[^a-z']"), "digits stay, and so do the letters of other languages, such as ü"),
    (_plain(r"[^a-z0-9']"), "the letters of other languages stay, such as ü"),
    (_plain(r"(?!)"), "replace commas, points and other signs by a space"),
    (_plain(r"[^\w']"), "_ is neither a letter nor a digit"),
], _wrong_plain)  # fmt: skip


def _taken(order: Callable = lambda names: sorted(set(names)), more: int = 0, over: float = 0):
    """Whole speakers in an order until the share is reached; the options make mistakes."""

    def answer(speakers: Sequence[str], share: float) -> Array:
        names, taken = list(order(speakers)), 0
        while np.isin(speakers, names[:taken]).sum() < share * len(speakers) + over:
            taken += 1
        return np.isin(speakers, names[: taken + more])

    return answer


def _wrong_held_out(answer: object, right: Array, inputs: tuple) -> str:
    test = {name for name, chosen in zip(inputs[0], np.asarray(answer), strict=True) if chosen}
    train = {name for name, chosen in zip(inputs[0], np.asarray(answer), strict=True) if not chosen}
    both = sorted(test & train)
    return f"speaker {both[0]!r} is in both parts: take whole speakers" if both else ""


table("14.held_out", _taken(), [
    Case(f"{'' if i else 'the example, '}speakers {list(speakers)}, share {share}",
         (speakers, share))
    for i, (speakers, share) in enumerate((
        (["b", "a", "b", "c", "a"], 0.3), (["c", "c", "b", "a"], 0.25),
        (["b", "b", "a", "a", "c", "c"], 0.5), (["dan", "ada", "ben", "dan"], 0.6)))
], [
    (lambda *a: ~_taken()(*a), "True is for the test lines"),
    (_taken(dict.fromkeys), "take the speakers in the order of their names"),
    (_taken(more=-1), "the test part is smaller than the share"),
    (_taken(more=1), "stop as soon as the share is reached"),
    (_taken(over=1e-9), "stop as soon as the share is reached: >=, not >"),
], _wrong_held_out)  # fmt: skip


def _runs(quiet: Array) -> tuple[Array, Array]:
    edges = np.diff(np.concatenate([[0], quiet.astype(int), [0]]))
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)


def _cuts(
    place: Callable[[Array, Array], Array] = lambda first, stop: (first + stop) // 2,
    chosen: Callable[[Array, float], Array] = lambda a, level: a < level,
    begin: bool = False,
    end: bool = False,
):
    """A cut in each run of chosen frames, at the two ends only if told; options make mistakes."""

    def answer(a: Array, level: float) -> Array:
        first, stop = _runs(chosen(a, level))
        inside = ((first > 0) | begin) & ((stop < len(a)) | end)
        return place(first[inside], stop[inside])

    return answer


table("14.pauses", _cuts(), [
    Case(f"{'' if i else 'the example, '}a = {loudness}, level 0.5", (np.array(loudness), 0.5))
    for i, loudness in enumerate((
        [0, 0.9, 0.8, 0.1, 0.1, 0.1, 0.7, 0], [0.9, 0.1, 0.2, 0.2, 0.1, 0.8, 0.3, 0.9], [0.6, 0.7],
        [0, 0.1, 0.5, 0.2, 0.0, 0.0, 0.1, 0.9, 0.4, 0.4, 0.6, 0, 0], [0.1, 0.2, 0.1]))
], [
    (_cuts(begin=True, end=True), "the silence at the beginning and at the end is no pause"),
    (_cuts(end=True), "the silence at the end is no pause"),
    (_cuts(begin=True), "the silence at the beginning is no pause"),
    (_cuts(lambda first, stop: first), "this is where the pauses begin; take their middles"),
    (_cuts(lambda first, stop: stop), "this is where the pauses end; take their middles"),
    (_cuts(lambda first, stop: (first + stop) / 2), "frames are whole numbers: use //"),
    (_cuts(lambda first, stop: (first + stop - 1) // 2), "stop is the first frame after the pause"),
    (_cuts(chosen=lambda a, level: a >= level, begin=True, end=True),
     "these are the middles of the words"),
    (_cuts(chosen=lambda a, level: a <= level), "a frame at the level itself is loud: a < level"),
    (lambda a, level: np.flatnonzero(a < level),
     "these are all quiet frames; each pause gives one cut"),
])  # fmt: skip


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


def _share(
    positions: Callable[[int, int, int], Sequence[int]] = lambda B, r, P: range(r, B, P),
    weight: Callable[[int, int, int], float] = lambda B, m, P: P * m / B,
):
    """Positions and weight; the options make the typical mistakes."""

    def answer(B: int, r: int, P: int) -> tuple[Array, float]:
        return np.array(positions(B, r, P)), weight(B, len(range(r, B, P)), P)

    return answer


def _positions(*known: tuple[Callable, str]) -> list[tuple[Callable, str]]:
    """Positions are named as wrong whatever the weight: pairs with the usual weights."""
    weights = (lambda B, m, P: P * m / B, lambda B, m, P: m / B, lambda B, m, P: 1.0)
    return [(_share(wrong, weight), sentence) for wrong, sentence in known for weight in weights]


table("14.share", _share(), [
    Case(f"{'the example, ' if i < 2 else ''}B = {B}, r = {r}, P = {P}", (B, r, P))
    for i, (B, r, P) in enumerate(((7, 1, 2), (7, 0, 2), (8, 0, 2), (5, 2, 3), (4, 0, 1),
                                   (2, 2, 3)))
], [
    *_positions(
        (lambda B, r, P: np.array_split(np.arange(B), P)[r],
         "take every P-th position, not a block of neighbours"),
        (lambda B, r, P: range(B), "this is the whole batch: each process would do all the work"),
        (lambda B, r, P: range(r * B, r * B + B), "the batch of all processes together is B"),
        (lambda B, r, P: range(r + 1, r + 1 + len(range(r, B, P)) * P, P), "positions start at 0"),
    ),
    (_share(weight=lambda B, m, P: 1.0),
     "the shares have different sizes; this gives a small share too much weight"),
    (_share(weight=lambda B, m, P: m / B),
     "the mean over processes divides by P once more: multiply by P"),
    (_share(weight=lambda B, m, P: 1 / P),
     "the weight depends on the size of the share, len(positions)"),
    (_share(weight=lambda B, m, P: B / (P * m) if m else 0),
     "this is the inverse of the weight"),
], parts=("the positions", "the weight"))  # fmt: skip
