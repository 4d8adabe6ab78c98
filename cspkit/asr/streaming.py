"""Recognition while the speech goes on: a front end for samples, a recogniser for frames.

Both take what has come in pieces of any size and keep a state of constant size, so that they can
run for hours.
"""

from __future__ import annotations

from math import ceil, gcd

import numpy as np
import scipy.signal
import torch

from cspkit.asr.features import (
    DYNAMIC_RANGE_DB,
    HOP,
    N_FFT,
    N_MFCC,
    SAMPLE_RATE,
    cepstra,
    checked_rate,
    decibels,
    mel_filters,
)
from cspkit.asr.search import MAX_SYMBOLS
from cspkit.asr.transducer import Transducer


class StreamingRecogniser:
    """Greedy decoding of feature frames as they come.

    The same cells are joined as in `greedy` on the whole utterance, so the words are the same,
    however the frames are cut into pieces. What is kept between pieces is the state of the two
    LSTMs, the frames that do not fill a stack yet, and the characters of a word that goes on.

    Parameters
    ----------
    model : Transducer
        In evaluation mode; it is not changed.

    Examples
    --------
    >>> recogniser = StreamingRecogniser(model)  # doctest: +SKIP
    >>> for frames in pieces:  # doctest: +SKIP
    ...     print(*recogniser.step(frames))
    >>> recogniser.finish()  # doctest: +SKIP
    """

    def __init__(self, model: Transducer) -> None:
        self.model = model
        self._start()

    @torch.no_grad()
    def step(self, frames: np.ndarray) -> list[str]:
        """Take the next frames and return the words that they bring.

        Parameters
        ----------
        frames : ndarray, shape (T, n_features)
            Raw features; T may be 0.

        Returns
        -------
        list of str

        Raises
        ------
        ValueError
            If `frames` has another shape or contains NaN or infinity; the state stays as it was.
        """
        frames = np.asarray(frames, dtype=np.float32)
        C, stack = self.model.config.n_features, self.model.config.stack
        if frames.ndim != 2 or frames.shape[1] != C:
            raise ValueError(f"frames have shape {frames.shape}: expected (T, {C})")
        if not np.isfinite(frames).all():
            raise ValueError("frames contain NaN or infinity")
        frames = np.concatenate([self._waiting, frames])
        whole = len(frames) // stack * stack
        self._waiting = frames[whole:].copy()
        if whole == 0:
            return []
        encoded, self._encoder = self.model.encode(
            torch.from_numpy(frames[:whole])[None].to(self.model.device), self._encoder
        )
        labels = [n for s in range(encoded.shape[1]) for n in self._emit(encoded[:, s : s + 1])]
        return self._words(labels)

    def finish(self) -> list[str]:
        """End the utterance: return the words that are left, and be ready for the next one.

        A model that writes characters ends a word with a space, so that the last word is left.
        Frames that do not fill a stack are dropped, as they are offline; an utterance shorter
        than one stack has no words.

        Returns
        -------
        list of str
        """
        words = [self._word] if self._word else []
        self._start()
        return words

    def _words(self, labels: list[int]) -> list[str]:
        """Words that labels complete."""
        units = [self.model.config.units[label] for label in labels]
        if not self.model.config.writes_characters:
            return units
        *words, self._word = (self._word + "".join(units)).split(" ")
        return [word for word in words if word]

    def _emit(self, encoded: torch.Tensor) -> list[int]:
        """Labels that one stacked frame (1, 1, encoder_size) emits."""
        labels = []
        for _ in range(MAX_SYMBOLS):
            best = self.model.join(encoded, self._predicted)[0, 0, 0].argmax()
            if best == self.model.config.blank:
                break
            labels.append(int(best))
            self._predicted, self._predictor = self.model.predict(best.view(1, 1), self._predictor)
        return labels

    @torch.no_grad()
    def _start(self) -> None:
        self._waiting = np.zeros((0, self.model.config.n_features), dtype=np.float32)
        self._encoder = None
        self._word = ""  # characters of a word that goes on
        start = torch.full((1, 1), self.model.config.blank, device=self.model.device)
        self._predicted, self._predictor = self.model.predict(start)


