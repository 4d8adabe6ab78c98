"""The embedded corpus: 3,000 recorded digits of six speakers, as MFCC features.

The recordings are split by take. A take is a session in which a speaker said all ten digits. Every
recording belongs to one take, so it is in exactly one part. All folds have the same dev part, takes
45-49. Fold i tests on the nine takes 9i to 9i + 8, and trains on the rest. A recogniser is trained
and tested on strings of one to seven digits, joined from recordings of one speaker (`joined`).

A second, harder split holds out a speaker: give the name of the speaker instead of the number of
the fold. The test part then has all recordings of this speaker except those in takes 45-49. The
train and dev parts have no recording of this speaker.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cspkit.arguments import ArgumentError, one_of
from cspkit.asr.features import HOP, SAMPLE_RATE, checked_frames

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PARTS = ("train", "dev", "test")
N_FOLDS = 5
MAX_DIGITS = 7
_DEV_TAKES = range(45, 50)
_TAKES_PER_FOLD = 9


def data_folder() -> Path:
    """Return the folder of the embedded data.

    The environment variable `CSPKIT_DATA` can name the folder. Otherwise it is the `data` folder
    of this project: inside an installed package, and next to the package in a clone.
    """
    package = Path(__file__).parents[1]
    installed = package / "data"
    default = installed if installed.is_dir() else package.with_name("data")
    return Path(os.environ.get("CSPKIT_DATA") or default)


@dataclass(frozen=True)
class Utterance:
    """One utterance of one speaker.

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
        Number of the recording session, or -1 if there is none.

    Raises
    ------
    ArgumentError
        If `text` is not a string with at least one word, or `features` is not a finite matrix with
        at least one frame.
    """

    features: np.ndarray
    text: str
    speaker: str
    id: str
    take: int = -1

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.split():
            raise ArgumentError(
                f"text of utterance {self.id!r} is {self.text!r}: expected a string with at least "
                "one word"
            )
        features = checked_frames(self.features, f"features of utterance {self.id!r}")
        object.__setattr__(self, "features", features)  # lists become arrays


@dataclass(frozen=True)
class Corpus:
    """A list of recordings, and the rules that split it.

    Attributes
    ----------
    recordings : sequence of Utterance
    """

    recordings: Sequence[Utterance]

    @staticmethod
    def from_manifest(
        path: str | Path,
        dev: str | Path | None = None,
        test: str | Path | None = None,
        *,
        by: str | None = None,
        cache: str | Path | None = None,
        rules: str = "as-is-1",
    ) -> Corpus:
        """Read a corpus from one manifest, or from one for each part.

        A line of a manifest that cannot be used is left out. The sound is read, and its features
        are computed, when an utterance is asked for.

        Parameters
        ----------
        path : str or Path
            Manifest as NeMo writes it, see `cspkit.asr.manifest`. It is the training part if `dev`
            and `test` are given.
        dev, test : str or Path, optional
            Manifests of the other parts.
        by : str, optional
            How one manifest is split, see `cspkit.asr.manifest_corpus.lines_of`. The default is
            "speaker" if every line names its speaker and there are three or more, otherwise
            "random".
        cache : str or Path, optional
            Folder that keeps the features, see `cspkit.asr.recordings.Recordings`.
        rules : str
            How texts are normalised, see `cspkit.asr.text.normalised`.

        Returns
        -------
        ManifestCorpus

        Raises
        ------
        FileNotFoundError
            If a manifest does not exist.
        ArgumentError
            If no line of a manifest can be used, or an argument is wrong.

        Warns
        -----
        UserWarning
            If a speaker of the training part also speaks in another part.
        """
        from cspkit.asr.manifest_corpus import read_manifests

        return read_manifests(path, dev, test, by, cache, rules)

    @staticmethod
    def from_librispeech(
        train: str | Path,
        dev: str | Path,
        test: str | Path,
        *,
        manifests: str | Path,
        cache: str | Path | None = None,
        rules: str = "as-is-1",
    ) -> Corpus:
        """Read a corpus from folders that are laid out like LibriSpeech.

        Parameters
        ----------
        train, dev, test : str or Path
            Folders such as train-clean-100, dev-clean, test-clean.
        manifests : str or Path
            Folder that gets a manifest for each part, train.jsonl, dev.jsonl and test.jsonl.
        cache, rules
            See `from_manifest`.

        Returns
        -------
        ManifestCorpus

        Raises
        ------
        FileNotFoundError, ArgumentError
            As `cspkit.asr.manifest.librispeech_entries`.
        """
        from cspkit.asr.manifest import librispeech_entries, write_manifest

        files = [Path(manifests) / f"{part}.jsonl" for part in PARTS]
        for folder, file in zip((train, dev, test), files, strict=True):
            write_manifest(file, librispeech_entries(folder))
        return Corpus.from_manifest(*files, cache=cache, rules=rules)

    def speakers(self) -> list[str]:
        """Return the names of the speakers, sorted."""
        return sorted({r.speaker for r in self.recordings})

    def split(self, part: str, fold: int | str = 0) -> list[Utterance]:
        """Return the recordings of one part.

        Parameters
        ----------
        part : {"train", "dev", "test"}
        fold : int or str
            0 to 4, or the name of the speaker to hold out.

        Returns
        -------
        list of Utterance

        Raises
        ------
        ArgumentError
            If there is no such part or fold.
        """
        one_of("part", part, PARTS)
        by_speaker = isinstance(fold, str)
        if by_speaker and fold not in self.speakers():
            raise ArgumentError(f"fold is {fold!r}: expected one of {', '.join(self.speakers())}")
        if not by_speaker and (isinstance(fold, bool) or fold not in range(N_FOLDS)):
            raise ArgumentError(
                f"fold is {fold!r}: expected 0 to {N_FOLDS - 1}, or the name of a speaker"
            )

        def part_of(recording: Utterance) -> str | None:
            in_dev = recording.take in _DEV_TAKES
            if by_speaker and recording.speaker == fold:
                return None if in_dev else "test"
            tested = not by_speaker and recording.take // _TAKES_PER_FOLD == fold
            return "dev" if in_dev else "test" if tested else "train"

        return [r for r in self.recordings if part_of(r) == part]

    def word_ends(self, utterance: Utterance) -> list[float]:
        """Return the end of each recording in a joined utterance.

        The ends are in seconds from the start of the utterance.

        Raises
        ------
        ArgumentError
            If the utterance was not joined from recordings of this corpus.
        """
        frames = {r.id: len(r.features) for r in self.recordings}
        names = [utterance.id] if utterance.id in frames else utterance.id.split("+")
        if unknown := set(names) - set(frames):
            raise ArgumentError(
                f"utterance has the id {utterance.id!r}: expected ids of recordings of this "
                f"corpus, but the corpus has no {min(unknown)!r}"
            )
        lengths = [frames[name] for name in names]
        return [float(end) for end in np.cumsum(lengths) * HOP / SAMPLE_RATE]

    def strings(self, part: str, fold: int | str = 0) -> list[Utterance]:
        """Return the joined utterances that are used to score a recogniser on dev or test.

        Every recording of the part occurs in exactly three utterances. The list depends only on the
        part and the fold.

        Parameters
        ----------
        part : {"dev", "test"}
        fold : int or str
            See `split`.

        Returns
        -------
        list of Utterance

        Raises
        ------
        ArgumentError
            If there is no such part or fold.
        """
        if part == "train":
            raise ArgumentError(
                "part is 'train': expected 'dev' or 'test'; DigitTask.batches draws random strings "
                "for training"
            )
        return joined_strings(self.split(part, fold), passes=3, rng=np.random.default_rng(0))


def joined(recordings: Sequence[Utterance], features: np.ndarray | None = None) -> Utterance:
    """Join recordings of one speaker into one utterance, without gaps.

    Parameters
    ----------
    recordings : sequence of Utterance
    features : ndarray, shape (T, n_features), optional
        A variation of their features, to use in place of the features themselves.

    Raises
    ------
    ArgumentError
        If there are no recordings, or they are not by the same speaker.
    """
    speakers = {r.speaker for r in recordings}
    if len(speakers) != 1:
        raise ArgumentError(f"recordings are by {sorted(speakers)}: expected exactly one speaker")
    return replace(
        recordings[0],
        features=joined_features(recordings) if features is None else features,
        text=" ".join(r.text for r in recordings),
        id="+".join(r.id for r in recordings),
        take=-1,
    )


def joined_features(recordings: Sequence[Utterance]) -> np.ndarray:
    """Return the features of all recordings, one after the other."""
    return np.concatenate([r.features for r in recordings])


def joined_strings(
    recordings: Iterable[Utterance], passes: int, rng: np.random.Generator
) -> list[Utterance]:
    """Join recordings into strings of 1 to 7 digits. Each recording is in `passes` strings.

    Each pass shuffles the recordings of every speaker, and cuts them into strings. The length of a
    string is uniformly random from 1 to 7, but the last string of a speaker may be shorter: it has
    the recordings that are left.
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
    """Check the SHA-256 of the embedded corpus, and load it.

    Returns
    -------
    Corpus
        3,000 recordings: ten digits, six speakers, fifty takes.

    Raises
    ------
    FileNotFoundError, ArgumentError
        If a file is missing or damaged; the message says how to restore it.

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
    """Compare the files of a data folder with its SHA256SUMS.

    Raises
    ------
    FileNotFoundError, ArgumentError
        If a file is missing or damaged; the message says how to restore it.
    """
    repair = "in a clone, restore it with `git checkout -- data`; otherwise install cspkit again"
    sums = folder / "SHA256SUMS"
    if not sums.is_file():
        raise FileNotFoundError(f"{sums} is missing: {repair}")
    for line in sums.read_text().splitlines():
        expected, name = line.split(maxsplit=1)
        file = folder / name
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing: {repair}")
        if hashlib.sha256(file.read_bytes()).hexdigest() != expected:
            raise ArgumentError(
                f"{file} is damaged (its SHA-256 is not the recorded one): {repair}"
            )
