"""Connected digit recognition as a Task of the training loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cspkit.arguments import count
from cspkit.asr.augmentation import Augmentation
from cspkit.asr.corpus import MAX_DIGITS, Corpus, Utterance, load_spoken_digits
from cspkit.asr.decoding import MAX_SYMBOLS, transcribe
from cspkit.asr.features import N_MFCC
from cspkit.asr.loss import rnnt_loss
from cspkit.asr.normalisation import LEAST_STD
from cspkit.asr.scoring import utterance_errors, word_error_rate
from cspkit.asr.transducer import Transducer, TransducerConfig

AUGMENTATION = Augmentation(speed=0.2, warp=0.1, channel=0.4, noise=0.2)  # from scratch
LIGHT = Augmentation(speed=0.15, channel=0.2, noise=0.2)  # what a trained model goes on with
DENSE_STEPS = 3400  # of training the recorded dense models


@dataclass(frozen=True)
class Batch:
    """Utterances padded to one length, the shortest first.

    Attributes
    ----------
    features : Tensor, shape (N, T, n_features)
    feature_lengths : Tensor, shape (N,)
    targets : Tensor, shape (N, U)
    target_lengths : Tensor, shape (N,)
    """

    features: Tensor
    feature_lengths: Tensor
    targets: Tensor
    target_lengths: Tensor

    def every(self, n: int) -> Batch:
        """Every n-th utterance."""
        return Batch(*(part[::n] for part in self._parts))

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device."""
        return Batch(*(part.to(device) for part in self._parts))

    @property
    def _parts(self) -> tuple[Tensor, ...]:
        return self.features, self.feature_lengths, self.targets, self.target_lengths


def collate(utterances: Sequence[Utterance], config: TransducerConfig) -> Batch:
    """Sort utterances by length and pad them to a batch.

    Raises
    ------
    ValueError
        If a text has an unknown unit, or more units than its frames can emit when decoded.
    """
    utterances = sorted(utterances, key=lambda u: len(u.features))
    labels = [labels_of(u, config) for u in utterances]
    for utterance, units in zip(utterances, labels, strict=True):
        most = len(utterance.features) // config.stack * MAX_SYMBOLS
        if len(units) > most:
            raise ValueError(
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
    )


def labels_of(utterance: Utterance, config: TransducerConfig) -> list[int]:
    """Labels of what is said; a ValueError about a word that is no unit names the utterance."""
    try:
        return config.labels(utterance.text)
    except ValueError as error:
        raise ValueError(f"utterance {utterance.id!r}: {error}") from None


def mean_divergence(reference_logits: Tensor, logits: Tensor) -> Tensor:
    """Mean over cells of KL(p_reference || p), of logits (cells, K)."""
    log_p, log_reference = logits.log_softmax(dim=-1), reference_logits.log_softmax(dim=-1)
    return torch.nn.functional.kl_div(log_p, log_reference, reduction="batchmean", log_target=True)


