import os
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import soundfile

from cspkit.arguments import ArgumentError
from cspkit.asr import (
    StreamingMFCC,
    audio,
    deltas,
    load_audio,
    load_spoken_digits,
    load_transducer,
    log_mel,
    mfcc,
    transcribe,
)
from cspkit.asr import features as features_module
from cspkit.asr.corpus import data_folder
from cspkit.asr.features import mel_filters

FSDD = os.environ.get("CSPKIT_FSDD")
needs_audio = pytest.mark.skipif(
    not FSDD, reason="CSPKIT_FSDD is not set: it names the folder of the 3,000 recordings"
)


@needs_audio
def test_mfcc_reproduces_every_embedded_row():
    worst = 0.0
    for recording in load_spoken_digits().recordings:
        features = mfcc(*load_audio(Path(FSDD) / f"{recording.id}.wav"))
        assert features.shape == recording.features.shape
        worst = max(worst, float(np.abs(features - recording.features).max()))
    assert worst <= 1.5e-3


@needs_audio
def test_wav_and_embedded_features_give_the_same_words():
    model = load_transducer(data_folder() / "models" / "dense_fold0.safetensors")
    recordings = load_spoken_digits().split("test", fold=0)
    from_wav = [mfcc(*load_audio(Path(FSDD) / f"{r.id}.wav")) for r in recordings]
    assert transcribe(model, from_wav) == transcribe(model, [r.features for r in recordings])


def test_mel_filters_rise_and_reach_one():
    # The filter bank by itself: each filter peaks at 1 or less, and centres rise.
    filters = mel_filters()
    assert filters.shape == (128, 201)
    assert 0.5 < filters[64:].max() <= 1.0
    assert (np.diff(filters[64:].argmax(axis=1)) >= 0).all()


def test_gain_moves_the_first_coefficient_only():
    waveform = np.random.default_rng(0).standard_normal(8000) * 0.1
    soft, loud = mfcc(0.1 * waveform), mfcc(waveform)
    # 20 dB in each of the 128 bands is 20 sqrt(128) in the orthonormal DCT's first coefficient.
    np.testing.assert_allclose(loud[:, 0] - soft[:, 0], 20 * np.sqrt(128), rtol=1e-4)
    np.testing.assert_allclose(loud[:, 1:], soft[:, 1:], atol=1e-3)


def test_frames_come_every_25_ms():
    assert mfcc(np.ones(8000) * 0.1).shape == (41, 13)
    assert mfcc(np.ones(8000) * 0.1).dtype == np.float32


def test_log_mel_is_what_mfcc_transforms():
    waveform = np.random.default_rng(0).standard_normal(4000) * np.linspace(0, 0.1, 4000)
    bands = log_mel(waveform)
    assert bands.shape == (21, 128) and bands.dtype == np.float32
    assert bands.min() >= bands.max() - 80 - 1e-4
    np.testing.assert_allclose(
        scipy.fft.dct(bands, norm="ortho", axis=1)[:, :13], mfcc(waveform), atol=1e-3
    )
    np.testing.assert_array_equal(mfcc(waveform, n_mfcc=40)[:, :13], mfcc(waveform))
    assert mfcc(waveform, n_mfcc=40).shape == (21, 40)


def test_the_floor_is_80_db_under_the_loudest_value():
    waveform = np.zeros(4000)
    waveform[2000] = 1.0
    bands = log_mel(waveform)
    assert bands.min() == pytest.approx(bands.max() - 80, abs=1e-4)
    np.testing.assert_allclose(log_mel(10 * waveform) - bands, 20, atol=1e-4)


def test_a_tone_is_loudest_in_the_band_around_it():
    tone = 0.3 * np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000)
    loudest = log_mel(tone)[5:-5].mean(axis=0).argmax()
    assert mel_filters()[loudest].argmax() == 50  # bin 50 of 20 Hz each


def test_deltas_are_least_squares_slopes():
    features = np.random.default_rng(0).standard_normal((30, 4))
    slopes = deltas(features, width=3)
    t = np.arange(-3, 4)
    for frame in (3, 11, 26):
        fitted = np.polyfit(t, features[frame - 3 : frame + 4], deg=1)[0]
        np.testing.assert_allclose(slopes[frame], fitted, atol=1e-12)


