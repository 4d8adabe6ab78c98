"""Recognition of connected digits: the SpeechTask of the embedded corpus."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cspkit.arguments import ArgumentError, count
from cspkit.asr.augmentation import Augmentation
from cspkit.asr.batch import Batch, collate, labels_of
from cspkit.asr.corpus import (
    MAX_DIGITS,
    Corpus,
    Utterance,
    joined,
    joined_features,
    load_spoken_digits,
)
from cspkit.asr.task import SpeechTask
from cspkit.asr.transducer import Transducer
from cspkit.asr.transducer_config import TransducerConfig

DENSE_STEPS = 7200  # training steps of the recorded dense models
POOL = 128  # groups of strings whose reference outputs are computed once


class DigitTask(SpeechTask):
    """Strings of spoken digits.

    Parameters
    ----------
    corpus : Corpus, optional
        The default is the embedded corpus.
    fold : int or str
        A number from 0 to 4 selects the takes of the test part. If `fold` is the name of a
        speaker, this speaker is held out for the test part.
    config : TransducerConfig, optional
        Units and frame stacking of the models.
    batch_size : int
        Number of utterances of a training batch.
    curriculum : int
        Length of the curriculum in steps, for training from scratch. Strings have one digit in
        the first tenth of these steps, at most three digits in the next two tenths, and at most
        seven digits afterwards. If `curriculum` is 0, strings have at most seven digits from the
        start.
    augmentation : Augmentation or None, optional
        Random variation of the training strings; None uses the features as they are. The default
        is `AUGMENTATION` with a curriculum, and `LIGHT` without a curriculum.
    divergence_every : int
        Use every n-th utterance of a batch for the divergence.
    pool : int, optional
        Number of groups in the pool. The utterances of a training batch that the divergence uses
        are a group of the pool. Its strings are drawn and varied only once, so the reference model
        computes its outputs for each group only once. The other utterances are new. If `pool` is 0,
        all utterances are new. The default is 128, and 0 with a curriculum.

    Raises
    ------
    ArgumentError
        If an option is out of range or does not fit the corpus, or if a text of the corpus has an
        unknown unit.
    """

    first_batch = None  # each batch depends on the random numbers of all batches before it

    def __init__(
        self,
        corpus: Corpus | None = None,
        fold: int | str = 0,
        *,
        config: TransducerConfig | None = None,
        batch_size: int = 32,
        curriculum: int = 0,
        augmentation: Augmentation | None | Literal["recipe"] = "recipe",
        divergence_every: int = 2,
        pool: int | None = None,
    ) -> None:
        corpus, config = corpus or load_spoken_digits(), config or TransducerConfig()
        for recording in corpus.recordings:
            labels_of(recording, config)  # finds an unknown unit before training
        super().__init__(
            corpus,
            config,
            fold,
            batch_size=batch_size,
            curriculum=curriculum,
            augmentation=augmentation,
            divergence_every=divergence_every,
        )
        self.pool = count("pool", (0 if curriculum else POOL) if pool is None else pool, least=0)
        if self.pool and self.curriculum:
            raise ArgumentError(
                f"pool is {pool} with curriculum {curriculum}: expected one of them to be 0"
            )
        self._stored: dict[tuple, Tensor] = {}  # outputs of a reference model, by group
        self._stored_for: tuple | None = None  # identifies the pool, the model and its weights
        self._by_speaker: dict[str, list[Utterance]] = {}
        for recording in self._training:
            self._by_speaker.setdefault(recording.speaker, []).append(recording)

    @property
    def settings(self) -> dict[str, object]:
        """The settings that distinguish this task from others on the same corpus."""
        return super().settings | {"pool": self.pool}

    def longest(self, step: int) -> int:
        """Return how many digits a string may have at a step of the curriculum."""
        return min(super().longest(step), MAX_DIGITS)

    def _training_batches(self, rng: np.random.Generator) -> Iterator[Batch]:
        n_pooled, groups = 0, {}
        if self.pool:
            n_pooled = math.ceil(self.batch_size / self.divergence_every)
            key = int(rng.integers(2**62))
        for step in itertools.count():
            longest, group = self.longest(step), None
            drawn = self._draw(self.batch_size - n_pooled, longest, rng)
            if self.pool:
                group = key, int(rng.integers(self.pool)), *self.shard
                if group not in groups:
                    groups[group] = self._draw(n_pooled, longest, np.random.default_rng(group[:2]))
                compared = [True] * n_pooled + [False] * len(drawn)
                drawn = groups[group] + drawn
            else:
                drawn.sort(key=lambda string: len(string[1]))
                compared = [i % self.divergence_every == 0 for i in range(len(drawn))]
            lengths = [len(features) for _, features in drawn]
            share = self._share([(not c, n) for c, n in zip(compared, lengths, strict=True)])
            strings = [joined(*drawn[i]) for i in share]
            yield collate(strings, self.config, [compared[i] for i in share], group)

    def _draw(
        self, n: int, longest: int, rng: np.random.Generator
    ) -> list[tuple[list[Utterance], np.ndarray]]:
        """Draw n strings, each spoken by one speaker: their recordings, and varied features."""
        speakers = list(self._by_speaker)
        strings = []
        for _ in range(n):
            recordings = self._by_speaker[speakers[rng.integers(len(speakers))]]
            n_digits = rng.integers(1, longest + 1)
            chosen = rng.integers(len(recordings), size=n_digits)
            strings.append([recordings[i] for i in chosen])
        features = [joined_features(string) for string in strings]
        if self.augmentation is not None:
            features = self.augmentation.batch(features, self._std, rng)
        return list(zip(strings, features, strict=True))

    def reference_outputs(self, model: Transducer, batch: Batch) -> Tensor:
        """Return the logits of the utterances that the divergence uses.

        The logits of a group of the pool are stored, until another model is given or its weights
        change.
        """
        if batch.group is None:
            return super().reference_outputs(model, batch)
        versions = [(id(p), p._version, p.device) for p in model.parameters()]
        versions.append(torch.is_autocast_enabled(batch.features.device.type))
        if self._stored_for != (batch.group[0], versions):
            self._stored, self._stored_for = {}, (batch.group[0], versions)
        if batch.group not in self._stored:
            self._stored[batch.group] = super().reference_outputs(model, batch).detach()
        return self._stored[batch.group]

    def __getstate__(self) -> dict[str, object]:
        """Copies and pickles have no stored outputs."""
        return vars(self) | {"_stored": {}, "_stored_for": None}
