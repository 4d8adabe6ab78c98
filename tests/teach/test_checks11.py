"""The checks of notebook 11 accept the right answer and name each typical mistake."""

import math
from itertools import combinations, combinations_with_replacement, product

import numpy as np
from answers import answer_tests
from scipy.stats import t


def difference(a, b, words, drawn):
    return (a[drawn].sum() - b[drawn].sum()) / words[drawn].sum()


def of_rates(a, b, words, drawn):
    return (a[drawn] / words[drawn]).mean() - (b[drawn] / words[drawn]).mean()


def once(a, b, words, drawn):
    return difference(a, b, words, np.unique(drawn))


def everything(a, b, words, drawn):
    return difference(a, b, words, np.arange(len(a)))


def second_undrawn(a, b, words, drawn):
    return a[drawn].sum() / words[drawn].sum() - b.sum() / words.sum()


def holm(factors=lambda m: np.arange(m, 0, -1), cap=1.0, grow=True, back=True):
    """Holm's correction, with switches for mistakes."""

    def answer(p):
        order = np.argsort(p)
        adjusted = np.minimum(cap, factors(len(p)) * np.asarray(p)[order])
        if grow:
            adjusted = np.maximum.accumulate(adjusted)
        if not back:
            return adjusted
        out = np.empty(len(p))
        out[order] = adjusted
        return out

    return answer


def benjamini_hochberg(p):
    order, adjusted, smallest = np.argsort(p), np.empty(len(p)), 1.0
    for rank in range(len(p), 0, -1):
        smallest = min(smallest, p[order[rank - 1]] * len(p) / rank)
        adjusted[order[rank - 1]] = smallest
    return adjusted


def hochberg(p):
    order, adjusted = np.argsort(p), np.empty(len(p))
    stepped = np.arange(len(p), 0, -1) * np.asarray(p)[order]
    adjusted[order] = np.minimum.accumulate(stepped[::-1])[::-1]
    return adjusted


def best_of(choose=combinations, best=min, mean=np.mean):
    return lambda rates, k: mean([best(s) for s in choose(rates, k)])


def folds(z=1.96, ddof=1, whole=math.ceil, power=2, over=lambda n: 1.0):
    def answer(differences, margin):
        spread = np.std(differences, ddof=ddof) / over(len(differences))
        return whole((z * spread / margin) ** power)

    return answer


RIGHT = {
    "11.drawn_difference": difference,
    "11.holm": holm(),
    "11.best_of": best_of(),
    "11.folds_needed": folds(),
}
WRONG = [
    ("11.drawn_difference", lambda a, b, w, d: -difference(a, b, w, d), "sign is turned"),
    ("11.drawn_difference", lambda a, b, w, d: float(a[d].sum() - b[d].sum()), "not divided"),
    ("11.drawn_difference", of_rates, "mean of the utterances' rates"),
    ("11.drawn_difference", everything, "take those that were drawn"),
    ("11.drawn_difference", once, "drawn twice must count twice"),
    (
        "11.drawn_difference",
        lambda a, b, w, d: (a[d].sum() - b[d].sum()) / w.sum(),
        "words of the utterances drawn",
    ),
    ("11.drawn_difference", lambda a, b, w, d: a[d].sum() / w[d].sum(), "first model alone"),
    ("11.drawn_difference", second_undrawn, "the second model hears all"),
    ("11.drawn_difference", lambda a, b, w, d: 0.123, "errors_a = [1, 0, 2], errors_b = [0, 0, 1]"),
    ("11.drawn_difference", lambda a, b, w, d: (a - b)[d], "one number"),
    ("11.holm", lambda p: p, "nothing was corrected"),
    ("11.holm", lambda p: np.minimum(1, len(p) * p), "Bonferroni"),
    ("11.holm", holm(back=False), "order in which they came"),
    ("11.holm", holm(grow=False), "running maximum"),
    ("11.holm", holm(lambda m: np.arange(1, m + 1), grow=False), "largest factor"),
    ("11.holm", holm(cap=9.0), "at most 1"),
    ("11.holm", benjamini_hochberg, "this is Benjamini-Hochberg"),
    ("11.best_of", best_of(best=np.mean), "this is the mean run"),
    ("11.best_of", lambda r, k: min(map(np.mean, combinations(r, k))), "the mean of the k best"),
    ("11.folds_needed", folds(whole=lambda F: int(F) + 1), "one too many where F is whole"),
    ("11.folds_needed", folds(whole=round), "rounded to the nearest"),
    ("11.holm", lambda p: p / 2, "for the example, p = [0.01, 0.04, 0.03]\n"),
    ("11.holm", lambda p: float(p.min()), "shape"),
    ("11.best_of", best_of(mean=np.median), "median of the minima"),
    ("11.best_of", lambda r, k: np.mean([*set(map(min, combinations(r, k)))]), "the same minimum"),
    ("11.best_of", lambda rates, k: rates.min(), "best of all"),
    ("11.best_of", lambda rates, k: rates[:k].min(), "first k"),
    ("11.best_of", best_of(best=max), "not the largest"),
    ("11.best_of", lambda rates, k: np.sort(rates)[:k].mean(), "mean of the k best"),
    ("11.best_of", best_of(lambda r, k: product(r, repeat=k)), "without putting back"),
    ("11.best_of", lambda rates, k: rates.mean(), "mean run"),
    ("11.best_of", best_of(combinations_with_replacement), "expected"),
    ("11.folds_needed", folds(whole=lambda F: F), "round up"),
    ("11.folds_needed", folds(whole=math.floor), "rounded down"),
    ("11.folds_needed", folds(ddof=0), "ddof=1"),
    ("11.folds_needed", folds(power=1), "square"),
    ("11.folds_needed", folds(over=np.sqrt), "by the root of n"),
    ("11.folds_needed", folds(z=1.645), "a 90 % interval"),
    ("11.folds_needed", folds(z=2 * 1.96), "half of the interval"),
    ("11.folds_needed", folds(z=1.0), "68 %"),
    ("11.folds_needed", lambda d, margin: 5, "expected"),
    ("11.folds_needed", lambda d, m: folds(z=t.ppf(0.975, len(d) - 1))(d, m), "1.96 was asked"),
    ("11.holm", hochberg, "Hochberg's procedure"),
    ("11.drawn_difference", lambda *inputs: abs(difference(*inputs)), "has a sign"),
]
test_right, test_wrong, test_unsolved, test_nothing = answer_tests(RIGHT, WRONG)
