"""The checks of notebook 14 accept the right answer and name each typical mistake."""

import re

import numpy as np
import pytest
import torch
from answers import answer_tests

from cspkit.pruning import GradualPruner
from cspkit.teach.check import verdict


def plain(text, removed=r"[^\w']|_", by=" ", lower=True, single=True):
    text = re.sub(removed, by, text.lower() if lower else text)
    return " ".join(text.split()) if single else text


def by_characters(text):
    kept = (c if c.isalnum() or c == "'" else " " for c in text.casefold())
    return " ".join("".join(kept).split())


def held_out(speakers, share, order=None, more=0):
    chosen, names = set(), np.array(speakers)
    for name in order(speakers) if order else sorted(set(speakers)):
        n = sum(s in chosen for s in speakers)
        if n >= share * len(speakers) + more:
            break
        chosen.add(name)
    return np.isin(names, list(chosen))


def as_list(speakers, share):
    return [bool(x) for x in held_out(speakers, share)]


def too_few(speakers, share):
    chosen = set()
    for name in sorted(set(speakers)):
        if sum(s in chosen or s == name for s in speakers) >= share * len(speakers):
            break
        chosen.add(name)
    return np.isin(speakers, list(chosen))


def of_speakers(speakers, number):
    return np.isin(speakers, sorted(set(speakers))[: int(np.ceil(number))])


def largest_first(speakers):
    return sorted(set(speakers), key=speakers.count, reverse=True)


def one_more(speakers, share):
    test = held_out(speakers, share)
    rest = sorted({name for name, chosen in zip(speakers, test, strict=True) if not chosen})
    return test | np.isin(speakers, rest[:1])


def runs(quiet):
    edges = np.diff(np.concatenate([[0], quiet.astype(int), [0]]))
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)


