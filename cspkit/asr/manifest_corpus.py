"""A corpus that is read from manifests, and the rules that split it into parts."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cspkit.arguments import ArgumentError, count, one_of
from cspkit.asr.corpus import N_FOLDS, PARTS, Corpus
from cspkit.asr.manifest import Manifest
from cspkit.asr.recordings import Recordings

DEV_SHARE = 0.1  # of the utterances that are not in the test part
NAMES = {"validation": "dev", "valid": "dev", "val": "dev", "development": "dev"}


@dataclass(frozen=True)
class ManifestCorpus(Corpus):
    """The recordings of a manifest, or of one for each part. They are read when they are needed.

    Made by `Corpus.from_manifest` and `Corpus.from_librispeech`.

    Attributes
    ----------
    recordings : Recordings
        Those of the manifest; of the training part, if each part has its own.
    by : str
        How the parts are made: "files", "speaker", "random", or the name of a field.
    others : dict of Recordings
        By part, for "files".
    """

    recordings: Recordings
    by: str = "random"
    others: dict[str, Recordings] = field(default_factory=dict)

    def speakers(self) -> list[str]:
        """Return the names of the speakers, sorted."""
        return list(self.recordings.manifest.speakers)

    @property
    def manifests(self) -> list[Manifest]:
        """The manifest, or those of all parts."""
        return [r.manifest for r in (self.recordings, *self.others.values())]

    @property
    def identity(self) -> str:
        """A hash of the manifests, the rules and the split. No recording is read."""
        facts = [self.by, self.rules, *(manifest.sha256 for manifest in self.manifests)]
        return hashlib.sha256(" ".join(facts).encode()).hexdigest()[:12]

    @property
    def rules(self) -> str:
        """The rules by which texts are normalised, see `cspkit.asr.text.normalised`."""
        return self.recordings.manifest.rules

    def split(self, part: str, fold: int | str = 0) -> Recordings:
        """Return the recordings of one part, see `Corpus.from_manifest`.

        Parameters
        ----------
        part : {"train", "dev", "test"}
        fold : int
            0 to 4; only 0 if files or a field name the parts.

        Raises
        ------
        ArgumentError
            If there is no such part or fold, or if the part is empty.
        """
        one_of("part", part, PARTS)
        drawn = self.by in ("speaker", "random")
        if fold not in range(N_FOLDS if drawn else 1) or isinstance(fold, bool):
            most = f"0 to {N_FOLDS - 1}" if drawn else "0, since the corpus names its parts"
            raise ArgumentError(f"fold is {fold!r}: expected {most}")
        if self.by == "files":
            found = self.recordings if part == "train" else self.others[part]
        else:
            manifest, cache = self.recordings.manifest, self.recordings.cache
            found = Recordings(manifest, cache, lines_of(manifest, self.by, fold)[part])
        if len(found) == 0:
            raise ArgumentError(
                f"part is {part!r}, which has no line in {found.manifest.path}: expected at least "
                "one"
            )
        return found

    def strings(self, part: str, fold: int | str = 0) -> Recordings:
        """Return the utterances that score a recogniser: those of the part."""
        return self.split(part, fold)

    def texts(self, fold: int | str = 0) -> Iterator[str]:
        """Yield the texts of the training part."""
        return self.split("train", fold).texts()


def read_manifests(
    path: str | Path,
    dev: str | Path | None,
    test: str | Path | None,
    by: str | None,
    cache: str | Path | None,
    rules: str,
) -> ManifestCorpus:
    """Implement `Corpus.from_manifest`."""
    if (dev is None) != (test is None):
        raise ArgumentError(f"dev is {dev!r} and test is {test!r}: expected both or none of them")
    manifest = Manifest(path, rules=rules)
    _check_lines(manifest)
    recordings = Recordings(manifest, cache)
    if dev is None:
        named = sum(1 for speaker in manifest.speakers if speaker)
        by = by or ("speaker" if named > 2 and "" not in manifest.speakers else "random")
        corpus = ManifestCorpus(recordings, by)
        corpus.split("train")
        return corpus
    if by is not None:
        raise ArgumentError(f"by is {by!r} with a manifest for each part: expected None")
    others = {"dev": Manifest(dev, rules=rules), "test": Manifest(test, rules=rules)}
    for part, other in others.items():
        _check_lines(other)
        both = sorted(set(manifest.speakers) & set(other.speakers) - {""})
        if both:
            warnings.warn(
                f"{len(both)} speakers of {path} also speak in the {part} part, for example "
                f"{both[0]!r}",
                stacklevel=3,
            )
    parts = {part: Recordings(other, cache) for part, other in others.items()}
    return ManifestCorpus(recordings, "files", parts)


def lines_of(manifest: Manifest, by: str, fold: int = 0) -> dict[str, np.ndarray]:
    """Split the usable lines of a manifest into three parts.

    Parameters
    ----------
    manifest : Manifest
    by : str
        "speaker": no speaker is in two parts. The speakers are put into five groups of about
        the same number of lines, at random; fold i tests on group i. "random": each line is on its
        own. Of what is not tested, about a tenth is the dev part. Otherwise the name of a field of
        each line, whose value is "train", "dev" or "test".
    fold : int
        0 to 4.

    Returns
    -------
    dict of ndarray of int
        Numbers of lines, from 0, in order, for "train", "dev" and "test".

    Raises
    ------
    ArgumentError
        If there are fewer than three speakers, or three lines, or if a line lacks the field or has
        another value in it.
    """
    n = len(manifest)
    if by not in ("speaker", "random"):
        return _by_field(manifest, by)
    owner = manifest.speaker_of if by == "speaker" else np.arange(n)
    if by == "speaker" and "" in manifest.speakers:
        raise ArgumentError(f"by is 'speaker', but lines of {manifest.path} have no speaker")
    sizes = np.bincount(owner)
    if len(sizes) < 3:
        what = "speakers" if by == "speaker" else "lines"
        raise ArgumentError(
            f"by is {by!r}, but {manifest.path} has {len(sizes)} {what}: expected 3"
        )
    order = np.random.default_rng(0).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    group, filled = np.empty(len(sizes), dtype=int), np.zeros(min(N_FOLDS, len(sizes)))
    for one in order:  # the largest first, each into the group with the fewest lines
        group[one] = filled.argmin()
        filled[group[one]] += sizes[one]
    if count("fold", fold, least=0) >= len(filled):
        what = "speakers" if by == "speaker" else "lines"
        raise ArgumentError(
            f"fold is {fold}, but {manifest.path} has {len(filled)} {what}: expected less"
        )
    test = group == fold
    rest = np.flatnonzero(~test)
    rest = np.random.default_rng([1, fold]).permutation(rest)
    running = np.cumsum(sizes[rest])
    n_dev = 1 + int(np.searchsorted(running, DEV_SHARE * running[-1]))
    dev = np.zeros(len(sizes), dtype=bool)
    dev[rest[: min(n_dev, len(rest) - 1)]] = True
    masks = {"train": ~(test | dev), "dev": dev, "test": test}
    return {part: np.flatnonzero(mask[owner]) for part, mask in masks.items()}


def _by_field(manifest: Manifest, name: str) -> dict[str, np.ndarray]:
    found: dict[str, list[int]] = {part: [] for part in PARTS}
    for i in range(len(manifest)):
        entry = manifest[i]
        value = str(entry.fields.get(name, ""))
        part = NAMES.get(value, value)
        if part not in found:
            raise ArgumentError(
                f"by is {name!r}, but line {entry.line} of {manifest.path} has {value!r} in it: "
                "expected 'train', 'dev' or 'test'"
            )
        found[part].append(i)
    return {part: np.array(lines, dtype=int) for part, lines in found.items()}


def _check_lines(manifest: Manifest) -> None:
    if len(manifest) == 0:
        first = (
            f"line {manifest.faults[0].line}: {manifest.faults[0].reason}"
            if manifest.faults
            else "it is empty"
        )
        raise ArgumentError(f"{manifest.path} has no line that can be used: {first}")
