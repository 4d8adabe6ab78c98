"""Warping of the frequency axis: the effect of a longer or shorter vocal tract on features.

The coefficients of a frame are a cosine series over the mel axis. So the smoothed spectrum of a
frame is known at every frequency, and the coefficients of the warped spectrum are a linear
function of the coefficients of the frame. This function is a small matrix for each warp factor.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from cspkit.asr.features import N_MELS, N_MFCC, SAMPLE_RATE, cepstra, hertz, mel

TURN = 0.6  # the factor 0.6 in the formula of `warped_frequency`
STEP = 0.005  # factors are rounded to multiples of this step


def warped_frequency(frequency: np.ndarray, factor: float) -> np.ndarray:
    """Map a frequency of one voice to a voice with formants `factor` times as high.

    With the sample rate S and b = 0.6 min(factor, 1) S / 2, the map is

        f -> factor f                                            for f <= b / factor
        f -> S/2 - (S/2 - b) / (S/2 - b / factor) (S/2 - f)      for f >  b / factor

    The map is continuous, and it maps S/2 to itself. The map for 1 / factor is its inverse. The
    number 0.6 comes from the reference, where the formula changes at 4.8 kHz and S/2 is 8 kHz.

    Parameters
    ----------
    frequency : ndarray
        In Hz, 0 to S/2.
    factor : float
        Between 0.6 and 1 / 0.6.

    Returns
    -------
    ndarray
        In Hz.

    References
    ----------
    Jaitly and Hinton, "Vocal tract length perturbation (VTLP) improves speech recognition",
    ICML workshop on deep learning for audio, speech and language processing, 2013.
    """
    top = SAMPLE_RATE / 2
    turn = TURN * min(factor, 1.0) * top
    above = top - (top - turn) / (top - turn / factor) * (top - frequency)
    return np.where(frequency <= turn / factor, factor * frequency, above)


def warped(features: np.ndarray, factor: float) -> np.ndarray:
    """Return features (T, n_mfcc), float32, with formants `factor` times as high.

    The factor is rounded to a multiple of 0.005, so that a cache can hold the matrices.
    """
    return features @ warp_matrix(round(factor / STEP), features.shape[1]).T


@lru_cache(maxsize=1024)
def warp_matrix(steps: int, n_mfcc: int = N_MFCC) -> np.ndarray:
    """Return the matrix (n_mfcc, n_mfcc), float32, that warps the coefficients of a frame.

    For each band, find the frequency that the warp maps to the centre of the band. The value of the
    band in the warped spectrum is the value of the original spectrum at this frequency.

    Parameters
    ----------
    steps : int
        The factor in units of 0.005; 200 gives the identity.
    n_mfcc : int
    """
    top = mel(SAMPLE_RATE / 2)
    centres = hertz(np.arange(1, N_MELS + 1) / (N_MELS + 1) * top)
    sources = warped_frequency(centres, 1.0 / (STEP * steps))
    bands = mel(sources) / top * (N_MELS + 1) - 1.0
    order = np.arange(n_mfcc)[:, None]
    waves = np.sqrt(2.0 / N_MELS) * np.cos(np.pi * order * (bands + 0.5) / N_MELS)
    waves[0] = np.sqrt(1.0 / N_MELS)
    return np.ascontiguousarray(cepstra(waves, n_mfcc).T)
