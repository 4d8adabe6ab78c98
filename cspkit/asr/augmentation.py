"""Augmentation of features: variations of an utterance that leave its words as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cspkit.arguments import count
from cspkit.asr.features import (
    N_FFT,
    N_MELS,
    SAMPLE_RATE,
    cepstra,
    deltas,
    mel_filters,
    smoothed_bands,
)
from cspkit.asr.warping import warped


@dataclass(frozen=True)
class Augmentation:
    """Random variation of MFCC features; what is not asked for is off.

    Noise at a signal-to-noise ratio and frequency masks need bands: the coefficients go back
    through the inverse DCT to a log mel spectrum, smooth since most coefficients are cut off,
    and forth again.

    Attributes
    ----------
    speed : float
        The utterance is played 1 - speed to 1 + speed times as fast: frames are interpolated.
    warp : float
        The formants of the utterance are moved to 1 - warp to 1 + warp times their frequency, as
        a shorter or longer vocal tract has them, see `cspkit.asr.warping`; below 0.4.
    channel : float
        Standard deviation of an offset of each coefficient, constant over the utterance, as
        another microphone or voice would make; in units of the coefficient's own deviation.
    noise : float
        Standard deviation of independent noise on every coefficient of every frame, in the same
        units.
    gain : float
        The utterance is made -gain to +gain dB louder: g dB are g sqrt(128) on the first
        coefficient, and nothing on the others.
    snr : tuple of float, optional
        Lowest and highest signal-to-noise ratio in dB of steady noise, whose spectrum falls by
        0 to 3 dB per octave (white to pink).
    frequency_masks : tuple of int
        Number of masks, and the most of the 128 mel bands that one covers; the bands keep their
        mean over the utterance.
    time_masks : tuple of int
        Number of masks, and the most frames that one covers; the frames get the mean of the
        utterance.
    deltas : int
        Orders of deltas behind the cepstra, as `cspkit.asr.deltas` makes them: 1 for slopes, 2
        for accelerations too. The cepstra are varied, and the deltas made anew from them.

    Raises
    ------
    ValueError
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
        if not 0 <= self.speed < 1:
            raise ValueError(f"speed is {self.speed!r}: expected a number in [0, 1)")
        if not 0 <= self.warp < 0.4:
            raise ValueError(f"warp is {self.warp!r}: expected a number in [0, 0.4)")
        for name in ("channel", "noise", "gain"):
            value = getattr(self, name)
            if not 0 <= value < np.inf:
                raise ValueError(f"{name} is {value!r}: expected a number from 0")
        count("deltas", self.deltas, least=0)
        if self.snr is not None:
            low, high = _pair("snr", self.snr, "(lowest, highest) in dB")
            if not -np.inf < low <= high < np.inf:
                raise ValueError(f"snr is {self.snr!r}: expected (lowest, highest) in dB")
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
        """Return a variation of each of some utterances, in one sweep over all their frames.

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
        """
        if len(features) == 0:
            return []
        N, C = len(features), features[0].shape[1] // (1 + self.deltas)
        if C * (1 + self.deltas) != features[0].shape[1]:
            raise ValueError(
                f"features have {features[0].shape[1]} columns: expected a multiple of "
                f"{1 + self.deltas}, with deltas = {self.deltas}"
            )
        features, scale = [f[:, :C] for f in features], scale[:C]
        varied = resampled(features, rng.uniform(1 - self.speed, 1 + self.speed, size=N))
        # Warp, bands and gain draw nothing where they are off: the other numbers stay as they are.
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
        bands = masked(bands.T, *self.frequency_masks, rng, along=1).T
        return cepstra(bands, features.shape[1])


def with_deltas(features: np.ndarray, orders: int) -> np.ndarray:
    """Features (T, C), their deltas, the deltas of these, ...: (T, C (1 + orders))."""
    parts = [features]
    for _ in range(orders):
        parts.append(deltas(parts[-1]))
    return np.concatenate(parts, axis=1).astype(np.float32)


def _pair(name: str, value: object, expected: str) -> tuple:
    if not isinstance(value, Sequence) or len(value) != 2:
        raise ValueError(f"{name} is {value!r}: expected {expected}")
    return value


def masked(
    rows: np.ndarray, count: int, width: int, rng: np.random.Generator, along: int = 0
) -> np.ndarray:
    """Put `count` masks of up to `width` rows over a copy of `rows`.

    What is masked becomes the mean along axis `along`.
    """
    hidden = np.zeros((len(rows), 1), dtype=bool)
    for _ in range(count):
        length = int(rng.integers(0, min(width, len(rows)) + 1))
        first = int(rng.integers(0, len(rows) - length + 1))
        hidden[first : first + length] = True
    return np.where(hidden, rows.mean(axis=along, keepdims=True), rows)


def noisy_bands(
    bands: np.ndarray, snr_db: float, colour: float, rng: np.random.Generator
) -> np.ndarray:
    """Mel bands in dB (T, 128) of a sound to which steady noise was added.

    The filters share the spectrum out among them, so the power of all bands is that of the
    sound. The noise has a spectrum f^(-colour); its power in a band and frame is exponentially
    distributed, as that of a bin of a Gaussian signal is, with a mean of e^0.577: its mean in dB
    is then 0, since bands that were smoothed in dB show the mean of dB of their sound, too.
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
        Of the same sample rate. A part of it, which starts anywhere, is used; a short one is
        repeated.
    snr_db : float
        Signal-to-noise ratio, in dB.
    rng : np.random.Generator

    Returns
    -------
    ndarray, shape (n_samples,)
        float64; it may leave [-1, 1].

    Raises
    ------
    ValueError
        If `waveform` or `noise` is no finite vector or has no power, or `snr_db` is not finite.
    """
    waveform, noise = np.asarray(waveform, np.float64), np.asarray(noise, np.float64)
    for name, samples in (("waveform", waveform), ("noise", noise)):
        if samples.ndim != 1 or len(samples) == 0:
            raise ValueError(f"{name} has shape {samples.shape}: expected one channel, (n,)")
        if not np.isfinite(samples).all():
            raise ValueError(f"{name} contains NaN or infinity")
    if not np.isfinite(snr_db):
        raise ValueError(f"snr_db is {snr_db!r}: expected a finite number")
    first = int(rng.integers(len(noise)))
    part = np.take(noise, np.arange(first, first + len(waveform)), mode="wrap")
    for name, samples in (("waveform", waveform), ("noise", part)):
        if not samples.any():
            raise ValueError(f"{name} is silent: expected some power, to which snr_db refers")
    ratio = np.mean(waveform**2) / np.mean(part**2) * 10.0 ** (-snr_db / 10.0)
    return waveform + np.sqrt(ratio) * part


def resampled(features: Sequence[np.ndarray], speeds: np.ndarray) -> list[np.ndarray]:
    """Each (T, n_features) played at its speed, by linear interpolation of frames."""
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
