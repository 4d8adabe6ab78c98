"""Audio files, read as one channel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from pathlib import Path

import numpy as np
import soundfile

from cspkit.arguments import ArgumentError
from cspkit.files import existing_file

LEAST_RATE, MOST_RATE = 1000, 768_000  # sample rates of recordings, in Hz
BLOCK = 2**16  # number of samples read at a time
MOST_SAMPLES = 2**27  # of an audio file: 4.6 hours at 8 kHz, 46 minutes at 48 kHz
TOO_LONG = f"more than {MOST_SAMPLES} samples: expected a shorter recording, or parts of this one"
UNKNOWN = 2**63 - 1  # the length that libsndfile gives for a file that was recorded to a pipe
LOUDEST = 1e30  # the power of a louder sample is not finite


def load_audio(path: str | Path) -> tuple[np.ndarray, int]:
    """Read an audio file as one channel.

    Parameters
    ----------
    path : str or Path
        A file of any format that libsndfile recognises (wav, flac, ogg, mp3, ...). The result is
        the mean of its channels.

    Returns
    -------
    waveform : ndarray, shape (n_samples,)
        float64 in [-1, 1].
    sample_rate : int
        In Hz.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ArgumentError
        If the path is a folder or another special file, or if the file is not audio, is damaged,
        contains no samples, NaN, infinity or samples beyond 1e30, has more than 2^27 samples
        (46 minutes at 48 kHz), or has a sample rate outside 1 kHz to 768 kHz.
    """
    blocks, n = [np.zeros(0)], 0
    with _opened(path) as audio, np.errstate(over="ignore", invalid="ignore"):
        while len(block := audio.read(BLOCK, always_2d=True)):
            blocks.append(block.mean(axis=1))
            n += len(block)
            if n > MOST_SAMPLES:
                raise ArgumentError(TOO_LONG)
    waveform = np.concatenate(blocks)
    if n == 0:
        raise ArgumentError(f"{path} holds no samples: expected a recording")
    if not np.abs(waveform).max() <= LOUDEST:
        raise ArgumentError(
            f"{path} contains NaN or infinity, or samples beyond {LOUDEST:g}: "
            "expected samples in [-1, 1]"
        )
    return waveform, audio.samplerate


def audio_seconds(path: str | Path) -> float:
    """Return the length of an audio file in seconds.

    The file is decoded only if its header does not give its length.

    Raises
    ------
    FileNotFoundError, ArgumentError
        As `load_audio`, as far as the header shows it.
    """
    with _opened(path) as audio:
        if audio.frames != UNKNOWN:
            return audio.frames / audio.samplerate
    waveform, sample_rate = load_audio(path)
    return len(waveform) / sample_rate


@contextmanager
def _opened(path: str | Path) -> Iterator[soundfile.SoundFile]:
    """Open an audio file. The errors name the file."""
    path = existing_file(path)
    try:
        with path.open("rb") as file, _Sequential(file.fileno(), closefd=False) as audio:
            checked_rate(audio.samplerate)
            if MOST_SAMPLES < audio.frames != UNKNOWN:
                raise ArgumentError(TOO_LONG)
            yield audio
    except soundfile.LibsndfileError as error:
        raise ArgumentError(
            f"{path} is no audio file that can be read: {error.error_string}"
        ) from None
    except ArgumentError as error:
        raise ArgumentError(f"{path}: {error}") from None


class _Sequential(soundfile.SoundFile):
    """An audio file that is read from start to end.

    soundfile seeks after every read. This fails in a FLAC file of unknown length. A program that
    records to a pipe writes a file of this kind.
    """

    def seekable(self) -> bool:
        return False


def checked_rate(sample_rate: int) -> int:
    """Return a sample rate in Hz as an int.

    Raises
    ------
    ArgumentError
        If the rate is not a whole number from 1,000 to 768,000.
    """
    number = isinstance(sample_rate, Real) and not isinstance(sample_rate, bool)
    if not number or not LEAST_RATE <= sample_rate <= MOST_RATE or sample_rate % 1:
        raise ArgumentError(
            f"sample_rate is {sample_rate!r}: expected a whole number of Hz from {LEAST_RATE} to "
            f"{MOST_RATE}"
        )
    return int(sample_rate)
