import numpy as np
import pytest

from cspkit.asr import Augmentation, DigitTask
from cspkit.asr.augmentation import resampled


def test_resampling_keeps_a_straight_line_straight():
    line = np.linspace(0, 1, 21, dtype=np.float32)[:, None] * np.ones(13, np.float32)
    for speed, n_frames in ((0.5, 42), (1.0, 21), (2.0, 10)):
        faster = resampled(line, speed)
        assert faster.shape == (n_frames, 13)
        np.testing.assert_allclose(faster[:, 0], np.linspace(0, 1, n_frames), atol=1e-6)


def test_nothing_asked_is_nothing_changed():
    features = np.random.default_rng(0).standard_normal((17, 13)).astype(np.float32)
    same = Augmentation(0.0, 0.0, 0.0)(features, np.ones(13), np.random.default_rng(1))
    np.testing.assert_allclose(same, features, atol=1e-6)


def test_channel_is_constant_in_time_and_noise_is_not():
    features, scale = np.zeros((4000, 13), np.float32), np.arange(1, 14, dtype=np.float32)
    rng = np.random.default_rng(0)
    channel = Augmentation(0.0, 0.5, 0.0)(features, scale, rng)
    assert np.ptp(channel, axis=0).max() < 1e-5
    assert np.abs(channel[0]).min() > 0
    noise = Augmentation(0.0, 0.0, 0.5)(features, scale, rng)
    np.testing.assert_allclose(noise.std(axis=0), 0.5 * scale, rtol=0.05)
    assert noise.dtype == np.float32


def test_speed_stays_in_its_range():
    rng, features = np.random.default_rng(0), np.zeros((1000, 13), np.float32)
    lengths = [len(Augmentation(0.1, 0, 0)(features, np.ones(13), rng)) for _ in range(200)]
    assert 1000 / 1.1 - 1 <= min(lengths) < 930
    assert 1080 < max(lengths) <= 1000 / 0.9 + 1


def test_only_training_strings_are_varied():
    varied, plain = DigitTask(), DigitTask(augmentation=None)
    draws = [next(t.batches("train", np.random.default_rng(0))).features for t in (varied, plain)]
    assert draws[0].shape != draws[1].shape or not np.allclose(*draws)
    dev = [next(t.batches("dev", np.random.default_rng(0))).features for t in (varied, plain)]
    assert np.array_equal(*dev)


@pytest.mark.parametrize("n_frames", [1, 2])
def test_short_features_survive(n_frames):
    features = np.ones((n_frames, 13), np.float32)
    assert len(Augmentation()(features, np.ones(13), np.random.default_rng(0))) >= 1
