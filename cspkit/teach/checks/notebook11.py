"""Checks of the exercises of notebook 11, whether a comparison is won."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np

from cspkit.study.statistics import holm
from cspkit.teach.cases import table

Array = np.ndarray


def difference(errors_a: Array, errors_b: Array, words: Array, drawn: Array) -> float:
    return (errors_a[drawn].sum() - errors_b[drawn].sum()) / words[drawn].sum()


def draws() -> list[tuple]:
    rng = np.random.default_rng(0)
    small = [
        ([1, 0, 2], [0, 0, 1], [4, 1, 5], [2, 0, 2]),
        ([0, 3], [1, 0], [2, 6], [0, 1]),
        ([1, 1, 1, 1], [1, 1, 1, 1], [3, 1, 7, 2], [3, 3, 0, 1]),
    ]
    large = (*rng.integers(0, 4, (2, 12)), rng.integers(1, 8, 12), rng.integers(0, 12, 12))
    return [tuple(map(np.array, case)) for case in [*small, large]]


table(
    "11.drawn_difference",
    difference,
    draws(),
    [
        (lambda a, b, words, drawn: -difference(a, b, words, drawn),
         "the sign is turned: the first model less the second"),
        (lambda a, b, words, drawn: a[drawn].sum() - b[drawn].sum(),
         "errors are not divided by the words of the draw"),
        (lambda a, b, words, drawn: np.mean((a / words)[drawn]) - np.mean((b / words)[drawn]),
         "the mean of the utterances' rates: a long utterance weighs no more than a short one "
         "there; WER is the sum of errors over the sum of words"),
        (lambda a, b, words, drawn: difference(a, b, words, np.arange(len(a))),
         "all utterances count once; take those that were drawn"),
        (lambda a, b, words, drawn: difference(a, b, words, np.unique(drawn)),
         "an utterance that was drawn twice counts twice"),
        (lambda a, b, words, drawn: (a[drawn].sum() - b[drawn].sum()) / words.sum(),
         "divide by the words of the utterances drawn, not of all"),
        (lambda a, b, words, drawn: a[drawn].sum() / words[drawn].sum(),
         "this is the rate of the first model alone"),
        (lambda a, b, words, drawn: a[drawn].sum() / words[drawn].sum() - b.sum() / words.sum(),
         "both models hear the utterances that were drawn"),
    ],
    right="Both models hear the same draw, so what makes an utterance hard for both cancels.",
)  # fmt: skip


def steps(p: Array, factors: Callable = lambda m: np.arange(m, 0, -1),
          last: Callable = lambda stepped: stepped) -> Array:  # fmt: skip
    """Sorted p-values times factors, in the order of p; the options make typical mistakes."""
    order, corrected = np.argsort(p), np.empty(len(p))
    corrected[order] = last(factors(len(p)) * p[order])
    return corrected


def benjamini_hochberg(p: Array) -> Array:
    return np.minimum(1, steps(p, lambda m: m / np.arange(1, m + 1),
                               lambda q: np.minimum.accumulate(q[::-1])[::-1]))  # fmt: skip


table(
    "11.holm",
    lambda p: holm(p),
    [(np.array(p),) for p in ([0.01, 0.04, 0.03], [0.2], [0.04, 0.001, 0.5, 0.013], [0.7, 0.6],
                              [0.02, 0.021])],
    [
        (lambda p: p, "nothing was corrected"),
        (lambda p: np.minimum(1.0, len(p) * p),
         "Bonferroni: the second smallest takes only m - 1"),
        (lambda p: len(p) * p, "Bonferroni, and above 1: the second smallest takes only m - 1"),
        (lambda p: np.sort(holm(p)), "sorted: give them back in the order in which they came"),
        (lambda p: np.minimum(1.0, steps(p)),
         "a larger p-value must not come out smaller: take the running maximum"),
        (lambda p: steps(p, last=np.maximum.accumulate), "a probability is at most 1"),
        (benjamini_hochberg,
         "this is Benjamini-Hochberg, which bounds the share of false findings; "
         "Holm bounds the chance of any"),
        (lambda p: np.minimum(1.0, steps(p, lambda m: np.arange(1, m + 1))),
         "the smallest takes the largest factor, m"),
        (lambda p: steps(p, lambda m: np.arange(1, m + 1)),
         "the smallest takes the largest factor, m"),
    ],
    lambda answer, right, inputs: "a probability is at most 1" if np.max(answer) > 1 else "",
    right="Holm's values are never above those of Bonferroni, and the guarantee is the same.",
)  # fmt: skip


def best_of(rates: Array, k: int, best: Callable = min) -> float:
    return np.mean([best(chosen) for chosen in combinations(rates, k)])


def drawn_again(rates: Array, k: int) -> float:
    n = len(rates)
    share = (np.arange(n, -1, -1) / n) ** k  # of the draws, those without the smallest rates
    return np.sort(rates) @ (share[:-1] - share[1:])


table(
    "11.best_of",
    lambda rates, k: best_of(rates, k),
    [
        (np.array([3.0, 1.0, 2.0]), 2),
        (np.array([3.0, 2.2, 2.5, 1.0, 4.1]), 3),
        (np.array([3.0, 1.0, 2.0]), 1),
        (np.array([2.0]), 1),
    ],
    [
        (lambda rates, k: rates.min(), "this is the best of all; only k of them were run"),
        (lambda rates, k: rates.mean(), "this is the mean run, the best of one"),
        (lambda rates, k: best_of(rates, k, max),
         "the best has the smallest rate, not the largest"),
        (lambda rates, k: rates[:k].min(),
         "this is the best of the first k; average over every choice of k"),
        (lambda rates, k: np.sort(rates)[:k].mean(),
         "this is the mean of the k best, which nobody knows beforehand"),
        (drawn_again, "k runs are k different ones: choose without putting back"),
    ],
    right="It falls with k though no run is better: report the mean, and how many runs there were.",
)  # fmt: skip


def folds(z: float = 1.96, ddof: int = 1, power: int = 2, whole: Callable = math.ceil,
          over: Callable = lambda n: 1.0) -> Callable:  # fmt: skip
    """The number of folds; the options make its typical mistakes."""

    def answer(differences: Array, margin: float) -> float:
        spread = np.std(differences, ddof=ddof) / over(len(differences))
        return whole((z * spread / margin) ** power)

    return answer


table(
    "11.folds_needed",
    lambda differences, margin: folds()(differences, margin),
    [
        (np.array([1.0, 3.0]), 0.5),
        (np.array([0.4, 1.0, 0.7, 1.3, 0.6]), 0.05),
        (np.array([-0.2, 0.1, 0.3, 0.2]), 0.2),
        (np.array([0.0, 1.0, 2.0]), 0.98),
    ],
    [
        (folds(whole=float), "folds come whole: round up"),
        (folds(whole=math.floor), "rounded down, the interval is still too wide: round up"),
        (folds(whole=round), "rounded to the nearest, the interval may be too wide: round up"),
        (folds(whole=lambda F: int(F) + 1),
         "one too many where F is whole already: math.ceil, not int(F) + 1"),
        (folds(ddof=0), "that is numpy's std; a few folds need ddof=1"),
        (folds(power=1), "the half width falls with the root of F: square"),
        (folds(over=np.sqrt), "divide by the root of F asked for, not of n"),
        (folds(z=1.645), "95 % on both sides is 1.96 standard errors"),
        (folds(z=2 * 1.96), "the margin is half of the interval's width"),
        (folds(z=1.0), "one standard error is a 68 % interval: 1.96 of them"),
    ],
    right="Half the margin takes about four times as many folds.",
)  # fmt: skip
