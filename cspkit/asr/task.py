"""Recognition of connected digits, as a Task of the training loop."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cspkit.arguments import ArgumentError, count
from cspkit.asr.augmentation import Augmentation
from cspkit.asr.corpus import MAX_DIGITS, Corpus, Utterance, joined, load_spoken_digits
from cspkit.asr.decoding import MAX_SYMBOLS, transcribe
from cspkit.asr.features import N_MFCC
from cspkit.asr.loss import rnnt_loss
from cspkit.asr.normalisation import LEAST_STD
from cspkit.asr.scoring import utterance_errors
from cspkit.asr.transducer import Transducer, TransducerConfig
from cspkit.modules import unwrapped
from cspkit.task import kl_divergence
from cspkit.training import Task, evaluating

# The default is AUGMENTATION to train from scratch, and LIGHT to train a trained model further.
AUGMENTATION = Augmentation(speed=0.2, warp=0.1, channel=0.4, noise=0.2)
LIGHT = Augmentation(speed=0.15, channel=0.2, noise=0.2)
DENSE_STEPS = 7200  # training steps of the recorded dense models
POOL = 128  # groups of strings whose reference outputs are computed once


class Batch(NamedTuple):
    """Utterances, sorted from short to long and padded to one length.

    Attributes
    ----------
    features : Tensor, shape (N, T, n_features)
    feature_lengths : Tensor, shape (N,)
    targets : Tensor, shape (N, U)
    target_lengths : Tensor, shape (N,)
    pooled : Tensor, shape (M,), optional
        Positions of the utterances that come from the pool.
    group : tuple of int, optional
        Names the group of the pool that these utterances form. Batches with the same `group` hold
        the same pooled utterances.
    """

    features: Tensor
    feature_lengths: Tensor
    targets: Tensor
    target_lengths: Tensor
    pooled: Tensor | None = None
    group: tuple[int, int] | None = None

    def pick(self, positions: Tensor | slice) -> Batch:
        """Return a batch of the utterances at these positions."""
        return Batch(*(part[positions] for part in self[:4]))

    def to(self, device: torch.device | str) -> Batch:
        """Return the same batch on a device."""
        return Batch(*(p.to(device) if isinstance(p, Tensor) else p for p in self))


def collate(
    utterances: Sequence[Utterance],
    config: TransducerConfig,
    n_pooled: int = 0,
    group: tuple[int, int] | None = None,
) -> Batch:
    """Sort utterances by length and pad them to a batch.

    Parameters
    ----------
    utterances : sequence of Utterance
    config : TransducerConfig
    n_pooled : int
        The first `n_pooled` utterances are a group of the pool.
    group : tuple of int, optional
        Names this group, see `Batch`.

    Raises
    ------
    ArgumentError
        If a text has an unknown unit, or more units than decoding can emit in its frames.
    """
    order = sorted(range(len(utterances)), key=lambda i: len(utterances[i].features))
    pooled = torch.tensor([place for place, i in enumerate(order) if i < n_pooled])
    utterances = [utterances[i] for i in order]
    labels = [labels_of(u, config) for u in utterances]
    for utterance, units in zip(utterances, labels, strict=True):
        most = len(utterance.features) // config.stack * MAX_SYMBOLS
        if len(units) > most:
            raise ArgumentError(
                f"utterance {utterance.id!r} has {len(units)} units in "
                f"{len(utterance.features)} frames: expected at most {most}"
            )
    return Batch(
        features=pad_sequence(
            [torch.from_numpy(u.features).float() for u in utterances], batch_first=True
        ),
        feature_lengths=torch.tensor([len(u.features) for u in utterances]),
        targets=pad_sequence([torch.tensor(units) for units in labels], batch_first=True),
        target_lengths=torch.tensor([len(units) for units in labels]),
        pooled=pooled if n_pooled else None,
        group=group,
    )


def labels_of(utterance: Utterance, config: TransducerConfig) -> list[int]:
    """Return the labels of the text; an error about an unknown unit names the utterance."""
    try:
        return config.labels(utterance.text)
    except ArgumentError as error:
        raise ArgumentError(f"utterance {utterance.id!r}: {error}") from None


class DigitTask(Task):
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
        self.corpus = corpus or load_spoken_digits()
        self.fold = fold
        self.config = config or TransducerConfig()
        self.batch_size = count("batch_size", batch_size)
        self.curriculum = count("curriculum", curriculum, least=0)
        if augmentation == "recipe":
            augmentation = AUGMENTATION if curriculum else LIGHT
            if self.config.n_features != N_MFCC:
                raise ArgumentError(
                    f"augmentation is the default, which is for {N_MFCC} cepstra, but "
                    f"config.n_features is {self.config.n_features}: expected None or an "
                    "Augmentation; if all features are cepstra, give "
                    "cspkit.asr.task.AUGMENTATION"
                )
        if not isinstance(augmentation, Augmentation | None):
            raise ArgumentError(
                f"augmentation is {augmentation!r}: expected an Augmentation or None"
            )
        self.augmentation = augmentation
        self.divergence_every = count("divergence_every", divergence_every)
        self.pool = count("pool", (0 if curriculum else POOL) if pool is None else pool, least=0)
        if self.pool and self.curriculum:
            raise ArgumentError(
                f"pool is {pool} with curriculum {curriculum}: expected one of them to be 0"
            )
        self._stored: dict[tuple, Tensor] = {}  # outputs of a reference model, by group
        self._stored_for: tuple | None = None  # identifies the pool, the model and its weights
        self._by_speaker: dict[str, list[Utterance]] = {}
        for recording in self.corpus.recordings:
            labels_of(recording, self.config)  # finds an unknown unit before training
        for recording in self.corpus.split("train", fold):
            self._by_speaker.setdefault(recording.speaker, []).append(recording)
        frames = np.concatenate([r.features for r in self.corpus.split("train", fold)])
        if frames.shape[1] != self.config.n_features:
            raise ArgumentError(
                f"config.n_features is {self.config.n_features!r}: expected {frames.shape[1]}, "
                "as in the corpus"
            )
        self._mean, self._std = frames.mean(axis=0), np.maximum(frames.std(axis=0), LEAST_STD)

    @property
    def settings(self) -> dict[str, object]:
        """The settings that distinguish this task from others on the same corpus."""
        names = ("fold", "batch_size", "curriculum", "divergence_every", "pool")
        recipe = {"config": asdict(self.config), "augmentation": None}
        if self.augmentation is not None:
            recipe["augmentation"] = asdict(self.augmentation)
        return {name: getattr(self, name) for name in names} | recipe

    _model = Transducer
    _transcribe = staticmethod(transcribe)

    def new_model(self, seed: int) -> Transducer:
        """Return an untrained model, normalised by the training part of this fold."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self._model(self.config)
        model.set_normalisation(torch.from_numpy(self._mean), torch.from_numpy(self._std))
        return model

    def batches(self, split: str, rng: np.random.Generator) -> Iterator[Batch]:
        """Yield batches: random strings without end for "train", fixed strings for other parts."""
        if split == "train":
            yield from self._training_batches(rng)
        strings = sorted(self.corpus.strings(split, self.fold), key=lambda u: len(u.features))
        for first in range(0, len(strings), self.batch_size):
            yield collate(strings[first : first + self.batch_size], self.config)

    def _training_batches(self, rng: np.random.Generator) -> Iterator[Batch]:
        n_pooled, groups = 0, {}
        if self.pool:
            n_pooled = math.ceil(self.batch_size / self.divergence_every)
            key = int(rng.integers(2**62))
        for step in itertools.count():
            longest = self.longest(step)
            new = self._draw(self.batch_size - n_pooled, longest, rng)
            if not self.pool:
                yield collate(new, self.config)
                continue
            group = key, int(rng.integers(self.pool))
            if group not in groups:
                groups[group] = self._draw(n_pooled, longest, np.random.default_rng(group))
            yield collate(groups[group] + new, self.config, n_pooled, group)

    def longest(self, step: int) -> int:
        """Return how many digits a string may have at a step of the curriculum."""
        if step < 0.1 * self.curriculum:
            return 1
        return 3 if step < 0.3 * self.curriculum else MAX_DIGITS

    def _draw(self, n: int, longest: int, rng: np.random.Generator) -> list[Utterance]:
        """Draw n strings, each spoken by one speaker, and vary them."""
        speakers = list(self._by_speaker)
        strings = []
        for _ in range(n):
            recordings = self._by_speaker[speakers[rng.integers(len(speakers))]]
            n_digits = rng.integers(1, longest + 1)
            chosen = rng.integers(len(recordings), size=n_digits)
            strings.append(joined([recordings[i] for i in chosen]))
        if self.augmentation is None or not strings:
            return strings
        varied = self.augmentation.batch([u.features for u in strings], self._std, rng)
        return [replace(u, features=v) for u, v in zip(strings, varied, strict=True)]

    def outputs(self, model: Transducer, batch: Batch, bucket: int = 8) -> Tensor:
        """Return the logits (N, S, U + 1, K) of a batch, computed in buckets of similar length.

        Most cells of a padded batch are padding. So the batch is split into buckets of `bucket`
        utterances, and each bucket is padded only to its longest utterance. Then the logits of the
        bucket are padded to the size of the batch.
        """
        model = unwrapped(model)
        lengths = batch.feature_lengths // model.config.stack
        most_frames, most_labels = int(lengths.max()), int(batch.target_lengths.max())
        predicted, _ = model.predict(model.start(batch.targets))
        padded = []
        for features, n_frames, history, n_labels in zip(
            batch.features.split(bucket),
            batch.feature_lengths.split(bucket),
            predicted.split(bucket),
            batch.target_lengths.split(bucket),
            strict=True,
        ):
            encoded, _ = model.encode(features[:, : int(n_frames.max())])
            logits = model.join(encoded, history[:, : int(n_labels.max()) + 1])
            S, U1 = logits.shape[1:3]
            padding = (0, 0, 0, most_labels + 1 - U1, 0, most_frames - S)
            padded.append(torch.nn.functional.pad(logits, padding))
        return torch.cat(padded)

    def loss(self, model: Transducer, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the mean over utterances of cost / target length, and the logits."""
        self._check(model)
        logits = self.outputs(model, batch)
        costs = rnnt_loss(
            logits,
            batch.targets,
            batch.feature_lengths // self.config.stack,
            batch.target_lengths,
            reduction="none",
        )
        return (costs / batch.target_lengths).mean(), logits

    def _check(self, model: Transducer) -> None:
        """Raise an error if the units or the features of the model are not those of the task."""
        config = getattr(unwrapped(model), "config", None)
        if not isinstance(config, TransducerConfig):
            raise ArgumentError(
                f"model is a {type(unwrapped(model)).__name__}: expected a {self._model.__name__}"
            )
        for name in ("units", "n_features", "stack"):
            own, other = getattr(self.config, name), getattr(config, name)
            if own != other:
                raise ArgumentError(f"config.{name} of the model is {other!r}: expected {own!r}")

    def reference_outputs(self, model: Transducer, batch: Batch) -> Tensor:
        """Return the logits of the utterances that the divergence uses.

        The logits of a group of the pool are stored, until another model is given or its weights
        change.
        """
        used = batch.pick(self._used(batch))
        if batch.group is None:
            return self.outputs(model, used)
        versions = [(id(p), p._version, p.device) for p in model.parameters()]
        if self._stored_for != (batch.group[0], versions):
            self._stored, self._stored_for = {}, (batch.group[0], versions)
        if batch.group not in self._stored:
            self._stored[batch.group] = self.outputs(model, used).detach()
        return self._stored[batch.group]

    def _used(self, batch: Batch) -> Tensor | slice:
        """Positions of the utterances that the divergence uses."""
        return slice(None, None, self.divergence_every) if batch.group is None else batch.pooled

    def __getstate__(self) -> dict[str, object]:
        """Copies and pickles have no stored outputs."""
        return vars(self) | {"_stored": {}, "_stored_for": None}

    def divergence(self, reference_outputs: Tensor, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the compression error of the outputs: the mean over cells (s, u) of

            KL(p_reference || p) = sum_k p_reference(k) (log p_reference(k) - log p(k))

        The mean is over all cells, except padding, of every `divergence_every`-th utterance.

        References
        ----------
        Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network",
        arXiv:1503.02531.
        """
        used = batch.pick(self._used(batch))
        S, U1 = reference_outputs.shape[1:3]
        outputs = outputs[self._used(batch), :S, :U1]
        frame = torch.arange(S, device=outputs.device)[:, None]
        label = torch.arange(U1, device=outputs.device)
        valid = (frame < (used.feature_lengths // self.config.stack)[:, None, None]) & (
            label <= used.target_lengths[:, None, None]
        )
        return kl_divergence(reference_outputs[valid], outputs[valid])

    @torch.no_grad()
    def evaluate(self, model: Transducer, split: str) -> dict[str, float]:
        """Evaluate a model on one part, in evaluation mode.

        Returns `wer`, the word error rate as a fraction, and `loss`, the mean over utterances of
        the cost per unit, in nats.
        """
        errors, words = self.errors(model, split)
        costs, utterances = 0.0, 0
        with evaluating(model):
            for batch in self.batches(split, np.random.default_rng(0)):
                per_unit, _ = self.loss(model, batch.to(unwrapped(model).device))
                costs += per_unit.item() * len(batch.targets)
                utterances += len(batch.targets)
        return {"wer": float(errors.sum() / words.sum()), "loss": costs / utterances}

    def errors(self, model: Transducer, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the number of word errors and of words of each utterance.

        The sum of the errors divided by the sum of the words is the word error rate.

        Parameters
        ----------
        model : Transducer
        split : {"dev", "test"}

        Returns
        -------
        errors, words : ndarray of int, shape (n,)
        """
        strings = self.corpus.strings(split, self.fold)
        texts = [u.text for u in strings]
        self._check(model)
        hypotheses = self._transcribe(model, [u.features for u in strings])
        return utterance_errors(texts, hypotheses), np.array([len(t.split()) for t in texts])
