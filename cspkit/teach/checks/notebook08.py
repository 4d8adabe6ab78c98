"""Checks of the exercises of notebook 08, training a compact recogniser."""

from collections import Counter
from difflib import SequenceMatcher

import numpy as np

from cspkit.teach.cases import table, text
from cspkit.teach.check import as_array, exercise


def clip(gradients, bound):
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    factor = bound / norm if norm > bound else 1.0
    return tuple(factor * g for g in gradients)


def wrong_clip(answer, right, inputs):
    norms = [np.sqrt(sum((g**2).sum() for g in arrays)) for arrays in (answer, inputs[0])]
    if norms[1] <= inputs[1]:
        return "gradients whose norm is below the bound stay as they are"
    return f"the norm of the answer is {norms[0]:.4g}, expected {inputs[1]:g}, in the old direction"


LARGER = "a gradient whose norm is below the bound was enlarged; it stays as it is"
table("08.clip", clip, [
    ([np.array([3.0, 4.0]), np.array([0.0, 12.0])], 2.6),
    ([np.array([[2.0, -1.0], [0.0, 2.0]]), np.array([4.0, 0.0, 12.0])], 5.0),
    ([np.array([[0.1, -1.3], [0.6, 0.4]]), np.array([-0.5, 0.4]), np.array([11.0, 8.0])], 2.0),
    ([np.array([0.3, 0.0]), np.array([-0.4])], 5.0), ([np.zeros(2), np.zeros((2, 2))], 5.0),
], [
    ("tuple(g * min(1, bound / max(np.linalg.norm(g), 1e-300)) for g in gradients)",
     "every array is clipped by its own norm; the norm is that of all of them together"),
    ("tuple(np.clip(g, -bound, bound) for g in gradients)",
     "the entries are clipped one by one; that turns the step"),
    ("tuple(gradients)", "nothing was clipped, though the norm is above the bound"),
    ("norm > bound => norm", LARGER),
    ("if norm > bound else 1.0 =>", LARGER),
    ("bound / norm if norm > bound else 1.0 => min(bound, norm) / norm",
     "nan comes out; gradients that are all zero need no division"),
    ("bound / norm => 1 / norm", "the norm of the answer is 1, expected the bound: multiply by it"),
    ("(g**2).sum() => np.linalg.norm(g, 2)**2",
     "of a matrix, np.linalg.norm(g, 2) is the largest singular value; add all squares"),
    ("(g**2).sum() => g.sum()**2", "the entries are added before they are squared"),
    ("np.sqrt =>", "the root is missing: the norm is sqrt of the sum of squares"),
    ("np.sqrt => && (g**2).sum() => np.linalg.norm(g)",
     "the norms are added; add the squares, then take the root"),
    ("np.sqrt => && g**2 => np.abs(g)",
     "this is the sum of magnitudes; the norm is that of the squares"),
    ("np.sqrt(sum( => (max( && (g**2).sum() => np.abs(g).max()",
     "this bounds the largest entry; bound the norm"),
    ("np.sqrt( => np.sqrt(1 / sum(g.size for g in gradients) *",
     "this bounds the mean square; sum the squares"),
    ("bound / norm => norm / bound", "the factor is upside down: bound / norm"),
    ("bound / norm => -bound / norm", "the sign is turned"),
], wrong_clip, right="torch.nn.utils.clip_grad_norm_ does the same, in place.")  # fmt: skip


def word_errors(spoken, heard):
    a, b = spoken.split(), heard.split()
    d = np.zeros((len(a) + 1, len(b) + 1), dtype=int)
    d[:, 0] = np.arange(len(a) + 1)
    d[0, :] = np.arange(len(b) + 1)
    for i, j in np.ndindex(len(a), len(b)):
        change = d[i, j] + (a[i] != b[j])
        d[i + 1, j + 1] = min(change, d[i, j + 1] + 1, d[i + 1, j] + 1)
    return d[-1, -1]


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


