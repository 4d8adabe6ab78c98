"""The check of an interval, for notebook 08."""

import numpy as np

from cspkit.teach.cases import text
from cspkit.teach.check import as_array

# Errors and words of 40 utterances: the short ones go wrong more often, and all go wrong altogether
ERRORS, WORDS = np.repeat([1, 0, 12, 0], [16, 4, 8, 12]), np.repeat([1, 12], 20)
CLUSTERED = "40 utterances: 20 of 1 word, 16 of them wrong, and 20 of 12 words, 8 of them all wrong"
DRAWS = 3000


def rates(errors, words, size=None):
    """Rates of many sets of `size` utterances, drawn with replacement."""
    N = len(words)
    drawn = np.random.default_rng(2).multinomial(size or N, np.full(N, 1 / N), size=10_000)
    return (drawn @ errors) / (drawn @ words)


def quantiles(rates, outside=0.025):
    return np.quantile(rates, [outside, 1 - outside])


def near(ends, right):
    """Equal but for the randomness of some thousand draws: 5 % of the width at either end."""
    return np.allclose(ends, right, rtol=0, atol=0.05 * (right[1] - right[0]))


def ends_of(function, errors, words, seed, n=DRAWS):
    """Return the two ends, or a sentence that says why there are none, and the generator."""
    given, rng = (errors.copy(), words.copy()), np.random.default_rng(seed)
    answer = function(*given, rng, n)
    if np.shape(answer) == (n,):
        return None, "all drawn rates are returned; return their quantiles at 2.5 % and 97.5 %", rng
    ends, wrong = as_array(answer, (2,))
    if not wrong and not all(map(np.array_equal, given, (errors, words))):
        wrong = "an input was changed in place; work on new arrays"
    return ends, wrong, rng


def interval(function, compare):
    """Check the percentile interval of a ratio of sums over utterances drawn anew."""
    ends, wrong, _ = ends_of(function, ERRORS, WORDS, 1)
    if wrong or ends[0] > ends[1]:
        return wrong or "the low end is above the high end; return low, high"
    if near(ends, quantiles(rates(ERRORS, WORDS))):
        return wrong_with_few_errors(function) or ignored(function)
    return f"{wrong_interval(function, ends)}; tried with {CLUSTERED}"


def ignored(function):
    """Whether n or the generator has no effect. The rate of a single draw is low and high."""
    ends, wrong, rng = ends_of(function, ERRORS, WORDS, 5, n=1)
    if wrong:
        return f"with n = 1: {wrong}"
    if ends[0] != ends[1]:
        return "with n = 1 both ends must be equal, the rate of one set; `n` sets are to be drawn"
    if rng.bit_generator.state == np.random.default_rng(5).bit_generator.state:
        return "`rng` is not used; draw with it, so that the same seed gives the same interval"
    return None


def wrong_interval(function, ends):
    """Name the mistake that leads to ends like these, or say what they should be."""
    if_all_wrong, wrong, _ = ends_of(function, WORDS, WORDS, 3)
    if wrong or if_all_wrong[0] < 0.99 and if_all_wrong[1] > 1.01:
        return wrong or (
            "if every word is wrong, both ends must be 1; take errors and words of the same draw"
        )
    N, n_words, each, drawn = len(WORDS), WORDS.sum(), ERRORS / WORDS, rates(ERRORS, WORDS)
    rate, right = ERRORS.sum() / n_words, quantiles(drawn)
    if np.isclose(*ends, atol=1e-4):
        return "the interval has no width; draw with replacement, so that the sets differ"
    if near(ends, 100 * right):
        return "this is in per cent; return fractions"
    if near(ends, quantiles(rates(ERRORS, np.full(N, 1 / N)))):
        return "these are numbers of errors; divide by the words of the same set"
    if near(np.abs(ends) * (-1, 1), right - rate):
        return "these are distances from the rate; return the two ends themselves"
    if near(ends, quantiles(each)):
        return "these are quantiles of the utterances; nothing was drawn anew"
    if near(ends, quantiles(rates(ERRORS, WORDS, DRAWS))):
        return "too many utterances are drawn; each set has as many as there are"
    if wrong := ignored(function):
        return wrong
    if ends[1] < np.quantile(drawn, 0.02):
        return (
            "both ends are among the smallest rates; np.percentile takes 2.5 and 97.5, "
            "np.quantile 0.025 and 0.975"
        )
    if ends[0] < np.quantile(drawn, 0.002) and ends[1] > np.quantile(drawn, 0.998):
        return "these are about the smallest and the largest rate; take quantiles"
    if near(ends, quantiles(rates(each, np.ones(N)))):
        return "the rates of the utterances are averaged; divide all errors by all words"
    if near(ends, quantiles(np.random.default_rng(3).binomial(n_words, rate, 20_000) / n_words)):
        return "single words are drawn; draw utterances: errors come together"
    if near(ends, quantiles(drawn, 0.05)):
        return "this covers 90 %; 2.5 % must stay outside at each end"
    if near(ends, quantiles(drawn, 0.0125)):
        return "1.25 % are outside at each end, expected 2.5 %"
    if near(ends, rate + drawn.std() * np.array([-1, 1])):
        return "this is one standard deviation to each side; take quantiles"
    if near(ends, quantiles(rates(ERRORS, WORDS, N // 2))):
        return "too few utterances are drawn; each set has as many as there are"
    return f"the answer is {text(ends)}, expected about {text(right)}"


def wrong_with_few_errors(function):
    """What only few errors show: the rates are skewed, and none is below zero."""
    errors, words = 4 * np.isin(np.arange(80), [0, 79]), np.full(80, 4)
    ends, wrong, _ = ends_of(function, errors, words, 4)
    right = quantiles(rates(errors, words))
    if wrong or np.allclose(ends, right, rtol=0, atol=1e-3):
        return wrong
    if ends[0] < 0:
        return "with few errors the low end is below zero; take quantiles of the drawn rates"
    if np.allclose(ends, quantiles(rates(errors[1:], words[1:])), rtol=0, atol=1e-3):
        return "one utterance is never drawn; rng.integers(N) draws from 0 to N - 1"
    return f"with two bad utterances of 80 the answer is {text(ends)}, expected about {text(right)}"
