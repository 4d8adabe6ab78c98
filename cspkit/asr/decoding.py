"""Greedy decoding of a Transducer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cspkit.asr.transducer import Transducer

MAX_SYMBOLS = 3  # labels that one stacked frame may emit: a bound on a model gone astray


def transcribe(
    model: Transducer, features: np.ndarray | Sequence[np.ndarray], batch_size: int = 128
) -> str | list[str]:
    """Recognise one utterance, or many.

    Parameters
    ----------
    model : Transducer
    features : ndarray, shape (T, n_features), or a sequence of such
        Raw features.
    batch_size : int
        Utterances that are decoded together.

    Returns
    -------
    str or list of str
        The words; a list for a sequence of utterances.

    Raises
    ------
    ValueError
        If features contain NaN or infinity, have another shape, or fill no stacked frame.
    """
    if isinstance(features, np.ndarray) and features.ndim == 2:
        return transcribe(model, [features])[0]
    tensors = [_checked(model, f) for f in features]
    by_length = sorted(range(len(tensors)), key=lambda i: len(tensors[i]))
    texts = [""] * len(tensors)
    for first in range(0, len(by_length), batch_size):
        chosen = by_length[first : first + batch_size]
        labels = greedy(
            model,
            pad_sequence([tensors[i] for i in chosen], batch_first=True),
            torch.tensor([len(tensors[i]) for i in chosen]),
        )
        for i, sequence in zip(chosen, labels, strict=True):
            texts[i] = model.config.text(sequence)
    return texts


@torch.no_grad()
def greedy(model: Transducer, features: Tensor, lengths: Tensor) -> list[list[int]]:
    """Greedy time-synchronous decoding: the best unit of each cell, until it is the blank.

    Parameters
    ----------
    model : Transducer
    features : Tensor, shape (N, T, n_features)
    lengths : Tensor, shape (N,)
        Feature frames of each utterance.

    Returns
    -------
    list of list of int
        Labels of each utterance.
    """
    blank, N = model.config.blank, len(features)
    frames, _ = model.encode(features)
    lengths = lengths // model.config.stack
    predicted, state = model.predict(torch.full((N, 1), blank))
    sequences: list[list[int]] = [[] for _ in range(N)]
    for s in range(frames.shape[1]):
        active = s < lengths
        for _ in range(MAX_SYMBOLS):
            best = model.join(frames[:, s : s + 1], predicted)[:, 0, 0].argmax(dim=-1)
            active = active & (best != blank)
            emitting = active.nonzero().squeeze(1)
            if len(emitting) == 0:
                break
            for n in emitting.tolist():
                sequences[n].append(int(best[n]))
            old = tuple(part[:, emitting] for part in state)
            predicted[emitting], new = model.predict(best[emitting, None], old)
            for part, new_part in zip(state, new, strict=True):
                part[:, emitting] = new_part
    return sequences


def _checked(model: Transducer, features: np.ndarray) -> Tensor:
    features = np.asarray(features, dtype=np.float32)
    C, stack = model.config.n_features, model.config.stack
    if features.ndim != 2 or features.shape[1] != C or len(features) < stack:
        raise ValueError(
            f"features have shape {features.shape}: expected (T, {C}) with T >= {stack}"
        )
    if not np.isfinite(features).all():
        raise ValueError("features contain NaN or infinity")
    return torch.from_numpy(features)
