"""Features of sound: log mel bands, and the MFCC recipe of the embedded corpus."""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from numbers import Real

import numpy as np
import scipy.fft
import scipy.signal

from cspkit.arguments import ArgumentError, count, positive
from cspkit.asr.audio import checked_rate

SAMPLE_RATE = 8000
N_FFT = 400
HOP = 200
N_MELS = 128
N_MFCC = 13
MOST_FRAMES = 2**14  # frames whose bands are computed at a time
DYNAMIC_RANGE_DB = 80.0


def mfcc(
    waveform: np.ndarray, sample_rate: int = SAMPLE_RATE, *, n_mfcc: int = N_MFCC, **options
) -> np.ndarray:
    """Compute mel-frequency cepstral coefficients, in the same way as for the embedded corpus.

    The steps are: resample to 8 kHz; take a 400-sample periodic Hann window every 200 samples
    (50 ms and 25 ms), with the signal reflected at its edges; compute the power spectrum; apply
    128 triangular mel filters (HTK scale, 0 to 4 kHz, not normalised by area); convert to
    decibels; raise smaller values to a floor, 80 dB below the loudest value of the recording;
    apply the orthonormal DCT-II, and keep the first 13 coefficients.

    Parameters
    ----------
    waveform : ndarray, shape (n_samples,)
        In [-1, 1].
    sample_rate : int
        In Hz, 1,000 to 768,000.
    n_mfcc : int
        How many coefficients to keep, 1 to `n_mels`.
    **options
        Options of the spectrogram, see `log_mel`. The recorded models, the augmentation and the
        streaming front end work only with the default options.

    Returns
    -------
    ndarray, shape (T, n_mfcc)
        float32. At 8 kHz and with an even `n_fft`, T = 1 + n_samples // hop_length.

    Raises
    ------
    ArgumentError
        If `waveform` is not a finite vector of more than `n_fft / 2` samples (at 8 kHz), or if
        the sample rate or an option is out of range.

    References
    ----------
    Davis and Mermelstein, "Comparison of parametric representations for monosyllabic word
    recognition in continuously spoken sentences", IEEE Trans. ASSP 28(4), 1980,
    doi:10.1109/TASSP.1980.1163420.
    """
    bands = _log_mel(waveform, sample_rate, **options)
    if count("n_mfcc", n_mfcc) > bands.shape[1]:
        raise ArgumentError(f"n_mfcc is {n_mfcc!r}: expected 1 to {bands.shape[1]}")
    return cepstra(bands, n_mfcc)


def log_mel(waveform: np.ndarray, sample_rate: int = SAMPLE_RATE, **options) -> np.ndarray:
    """Compute the log mel spectrogram, whose cosine transform is `mfcc`.

    Parameters
    ----------
    waveform : ndarray, shape (n_samples,)
        In [-1, 1].
    sample_rate : int
        In Hz, 1,000 to 768,000.
    **options
        n_fft (400): samples of a window, at 8 kHz.
        hop_length (200): samples from one window to the next.
        n_mels (128): number of bands.
        f_min (0) and f_max (4000): lower edge of the lowest band and upper edge of the highest
        band, in Hz.
        top_db (80): distance of the floor from the loudest value, in dB. Values below the floor
        are raised to it.

    Returns
    -------
    ndarray, shape (T, n_mels)
        float32, in dB.

    Raises
    ------
    ArgumentError
        For the same reasons as `mfcc`.
    """
    return _log_mel(waveform, sample_rate, **options).astype(np.float32)


def deltas(features: np.ndarray, width: int = 2) -> np.ndarray:
    """Compute the slopes of features over time, by least squares over 2 width + 1 frames.

        d_t = sum_{n=1}^{width} n (c_{t+n} - c_{t-n}) / (2 sum_{n=1}^{width} n^2)

    The first and the last frame are repeated at the edges. Deltas of deltas are accelerations.

    Parameters
    ----------
    features : ndarray, shape (T, n_features)
    width : int
        Number of frames on either side.

    Returns
    -------
    ndarray, shape (T, n_features)
        Change per frame. The dtype is that of `features` if it is a floating-point dtype.

    Raises
    ------
    ArgumentError
        If `features` is not a matrix of numbers with at least one frame, or `width` is not a
        positive integer.

    References
    ----------
    Furui, "Speaker-independent isolated word recognition using dynamic features of speech
    spectrum", IEEE Trans. ASSP 34(1), 1986, doi:10.1109/TASSP.1986.1164788.
    """
    features = checked_frames(features, finite=False)
    count("width", width)
    T = len(features)
    padded = np.pad(features, ((width, width), (0, 0)), mode="edge")
    slopes = sum(
        n * (padded[width + n : width + n + T] - padded[width - n : width - n + T])
        for n in range(1, width + 1)
    )
    return slopes / (2 * sum(n * n for n in range(1, width + 1)))


