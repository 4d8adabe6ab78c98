"""Other counts of word errors, and the check of an interval, for notebook 08."""

from collections import Counter
from difflib import SequenceMatcher

import numpy as np

from cspkit.teach.cases import text
from cspkit.teach.check import as_array


def wrong_clip(answer, right, inputs):
    norms = [np.sqrt(sum((g**2).sum() for g in arrays)) for arrays in (answer, inputs[0])]
    if norms[1] <= inputs[1]:
        return "gradients whose norm is below the bound stay as they are"
    return f"the norm of the answer is {norms[0]:.4g}, expected {inputs[1]:g}, in the old direction"


def other_words(spoken, heard):
    a, b = Counter(spoken.split()), Counter(heard.split())
    return max(a.total(), b.total()) - (a & b).total()


def in_common(spoken, heard):
    """Words that difflib finds in both lines, in the same order."""
    blocks = SequenceMatcher(None, spoken.split(), heard.split()).get_matching_blocks()
    return sum(block.size for block in blocks)


def by_difflib(spoken, heard):
    changes = SequenceMatcher(None, spoken.split(), heard.split()).get_opcodes()
    return sum(max(b - a, d - c) for kind, a, b, c, d in changes if kind != "equal")


# Errors and words of 40 utterances: the short ones go wrong more often, and all go wrong altogether
ERRORS = np.r_[np.ones(16), np.zeros(4), np.full(8, 12), np.zeros(12)].astype(int)
WORDS = np.repeat([1, 12], 20)
CLUSTERED = "40 utterances: 20 of 1 word, 16 of them wrong, and 20 of 12 words, 8 of them all wrong"
DRAWS = 3000
DISTANCES = "these are distances from the rate; return the two ends themselves"
AS_MANY = "utterances are drawn; each set has as many as there are"


def rates(errors, words, size=None):
    """Rates of many sets of `size` utterances, drawn with replacement."""
    N = len(words)
    drawn = np.random.default_rng(2).multinomial(size or N, np.full(N, 1 / N), size=10_000)
    return (drawn @ errors) / (drawn @ words)


def quantiles(rates, level=0.95):
    return np.quantile(rates, [(1 - level) / 2, (1 + level) / 2])


def near(ends, right):
    """Equal but for the randomness of some thousand draws: 5 % of the width at either end."""
    return np.allclose(ends, right, rtol=0, atol=0.05 * (right[1] - right[0]))


def ends_of(function, errors, words, seed, n=DRAWS):
    """Return the two ends, or a sentence that says why there are none, and the generator."""
    given, rng = (errors.copy(), words.copy()), np.random.default_rng(seed)
    answer = function(*given, rng, n)
    if answer is not None and np.shape(answer) == (n,) != (2,):
        wrong = "all drawn rates are returned; return their quantiles at 2.5 % and 97.5 %"
        return None, wrong, rng
    ends, wrong = as_array(answer, (2,))
    if not wrong and not all(map(np.array_equal, given, (errors, words))):
        wrong = "an input was changed in place; work on new arrays"
    return ends, wrong, rng


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


def unpaired(function):
    """Whether errors and words belong to the same utterances: if all is wrong, the rate is 1."""
    ends, wrong, _ = ends_of(function, WORDS, WORDS, 3)
    if wrong is None and ends[0] < 0.99 and ends[1] > 1.01:
        return "if every word is wrong, both ends must be 1; take errors and words of the same draw"
    return wrong


def wrong_interval(function, ends):
    drawn, rate, each, N = rates(ERRORS, WORDS), ERRORS.sum() / WORDS.sum(), ERRORS / WORDS, 40
    right, by_word = quantiles(drawn), np.random.default_rng(3).binomial(WORDS.sum(), rate, 20_000)
    of_utterances, distances = quantiles(each), right - rate

    def named(*known):
        return next((sentence for mine, value, sentence in known if near(mine, value)), None)

    if np.isclose(ends[0], ends[1], atol=1e-4):
        return "the interval has no width; draw with replacement, so that the sets differ"
    wrong = named(
        (ends / 100, right, "this is in per cent; return fractions"),
        (
            ends,
            quantiles(rates(ERRORS, np.full(N, 1 / N))),
            "these are numbers of errors; divide by the words of the same set",
        ),
        (ends, distances, DISTANCES),
        (ends * (-1, 1), distances, DISTANCES),
        (ends, of_utterances, "these are quantiles of the utterances; nothing was drawn anew"),
        (ends, quantiles(rates(ERRORS, WORDS, DRAWS)), f"too many {AS_MANY}"),
    )
    if wrong := wrong or ignored(function):
        return wrong
    if ends[1] < np.quantile(drawn, 0.02):
        return (
            "both ends are among the smallest rates; np.percentile takes 2.5 and 97.5, "
            "np.quantile 0.025 and 0.975"
        )
    if ends[0] < np.quantile(drawn, 0.002) and ends[1] > np.quantile(drawn, 0.998):
        return "these are about the smallest and the largest rate; take quantiles"
    return named(
        (ends, quantiles(rates(each, np.ones(N))),
         "the rates of the utterances are averaged; divide all errors by all words"),
        (ends, quantiles(by_word / WORDS.sum()),
         "single words are drawn; draw utterances: errors come together"),
        (ends, quantiles(drawn, 0.90), "this covers 90 %; 2.5 % must stay outside at each end"),
        (ends, quantiles(drawn, 0.975), "1.25 % are outside at each end, expected 2.5 %"),
        (ends, rate + drawn.std() * np.array([-1, 1]),
         "this is one standard deviation to each side; take quantiles"),
        (ends, quantiles(rates(ERRORS, WORDS, N // 2)), f"too few {AS_MANY}"),
    ) or f"the answer is {text(ends)}, expected about {text(right)}"  # fmt: skip


def interval(function, compare):
    """Check the percentile interval of a ratio of sums over utterances drawn anew."""
    ends, wrong, _ = ends_of(function, ERRORS, WORDS, 1)
    if wrong:
        return wrong
    if ends[0] > ends[1]:
        return "the low end is above the high end; return low, high"
    if not near(ends, quantiles(rates(ERRORS, WORDS))):
        return f"{unpaired(function) or wrong_interval(function, ends)}; tried with {CLUSTERED}"
    return wrong_with_few_errors(function) or ignored(function)


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