def test_deltas_of_a_line_are_its_slope_and_of_a_constant_nothing():
    line = np.outer(np.arange(20), [1.0, -2.0]).astype(np.float32)
    np.testing.assert_allclose(deltas(line)[2:-2], np.tile([1, -2], (16, 1)), atol=1e-6)
    assert np.abs(deltas(line)[0]).max() < 2  # the first frame is repeated
    assert deltas(line).dtype == np.float32
    assert not deltas(np.ones((1, 3)), width=5).any()
    assert deltas(np.arange(20)[:, None])[10, 0] == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: deltas(np.zeros(9)), r"shape \(9,\)"),
        (lambda: deltas(np.zeros((0, 3))), r"shape \(0, 3\)"),
        (lambda: deltas(np.zeros((9, 3)), 0), "width is 0"),
        (lambda: mfcc(np.ones(8000), n_mfcc=0), "n_mfcc is 0: expected a whole number >= 1"),
        (lambda: log_mel(np.zeros(200)), "200 samples"),
        (lambda: deltas([[1, 2], [3]]), "features is a list"),
        (lambda: deltas([["a"]]), "features is a list of dtype <U1"),
        (lambda: deltas(None), "features is a NoneType"),
    ],
)
def test_options_are_checked(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


def test_the_spectrogram_has_the_options_that_are_asked_for():
    tone = 0.3 * np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000)
    bands = log_mel(tone, n_fft=256, hop_length=80, n_mels=40, f_min=100, f_max=3800, top_db=50)
    assert bands.shape == (101, 40)
    assert bands.min() == pytest.approx(bands.max() - 50, abs=1e-3)
    filters = mel_filters(40, 256, 100, 3800)
    assert filters.shape == (40, 129)
    bins = np.flatnonzero(filters.any(axis=0)) * 8000 / 256
    assert 100 < bins.min() and bins.max() < 3800
    assert bands[50].argmax() == filters[:, 32].argmax()  # 1 kHz is bin 32
    options = {"n_mels": 40, "hop_length": 80}
    assert np.allclose(
        mfcc(tone, n_mfcc=20, **options),
        scipy.fft.dct(log_mel(tone, **options), norm="ortho")[:, :20], atol=1e-3,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"n_fft": 1}, "n_fft is 1"),
        ({"hop_length": 0}, "hop_length is 0"),
        ({"n_mels": 0}, "n_mels is 0"),
        ({"f_max": 5000}, "f_min, f_max are 0.0, 5000: expected .* <= 4000"),
        ({"f_min": 3000, "f_max": 2000}, "f_min, f_max are 3000, 2000"),
        ({"top_db": 0}, "top_db is 0"),
        ({"top_db": None}, "top_db is None"),
        ({"f_max": None}, "f_min, f_max are 0.0, None"),
        ({"f_min": "0"}, "f_min, f_max are '0', 4000.0"),
        ({"n_mfcc": 1.5}, "n_mfcc is 1.5"),
        ({"n_mfcc": 41, "n_mels": 40}, "n_mfcc is 41: expected 1 to 40"),
    ],
)
def test_options_of_the_spectrogram_are_checked(option, message):
    with pytest.raises(ArgumentError, match=message):
        mfcc(np.zeros(4000), **option)


def test_silence_alone_is_its_floor():
    assert (log_mel(np.zeros(4000)) == -100).all()
    assert np.isfinite(mfcc(np.zeros(4000))).all()


def test_stereo_and_other_rates_are_mixed_down_and_resampled(tmp_path):
    seconds = np.arange(44100) / 44100
    tone = 0.3 * np.sin(2 * np.pi * 440 * seconds)
    soundfile.write(tmp_path / "stereo.wav", np.stack([tone, tone], axis=1), 44100)
    at_8k = 0.3 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    soundfile.write(tmp_path / "mono.flac", at_8k, 8000)
    high, low = (
        mfcc(*load_audio(tmp_path / "stereo.wav")),
        mfcc(*load_audio(tmp_path / "mono.flac")),
    )
    assert high.shape == low.shape
    # The loudest band, c0 and the shape of the spectrum agree; the floor under it may not.
    assert np.abs(high[5:-5, 0] - low[5:-5, 0]).max() < 0.15 * np.abs(low[:, 0]).max()


