"""The utterances of a manifest: read and computed when they are needed, and kept on disk."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from cspkit.arguments import ArgumentError, count
from cspkit.asr.corpus import Utterance
from cspkit.asr.features import HOP, N_MFCC, SAMPLE_RATE, existing_file, load_audio, mfcc
from cspkit.asr.manifest import SHOWN, SLACK, Entry, Fault, Manifest, fault
from cspkit.files import replacing

# Part of the name of every stored file: a change of the features must change it.
FEATURES = f"mfcc-{N_MFCC}-{SAMPLE_RATE}-{HOP}-1"


class Recordings(Sequence[Utterance]):
    """The utterances of a manifest, each computed when it is asked for.

    Nothing but the index of the manifest is kept in memory, so a corpus may be larger than memory.
    With a `cache`, the features of an utterance are stored under the SHA-256 of its audio file and
    its segment. Several processes may use the same folder: a file is written beside its place, and
    then renamed. A stored file that is damaged is written again.

    Parameters
    ----------
    manifest : Manifest, str or Path
    cache : str or Path, optional
        Folder for the features. Folders that do not exist are created.
    lines : array of int, optional
        Which of the usable lines of the manifest to take, from 0. The default is all of them.

    Attributes
    ----------
    manifest : Manifest
    lines : ndarray of int
    faults : list of Fault
        The first 1,000 lines that `usable` has left out.
    n_faults : int
        How many it has left out.

    Raises
    ------
    FileNotFoundError, ArgumentError
        As `Manifest`.
    """

    def __init__(
        self,
        manifest: Manifest | str | Path,
        cache: str | Path | None = None,
        lines: Sequence[int] | None = None,
    ) -> None:
        self.manifest = manifest if isinstance(manifest, Manifest) else Manifest(manifest)
        self.cache = None if cache is None else Path(cache)
        self.lines = np.arange(len(self.manifest)) if lines is None else np.asarray(lines)
        self.faults: list[Fault] = []
        self.n_faults = 0

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, i: int) -> Utterance:
        """Return an utterance.

        Raises
        ------
        FileNotFoundError
            If its audio file does not exist.
        ArgumentError
            If its audio cannot be read, or is too short for a frame.
        """
        entry = self.manifest[int(self.lines[i])]
        name = f"{entry.audio.stem}:{entry.line}"
        return Utterance(self._features(entry), entry.text, entry.speaker, name)

    def frames(self) -> np.ndarray:
        """Return how many frames each utterance has, from the durations of the manifest.

        Raises
        ------
        ArgumentError
            If a line has no duration.
        """
        seconds = self.manifest.durations[self.lines]
        if np.isnan(seconds).any():
            line = self.manifest.line_of(int(self.lines[np.isnan(seconds).argmax()]))
            raise ArgumentError(f"line {line} of {self.manifest.path} has no duration")
        return 1 + (seconds * SAMPLE_RATE / HOP).astype(int)

    def texts(self) -> Iterator[str]:
        """Yield the texts, without reading any audio."""
        return (self.manifest[int(line)].text for line in self.lines)

    def usable(self, order: Iterable[int]) -> Iterator[Utterance]:
        """Yield utterances in an order. Those that cannot be read are left out and counted."""
        for i in order:
            try:
                yield self[i]
            except (ArgumentError, OSError) as error:
                self.n_faults += 1
                if len(self.faults) < SHOWN:
                    self.faults.append(fault(self.manifest.line_of(self.lines[i]), error))

    def _features(self, entry: Entry) -> np.ndarray:
        if self.cache is None:
            return _computed(entry)
        with existing_file(entry.audio).open("rb") as audio:
            content = hashlib.file_digest(audio, "sha256")
        content.update(f"{FEATURES} {entry.offset!r} {entry.duration!r}".encode())
        name = content.hexdigest()
        file = self.cache / name[:2] / f"{name}.npy"
        try:
            return np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            features = _computed(entry)
        with replacing(file) as new, new.open("wb") as opened:
            np.save(opened, features)
        return features


def _computed(entry: Entry) -> np.ndarray:
    """The features of the segment of an entry."""
    waveform, rate = load_audio(entry.audio)
    first = round(entry.offset * rate)
    end = len(waveform) if entry.duration is None else first + round(entry.duration * rate)
    if end > len(waveform) + SLACK * rate:
        raise ArgumentError(
            f"the utterance ends at {end / rate:g} s, but {entry.audio} has "
            f"{len(waveform) / rate:g} s"
        )
    try:
        return mfcc(waveform[first:end], rate)
    except ArgumentError as error:
        raise ArgumentError(f"{entry.audio} from {entry.offset:g} s: {error}") from None


def shuffled(n: int, seed: int, epoch: int, *, part: int = 0, parts: int = 1) -> np.ndarray:
    """Return the numbers 0 to n - 1 in random order, or every `parts`-th of them from `part` on.

    The order depends on the seed and the epoch only. So the parts of all workers, read in turns,
    are the same sequence for any number of workers.

    Parameters
    ----------
    n, seed, epoch : int
    part, parts : int
        Number of this worker, from 0, and of all workers.

    Returns
    -------
    ndarray of int

    Raises
    ------
    ArgumentError
        If a number is out of range.
    """
    for name, value in (("n", n), ("seed", seed), ("epoch", epoch)):
        count(name, value, least=0)
    count("parts", parts)
    if count("part", part, least=0) >= parts:
        raise ArgumentError(f"part is {part}: expected less than parts = {parts}")
    return np.random.default_rng([seed, epoch]).permutation(n)[part::parts]


def by_length(
    lengths: Sequence[int], order: Sequence[int], most_frames: int, *, window: int = 1024
) -> Iterator[list[int]]:
    """Yield batches of utterances of similar lengths: lists of numbers from `order`.

    Parameters
    ----------
    lengths : sequence of int
        Frames of each utterance, by its number.
    order : sequence of int
        Numbers of utterances.
    most_frames : int
        A batch of N utterances, the longest of which has T frames, has N T <= `most_frames`. An
        utterance that is longer than this is a batch of its own.
    window : int
        `order` is cut into windows of this many utterances, and each window is sorted by length. A
        large window needs less padding. A small window keeps the order more random.

    Yields
    ------
    list of int
        Sorted by length.
    """
    count("most_frames", most_frames)
    count("window", window)
    for first in range(0, len(order), window):
        batch: list[int] = []
        for i in sorted(order[first : first + window], key=lambda i: (lengths[i], i)):
            if batch and (len(batch) + 1) * lengths[i] > most_frames:
                yield batch
                batch = []
            batch.append(int(i))
        yield batch


# A batch that is planned: for each utterance its number, the epoch, and a number that is unique in
# the epoch, to seed the variations of this utterance.
Plan = list[tuple[int, int, int]]


def batches_of_size(n: int, seed: int, size: int) -> Iterator[Plan]:
    """Plan batches of `size` utterances without end. Each epoch takes all n, in a new order."""
    places = (
        (int(i), epoch, place)
        for epoch in itertools.count()
        for place, i in enumerate(shuffled(n, seed, epoch))
    )
    while True:
        yield list(itertools.islice(places, size))


def batches_of_frames(lengths: Sequence[int], seed: int, most_frames: int) -> Iterator[Plan]:
    """Plan batches of similar lengths without end, see `by_length`, in a random order."""
    for epoch in itertools.count():
        batches = list(by_length(lengths, shuffled(len(lengths), seed, epoch), most_frames))
        for b in shuffled(len(batches), seed, epoch):
            yield [(i, epoch, i) for i in batches[b]]
