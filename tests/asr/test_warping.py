import numpy as np
import pytest
import scipy.signal

from cspkit.arguments import ArgumentError
from cspkit.asr import Augmentation, load_spoken_digits, mfcc
from cspkit.asr.features import N_MELS, cepstra, mel_filters, smoothed_bands
from cspkit.asr.warping import warp_matrix, warped, warped_frequency

FACTORS = (0.65, 0.85, 0.9, 1.0, 1.1, 1.15, 1.35)


@pytest.fixture(scope="module")
def digit():
    return load_spoken_digits().recordings[7].features


@pytest.mark.parametrize("factor", FACTORS)
def test_frequencies_rise_from_zero_to_the_top_and_come_back(factor):
    frequency = np.linspace(0, 4000, 4001)
    moved = warped_frequency(frequency, factor)
    assert moved[0] == 0
    assert moved[-1] == pytest.approx(4000)
    steps = np.diff(moved)
    assert steps.min() > 0 and steps.max() < 3  # no jump at the turn
    np.testing.assert_allclose(warped_frequency(moved, 1 / factor), frequency, atol=1e-8)


def test_formants_move_in_proportion_up_to_the_turn():
    assert warped_frequency(1000.0, 1.2) == pytest.approx(1200)
    assert warped_frequency(1000.0, 0.8) == pytest.approx(800)
    # b = 2400 Hz is where the turn goes to; for factors under 1 it is where it comes from.
    assert warped_frequency(2000.0, 1.2) == pytest.approx(2400)
    assert warped_frequency(2400.0, 0.8) == pytest.approx(1920)
    assert warped_frequency(3200.0, 1.2) == pytest.approx(4000 - 1600 / 2000 * 800)


def test_no_warp_is_no_change(digit):
    np.testing.assert_allclose(warp_matrix(200), np.eye(13), atol=1e-7)
    np.testing.assert_allclose(warped(digit, 1.0), digit, atol=1e-4)


@pytest.mark.parametrize("factor", [0.85, 1.15])
def test_a_peak_of_the_spectrum_moves_where_the_warp_takes_it(factor):
    centres = 20.0 * mel_filters().argmax(axis=1)  # to a bin of 20 Hz
    for peak in (600.0, 1500.0, 3000.0):
        bands = 30.0 * np.exp(-(((centres - peak) / 300.0) ** 2))[None]
        seen = smoothed_bands(warped(cepstra(bands, 60), factor))[0]
        found = centres[seen.argmax()]
        assert found == pytest.approx(warped_frequency(peak, factor), abs=50)


def test_warping_is_linear_and_keeps_a_flat_spectrum(digit):
    flat = cepstra(np.full((3, N_MELS), 7.0))
    np.testing.assert_allclose(warped(flat, 1.1), flat, atol=1e-4)
    both = warped(digit + 2 * flat[:1], 1.1)
    np.testing.assert_allclose(both, warped(digit, 1.1) + 2 * flat[:1], atol=1e-3)


def voice(scale):
    """Noise through resonances at 500 and 1,500 Hz, times `scale`."""
    sound = np.random.default_rng(0).standard_normal(40000)
    for formant in (500.0, 1500.0):
        angle, radius = 2 * np.pi * formant * scale / 8000, np.exp(-np.pi * 300 / 8000)
        sound = scipy.signal.lfilter([1], [1, -2 * radius * np.cos(angle), radius**2], sound)
    return sound / np.abs(sound).max()


@pytest.mark.parametrize("factor", [0.85, 0.95, 1.05, 1.15])
def test_warped_features_are_those_of_a_voice_with_other_formants(factor):
    scale = np.concatenate([r.features for r in load_spoken_digits().recordings]).std(axis=0)
    one, other = (mfcc(voice(s)).mean(axis=0) for s in (1.0, factor))

    def distance(features):  # but for the loudness
        return np.abs((features - other) / scale)[1:].mean()

    assert distance(warped(one[None], factor)[0]) < 0.45 * distance(one)
    assert distance(warped(one[None], 2 - factor)[0]) > 1.5 * distance(one)


def test_the_option_draws_factors_from_its_range_before_offsets(digit):
    scale = np.ones(13, np.float32)
    rng, own = np.random.default_rng(5), np.random.default_rng(5)
    varied = Augmentation(speed=0.0, channel=0.2, noise=0.0, warp=0.3)(digit, scale, rng)
    own.uniform(1.0, 1.0)
    expected = warped(digit, own.uniform(0.7, 1.3))
    expected = expected + np.float32(0.2) * own.standard_normal(13, dtype=np.float32)
    np.testing.assert_allclose(varied, expected, atol=1e-3)
    assert varied.dtype == np.float32


@pytest.mark.parametrize("warp", [-0.1, 0.4, np.nan])
def test_a_warp_out_of_range_is_named(warp):
    with pytest.raises(ArgumentError, match=f"warp is {warp}"):
        Augmentation(warp=warp)