def decibels(frames: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """Return mel bands in dB (T, n_mels) of windows of samples (T, n_fft)."""
    window = scipy.signal.get_window("hann", frames.shape[1])
    power = np.abs(scipy.fft.rfft(frames * window, axis=1)) ** 2
    return 10.0 * np.log10(np.maximum(power @ filters.T, 1e-10))


def cepstra(bands: np.ndarray, n_mfcc: int = N_MFCC) -> np.ndarray:
    """Return the first coefficients of the orthonormal DCT-II of bands (T, 128), float32."""
    return scipy.fft.dct(bands, type=2, norm="ortho", axis=1)[:, :n_mfcc].astype(np.float32)


def smoothed_bands(coefficients: np.ndarray) -> np.ndarray:
    """Return the bands in dB (T, 128) that coefficients (T, n_mfcc) describe.

    This is the inverse of `cepstra`. The missing coefficients are taken as zero, so the result
    is smooth.
    """
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
    waveform = resample(checked_waveform("waveform", waveform), checked_rate(sample_rate))
    if len(waveform) <= n_fft // 2:
        raise ArgumentError(
            f"waveform has {len(waveform)} samples at {SAMPLE_RATE} Hz: "
            f"expected more than {n_fft // 2}"
        )
    padded = np.pad(waveform, n_fft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop_length]
    filters = mel_filters(n_mels, n_fft, f_min, f_max)
    pieces = range(0, len(frames), MOST_FRAMES)
    bands = np.concatenate([decibels(frames[i : i + MOST_FRAMES], filters) for i in pieces])
    return np.maximum(bands, bands.max() - top_db)


def real_array(name: str, values: np.ndarray) -> np.ndarray:
    """Return values as an array of real numbers."""
    try:
        array = np.asarray(values)
    except ValueError:  # lists of unequal lengths
        array = np.asarray(None)
    if array.dtype.kind not in "fiu":
        raise ArgumentError(
            f"{name} is a {type(values).__name__} of dtype {array.dtype}: expected an array of "
            "real numbers"
        )
    return array


def checked_frames(
    features: np.ndarray,
    name: str = "features",
    *,
    n_features: int | None = None,
    least: int = 1,
    finite: bool = True,
) -> np.ndarray:
    """Return features as a matrix (T, n_features) with at least `least` frames.

    If `n_features` is given, the matrix is float32 and must have this number of columns.
    """
    features = real_array(name, features)
    if n_features is not None:
        features = features.astype(np.float32, copy=False)
    wrong = features.ndim != 2 or n_features not in (None, features.shape[1])
    if wrong or len(features) < least:
        raise ArgumentError(
            f"{name} have shape {features.shape}: "
            f"expected (T, {n_features or 'n_features'}) with T >= {least}"
        )
    if finite and not np.isfinite(features).all():
        raise ArgumentError(f"{name} contain NaN or infinity: expected finite numbers")
    return features


def checked_waveform(name: str, samples: np.ndarray) -> np.ndarray:
    """Return the samples of one channel as a float64 vector; integers are refused."""
    array = real_array(name, samples)
    has, contains = ("have", "contain") if name.endswith("s") else ("has", "contains")
    if array.dtype.kind != "f":
        raise ArgumentError(f"{name} {has} dtype {array.dtype}: expected floats in [-1, 1]")
    if array.ndim != 1:
        raise ArgumentError(f"{name} {has} shape {array.shape}: expected one channel, (n_samples,)")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ArgumentError(f"{name} {contains} NaN or infinity: expected samples in [-1, 1]")
    return array


def resample(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Resample to 8 kHz with a polyphase filter; a waveform at 8 kHz is returned unchanged."""
    if sample_rate == SAMPLE_RATE:
        return waveform
    common = gcd(sample_rate, SAMPLE_RATE)
    return scipy.signal.resample_poly(waveform, SAMPLE_RATE // common, sample_rate // common)


def mel(frequency: np.ndarray | float) -> np.ndarray | float:
    """Return the place of a frequency in Hz on the mel scale, 2595 log10(1 + f / 700)."""
    return 2595.0 * np.log10(1.0 + frequency / 700.0)


def hertz(mels: np.ndarray) -> np.ndarray:
    """Return the frequency in Hz of a place on the mel scale: the inverse of `mel`."""
    return 700.0 * (10.0 ** (mels / 2595.0) - 1.0)


@lru_cache(maxsize=8)
def mel_filters(
    n_mels: int = N_MELS, n_fft: int = N_FFT, f_min: float = 0.0, f_max: float = SAMPLE_RATE / 2
) -> np.ndarray:
    """Return triangular filters of equal width on the mel scale, see `mel`.

    Returns
    -------
    ndarray, shape (n_mels, n_fft // 2 + 1)
        Each row is one filter; the columns are the bins of the spectrum. A filter is 1 at its
        centre; filters are not normalised by area.

    Raises
    ------
    ArgumentError
        If `n_mels` is not a positive integer, or `f_min` and `f_max` are out of range.
    """
    count("n_mels", n_mels)
    numbers = all(isinstance(f, Real) for f in (f_min, f_max))
    if not numbers or not 0 <= f_min < f_max <= SAMPLE_RATE / 2:
        raise ArgumentError(
            f"f_min, f_max are {f_min!r}, {f_max!r}: "
            f"expected 0 <= f_min < f_max <= {SAMPLE_RATE / 2:g}"
        )
    edges = hertz(np.linspace(mel(f_min), mel(f_max), n_mels + 2))
    bins = np.arange(n_fft // 2 + 1) * SAMPLE_RATE / n_fft
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (bins - left) / (centre - left)
    falling = (right - bins) / (right - centre)
    return np.maximum(0.0, np.minimum(rising, falling))
