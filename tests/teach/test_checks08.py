"""The checks of notebook 08 accept the right answer and name each typical mistake."""

from difflib import SequenceMatcher

import numpy as np
import pytest
from answers import answer_tests

from cspkit.asr.transducer import Transducer
from cspkit.asr.transducer_config import CHARACTERS, TransducerConfig
from cspkit.teach.check import verdict


def norm_of(gradients):
    return np.sqrt(sum((g**2).sum() for g in gradients))


def clip(norm=norm_of, factor=lambda bound, norm: min(1.0, bound / norm)):
    """Clipping, with switches for mistakes."""

    def answer(gradients, bound):
        size = norm(gradients)
        scale = factor(bound, size) if size else 1.0
        return [scale * g for g in gradients]

    return answer


def each_by_itself(gradients, bound):
    return [clip()([g], bound)[0] for g in gradients]


def clips_entries(gradients, bound):
    return [np.clip(g, -bound, bound) for g in gradients]


def clips_in_place(gradients, bound):
    scale = min(1.0, bound / max(norm_of(gradients), 1e-12))
    for g in gradients:
        g *= scale
    return gradients


def divides_by_zero(gradients, bound):
    norm = norm_of(gradients)
    with np.errstate(invalid="ignore"):
        return [g / norm * min(norm, bound) for g in gradients]


def biggest(gradients):
    return max(np.abs(g).max() for g in gradients)


def table_of(spoken, heard, sub=1, ins=1, dele=1, row=1, column=1, differ=str.__ne__):
    D = np.zeros((len(spoken) + 1, len(heard) + 1), dtype=int)
    D[:, 0] = column * dele * np.arange(len(spoken) + 1)
    D[0] = row * ins * np.arange(len(heard) + 1)
    for i in range(1, len(spoken) + 1):
        for j in range(1, len(heard) + 1):
            change = D[i - 1, j - 1] + sub * differ(spoken[i - 1], heard[j - 1])
            D[i, j] = min(change, D[i - 1, j] + dele, D[i, j - 1] + ins)
    return D


def words(**prices):
    return lambda spoken, heard: table_of(spoken.split(), heard.split(), **prices)[-1, -1]


def place_by_place(spoken, heard):
    a, b = spoken.split(), heard.split()
    return sum(x != y for x, y in zip(a, b, strict=False))


def longer(spoken, heard):
    return abs(len(spoken.split()) - len(heard.split()))


def in_common(spoken, heard):
    blocks = SequenceMatcher(None, spoken.split(), heard.split()).get_matching_blocks()
    return sum(block.size for block in blocks)


def by_opcodes(spoken, heard):
    matcher = SequenceMatcher(None, spoken.split(), heard.split())
    return sum(max(j - i, n - m) for kind, i, j, m, n in matcher.get_opcodes() if kind != "equal")


def bag_of_words(spoken, heard):
    a, b = spoken.split(), heard.split()
    common = sum(min(a.count(w), b.count(w)) for w in set(a))
    return max(len(a), len(b)) - common


def ends(rates, level=0.95):
    return tuple(np.quantile(rates, [(1 - level) / 2, (1 + level) / 2]))


def ratio(errors, words, draws):
    return errors[draws].sum(axis=1) / words[draws].sum(axis=1)


def interval(size=None, level=0.95, rate=ratio, replace=True):
    """The percentile bootstrap, with switches for mistakes."""

    def answer(errors, words, rng, n=1000):
        N = len(words)
        if replace:
            draws = rng.integers(N, size=(n, size or N))
        else:
            draws = rng.permuted(np.tile(np.arange(N), (n, 1)), axis=1)
        return ends(rate(errors, words, draws), level)

    return answer


def of_draws(finish):
    """What `finish` makes of the drawn rates and the rate itself."""

    def answer(errors, words, rng, n=1000):
        rates = ratio(errors, words, rng.integers(len(words), size=(n, len(words))))
        return finish(rates, errors.sum() / words.sum())

    return answer


def draws_words(errors, words, rng, n=1000):
    wrong = np.concatenate([np.arange(w) < e for e, w in zip(errors, words, strict=True)])
    return ends(rng.choice(wrong, size=(n, len(wrong))).mean(axis=1))