def pauses(a, level, edges=False, place=lambda first, stop: (first + stop) // 2, loud=False):
    first, stop = runs(a >= level if loud else a < level)
    inside = np.ones(len(first), bool) if edges or loud else (first > 0) & (stop < len(a))
    return place(first[inside], stop[inside])


def by_loop(a, level):
    cuts, first = [], None
    for t, loudness in enumerate(a):
        if loudness >= level:
            if first is not None and first > 0:
                cuts.append((first + t) // 2)
            first = None
        elif first is None:
            first = t
    return cuts


class NeverBack(GradualPruner):
    def scores(self):
        return {name: s * self.masks[name] for name, s in super().scores().items()}


class Where(GradualPruner):
    def scores(self):
        return {
            name: torch.where(self.masks[name], w.detach().abs(), torch.zeros_like(w))
            for name, w in self.weights.items()
        }


class InPlace(GradualPruner):
    def scores(self):
        self.apply_masks()
        return super().scores()


class Plain(GradualPruner):
    pass


class Inverted(GradualPruner):
    def scores(self):
        return {name: s * ~self.masks[name] for name, s in super().scores().items()}


class Negative(GradualPruner):
    def scores(self):
        return {n: s.where(self.masks[n], -1) for n, s in super().scores().items()}


class Signed(GradualPruner):
    def scores(self):
        return {name: w.detach() * self.masks[name] for name, w in self.weights.items()}


class WrongKey(GradualPruner):
    def scores(self):
        return {"weight": super().scores()["w"] * self.masks["w"]}


class Shorter(GradualPruner):
    def scores(self):
        return {name: s[self.masks[name]] for name, s in super().scores().items()}


class AsList(GradualPruner):
    def scores(self):
        return list(super().scores().values())


class MasksOnly(GradualPruner):
    def scores(self):
        return {name: mask.float() for name, mask in self.masks.items()}


class NoReturn(GradualPruner):
    def scores(self):
        pass


class Unsolved(GradualPruner):
    def scores(self):
        raise NotImplementedError("exercise not solved yet")


class Squares(GradualPruner):
    def scores(self):
        return {n: (w.detach() * self.masks[n]) ** 2 for n, w in self.weights.items()}


class Reversed(GradualPruner):
    def scores(self):
        return {n: self.masks[n] / (1 + s) for n, s in super().scores().items()}


def share(B, r, P, positions=None, weight=None):
    own = list(range(r, B, P))
    return (
        own if positions is None else positions(B, r, P),
        P * len(own) / B if weight is None else weight(B, len(own), P),
    )


RIGHT = [
    ("14.plain", plain),
    ("14.plain", by_characters),
    ("14.held_out", held_out),
    ("14.held_out", as_list),
    ("14.held_out", lambda *a: held_out(*a).astype(int)),
    ("14.pauses", pauses),
    ("14.pauses", by_loop),
    ("14.pauses", lambda *a: pauses(*a).astype(float)),
    ("14.never_back", NeverBack),
    ("14.never_back", Where),
    ("14.never_back", Squares),
    ("14.share", share),
    ("14.share", lambda B, r, P: [np.arange(B)[r::P], np.float32(P * len(range(r, B, P)) / B)]),
]
WRONG = [
    (
        "14.plain",
        lambda t: plain(t, lower=False),
        "small; tried with the example, text = 'Turn LEFT, please!'",
    ),
    ("14.plain", lambda t: plain(t, single=False), "one space between words"),
    ("14.plain", lambda t: re.sub(r"[^\w\s']", "", t.lower()), "one space between words"),
    ("14.plain", lambda t: plain(t, r"[^\w]|_"), "an apostrophe must stay"),
    ("14.plain", lambda t: plain(t, r"[^\w' ]|_", ""), "must leave a space"),
    ("14.plain", lambda t: plain(t, r"[^a-z']"), "digits must stay"),
    ("14.plain", lambda t: plain(t, r"[^a-z0-9']"), "such as ü"),
    ("14.plain", lambda t: plain(t, r"[^\w']"), "_ is neither"),
    ("14.plain", lambda t: " ".join(t.lower().split()), "commas"),
    ("14.plain", lambda t: "turn", "the answer is 'turn', expected 'turn left please'"),
    ("14.plain", str.split, "returns a list, expected a str"),
    ("14.held_out", lambda *a: ~held_out(*a), "True is for the test lines"),
    ("14.held_out", lambda s, share: np.arange(len(s)) < share * len(s), "whole speakers"),
    ("14.held_out", lambda *a: held_out(*a, order=dict.fromkeys), "order of their names"),
    ("14.held_out", too_few, "smaller than the share"),
    ("14.held_out", lambda *a: held_out(*a, more=1e-9), ">=, not >"),
    ("14.held_out", lambda *a: held_out(*a, order=largest_first), "order of their names"),
    ("14.held_out", lambda s, share: of_speakers(s, share * len(s)), "not the speakers"),
    ("14.held_out", lambda s, share: of_speakers(s, share * len(set(s))), "not the speakers"),
    ("14.held_out", lambda s, share: held_out(s, share / len(s)), "a fraction of all lines"),
    ("14.held_out", one_more, "as soon as the share is reached;"),
    (
        "14.held_out",
        lambda s, share: np.array([x == "c" for x in s]),
        "the answer is [False, False, False,  True, False]",
    ),
    ("14.held_out", lambda s, share: np.arange(len(s)) % 2, "speaker 'a' is in both"),
    ("14.held_out", lambda *a: np.flatnonzero(held_out(*a)), "shape"),
    ("14.pauses", lambda *a: pauses(*a, edges=True), "no pause"),
    ("14.pauses", lambda *a: pauses(*a, place=lambda first, stop: first), "begin"),
    ("14.pauses", lambda *a: pauses(*a, place=lambda first, stop: stop), "end; take"),
    ("14.pauses", lambda *a: pauses(*a, place=lambda f, s: (f + s) / 2), "use //"),
    ("14.pauses", lambda *a: pauses(*a, place=lambda f, s: (f + s - 1) // 2), "first frame after"),
    ("14.pauses", lambda *a: pauses(*a, place=lambda f, s: (f + s - 2) // 2), "one frame early"),
    ("14.pauses", lambda *a: pauses(*a, edges=True)[1:-1], "touch an end"),
    (
        "14.pauses",
        lambda a, level: pauses(
            a, level, place=lambda f, s: [i + a[i:j].argmin() for i, j in zip(f, s, strict=True)]
        ),
        "quietest frame",
    ),
    ("14.pauses", lambda *a: pauses(*a, loud=True), "middles of the words"),
    ("14.pauses", lambda a, level: pauses(a, np.nextafter(level, 1)), "a < level"),
    ("14.pauses", lambda a, level: np.flatnonzero(a < level), "all quiet frames"),
    ("14.pauses", lambda a, level: [1], "the answer is [1], expected [4]"),
    ("14.pauses", lambda a, level: ["x"], "expected"),
    ("14.never_back", Plain, "weight 0 was cut before step 3, and comes back in this step"),
    ("14.never_back", Inverted, "comes back"),
    ("14.never_back", InPlace, "must only rank"),
    ("14.never_back", Negative, "at least 0"),
    ("14.never_back", Signed, "a score is -8"),
    ("14.never_back", WrongKey, "the keys are ['weight']"),
    ("14.never_back", Shorter, "a tensor of its shape"),
    ("14.never_back", AsList, "returns a list, expected a dict"),
    ("14.never_back", MasksOnly, "the magnitude decides"),
    ("14.never_back", Reversed, "keeps the weights"),
    ("14.never_back", NeverBack({"w": torch.nn.Parameter(torch.ones(2))}, 0.5, 3), "the class"),
    (
        "14.share",
        lambda *a: share(*a, lambda B, r, P: np.array_split(range(B), P)[r]),
        "neighbours",
    ),
    ("14.share", lambda *a: share(*a, lambda B, r, P: range(B)), "whole batch"),
    ("14.share", lambda *a: share(*a, lambda B, r, P: range(r * B, r * B + B)), "must take B"),
    ("14.share", lambda *a: share(*a, lambda B, r, P: range(r + 1, B + 1, P)), "start at 0"),
    (
        "14.share",
        lambda *a: share(*a, lambda B, r, P: [5]),
        "the answer has shape (1,), expected (3,)",
    ),
    (
        "14.share",
        lambda *a: share(*a, lambda B, r, P: [1, 2, 5]),
        "is [1, 2, 5], expected [1, 3, 5]",
    ),
    ("14.share", lambda *a: share(*a, weight=lambda B, m, P: 1.0), "different sizes"),
    ("14.share", lambda *a: share(*a, weight=lambda B, m, P: m / B), "multiply by P"),
    ("14.share", lambda *a: share(*a, weight=lambda B, m, P: 1 / P), "size of the share"),
    ("14.share", lambda *a: share(*a, weight=lambda B, m, P: B / (P * m) if m else 0), "not B / m"),
    ("14.share", lambda *a: share(*a, weight=lambda B, m, P: B / m), "not B / m"),
    ("14.share", lambda *a: share(*a, weight=lambda B, m, P: m / P), "m is divided by P"),
    ("14.share", lambda *a: share(*a, weight=lambda B, m, P: m / (B // P)), "not B // P"),
    ("14.share", lambda *a: share(*a, weight=lambda B, m, P: P * (B // P) / B), "not B // P"),
    ("14.share", lambda B, r, P: (range(r, B // P * P, P), B // P * P / B), "not B // P"),
    ("14.share", lambda B, r, P: (range(r, B + 1, P), P * len(range(r, B + 1, P)) / B), "B - 1"),
    ("14.share", lambda *a: share(*a, weight=lambda B, m, P: 3.0), "is 3, expected 0.8571"),
    ("14.share", lambda B, r, P: range(r, B, P), "expected the array of positions and the weight"),
]
test_right, test_wrong, test_unsolved, test_nothing = answer_tests(RIGHT, WRONG)


@pytest.mark.parametrize(
    ("answer", "told"), [(Unsolved, "not solved"), (NoReturn, "does it end with a return line?")]
)
def test_a_class_without_an_answer_in_its_method(answer, told):
    assert told in verdict("14.never_back", answer)


@pytest.mark.parametrize("name", ["14.plain", "14.held_out", "14.pauses", "14.share"])
def test_the_example_is_tried_first_and_shown(name):
    assert "the example" in verdict(name, lambda *_: 0.123)
