"""Sound to features: audio files, and the MFCC recipe of the embedded corpus."""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from pathlib import Path

import numpy as np
import scipy.fft
import scipy.signal
import soundfile

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


def mfcc(waveform: np.ndarray, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
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

    Returns
    -------
    ndarray, shape (T, 13)
        float32; T = 1 + n_samples // 200 at 8 kHz.

    Raises
    ------
    ValueError
        If `waveform` is not a finite vector of more than 200 samples (at 8 kHz).

    References
    ----------
    Davis and Mermelstein, "Comparison of parametric representations for monosyllabic word
    recognition", IEEE Trans. ASSP 28(4), 1980, doi:10.1109/TASSP.1980.1163420.
    """
    waveform = np.asarray(waveform, dtype=np.float64)
    if waveform.ndim != 1:
        raise ValueError(f"waveform has shape {waveform.shape}: expected one channel, (n_samples,)")
    if not np.isfinite(waveform).all():
        raise ValueError("waveform contains NaN or infinity")
    if int(sample_rate) != sample_rate or sample_rate <= 0:
        raise ValueError(f"sample_rate is {sample_rate!r}: expected a positive integer, in Hz")
    waveform = resample(waveform, int(sample_rate))
    if len(waveform) <= N_FFT // 2:
        raise ValueError(
            f"waveform has {len(waveform)} samples at {SAMPLE_RATE} Hz: "
            f"expected more than {N_FFT // 2}"
        )
    padded = np.pad(waveform, N_FFT // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP]
    window = scipy.signal.get_window("hann", N_FFT)
    power = np.abs(scipy.fft.rfft(frames * window, axis=1)) ** 2
    decibels = 10.0 * np.log10(np.maximum(power @ mel_filters().T, 1e-10))
    decibels = np.maximum(decibels, decibels.max() - DYNAMIC_RANGE_DB)
    return scipy.fft.dct(decibels, type=2, norm="ortho", axis=1)[:, :N_MFCC].astype(np.float32)


def resample(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    """Resample to 8 kHz with a polyphase filter; return the input where it has that rate."""
    if sample_rate == SAMPLE_RATE:
        return waveform
    common = gcd(sample_rate, SAMPLE_RATE)
    return scipy.signal.resample_poly(waveform, SAMPLE_RATE // common, sample_rate // common)


@lru_cache(maxsize=1)
def mel_filters() -> np.ndarray:
    """Triangular filters, equally wide on the mel scale m(f) = 2595 log10(1 + f / 700).

    Returns
    -------
    ndarray, shape (128, 201)
        One filter a row, over the bins of the spectrum; peaks of 1, not normalised by area.
    """
    top = 2595.0 * np.log10(1.0 + SAMPLE_RATE / 2 / 700.0)
    edges = 700.0 * (10.0 ** (np.linspace(0.0, top, N_MELS + 2) / 2595.0) - 1.0)
    bins = np.linspace(0.0, SAMPLE_RATE / 2, N_FFT // 2 + 1)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (bins - left) / (centre - left)
    falling = (right - bins) / (right - centre)
    return np.maximum(0.0, np.minimum(rising, falling))