def draws_apart(errors, words, rng, n=1000):
    first, second = rng.integers(len(words), size=(2, n, len(words)))
    return ends(errors[first].sum(axis=1) / words[second].sum(axis=1))


def draws_n_utterances(errors, words, rng, n=1000):
    return ends(ratio(errors, words, rng.integers(len(words), size=(1000, n))))


def misses_one(errors, words, rng, n=1000):
    return ends(ratio(errors, words, rng.integers(1, len(words), size=(n, len(words)))))


def overwrites_errors(errors, words, rng, n=1000):
    found = interval()(errors, words, rng, n)
    errors[:] = 0
    return found


def lstm(inputs, width, gates=4, biases=2):
    return gates * width * (inputs + width + biases)


def count(width, n_units, **changes):
    """Weights part by part; a keyword replaces a part."""
    parts = {
        "layer_1": lstm(39, width),
        "layer_2": lstm(width, width),
        "predictor": lstm(32, width),
        "embedding": 32 * (n_units + 1),
        "joiner": 2 * width**2 + width,
        "output": (n_units + 1) * (width + 1),
    }
    return sum((parts | {k: change(width, n_units) for k, change in changes.items()}).values())


def counting(**changes):
    return lambda width, n_units=10: count(width, n_units, **changes)


def lstms(**options):
    return counting(
        layer_1=lambda w, u: lstm(39, w, **options),
        layer_2=lambda w, u: lstm(w, w, **options),
        predictor=lambda w, u: lstm(32, w, **options),
    )


RIGHT = {
    "08.clip": clip(),
    "08.word_errors": words(),
    "08.interval": interval(),
    "08.count_weights": counting(),
}

