"""Augmentation of features: variations of an utterance that leave its words as they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Augmentation:
    """Random variation of MFCC features.

    Attributes
    ----------
    speed : float
        The utterance is played 1 - speed to 1 + speed times as fast: frames are interpolated.
    channel : float
        Standard deviation of an offset of each coefficient, constant over the utterance, as
        another microphone or voice would make; in units of the coefficient's own deviation.
    noise : float
        Standard deviation of independent noise on every coefficient of every frame, in the same
        units.
    """

    speed: float = 0.15
    channel: float = 0.2
    noise: float = 0.2

    def __call__(
        self, features: np.ndarray, scale: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Return a variation of features.

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
        varied = resampled(features, rng.uniform(1 - self.speed, 1 + self.speed))
        offset = self.channel * rng.standard_normal(varied.shape[1], dtype=np.float32)
        noise = self.noise * rng.standard_normal(varied.shape, dtype=np.float32)
        return varied + (offset + noise) * scale


def resampled(features: np.ndarray, speed: float) -> np.ndarray:
    """Features (T, n_features) played `speed` times as fast, by linear interpolation of frames."""
    T = len(features)
    n_frames = max(1, round(T / speed))
    place = np.linspace(0, T - 1, n_frames, dtype=np.float32)
    before = place.astype(int)
    after = np.minimum(before + 1, T - 1)
    share = (place - before).astype(np.float32)[:, None]
    return (1 - share) * features[before] + share * features[after]