@pytest.mark.parametrize(
    ("waveform", "rate", "message"),
    [
        (np.zeros((100, 2)), 8000, r"shape \(100, 2\)"),
        (np.array([0.0, np.nan] * 500), 8000, "NaN"),
        (np.zeros(200), 8000, "200 samples"),
        (np.zeros(0), 8000, "0 samples"),
        (np.zeros(8000), 0, "sample_rate is 0"),
        (np.zeros(8000), float("nan"), "sample_rate is nan"),
        (np.zeros(8000), None, "sample_rate is None"),
        (np.zeros(8000, np.int16), 8000, "dtype int16: expected floats"),
        (np.zeros(8000, complex), 8000, "dtype complex128"),
        (None, 8000, "waveform is a NoneType"),
        ("seven.wav", 8000, "waveform is a str"),
        ([[0.0, 1.0], [0.0]], 8000, "waveform is a list"),
    ],
)
def test_mfcc_refuses_bad_input(waveform, rate, message):
    with pytest.raises(ArgumentError, match=message):
        mfcc(waveform, rate)


RATES = [1, 999, 768_001, 2147483647, -8000, 8000.5, True, np.True_, "8000", None, [8000]]
RATES += [float("inf"), -float("inf"), float("nan"), 8000 + 0j]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(
    "call", [lambda r: mfcc(np.zeros(999), r), lambda r: log_mel(np.zeros(999), r), StreamingMFCC]
)
def test_implausible_sample_rates_are_refused(call, rate):
    message = f"sample_rate is {rate!r}: expected a whole number of Hz from 1000 to 768000"
    with pytest.raises(ArgumentError, match=re.escape(message)):
        call(rate)


