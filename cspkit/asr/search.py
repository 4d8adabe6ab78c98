"""Greedy search and beam search: the labels of a batch of utterances, and their frames."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cspkit.asr.transducer import Transducer

MAX_SYMBOLS = 3  # most labels that one stacked frame may emit, so that every search ends
MARGIN = 8.0  # in nats: beam search adds no hypothesis that is this far below the best one
_MULTIPLIER = 6364136223846793005  # for the rolling hash of labels, modulo 2^64

Path = list[tuple[int, int]]  # pairs of a label and the stacked frame that emits it


@torch.no_grad()
def greedy_paths(model: Transducer, features: Tensor, lengths: Tensor) -> list[Path]:
    """Take the best unit of each cell until it is the blank, see `cspkit.asr.greedy`."""
    blank, N = model.config.blank, len(features)
    frames, _ = model.encode(features)
    lengths = lengths // model.config.stack
    predicted, state = model.predict(torch.full((N, 1), blank, device=model.device))
    paths: list[Path] = [[] for _ in range(N)]
    for s in range(frames.shape[1]):
        active = s < lengths
        for _ in range(MAX_SYMBOLS):
            best = model.join(frames[:, s : s + 1], predicted)[:, 0, 0].argmax(dim=-1)
            active = active & (best != blank)
            emitting = active.nonzero().squeeze(1)
            if len(emitting) == 0:
                break
            for n in emitting.tolist():
                paths[n].append((int(best[n]), s))
            old = tuple(part[:, emitting] for part in state)
            predicted[emitting], new = model.predict(best[emitting, None], old)
            for part, new_part in zip(state, new, strict=True):
                part[:, emitting] = new_part
    return paths


class _Beam(NamedTuple):
    """W hypotheses of each of N utterances; all tensors have shape (N, W)."""

    score: Tensor  # log probability, float64; -inf if the place is empty
    key: Tensor  # hash of the labels
    node: Tensor  # node of the last label, in the tree of all emitted labels
    row: Tensor  # row of the predictor's output and state after the last label


class _Tree:
    """All emitted labels, each with its frame and its parent node."""

    def __init__(self) -> None:
        self.size = 1  # node 0 is the root, before any label
        self._added: list[tuple[Tensor, Tensor, int]] = []

    def add(self, parents: Tensor, labels: Tensor, frame: int) -> Tensor:
        """Add nodes and return their numbers."""
        self._added.append((parents, labels, frame))
        self.size += len(parents)
        return torch.arange(self.size - len(parents), self.size, device=parents.device)

    def paths(self, nodes: list[int]) -> list[Path]:
        """Return the labels and frames from the root to each of `nodes`."""
        parent, label, frame = [0], [0], [0]
        for parents, labels, s in self._added:
            parent += parents.tolist()
            label += labels.tolist()
            frame += [s] * len(labels)
        paths = []
        for node in nodes:
            path = []
            while node:
                path.append((label[node], frame[node]))
                node = parent[node]
            paths.append(path[::-1])
        return paths


@torch.no_grad()
def beam_paths(
    model: Transducer, features: Tensor, lengths: Tensor, width: int
) -> tuple[list[Path], Tensor]:
    """Find the most probable labels, see `cspkit.asr.beam_search`.

    Returns
    -------
    paths : list of Path
        The best hypothesis of each utterance.
    log_p : Tensor, shape (N,)
        Its log probability, float64.
    """
    N, blank = len(features), model.config.blank
    # Utterances are sorted from long to short, so the first rows are those that have not ended.
    lengths, order = (lengths // model.config.stack).sort(descending=True, stable=True)
    frames, _ = model.encode(features[order])
    predicted, state = model.predict(torch.full((1, 1), blank, device=model.device))
    beam = _Beam(
        torch.full((N, width), -torch.inf, dtype=torch.float64, device=model.device),
        *torch.zeros(3, N, width, dtype=torch.long, device=model.device),
    )
    beam.score[:, 0] = 0.0
    tree = _Tree()
    ended: list[_Beam] = []

    for s in range(int(lengths[0])):
        running = int((lengths > s).sum())
        ended.append(_Beam(*(part[running:] for part in beam)))
        beam = entering = _Beam(*(part[:running] for part in beam))
        n_rows = len(predicted)
        for level in range(MAX_SYMBOLS + 1):
            logits = model.join(frames[:running, s : s + 1], predicted[entering.row, 0])[:, 0]
            log_p = logits.log_softmax(dim=-1).double()
            leaving = entering._replace(score=entering.score + log_p[..., blank])
            beam = leaving if level == 0 else _merged(beam, leaving)
            if level == MAX_SYMBOLS:
                break

            # Every further arc makes a hypothesis less probable. So a hypothesis with a score below
            # the lowest score of the beam cannot enter the beam later.
            longer = (entering.score[..., None] + log_p[..., :blank]).flatten(1)
            score, place = longer.topk(width)
            best, least = beam.score.amax(1, keepdim=True), beam.score.amin(1, keepdim=True)
            promising = score > torch.maximum(least, best - MARGIN)
            if not promising.any():
                break
            parent, label = place // blank, place % blank
            rows, labels = entering.row.gather(1, parent)[promising], label[promising]
            nodes = tree.add(entering.node.gather(1, parent)[promising], labels, s)
            added, new = model.predict(labels[:, None], tuple(part[:, rows] for part in state))
            new_rows = len(predicted) + torch.arange(len(rows), device=model.device)
            predicted = torch.cat([predicted, added])
            state = tuple(torch.cat(pair, dim=1) for pair in zip(state, new, strict=True))
            entering = _Beam(
                score.masked_fill(~promising, -torch.inf),
                entering.key.gather(1, parent) * _MULTIPLIER + label + 1,
                torch.zeros_like(place).masked_scatter(promising, nodes),
                torch.zeros_like(place).masked_scatter(promising, new_rows),
            )
        if len(predicted) > n_rows:  # drop predictor outputs that no hypothesis uses any more
            kept, row = beam.row.unique(return_inverse=True)
            beam = beam._replace(row=row)
            predicted, state = predicted[kept], tuple(part[:, kept] for part in state)

    whole = _Beam(*(torch.cat(parts) for parts in zip(beam, *reversed(ended), strict=True)))
    log_p, best = whole.score.max(dim=1)
    found = tree.paths(whole.node.gather(1, best[:, None])[:, 0].tolist())
    back = order.argsort()
    return [found[i] for i in back.tolist()], log_p[back]


def _merged(beam: _Beam, others: _Beam) -> _Beam:
    """Merge the hypotheses of two beams that have equal labels, and return the best ones.

    All hypotheses within one beam have different labels.
    """
    never = -torch.inf
    twins = (beam.key[:, :, None] == others.key[:, None, :]) & (
        (beam.score[:, :, None] > never) & (others.score[:, None, :] > never)
    )
    score, twin = others.score[:, None, :].masked_fill(~twins, never).max(dim=2)
    # A merged hypothesis takes its emission times from the more probable alignment.
    node = torch.where(score > beam.score, others.node.gather(1, twin), beam.node)
    beam = beam._replace(score=torch.logaddexp(beam.score, score), node=node)
    others = others._replace(score=others.score.masked_fill(twins.any(dim=1), never))
    score, place = torch.cat([beam.score, others.score], dim=1).topk(beam.score.shape[1])
    rest = (torch.cat(pair, 1).gather(1, place) for pair in zip(beam[1:], others[1:], strict=True))
    return _Beam(score, *rest)
