import os
from pathlib import Path

import numpy as np
import pytest

from cspkit.arguments import ArgumentError
from cspkit.asr import Augmentation, DigitTask, add_noise, load_audio, load_spoken_digits, mfcc
from cspkit.asr.augmentation import masked, noisy_bands, resampled
from cspkit.asr.features import cepstra, deltas, smoothed_bands
from cspkit.asr.task import AUGMENTATION
from cspkit.asr.warping import warped

FSDD = os.environ.get("CSPKIT_FSDD")


@pytest.fixture(scope="module")
def digit():
    return load_spoken_digits().recordings[7].features


def test_the_defaults_are_the_recipe_of_the_recorded_checkpoints(digit):
    # The steps written out, with draws in this order and no others.
    scale = np.linspace(1, 2, 13).astype(np.float32)
    rng, own = np.random.default_rng(5), np.random.default_rng(5)
    varied = AUGMENTATION(digit, scale, rng)
    expected = resampled([digit], own.uniform(0.8, 1.2, size=1))[0]
    expected = warped(expected, own.uniform(0.9, 1.1))
    offset = 0.4 * own.standard_normal(13, dtype=np.float32)
    noise = 0.2 * own.standard_normal(expected.shape, dtype=np.float32)
    assert np.array_equal(varied, expected + (offset + noise) * scale)
    assert rng.random() == own.random()
    assert varied.dtype == np.float32


def test_gain_shifts_the_first_coefficient_by_decibels(digit):
    rng, scale = np.random.default_rng(0), np.ones(13, np.float32)
    shifts = [Augmentation(gain=6.0)(digit, scale, rng) - digit for _ in range(300)]
    assert max(np.abs(s[:, 1:]).max() for s in shifts) < 1e-4
    assert max(np.ptp(s[:, 0]) for s in shifts) < 1e-3
    gains = np.array([s[0, 0] for s in shifts]) / np.sqrt(128)
    assert -6 <= gains.min() < -5.5 and 5.5 < gains.max() <= 6


def test_gain_is_what_a_louder_recording_has():
    waveform = np.random.default_rng(0).standard_normal(4000) * 0.1
    louder = mfcc(waveform * 10 ** (6 / 20))
    by_hand = mfcc(waveform)
    by_hand[:, 0] += 6 * np.sqrt(128)
    np.testing.assert_allclose(louder, by_hand, atol=2e-3)


def test_time_masks_hide_frames_and_nothing_else(digit):
    rng, scale = np.random.default_rng(0), np.ones(13, np.float32)
    mean = digit.mean(axis=0)
    hidden = []
    for _ in range(200):
        varied = Augmentation(time_masks=(2, 4))(digit, scale, rng)
        changed = np.abs(varied - digit).max(axis=1) > 1e-4
        np.testing.assert_allclose(varied[changed], np.tile(mean, (changed.sum(), 1)), atol=1e-3)
        hidden.append(changed)
    counts = np.array([h.sum() for h in hidden])
    assert counts.min() == 0 and counts.max() == 8
    assert np.mean(hidden, axis=0).min() > 0  # any frame may be hidden


def test_frequency_masks_flatten_bands_over_time():
    bands = np.random.default_rng(0).standard_normal((20, 128))
    seen = masked(bands.T, 1, 30, np.random.default_rng(3), axis=1).T
    changed = np.abs(seen - bands).max(axis=0) > 0
    assert 0 < changed.sum() <= 30
    assert np.ptp(np.flatnonzero(changed)) == changed.sum() - 1
    np.testing.assert_allclose(seen[:, changed], np.tile(bands[:, changed].mean(0), (20, 1)))


def test_frequency_masks_take_variation_away(digit):
    rng, scale = np.random.default_rng(0), np.ones(13, np.float32)
    everything = Augmentation(frequency_masks=(40, 128))(digit, scale, rng)
    assert everything.std(axis=0).max() < 0.2 * digit.std(axis=0).max()
    np.testing.assert_allclose(everything.mean(axis=0), digit.mean(axis=0), atol=1e-2)


def test_bands_are_the_coefficients_undone(digit):
    np.testing.assert_allclose(cepstra(smoothed_bands(digit)), digit, atol=1e-3)


def test_noise_in_bands_has_the_asked_power():
    bands, rng = np.zeros((4000, 128)), np.random.default_rng(0)
    for snr in (0.0, 10.0):
        power = 10 ** (noisy_bands(bands, snr, 0.0, rng) / 10) - 1
        mean = power.sum(axis=1).mean() / 128
        assert mean == pytest.approx(np.exp(np.euler_gamma) * 10 ** (-snr / 10), rel=0.02)
    white, pink = (noisy_bands(bands, -20.0, colour, rng).mean(axis=0) for colour in (0.0, 1.0))
    assert white[-1] - white[40] > pink[-1] - pink[40] + 2


def test_snr_option_covers_its_range_and_buries_the_digit(digit):
    rng, scale = np.random.default_rng(0), np.ones(13, np.float32)
    change = {
        snr: np.mean(
            [
                np.abs(Augmentation(snr=(snr, snr))(digit, scale, rng) - digit).mean()
                for _ in range(20)
            ]
        )
        for snr in (60.0, 20.0, 0.0)
    }
    assert change[60.0] < 0.5 * change[20.0] < 0.5 * change[0.0]


