"""Augmentation of features: random variations of an utterance that do not change its words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np

from cspkit.arguments import ArgumentError, count, positive
from cspkit.asr.features import (
    N_FFT,
    N_MELS,
    SAMPLE_RATE,
    cepstra,
    checked_waveform,
    deltas,
    mel_filters,
    smoothed_bands,
)
from cspkit.asr.warping import warped


@dataclass(frozen=True)
class Augmentation:
    """Random variation of MFCC features. Every kind of variation is off by default.

    `snr` and `frequency_masks` work on mel bands. The inverse DCT turns the coefficients into a
    log mel spectrum. This spectrum is smooth, because the high coefficients are missing. After the
    variation, the DCT turns the spectrum back into coefficients.

    Attributes
    ----------
    speed : float
        Multiply the speed of the utterance by a random factor from 1 - speed to 1 + speed. New
        frames are interpolated between the old frames. `speed` must be below 1.
    warp : float
        Multiply the frequencies of the formants by a random factor from 1 - warp to 1 + warp. A
        shorter or longer vocal tract has this effect, see `cspkit.asr.warping`. `warp` must be
        below 0.4.
    channel : float
        Add a random constant to each coefficient, as another microphone or voice does. `channel`
        is the standard deviation of the constant, in units of the standard deviation of the
        coefficient.
    noise : float
        Add independent noise to every coefficient of every frame. `noise` is its standard
        deviation, in the same units as `channel`.
    gain : float
        Change the loudness by a random number of dB from -gain to +gain. A change of g dB adds
        g sqrt(128) to the first coefficient, and does not change the others.
    snr : tuple of float, optional
        Lowest and highest signal-to-noise ratio, in dB, of stationary noise. The spectrum of the
        noise falls by 0 to 3 dB per octave (white to pink).
    frequency_masks : tuple of int
        Number of masks, and the maximum width of a mask in mel bands (there are 128). A mask
        replaces all values of each of its bands by the mean of the band over the utterance.
    time_masks : tuple of int
        Number of masks, and the maximum width of a mask in frames. A mask replaces each of its
        frames by the mean of all frames of the utterance.
    deltas : int
        How many orders of deltas follow the cepstra in the features (1: slopes, 2: accelerations
        too), see `cspkit.asr.deltas`. Only the cepstra are varied. The deltas are then computed
        from the varied cepstra.

    Raises
    ------
    ArgumentError
        If an attribute is out of range.

    References
    ----------
    Park et al., "SpecAugment: a simple data augmentation method for automatic speech
    recognition", Interspeech 2019, arXiv:1904.08779 (masks).
    Jaitly and Hinton, "Vocal tract length perturbation (VTLP) improves speech recognition",
    ICML workshop on deep learning for audio, speech and language processing, 2013 (warp).
    """

    speed: float = 0.0
    channel: float = 0.0
    noise: float = 0.0
    gain: float = 0.0
    warp: float = 0.0
    snr: tuple[float, float] | None = None
    frequency_masks: tuple[int, int] = (0, 0)
    time_masks: tuple[int, int] = (0, 0)
    deltas: int = 0

    def __post_init__(self) -> None:
        for name, bound in (("speed", 1.0), ("warp", 0.4)):
            if positive(name, getattr(self, name), zero=True) >= bound:
                raise ArgumentError(
                    f"{name} is {getattr(self, name)!r}: expected a number in [0, {bound:g})"
                )
        for name in ("channel", "noise", "gain"):
            positive(name, getattr(self, name), zero=True)
        count("deltas", self.deltas, least=0)
        if self.snr is not None:
            low, high = _pair("snr", self.snr, "(lowest, highest) in dB")
            if not (isinstance(low, Real) and isinstance(high, Real) and low <= high) or not (
                np.isfinite([low, high]).all()
            ):
                raise ArgumentError(f"snr is {self.snr!r}: expected (lowest, highest) in dB")
        for name in ("frequency_masks", "time_masks"):
            for part in _pair(name, getattr(self, name), "(number, width)"):
                count(name, part, least=0)

    def __call__(
        self, features: np.ndarray, scale: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Return a variation of one utterance.

        Parameters
        ----------
        features : ndarray, shape (T, n_features)
        scale : ndarray, shape (n_features,)
            Standard deviation of each coefficient over the training part.
        rng : np.random.Generator

        Returns
        -------
        ndarray, shape (about T, n_features)
            float32.
        """
        return self.batch([features], scale, rng)[0]

    def batch(
        self, features: Sequence[np.ndarray], scale: np.ndarray, rng: np.random.Generator
    ) -> list[np.ndarray]:
        """Return a variation of each utterance. This is faster than one call for each utterance.

        Parameters
        ----------
        features : sequence of ndarray, shape (T, n_features)
        scale : ndarray, shape (n_features,)
            Standard deviation of each coefficient over the training part.
        rng : np.random.Generator

        Returns
        -------
        list of ndarray, shape (about T, n_features)
            float32.

        Raises
        ------
        ArgumentError
            If the features do not have the number of columns that `deltas` needs.
        """
        if len(features) == 0:
            return []
        N, C = len(features), features[0].shape[1] // (1 + self.deltas)
        if C * (1 + self.deltas) != features[0].shape[1]:
            raise ArgumentError(
                f"features have {features[0].shape[1]} columns: expected a multiple of "
                f"{1 + self.deltas}, with deltas = {self.deltas}"
            )
        features, scale = [f[:, :C] for f in features], scale[:C]
        varied = resampled(features, rng.uniform(1 - self.speed, 1 + self.speed, size=N))
        # Warp, bands and gain draw random numbers only if they are on. If all three are off, they
        # do not change the random numbers of the other variations.
        if self.warp:
            factors = rng.uniform(1 - self.warp, 1 + self.warp, size=N)
            varied = [warped(v, factor) for v, factor in zip(varied, factors, strict=True)]
        if self.snr is not None or self.frequency_masks[0]:
            varied = [self._varied_bands(v, rng) for v in varied]
        lengths, frames = [len(v) for v in varied], np.concatenate(varied)
        if self.gain:
            louder = rng.uniform(-self.gain, self.gain, size=N).astype(np.float32)
            frames[:, 0] += np.repeat(louder, lengths) * np.float32(np.sqrt(N_MELS))
        offset = self.channel * rng.standard_normal((N, C), dtype=np.float32)
        noise = self.noise * rng.standard_normal(frames.shape, dtype=np.float32)
        frames += (np.repeat(offset, lengths, axis=0) + noise) * scale
        varied = np.split(frames, np.cumsum(lengths[:-1]))
        if self.time_masks[0]:
            varied = [masked(v, *self.time_masks, rng) for v in varied]
        return [with_deltas(v, self.deltas) for v in varied] if self.deltas else varied

    def _varied_bands(self, features: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        bands = smoothed_bands(features)
        if self.snr is not None:
            bands = noisy_bands(bands, rng.uniform(*self.snr), rng.uniform(0.0, 1.0), rng)
        bands = masked(bands.T, *self.frequency_masks, rng, axis=1).T
        return cepstra(bands, features.shape[1])


def with_deltas(features: np.ndarray, orders: int) -> np.ndarray:
    """Append to features (T, C) their deltas, the deltas of the deltas, ..., up to `orders`."""
    parts = [features]
    for _ in range(orders):
        parts.append(deltas(parts[-1]))
    return np.concatenate(parts, axis=1).astype(np.float32)


def _pair(name: str, value: object, expected: str) -> tuple:
    if not isinstance(value, Sequence) or len(value) != 2:
        raise ArgumentError(f"{name} is {value!r}: expected {expected}")
    return value


def masked(
    rows: np.ndarray, count: int, width: int, rng: np.random.Generator, axis: int = 0
) -> np.ndarray:
    """Apply `count` masks of up to `width` rows to a copy of `rows`.

    A mask replaces rows by the mean of `rows` along `axis`.
    """
    hidden = np.zeros((len(rows), 1), dtype=bool)
    for _ in range(count):
        length = int(rng.integers(0, min(width, len(rows)) + 1))
        first = int(rng.integers(0, len(rows) - length + 1))
        hidden[first : first + length] = True
    return np.where(hidden, rows.mean(axis=axis, keepdims=True), rows)


def noisy_bands(
    bands: np.ndarray, snr_db: float, colour: float, rng: np.random.Generator
) -> np.ndarray:
    """Add stationary noise to the mel bands (T, 128) of a sound, in dB.

    The power of the sound is the sum of its bands, because the filters add up to 1 between the
    centres of the first and the last band. The noise has the power spectrum f^(-colour). In each
    band and frame, the power of the noise is multiplied by a random number. This number has an
    exponential distribution, like the power of Gaussian noise in a bin of the spectrum. The mean of
    the distribution is e^0.577, so that its mean in dB is 0. The bands of the sound were smoothed
    in dB, so they are means in dB too.
    """
    bins = np.linspace(0.0, SAMPLE_RATE / 2, N_FFT // 2 + 1)
    shape = mel_filters()[:, 1:] @ bins[1:] ** -colour
    power = 10.0 ** (bands / 10.0)
    level = power.sum(axis=1).mean() * 10.0 ** (-snr_db / 10.0) / shape.sum()
    noise = np.exp(np.euler_gamma) * rng.standard_exponential(bands.shape)
    return 10.0 * np.log10(power + level * shape * noise)


def add_noise(
    waveform: np.ndarray, noise: np.ndarray, snr_db: float, rng: np.random.Generator
) -> np.ndarray:
    """Add noise to audio at a signal-to-noise ratio.

        x + a n,  a^2 = mean(x^2) / mean(n^2) 10^(-snr_db / 10)

    Parameters
    ----------
    waveform : ndarray, shape (n_samples,)
    noise : ndarray, shape (n_noise,)
        Noise of the same sample rate. A random part of it is used; short noise is repeated.
    snr_db : float
        Signal-to-noise ratio, in dB.
    rng : np.random.Generator

    Returns
    -------
    ndarray, shape (n_samples,)
        float64; values may lie outside [-1, 1].

    Raises
    ------
    ArgumentError
        If `waveform` or `noise` is not a finite vector of floats, or is silent, or if `snr_db` is
        not finite.
    """
    waveform, noise = checked_waveform("waveform", waveform), checked_waveform("noise", noise)
    for name, samples in (("waveform", waveform), ("noise", noise)):
        if len(samples) == 0:
            raise ArgumentError(f"{name} has shape {samples.shape}: expected at least one sample")
    if not isinstance(snr_db, Real) or not np.isfinite(snr_db):
        raise ArgumentError(f"snr_db is {snr_db!r}: expected a finite number")
    first = int(rng.integers(len(noise)))
    part = np.take(noise, np.arange(first, first + len(waveform)), mode="wrap")
    for name, samples in (("waveform", waveform), ("noise", part)):
        if not samples.any():
            raise ArgumentError(f"{name} is silent: expected a signal with some power")
    ratio = np.mean(waveform**2) / np.mean(part**2) * 10.0 ** (-snr_db / 10.0)
    return waveform + np.sqrt(ratio) * part


def resampled(features: Sequence[np.ndarray], speeds: np.ndarray) -> list[np.ndarray]:
    """Play features (T, n_features) at the given speeds, by linear interpolation of frames."""
    T = np.array([len(f) for f in features])
    n_frames = np.maximum(1, np.rint(T / speeds)).astype(int)
    starts, ends = np.cumsum(T) - T, np.cumsum(n_frames)
    frame = np.arange(ends[-1]) - np.repeat(ends - n_frames, n_frames)
    place = frame * np.repeat((T - 1) / np.maximum(1, n_frames - 1), n_frames)
    before = np.minimum(place.astype(int), np.repeat(T - 1, n_frames))
    after = np.minimum(before + 1, np.repeat(T - 1, n_frames))
    share = (place - before).astype(np.float32)[:, None]
    first, frames = np.repeat(starts, n_frames), np.concatenate(features)
    mixed = (1 - share) * frames[first + before] + share * frames[first + after]
    return np.split(mixed, ends[:-1])
