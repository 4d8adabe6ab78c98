"""The RNN-Transducer loss in plain PyTorch, computed along anti-diagonals.

The lattice of an utterance has a cell for every frame t and every number u of labels emitted so
far. From (t, u), a blank leads to (t + 1, u) and label u + 1 leads to (t, u + 1). All cells with
the same d = t + u form an anti-diagonal. They depend only on the cells of anti-diagonal d - 1, so
one vector operation computes them all.
"""

from __future__ import annotations

import math
from numbers import Real

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from cspkit.arguments import ArgumentError, count, one_of

# Stands for log(0). It adds nothing to a sum of probabilities, and NEVER - NEVER is finite.
NEVER = -1e30


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
    """Return the negative log probability of the targets, summed over all alignments.

        cost = -log sum over paths of  prod over arcs of  p(arc)

    The forward recursion, in float64, is

        alpha(t, u) = log( exp(alpha(t-1, u) + log p_blank(t-1, u))
                         + exp(alpha(t, u-1) + log p_label(t, u-1)) )

    The analytic gradient with respect to the logits of a cell is

        d cost / d logit_k = gamma p_k - [k = blank] xi_blank - [k = label] xi_label

    where xi_blank and xi_label are the posterior probabilities that a path leaves the cell by its
    blank and by its label, and gamma = xi_blank + xi_label is the posterior probability that a
    path passes through the cell.

    Values beyond the lengths of an utterance are padding. They may be anything, even NaN and
    infinity. They do not change the cost, and their gradient is exactly zero.

    Parameters
    ----------
    logits : Tensor, shape (N, T, U + 1, K)
        Outputs of the joiner, float32 or float64. float16 and bfloat16, which autocast produces,
        are converted to float32; the gradient has the dtype of `logits`.
    targets : Tensor, shape (N, U)
        Labels. The padding at the end may be any integers, for example -1.
    logit_lengths : Tensor, shape (N,)
        Frames of each utterance, 1 to T.
    target_lengths : Tensor, shape (N,)
        Labels of each utterance, 0 to U.
    blank : int
        Index of the blank unit; a negative index counts from the end.
    clamp : float
        If `clamp` is positive, the gradient of the cost of each utterance is clamped to
        [-clamp, clamp].
    reduction : {"mean", "sum", "none"}
        "mean" is the mean over utterances.
    fused_log_softmax : bool
        False if `logits` are log probabilities already.

    Returns
    -------
    Tensor
        A scalar, or shape (N,) with `reduction="none"`; float64 for float64 logits, otherwise
        float32. If every alignment has probability zero, the cost is infinite and its gradient
        is zero.

    Raises
    ------
    ArgumentError
        If shapes, dtypes, lengths, labels or options do not fit.

    References
    ----------
    Graves, "Sequence transduction with recurrent neural networks", arXiv:1211.3711.
    Bagby et al., "Efficient implementation of recurrent neural network transducer in
    TensorFlow", SLT 2018, doi:10.1109/SLT.2018.8639690 (anti-diagonals).
    """
    blank = validate(logits, targets, logit_lengths, target_lengths, blank)
    one_of("reduction", reduction, ("mean", "sum", "none"))
    if not isinstance(clamp, Real) or isinstance(clamp, bool) or math.isnan(clamp):
        raise ArgumentError(f"clamp is {clamp!r}: expected a number; use -1 for no clamp")
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    costs = _TransducerCost.apply(
        logits,
        targets.long().clamp(0, logits.shape[-1] - 1),  # makes padding a valid index
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
        # The backward pass computes the softmax again from the logits and lse. So the forward pass
        # stores no tensor of probabilities.
        lse = torch.logsumexp(logits, dim=-1) if fused else logits.new_zeros(logits.shape[:-1])
        ctx.finite = fused and math.isfinite(lse.sum())
        closed = None
        if not ctx.finite:  # close padding, and cells where every unit has probability zero
            frame = torch.arange(logits.shape[1], device=logits.device)[:, None]
            label = torch.arange(logits.shape[2], device=logits.device)
            closed = (frame >= logit_lengths[:, None, None]) | (lse == -math.inf)
            closed |= label > target_lengths[:, None, None]
        log_blank, log_label = arc_scores(logits, lse, targets, blank, closed)
        alpha = forward_scores(log_blank, log_label)
        ctx.save_for_backward(
            logits, lse, targets, log_blank, log_label, alpha, logit_lengths, target_lengths
        )
        ctx.blank, ctx.clamp, ctx.fused = blank, clamp, fused
        costs, ctx.impossible = path_costs(alpha, log_blank, logit_lengths, target_lengths)
        return costs.to(logits.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_costs):
        logits, lse, targets, *lattice = ctx.saved_tensors
        possible = ~ctx.impossible[:, None, None]
        scale = torch.where(possible, grad_costs[:, None, None].double(), 0.0)
        # The gradient of each cost is clamped before it is multiplied by `grad_costs`.
        arc_scale = possible if ctx.clamp > 0 else scale
        xi_blank, xi_label = (
            (unskew(xi, logits.shape[1]) * arc_scale).to(logits.dtype)
            for xi in arc_posteriors(*lattice)
        )
        if ctx.fused:
            grad = softmax_gradient(logits, lse, xi_blank + xi_label, ctx.finite)
        else:
            grad = torch.zeros_like(logits)
        subtract_arcs(grad, targets, ctx.blank, xi_blank, xi_label)
        if ctx.clamp > 0:
            grad.clamp_(-ctx.clamp, ctx.clamp).mul_(scale[..., None].to(grad.dtype))
        return grad, None, None, None, None, None, None


def path_costs(
    alpha: Tensor, log_blank: Tensor, logit_lengths: Tensor, target_lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the costs (N,), and which of them are infinite."""
    last = logit_lengths - 1 + target_lengths
    end = last, torch.arange(alpha.shape[1], device=alpha.device), target_lengths
    log_p = alpha[end] + log_blank[end]
    impossible = log_p < NEVER / 2
    return (-log_p).masked_fill_(impossible, math.inf), impossible


def arc_log_probabilities(
    logits: Tensor, lse: Tensor, labels: Tensor, blank: int
) -> tuple[Tensor, Tensor]:
    """Return the log probabilities of the blank of all cells, and of the labels of U columns."""
    T, U = logits.shape[1], labels.shape[1]
    log_blank = logits[..., blank] - lse
    index = labels[:, None, :, None].expand(-1, T, -1, -1)
    return log_blank, logits[:, :, :U].gather(-1, index).squeeze(-1) - lse[..., :U]


def softmax_gradient(logits: Tensor, lse: Tensor, gamma: Tensor, finite: bool) -> Tensor:
    """Return gamma p_k of each cell."""
    grad = (logits - lse[..., None]).exp_().mul_(gamma[..., None])
    if not finite:
        grad.masked_fill_(gamma[..., None] == 0, 0.0)  # 0 times NaN is NaN
    return grad


def subtract_arcs(
    grad: Tensor, labels: Tensor, blank: int, xi_blank: Tensor, xi_label: Tensor
) -> None:
    """Subtract the posteriors of the arcs from the gradient of the logits (N, T, U + 1, K)."""
    T, U = grad.shape[1], labels.shape[1]
    grad[..., blank] -= xi_blank
    index = labels[:, None, :, None].expand(-1, T, -1, -1)
    grad[:, :, :U].scatter_add_(-1, index, -xi_label[:, :, :U, None])


def arc_scores(
    logits: Tensor, lse: Tensor, targets: Tensor, blank: int, closed: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the log probabilities of the two arcs out of each cell.

    Parameters
    ----------
    logits : Tensor, shape (N, T, U + 1, K)
    lse : Tensor, shape (N, T, U + 1)
        Log of the sum over units of exp(logits).
    targets : Tensor, shape (N, U)
    blank : int
    closed : Tensor of bool, shape (N, T, U + 1), optional
        Cells whose arcs have probability zero, whatever their logits are.

    Returns
    -------
    log_blank, log_label : Tensor, shape (D, N, U + 1)
        float64. Row d holds the anti-diagonal t + u = d.
    """
    arcs = arc_log_probabilities(logits, lse, targets, blank)
    log_blank, log_label = (score.double().clamp_(min=NEVER) for score in arcs)
    log_label = F.pad(log_label, (0, 1), value=NEVER)
    if closed is not None:
        log_blank.masked_fill_(closed, NEVER)
        log_label.masked_fill_(closed, NEVER)
    return skew(log_blank), skew(log_label)


def forward_scores(log_blank: Tensor, log_label: Tensor) -> Tensor:
    """Compute alpha of all cells from the scores of the arcs. All shapes are (D, N, U + 1)."""
    alpha = torch.full_like(log_blank, NEVER)
    alpha[0, :, 0] = 0.0
    # All views are made before the loop, because slicing in it would take longer than the sums.
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
    """Return the posterior probabilities of the blank arc and the label arc out of each cell.

    Every path ends with the blank of the last cell. The recursion goes back from there. It splits
    the posterior probability of a cell among the arcs into the cell, in proportion to what each
    arc contributes to alpha.

    Parameters
    ----------
    log_blank, log_label, alpha : Tensor, shape (D, N, U + 1)
        Row d holds the anti-diagonal t + u = d.
    logit_lengths, target_lengths : Tensor, shape (N,)

    Returns
    -------
    xi_blank, xi_label : Tensor, shape (D, N, U + 1)
        Row d, column u belongs to the arcs that leave cell (t, u) = (d - u, u).
    """
    blank_share = (alpha[:-1] + log_blank[:-1] - alpha[1:]).clamp_(max=0.0).exp_()
    label_share = alpha[:-1, :, :-1] + log_label[:-1, :, :-1] - alpha[1:, :, 1:]
    label_share = label_share.clamp_(max=0.0).exp_()

    xi_blank, xi_label = torch.zeros_like(alpha), torch.zeros_like(alpha)
    utterance = torch.arange(alpha.shape[1], device=alpha.device)
    xi_blank[logit_lengths - 1 + target_lengths, utterance, target_lengths] = 1.0
    blanks, labels = xi_blank.unbind(), xi_label.unbind()
    label_arcs = xi_label[..., :-1].unbind()  # the last column has no label arcs
    blank_shares, label_shares = blank_share.unbind(), label_share.unbind()
    for d in range(len(alpha) - 2, -1, -1):
        gamma = blanks[d + 1] + labels[d + 1]
        blanks[d].addcmul_(gamma, blank_shares[d])
        torch.mul(gamma[:, 1:], label_shares[d], out=label_arcs[d])
    return xi_blank, xi_label


def skew(cells: Tensor) -> Tensor:
    """Turn (N, T, U + 1) into (D, N, U + 1), with cell (t, u) in row d = t + u.

    Entries outside the lattice become NEVER.
    """
    N, T, U1 = cells.shape
    D = T + U1 - 1
    # Pad the rows to D + 1 entries, and read them as rows of D entries: row u moves by u frames.
    rows = F.pad(cells.transpose(1, 2), (0, D + 1 - T), value=NEVER).reshape(N, -1)
    return rows[:, : U1 * D].view(N, U1, D).permute(2, 0, 1).contiguous()


def unskew(diagonals: Tensor, T: int) -> Tensor:
    """Turn (D, N, U + 1) back into (N, T, U + 1)."""
    D, N, U1 = diagonals.shape
    rows = F.pad(diagonals.permute(1, 2, 0).reshape(N, -1), (0, U1))
    return rows.view(N, U1, D + 1)[:, :, :T].transpose(1, 2)


def validate(logits, targets, logit_lengths, target_lengths, blank) -> int:
    """Check the arguments of `rnnt_loss`; return the blank index counted from the start."""
    if not isinstance(logits, Tensor):
        raise ArgumentError(f"logits is a {type(logits).__name__}: expected a tensor")
    if logits.dtype not in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        raise ArgumentError(f"logits are {logits.dtype}: expected floating-point numbers")
    if logits.dim() != 4 or 0 in logits.shape:
        raise ArgumentError(f"logits have shape {tuple(logits.shape)}: expected (N, T, U + 1, K)")
    lengths = logit_lengths, target_lengths
    return validate_integers(tuple(logits.shape), logits.device, targets, *lengths, blank)


def validate_integers(shape, device, targets, logit_lengths, target_lengths, blank) -> int:
    """Check targets and lengths for logits of this shape; return the blank index."""
    N, T, U1, K = shape
    expected = {"targets": (targets, (N, U1 - 1))}
    expected |= {"logit_lengths": (logit_lengths, (N,)), "target_lengths": (target_lengths, (N,))}
    for name, (tensor, size) in expected.items():
        if not isinstance(tensor, Tensor):
            raise ArgumentError(f"{name} is a {type(tensor).__name__}: expected a tensor")
        if tensor.is_floating_point() or tensor.is_complex():
            raise ArgumentError(f"{name} are {tensor.dtype}: expected integers")
        if tuple(tensor.shape) != size:
            raise ArgumentError(
                f"{name} have shape {tuple(tensor.shape)}: expected {size} "
                f"for logits of shape {shape}"
            )
        if tensor.device != device:
            raise ArgumentError(
                f"{name} are on {tensor.device}, logits on {device}: expected one device"
            )
    blank = count("blank", blank, least=-K, most=K - 1) % K
    for name, lengths, low, high in (
        ("logit_lengths", logit_lengths, 1, T),
        ("target_lengths", target_lengths, 0, U1 - 1),
    ):
        if lengths.min() < low or lengths.max() > high:
            raise ArgumentError(
                f"{name} are from {int(lengths.min())} to {int(lengths.max())}: "
                f"expected {low} to {high}"
            )
    used = torch.arange(U1 - 1, device=targets.device) < target_lengths[:, None]
    wrong = used & ((targets < 0) | (targets >= K) | (targets == blank))
    if wrong.any():
        raise ArgumentError(
            f"targets contain {int(targets[wrong][0])}: expected labels from 0 to {K - 1}, "
            f"not the blank {blank}"
        )
    return blank