@pytest.mark.parametrize("rate", [1000, 768_000, 8000.0, np.int32(16_000), np.float32(44_100)])
def test_plausible_sample_rates_are_accepted(rate):
    assert mfcc(np.zeros(int(rate) // 10), rate).shape == (5, 13)
    assert StreamingMFCC(rate).sample_rate == rate


def with_rate(path, rate):
    """A wav file whose header states this rate."""
    soundfile.write(path, np.zeros(99), 8000)
    header = bytearray(path.read_bytes())
    header[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(header)


@pytest.mark.parametrize("rate", [1, 999, 768_001, 2147483647])
def test_a_file_with_an_implausible_sample_rate_is_named(tmp_path, rate):
    with_rate(tmp_path / "odd.wav", rate)
    with pytest.raises(ArgumentError, match=rf"odd\.wav: sample_rate is {rate}: expected"):
        load_audio(tmp_path / "odd.wav")


def of_unknown_length(path):
    """Zero the total number of samples (36 bits) in the STREAMINFO block of a FLAC file."""
    data = bytearray(path.read_bytes())
    assert data[:4] == b"fLaC" and data[4] & 0x7F == 0
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    path.write_bytes(data)


@pytest.mark.parametrize("n_samples", [1, 4096, 2**16, 150_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_flac_of_unknown_length_is_read_to_its_end(tmp_path, n_samples, channels):
    path = tmp_path / "stream.flac"
    samples = 0.1 * np.random.default_rng(0).standard_normal((n_samples, channels))
    soundfile.write(path, samples, 16_000)
    expected = soundfile.read(path, always_2d=True)[0].mean(axis=1)
    of_unknown_length(path)
    assert soundfile.info(path).frames > 10**18
    waveform, sample_rate = load_audio(path)
    assert sample_rate == 16_000
    assert np.array_equal(waveform, expected)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "aiff", "au", "caf", "w64"])
def test_files_are_read_as_soundfile_reads_them(tmp_path, suffix):
    path = tmp_path / f"sound.{suffix}"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal((70_000, 2)), 16_000)
    waveform, sample_rate = load_audio(str(path))
    assert sample_rate == 16_000 and waveform.dtype == np.float64
    assert np.array_equal(waveform, soundfile.read(path)[0].mean(axis=1))


def test_a_name_is_only_a_name(tmp_path):
    soundfile.write(tmp_path / "sound.wav", np.linspace(-0.5, 0.5, 99), 8000)
    expected = load_audio(tmp_path / "sound.wav")[0]
    for name in (b"sound.raw", b"sound", b"\xff\xfe.wav", b"\xe4.flac", b"sound.txt"):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        path.write_bytes((tmp_path / "sound.wav").read_bytes())
        assert np.array_equal(load_audio(path)[0], expected)


def test_a_long_recording_is_computed_in_blocks(monkeypatch):
    waveform = 0.1 * np.random.default_rng(0).standard_normal(30_000)
    expected = mfcc(waveform)
    monkeypatch.setattr(features_module, "MOST_FRAMES", 16)
    assert len(expected) > 100
    np.testing.assert_allclose(mfcc(waveform), expected, atol=1e-5)


@pytest.mark.parametrize("known", [True, False])
def test_the_length_of_a_recording_is_bounded_and_known(tmp_path, monkeypatch, known):
    path = tmp_path / "sound.flac"
    soundfile.write(path, np.zeros(20_000), 8000)
    content = bytearray(path.read_bytes())
    if not known:  # the number of samples is in the last 36 bits of these eight bytes
        content[21] &= 0xF0
        content[22:26] = bytes(4)
    path.write_bytes(content)
    assert audio.audio_seconds(path) == 2.5 and len(load_audio(path)[0]) == 20_000
    monkeypatch.setattr(audio, "MOST_SAMPLES", 20_000)
    assert audio.audio_seconds(path) == 2.5 and len(load_audio(path)[0]) == 20_000
    monkeypatch.setattr(audio, "MOST_SAMPLES", 19_999)
    for reader in (load_audio, audio.audio_seconds):
        with pytest.raises(ArgumentError, match=r"sound\.flac: more than \d+ samples"):
            reader(path)


def damaged(path):
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(99_000), 8000)
    path.write_bytes(path.read_bytes()[:60_000])


def with_sample(value):
    def make(path):
        samples = np.zeros(999)
        samples[500] = value
        soundfile.write(path, samples, 8000, subtype="DOUBLE")

    return make


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("seven.raw", lambda p: p.write_bytes(bytes(999)), "is no audio file that can be read"),
        ("seven.wav", lambda p: p.write_bytes(b""), "is no audio file that can be read"),
        ("seven.flac", damaged, "is no audio file that can be read"),
        ("nan.wav", with_sample(np.nan), "contains NaN or infinity"),
        ("inf.wav", with_sample(-np.inf), "contains NaN or infinity"),
        ("huge.wav", with_sample(1e200), "contains NaN or infinity, or samples beyond 1e\\+30"),
        ("empty.wav", lambda p: soundfile.write(p, np.zeros(0), 8000), "holds no samples"),
        ("folder.wav", lambda p: p.mkdir(), "is a folder: expected a file"),
        ("pipe.wav", os.mkfifo, "is a pipe, a device or a socket: expected a regular file"),
        ("null.wav", lambda p: p.symlink_to("/dev/null"), "is a pipe, a device or a socket"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_in_one_line(tmp_path, name, make, message):
    make(tmp_path / name)
    with pytest.raises(ArgumentError, match=rf"{re.escape(name)} {message}") as caught:
        load_audio(tmp_path / name)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("path", [None, 3, b"seven.wav", ["seven.wav"]])
def test_what_is_no_name_of_a_file_is_refused(path):
    with pytest.raises(ArgumentError, match=re.escape(f"path is {path!r}: expected the name")):
        load_audio(path)


def test_load_audio_says_what_is_wrong(tmp_path):
    (tmp_path / "text.wav").write_text("this is no audio")
    with pytest.raises(ArgumentError, match=r"text\.wav is no audio"):
        load_audio(tmp_path / "text.wav")
    with pytest.raises(FileNotFoundError, match=r"none\.wav"):
        load_audio(tmp_path / "none.wav")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 8000)
    with pytest.raises(ArgumentError, match="no samples"):
        load_audio(tmp_path / "empty.wav")
