"""Normalisation of the features of a speaker or a recording.

The mean and standard deviation of the coefficients differ more between voices and microphones than
between words. A model has only one mean and one standard deviation for all voices and microphones.
These functions remove the differences between speakers or recordings before the features reach the
model. The result keeps the scale of the corpus. So the augmentation, which works in decibels, and
`Transducer.set_normalisation` need no change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cspkit.arguments import ArgumentError
from cspkit.asr.corpus import Corpus, Utterance
from cspkit.asr.features import checked_frames

LEAST_STD = 1e-3  # avoids a division by zero for a constant coefficient


def normalise_by_speaker(corpus: Corpus, fold: int | str = 0) -> Corpus:
    """Give every speaker the mean and the standard deviation of the training part.

        c -> (c - mean_s) / std_s * std + mean,    for each coefficient

    The statistics mean_s, std_s of a speaker s come from the recordings of s in the training part
    of the fold. If s is held out, the training part has no recordings of s. The statistics then
    come from the recordings of s in the test part; their words are not used. This makes the test
    transductive: a recogniser in use must hear a speaker for a while before it can compute these
    statistics. Mention this when you report the WER.

    Parameters
    ----------
    corpus : Corpus
    fold : int or str
        The fold of the training part, see `Corpus.split`. A task on the new corpus must use the
        same fold.

    Returns
    -------
    Corpus
        The recordings have the same order as in `corpus`.

    Raises
    ------
    ArgumentError
        If there is no such fold, or a speaker has no recording in the training or test part.

    References
    ----------
    Viikki and Laurila, "Cepstral domain segmental feature vector normalization for noise robust
    speech recognition", Speech Communication 25, 1998, doi:10.1016/S0167-6393(98)00033-8.
    """
    train = corpus.split("train", fold)
    mean, std = _statistics(train)
    own = {}
    for speaker in corpus.speakers():
        recordings = [r for r in train if r.speaker == speaker]
        recordings = recordings or [r for r in corpus.split("test", fold) if r.speaker == speaker]
        if not recordings:
            raise ArgumentError(
                f"corpus has no recording of {speaker!r} in the training or test part of fold "
                f"{fold!r}: expected at least one recording of every speaker"
            )
        own[speaker] = _statistics(recordings)

    def normalised(recording: Utterance) -> Utterance:
        own_mean, own_std = own[recording.speaker]
        features = (recording.features - own_mean) / own_std * std + mean
        return replace(recording, features=features.astype(np.float32))

    return Corpus(tuple(normalised(r) for r in corpus.recordings))


def normalise_by_recording(corpus: Corpus) -> Corpus:
    """Subtract from every recording its mean over time, see `mean_normalised`.

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
    """Subtract the mean over time from features: cepstral mean normalisation.

    This needs only the recording itself. It removes the loudness and the effect of a constant
    channel: a channel is a filter, and a filter that is shorter than the window adds a constant to
    the cepstra. It also removes information about the words of a short recording, because the
    mean of a single digit depends strongly on the digit.

    Parameters
    ----------
    features : ndarray, shape (T, n_features)

    Returns
    -------
    ndarray, shape (T, n_features)
        float32.

    Raises
    ------
    ArgumentError
        If `features` is not a matrix of numbers with at least one frame.

    References
    ----------
    Atal, "Effectiveness of linear prediction characteristics of the speech wave for automatic
    speaker identification and verification", JASA 55, 1974, doi:10.1121/1.1914702.
    """
    features = checked_frames(features, finite=False)
    return (features - features.mean(axis=0)).astype(np.float32)


def _statistics(recordings: Sequence[Utterance]) -> tuple[np.ndarray, np.ndarray]:
    frames = np.concatenate([r.features for r in recordings]).astype(np.float64)
    return frames.mean(axis=0), np.maximum(frames.std(axis=0), LEAST_STD)