CLIP, ERRORS, INTERVAL, COUNT = RIGHT
WRONG = [
    (CLIP, each_by_itself, "the norm of all arrays together"),
    (CLIP, clips_entries, "one by one"),
    (CLIP, clips_in_place, "in place"),
    (CLIP, lambda gradients, bound: list(gradients), "nothing was clipped"),
    (CLIP, clip(factor=lambda bound, norm: bound / norm), "was enlarged"),
    (CLIP, divides_by_zero, "need no division"),
    (CLIP, clip(factor=lambda b, n: 1 / n if n > b else 1), "expected the bound"),
    (CLIP, clip(norm=lambda g: norm_of(g) ** 2), "the root is missing"),
    (CLIP, clip(norm=lambda g: sum(norm_of([a]) for a in g)), "the norms are added"),
    (CLIP, clip(norm=lambda g: sum(np.abs(a).sum() for a in g)), "sum of magnitudes"),
    (CLIP, clip(norm=biggest), "bounds the largest entry"),
    (CLIP, clip(norm=lambda g: norm_of(g) / np.sqrt(sum(a.size for a in g))), "mean square"),
    (CLIP, clip(factor=lambda b, n: n / b if n > b else 1), "upside down"),
    (CLIP, clip(factor=lambda b, n: -b / n if n > b else 1), "sign is turned"),
    (CLIP, clip(factor=lambda b, n: 0.5 * b / n if n > b else 1), "the norm of the answer is 1.3"),
    (CLIP, clip(factor=lambda b, n: b / n if n > b else 0.5), "stay as they are"),
    (CLIP, lambda gradients, bound: bound / 5, "returns a float, expected a list of 2 arrays"),
    (CLIP, lambda gradients, bound: clip()(gradients, bound)[:1], "expected a list of 2 arrays"),
    (CLIP, clip(norm=lambda g: np.sqrt(sum(np.linalg.norm(a, 2) ** 2 for a in g))), "singular"),
    (CLIP, clip(norm=lambda g: np.sqrt(sum(a.sum() ** 2 for a in g))), "before they are squared"),
    (CLIP, lambda gradients, bound: [g[:1] for g in gradients], "shape"),
    (ERRORS, lambda s, h: table_of(s, h)[-1, -1], "split both lines into words"),
    (ERRORS, lambda s, h: place_by_place(s, h) + longer(s, h), "after one lost word"),
    (ERRORS, place_by_place, "too long or too short costs nothing"),
    (ERRORS, longer, "difference of the lengths counts"),
    (ERRORS, by_opcodes, "difflib does not look for"),
    (ERRORS, lambda s, h: max(len(s.split()), len(h.split())) - in_common(s, h), "are two errors"),
    (ERRORS, lambda s, h: len(set(s.split()) ^ set(h.split())), "compared as sets"),
    (ERRORS, words(differ=lambda a, b: True), "always costs 1"),
    (ERRORS, words(differ=lambda a, b: a == b), "the other way round"),
    (ERRORS, words(sub=2), "a substitution costs two"),
    (ERRORS, words(sub=0), "a word heard as another is an error"),
    (ERRORS, words(ins=0), "insertions cost nothing"),
    (ERRORS, words(dele=0), "deletions cost nothing"),
    (ERRORS, words(row=0, column=0), "row 0 and column 0"),
    (ERRORS, words(row=0), "row 0 of the table is zero"),
    (ERRORS, words(column=0), "column 0 of the table is zero"),
    (ERRORS, lambda s, h: words()(s, h) / len(s.split()), "this is a rate"),
    (ERRORS, bag_of_words, "the order of the words has no effect"),
    (ERRORS, lambda s, h: table_of(s.split(), h.split()), "its last entry"),
    (ERRORS, lambda s, h: words()(s, h) + 1, "the answer is 3, expected 2"),
    (INTERVAL, of_draws(lambda rates, rate: ends(rates)[::-1]), "return low, high"),
    (INTERVAL, of_draws(lambda rates, rate: ends(100 * rates)), "per cent"),
    (INTERVAL, of_draws(lambda rates, rate: ends(rates - rate)), "distances from the rate"),
    (INTERVAL, of_draws(lambda rates, rate: np.abs(ends(rates - rate))), "distances from the rate"),
    (INTERVAL, interval(rate=lambda e, w, i: (e[i] / w[i]).mean(axis=1)), "are averaged"),
    (INTERVAL, interval(rate=lambda e, w, i: e[i].sum(axis=1) / w.sum()), "of the same draw"),
    (INTERVAL, draws_words, "draw utterances"),
    (INTERVAL, draws_apart, "of the same draw"),
    (INTERVAL, draws_n_utterances, "too many utterances"),
    (INTERVAL, interval(size=20), "too few utterances"),
    (INTERVAL, interval(level=0.90), "90 %"),
    (INTERVAL, interval(level=0.975), "1.25 %"),
    (INTERVAL, interval(replace=False), "no width"),
    (
        INTERVAL,
        of_draws(lambda rates, rate: (rates.min(), rates.max())),
        "smallest and the largest",
    ),
    (INTERVAL, of_draws(lambda rates, rate: (rate - rates.std(), rate + rates.std())), "deviation"),
    (INTERVAL, lambda errors, words, rng, n: ends(errors / words), "nothing was drawn anew"),
    (
        INTERVAL,
        of_draws(lambda rates, rate: (rate - 1.96 * rates.std(), rate + 1.96 * rates.std())),
        "below zero",
    ),
    (
        INTERVAL,
        of_draws(lambda rates, rate: np.maximum(0, ends(rates) + 2e-3 * (rate < 0.03))),
        "with two bad utterances",
    ),
    (
        INTERVAL,
        of_draws(lambda rates, rate: np.maximum(0, rate + 1.96 * rates.std() * np.array([-1, 1]))),
        "with two bad utterances",
    ),
    (INTERVAL, of_draws(lambda rates, rate: rates), "all drawn rates"),
    (INTERVAL, of_draws(lambda rates, rate: np.percentile(rates, (0.025, 0.975))), "np.percentile"),
    (INTERVAL, interval(rate=lambda e, w, i: e[i].sum(axis=1)), "numbers of errors"),
    (INTERVAL, misses_one, "one utterance is never drawn"),
    (INTERVAL, overwrites_errors, "in place"),
    (INTERVAL, lambda e, w, rng, n: interval()(e, w, rng, 300), "with n = 1 both ends must be"),
    (INTERVAL, lambda e, w, rng, n: interval(level=0.9)(e, w, rng, 3000), "with n = 1 both ends"),
    (INTERVAL, lambda e, w, rng, n: interval()(e, w, rng, 5000), "with n = 1 both ends must be"),
    (
        INTERVAL,
        lambda e, w, rng, n: interval()(e, w, np.random.default_rng(0), n),
        "`rng` is not used",
    ),
    (INTERVAL, interval(level=0.90), "20 of 1 word, 16 of them wrong, and 20 of 12 words"),
    (INTERVAL, of_draws(lambda rates, rate: np.array(ends(rates)) + 0.1), "expected about"),
    (COUNT, lstms(gates=1), "only one gate"),
    (COUNT, lstms(gates=3), "only three gates"),
    (COUNT, lstms(biases=1), "two vectors of biases"),
    (COUNT, lstms(biases=0), "biases of the LSTM layers are missing"),
    (COUNT, counting(layer_2=lambda w, u: 0), "the encoder has two layers"),
    (COUNT, counting(layer_2=lambda w, u: lstm(39, w)), "takes `width` inputs, not 39"),
    (COUNT, counting(predictor=lambda w, u: lstm(w, w)), "inputs are embeddings"),
    (COUNT, counting(predictor=lambda w, u: 0), "predictor's LSTM is missing"),
    (
        COUNT,
        counting(embedding=lambda w, u: 32 * u, output=lambda w, u: u * (w + 1)),
        "the blank counts as a unit",
    ),
    (COUNT, counting(embedding=lambda w, u: 32 * (u + 2)), "share an embedding"),
    (COUNT, counting(embedding=lambda w, u: 32 * u), "the blank has no embedding"),
    (COUNT, counting(output=lambda w, u: u * (w + 1)), "the output has no blank"),
    (COUNT, counting(embedding=lambda w, u: 0), "the embedding is missing"),
    (COUNT, counting(joiner=lambda w, u: 2 * w**2), "has a bias of `width`"),
    (COUNT, counting(joiner=lambda w, u: 2 * (w**2 + w)), "only one of the joiner's"),
    (COUNT, counting(joiner=lambda w, u: w**2 + w), "has two matrices"),
    (COUNT, counting(joiner=lambda w, u: 0), "the joiner is missing"),
    (COUNT, counting(output=lambda w, u: (u + 1) * w), "a bias for each unit"),
    (COUNT, counting(output=lambda w, u: 0), "the output layer is missing"),
    (
        COUNT,
        lambda w, u: count(w, u) - 4 * w * (2 * w + w),
        "recurrent matrices are missing",
    ),
    (
        COUNT,
        lambda w, u: count(w, u) - 4 * w * (39 + w + 32),
        "input matrices are missing",
    ),
    (COUNT, lambda w, u: count(128, u), "`width` has no effect"),
    (COUNT, lambda w, u: count(w, 10), "use `n_units`"),
    (COUNT, lambda w, u: count(w, u) + 7, "they differ by +7"),
]


test_right, test_wrong, test_unsolved, test_nothing = answer_tests(RIGHT, WRONG)


@pytest.mark.parametrize("seed", range(40))
def test_interval_accepts_any_draws_of_the_right_kind(seed):
    def answer(errors, words, rng, n=1000):
        return interval()(errors, words, np.random.default_rng([seed, rng.integers(2**32)]), n)

    assert verdict(INTERVAL, answer).startswith(f"right: {INTERVAL}")


def test_clip_may_return_a_tuple():
    assert verdict(CLIP, lambda *a: tuple(clip()(*a))).startswith(f"right: {CLIP}")


@pytest.mark.parametrize(("width", "units"), [(128, None), (16, None), (32, CHARACTERS)])
def test_the_count_that_is_called_right_is_that_of_the_model(width, units):
    sizes = dict.fromkeys(("encoder_size", "predictor_size", "joiner_size"), width)
    config = TransducerConfig(**sizes) if units is None else TransducerConfig(**sizes, units=units)
    made = sum(p.numel() for p in Transducer(config).parameters())
    assert count(width, len(config.units)) == made
