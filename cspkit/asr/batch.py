"""Batches of utterances of different lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cspkit.arguments import ArgumentError
from cspkit.asr.corpus import Utterance
from cspkit.asr.decoding import MAX_SYMBOLS
from cspkit.asr.transducer_config import TransducerConfig


class Batch(NamedTuple):
    """Utterances, sorted from short to long and padded to one length.

    Attributes
    ----------
    features : Tensor, shape (N, T, n_features)
    feature_lengths : Tensor, shape (N,)
    targets : Tensor, shape (N, U)
    target_lengths : Tensor, shape (N,)
    compared : Tensor, shape (M,), optional
        Positions of the utterances that the divergence uses.
    group : tuple of int, optional
        Batches with the same `group` compare the same utterances.
    """

    features: Tensor
    feature_lengths: Tensor
    targets: Tensor
    target_lengths: Tensor
    compared: Tensor | None = None
    group: tuple[int, ...] | None = None

    def pick(self, positions: Tensor | slice) -> Batch:
        """Return a batch of the utterances at these positions."""
        return Batch(*(part[positions] for part in self[:4]))

    def split(self, n: int, compared: Tensor | slice) -> list[Batch]:
        """Split into at most n batches, whose numbers of utterances differ by one at most.

        Parameters
        ----------
        n : int
        compared : Tensor or slice
            Positions of the utterances that the divergence uses. They too are shared equally.
        """
        is_compared = torch.zeros(len(self.targets), dtype=torch.bool)
        is_compared[compared] = True
        order = torch.cat([is_compared.nonzero()[:, 0], (~is_compared).nonzero()[:, 0]])
        parts = []
        for i in range(min(n, len(order))):
            positions = order[i::n].sort().values
            part = self.pick(positions)
            parts.append(
                Batch(
                    part.features[:, : int(part.feature_lengths.max())],
                    part.feature_lengths,
                    part.targets[:, : int(part.target_lengths.max())],
                    part.target_lengths,
                    is_compared[positions].nonzero()[:, 0],
                    None if self.group is None else (*self.group, n, i),
                )
            )
        return parts

    def to(self, device: torch.device | str) -> Batch:
        """Return the same batch on a device."""
        return Batch(*(p.to(device) if isinstance(p, Tensor) else p for p in self))


def collate(
    utterances: Sequence[Utterance],
    config: TransducerConfig,
    compared: Sequence[bool] | None = None,
    group: tuple[int, ...] | None = None,
) -> Batch:
    """Sort utterances by length and pad them to a batch.

    Parameters
    ----------
    utterances : sequence of Utterance
    config : TransducerConfig
    compared : sequence of bool, optional
        Whether the divergence uses an utterance, for each of them.
    group : tuple of int, optional
        Names the utterances that are compared, see `Batch`.

    Raises
    ------
    ArgumentError
        If a text has an unknown unit, or more units than decoding can emit in its frames.
    """
    order = sorted(range(len(utterances)), key=lambda i: len(utterances[i].features))
    if compared is not None:
        compared = torch.tensor([p for p, i in enumerate(order) if compared[i]], dtype=torch.long)
    utterances = [utterances[i] for i in order]
    for utterance in utterances:
        if reason := unlearnable(utterance, config):
            raise ArgumentError(reason)
    labels = [config.labels(u.text) for u in utterances]
    return Batch(
        features=pad_sequence(
            [torch.from_numpy(u.features).float() for u in utterances], batch_first=True
        ),
        feature_lengths=torch.tensor([len(u.features) for u in utterances]),
        targets=pad_sequence([torch.tensor(units) for units in labels], batch_first=True),
        target_lengths=torch.tensor([len(units) for units in labels]),
        compared=compared,
        group=group,
    )


def labels_of(utterance: Utterance, config: TransducerConfig) -> list[int]:
    """Return the labels of the text; an error about an unknown unit names the utterance."""
    try:
        return config.labels(utterance.text)
    except ArgumentError as error:
        raise ArgumentError(f"utterance {utterance.id!r}: {error}") from None


def unlearnable(utterance: Utterance, config: TransducerConfig) -> str | None:
    """Return why a model cannot learn an utterance, or None.

    Its text may have an unknown unit, or more units than decoding can emit in its frames.
    """
    try:
        units = labels_of(utterance, config)
    except ArgumentError as error:
        return str(error)
    most = len(utterance.features) // config.stack * MAX_SYMBOLS
    if len(units) <= most:
        return None
    return (
        f"utterance {utterance.id!r} has {len(units)} units in {len(utterance.features)} frames: "
        f"expected at most {most}"
    )
