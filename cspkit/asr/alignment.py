"""Where in an utterance its labels are: posteriors of the lattice, and its best path."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cspkit.asr.decoding import checked_features
from cspkit.asr.loss import arc_posteriors, arc_scores, forward_scores, unskew, validate
from cspkit.asr.transducer import Transducer


class Lattice(NamedTuple):
    """Posterior probabilities over the alignments of one utterance, given its labels.

    Attributes
    ----------
    gamma : ndarray, shape (T, U + 1)
        Probability that the alignment passes through the cell of frame t and u labels.
    blank, label : ndarray, shape (T, U + 1)
        Probability that it leaves the cell by its blank, by its label; their sum is gamma.
    log_probability : float
        Of the labels, summed over all alignments: the negative of the loss.
    path : ndarray, shape (U,)
        Frame that emits each label in the most probable alignment.
    path_log_probability : float
        Of that alignment alone.
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
    """Posterior probabilities over the lattice of one utterance.

        gamma(t, u) = sum over alignments through (t, u) of P(alignment) / P(labels)

    Every alignment passes each anti-diagonal t + u = d once, so gamma sums to 1 along it.

    Parameters
    ----------
    logits : Tensor, shape (T, U + 1, K)
        float32 or float64, the joiner's outputs.
    targets : Tensor, shape (U,)
        Labels.
    logit_length, target_length : int, optional
        Frames and labels that count, all where they are not given; the rest is cut off.
    blank : int
        Index of the blank unit; negative counts from the end.

    Returns
    -------
    Lattice
        Arrays of float64, of the lengths that count.

    Raises
    ------
    ValueError
        If shapes, lengths or labels do not fit, as `rnnt_loss` does.
    """
    if logits.dim() != 3 or targets.dim() != 1:
        raise ValueError(
            f"logits have shape {tuple(logits.shape)}, targets {tuple(targets.shape)}: "
            "expected (T, U + 1, K) and (U,), one utterance"
        )
    T = len(logits) if logit_length is None else logit_length
    U = len(targets) if target_length is None else target_length
    frames, labels = torch.tensor([[T], [U]], device=logits.device)
    blank = validate(logits[None], targets[None], frames, labels, blank, "none")

    logits, targets = logits[None, :T, : U + 1], targets[None, :U].long()
    lse = torch.logsumexp(logits, dim=-1)
    log_blank, log_label = arc_scores(logits, lse, targets, blank)
    alpha = forward_scores(log_blank, log_label)
    xi_blank, xi_label = arc_posteriors(log_blank, log_label, alpha, frames, labels)
    xi_blank, xi_label = unskew(xi_blank, T)[0], unskew(xi_label, T)[0]
    path, best = _viterbi(unskew(log_blank, T)[0], unskew(log_label, T)[0])
    return Lattice(
        gamma=(xi_blank + xi_label).numpy(force=True),
        blank=xi_blank.numpy(force=True),
        label=xi_label.numpy(force=True),
        log_probability=float(alpha[-1, 0, U] + log_blank[-1, 0, U]),
        path=path,
        path_log_probability=best,
    )


@torch.no_grad()
def align(model: Transducer, features: np.ndarray, text: str) -> Lattice:
    """Posterior probabilities over the lattice of an utterance whose words are known.

    Parameters
    ----------
    model : Transducer
    features : ndarray, shape (T, n_features)
        Raw features.
    text : str
        The words.

    Returns
    -------
    Lattice
        T counts stacked frames, of stack * 25 ms.

    Raises
    ------
    ValueError
        If features have another shape or contain NaN or infinity, or a word is no unit.
    """
    features = checked_features(model, features).to(model.device)
    targets = torch.tensor(model.config.labels(text), dtype=torch.long, device=model.device)
    return lattice_posteriors(model(features[None], targets[None])[0], targets)


def _viterbi(log_blank: Tensor, log_label: Tensor) -> tuple[np.ndarray, float]:
    """Emission frames of the most probable alignment, and its log probability."""
    T, U1 = log_blank.shape
    # Down a column, waiting costs the blanks so far: the best way into column u + 1 at frame t
    # is the best frame up to t at which to have emitted label u + 1, a running maximum.
    waited = torch.cat([log_blank.new_zeros(1, U1), log_blank.cumsum(dim=0)])  # before frame t
    score = waited[:T, 0]
    entered = []
    for u in range(U1 - 1):
        arriving = score + log_label[:, u] - waited[:T, u + 1]
        best, frame = arriving.cummax(dim=0)
        entered.append(frame)
        score = best + waited[:T, u + 1]
    path, t = np.empty(U1 - 1, dtype=np.int64), T - 1
    for u in range(U1 - 2, -1, -1):
        t = path[u] = int(entered[u][t])
    return path, float(score[T - 1] + log_blank[T - 1, U1 - 1])
