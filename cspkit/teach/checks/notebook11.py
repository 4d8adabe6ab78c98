"""Checks of the exercises of notebook 11, whether a comparison is won."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from cspkit.study.statistics import holm as holm_adjusted
from cspkit.teach.check import Verdict, as_array, exercise, named

Array = np.ndarray


@exercise("11.drawn_difference")
def drawn_difference(function: Callable[[Array, Array, Array, Array], float]) -> Verdict:
    """Check the difference of two error rates on utterances that were drawn."""
    rng = np.random.default_rng(0)
    cases = [
        ([1, 0, 2], [0, 0, 1], [4, 1, 5], [2, 0, 2]),
        ([0, 3], [1, 0], [2, 6], [0, 1]),
        ([1, 1, 1, 1], [1, 1, 1, 1], [3, 1, 7, 2], [3, 3, 0, 1]),
        (*rng.integers(0, 4, (2, 12)), rng.integers(1, 8, 12), rng.integers(0, 12, 12)),
    ]
    for case in cases:
        a, b, words, drawn = (np.array(part) for part in case)
        answer, wrong = as_array(function(a.copy(), b.copy(), words.copy(), drawn.copy()), ())
        if wrong:
            return wrong
        right = (a[drawn].sum() - b[drawn].sum()) / words[drawn].sum()
        if np.isclose(answer, right):
            continue
        rates = (a[drawn] / words[drawn], b[drawn] / words[drawn])
        once = np.unique(drawn)
        known = (
            (-right, "the sign is turned: the first model less the second"),
            (right * words[drawn].sum(), "errors are not divided by the words of the draw"),
            (
                rates[0].mean() - rates[1].mean(),
                "the mean of the utterances' rates: a long utterance weighs no more than a short "
                "one there; WER is the sum of errors over the sum of words",
            ),
            (
                (a.sum() - b.sum()) / words.sum(),
                "all utterances count once; take those that were drawn",
            ),
            (
                (a[once].sum() - b[once].sum()) / words[once].sum(),
                "an utterance that was drawn twice counts twice",
            ),
            (
                (a[drawn].sum() - b[drawn].sum()) / words.sum(),
                "divide by the words of the utterances drawn, not of all",
            ),
            (a[drawn].sum() / words[drawn].sum(), "this is the rate of the first model alone"),
            (
                a[drawn].sum() / words[drawn].sum() - b.sum() / words.sum(),
                "both models hear the utterances that were drawn",
            ),
        )
        return named(
            answer,
            known,
            f"errors {a} and {b} in {words} words, drawn {drawn}: {answer:.4g} != {right:.4g}",
        )
    return None


@exercise("11.holm")
def holm(function: Callable[[Sequence[float]], Sequence[float]]) -> Verdict:
    """Check p-values after Holm's correction."""
    for p in ([0.01, 0.04, 0.03], [0.2], [0.04, 0.001, 0.5, 0.013], [0.7, 0.6], [0.02, 0.021]):
        given = np.array(p)
        answer, wrong = as_array(function(given.copy()), (len(p),))
        if wrong:
            return wrong
        right = holm_adjusted(p)
        if np.allclose(answer, right):
            continue
        order = np.argsort(given)
        stepped = np.empty(len(p))
        stepped[order] = np.minimum(1.0, np.arange(len(p), 0, -1) * given[order])
        forward = np.empty(len(p))
        forward[order] = np.minimum(1.0, np.arange(1, len(p) + 1) * given[order])
        known = (
            (given, "nothing was corrected"),
            (np.minimum(1.0, len(p) * given), "Bonferroni: the second smallest takes only m - 1"),
            (len(p) * given, "Bonferroni, and above 1: the second smallest takes only m - 1"),
            (right[order], "sorted: give them back in the order in which they came"),
            (stepped, "a larger p-value must not come out smaller: take the running maximum"),
            (forward, "the smallest takes the largest factor, m"),
        )
        if np.any(answer > 1):
            known += ((answer, "a probability is at most 1"),)
        got, expected = np.round(answer, 4).tolist(), np.round(right, 4).tolist()
        return named(answer, known, f"{p} gives {got}, expected {expected}")
    return None


@exercise("11.best_of")
def best_of(function: Callable[[Sequence[float], int], float]) -> Verdict:
    """Check the expected rate of the best of k runs."""
    cases = [([3.0, 2.2, 2.5, 1.0, 4.1], 3), ([3.0, 1.0, 2.0], 2), ([3.0, 1.0, 2.0], 1), ([2], 1)]
    for rates, k in cases:
        rates = np.array(rates, dtype=float)
        answer, wrong = as_array(function(rates.copy(), k), ())
        if wrong:
            return wrong
        sets = list(combinations(rates, k))
        right = np.mean([min(s) for s in sets])
        if np.isclose(answer, right):
            continue
        ordered, n = np.sort(rates), len(rates)
        places = np.arange(n, 0, -1)
        again = np.sum(ordered * ((places / n) ** k - ((places - 1) / n) ** k))
        known = (
            (rates.min(), "this is the best of all; only k of them were run"),
            (rates.mean(), "this is the mean run, the best of one"),
            (np.mean([max(s) for s in sets]), "the best has the smallest rate, not the largest"),
            (rates[:k].min(), "this is the best of the first k; average over every choice of k"),
            (ordered[:k].mean(), "this is the mean of the k best, which nobody knows beforehand"),
            (again, "k runs are k different ones: choose without putting back"),
            (np.min([np.mean(s) for s in sets]), "first the best of each set, then the mean"),
        )
        return named(
            answer, known, f"{rates.tolist()} with k = {k} gives {answer:.4g}, expected {right:.4g}"
        )
    return None


@exercise("11.folds_needed")
def folds_needed(function: Callable[[Sequence[float], float], int]) -> Verdict:
    """Check how many folds bring an interval down to a margin."""
    cases = [([0.4, 1.0, 0.7, 1.3, 0.6], 0.05), ([1.0, 3.0], 0.5), ([-0.2, 0.1, 0.3, 0.2], 0.2)]
    for given, margin in cases:
        differences = np.array(given)
        answer, wrong = as_array(function(differences.copy(), margin), ())
        if wrong:
            return wrong

        def needed(spread, z=1.96, margin=margin):
            return (z * spread / margin) ** 2

        spread, n = differences.std(ddof=1), len(differences)
        right = math.ceil(needed(spread))
        if answer == right:
            continue
        if np.isclose(answer, needed(spread)):
            return "folds come whole: round up"
        known = (
            (math.floor(needed(spread)), "rounded down, the interval is still too wide: round up"),
            (math.ceil(needed(differences.std())), "that is numpy's std; five folds need ddof=1"),
            (math.ceil(1.96 * spread / margin), "the half width falls with the root of F: square"),
            (math.ceil(needed(spread / n**0.5)), "divide by the root of F asked for, not of n"),
            (math.ceil(needed(spread, 1.645)), "95 % on both sides is 1.96 standard errors"),
            (math.ceil(needed(spread, 2 * 1.96)), "the margin is half of the interval's width"),
            (math.ceil(needed(spread, 1.0)), "one standard error is a 68 % interval: 1.96 of them"),
        )
        return named(
            answer,
            known,
            f"differences {given}, margin {margin}: it gives {answer:g}, expected {right}",
        )
    return None
