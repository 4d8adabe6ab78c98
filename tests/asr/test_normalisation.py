import numpy as np
import pytest

from cspkit.arguments import ArgumentError
from cspkit.asr import Augmentation, DigitTask, Utterance, load_spoken_digits
from cspkit.asr.corpus import Corpus
from cspkit.asr.normalisation import (
    mean_normalised,
    normalise_by_recording,
    normalise_by_speaker,
)

HELD_OUT = "theo"


@pytest.fixture(scope="module")
def corpus():
    return load_spoken_digits()


@pytest.fixture(scope="module")
def normalised(corpus):
    return normalise_by_speaker(corpus, HELD_OUT)


def frames(corpus, speaker, part=None, fold=0):
    recordings = corpus.split(part, fold) if part else corpus.recordings
    return np.concatenate([r.features for r in recordings if r.speaker == speaker])


def test_every_speaker_gets_the_statistics_of_the_training_part(corpus, normalised):
    train = np.concatenate([r.features for r in corpus.split("train", HELD_OUT)])
    for speaker in corpus.speakers():
        part = "train" if speaker != HELD_OUT else "test"
        own = frames(normalised, speaker, part, HELD_OUT)
        np.testing.assert_allclose(own.mean(axis=0), train.mean(axis=0), atol=0.1)
        np.testing.assert_allclose(own.std(axis=0), train.std(axis=0), rtol=1e-3)
    # Before, speakers were far apart.
    assert np.ptp([frames(corpus, s)[:, 0].mean() for s in corpus.speakers()]) > 150


def test_the_test_part_of_a_take_split_is_not_looked_at(corpus):
    # Move the test part of fold 1: what becomes of all others stays as it was.
    tested = {r.id for r in corpus.split("test", 1)}
    moved = Corpus(
        tuple(
            Utterance(r.features + 100.0, r.text, r.speaker, r.id, r.take) if r.id in tested else r
            for r in corpus.recordings
        )
    )
    before, after = (normalise_by_speaker(c, 1).recordings for c in (corpus, moved))
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(one.features, other.features) == (one.id not in tested)


def test_a_held_out_speaker_is_normalised_by_their_own_recordings(corpus, normalised):
    # Another microphone of that speaker changes nothing; the words of others are not touched.
    scale = np.linspace(0.5, 2.0, 13).astype(np.float32)
    moved = Corpus(
        tuple(
            Utterance(r.features * scale + 50.0, r.text, r.speaker, r.id, r.take)
            if r.speaker == HELD_OUT
            else r
            for r in corpus.recordings
        )
    )
    for one, other in zip(
        normalised.recordings, normalise_by_speaker(moved, HELD_OUT).recordings, strict=True
    ):
        np.testing.assert_allclose(one.features, other.features, atol=0.05)


def test_nothing_but_features_changes(corpus, normalised):
    for changed in (normalised, normalise_by_recording(corpus)):
        for one, other in zip(corpus.recordings, changed.recordings, strict=True):
            assert (one.id, one.text, one.speaker, one.take) == (
                other.id, other.text, other.speaker, other.take,
            )  # fmt: skip
            assert other.features.shape == one.features.shape
            assert other.features.dtype == np.float32
            assert not np.array_equal(one.features, other.features)


def test_a_task_takes_a_normalised_corpus(normalised):
    task = DigitTask(normalised, HELD_OUT, batch_size=4, augmentation=Augmentation(0, 0, 0))
    model = task.new_model(0)
    train = np.concatenate([r.features for r in normalised.split("train", HELD_OUT)])
    np.testing.assert_allclose(model.feature_mean.numpy(), train.mean(axis=0), rtol=1e-3)
    assert np.isfinite(task.evaluate(model, "test")["loss"])


def test_a_coefficient_that_never_varies_is_only_moved():
    constant = np.full((5, 2), 3.0, np.float32)
    recordings = [
        Utterance(constant + s, "one", f"speaker{s}", f"{s}{take}", take)
        for s in range(2)
        for take in (0, 20, 45)
    ]
    for r in normalise_by_speaker(Corpus(tuple(recordings)), 0).recordings:
        np.testing.assert_allclose(r.features, 3.5, atol=1e-5)


def test_mean_normalisation_takes_a_channel_away():
    features = np.random.default_rng(0).standard_normal((40, 13)).astype(np.float32)
    seen = mean_normalised(features)
    np.testing.assert_allclose(seen.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(mean_normalised(features + np.arange(13)), seen, atol=1e-4)
    np.testing.assert_allclose(np.diff(seen, axis=0), np.diff(features, axis=0), atol=1e-5)


def test_a_speaker_without_training_takes_is_normalised_by_their_own(corpus):
    def with_takes(takes):  # of the speaker; all of the others
        kept = [r for r in corpus.recordings if r.speaker != HELD_OUT or r.take in takes]
        return Corpus(tuple(kept))

    few = with_takes(range(9))  # tested on in fold 0
    mean = np.concatenate([r.features for r in few.split("train", 0)]).mean(axis=0)
    theirs = frames(normalise_by_speaker(few, 0), HELD_OUT).mean(axis=0)
    np.testing.assert_allclose(theirs, mean, atol=0.05)
    with pytest.raises(ArgumentError, match="no recording of 'theo' in the training or test"):
        normalise_by_speaker(with_takes([45]), 0)


def test_bad_input_is_named(corpus):
    with pytest.raises(ArgumentError, match=r"features have shape \(13,\)"):
        mean_normalised(np.zeros(13))
    with pytest.raises(ArgumentError, match="fold is 'nobody'"):
        normalise_by_speaker(corpus, "nobody")
