"""Sound to features: audio files, log mel bands, and the MFCC recipe of the embedded corpus."""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from numbers import Real
from pathlib import Path

import numpy as np
import scipy.fft
import scipy.signal
import soundfile

from cspkit.arguments import count, positive

SAMPLE_RATE = 8000
N_FFT = 400
HOP = 200
N_MELS = 128
N_MFCC = 13
DYNAMIC_RANGE_DB = 80.0


def load_audio(path: str | Path) -> tuple[np.ndarray, int]:
    """Read an audio file as one channel.

    Parameters
    ----------
    path : str or Path
        Anything that libsndfile reads (wav, flac, ogg, ...). Channels are averaged.

    Returns
    -------
    waveform : ndarray, shape (n_samples,)
        float64 in [-1, 1].
    sample_rate : int
        In Hz.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is no audio, or empty.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        samples, sample_rate = soundfile.read(path, dtype="float64", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(
            f"{path} is no audio file that can be read: {error.error_string}"
        ) from None
    if len(samples) == 0:
        raise ValueError(f"{path} holds no samples")
    return samples.mean(axis=1), sample_rate


def mfcc(
    waveform: np.ndarray, sample_rate: int = SAMPLE_RATE, *, n_mfcc: int = N_MFCC, **options
) -> np.ndarray:
    """Mel-frequency cepstral coefficients, as the embedded corpus has them.

    A 400-sample periodic Hann window every 200 samples (50 ms and 25 ms at 8 kHz), centred with
    reflected edges; power spectrum; 128 triangular mel filters (HTK scale, 0 to 4 kHz, not
    normalised by area); decibels, floored 80 dB under the loudest value of the recording;
    orthonormal DCT-II, first 13 coefficients. Other sample rates are resampled to 8 kHz first.

    Parameters
    ----------
    waveform : ndarray, shape (n_samples,)
        In [-1, 1].
    sample_rate : int
        In Hz.
    n_mfcc : int
        Coefficients that are kept, 1 to `n_mels`.
    **options
        Of the spectrogram, see `log_mel`. The recorded models, the augmentation and the streaming
        front end know the recipe above alone.

    Returns
    -------
    ndarray, shape (T, n_mfcc)
        float32; at 8 kHz, T = 1 + n_samples // hop_length with an even `n_fft`.

    Raises
    ------
    ValueError
        If `waveform` is not a finite vector of more than `n_fft / 2` samples (at 8 kHz), or an
        option is out of range.

    References
    ----------
    Davis and Mermelstein, "Comparison of parametric representations for monosyllabic word
    recognition in continuously spoken sentences", IEEE Trans. ASSP 28(4), 1980,
    doi:10.1109/TASSP.1980.1163420.
    """
    bands = _log_mel(waveform, sample_rate, **options)
    if count("n_mfcc", n_mfcc) > bands.shape[1]:
        raise ValueError(f"n_mfcc is {n_mfcc!r}: expected 1 to {bands.shape[1]}")
    return cepstra(bands, n_mfcc)


def log_mel(waveform: np.ndarray, sample_rate: int = SAMPLE_RATE, **options) -> np.ndarray:
    """Log mel spectrogram: what `mfcc` is the cosine transform of.

    Parameters
    ----------
    waveform : ndarray, shape (n_samples,)
        In [-1, 1].
    sample_rate : int
        In Hz.
    **options
        n_fft and hop_length, samples of a window and from one window to the next at 8 kHz, 400
        and 200; n_mels, 128; f_min and f_max, the edges of the lowest and the highest band in Hz,
        0 and 4000; top_db, 80: values are floored so many dB under the loudest of the recording.

    Returns
    -------
    ndarray, shape (T, n_mels)
        float32, in dB.

    Raises
    ------
    ValueError
        As `mfcc` does.
    """
    return _log_mel(waveform, sample_rate, **options).astype(np.float32)


def deltas(features: np.ndarray, width: int = 2) -> np.ndarray:
    """Slopes of features over time, by least squares over 2 width + 1 frames.

        d_t = sum_{n=1}^{width} n (c_{t+n} - c_{t-n}) / (2 sum_{n=1}^{width} n^2)

    with the first and the last frame repeated at the edges. Deltas of deltas are accelerations.

    Parameters
    ----------
    features : ndarray, shape (T, n_features)
    width : int
        Frames on either side.

    Returns
    -------
    ndarray, shape (T, n_features)
        Change per frame; of the dtype of `features`.

    Raises
    ------
    ValueError
        If `features` is no matrix with at least one frame, or `width` is not a positive integer.

    References
    ----------
    Furui, "Speaker-independent isolated word recognition using dynamic features of speech
    spectrum", IEEE Trans. ASSP 34(1), 1986, doi:10.1109/TASSP.1986.1164788.
    """
    features = np.asarray(features)
    if features.ndim != 2 or len(features) == 0:
        raise ValueError(f"features have shape {features.shape}: expected (T, n_features), T >= 1")
    count("width", width)
    T = len(features)
    padded = np.pad(features, ((width, width), (0, 0)), mode="edge")
    slopes = sum(
        n * (padded[width + n : width + n + T] - padded[width - n : width - n + T])
        for n in range(1, width + 1)
    )
    return slopes / (2 * sum(n * n for n in range(1, width + 1)))


def decibels(frames: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """Mel bands in dB (T, n_mels) of windows of samples (T, n_fft); not floored yet."""
    window = scipy.signal.get_window("hann", frames.shape[1])
    power = np.abs(scipy.fft.rfft(frames * window, axis=1)) ** 2
    return 10.0 * np.log10(np.maximum(power @ filters.T, 1e-10))


def cepstra(bands: np.ndarray, n_mfcc: int = N_MFCC) -> np.ndarray:
    """First coefficients of the orthonormal DCT-II of bands (T, 128), float32."""
    return scipy.fft.dct(bands, type=2, norm="ortho", axis=1)[:, :n_mfcc].astype(np.float32)


def smoothed_bands(coefficients: np.ndarray) -> np.ndarray:
    """Bands in dB (T, 128) that the first coefficients (T, n_mfcc) describe: `cepstra` undone."""
    return scipy.fft.idct(coefficients, n=N_MELS, type=2, norm="ortho", axis=1)


def _log_mel(
    waveform: np.ndarray,
    sample_rate: int,
    *,
    n_fft: int = N_FFT,
    hop_length: int = HOP,
    n_mels: int = N_MELS,
    f_min: float = 0.0,
    f_max: float = SAMPLE_RATE / 2,
    top_db: float = DYNAMIC_RANGE_DB,
) -> np.ndarray:
    count("n_fft", n_fft, least=2)
    count("hop_length", hop_length)
    positive("top_db", top_db)
    waveform = np.asarray(waveform)
    if waveform.dtype.kind != "f":
        raise ValueError(f"waveform has dtype {waveform.dtype}: expected floats in [-1, 1]")
    waveform = waveform.astype(np.float64)
    if waveform.ndim != 1:
        raise ValueError(f"waveform has shape {waveform.shape}: expected one channel, (n_samples,)")
    if not np.isfinite(waveform).all():
        raise ValueError("waveform contains NaN or infinity")
    waveform = resample(waveform, checked_rate(sample_rate))
    if len(waveform) <= n_fft // 2:
        raise ValueError(
            f"waveform has {len(waveform)} samples at {SAMPLE_RATE} Hz: "
            f"expected more than {n_fft // 2}"
        )
    padded = np.pad(waveform, n_fft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop_length]
    bands = decibels(frames, mel_filters(n_mels, n_fft, f_min, f_max))
    return np.maximum(bands, bands.max() - top_db)


def checked_rate(sample_rate: int) -> int:
    """Return a sample rate in Hz as an int; ValueError if it is not a positive integer."""
    if not isinstance(sample_rate, Real) or not 0 < sample_rate == round(sample_rate, 0):
        raise ValueError(f"sample_rate is {sample_rate!r}: expected a whole number > 0, in Hz")
    return int(sample_rate)


def resample(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Resample to 8 kHz with a polyphase filter; return the input where it has that rate."""
    if sample_rate == SAMPLE_RATE:
        return waveform
    common = gcd(sample_rate, SAMPLE_RATE)
    return scipy.signal.resample_poly(waveform, SAMPLE_RATE // common, sample_rate // common)


@lru_cache(maxsize=8)
def mel_filters(
    n_mels: int = N_MELS, n_fft: int = N_FFT, f_min: float = 0.0, f_max: float = SAMPLE_RATE / 2
) -> np.ndarray:
    """Triangular filters, equally wide on the mel scale m(f) = 2595 log10(1 + f / 700).

    Returns
    -------
    ndarray, shape (n_mels, n_fft // 2 + 1)
        One filter a row, over the bins of the spectrum; peaks of 1, not normalised by area.
    """
    count("n_mels", n_mels)
    if not 0 <= f_min < f_max <= SAMPLE_RATE / 2:
        raise ValueError(
            f"f_min, f_max are {f_min!r}, {f_max!r}: "
            f"expected 0 <= f_min < f_max <= {SAMPLE_RATE / 2:g}"
        )
    low, top = (2595.0 * np.log10(1.0 + f / 700.0) for f in (f_min, f_max))
    edges = 700.0 * (10.0 ** (np.linspace(low, top, n_mels + 2) / 2595.0) - 1.0)
    bins = np.arange(n_fft // 2 + 1) * SAMPLE_RATE / n_fft
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (bins - left) / (centre - left)
    falling = (right - bins) / (right - centre)
    return np.maximum(0.0, np.minimum(rising, falling))