table("08.word_errors", word_errors, [
    ("one two three", "two three four"), ("one two three", "one two three"),
    ("one two three", "one five three"), ("one two three", "one two"),
    ("one two three", "two three"), ("one two", "one six two seven"), ("one two", "six one two"),
    ("five", ""), ("one one two", "two one"), ("zero four four nine", "four nine four zero four"),
    ("eight", "nine nine nine"),
], [
    ("d", "a table is returned; the answer is its last entry, one number"),
    (".split() =>", "letters are counted; split both lines into words"),
    ("sum(map(str.__ne__, a, b)) + abs(len(a) - len(b))",
     "words are compared place by place; after one lost word all others are in another place"),
    ("sum(map(str.__ne__, a, b))",
     "words are compared place by place, and what is too long or too short costs nothing"),
    ("abs(len(a) - len(b))",
     "only the difference of the lengths counts; a word heard as another is an error, too"),
    (by_difflib, "difflib does not look for the fewest errors; fill the table"),
    ("max(len(a), len(b)) - in_common(spoken, heard)",
     "what is not in both lines is counted as substitutions; a lost and an added word are two "
     "errors"),
    ("len(set(a) ^ set(b))", "the lines are compared as sets; order and repetition count"),
    ("(a[i] != b[j]) => 1", "the step along the diagonal always costs 1; equal words cost 0"),
    ("!= => ==", "equal words cost 1 and others 0; it is the other way round"),
    ("(a[i] => 2 * (a[i]", "a substitution costs two; it is one error, a step along the diagonal"),
    ("d[0, :] = => d[0, :] = 0 * && d[i + 1, j] + 1 => d[i + 1, j]",
     "insertions cost nothing; each is an error"),
    ("d[:, 0] = => d[:, 0] = 0 * && d[i, j + 1] + 1 => d[i, j + 1]",
     "deletions cost nothing; each is an error"),
    ("np.arange => 0 * np.arange",
     "row 0 and column 0 of the table are zero; there, j words are inserted, i deleted"),
    ("d[:, 0] = => d[:, 0] = 0 *",
     "column 0 of the table is zero; entry (i, 0) is i: so many words were deleted"),
    ("d[0, :] = => d[0, :] = 0 *",
     "row 0 of the table is zero; entry (0, j) is j: so many words were inserted"),
    ("d[-1, -1] / len(a)", "this is a rate; return the number of errors"),
    (other_words, "the order of the words has no effect; it should"),
], right="cspkit.asr.score also says how many are substitutions, deletions and insertions."
)  # fmt: skip


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
        return "with every word wrong it is not 1 to 1; take errors and words of the same draw"
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
        (ends, quantiles(drawn, 0.90), "this covers 90 %; 2.5 % stay outside at each end"),
        (ends, quantiles(drawn, 0.975), "1.25 % are outside at each end, expected 2.5 %"),
        (ends, rate + drawn.std() * np.array([-1, 1]), "this is one deviation to each side"),
        (ends, quantiles(rates(ERRORS, WORDS, N // 2)), f"too few {AS_MANY}"),
    ) or f"the answer is {text(ends)}, expected about {text(right)}"  # fmt: skip


@exercise("08.interval", right="Notebook 11 draws the difference of two models in the same way.")
def interval(function):
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


def count_weights(width, n_units):
    def lstm(inputs):
        return 4 * width * (inputs + width + 2)

    encoder, predictor, embedding = lstm(39) + lstm(width), lstm(32), 32 * (n_units + 1)
    joiner, output = 2 * width**2 + width, (n_units + 1) * (width + 1)
    return encoder + predictor + embedding + joiner + output


table("08.count_weights", count_weights, [(128, 10), (16, 10), (5, 10), (64, 10), (32, 27)], [
    (lambda width, n_units: count_weights(128, n_units), "`width` has no effect"),
    ("336235", "`width` has no effect"),
    (lambda width, n_units: count_weights(width, 10),
     "with 10 units it is right, with 27 it is not; use `n_units`"),
    ("4 * width => width", "an LSTM layer has four such matrices, one for each gate"),
    ("4 * width => 3 * width", "there are three gates and the cell's input: four matrices"),
    ("+ 2 => + 1", "PyTorch gives an LSTM two vectors of biases, each of 4 width"),
    ("+ 2 =>", "the biases of the LSTM layers are missing"),
    ("+ lstm(width) =>", "the encoder has two layers; the second takes `width` inputs"),
    ("lstm(width) => lstm(39)", "the second layer of the encoder takes `width` inputs, not 39"),
    ("inputs + width => inputs",
     "the recurrent matrices are missing: (4 width, width) in each layer"),
    ("inputs + width => width", "the input matrices are missing: (4 width, inputs) in each layer"),
    ("lstm(32) => lstm(width)", "the predictor's inputs are embeddings: 32 of them, not `width`"),
    ("n_units + 1 => n_units",
     "the blank counts as a unit, too, in the embedding and in the output"),
    ("32 * (n_units + 1) => 32 * (n_units + 2)",
     "the blank and the start share an embedding: the blank stands for the start"),
    ("32 * (n_units + 1) => 32 * n_units",
     "the blank has no embedding here; it stands for the start, and needs one"),
    ("(n_units + 1) * => n_units *", "the output has no blank here; it is a unit, the last one"),
    ("+ embedding =>", "the embedding is missing: 32 numbers for each unit and the start"),
    ("**2 + width => **2", "the joiner's encoder matrix has a bias of `width`"),
    ("**2 + width => **2 + 2 * width", "only one of the joiner's two matrices has a bias"),
    ("2 * width**2 => width**2", "the joiner has two matrices, one for each side"),
    ("+ joiner =>", "the joiner is missing"),
    ("(width + 1) => width", "the output layer has a bias for each unit"),
    ("+ output =>", "the output layer is missing"),
    ("+ predictor =>", "the predictor's LSTM is missing"),
], lambda answer, right, inputs: f"they differ by {answer - right:+,.0f}",
    right="From 64 to 128 units it grows 3.6 times: most weights are in (width, width) matrices.",
)  # fmt: skip