class DigitTask:
    """Strings of spoken digits: a `cspkit.training.Task`.

    Parameters
    ----------
    corpus : Corpus, optional
        The embedded corpus where it is not given.
    fold : int or str
        0 to 4, which takes are tested on, or the name of the speaker who is held out.
    config : TransducerConfig, optional
        Units and frame stacking of the models.
    batch_size : int
        Utterances of a training batch.
    curriculum : int
        Length in steps of the curriculum of training from scratch: single digits for the first
        tenth, up to three until three tenths, up to seven after. 0 starts with up to seven.
    augmentation : Augmentation or None, optional
        Variation of the training strings; None trains on the features as they are. Where it is
        not given, it is `AUGMENTATION` with a curriculum, from scratch, and `LIGHT` without.
    divergence_every : int
        The divergence looks at every so-manieth utterance of a batch.
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
    ) -> None:
        self.corpus = corpus or load_spoken_digits()
        self.fold = fold
        self.config = config or TransducerConfig()
        self.batch_size = count("batch_size", batch_size)
        self.curriculum = count("curriculum", curriculum, least=0)
        if augmentation == "recipe":
            augmentation = AUGMENTATION if curriculum else LIGHT
            if self.config.n_features != N_MFCC:
                raise ValueError(
                    f"augmentation is the recipe, which is for {N_MFCC} cepstra, but "
                    f"config.n_features is {self.config.n_features}: expected None or an "
                    "Augmentation, such as cspkit.asr.task.AUGMENTATION where all are cepstra"
                )
        if not isinstance(augmentation, Augmentation | None):
            raise ValueError(f"augmentation is {augmentation!r}: expected an Augmentation or None")
        self.augmentation = augmentation
        self.divergence_every = count("divergence_every", divergence_every)
        self._by_speaker: dict[str, list[Utterance]] = {}
        for recording in self.corpus.recordings:
            labels_of(recording, self.config)  # a unit that is none is noticed before training
        for recording in self.corpus.split("train", fold):
            self._by_speaker.setdefault(recording.speaker, []).append(recording)
        frames = np.concatenate([r.features for r in self.corpus.split("train", fold)])
        if frames.shape[1] != self.config.n_features:
            raise ValueError(
                f"config.n_features is {self.config.n_features!r}: expected {frames.shape[1]}, "
                "as the corpus has them"
            )
        self._mean, self._std = frames.mean(axis=0), np.maximum(frames.std(axis=0), LEAST_STD)

    @property
    def settings(self) -> dict[str, object]:
        """What tells this task from others on the same corpus."""
        names = ("fold", "batch_size", "curriculum", "divergence_every")
        recipe = {"config": asdict(self.config), "augmentation": None}
        if self.augmentation is not None:
            recipe["augmentation"] = asdict(self.augmentation)
        return {name: getattr(self, name) for name in names} | recipe

    # What is trained, and how it is read.
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
        """Yield batches: drawn without end for "train", the fixed strings of the other parts."""
        if split == "train":
            step = 0
            while True:
                yield collate(self._draw(self.longest(step), rng), self.config)
                step += 1
        strings = sorted(self.corpus.strings(split, self.fold), key=lambda u: len(u.features))
        for first in range(0, len(strings), self.batch_size):
            yield collate(strings[first : first + self.batch_size], self.config)

    def longest(self, step: int) -> int:
        """Most digits of a string that the curriculum allows at a step."""
        if step < 0.1 * self.curriculum:
            return 1
        return 3 if step < 0.3 * self.curriculum else MAX_DIGITS

    def _draw(self, longest: int, rng: np.random.Generator) -> list[Utterance]:
        """Strings of one batch, each of one speaker, varied."""
        speakers = list(self._by_speaker)
        strings = []
        for _ in range(self.batch_size):
            recordings = self._by_speaker[speakers[rng.integers(len(speakers))]]
            n_digits = rng.integers(1, longest + 1)
            strings.append([recordings[i] for i in rng.integers(len(recordings), size=n_digits)])
        features = [np.concatenate([r.features for r in string]) for string in strings]
        if self.augmentation is not None:
            features = self.augmentation.batch(features, self._std, rng)
        return [
            Utterance(
                features=frames,
                text=" ".join(r.text for r in string),
                speaker=string[0].speaker,
                id="+".join(r.id for r in string),
            )
            for frames, string in zip(features, strings, strict=True)
        ]

    def outputs(self, model: Transducer, batch: Batch, bucket: int = 8) -> Tensor:
        """Logits (N, S, U + 1, K) of a batch, computed in buckets of similar length.

        Most cells of a padded batch are padding. A bucket of utterances is computed at its own
        longest length, and only its logits are padded to those of the batch.
        """
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
        """Mean over utterances of cost / target length, and the logits (N, S, U + 1, K)."""
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
        """Refuse a model that writes or hears other than this task's."""
        for name in ("units", "n_features", "stack"):
            own, other = getattr(self.config, name), getattr(model.config, name)
            if own != other:
                raise ValueError(f"config.{name} of the model is {other!r}: expected {own!r}")

    def reference_outputs(self, model: Transducer, batch: Batch) -> Tensor:
        """Logits of the utterances that the divergence looks at."""
        return self.outputs(model, batch.every(self.divergence_every))

    def divergence(self, reference_outputs: Tensor, outputs: Tensor, batch: Batch) -> Tensor:
        """Compression error in what the model computes: the mean over valid cells (s, u) of

            KL(p_reference || p) = sum_k p_reference(k) (log p_reference(k) - log p(k)),

        all valid cells of every `divergence_every`-th utterance.

        References
        ----------
        Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network",
        arXiv:1503.02531.
        """
        seen = batch.every(self.divergence_every)
        S, U1 = reference_outputs.shape[1:3]
        outputs = outputs[:: self.divergence_every, :S, :U1]
        frame = torch.arange(S, device=outputs.device)[:, None]
        label = torch.arange(U1, device=outputs.device)
        valid = (frame < (seen.feature_lengths // self.config.stack)[:, None, None]) & (
            label <= seen.target_lengths[:, None, None]
        )
        return mean_divergence(reference_outputs[valid], outputs[valid])

    @torch.no_grad()
    def evaluate(self, model: Transducer, split: str) -> dict[str, float]:
        """Return `wer`, the word error rate, and `loss`, the cost per unit in nats."""
        strings = self.corpus.strings(split, self.fold)
        hypotheses = self._transcribe(model, [u.features for u in strings])
        costs, utterances = 0.0, 0
        for batch in self.batches(split, np.random.default_rng(0)):
            per_unit, _ = self.loss(model, batch.to(model.device))
            costs += per_unit.item() * len(batch.targets)
            utterances += len(batch.targets)
        return {
            "wer": word_error_rate([u.text for u in strings], hypotheses),
            "loss": costs / utterances,
        }

    def errors(self, model: Transducer, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return word errors and words of each utterance; sum over sum is the WER.

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
        hypotheses = self._transcribe(model, [u.features for u in strings])
        return utterance_errors(texts, hypotheses), np.array([len(t.split()) for t in texts])
