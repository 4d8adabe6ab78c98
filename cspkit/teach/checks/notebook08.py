"""Checks of the exercises of notebook 08, training a compact recogniser."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from cspkit.teach.check import Verdict, as_array, exercise

Array = np.ndarray


@exercise("08.clip")
def clip(function: Callable[[list[Array], float], Sequence[Array]]) -> Verdict:
    """Check clipping by the norm of all gradients together."""
    rng = np.random.default_rng(0)
    cases = [
        ([np.array([3.0, 4.0]), np.array([0.0, 12.0])], 2.6),
        ([np.array([[2.0, -1.0], [0.0, 2.0]]), np.array([4.0, 0.0, 12.0])], 5.0),
        ([rng.standard_normal((3, 4)), rng.standard_normal(5), 9 * rng.standard_normal(2)], 2.0),
        ([np.array([0.3, 0.0]), np.array([-0.4])], 5.0),
        ([np.zeros(2), np.zeros((2, 2))], 5.0),
    ]
    for gradients, bound in cases:
        given = [g.copy() for g in gradients]
        answer = function(given, bound)
        if answer is None:
            return "the function returns None; does it end with a return line?"
        if not hasattr(answer, "__len__"):
            return f"a {type(answer).__name__} is returned, expected a list of arrays"
        if len(answer) != len(gradients):
            return f"{len(answer)} arrays are returned, expected {len(gradients)}"
        if not all(np.array_equal(a, b) for a, b in zip(given, gradients, strict=True)):
            return "a gradient was modified in place; `factor * g` makes a new array"
        clipped = []
        for ours, g in zip(answer, gradients, strict=True):
            if np.shape(ours) == g.shape and not np.all(np.isfinite(ours)):
                return "nan or inf comes out; gradients that are all zero need no division"
            array, wrong = as_array(ours, g.shape)
            if wrong:
                return wrong
            clipped.append(array)
        if wrong := _wrong_clip(clipped, gradients, bound):
            return wrong
    return None


def _norm(gradients: Sequence[Array]) -> float:
    return float(np.sqrt(sum((g**2).sum() for g in gradients)))


def _flat(gradients: Sequence[Array]) -> Array:
    return np.concatenate([np.ravel(g) for g in gradients])


def _wrong_clip(ours: Sequence[Array], gradients: Sequence[Array], bound: float) -> Verdict:
    norm, flat, got = _norm(gradients), _flat(gradients), _flat(ours)
    if np.allclose(got, min(1.0, bound / norm if norm else 1.0) * flat):
        return None
    norms = [float(np.linalg.norm(g)) for g in gradients]
    largest, total = float(np.abs(flat).max()), float(np.abs(flat).sum())
    each = [g * min(1.0, bound / n) for g, n in zip(gradients, norms, strict=True) if n]
    if norm <= bound:
        if np.allclose(got, flat * (bound / norm if norm else 1.0)):
            return "a gradient whose norm is below the bound was enlarged; it stays as it is"
        return "gradients whose norm is below the bound stay as they are"
    if len(each) == len(gradients) and np.allclose(got, _flat(each)):
        return "every array is clipped by its own norm; the norm is that of all of them together"
    known = (
        (np.clip(flat, -bound, bound), "the entries are clipped one by one; that turns the step"),
        (flat, "nothing was clipped, though the norm is above the bound"),
        (flat / norm, "the norm of the answer is 1, expected the bound: multiply by it"),
        (flat * bound / norm**2, "the root is missing: the norm is sqrt of the sum of squares"),
        (flat * bound / sum(norms), "the norms are added; add the squares, then take the root"),
        (flat * bound / total, "this is the sum of magnitudes; the norm is that of the squares"),
        (flat * bound / largest, "this bounds the largest entry; bound the norm"),
        (flat * bound / np.sqrt((flat**2).mean()), "this bounds the mean square; sum the squares"),
        (flat * norm / bound, "the factor is upside down: bound / norm"),
        (-flat * bound / norm, "the sign is turned"),
    )
    for value, sentence in known:
        if np.allclose(got, value):
            return sentence
    return f"the norm of the answer is {_norm(ours):.4g}, expected {bound:g}, in the old direction"


@exercise("08.word_errors")
def word_errors(function: Callable[[str, str], int]) -> Verdict:
    """Check the edit distance between two lines of words."""
    cases = (
        ("one two three", "one two three"),
        ("one two three", "one five three"),
        ("one two three", "two three four"),
        ("one two three", "one two"),
        ("one two three", "two three"),
        ("one two", "one six two seven"),
        ("one two", "six one two"),
        ("five", ""),
        ("one one two", "two one"),
        ("zero four four nine", "four nine four zero four"),
        ("eight", "nine nine nine"),
    )
    answers = []
    for spoken, heard in cases:
        number, wrong = as_array(function(spoken, heard), ())
        if wrong and "shape" in wrong:
            return "a table is returned; the answer is its last entry, one number"
        if wrong:
            return wrong
        answers.append(float(number))
    right = [_distance(s.split(), h.split()) for s, h in cases]
    if np.allclose(answers, right):
        return None
    for wrong_way, sentence in _WRONG_COUNTS:
        if np.allclose(answers, [wrong_way(s, h) for s, h in cases]):
            return sentence
    i = int(np.flatnonzero(~np.isclose(answers, right))[0])
    spoken, heard = cases[i]
    return f'spoken "{spoken}", heard "{heard}": it gives {answers[i]:g}, expected {right[i]}'


def _distance(
    spoken: Sequence[str], heard: Sequence[str], sub=1, ins=1, dele=1, edges=(True, True)
) -> int:
    """Last entry of the table of errors, with a price for each kind, or an edge left at 0."""
    table = np.zeros((len(spoken) + 1, len(heard) + 1))
    table[:, 0] = dele * np.arange(len(spoken) + 1) * edges[0]
    table[0, :] = ins * np.arange(len(heard) + 1) * edges[1]
    for i, j in np.ndindex(len(spoken), len(heard)):
        table[i + 1, j + 1] = min(
            table[i, j] + sub * (spoken[i] != heard[j]),
            table[i, j + 1] + dele,
            table[i + 1, j] + ins,
        )
    return int(table[-1, -1])


def _in_place(spoken: Sequence[str], heard: Sequence[str]) -> int:
    return sum(a != b for a, b in zip(spoken, heard, strict=False))


def _by_words(count: Callable[[list[str], list[str]], float]) -> Callable[[str, str], float]:
    return lambda spoken, heard: count(spoken.split(), heard.split())


_WRONG_COUNTS = (
    (lambda s, h: _distance(s, h), "letters are counted; split both lines into words"),
    (
        _by_words(lambda s, h: _in_place(s, h) + abs(len(s) - len(h))),
        "words are compared place by place; after one lost word all others are in another place",
    ),
    (
        _by_words(_in_place),
        "words are compared place by place, and what is too long or too short costs nothing",
    ),
    (
        _by_words(lambda s, h: abs(len(s) - len(h))),
        "only the difference of the lengths counts; a word heard as another is an error, too",
    ),
    (
        _by_words(lambda s, h: _distance(s, h, sub=2)),
        "a substitution costs two; it is one error, a step along the diagonal",
    ),
    (_by_words(lambda s, h: _distance(s, h, ins=0)), "insertions cost nothing; each is an error"),
    (_by_words(lambda s, h: _distance(s, h, dele=0)), "deletions cost nothing; each is an error"),
    (
        _by_words(lambda s, h: _distance(s, h, edges=(False, False))),
        "row 0 and column 0 of the table are zero; there, j words are inserted, i deleted",
    ),
    (
        _by_words(lambda s, h: _distance(s, h, edges=(False, True))),
        "column 0 of the table is zero; entry (i, 0) is i: so many words were deleted",
    ),
    (
        _by_words(lambda s, h: _distance(s, h, edges=(True, False))),
        "row 0 of the table is zero; entry (0, j) is j: so many words were inserted",
    ),
    (
        _by_words(lambda s, h: _distance(s, h) / len(s)),
        "this is a rate; return the number of errors",
    ),
    (
        _by_words(lambda s, h: max(len(s), len(h)) - (Counter(s) & Counter(h)).total()),
        "the order of the words has no effect; it should",
    ),
)


@exercise("08.interval")
def interval(function: Callable[[Array, Array, np.random.Generator, int], tuple]) -> Verdict:
    """Check the percentile interval of a ratio of sums over utterances drawn anew."""
    errors, words = _CLUSTERED
    given = errors.copy(), words.copy()
    ends, wrong = _ends(function(*given, np.random.default_rng(1), _DRAWS))
    if wrong:
        return wrong
    if not (np.array_equal(given[0], errors) and np.array_equal(given[1], words)):
        return "an input was modified in place"
    if ends[0] > ends[1]:
        return "the low end is above the high end; return low, high"
    if not _near(ends, _quantiles(_right_rates())):
        return _unpaired(function) or _wrong_interval(ends, _right_rates(), errors, words)
    return _wrong_with_few_errors(function)


_DRAWS = 3000
# Errors and words of 40 utterances: the short ones go wrong more often, and all go wrong altogether
_CLUSTERED = (
    np.r_[np.ones(16), np.zeros(4), np.full(8, 12), np.zeros(12)].astype(int),
    np.repeat([1, 12], 20),
)


def _ends(answer: object) -> tuple[Array | None, Verdict]:
    if answer is not None and np.shape(answer) == (_DRAWS,):
        return None, "all drawn rates are returned; return their quantiles at 2.5 % and 97.5 %"
    return as_array(answer, (2,))


@cache
def _right_rates() -> Array:
    return _rates(*_CLUSTERED)


def _rates(errors: Array, words: Array, size: int | None = None) -> Array:
    """Rates of many sets of utterances, drawn with replacement."""
    N = len(words)
    drawn = np.random.default_rng(2).multinomial(size or N, np.full(N, 1 / N), size=10_000)
    return (drawn @ errors) / (drawn @ words)


def _quantiles(rates: Array, level: float = 0.95) -> Array:
    return np.quantile(rates, [(1 - level) / 2, (1 + level) / 2])


def _near(ends: Array, right: Array) -> bool:
    """Equal but for the randomness of some thousand draws: 5 % of the width at either end."""
    return bool(np.allclose(ends, right, rtol=0, atol=0.05 * (right[1] - right[0])))


def _unpaired(function: Callable) -> Verdict:
    """Whether errors and words belong to the same utterances: if all is wrong, the rate is 1."""
    words = _CLUSTERED[1]
    ends, wrong = _ends(function(words.copy(), words.copy(), np.random.default_rng(3), _DRAWS))
    if wrong is None and ends[0] < 0.99 and ends[1] > 1.01:
        return "with every word wrong it is not 1 to 1; take errors and words of the same draw"
    return wrong


def _wrong_interval(ends: Array, rates: Array, errors: Array, words: Array) -> str:
    right, rate = _quantiles(rates), errors.sum() / words.sum()
    if _near(ends / 100, right):
        return "this is in per cent; return fractions"
    if _near(rate + ends, right) or _near(rate + ends * (-1, 1), right):
        return "these are distances from the rate; return the two ends themselves"
    if np.isclose(ends[0], ends[1], atol=1e-4):
        return "the interval has no width; draw with replacement, so that the sets differ"
    each = errors / words
    if _near(ends, _quantiles(each)):
        return "these are quantiles of the utterances; nothing was drawn anew"
    if ends[0] < np.quantile(rates, 0.002) and ends[1] > np.quantile(rates, 0.998):
        return "these are about the smallest and the largest rate; take quantiles"
    by_word = np.random.default_rng(3).binomial(words.sum(), rate, size=20_000) / words.sum()
    known = (
        (_quantiles(_rates(each, np.ones(len(words)))),
         "the rates of the utterances are averaged; divide all errors by all words"),
        (_quantiles(by_word), "single words are drawn; draw utterances: errors come together"),
        (_quantiles(rates, 0.90), "this covers 90 %; 2.5 % stay outside at each end"),
        (_quantiles(rates, 0.975), "1.25 % are outside at each end, expected 2.5 %"),
        (rate + rates.std() * np.array([-1, 1]), "this is one deviation to each side"),
        (_quantiles(_rates(errors, words, size=len(words) // 2)),
         "too few utterances are drawn; each set has as many as there are"),
        (_quantiles(_rates(errors, words, size=_DRAWS)),
         "too many utterances are drawn; each set has as many as there are"),
    )  # fmt: skip
    for value, sentence in known:
        if _near(ends, value):
            return sentence
    return (
        f"it gives {ends[0]:.3f} to {ends[1]:.3f}, expected about {right[0]:.3f} to {right[1]:.3f}"
    )


def _wrong_with_few_errors(function: Callable) -> Verdict:
    """What only few errors show: the rates are skewed, and none is below zero."""
    errors, words = np.zeros(80, dtype=int), np.full(80, 4)
    errors[[5, 60]] = 4
    ends, wrong = _ends(function(errors, words, np.random.default_rng(4), _DRAWS))
    if wrong:
        return wrong
    right = _quantiles(_rates(errors, words))
    if ends[0] < 0:
        return "with few errors the low end is below zero; take quantiles of the drawn rates"
    if not np.allclose(ends, right, rtol=0, atol=1e-3):
        return (
            f"with two bad utterances it gives {ends[0]:.4f} to {ends[1]:.4f}, expected about "
            f"{right[0]:.4f} to {right[1]:.4f}"
        )
    return None


@exercise("08.count_weights")
def count_weights(function: Callable[[int, int], int]) -> Verdict:
    """Check the number of weights of a transducer against what PyTorch makes."""
    cases = ((128, 10), (16, 10), (5, 10), (64, 10), (32, 27))
    answers = []
    for width, n_units in cases:
        number, wrong = as_array(function(width, n_units), ())
        if wrong:
            return wrong
        answers.append(float(number))
    right = [_weights(w, u) for w, u in cases]
    if answers == right:
        return None
    switches = (
        ({"gates": 1}, "an LSTM layer has four such matrices, one for each gate"),
        ({"gates": 3}, "there are three gates and the cell's input: four matrices"),
        ({"biases": 1}, "PyTorch gives an LSTM two vectors of biases, each of 4 width"),
        ({"biases": 0}, "the biases of the LSTM layers are missing"),
        ({"layers": 1}, "the encoder has two layers; the second takes `width` inputs"),
        ({"second": 39}, "the second layer of the encoder takes `width` inputs, not 39"),
        ({"recurrent": 0}, "the recurrent matrices are missing: (4 width, width) in each layer"),
        ({"inputs": 0}, "the input matrices are missing: (4 width, inputs) in each layer"),
        ({"predictor_in": None}, "the predictor's inputs are embeddings: 32 of them, not `width`"),
        ({"blank": 0}, "the blank counts as a unit, too, in the embedding and in the output"),
        ({"blank": -1}, "the blank has no embedding here; it stands for the start, and needs one"),
        ({"blank": -2}, "the output has no blank here; it is a unit, the last one"),
        ({"embedding": 0}, "the embedding is missing: 32 numbers for each unit and the start"),
        ({"joiner_bias": 0}, "the joiner's encoder matrix has a bias of `width`"),
        ({"joiner_bias": 2}, "only one of the joiner's two matrices has a bias"),
        ({"joiner": 1}, "the joiner has two matrices, one for each side"),
        ({"joiner": 0}, "the joiner is missing"),
        ({"output_bias": 0}, "the output layer has a bias for each unit"),
        ({"output": 0}, "the output layer is missing"),
        ({"predictor": 0}, "the predictor's LSTM is missing"),
    )
    for switch, sentence in switches:
        if answers == [_weights(w, u, **switch) for w, u in cases]:
            return sentence
    if len(set(answers[:4])) == 1:
        return "`width` has no effect"
    if answers[:4] == right[:4]:
        return "with 10 units it is right, with 27 it is not; use `n_units`"
    i = next(i for i, (a, b) in enumerate(zip(answers, right, strict=True)) if a != b)
    return (
        f"width {cases[i][0]}, {cases[i][1]} units: {answers[i]:,.0f} weights, expected "
        f"{right[i]:,}; they differ by {answers[i] - right[i]:+,.0f}"
    )


def _weights(
    width: int, n_units: int, *, gates=4, biases=2, layers=2, second=None, recurrent=1, inputs=1,
    predictor_in=32, blank=1, embedding=1, joiner_bias=1, joiner=2, output_bias=1, output=1,
    predictor=1,
) -> int:  # fmt: skip
    """Weights of a Transducer; the switches make typical mistakes."""

    def lstm(n_inputs: int) -> int:
        return gates * width * (inputs * n_inputs + recurrent * width + biases)

    embedded = n_units + (blank in (1, -2))  # -1 and -2 forget one of the two
    written = n_units + (blank in (1, -1))
    return (
        lstm(39)
        + (layers - 1) * lstm(width if second is None else second)
        + predictor * lstm(width if predictor_in is None else predictor_in)
        + embedding * 32 * embedded
        + joiner * width**2
        + joiner_bias * width * (joiner > 0)
        + output * written * (width + output_bias)
    )
