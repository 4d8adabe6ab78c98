"""The joint of a Transducer in chunks: its loss and its divergence without all logits at once.

The lattice of `rnnt_loss` needs two of the K log probabilities of a cell: that of the blank and
that of the next label. The functions here compute the logits of a rectangle of cells, take what
they need, and forget the logits. The backward pass computes the logits of each rectangle again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from cspkit.arguments import ArgumentError, count
from cspkit.asr.loss import (
    NEVER,
    arc_log_probabilities,
    arc_posteriors,
    forward_scores,
    path_costs,
    skew,
    softmax_gradient,
    subtract_arcs,
    unskew,
    validate_integers,
)
from cspkit.modules import unwrapped
from cspkit.task import evaluating, kl_divergence

LARGEST = 2**20  # numbers in the largest tensor of a chunk, 4 MiB in float32


class Joint(NamedTuple):
    """The joint of a batch: a model, and the two inputs of its joiner.

    A task can return a Joint as the outputs of a model, in place of the logits.

    Attributes
    ----------
    model : Transducer
    encoded : Tensor, shape (N, S, H)
        Outputs of `model.encode`.
    predicted : Tensor, shape (N, U + 1, P)
        Outputs of `model.predict` for `model.start(targets)`.
    """

    model: nn.Module
    encoded: Tensor
    predicted: Tensor

    def pick(self, positions: Tensor | slice) -> Joint:
        """Return the joint of the utterances at these positions."""
        return Joint(self.model, self.encoded[positions], self.predicted[positions])


def joint_of(
    model: nn.Module, features: Tensor, feature_lengths: Tensor, targets: Tensor, bucket: int = 8
) -> Joint:
    """Run the encoder and the predictor on a batch.

    Parameters
    ----------
    model : Transducer
    features : Tensor, shape (N, T, n_features)
    feature_lengths : Tensor, shape (N,)
    targets : Tensor, shape (N, U)
        Labels, padded with any labels.
    bucket : int
        The encoder takes this many utterances at a time, without the padding that all of them have.

    Returns
    -------
    Joint
    """
    model = unwrapped(model)
    if len(targets) == 0:
        return Joint(model, *features.new_zeros(2, 0, 1, 1))
    encoded = [
        model.encode(part[:, : int(n_frames.max())])[0]
        for part, n_frames in zip(
            features.split(bucket), feature_lengths.split(bucket), strict=True
        )
    ]
    S = max(part.shape[1] for part in encoded)
    encoded = [F.pad(part, (0, 0, 0, S - part.shape[1])) for part in encoded]
    return Joint(model, torch.cat(encoded), model.predict(model.start(targets))[0])


def chunked_costs(
    model: nn.Module,
    encoded: Tensor,
    predicted: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    *,
    largest: int = LARGEST,
) -> Tensor:
    """Return the costs of `rnnt_loss` without the logits of all cells at once.

    A chunk is a rectangle of cells of one utterance, s frames by u columns. Its logits and the
    hidden layer of its joiner have at most `largest` numbers. No chunk contains padding.

    Let J be the size of the hidden layer of the joiner. In float32 the largest parts of the memory
    are, in bytes,

        all logits at once    4 N S (U + 1) max(2 K + J, 3 J)
        in chunks             N (S + U) (100 (U + 1) + 8 J) + 16 `largest`

    The first line counts the logits, their gradient and the hidden layer, or the hidden layer and
    its gradients. The second line counts the lattice in float64, the projections of frames and
    histories to the hidden layer, and a chunk. With K = 1001, J = 640, N = 8, S = 100 and U = 40,
    330 MiB and 17 MiB were measured. The forward pass of the joiner is computed twice, but cells of
    the padding are not computed. The measured ratio of the times, without padding, is 1.0 for
    K = 1001 and 1.4 for K = 100, see `tests/benchmarks/joint_memory.py`.

    Parameters
    ----------
    model : Transducer
        Its joiner is used, and it gets a gradient.
    encoded : Tensor, shape (N, S, H)
        Outputs of `model.encode`.
    predicted : Tensor, shape (N, U + 1, P)
        Outputs of `model.predict` for `model.start(targets)`.
    targets : Tensor, shape (N, U)
        Labels. The padding at the end may be any integers.
    logit_lengths : Tensor, shape (N,)
        Stacked frames of each utterance, 1 to S.
    target_lengths : Tensor, shape (N,)
        Labels of each utterance, 0 to U.
    largest : int
        Bound on the numbers in a tensor of a chunk, at least K and `config.joiner_size`.

    Returns
    -------
    Tensor, shape (N,)
        In nats, as from `rnnt_loss` with `reduction="none"`; float64 for float64 logits, otherwise
        float32.

    Raises
    ------
    ArgumentError
        If shapes, dtypes, lengths or labels do not fit, or `largest` is too small for one cell.
    RuntimeError
        In the backward pass, if the weights of the model have changed since the forward pass.

    References
    ----------
    Chen et al., "Training deep nets with sublinear memory cost", arXiv:1604.06174.
    """
    joint = _checked(Joint(model, encoded, predicted))
    blank = joint.model.config.blank
    lengths = logit_lengths, target_lengths
    validate_integers(_shape(joint), encoded.device, targets, *lengths, blank)
    # The last column of an utterance has no label. It gets any label here; no path uses this arc.
    labels = F.pad(targets.long().clamp(0, blank), (0, 1)).split(1)
    cells = _cells(largest, joint)
    S, U1 = int(logit_lengths.max()), int(target_lengths.max()) + 1

    join, joint = _projected(joint)

    def arcs(frames: Tensor, histories: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = join(frames, histories)
        half = logits.dtype in (torch.float16, torch.bfloat16)
        return _Arcs.apply(logits.float() if half else logits, labels, blank)

    arcs = _recomputed(arcs, joint.model)
    scores = []  # log_blank and log_label of each utterance, padded to (1, S, U + 1)
    pieces = _pieces(joint, *lengths, cells)
    for (frames, histories), label in zip(pieces, labels, strict=True):
        columns = label[:, : sum(h.shape[1] for h in histories)].split(histories[0].shape[1], 1)
        rows = [[arcs(f, h, c) for h, c in zip(histories, columns, strict=True)] for f in frames]
        for arc in (0, 1):
            whole = torch.cat([torch.cat([cell[arc] for cell in row], 2) for row in rows], 1)
            padding = (0, U1 - whole.shape[2], 0, S - whole.shape[1])
            scores.append(F.pad(whole, padding, value=NEVER))
    arcs = torch.cat(scores[::2]), torch.cat(scores[1::2])
    return _LatticeCost.apply(*arcs, *(length.long() for length in lengths))


def chunked_divergence(
    reference: Joint,
    joint: Joint,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    *,
    largest: int = LARGEST,
) -> Tensor:
    """Return the compression error of the outputs without the logits of all cells at once.

        D = (1 / C) sum over the C valid cells of KL(p_reference || p)

    It is `cspkit.task.kl_divergence` of the cells that are not padding. The chunks are those of
    `chunked_costs`, each for both models. The memory is about 40 `largest` bytes in float32. The
    time is about that of the joint of the reference model, twice, and of `chunked_costs`.

    Parameters
    ----------
    reference : Joint
        It gets no gradient. Its model is in evaluation mode here.
    joint : Joint
        The same utterances, by the model that is pruned. Its padding may be longer.
    logit_lengths : Tensor, shape (N,)
        Stacked frames of each utterance, 1 to S.
    target_lengths : Tensor, shape (N,)
        Labels of each utterance, 0 to U.
    largest : int
        Bound on the numbers in a tensor of a chunk, see `chunked_costs`.

    Returns
    -------
    Tensor, shape ()
        Zero if there are no utterances.

    Raises
    ------
    ArgumentError
        If the two joints have different numbers of utterances or units, if lengths do not fit, or
        if `largest` is too small for one cell.
    RuntimeError
        As for `chunked_costs`.
    """
    reference, joint = _checked(reference, "reference."), _checked(joint)
    if len(reference.encoded) == len(joint.encoded) == 0:
        return joint.encoded.new_zeros(())
    lengths = logit_lengths, target_lengths
    sizes = []
    for part in (reference, joint):
        shape = _shape(part)
        sizes.append((shape[0], shape[3]))
        targets = target_lengths.new_zeros((shape[0], shape[2] - 1))
        validate_integers(shape, part.encoded.device, targets, *lengths, shape[3] - 1)
    if sizes[0] != sizes[1]:
        raise ArgumentError(
            f"reference has (N, K) = {sizes[0]} utterances and units, joint {sizes[1]}: expected "
            "equal numbers"
        )
    cells = _cells(largest, reference, joint)

    join, joint = _projected(joint)
    with torch.no_grad(), evaluating(reference.model):
        join_reference, reference = _projected(reference)

    def divergence(frames: Tensor, histories: Tensor, *expected: Tensor) -> Tensor:
        with torch.no_grad(), evaluating(reference.model):
            reference_logits = join_reference(*expected)
        logits = join(frames, histories)
        return kl_divergence(reference_logits, logits) * logits[..., 0].numel()

    divergence = _recomputed(divergence, reference.model, joint.model)
    terms = []
    pairs = zip(_pieces(joint, *lengths, cells), _pieces(reference, *lengths, cells), strict=True)
    for pieces, expected in pairs:
        frames, histories = (zip(*both, strict=True) for both in zip(pieces, expected, strict=True))
        histories = list(histories)
        terms += [divergence(f, h, rf, rh) for f, rf in frames for h, rh in histories]
    return torch.stack(terms).sum() / (logit_lengths * (target_lengths + 1)).sum()


class _Arcs(torch.autograd.Function):
    """Log probabilities of the blank and of the label of each cell: two tensors (N, T, U).

    The arguments are logits (N, T, U, K), labels (N, U) and the index of the blank.
    """

    @staticmethod
    def forward(ctx, logits, labels, blank):
        lse = torch.logsumexp(logits, dim=-1)
        ctx.blank, ctx.finite = blank, math.isfinite(lse.sum())
        scores = arc_log_probabilities(logits, lse, labels, blank)
        if not ctx.finite:  # no arc leaves a cell where every unit has probability zero
            for score in scores:
                score.masked_fill_(lse == -math.inf, -math.inf)
        ctx.save_for_backward(logits, lse, labels)
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_blank, grad_label):
        logits, lse, labels = ctx.saved_tensors
        grad = softmax_gradient(logits, lse, -(grad_blank + grad_label), ctx.finite)
        subtract_arcs(grad, labels, ctx.blank, -grad_blank, -grad_label)
        return grad, None, None


class _LatticeCost(torch.autograd.Function):
    """Costs (N,) from the log probabilities (N, T, U + 1) of the arcs, with NEVER as padding."""

    @staticmethod
    def forward(ctx, log_blank, log_label, logit_lengths, target_lengths):
        arcs = [skew(score.double().clamp(min=NEVER)) for score in (log_blank, log_label)]
        alpha = forward_scores(*arcs)
        ctx.save_for_backward(*arcs, alpha, logit_lengths, target_lengths)
        ctx.dtype, ctx.frames = log_blank.dtype, log_blank.shape[1]
        costs, ctx.impossible = path_costs(alpha, arcs[0], logit_lengths, target_lengths)
        return costs.to(ctx.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_costs):
        scale = torch.where(ctx.impossible, 0.0, grad_costs.double())[:, None, None]
        grads = (-unskew(xi, ctx.frames) * scale for xi in arc_posteriors(*ctx.saved_tensors))
        return *(grad.to(ctx.dtype) for grad in grads), None, None


def _checked(joint: Joint, owner: str = "") -> Joint:
    for name in ("encoded", "predicted"):
        tensor = getattr(joint, name)
        if not isinstance(tensor, Tensor) or tensor.dim() != 3 or 0 in tensor.shape[1:]:
            found = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ArgumentError(f"{owner}{name} is {found}: expected a tensor of 3 dimensions")
    if len(joint.encoded) != len(joint.predicted):
        raise ArgumentError(
            f"{owner}predicted has {len(joint.predicted)} utterances: expected "
            f"{len(joint.encoded)}, as {owner}encoded"
        )
    return joint._replace(model=unwrapped(joint.model))


def _shape(joint: Joint) -> tuple[int, int, int, int]:
    """The shape of all logits."""
    return *joint.encoded.shape[:2], joint.predicted.shape[1], joint.model.config.blank + 1


def _cells(largest: int, *joints: Joint) -> int:
    """Return how many cells a chunk may have."""
    configs = [joint.model.config for joint in joints]
    width = max(max(config.blank + 1, config.joiner_size) for config in configs)
    return count("largest", largest, least=width) // width


def _pieces(
    joint: Joint, logit_lengths: Tensor, target_lengths: Tensor, cells: int
) -> Iterator[tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]:
    """Yield pieces of the frames and of the histories of each utterance, without padding.

    A piece of frames and a piece of histories make a rectangle of at most `cells` cells.
    """
    # The backward pass of `split` puts the gradients of all pieces together, once.
    for frames, histories, S, U in zip(
        joint.encoded.split(1),
        joint.predicted.split(1),
        logit_lengths.tolist(),
        target_lengths.tolist(),
        strict=True,
    ):
        columns = min(cells, U + 1)
        yield frames[:, :S].split(cells // columns, 1), histories[:, : U + 1].split(columns, 1)


def _projected(joint: Joint) -> tuple[Callable, Joint]:
    """Do the part of the joiner that each frame and each history needs once, not in each cell."""
    model, encoded, predicted = joint
    if "joiner" in model.exchanged:
        return model.join, joint
    frames, histories = model.joiner_encoder(encoded), model.joiner_predictor(predicted)
    return model.join_projected, Joint(model, frames, histories)


def _recomputed(function: Callable, *models: nn.Module) -> Callable:
    """Let a function of tensors keep no results: the backward pass computes them again."""
    if not torch.is_grad_enabled():
        return function

    def versions() -> list[int]:
        return [p._version for model in models for p in model.parameters()]

    before = versions()

    def run(*tensors: Tensor) -> object:
        if versions() != before:
            raise RuntimeError(
                "backward: the weights of the model have changed since the forward pass; call "
                "backward before the optimizer's step, and inside `sparse` of the pruner"
            )
        return function(*tensors)

    return lambda *tensors: checkpoint(run, *tensors, use_reentrant=False)
