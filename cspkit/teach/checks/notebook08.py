"""Checks of the exercises of notebook 08, training a compact recogniser."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np

from cspkit.bootstrap import utterance_bootstrap
from cspkit.teach.cases import table
from cspkit.teach.check import Verdict, as_array, exercise

Array = np.ndarray


def norm_of(gradients: list[Array]) -> float:
    return np.sqrt(sum((g**2).sum() for g in gradients))


def clip(norm: Callable = norm_of, factor: Callable = lambda bound, norm: bound / norm) -> Callable:
    """Clipping; the options make its typical mistakes."""

    def answer(gradients: list[Array], bound: float) -> tuple[Array, ...]:
        size = norm(gradients)
        scale = factor(bound, size) if size > bound else 1.0
        return tuple(scale * g for g in gradients)

    return answer


def always(factor: Callable) -> Callable:
    return lambda gradients, bound: tuple(factor(bound, norm_of(gradients)) * g for g in gradients)


def enlarged(gradients: list[Array], bound: float) -> tuple[Array, ...]:
    return always(lambda bound, norm: bound / norm if norm else 1.0)(gradients, bound)


def wrong_clip(answer: Sequence[Array], right: tuple, inputs: tuple) -> str:
    if norm_of(inputs[0]) <= inputs[1]:
        return "gradients whose norm is below the bound stay as they are"
    return (
        f"the norm of the answer is {norm_of(answer):.4g}, expected {inputs[1]:g}, in the old "
        "direction"
    )


table(
    "08.clip",
    lambda gradients, bound: clip()(gradients, bound),
    [
        ([np.array([3.0, 4.0]), np.array([0.0, 12.0])], 2.6),
        ([np.array([[2.0, -1.0], [0.0, 2.0]]), np.array([4.0, 0.0, 12.0])], 5.0),
        ([np.array([[0.1, -1.3], [0.6, 0.4]]), np.array([-0.5, 0.4]), np.array([11.0, 8.0])], 2.0),
        ([np.array([0.3, 0.0]), np.array([-0.4])], 5.0),
        ([np.zeros(2), np.zeros((2, 2))], 5.0),
    ],
    [
        (lambda gradients, bound: tuple(clip()([g], bound)[0] for g in gradients),
         "every array is clipped by its own norm; the norm is that of all of them together"),
        (lambda gradients, bound: tuple(np.clip(g, -bound, bound) for g in gradients),
         "the entries are clipped one by one; that turns the step"),
        (lambda gradients, bound: tuple(gradients),
         "nothing was clipped, though the norm is above the bound"),
        *((larger, "a gradient whose norm is below the bound was enlarged; it stays as it is")
          for larger in (enlarged, always(lambda bound, norm: bound / norm))),
        (always(lambda bound, norm: min(bound, norm) / norm),
         "nan comes out; gradients that are all zero need no division"),
        (clip(factor=lambda bound, norm: 1 / norm),
         "the norm of the answer is 1, expected the bound: multiply by it"),
        (clip(lambda g: norm_of(g) ** 2),
         "the root is missing: the norm is sqrt of the sum of squares"),
        (clip(lambda gradients: sum(norm_of([g]) for g in gradients)),
         "the norms are added; add the squares, then take the root"),
        (clip(lambda gradients: sum(np.abs(g).sum() for g in gradients)),
         "this is the sum of magnitudes; the norm is that of the squares"),
        (clip(lambda gradients: max(np.abs(g).max() for g in gradients)),
         "this bounds the largest entry; bound the norm"),
        (clip(lambda gradients: norm_of(gradients) / np.sqrt(sum(g.size for g in gradients))),
         "this bounds the mean square; sum the squares"),
        (clip(factor=lambda bound, norm: norm / bound), "the factor is upside down: bound / norm"),
        (clip(factor=lambda bound, norm: -bound / norm), "the sign is turned"),
    ],
    wrong_clip,
    right="torch.nn.utils.clip_grad_norm_ does the same, in place.",
)  # fmt: skip


def errors_table(
    spoken: Sequence[str], heard: Sequence[str], sub=1, ins=1, dele=1, row=1, column=1
) -> Array:
    """The table of errors; another price, or an edge left at 0, is a mistake."""
    d = np.zeros((len(spoken) + 1, len(heard) + 1), dtype=int)
    d[:, 0] = column * dele * np.arange(len(spoken) + 1)
    d[0] = row * ins * np.arange(len(heard) + 1)
    for i, j in np.ndindex(len(spoken), len(heard)):
        change = d[i, j] + sub * (spoken[i] != heard[j])
        d[i + 1, j + 1] = min(change, d[i, j + 1] + dele, d[i + 1, j] + ins)
    return d


def in_place(spoken: list[str], heard: list[str]) -> int:
    return sum(a != b for a, b in zip(spoken, heard, strict=False))


def by_words(count: Callable) -> Callable:
    return lambda spoken, heard: count(spoken.split(), heard.split())


def priced(**prices: int) -> Callable:
    return by_words(lambda s, h: errors_table(s, h, **prices)[-1, -1])


table(
    "08.word_errors",
    lambda spoken, heard: priced()(spoken, heard),
    [
        ("one two three", "two three four"),
        ("one two three", "one two three"),
        ("one two three", "one five three"),
        ("one two three", "one two"),
        ("one two three", "two three"),
        ("one two", "one six two seven"),
        ("one two", "six one two"),
        ("five", ""),
        ("one one two", "two one"),
        ("zero four four nine", "four nine four zero four"),
        ("eight", "nine nine nine"),
    ],
    [
        (by_words(errors_table), "a table is returned; the answer is its last entry, one number"),
        (lambda s, h: errors_table(s, h)[-1, -1],
         "letters are counted; split both lines into words"),
        (by_words(lambda s, h: in_place(s, h) + abs(len(s) - len(h))),
         "words are compared place by place; after one lost word all others are in another place"),
        (by_words(in_place),
         "words are compared place by place, and what is too long or too short costs nothing"),
        (by_words(lambda s, h: abs(len(s) - len(h))),
         "only the difference of the lengths counts; a word heard as another is an error, too"),
        (priced(sub=2), "a substitution costs two; it is one error, a step along the diagonal"),
        (priced(ins=0), "insertions cost nothing; each is an error"),
        (priced(dele=0), "deletions cost nothing; each is an error"),
        (priced(row=0, column=0),
         "row 0 and column 0 of the table are zero; there, j words are inserted, i deleted"),
        (priced(column=0),
         "column 0 of the table is zero; entry (i, 0) is i: so many words were deleted"),
        (priced(row=0),
         "row 0 of the table is zero; entry (0, j) is j: so many words were inserted"),
        (by_words(lambda s, h: errors_table(s, h)[-1, -1] / len(s)),
         "this is a rate; return the number of errors"),
        (by_words(lambda s, h: max(len(s), len(h)) - (Counter(s) & Counter(h)).total()),
         "the order of the words has no effect; it should"),
    ],
    right="cspkit.asr.score also says how many are substitutions, deletions and insertions.",
)  # fmt: skip


# Errors and words of 40 utterances: the short ones go wrong more often, and all go wrong altogether
ERRORS = np.r_[np.ones(16), np.zeros(4), np.full(8, 12), np.zeros(12)].astype(int)
WORDS = np.repeat([1, 12], 20)
CLUSTERED = "40 utterances: 20 of 1 word, 16 of them wrong, and 20 of 12 words, 8 of them all wrong"
DRAWS = 3000


def rates(errors: Array, words: Array, size: int | None = None) -> Array:
    """Rates of many sets of utterances, drawn with replacement."""
    if size is None:
        return np.concatenate(
            list(utterance_bootstrap(errors[:, None], words, np.random.default_rng(2), 10_000))
        )[:, 0]
    N = len(words)
    drawn = np.random.default_rng(2).multinomial(size, np.full(N, 1 / N), size=10_000)
    return (drawn @ errors) / (drawn @ words)


def quantiles(rates: Array, level: float = 0.95) -> Array:
    return np.quantile(rates, [(1 - level) / 2, (1 + level) / 2])


def near(ends: Array, right: Array) -> bool:
    """Equal but for the randomness of some thousand draws: 5 % of the width at either end."""
    return bool(np.allclose(ends, right, rtol=0, atol=0.05 * (right[1] - right[0])))


clustered_rates = cache(lambda: rates(ERRORS, WORDS))


def ends_of(function: Callable, errors: Array, words: Array, seed: int, n: int = DRAWS) -> tuple:
    """Return the two ends, or a sentence that says why there are none."""
    given, rng = (errors.copy(), words.copy()), np.random.default_rng(seed)
    answer = function(*given, rng, n)
    if answer is not None and np.shape(answer) == (n,) != (2,):
        return None, "all drawn rates are returned; return their quantiles at 2.5 % and 97.5 %"
    ends, wrong = as_array(answer, (2,))
    if not wrong and not (np.array_equal(given[0], errors) and np.array_equal(given[1], words)):
        wrong = "an input was changed in place; work on new arrays"
    return ends, wrong


def ignored(function: Callable) -> Verdict:
    """Whether n or the generator has no effect. The rate of a single draw is low and high."""
    low_high, wrong = ends_of(function, ERRORS, WORDS, 5, n=1)
    if wrong:
        return f"with n = 1: {wrong}"
    if low_high[0] != low_high[1]:
        return "with n = 1 both ends must be equal, the rate of one set; `n` sets are to be drawn"
    rng = np.random.default_rng(6)
    before = rng.bit_generator.state
    function(ERRORS.copy(), WORDS.copy(), rng, DRAWS)
    if rng.bit_generator.state == before:
        return "`rng` is not used; draw with it, so that the same seed gives the same interval"
    return None


@exercise("08.interval", right="Notebook 11 draws the difference of two models in the same way.")
def interval(function: Callable[[Array, Array, np.random.Generator, int], tuple]) -> Verdict:
    """Check the percentile interval of a ratio of sums over utterances drawn anew."""
    ends, wrong = ends_of(function, ERRORS, WORDS, 1)
    if wrong:
        return wrong
    if ends[0] > ends[1]:
        return "the low end is above the high end; return low, high"
    if not near(ends, quantiles(clustered_rates())):
        return f"{unpaired(function) or wrong_interval(function, ends)}; tried with {CLUSTERED}"
    return wrong_with_few_errors(function) or ignored(function)


def unpaired(function: Callable) -> Verdict:
    """Whether errors and words belong to the same utterances: if all is wrong, the rate is 1."""
    ends, wrong = ends_of(function, WORDS, WORDS, 3)
    if wrong is None and ends[0] < 0.99 and ends[1] > 1.01:
        return "with every word wrong it is not 1 to 1; take errors and words of the same draw"
    return wrong


def wrong_interval(function: Callable, ends: Array) -> str:
    drawn, rate, each = clustered_rates(), ERRORS.sum() / WORDS.sum(), ERRORS / WORDS
    right, n = quantiles(drawn), len(WORDS)
    if near(ends / 100, right):
        return "this is in per cent; return fractions"
    if near(rate + ends, right) or near(rate + ends * (-1, 1), right):
        return "these are distances from the rate; return the two ends themselves"
    if np.isclose(ends[0], ends[1], atol=1e-4):
        return "the interval has no width; draw with replacement, so that the sets differ"
    if near(ends, quantiles(each)):
        return "these are quantiles of the utterances; nothing was drawn anew"
    if near(ends, quantiles(rates(ERRORS, WORDS, size=DRAWS))):
        return "too many utterances are drawn; each set has as many as there are"
    if wrong := ignored(function):
        return wrong
    if ends[0] < np.quantile(drawn, 0.002) and ends[1] > np.quantile(drawn, 0.998):
        return "these are about the smallest and the largest rate; take quantiles"
    by_word = np.random.default_rng(3).binomial(WORDS.sum(), rate, size=20_000) / WORDS.sum()
    known = (
        (quantiles(rates(each, np.ones(n))),
         "the rates of the utterances are averaged; divide all errors by all words"),
        (quantiles(by_word), "single words are drawn; draw utterances: errors come together"),
        (quantiles(drawn, 0.90), "this covers 90 %; 2.5 % stay outside at each end"),
        (quantiles(drawn, 0.975), "1.25 % are outside at each end, expected 2.5 %"),
        (rate + drawn.std() * np.array([-1, 1]), "this is one deviation to each side"),
        (quantiles(rates(ERRORS, WORDS, size=n // 2)),
         "too few utterances are drawn; each set has as many as there are"),
    )  # fmt: skip
    return next(
        (sentence for value, sentence in known if near(ends, value)),
        f"the answer is {ends[0]:.3f} to {ends[1]:.3f}, "
        f"expected about {right[0]:.3f} to {right[1]:.3f}",
    )


def wrong_with_few_errors(function: Callable) -> Verdict:
    """What only few errors show: the rates are skewed, and none is below zero."""
    errors, words = 4 * np.isin(np.arange(80), [5, 60]), np.full(80, 4)
    ends, wrong = ends_of(function, errors, words, 4)
    if wrong:
        return wrong
    right = quantiles(rates(errors, words))
    if ends[0] < 0:
        return "with few errors the low end is below zero; take quantiles of the drawn rates"
    if not np.allclose(ends, right, rtol=0, atol=1e-3):
        return (
            f"with two bad utterances of 80 the answer is {ends[0]:.4f} to {ends[1]:.4f}, "
            f"expected about {right[0]:.4f} to {right[1]:.4f}"
        )
    return None


def weights(
    width: int, n_units: int, gates=4, biases=2, layers=2, second=None, recurrent=1, inputs=1,
    predictor_in=32, blank=1, embedding=1, joiner_bias=1, joiner=2, output_bias=1, output=1,
    predictor=1,
) -> int:  # fmt: skip
    """Weights of a Transducer; the switches make typical mistakes."""

    def lstm(n_inputs: int) -> int:
        return gates * width * (inputs * n_inputs + recurrent * width + biases)

    return (
        lstm(39)
        + (layers - 1) * lstm(second or width)
        + predictor * lstm(predictor_in or width)
        + embedding * 32 * (n_units + (blank in (1, -2)))  # -1 and -2 forget one of the two
        + joiner * width**2
        + joiner_bias * width * (joiner > 0)
        + output * (n_units + (blank in (1, -1))) * (width + output_bias)
    )


FLAT = "`width` has no effect"
table(
    "08.count_weights",
    lambda width, n_units: weights(width, n_units),
    [(128, 10), (16, 10), (5, 10), (64, 10), (32, 27)],
    [
        (lambda width, n_units: weights(128, n_units), FLAT),
        (lambda width, n_units: 336235, FLAT),
        (lambda width, n_units: weights(width, 10),
         "with 10 units it is right, with 27 it is not; use `n_units`"),
    ]
    + [(partial(weights, **{switch: value}), sentence) for switch, value, sentence in (
        ("gates", 1, "an LSTM layer has four such matrices, one for each gate"),
        ("gates", 3, "there are three gates and the cell's input: four matrices"),
        ("biases", 1, "PyTorch gives an LSTM two vectors of biases, each of 4 width"),
        ("biases", 0, "the biases of the LSTM layers are missing"),
        ("layers", 1, "the encoder has two layers; the second takes `width` inputs"),
        ("second", 39, "the second layer of the encoder takes `width` inputs, not 39"),
        ("recurrent", 0, "the recurrent matrices are missing: (4 width, width) in each layer"),
        ("inputs", 0, "the input matrices are missing: (4 width, inputs) in each layer"),
        ("predictor_in", 0, "the predictor's inputs are embeddings: 32 of them, not `width`"),
        ("blank", 0, "the blank counts as a unit, too, in the embedding and in the output"),
        ("blank", -1, "the blank has no embedding here; it stands for the start, and needs one"),
        ("blank", -2, "the output has no blank here; it is a unit, the last one"),
        ("embedding", 0, "the embedding is missing: 32 numbers for each unit and the start"),
        ("joiner_bias", 0, "the joiner's encoder matrix has a bias of `width`"),
        ("joiner_bias", 2, "only one of the joiner's two matrices has a bias"),
        ("joiner", 1, "the joiner has two matrices, one for each side"),
        ("joiner", 0, "the joiner is missing"),
        ("output_bias", 0, "the output layer has a bias for each unit"),
        ("output", 0, "the output layer is missing"),
        ("predictor", 0, "the predictor's LSTM is missing"),
    )],
    lambda answer, right, inputs: f"they differ by {answer - right:+,.0f}",
    right="From 64 to 128 units it grows 3.6 times: most weights are in (width, width) matrices.",
)  # fmt: skip
