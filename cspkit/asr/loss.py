"""The RNN-Transducer loss, by anti-diagonals, in plain PyTorch.

The lattice of an utterance has a cell for every frame t and every number u of labels emitted so
far. From (t, u) a blank leads to (t + 1, u), label u + 1 leads to (t, u + 1). All cells with the
same d = t + u, an anti-diagonal, depend only on those of d - 1, so each is one vector operation.
"""

from __future__ import annotations

import math
from numbers import Integral

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

NEVER = -1e30  # a log probability that adds nothing, yet stays finite in differences


def rnnt_loss(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int = -1,
    clamp: float = -1,
    reduction: str = "mean",
    fused_log_softmax: bool = True,
) -> Tensor:
    """Negative log probability of the targets, summed over all alignments.

        cost = -log sum over paths of  prod over arcs of  p(arc)

    with the forward recursion, in float64,

        alpha(t, u) = log( exp(alpha(t-1, u) + log p_blank(t-1, u))
                         + exp(alpha(t, u-1) + log p_label(t, u-1)) )

    and the analytic gradient with respect to the logits of a cell

        d cost / d logit_k = gamma p_k - [k = blank] xi_blank - [k = label] xi_label

    where xi are the posterior probabilities that a path takes the two arcs out of the cell, and
    gamma = xi_blank + xi_label that it passes through the cell.

    Parameters
    ----------
    logits : Tensor, shape (N, T, U + 1, K)
        float32 or float64, the joiner's outputs.
    targets : Tensor, shape (N, U)
        Labels, padded at the end with any valid label.
    logit_lengths : Tensor, shape (N,)
        Frames of each utterance, 1 to T.
    target_lengths : Tensor, shape (N,)
        Labels of each utterance, 0 to U.
    blank : int
        Index of the blank unit; negative counts from the end.
    clamp : float
        If positive, the gradient of each utterance's cost is clamped to [-clamp, clamp].
    reduction : {"mean", "sum", "none"}
        "mean" is over utterances.
    fused_log_softmax : bool
        False if `logits` already are log probabilities.

    Returns
    -------
    Tensor
        Scalar, or shape (N,) with `reduction="none"`; of the dtype of `logits`. Infinite where no
        alignment has a probability.

    Raises
    ------
    ValueError
        If shapes, lengths, labels or options do not fit; the message names the argument.

    References
    ----------
    Graves, "Sequence transduction with recurrent neural networks", arXiv:1211.3711.
    Bagby et al., "Efficient implementation of recurrent neural network transducer in
    TensorFlow", SLT 2018, doi:10.1109/SLT.2018.8639690 (anti-diagonals).
    """
    blank = validate(logits, targets, logit_lengths, target_lengths, blank, reduction)
    if math.isnan(clamp):
        raise ValueError(f"clamp is {clamp!r}: expected a number")
    costs = _TransducerCost.apply(
        logits,
        targets.long(),
        logit_lengths.long(),
        target_lengths.long(),
        blank,
        float(clamp),
        fused_log_softmax,
    )
    if reduction == "mean":
        return costs.mean()
    return costs.sum() if reduction == "sum" else costs


