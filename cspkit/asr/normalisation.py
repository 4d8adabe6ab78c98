"""Normalisation by speaker and by recording, before that of the corpus which the model owns.

Mean and deviation of the coefficients differ between voices and microphones far more than between
words. A model that owns one mean for all can only learn to see through that; here it is taken
away first. Features keep the scale of the corpus, so that the augmentation, which knows decibels,
and `Transducer.set_normalisation` go on as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cspkit.asr.corpus import Corpus, Utterance

LEAST_STD = 1e-3  # a coefficient that does not vary is only moved


def normalise_by_speaker(corpus: Corpus, fold: int | str = 0) -> Corpus:
    """Give every speaker the mean and the standard deviation of the training part.

        c -> (c - mean_s) / std_s * std + mean,    each coefficient by itself.

    The statistics of a speaker s come from what s says in the training part of this fold. A
    speaker who is held out says nothing there: theirs come from their test recordings, without
    the words. That is transductive: it is open to a recogniser that has heard its user for a
    while, not to one that hears the first word, and the WER is to be reported as such.

    Parameters
    ----------
    corpus : Corpus
    fold : int or str
        Whose training part, see `Corpus.split`; a task on the new corpus needs the same.

    Returns
    -------
    Corpus
        Computed once, here; its recordings are in the order of those of `corpus`.

    Raises
    ------
    ValueError
        If there is no such fold, or a speaker has no recording in its training or test part.

    References
    ----------
    Viikki and Laurila, "Cepstral domain segmental feature vector normalization for noise robust
    speech recognition", Speech Communication 25, 1998, doi:10.1016/S0167-6393(98)00033-8.
    """
    train = corpus.split("train", fold)
    mean, std = _statistics(train)
    own = {}
    for speaker in corpus.speakers():
        said = [r for r in train if r.speaker == speaker]
        said = said or [r for r in corpus.split("test", fold) if r.speaker == speaker]
        if not said:
            raise ValueError(
                f"corpus has nothing of {speaker!r} in the training or test part of fold {fold!r}"
            )
        own[speaker] = _statistics(said)

    def normalised(recording: Utterance) -> Utterance:
        own_mean, own_std = own[recording.speaker]
        features = (recording.features - own_mean) / own_std * std + mean
        return replace(recording, features=features.astype(np.float32))

    return Corpus(tuple(normalised(r) for r in corpus.recordings))


def normalise_by_recording(corpus: Corpus) -> Corpus:
    """Take its mean over time from every recording, see `mean_normalised`.

    Parameters
    ----------
    corpus : Corpus

    Returns
    -------
    Corpus
    """
    return Corpus(
        tuple(replace(r, features=mean_normalised(r.features)) for r in corpus.recordings)
    )


def mean_normalised(features: np.ndarray) -> np.ndarray:
    """Features (T, n_features) less their mean over time: cepstral mean normalisation.

    It needs no speaker and no other recording, and takes a constant channel away, loudness with
    it: a filter that is shorter than the window adds a constant to the cepstra. From a short
    recording it takes some of the words, too: a single digit is half told by its mean.

    Parameters
    ----------
    features : ndarray, shape (T, n_features)

    Returns
    -------
    ndarray, shape (T, n_features)

    Raises
    ------
    ValueError
        If `features` is no matrix with at least one frame.

    References
    ----------
    Atal, "Effectiveness of linear prediction characteristics of the speech wave for automatic
    speaker identification and verification", JASA 55, 1974, doi:10.1121/1.1914702.
    """
    features = np.asarray(features)
    if features.ndim != 2 or len(features) == 0:
        raise ValueError(f"features have shape {features.shape}: expected (T, n_features), T >= 1")
    return (features - features.mean(axis=0)).astype(np.float32)


def _statistics(recordings: Sequence[Utterance]) -> tuple[np.ndarray, np.ndarray]:
    frames = np.concatenate([r.features for r in recordings]).astype(np.float64)
    return frames.mean(axis=0), np.maximum(frames.std(axis=0), LEAST_STD)
