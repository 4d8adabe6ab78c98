"""Cut an utterance into its words without a recogniser, at pauses and by the lengths of the words.

Training on whole utterances from scratch starts slowly: the model must find out where each word is.
Short pieces make this easy. The cuts here need no trained model. They are rough, so they serve for
the start of the training only.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from cspkit.arguments import ArgumentError
from cspkit.asr.corpus import Utterance

LEAST = 4  # frames of a word
MOST = 4.0  # a word has at most this multiple of its expected frames
PAUSE = 2.0  # weight of the loudness at a cut against the deviation of the lengths


def word_cuts(utterance: Utterance) -> np.ndarray | None:
    """Return where the words of an utterance begin and end.

    The loudness a(t), from 0 to 1, is the first coefficient of frame t between the tenth and the
    ninetieth percentile of the utterance. Word j is expected to contain a share of the sum of a(t)
    that is proportional to its number of letters plus 1, e(j). The cuts minimise

        sum_j ((sum of a(t) in word j) / e(j) - 1)^2 + PAUSE sum_j a(t at cut j)

    exactly, by dynamic programming.

    Parameters
    ----------
    utterance : Utterance
        Its first coefficient must grow with the loudness, as that of `cspkit.asr.mfcc` does.

    Returns
    -------
    ndarray of int, shape (n_words + 1,), or None
        Word j has the frames from entry j to entry j + 1. None if there are fewer than four frames
        for a word.
    """
    words, T = utterance.text.split(), len(utterance.features)
    if T < LEAST * len(words):
        return None
    energy = utterance.features[:, 0].astype(np.float64)
    low, high = np.percentile(energy, (10, 90))
    loudness = np.clip((energy - low) / max(high - low, 1e-6), 0.01, 1.0)
    spoken = np.concatenate([[0.0], np.cumsum(loudness)])
    letters = np.array([len(word) + 1 for word in words])
    expected = spoken[-1] * letters / letters.sum()
    at_cut = PAUSE * np.append(loudness, 0.0)
    at_cut[[0, T]] = 0.0
    longest = int(min(T, max(LEAST, MOST * T * letters.max() / letters.sum())))
    lengths = np.arange(LEAST, longest + 1)
    ends = np.arange(T + 1)[:, None]
    starts = np.maximum(ends - lengths, 0)
    possible = ends >= lengths
    cost = np.full(T + 1, np.inf)
    cost[0] = 0.0
    chosen = []
    for share in expected:
        spent = (spoken[ends] - spoken[starts]) / share - 1
        total = np.where(possible, cost[starts] + spent**2, np.inf)
        best = total.argmin(axis=1)
        chosen.append(starts[np.arange(T + 1), best])
        cost = total[np.arange(T + 1), best] + at_cut
    if not np.isfinite(cost[T]):
        return None
    cuts = [T]
    for start in reversed(chosen):
        cuts.append(int(start[cuts[-1]]))
    return np.array(cuts[::-1])


def span(utterance: Utterance, cuts: np.ndarray, first: int, n_words: int) -> Utterance:
    """Return some neighbouring words of an utterance.

    Parameters
    ----------
    utterance : Utterance
    cuts : ndarray of int, shape (words of the utterance + 1,)
        See `word_cuts`.
    first : int
        Number of the first word, from 0.
    n_words : int

    Raises
    ------
    ArgumentError
        If the utterance does not have these words.
    """
    words = utterance.text.split()
    if len(cuts) != len(words) + 1 or not 0 <= first < first + n_words <= len(words):
        raise ArgumentError(
            f"first, n_words are {first}, {n_words} with {len(cuts)} cuts: expected words of an "
            f"utterance of {len(words)} words, which has {len(words) + 1} cuts"
        )
    return replace(
        utterance,
        features=utterance.features[cuts[first] : cuts[first + n_words]],
        text=" ".join(words[first : first + n_words]),
        id=f"{utterance.id}[{first}:{first + n_words}]",
    )


def random_span(utterance: Utterance, longest: float, rng: np.random.Generator) -> Utterance:
    """Return 1 to `longest` neighbouring words of an utterance, drawn at random.

    If `longest` is infinite, every second utterance stays whole. An utterance with too few frames
    for its words stays whole, too.
    """
    n_words = len(utterance.text.split())
    if longest == math.inf:
        n = n_words if rng.integers(2) else int(rng.integers(1, n_words + 1))
    else:
        n = int(rng.integers(1, min(longest, n_words) + 1))
    cuts = None if n == n_words else word_cuts(utterance)
    if cuts is None:
        return utterance
    return span(utterance, cuts, int(rng.integers(n_words - n + 1)), n)
