"""The corpus, the units and the task that the options of a command describe."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property

from cspkit.asr.corpus import Corpus
from cspkit.asr.task import SpeechTask
from cspkit.asr.text import units_of
from cspkit.asr.transducer_config import TransducerConfig, config_for


@dataclass(frozen=True)
class SpeechData:
    """Speech in manifests, and the units in which a recogniser writes it.

    Attributes
    ----------
    manifest : str
        Of the training part, or of all parts.
    dev, test, by, cache, rules
        See `Corpus.from_manifest`.
    units, n_pieces
        Kind of units, see `cspkit.asr.text.units_of`. They are found in the training part.
    width : int
        See `cspkit.asr.transducer.config_for`.
    batch_size, most_frames
        See `cspkit.asr.SpeechTask`.
    """

    manifest: str
    dev: str | None = None
    test: str | None = None
    by: str | None = None
    cache: str | None = None
    rules: str = "as-is-1"
    units: str = "words"
    n_pieces: int = 500
    width: int = 128
    batch_size: int = 16
    most_frames: int | None = None

    @cached_property
    def corpus(self) -> Corpus:
        """The corpus; the manifests are read once."""
        return Corpus.from_manifest(
            self.manifest, self.dev, self.test, by=self.by, cache=self.cache, rules=self.rules
        )

    def config(self, fold: int, width: int | None = None) -> TransducerConfig:
        """Return the configuration of a recogniser for a fold."""
        units = units_of(self.corpus.texts(fold), self.units, n_pieces=self.n_pieces)
        return config_for(units, self.width if width is None else width)

    def task(
        self, fold: int, config: TransducerConfig | None = None, curriculum: int = 0
    ) -> SpeechTask:
        """Return the task of a fold, for models of `config`, or else of `self.config(fold)`."""
        return SpeechTask(
            self.corpus,
            config or self.config(fold),
            fold,
            batch_size=self.batch_size,
            most_frames=self.most_frames,
            curriculum=curriculum,
        )

    @property
    def facts(self) -> dict[str, object]:
        """What a checkpoint records about its data."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def __getstate__(self) -> dict[str, object]:
        """Pickles have no corpus: another process reads it again."""
        return asdict(self)