class _TransducerCost(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, targets, logit_lengths, target_lengths, blank, clamp, fused):
        # lse is the only thing that softmax needs beside the logits: they are not copied to keep.
        lse = torch.logsumexp(logits, dim=-1) if fused else logits.new_zeros(logits.shape[:-1])
        log_blank, log_label = arc_scores(logits, lse, targets, blank)
        alpha = forward_scores(log_blank, log_label)

        utterance = torch.arange(len(logits), device=logits.device)
        last = logit_lengths - 1 + target_lengths
        end = alpha[last, utterance, target_lengths] + log_blank[last, utterance, target_lengths]
        ctx.save_for_backward(
            logits, lse, targets, logit_lengths, target_lengths, log_blank, log_label, alpha
        )
        ctx.blank, ctx.clamp, ctx.fused = blank, clamp, fused
        cost = -end.to(logits.dtype)
        return cost.masked_fill_(end < NEVER / 2, math.inf)  # no path has a probability

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_costs):
        logits, lse, targets, logit_lengths, target_lengths, *lattice = ctx.saved_tensors
        xi_blank, xi_label = arc_posteriors(*lattice, logit_lengths, target_lengths)
        T, U1 = logits.shape[1:3]
        scale = grad_costs[:, None, None].double()
        # The clamp is on the gradient of each cost, before what the costs are reduced to.
        arc_scale = 1.0 if ctx.clamp > 0 else scale
        xi_blank = (unskew(xi_blank, T) * arc_scale).to(logits.dtype)
        xi_label = (unskew(xi_label, T) * arc_scale).to(logits.dtype)

        if ctx.fused:
            grad = (logits - lse[..., None]).exp_()
            grad.mul_((xi_blank + xi_label)[..., None])
        else:
            grad = torch.zeros_like(logits)
        grad[..., ctx.blank] -= xi_blank
        labels = targets[:, None, :, None].expand(-1, T, -1, -1)
        grad[:, :, : U1 - 1].scatter_add_(-1, labels, -xi_label[:, :, : U1 - 1, None])
        if ctx.clamp > 0:
            grad.clamp_(-ctx.clamp, ctx.clamp).mul_(scale[..., None].to(grad.dtype))
        return grad, None, None, None, None, None, None


def arc_scores(logits: Tensor, lse: Tensor, targets: Tensor, blank: int) -> tuple[Tensor, Tensor]:
    """Log probabilities of the two arcs out of each cell, float64, skewed to (D, N, U + 1)."""
    T, U1 = logits.shape[1:3]
    log_blank = (logits[..., blank] - lse).double().clamp_(min=NEVER)
    labels = targets[:, None, :, None].expand(-1, T, -1, -1)
    log_label = logits[:, :, : U1 - 1].gather(-1, labels).squeeze(-1)
    log_label = (log_label - lse[..., : U1 - 1]).double().clamp_(min=NEVER)
    log_label = F.pad(log_label, (0, 1), value=NEVER)
    return _skew(log_blank), _skew(log_label)


def forward_scores(log_blank: Tensor, log_label: Tensor) -> Tensor:
    """Alpha of all cells, by anti-diagonals; shapes (D, N, U + 1)."""
    alpha = torch.full_like(log_blank, NEVER)
    alpha[0, :, 0] = 0.0
    # Views of all anti-diagonals are made once: a small operation costs less than a slice.
    cells, entered, left = alpha.unbind(), alpha[..., 1:].unbind(), alpha[..., :-1].unbind()
    blanks, labels = log_blank.unbind(), log_label[..., :-1].unbind()
    for d in range(1, len(alpha)):
        torch.add(cells[d - 1], blanks[d - 1], out=cells[d])
        torch.logaddexp(entered[d], left[d - 1] + labels[d - 1], out=entered[d])
    return alpha


def arc_posteriors(
    log_blank: Tensor,
    log_label: Tensor,
    alpha: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
) -> tuple[Tensor, Tensor]:
    """Posterior probabilities of the blank and the label arc out of each cell.

    Every path ends with the blank of the last cell. From there the probability of having passed
    through a cell flows back along the arcs into it, in the proportion that they have in alpha.

    Parameters
    ----------
    log_blank, log_label, alpha : Tensor, shape (D, N, U + 1)
        Skewed: row d holds the anti-diagonal t + u = d.
    logit_lengths, target_lengths : Tensor, shape (N,)

    Returns
    -------
    xi_blank, xi_label : Tensor, shape (D, N, U + 1)
        Of the arcs that leave cell (d - u, u).
    """
    into_blank = (alpha[:-1] + log_blank[:-1] - alpha[1:]).clamp_(max=0.0).exp_()
    into_label = alpha[:-1, :, :-1] + log_label[:-1, :, :-1] - alpha[1:, :, 1:]
    into_label = into_label.clamp_(max=0.0).exp_()

    xi_blank, xi_label = torch.zeros_like(alpha), torch.zeros_like(alpha)
    utterance = torch.arange(alpha.shape[1], device=alpha.device)
    xi_blank[logit_lengths - 1 + target_lengths, utterance, target_lengths] = 1.0
    leaves_blank, leaves_label = xi_blank.unbind(), xi_label.unbind()
    moves, by_blank, by_label = (
        xi_label[..., :-1].unbind(),
        into_blank.unbind(),
        into_label.unbind(),
    )
    for d in range(len(alpha) - 2, -1, -1):
        gamma = leaves_blank[d + 1] + leaves_label[d + 1]
        leaves_blank[d].addcmul_(gamma, by_blank[d])
        torch.mul(gamma[:, 1:], by_label[d], out=moves[d])
    return xi_blank, xi_label


