"""The speech of manifests as the bench of a study."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from cspkit.arguments import count
from cspkit.asr import SpeechTask, TransducerConfig
from cspkit.asr.corpus import N_FOLDS
from cspkit.asr.speech_data import SpeechData
from cspkit.teach.recogniser_bench import RecogniserBench


@dataclass(frozen=True)
class SpeechBench(RecogniserBench):
    """Speech in manifests, with a dense recogniser for each fold.

    If one manifest holds all parts, seed i has fold i modulo 5. If each part has its own manifest,
    or a field of the manifest names the part, all seeds have the same test part, so a study gives
    no verdict.

    Attributes
    ----------
    models, dense_steps, width, kept
        See `RecogniserBench`.
    data : SpeechData
        Its `width` is not used.
    """

    data: SpeechData = field(kw_only=True)

    @property
    def name(self) -> str:
        """Name of the task, with a hash of the manifests and of how they are read."""
        data = self.data
        how = (data.corpus.identity, data.units, data.n_pieces, data.batch_size, data.most_frames)
        identity = hashlib.sha256(repr(how).encode()).hexdigest()[:8]
        stem = Path(data.manifest).stem
        return f"{stem}-{identity}-{data.rules}-{self.width}-{self.dense_steps}"

    def config(self, seed: int) -> TransducerConfig:
        """Return the sizes and units of the recognisers of a seed."""
        return self.data.config(self.fold(seed), self.width)

    def task(self, seed: int, curriculum: int = 0) -> SpeechTask:
        """Return the task of a seed."""
        return self.data.task(self.fold(seed), self.config(seed), curriculum)

    def facts(self, seed: int) -> dict[str, object]:
        """Return what the checkpoint of a dense model records."""
        return super().facts(seed) | {"data": self.data.facts}

    def fold(self, seed: int) -> int:
        """Return the fold that a seed holds out."""
        return self.number(seed)

    def number(self, seed: int) -> int:
        """Return the number of the fold of a seed."""
        count("an entry of seeds", seed, least=0)
        return seed % N_FOLDS if self.data.corpus.by in ("speaker", "random") else 0