class StreamingMFCC:
    """MFCC features of audio as it comes: `mfcc`, but for the floor.

    Offline, decibels are floored 80 dB under the loudest value of the whole recording. Here the
    loudest value so far stands for it: frames before the loudest one may keep quieter bands than
    they do offline. From the loudest frame on, features are the same. On the 415 test strings of
    fold 0, joined as audio, a fifth of the frames differ, in half of them by less than 1.1 (the
    first coefficient varies by 145), and the recorded model makes the same 19 errors in 1,620
    words of both.

    A frame comes out when the 25 ms after its centre have come in, the last one in `finish`.

    Parameters
    ----------
    sample_rate : int
        Of the samples, in Hz; rates other than 8 kHz are resampled.

    Raises
    ------
    ValueError
        If `sample_rate` is not a positive integer.
    """

    def __init__(self, sample_rate: int = SAMPLE_RATE) -> None:
        self.sample_rate = checked_rate(sample_rate)
        self._start()

    def step(self, samples: np.ndarray) -> np.ndarray:
        """Take the next samples and return the frames that they complete.

        Parameters
        ----------
        samples : ndarray, shape (n_samples,)
            In [-1, 1]; there may be none.

        Returns
        -------
        ndarray, shape (T, 13)
            float32; T may be 0.

        Raises
        ------
        ValueError
            If `samples` is no vector or contains NaN or infinity; the state stays as it was.
        """
        samples = np.asarray(samples, dtype=np.float64)
        if samples.ndim != 1:
            raise ValueError(f"samples have shape {samples.shape}: expected one channel, (n,)")
        if not np.isfinite(samples).all():
            raise ValueError("samples contain NaN or infinity")
        return self._frames(self._resampler.step(samples))

    def finish(self) -> np.ndarray:
        """End the recording: return its last frames, and be ready for the next one.

        Returns
        -------
        ndarray, shape (T, 13)
            Nothing where fewer than 201 samples (at 8 kHz) came in: `mfcc` refuses those.
        """
        frames = [self._frames(self._resampler.finish())]
        if self._started:
            missing = N_FFT + 1 - len(self._samples)
            frames.append(self._frames(self._samples[-2 : -2 - missing : -1]))
        self._start()
        return np.concatenate(frames)

    def _frames(self, samples: np.ndarray) -> np.ndarray:
        """Frames that samples at 8 kHz complete."""
        self._samples = np.concatenate([self._samples, samples])
        if not self._started:
            if len(self._samples) <= N_FFT // 2:
                return np.zeros((0, N_MFCC), dtype=np.float32)
            # One sample more than the window is kept: at the end, the reflection can reach it.
            edge = self._samples[N_FFT // 2 : 0 : -1]
            self._samples = np.concatenate([[0.0], edge, self._samples])
            self._started = True
        count = (len(self._samples) - 1 - N_FFT) // HOP + 1
        if count <= 0:
            return np.zeros((0, N_MFCC), dtype=np.float32)
        bands = decibels(
            np.lib.stride_tricks.sliding_window_view(self._samples[1:], N_FFT)[::HOP], mel_filters()
        )
        self._samples = self._samples[HOP * count :].copy()
        loudest = np.maximum.accumulate(np.maximum(bands.max(axis=1), self._loudest))
        self._loudest = loudest[-1]
        return cepstra(np.maximum(bands, loudest[:, None] - DYNAMIC_RANGE_DB))

    def _start(self) -> None:
        self._resampler = _StreamingResampler(self.sample_rate)
        self._samples = np.zeros(0)
        self._started = False
        self._loudest = -np.inf


class _StreamingResampler:
    """`features.resample` in pieces: outputs wait until all samples under the filter are there."""

    def __init__(self, sample_rate: int) -> None:
        common = gcd(sample_rate, SAMPLE_RATE)
        self._up, self._down = SAMPLE_RATE // common, sample_rate // common
        # Of the filter that resample_poly designs, in samples of the input.
        self._reach = (
            0 if self._up == self._down else 10 * max(self._up, self._down) // self._up + 1
        )
        self._samples = np.zeros(0)
        self._next = 0  # output that comes next, counted from that of the first kept sample

    def step(self, samples: np.ndarray) -> np.ndarray:
        """Outputs that are complete."""
        self._samples = np.concatenate([self._samples, samples])
        return self._until((len(self._samples) - self._reach) * self._up // self._down)

    def finish(self) -> np.ndarray:
        """Outputs that are left, as if zeros followed."""
        return self._until(ceil(len(self._samples) * self._up / self._down))

    def _until(self, end: int) -> np.ndarray:
        if end <= self._next:
            return np.zeros(0)
        outputs = scipy.signal.resample_poly(self._samples, self._up, self._down)[self._next : end]
        # Dropping `down` samples moves the outputs by `up`, exactly.
        drop = max(0, (end * self._down // self._up - self._reach) // self._down)
        self._samples = self._samples[drop * self._down :].copy()
        self._next = end - drop * self._up
        return outputs