def _skew(cells: Tensor) -> Tensor:
    """(N, T, U + 1) to (D, N, U + 1) with row d = t + u; cells outside the lattice are NEVER."""
    N, T, U1 = cells.shape
    D = T + U1 - 1
    # Rows of length D + 1 read with length D start one later each: u frames later in row u.
    rows = F.pad(cells.transpose(1, 2), (0, D + 1 - T), value=NEVER).reshape(N, -1)
    return rows[:, : U1 * D].view(N, U1, D).permute(2, 0, 1).contiguous()


def unskew(diagonals: Tensor, T: int) -> Tensor:
    """(D, N, U + 1) back to (N, T, U + 1)."""
    D, N, U1 = diagonals.shape
    rows = F.pad(diagonals.permute(1, 2, 0).reshape(N, -1), (0, U1))
    return rows.view(N, U1, D + 1)[:, :, :T].transpose(1, 2)


def validate(logits, targets, logit_lengths, target_lengths, blank, reduction) -> int:
    """Check the arguments of `rnnt_loss`; return the blank index counted from the start."""
    if logits.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"logits are {logits.dtype}: expected float32 or float64")
    if logits.dim() != 4 or 0 in logits.shape:
        raise ValueError(f"logits have shape {tuple(logits.shape)}: expected (N, T, U + 1, K)")
    N, T, U1, K = logits.shape
    expected = {"targets": (targets, (N, U1 - 1))}
    expected |= {"logit_lengths": (logit_lengths, (N,)), "target_lengths": (target_lengths, (N,))}
    for name, (tensor, shape) in expected.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{name} is a {type(tensor).__name__}: expected a tensor")
        if tensor.is_floating_point() or tensor.is_complex():
            raise ValueError(f"{name} are {tensor.dtype}: expected integers")
        if tuple(tensor.shape) != shape:
            raise ValueError(
                f"{name} have shape {tuple(tensor.shape)}: expected {shape} "
                f"for logits of shape {tuple(logits.shape)}"
            )
        if tensor.device != logits.device:
            raise ValueError(f"{name} are on {tensor.device}, logits on {logits.device}")
    if not isinstance(blank, Integral) or not -K <= blank < K:
        raise ValueError(f"blank is {blank}: expected an index into {K} units")
    blank %= K
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction is {reduction!r}: expected 'mean', 'sum' or 'none'")
    for name, lengths, low, high in (
        ("logit_lengths", logit_lengths, 1, T),
        ("target_lengths", target_lengths, 0, U1 - 1),
    ):
        if lengths.min() < low or lengths.max() > high:
            raise ValueError(
                f"{name} are from {int(lengths.min())} to {int(lengths.max())}: "
                f"expected {low} to {high}"
            )
    used = torch.arange(U1 - 1, device=targets.device) < target_lengths[:, None]
    wrong = (targets < 0) | (targets >= K) | ((targets == blank) & used)
    if wrong.any():
        raise ValueError(
            f"targets contain {int(targets[wrong][0])}: expected labels from 0 to {K - 1}, "
            f"not the blank {blank}"
        )
    return blank
