"""Alignment of labels with frames: posteriors of the lattice, and its most probable path."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cspkit.arguments import ArgumentError, count
from cspkit.asr.decoding import checked_features
from cspkit.asr.loss import NEVER, arc_posteriors, arc_scores, forward_scores, unskew, validate
from cspkit.asr.transducer import Transducer, checked_model
from cspkit.training import evaluating


class Lattice(NamedTuple):
    """Posterior probabilities of the alignments of one utterance, given its labels.

    Attributes
    ----------
    gamma : ndarray, shape (T, U + 1)
        Probability that the alignment passes through cell (t, u), where the frame is t and u
        labels have been emitted.
    blank, label : ndarray, shape (T, U + 1)
        Probability that the alignment leaves the cell by its blank arc, and by its label arc. The
        sum of the two arrays is gamma.
    log_probability : float
        Log probability of the labels, summed over all alignments: the negative of the loss.
    path : ndarray, shape (U,)
        The frame, from 0, that emits each label in the most probable alignment.
    path_log_probability : float
        Log probability of the most probable alignment.
    """

    gamma: np.ndarray
    blank: np.ndarray
    label: np.ndarray
    log_probability: float
    path: np.ndarray
    path_log_probability: float


@torch.no_grad()
def lattice_posteriors(
    logits: Tensor,
    targets: Tensor,
    logit_length: int | None = None,
    target_length: int | None = None,
    blank: int = -1,
) -> Lattice:
    """Compute posterior probabilities over the lattice of one utterance.

        gamma(t, u) = sum over alignments through (t, u) of P(alignment) / P(labels)

    Every alignment passes each anti-diagonal t + u = d once, so gamma sums to 1 along each of them.

    Parameters
    ----------
    logits : Tensor, shape (T, U + 1, K)
        Outputs of the joiner.
    targets : Tensor, shape (U,)
        Labels.
    logit_length, target_length : int, optional
        Number of frames and number of labels of the utterance. Everything after them is padding
        and is cut off. The default is no padding.
    blank : int
        Index of the blank unit; a negative index counts from the end.

    Returns
    -------
    Lattice
        float64 arrays without the padding.

    Raises
    ------
    ArgumentError
        If shapes, lengths or labels do not fit, if `logits` contain NaN, or if every alignment
        has probability zero.
    """
    for name, tensor in (("logits", logits), ("targets", targets)):
        if not isinstance(tensor, Tensor):
            raise ArgumentError(f"{name} is a {type(tensor).__name__}: expected a tensor")
    if logits.dim() != 3 or targets.dim() != 1:
        raise ArgumentError(
            f"logits have shape {tuple(logits.shape)}, targets {tuple(targets.shape)}: "
            "expected (T, U + 1, K) and (U,), one utterance"
        )
    T = len(logits) if logit_length is None else count("logit_length", logit_length)
    U = len(targets) if target_length is None else count("target_length", target_length, least=0)
    frames, labels = torch.tensor([[T], [U]], device=logits.device)
    blank = validate(logits[None], targets[None], frames, labels, blank)

    logits, targets = logits[None, :T, : U + 1].double(), targets[None, :U].long()
    lse = torch.logsumexp(logits, dim=-1)
    log_blank, log_label = arc_scores(logits, lse, targets, blank)
    alpha = forward_scores(log_blank, log_label)
    log_probability = float(alpha[-1, 0, U] + log_blank[-1, 0, U])
    if not log_probability > NEVER / 2:
        raise ArgumentError(
            "logits contain NaN, or give the targets probability zero: expected finite logits"
        )
    xi_blank, xi_label = arc_posteriors(log_blank, log_label, alpha, frames, labels)
    xi_blank, xi_label = unskew(xi_blank, T)[0], unskew(xi_label, T)[0]
    path, best = _viterbi(unskew(log_blank, T)[0], unskew(log_label, T)[0])
    return Lattice(
        gamma=(xi_blank + xi_label).numpy(force=True),
        blank=xi_blank.numpy(force=True),
        label=xi_label.numpy(force=True),
        log_probability=log_probability,
        path=path,
        path_log_probability=best,
    )


@torch.no_grad()
def align(model: Transducer, features: np.ndarray, text: str) -> Lattice:
    """Align an utterance with its known words: compute the posteriors of its lattice.

    Parameters
    ----------
    model : Transducer
    features : ndarray, shape (T, n_features)
        Raw features.
    text : str
        The spoken words.

    Returns
    -------
    Lattice
        A frame of the lattice is a stacked frame, which lasts stack * 25 ms.

    Raises
    ------
    ArgumentError
        If the features have another shape, or contain NaN or infinity; if a word, or a character,
        is not a unit of the model; or if the weights of the model contain NaN or infinity.
    """
    model = checked_model(model)
    features = checked_features(model, features).to(model.device)
    targets = torch.tensor(model.config.labels(text), dtype=torch.long, device=model.device)
    with evaluating(model):
        return lattice_posteriors(model(features[None], targets[None])[0], targets)


def _viterbi(log_blank: Tensor, log_label: Tensor) -> tuple[np.ndarray, float]:
    """Return the emission frames of the most probable alignment, and its log probability."""
    T, U1 = log_blank.shape
    # Within column u a path moves only by blanks, so a cumulative sum gives the score of a move.
    # The best path to cell (t, u + 1) emits label u + 1 in one of the frames 0 to t. A running
    # maximum finds this frame for every t.
    blank_sums = torch.cat([log_blank.new_zeros(1, U1), log_blank.cumsum(dim=0)])  # before frame t
    score = blank_sums[:T, 0]
    emission_frames = []
    for u in range(U1 - 1):
        best, frame = (score + log_label[:, u] - blank_sums[:T, u + 1]).cummax(dim=0)
        emission_frames.append(frame)
        score = best + blank_sums[:T, u + 1]
    path, t = np.empty(U1 - 1, dtype=np.int64), T - 1
    for u in range(U1 - 2, -1, -1):
        t = path[u] = int(emission_frames[u][t])
    return path, float(score[T - 1] + log_blank[T - 1, U1 - 1])
