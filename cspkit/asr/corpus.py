"""The embedded corpus: 3,000 recorded digits of six speakers, as MFCC features.

The split is by take, the number of the session in which a speaker said all ten digits: a
recording is in one part only. Every fold has the same dev part, takes 45-49; fold i tests on the
nine takes from 9i on and trains on the rest. What is recognised are strings of one to seven
digits, joined from recordings of one speaker (`joined`).

A second, harder split holds out a speaker: with a speaker's name in place of the fold, the test
part is what that speaker says, and nothing of it is in the other two parts.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cspkit.asr.features import HOP, SAMPLE_RATE

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PARTS = ("train", "dev", "test")
N_FOLDS = 5
MAX_DIGITS = 7
_DEV_TAKES = range(45, 50)
_TAKES_PER_FOLD = 9


def data_folder() -> Path:
    """Folder of the embedded data: `CSPKIT_DATA` where it is set, else `data/` of the project."""
    return Path(os.environ.get("CSPKIT_DATA", Path(__file__).parents[2] / "data"))


@dataclass(frozen=True)
class Utterance:
    """What one speaker says, once.

    Attributes
    ----------
    features : ndarray, shape (T, n_mfcc)
        Raw MFCC frames, float32, one every 25 ms.
    text : str
        The words, separated by single spaces.
    speaker : str
    id : str
        Unique in its corpus. A joined utterance has the ids of its recordings, joined by "+".
    take : int
        Number of the recording session, or -1 where there is none.
    """

    features: np.ndarray
    text: str
    speaker: str
    id: str
    take: int = -1

    def __post_init__(self) -> None:
        if not self.text.split():
            raise ValueError(f"text of utterance {self.id!r} is empty: expected at least one word")
        if self.features.ndim != 2 or len(self.features) == 0:
            raise ValueError(
                f"features of utterance {self.id!r} have shape {self.features.shape}: "
                "expected (T, n_mfcc) with T >= 1"
            )
        if not np.isfinite(self.features).all():
            raise ValueError(f"features of utterance {self.id!r} contain NaN or infinity")


@dataclass(frozen=True)
class Corpus:
    """A list of recordings and the rule that splits them.

    Attributes
    ----------
    recordings : tuple of Utterance
    """

    recordings: tuple[Utterance, ...]

    def speakers(self) -> list[str]:
        """Names of the speakers, sorted."""
        return sorted({r.speaker for r in self.recordings})

    def split(self, part: str, fold: int | str = 0) -> list[Utterance]:
        """Return the recordings of one part.

        Parameters
        ----------
        part : {"train", "dev", "test"}
        fold : int or str
            0 to 4, with the same dev part in all; or the name of the speaker who is held out.

        Returns
        -------
        list of Utterance

        Raises
        ------
        ValueError
            If `part` or `fold` is not one of these.
        """
        if part not in PARTS:
            raise ValueError(f"part is {part!r}: expected one of {', '.join(PARTS)}")
        if isinstance(fold, str):
            return self._split_by_speaker(part, fold)
        if fold not in range(N_FOLDS):
            raise ValueError(f"fold is {fold!r}: expected 0 to {N_FOLDS - 1}, or a speaker's name")
        tested = range(_TAKES_PER_FOLD * fold, _TAKES_PER_FOLD * (fold + 1))

        def part_of(recording: Utterance) -> str:
            if recording.take in _DEV_TAKES:
                return "dev"
            return "test" if recording.take in tested else "train"

        return [r for r in self.recordings if part_of(r) == part]

    def _split_by_speaker(self, part: str, speaker: str) -> list[Utterance]:
        if speaker not in self.speakers():
            raise ValueError(f"fold is {speaker!r}: expected one of {', '.join(self.speakers())}")

        def part_of(recording: Utterance) -> str | None:
            in_dev = recording.take in _DEV_TAKES
            if recording.speaker == speaker:
                return None if in_dev else "test"
            return "dev" if in_dev else "train"

        return [r for r in self.recordings if part_of(r) == part]

    def word_ends(self, utterance: Utterance) -> list[float]:
        """Seconds from the start of a joined utterance to the end of each of its recordings."""
        frames = {r.id: len(r.features) for r in self.recordings}
        lengths = [frames[name] for name in utterance.id.split("+")]
        return [float(end) for end in np.cumsum(lengths) * HOP / SAMPLE_RATE]

    def strings(self, part: str, fold: int | str = 0) -> list[Utterance]:
        """Return the joined utterances that a dev or test part is scored on.

        Every recording of the part occurs in exactly three of them. The list is a function of
        part and fold alone.

        Parameters
        ----------
        part : {"dev", "test"}
        fold : int or str
            See `split`.

        Returns
        -------
        list of Utterance
        """
        if part == "train":
            raise ValueError("part is 'train': training strings are drawn, see DigitTask.batches")
        return joined_strings(self.split(part, fold), passes=3, rng=np.random.default_rng(0))


def joined(recordings: Sequence[Utterance]) -> Utterance:
    """Join recordings of one speaker into one utterance, with no gap between them."""
    speakers = {r.speaker for r in recordings}
    if len(speakers) != 1:
        raise ValueError(f"recordings are by {sorted(speakers)}: expected exactly one speaker")
    return replace(
        recordings[0],
        features=np.concatenate([r.features for r in recordings]),
        text=" ".join(r.text for r in recordings),
        id="+".join(r.id for r in recordings),
        take=-1,
    )


def joined_strings(
    recordings: Iterable[Utterance], passes: int, rng: np.random.Generator
) -> list[Utterance]:
    """Join recordings into strings of 1 to 7 digits, each recording in `passes` strings.

    In each pass the recordings of every speaker are shuffled and cut into strings whose lengths
    are uniform in 1-7; the last string of a speaker takes what is left.
    """
    by_speaker: dict[str, list[Utterance]] = {}
    for recording in recordings:
        by_speaker.setdefault(recording.speaker, []).append(recording)
    strings = []
    for _ in range(passes):
        for speaker in sorted(by_speaker):
            order = [by_speaker[speaker][i] for i in rng.permutation(len(by_speaker[speaker]))]
            while order:
                length = int(rng.integers(1, MAX_DIGITS + 1))
                strings.append(joined(order[:length]))
                order = order[length:]
    return strings


def load_spoken_digits() -> Corpus:
    """Load the embedded corpus after checking its SHA-256.

    Returns
    -------
    Corpus
        3,000 recordings: ten digits, six speakers, fifty takes.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing or damaged; the message says how to get it back.

    References
    ----------
    Jackson et al., "Free Spoken Digit Dataset", doi:10.5281/zenodo.1342401 (CC BY-SA 4.0).
    """
    folder = data_folder() / "digits"
    verify_checksums(folder)
    with np.load(folder / "features.npz") as arrays:
        ends = np.cumsum(arrays["lengths"])
        parts = np.split(arrays["features"], ends[:-1])
    with (folder / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return Corpus(
        tuple(
            Utterance(
                features=features,
                text=DIGITS[int(row["digit"])],
                speaker=row["speaker"],
                id=f"{row['digit']}_{row['speaker']}_{row['take']}",
                take=int(row["take"]),
            )
            for row, features in zip(rows, parts, strict=True)
        )
    )


def verify_checksums(folder: Path) -> None:
    """Compare the files of a data folder with its SHA256SUMS; raise an error that says what to do.

    Raises
    ------
    FileNotFoundError, ValueError
    """
    repair = "restore it with `git checkout -- data`, or make it anew as data/README.md says"
    sums = folder / "SHA256SUMS"
    if not sums.is_file():
        raise FileNotFoundError(f"{sums} is missing: {repair}")
    for line in sums.read_text().splitlines():
        expected, name = line.split(maxsplit=1)
        file = folder / name
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing: {repair}")
        if hashlib.sha256(file.read_bytes()).hexdigest() != expected:
            raise ValueError(f"{file} is damaged (its SHA-256 is not the recorded one): {repair}")
