"""Recognition of speech by a Transducer, as a Task of the training loop."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cspkit.arguments import ArgumentError, count
from cspkit.asr.augmentation import Augmentation
from cspkit.asr.batch import Batch, collate, unlearnable
from cspkit.asr.corpus import Corpus, Utterance
from cspkit.asr.decoding import transcribe
from cspkit.asr.features import N_MFCC
from cspkit.asr.joint import Joint, chunked_costs, chunked_divergence, joint_of
from cspkit.asr.loss import rnnt_loss
from cspkit.asr.normalisation import LEAST_STD
from cspkit.asr.recordings import batches_of_frames, batches_of_size, shuffled
from cspkit.asr.scoring import utterance_errors
from cspkit.asr.transducer import Transducer
from cspkit.asr.transducer_config import TransducerConfig
from cspkit.asr.word_cuts import span, word_cuts
from cspkit.modules import unwrapped
from cspkit.task import kl_divergence
from cspkit.training import Task, evaluating

# The default is AUGMENTATION to train from scratch, and LIGHT to train a trained model further.
AUGMENTATION = Augmentation(speed=0.2, warp=0.1, channel=0.4, noise=0.2)
LIGHT = Augmentation(speed=0.15, channel=0.2, noise=0.2)
SAMPLE = 5000  # utterances that the normalisation is computed from


class SpeechTask(Task):
    """Recognition of the utterances of a corpus.

    Training takes the utterances of the training part in a random order, each once, and then again
    in a new order. The order depends only on the generator of the run, not on the number of
    processes that share the work. Utterances that cannot be read, that have a unit which the model
    does not have, or that are too short for their text, are left out and counted.

    Parameters
    ----------
    corpus : Corpus
        Gives the utterances of each part, see `cspkit.asr.Corpus.from_manifest`.
    config : TransducerConfig
        Units and frame stacking of the models, see `cspkit.asr.units.units_of`.
    fold : int or str
        Selects the test part, see the corpus.
    batch_size : int
        Number of utterances of a training batch, and of the batches of the other parts.
    most_frames : int, optional
        Put utterances of similar length into a training batch, and as many as have at most this
        number of frames together, with the padding; see `cspkit.asr.recordings.by_length`. Then
        `batch_size` does not count for training. The corpus must be read from manifests with the
        duration of every utterance.
    curriculum : int
        Length of the curriculum in steps, for training from scratch. In the first tenth of these
        steps the model sees single words, in the next two tenths at most three neighbouring words,
        and afterwards whole utterances and, for every second one, a random part of it. The words
        are cut at pauses, see `cspkit.asr.word_cuts`. If `curriculum` is 0, all utterances are
        whole.
    augmentation : Augmentation or None, optional
        Random variation of the training utterances; None uses the features as they are. The default
        is `AUGMENTATION` with a curriculum, and `LIGHT` without a curriculum.
    divergence_every : int
        Use every n-th utterance of a batch for the divergence.
    chunked : bool, optional
        Whether the joint is computed in chunks, see `cspkit.asr.joint`, which takes less memory
        and more time. The default is True if the model has more than 100 units.

    Attributes
    ----------
    shard : tuple of int
        Number of this process and of all processes that train together: (0, 1) for one process.
        Each process takes its share of every batch. `cspkit.training.train` sets this attribute.
    faults : dict of (str, int) to str
        The utterances that were left out so far: part and number, and the reason.

    Raises
    ------
    ArgumentError
        If an option is out of range or does not fit the corpus, or if no utterance of the training
        part can be used.
    """

    shard: tuple[int, int] = (0, 1)
    first_batch: int | None = 0

    def __init__(
        self,
        corpus: Corpus,
        config: TransducerConfig,
        fold: int | str = 0,
        *,
        batch_size: int = 32,
        most_frames: int | None = None,
        curriculum: int = 0,
        augmentation: Augmentation | None | Literal["recipe"] = "recipe",
        divergence_every: int = 2,
        chunked: bool | None = None,
    ) -> None:
        self.chunked = len(config.units) > 100 if chunked is None else chunked
        self.corpus, self.config, self.fold = corpus, config, fold
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
        self.faults: dict[tuple[str, int], str] = {}
        self._training = corpus.split("train", fold)
        self.most_frames = None if most_frames is None else count("most_frames", most_frames)
        if self.most_frames is not None and not hasattr(self._training, "frames"):
            raise ArgumentError(
                f"most_frames is {most_frames} with a corpus in memory: expected None, or a corpus "
                "of manifests"
            )
        self._lengths = None if most_frames is None else self._training.frames()
        frames = np.concatenate(list(self._sample()) or [np.zeros((0, 0))])
        if len(frames) == 0:
            reason = next(iter(self.faults.values()), "it is empty")
            raise ArgumentError(f"corpus has no utterance to train with: {reason}")
        if frames.shape[1] != self.config.n_features:
            raise ArgumentError(
                f"config.n_features is {self.config.n_features!r}: expected {frames.shape[1]}, "
                "as in the corpus"
            )
        self._mean, self._std = frames.mean(axis=0), np.maximum(frames.std(axis=0), LEAST_STD)

    @property
    def settings(self) -> dict[str, object]:
        """The settings that distinguish this task from others on the same corpus."""
        names = ("fold", "batch_size", "curriculum", "divergence_every")
        recipe = {"config": asdict(self.config), "augmentation": None}
        if self.most_frames is not None:
            recipe["most_frames"] = self.most_frames
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
        """Yield batches: random ones without end for "train", fixed ones for other parts."""
        if split == "train":
            yield from self._training_batches(rng)
        strings = [u for u in self.strings(split) if unlearnable(u, self.config) is None]
        strings.sort(key=lambda u: len(u.features))
        for first in range(0, len(strings), self.batch_size):
            yield collate(strings[first : first + self.batch_size], self.config)

    def longest(self, step: int) -> float:
        """Return how many words an utterance may have at a step of the curriculum."""
        if step < 0.1 * self.curriculum:
            return 1
        return 3 if step < 0.3 * self.curriculum else math.inf

    def _training_batches(self, rng: np.random.Generator) -> Iterator[Batch]:
        seed, first, n = int(rng.integers(2**31)), self.first_batch, len(self._training)
        if self._lengths is None:
            plan = batches_of_size(n, seed, self.batch_size)
        else:
            plan = batches_of_frames(self._lengths, seed, self.most_frames)
        for step, batch in enumerate(itertools.islice(plan, first, None), start=first):
            compared = [position % self.divergence_every == 0 for position in range(len(batch))]
            share = self._share([not c for c in compared])
            longest = self.longest(step)
            drawn = [
                self._drawn(batch[p][0], longest, np.random.default_rng([seed, *batch[p][1:]]))
                for p in share
            ]
            yield collate(drawn, self.config, [compared[p] for p in share])

    def _share(self, keys: Sequence[Any]) -> list[int]:
        """Positions in a batch of the utterances that this process computes.

        They are dealt in the order of their keys, so that the processes have equal work.
        """
        rank, world = self.shard
        if len(keys) < world:
            raise ArgumentError(
                f"batch_size is {len(keys)} with {world} processes: expected at least one "
                "utterance for each process"
            )
        return sorted(sorted(range(len(keys)), key=keys.__getitem__)[rank::world])

    def _drawn(self, i: int, longest: float, rng: np.random.Generator) -> Utterance:
        """Return training utterance i, or the next one that can be used, cut and varied."""
        for k in range(i, i + len(self._training)):
            utterance = self._usable(k % len(self._training))
            if utterance is not None:
                break
        else:
            reason = next(iter(self.faults.values()), "it is empty")
            raise ArgumentError(f"corpus has no utterance to train with: {reason}")
        if self.curriculum:
            utterance = self._cut(utterance, longest, rng)
        if self.augmentation is None:
            return utterance
        return replace(utterance, features=self.augmentation(utterance.features, self._std, rng))

    def _cut(self, utterance: Utterance, longest: float, rng: np.random.Generator) -> Utterance:
        """Return some neighbouring words of an utterance, or the whole utterance."""
        n_words = len(utterance.text.split())
        if longest == math.inf:
            n = n_words if rng.integers(2) else int(rng.integers(1, n_words + 1))
        else:
            n = int(rng.integers(1, min(longest, n_words) + 1))
        cuts = None if n == n_words else word_cuts(utterance)
        if cuts is None:
            return utterance
        part = span(utterance, cuts, int(rng.integers(n_words - n + 1)), n)
        return utterance if unlearnable(part, self.config) else part

    def _usable(self, i: int) -> Utterance | None:
        """Return a training utterance; None if it cannot be read, or the model cannot learn it."""
        utterance = self._read("train", self._training, i)
        if utterance is None or (reason := unlearnable(utterance, self.config)) is None:
            return utterance
        self.faults["train", i] = reason
        return None

    def _read(self, part: str, utterances: Sequence[Utterance], i: int) -> Utterance | None:
        try:
            return utterances[i]
        except (ArgumentError, OSError) as error:
            self.faults[part, i] = str(error)
            return None

    def _sample(self) -> Iterator[np.ndarray]:
        """Yield the features of some training utterances, for the normalisation."""
        n = len(self._training)
        for i in range(n) if n <= SAMPLE else sorted(shuffled(n, 0, 0)[:SAMPLE]):
            utterance = self._read("train", self._training, int(i))
            if utterance is not None:
                yield utterance.features

    def strings(self, part: str) -> list[Utterance]:
        """Return the utterances of dev or test. Those that cannot be read are left out."""
        utterances = self.corpus.strings(part, self.fold)
        read = (self._read(part, utterances, i) for i in range(len(utterances)))
        return [utterance for utterance in read if utterance is not None]

    def outputs(self, model: Transducer, batch: Batch, bucket: int = 8) -> Tensor | Joint:
        """Return the logits (N, S, U + 1, K) of a batch, computed in buckets of similar length.

        If the joint is computed in chunks, return what goes into the joiner instead.

        Most cells of a padded batch are padding. So the batch is split into buckets of `bucket`
        utterances, and each bucket is padded only to its longest utterance. Then the logits of the
        bucket are padded to the size of the batch.
        """
        model = unwrapped(model)
        if self.chunked:
            return joint_of(model, batch.features, batch.feature_lengths, batch.targets, bucket)
        if len(batch.targets) == 0:
            return batch.features.new_zeros(0, 0, 0, len(self.config.units) + 1)
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

    def loss(self, model: Transducer, batch: Batch) -> tuple[Tensor, Tensor | Joint]:
        """Return the mean over utterances of cost / target length, and the outputs."""
        self._check(model)
        outputs = self.outputs(model, batch)
        lattice = batch.targets, batch.feature_lengths // self.config.stack, batch.target_lengths
        if self.chunked:
            costs = chunked_costs(*outputs, *lattice)
        else:
            costs = rnnt_loss(outputs, *lattice, reduction="none")
        return (costs / batch.target_lengths).mean(), outputs

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

    def reference_outputs(self, model: Transducer, batch: Batch) -> Tensor | Joint:
        """Return the outputs for the utterances that the divergence uses."""
        return self.outputs(model, batch.pick(self._used(batch)))

    def terms(self, batch: Batch) -> tuple[int, int]:
        """Return how many utterances a batch has, and how many cells its divergence compares."""
        used = batch.pick(self._used(batch))
        cells = (used.feature_lengths // self.config.stack) * (used.target_lengths + 1)
        return len(batch.targets), int(cells.sum())

    def split(self, batch: Batch, n: int) -> list[Batch]:
        """Split a batch into at most n parts of similar size, see `Batch.split`."""
        return batch.split(n, self._used(batch))

    def _used(self, batch: Batch) -> Tensor | slice:
        """Positions of the utterances that the divergence uses."""
        every = slice(None, None, self.divergence_every)
        return every if batch.compared is None else batch.compared

    def divergence(
        self, reference_outputs: Tensor | Joint, outputs: Tensor | Joint, batch: Batch
    ) -> Tensor:
        """Return the compression error of the outputs: the mean over cells (s, u) of

            KL(p_reference || p) = sum_k p_reference(k) (log p_reference(k) - log p(k))

        The mean is over all cells, except padding, of every `divergence_every`-th utterance.

        References
        ----------
        Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network",
        arXiv:1503.02531.
        """
        used = batch.pick(self._used(batch))
        if self.chunked:
            lengths = used.feature_lengths // self.config.stack, used.target_lengths
            return chunked_divergence(reference_outputs, outputs.pick(self._used(batch)), *lengths)
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
        strings = self.strings(split)
        texts = [u.text for u in strings]
        self._check(model)
        hypotheses = self._transcribe(model, [u.features for u in strings])
        return utterance_errors(texts, hypotheses), np.array([len(t.split()) for t in texts])
