"""Checks of the exercises of notebook 14, your own speech, and more than one machine."""

import re

import numpy as np
import torch
from torch import nn

from cspkit.pruner import Pruner
from cspkit.pruning import GradualPruner
from cspkit.teach.cases import table
from cspkit.teach.check import NOTHING, a_kind, exercise


def plain(text):
    text = re.sub(r"[^\w']|_", " ", text.lower())
    return " ".join(text.split())


def wrong_plain(answer, right, inputs):
    same = " ".join(answer.split()) == right
    return "put one space between words, and none at the ends" if same else ""


table("14.plain", plain, [
    ("Turn LEFT, please!",), ("It's  5 o'clock.",), ("",), ("blue-green\nred",),
    ("Zürich (à Paris)",), ("snake_case",),
], [
    (".lower() =>", "make all letters small"),
    (r"\w' => \w", "an apostrophe stays"),
    (r"""\w']|_", " " => \w' ]|_", "" """,
     "what is removed leaves a space, so that two words do not become one"),
    (r"\w']|_ => a-z']", "digits stay, and so do the letters of other languages, such as ü"),
    (r"\w']|_ => a-z0-9']", "the letters of other languages stay, such as ü"),
    (r"[^\w']|_ => (?!)", "replace commas, points and other signs by a space"),
    ("|_ =>", "_ is neither a letter nor a digit"),
], wrong_plain, right="Apply the same rule to what is recognised, before errors are counted."
)  # fmt: skip


def held_out(speakers, share):
    names, taken = sorted(set(speakers)), 0
    while np.isin(speakers, names[:taken]).sum() < share * len(speakers):
        taken += 1
    return np.isin(speakers, names[:taken])


def wrong_held_out(answer, right, inputs):
    sides = [{name for name, chosen in zip(inputs[0], answer, strict=True) if bool(chosen) == side}
             for side in (True, False)]  # fmt: skip
    both = sorted(sides[0] & sides[1])
    return f"speaker {both[0]!r} is in both parts: take whole speakers" if both else ""


LINES = "count the lines of the speakers that are taken, not the speakers"
NAMES = "take the speakers in the order of their names"
ENOUGH = "stop as soon as the share is reached"
table("14.held_out", held_out, [
    (["b", "a", "b", "c", "a"], 0.3), (["c", "c", "b", "a"], 0.25),
    (["b", "b", "a", "a", "c", "c"], 0.5), (["dan", "ada", "ben", "dan"], 0.6),
], [
    ("return => return ~", "True is for the test lines"),
    ("sorted(set(speakers)) => list(dict.fromkeys(speakers))",
     NAMES),
    ("sorted(set(speakers)) => sorted(set(speakers), key=lambda name: -speakers.count(name))",
     NAMES),
    ("np.isin(speakers, names[:taken]).sum() => taken", LINES),
    ("np.isin(speakers, names[: round(share * len(names))])", LINES),
    ("np.isin(speakers, names[: int(np.ceil(share * len(names)))])", LINES),
    ("share * len(speakers) => share",
     "share is a fraction of all lines: compare with share * len(speakers)"),
    ("np.isin(speakers, names[: taken - 1])", "the test part is smaller than the share"),
    ("np.isin(speakers, names[: taken + 1])", ENOUGH),
    ("< share => <= share", f"{ENOUGH}: >=, not >"),
], wrong_held_out,
    right="A random choice of lines would put a speaker with many lines into both parts.",
)  # fmt: skip


def pauses(a, level):
    edges = np.diff(np.concatenate([[0], a < level, [0]]))
    first, stop = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    inside = (first > 0) & (stop < len(a))
    return (first[inside] + stop[inside]) // 2


table("14.pauses", pauses, [(np.array(loudness), 0.5) for loudness in (
[0, 0.9, 0.8, 0.1, 0.1, 0.1, 0.7, 0], [0.9, 0.1, 0.2, 0.2, 0.1, 0.8, 0.3, 0.9], [0.6, 0.7],
[0, 0.1, 0.5, 0.2, 0.0, 0.0, 0.1, 0.9, 0.4, 0.4, 0.6, 0, 0], [0.1, 0.2, 0.1],
)], [
    ("first > 0 => first >= 0 && stop < len(a) => stop > 0",
     "the silence at the beginning and at the end is no pause"),
    ("stop < len(a) => stop > 0", "the silence at the end is no pause"),
    ("first > 0 => first >= 0", "the silence at the beginning is no pause"),
    ("first[inside]", "this is where the pauses begin; take their middles"),
    ("stop[inside]", "this is where the pauses end; take their middles"),
    ("// 2 => / 2", "frames are whole numbers: use //"),
    ("np.array([i + np.argmin(a[i:j]) for i, j in zip(first[inside], stop[inside])], dtype=int)",
     "cut in the middle, not at the quietest frame"),
    (") // 2 => - 2) // 2", "one frame early: np.diff counts from the frame before"),
    ("inside = (first > 0) & (stop < len(a)) => inside = slice(1, -1)",
     "the first and the last run may be pauses, too: look whether they touch an end"),
    (") // 2 => - 1) // 2", "stop is the first frame after the pause"),
    ("a < level => a >= level && (first > 0) & (stop < len(a)) => first >= 0",
     "these are the middles of the words"),
    ("a < level => a <= level", "a frame at the level itself is loud: a < level"),
    ("np.flatnonzero(a < level)", "these are all quiet frames; each pause gives one cut"),
], right="A level that is too high cuts within words; one that is too low finds no pause."
)  # fmt: skip


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


@exercise(
    "14.never_back",
    right="narang of notebook 09 never takes a weight back either.",
)
def never_back(answer):
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


def share(B, r, P):
    m = len(range(r, B, P))
    return np.arange(r, B, P), P * m / B


UNEQUAL = "shares may differ in size: this one has len(positions) utterances, not B // P"
POSITIONS = (  # named whatever the weight is
    ("np.array_split(np.arange(B), P)[r]",
     "take every P-th position, not a block of neighbours"),
    ("np.arange(B)", "this is the whole batch: each process would do all the work"),
    ("np.arange(r * B, r * B + B)", "the batch of all processes together is B"),
    ("r + 1 + P * np.arange(m)", "positions start at 0"),
)  # fmt: skip
table("14.share", share, [(7, 1, 2), (7, 0, 2), (8, 0, 2), (5, 2, 3), (4, 0, 1), (2, 2, 3)], [
    *((f"{positions}, {weight}", sentence) for positions, sentence in POSITIONS
      for weight in ("P * m / B", "m / B", "1.0")),
    ("P * m / B => 1.0",
     "the shares have different sizes; this gives a small share too much weight"),
    ("P * m / B => m / B", "the mean over processes divides by P once more: multiply by P"),
    ("range(r, B => range(r, B + 1", "positions end at B - 1"),
    ("np.arange(r, B, P), P * m / B => r + P * np.arange(B // P), P * (B // P) / B", UNEQUAL),
    ("P * m / B => m / (B // P)", UNEQUAL),
    ("P * m / B => P * (B // P) / B", UNEQUAL),
    ("P * m / B => m / P", "m is compared with the size B of the batch"),
    ("P * m / B => 1 / P", "the weight depends on the size of the share, len(positions)"),
    *((f"P * m / B => {inverse} if m else 0",
       "the share has m of B utterances: use m / B, not B / m")
      for inverse in ("B / (P * m)", "P * B / m", "B / m")),
], parts=("the array of positions", "the weight"),
    right="If P divides B, every weight is 1: then the plain mean over processes is right.",
)  # fmt: skip
