"""The bootstrap over utterances."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

CELLS = 2**22  # largest number of values in one array of draws


def utterance_bootstrap(
    errors: np.ndarray, words: np.ndarray, rng: np.random.Generator, draws: int
) -> Iterator[np.ndarray]:
    """Resample utterances with replacement; yield the error rates of the draws, part by part.

        sum(errors) / sum(words)    over the utterances of a draw

    Whole utterances are drawn, not words, because the errors of an utterance are not independent.

    Parameters
    ----------
    errors : ndarray, shape (n, columns)
        Errors of each model in each utterance; all models share the draws.
    words : ndarray, shape (n,)
        Number of words in each utterance.
    rng : np.random.Generator
    draws : int
        Number of draws, each of n utterances.

    Yields
    ------
    ndarray, shape (part, columns)
        One row per draw, `draws` rows in all. Several parts need less memory than one array.

    References
    ----------
    Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation",
    ICASSP 2004, doi:10.1109/ICASSP.2004.1326009.
    """
    n = len(words)
    for part in np.array_split(np.arange(draws), 1 + draws * n // CELLS):
        counts = rng.multinomial(n, np.full(n, 1 / n), size=len(part)).astype(float)
        yield (counts @ errors) / (counts @ words)[:, None]