@pytest.mark.skipif(not FSDD, reason="CSPKIT_FSDD is not set: it names the folder of recordings")
def test_noise_in_bands_moves_features_as_noise_in_the_audio_does():
    rng, moved, by_bands = np.random.default_rng(0), [], []
    recordings = load_spoken_digits().recordings
    scale = np.concatenate([r.features for r in recordings]).std(axis=0)
    for recording in recordings[::60]:
        waveform, _ = load_audio(Path(FSDD) / f"{recording.id}.wav")
        noisy = mfcc(add_noise(waveform, rng.standard_normal(20000), 10.0, rng))
        clean = recording.features
        moved.append((noisy - clean) / scale)
        by_bands.append(
            (cepstra(noisy_bands(smoothed_bands(clean), 10.0, 0.0, rng)) - clean) / scale
        )
    moved, by_bands = np.concatenate(moved), np.concatenate(by_bands)
    assert np.corrcoef(moved[:, 0], by_bands[:, 0])[0, 1] > 0.95
    # Smoothed features know less of a quiet floor, so that noise moves them a little less.
    ratio = by_bands[:, :2].mean(axis=0) / moved[:, :2].mean(axis=0)
    assert (ratio > 0.7).all() and (ratio < 1.1).all()


@pytest.mark.parametrize("n_noise", [50, 1000, 9000])
@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 20.0])
def test_add_noise_has_the_asked_ratio(n_noise, snr_db):
    rng = np.random.default_rng(0)
    waveform, noise = 0.1 * rng.standard_normal(1000), rng.standard_normal(n_noise)
    added = add_noise(waveform, noise, snr_db, rng) - waveform
    ratio = 10 * np.log10(np.mean(waveform**2) / np.mean(added**2))
    assert ratio == pytest.approx(snr_db, abs=1e-9)
    # It is a piece of the noise, from the generator: another draw is another piece.
    again = add_noise(waveform, noise, snr_db, rng) - waveform
    assert not np.allclose(added, again)


@pytest.mark.parametrize(
    ("waveform", "noise", "snr_db", "message"),
    [
        (np.zeros(100), np.ones(100), 10, "waveform is silent"),
        (np.ones(100), np.zeros(100), 10, "noise is silent"),
        (np.ones((2, 100)), np.ones(100), 10, r"waveform has shape \(2, 100\)"),
        (np.ones(100), np.ones(0), 10, r"noise has shape \(0,\)"),
        (np.full(100, np.nan), np.ones(100), 10, "waveform contains NaN"),
        (np.ones(100), np.ones(100), np.inf, "snr_db is inf"),
        (np.ones(100), np.ones(100), None, "snr_db is None"),
        (None, np.ones(100), 10, "waveform is a NoneType"),
        (np.ones(100), ["a"], 10, "noise is a list of dtype <U1"),
        (np.ones(100, np.int16), np.ones(100), 10, "waveform has dtype int16: expected floats"),
    ],
)
def test_add_noise_refuses_bad_input(waveform, noise, snr_db, message):
    with pytest.raises(ArgumentError, match=message):
        add_noise(waveform, noise, snr_db, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"speed": 1.0}, "speed is 1.0"),
        ({"noise": -0.1}, "noise is -0.1"),
        ({"gain": np.nan}, "gain is nan"),
        ({"gain": None}, "gain is None"),
        ({"speed": None}, "speed is None"),
        ({"warp": "0.1"}, "warp is '0.1'"),
        ({"noise": True}, "noise is True"),
        ({"snr": ("1", "2")}, r"snr is \('1', '2'\)"),
        ({"snr": (0, np.inf)}, r"snr is \(0, inf\)"),
        ({"snr": (20, 5)}, r"snr is \(20, 5\)"),
        ({"snr": (1, 2, 3)}, r"snr is \(1, 2, 3\)"),
        ({"snr": 10.0}, "snr is 10.0"),
        ({"time_masks": 3}, "time_masks is 3"),
        ({"time_masks": (1.5, 2)}, "time_masks is 1.5"),
        ({"deltas": -1}, "deltas is -1"),
        ({"time_masks": (-1, 4)}, "time_masks is -1"),
        ({"frequency_masks": (1, -4)}, "frequency_masks is -4"),
    ],
)
def test_options_out_of_range_are_named(option, message):
    with pytest.raises(ArgumentError, match=message):
        Augmentation(**option)


def test_deltas_are_those_of_the_varied_cepstra(digit):
    whole = np.concatenate([digit, deltas(digit), deltas(deltas(digit))], axis=1)
    options = {"speed": 0.2, "warp": 0.1, "channel": 0.4, "noise": 0.2, "snr": (5.0, 20.0)}
    plain = Augmentation(**options)(digit, np.ones(13), np.random.default_rng(0))
    varied = Augmentation(**options, deltas=2)(whole, np.ones(39), np.random.default_rng(0))
    assert np.array_equal(varied[:, :13], plain)
    assert np.allclose(varied[:, 13:26], deltas(plain), atol=1e-4)
    assert np.allclose(varied[:, 26:], deltas(deltas(plain)), atol=1e-4)
    with pytest.raises(ArgumentError, match="13 columns: expected a multiple of 2.*deltas = 1"):
        Augmentation(deltas=1)(digit, np.ones(13), np.random.default_rng(0))
    assert Augmentation().batch([], np.ones(13), np.random.default_rng(0)) == []


def test_resampling_keeps_a_straight_line_straight():
    line = np.linspace(0, 1, 21, dtype=np.float32)[:, None] * np.ones(13, np.float32)
    for speed, n_frames in ((0.5, 42), (1.0, 21), (2.0, 10)):
        faster = resampled([line], np.array([speed]))[0]
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
    everything = Augmentation(
        speed=0.15, noise=0.2, gain=6, snr=(0, 20), frequency_masks=(2, 30), time_masks=(2, 8)
    )
    for augmentation in (AUGMENTATION, everything):
        varied = augmentation(features, np.ones(13), np.random.default_rng(0))
        assert len(varied) >= 1
        assert np.isfinite(varied).all()
