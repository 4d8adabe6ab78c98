"""Manifests: lists of recordings as JSON lines, as NeMo writes them.

A line is an object with `audio_filepath` and `text`, and optionally `duration` and `offset` in
seconds, `speaker`, and further fields, which are kept. A relative path is relative to the folder of
the manifest.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cspkit.arguments import ArgumentError, one_of
from cspkit.asr.audio import audio_seconds
from cspkit.asr.manifest_lines import LONGEST_LINE, Fault, fault, parsed, read_lines
from cspkit.asr.text import RULES
from cspkit.asr.transducer_config import TransducerConfig
from cspkit.files import existing_file, replacing

AUDIO = (".wav", ".flac", ".ogg", ".mp3")
SLACK = 0.05  # seconds by which a segment may end after its file
SHOWN = 1000  # faults that are kept; the others are only counted


@dataclass(frozen=True)
class Entry:
    """One line of a manifest.

    Attributes
    ----------
    line : int
        Number of the line, from 1.
    audio : Path
    text : str
    offset : float
        Start of the utterance in the file, in seconds.
    duration : float or None
        Length of the utterance in seconds; None for all that follows `offset`.
    speaker : str
        Empty if it is not known.
    fields : dict
        All fields as they stand in the line.
    """

    line: int
    audio: Path
    text: str
    offset: float = 0.0
    duration: float | None = None
    speaker: str = ""
    fields: dict[str, Any] = field(default_factory=dict)


class Manifest(Sequence[Entry]):
    """The usable lines of a manifest. A line is read when it is asked for.

    Of each line only its place, its duration and its speaker are kept in memory, so a manifest may
    have millions of lines. Lines that cannot be used are left out and counted. Audio files are not
    opened, see `check_manifest`.

    Parameters
    ----------
    path : str or Path
    config : TransducerConfig, optional
        If it is given, the text of a line must consist of its units.
    rules : str
        How texts are normalised, see `cspkit.asr.text.normalised`.

    Attributes
    ----------
    path : Path
    rules : str
    sha256 : str
        Of the file.
    durations : ndarray, shape (n_lines,)
        Seconds, float32; nan if a line has none.
    speakers : list of str
        Sorted names.
    speaker_of : ndarray of int, shape (n_lines,)
        Index of each line's speaker in `speakers`.
    faults : list of Fault
        The first 1,000 lines that were left out.
    n_faults : int

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ArgumentError
        If the path is a folder or another special file.
    """

    def __init__(
        self,
        path: str | Path,
        config: TransducerConfig | None = None,
        rules: str = "as-is-1",
    ) -> None:
        self.path, self.rules = existing_file(path), one_of("rules", rules, tuple(RULES))
        places, numbers, durations, speakers = [], [], [], []
        names: dict[str, int] = {}
        self.faults: list[Fault] = []
        self.n_faults = 0
        for place, number, line in read_lines(self.path):
            try:
                _, _, _, duration, speaker, _ = parsed(line, config, rules)
            except ArgumentError as error:
                self.n_faults += 1
                if len(self.faults) < SHOWN:
                    self.faults.append(fault(number, error))
                continue
            places.append(place)
            numbers.append(number)
            durations.append(math.nan if duration is None else duration)
            speakers.append(names.setdefault(speaker, len(names)))
        self._places, self._numbers = np.array(places, dtype=np.int64), np.array(numbers, np.int64)
        with self.path.open("rb") as file:
            self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        self.durations = np.array(durations, dtype=np.float32)
        self.speakers = sorted(names)
        order = np.argsort(np.argsort(list(names))) if names else np.zeros(0, dtype=np.int64)
        self.speaker_of = order[np.array(speakers, dtype=np.int64)]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, i: int) -> Entry:
        """Return line i of the usable lines, counted from 0."""
        with self.path.open("rb") as file:
            file.seek(int(self._places[i]))
            line = file.readline(LONGEST_LINE)
        return _entry(line, self.line_of(i), self.path.parent, None, self.rules)

    def line_of(self, i: int) -> int:
        """Return the number of line i of the usable lines in the file, from 1."""
        return int(self._numbers[i])


@dataclass(frozen=True)
class Checked:
    """The result of `check_manifest`.

    Attributes
    ----------
    path : Path
    n_good : int
        Lines that can be used.
    seconds : float
        Of the utterances of these lines.
    faults : list of Fault
        The other lines, in order.
    units : Counter
        How often each word occurs in the good lines.
    """

    path: Path
    n_good: int
    seconds: float
    faults: list[Fault]
    units: Counter[str]


def check_manifest(
    path: str | Path,
    *,
    config: TransducerConfig | None = None,
    others: Iterable[str | Path] = (),
    out: str | Path | None = None,
    rules: str = "as-is-1",
) -> Checked:
    """Check every line of a manifest, including its audio file.

    A line is wrong if it is no JSON object; lacks a field or has one of a wrong type; has no word;
    has a unit that `config` does not have; names a file that is missing or is not audio; names a
    segment beyond the end of its file; has the same audio file and offset as an earlier line; or
    has a speaker that occurs in one of the `others`.

    Parameters
    ----------
    path : str or Path
    config : TransducerConfig, optional
    others : iterable of str or Path
        Manifests of the other parts of a split by speaker.
    out : str or Path, optional
        File for the good lines, see `write_manifest`.
    rules : str
        How texts are normalised, see `cspkit.asr.text.normalised`.

    Returns
    -------
    Checked

    Raises
    ------
    FileNotFoundError
        If a manifest does not exist.
    ArgumentError
        If a path is a folder or another special file, or `out` cannot be written.
    """
    path = existing_file(path)
    elsewhere = _speakers_of(others)
    faults, units = [], Counter()
    seen: dict[tuple[str, float], int] = {}
    lengths: dict[Path, float] = {}
    good: set[int] = set()
    seconds = 0.0
    for _, number, line in read_lines(path):
        try:
            entry = _entry(line, number, path.parent, config, rules)
            length = _checked_segment(entry, lengths)
            other = elsewhere.get(entry.speaker)
            if other is not None and entry.speaker:
                raise ArgumentError(f"speaker {entry.speaker!r} also speaks in {other}")
            first = seen.setdefault((str(entry.audio), entry.offset), number)
            if first != number:
                raise ArgumentError(f"line {first} has the same audio file and offset")
        except (ArgumentError, OSError) as error:
            faults.append(fault(number, error))
            continue
        good.add(number)
        seconds += length
        units.update(entry.text.split())
    if out is not None:
        kept = (
            _entry(line, number, path.parent, None, rules)
            for _, number, line in read_lines(path)
            if number in good
        )
        write_manifest(out, kept)
    return Checked(path, len(good), seconds, faults, units)


def write_manifest(path: str | Path, entries: Iterable[Entry]) -> int:
    """Write entries as a manifest. Paths below its folder are relative, all others absolute.

    Returns
    -------
    int
        How many lines were written.
    """
    folder, n = Path(path).absolute().parent, 0
    how = {"encoding": "utf-8", "errors": "backslashreplace"}  # a name that is no Unicode: \\udcff
    with replacing(path) as new, new.open("w", **how) as file:
        for n, entry in enumerate(entries, start=1):  # noqa: B007
            audio = entry.audio.absolute()
            audio = audio.relative_to(folder) if audio.is_relative_to(folder) else audio
            facts = {"audio_filepath": audio.as_posix(), "text": entry.text}
            if entry.duration is not None:
                facts["duration"] = entry.duration
            if entry.offset:
                facts["offset"] = entry.offset
            if entry.speaker:
                facts["speaker"] = entry.speaker
            json.dump(entry.fields | facts, file, ensure_ascii=False)
            file.write("\n")
    return n


def librispeech_entries(folder: str | Path) -> Iterator[Entry]:
    """Yield the utterances below a folder that is laid out like LibriSpeech.

    A folder SPEAKER/CHAPTER has a file SPEAKER-CHAPTER.trans.txt, whose lines are the name of an
    utterance, a space, and its text; the sound is in NAME.flac. The text is returned in lower case.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ArgumentError
        If there is no *.trans.txt file with lines, or if a line has only the name of an utterance.
    """
    folder, number = Path(folder), 0
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    for transcripts in sorted(folder.rglob("*.trans.txt")):
        speaker = transcripts.name.split("-")[0]
        for _, at, line in read_lines(existing_file(transcripts)):
            name, _, text = line.decode("utf-8-sig", "replace").strip().partition(" ")
            number += 1
            if not text.split():
                raise ArgumentError(f"{transcripts} has no text for {name!r}")
            if len(line) > LONGEST_LINE or "\ufffd" in name + text or {"/", "\0"} & set(name):
                raise ArgumentError(
                    f"{transcripts}:{at}: expected the name of an utterance, a space and its text, "
                    f"in UTF-8, in a line of at most {LONGEST_LINE} bytes"
                )
            audio = transcripts.with_name(f"{name}.flac")
            yield Entry(number, audio, text.lower(), speaker=speaker)
    if number == 0:
        raise ArgumentError(
            f"{folder} has no *.trans.txt with lines: expected a LibriSpeech folder"
        )


def folder_entries(folder: str | Path) -> Iterator[Entry]:
    """Yield the recordings below a folder that have a text next to them, in NAME.txt.

    A folder that is laid out like LibriSpeech is read as `librispeech_entries` does. Otherwise
    every audio file (wav, flac, ogg, mp3) with a file of the same name and the ending .txt is an
    utterance, whose text is all that is in that file. Its speaker is not known.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ArgumentError
        If there is no audio file with a text.
    """
    folder, number = Path(folder), 0
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    if next(folder.rglob("*.trans.txt"), None) is not None:
        yield from librispeech_entries(folder)
        return
    for audio in sorted(folder.rglob("*")):
        text = audio.with_suffix(".txt")
        if audio.suffix.lower() in AUDIO and text.is_file():
            number += 1
            with text.open(encoding="utf-8", errors="replace") as file:
                words = file.read(LONGEST_LINE)
            yield Entry(number, audio, " ".join(words.split()))
    if number == 0:
        raise ArgumentError(
            f"{folder} has no audio file with a text: expected NAME.wav, NAME.flac, NAME.ogg or "
            "NAME.mp3 with NAME.txt next to it, or a LibriSpeech folder"
        )


def _entry(
    line: bytes, number: int, folder: Path, config: TransducerConfig | None, rules: str
) -> Entry:
    """Make an entry of one line."""
    audio, text, offset, duration, speaker, fields = parsed(line, config, rules)
    return Entry(number, folder / audio, text, offset, duration, speaker, fields)


def _checked_segment(entry: Entry, lengths: dict[Path, float]) -> float:
    """Check that the audio of an entry is there and long enough; return its seconds."""
    length = lengths.get(entry.audio)
    if length is None:
        length = lengths[entry.audio] = audio_seconds(entry.audio)
    end = length if entry.duration is None else entry.offset + entry.duration
    if end > length + SLACK or entry.offset >= length:
        raise ArgumentError(
            f"the utterance is from {entry.offset:g} to {end:g} s, but {entry.audio} has "
            f"{length:g} s"
        )
    return end - entry.offset


def _speakers_of(manifests: Iterable[str | Path]) -> dict[str, Path]:
    """The speakers of manifests, each with the first manifest that has it."""
    found: dict[str, Path] = {}
    for path in manifests:
        for speaker in Manifest(path).speakers:
            found.setdefault(speaker, Path(path))
    return found
