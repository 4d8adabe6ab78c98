"""Checks of the exercises of notebook 11, whether a comparison is won."""

import math
from itertools import combinations

import numpy as np
from scipy import stats

from cspkit.teach.cases import table


def drawn_difference(errors_a, errors_b, words, drawn):
    a, b, w = errors_a[drawn], errors_b[drawn], words[drawn]
    return (a.sum() - b.sum()) / w.sum()


def draws():
    rng = np.random.default_rng(0)
    small = [
        ([1, 0, 2], [0, 0, 1], [4, 1, 5], [2, 0, 2]),
        ([0, 3], [1, 0], [2, 6], [0, 1]),
        ([1, 1, 1, 1], [1, 1, 1, 1], [3, 1, 7, 2], [3, 3, 0, 1]),
    ]
    large = (*rng.integers(0, 4, (2, 12)), rng.integers(1, 8, 12), rng.integers(0, 12, 12))
    return [tuple(map(np.array, case)) for case in [*small, large]]


table("11.drawn_difference", drawn_difference, draws(), [
    ("a.sum() - b.sum() => b.sum() - a.sum()",
     "the sign is turned: the first model less the second"),
    ("/ w.sum() =>", "errors are not divided by the words of the draw"),
    ("(a / w).mean() - (b / w).mean()",
     "the mean of the utterances' rates: a long utterance weighs no more than a short one there; "
     "WER is the sum of errors over the sum of words"),
    ("[drawn] =>", "all utterances count once; take those that were drawn"),
    ("[drawn] => [np.unique(drawn)]", "an utterance that was drawn twice counts twice"),
    ("np.abs(a.sum() - b.sum()) / w.sum()",
     "the difference has a sign: the first model less the second"),
    ("words[drawn] => words", "divide by the words of the utterances drawn, not of all"),
    ("a.sum() / w.sum()", "this is the rate of the first model alone"),
    ("a.sum() / w.sum() - errors_b.sum() / words.sum()",
     "both models hear the utterances that were drawn"),
], right="Both models hear the same draw, so what makes an utterance hard for both cancels."
)  # fmt: skip


def holm(p):
    order, corrected = np.argsort(p), np.empty(len(p))
    stepped = np.arange(len(p), 0, -1) * p[order]
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return corrected


table("11.holm", holm, [(np.array(p),) for p in (
    [0.01, 0.04, 0.03], [0.2], [0.04, 0.001, 0.5, 0.013], [0.7, 0.6], [0.02, 0.021],
)], [
    ("p", "nothing was corrected"),
    ("np.minimum(1.0, len(p) * p)", "Bonferroni: the second smallest takes only m - 1"),
    ("len(p) * p", "Bonferroni, and above 1: the second smallest takes only m - 1"),
    ("corrected[order]", "sorted: give them back in the order in which they came"),
    ("np.maximum.accumulate =>",
     "a larger p-value must not come out smaller: take the running maximum"),
    ("1.0 => np.inf", "a probability is at most 1"),
    ("np.arange(len(p), 0, -1) => len(p) / np.arange(1, len(p) + 1) && "
     "np.maximum.accumulate(stepped) => np.minimum.accumulate(stepped[::-1])[::-1]",
     "this is Benjamini-Hochberg, which bounds the share of false findings; Holm bounds the "
     "chance of any"),
    ("np.maximum.accumulate(stepped) => np.minimum.accumulate(stepped[::-1])[::-1]",
     "this is Hochberg's procedure; for Holm's take the largest value so far"),
    ("len(p), 0, -1 => 1, len(p) + 1", "the smallest takes the largest factor, m"),
], lambda answer, right, inputs: "a probability is at most 1" if np.max(answer) > 1 else "",
    right="Holm's values are never above those of Bonferroni, and the guarantee is the same.",
)  # fmt: skip


def best_of(rates, k):
    return np.mean([min(chosen) for chosen in combinations(rates, k)])


def drawn_again(rates, k):
    n = len(rates)
    share = (np.arange(n, -1, -1) / n) ** k  # of the draws, those without the smallest rates
    return np.sort(rates) @ (share[:-1] - share[1:])


table("11.best_of", best_of, [
    (np.array([3.0, 1.0, 2.0]), 2), (np.array([3.0, 2.2, 2.5, 1.0, 4.1]), 3),
    (np.array([3.0, 1.0, 2.0]), 1), (np.array([2.0]), 1),
    (np.array([3.0, 2.2, 2.5, 1.0, 4.1]), 2),
], [
    ("np.mean => np.median", "this is the median of the minima; take their mean"),
    ("np.mean([*{min(chosen) for chosen in combinations(rates, k)}])",
     "every choice counts, also those with the same minimum"),
    ("rates.min()", "this is the best of all; only k of them were run"),
    ("rates.mean()", "this is the mean run, the best of one"),
    ("min => max", "the best has the smallest rate, not the largest"),
    ("rates[:k].min()", "this is the best of the first k; average over every choice of k"),
    ("np.sort(rates)[:k].mean()", "this is the mean of the k best, which nobody knows beforehand"),
    (drawn_again, "k runs are k different ones: choose without putting back"),
], right="It falls with k though no run is better: report the mean, and how many runs there were."
)  # fmt: skip


def folds_needed(differences, margin):
    spread = np.std(differences, ddof=1)
    return math.ceil((1.96 * spread / margin) ** 2)


def by_student(differences, margin):
    spread, n = np.std(differences, ddof=1), len(differences)
    return math.ceil((stats.t.ppf(0.975, n - 1) * spread / margin) ** 2)


table("11.folds_needed", folds_needed, [
    (np.array([1.0, 3.0]), 0.5), (np.array([0.4, 1.0, 0.7, 1.3, 0.6]), 0.05),
    (np.array([-0.2, 0.1, 0.3, 0.2]), 0.2), (np.array([0.0, 1.0, 2.0]), 0.98),
], [
    ("math.ceil =>", "folds come whole: round up"),
    ("ceil => floor", "rounded down, the interval is still too wide: round up"),
    ("math.ceil => round", "rounded to the nearest, the interval may be too wide: round up"),
    ("math.ceil => 1 + math.floor",
     "one too many where F is whole already: math.ceil, not int(F) + 1"),
    (", ddof=1 =>", "that is numpy's std; a few folds need ddof=1"),
    ("** 2 =>", "the half width falls with the root of F: square"),
    ("spread / => spread / len(differences) ** 0.5 /",
     "divide by the root of F asked for, not of n"),
    ("1.96 => 1.645", "95 % on both sides is 1.96 standard errors"),
    ("1.96 => 2 * 1.96", "the margin is half of the interval's width"),
    (by_student, "1.96 was asked for: Student's quantile would change with the F to be found"),
    ("1.96 => 1.0", "one standard error is a 68 % interval: 1.96 of them"),
], right="Half the margin takes about four times as many folds.")  # fmt: skip
