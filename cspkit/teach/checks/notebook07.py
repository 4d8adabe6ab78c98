"""Checks of the exercises of notebook 07, the transducer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement

import numpy as np

from cspkit.teach.check import Verdict, as_array, exercise

Table = np.ndarray


def _tables(T: int, U: int, seed: int) -> tuple[Table, Table]:
    """Probabilities of the blank (T, U + 1) and of the next label (T, U)."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(4), size=(T, U + 1))
    return p[:, :, 0].copy(), p[:, :U, 1].copy()


def _same(given: Sequence[Table], kept: Sequence[Table]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(given, kept, strict=True))


def _arcs(T: int, frames: Sequence[int]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Cells left by a blank, and cells left by a label."""
    by_blank, by_label, u = [], [], 0
    for t in range(T):
        while u < len(frames) and frames[u] == t:
            by_label.append((t, u))
            u += 1
        by_blank.append((t, u))
    return by_blank, by_label


def _product(table: Table, cells: Sequence[tuple[int, int]]) -> float:
    return float(np.prod([table[cell] for cell in cells]))


@exercise("07.alignment_probability")
def alignment_probability(function: Callable[[Table, Table, list[int]], float]) -> Verdict:
    """Check the product along an alignment, with labels that share a frame and without."""
    cases = ((3, [1, 2]), (3, [0, 0]), (5, [1, 1, 3]), (4, [3]), (2, [0, 1, 1, 1]), (3, []))
    for T, frames in cases:
        tables = _tables(T, len(frames), seed=T)
        given = tuple(table.copy() for table in tables)
        answer, wrong = as_array(function(*given, list(frames)), ())
        if wrong:
            return wrong
        if not _same(given, tables):
            return "an input was modified in place"
        by_blank, by_label = _arcs(T, frames)
        right = _product(tables[0], by_blank) * _product(tables[1], by_label)
        if not np.isclose(answer, right, rtol=1e-6, atol=0):
            return _wrong_alignment(float(answer), right, *tables, frames)
    return None


def _wrong_alignment(
    answer: float, right: float, p_blank: Table, p_label: Table, frames: list[int]
) -> str:
    T = len(p_blank)
    by_blank, by_label = _arcs(T, frames)
    labels = _product(p_label, by_label)
    blanks = _product(p_blank, by_blank)
    known = [
        (labels * _product(p_blank, by_blank[:-1]), "the blank of the last frame is missing"),
        (labels, "the blanks are missing: every frame ends with one"),
        (blanks, "the labels are missing"),
        (np.log(right), "this is the logarithm; return the probability"),
        (-np.log(right), "this is the cost; return the probability"),
        (
            labels * _product(p_blank, [(t, 0) for t in range(T)]),
            "the blanks are all taken at u = 0; raise u after each label",
        ),
        (
            labels * _product(p_blank, [c for c in by_blank if c[0] not in frames]),
            "a frame that writes a label ends with a blank as well; those blanks are missing",
        ),
        (sum(p_label[c] for c in by_label) + sum(p_blank[c] for c in by_blank),
         "the arcs are added; multiply them"),
    ]  # fmt: skip
    before = [(t, u - sum(f == t for f in frames)) for t, u in by_blank]
    known.append(
        (
            labels * _product(p_blank, before),
            "the blank of a frame comes after its labels, at the raised u",
        )
    )
    if len(set(frames)) < len(frames):
        single, u = 1.0, 0
        for t in range(T):
            if u < len(frames) and frames[u] == t:
                single *= p_label[t, u]
                u += 1
            single *= p_blank[t, u]
        known.append((single, "several labels may share a frame: use `while`, not `if`"))
    for value, sentence in known:
        if np.isclose(answer, value, rtol=1e-6, atol=0):
            return sentence
    return f"for frames {frames} of {T} it gives {answer:.5g}, expected {right:.5g}"


def _beta(p_blank: Table, p_label: Table, end: float | None = None, largest=False) -> Table:
    """Backward table; `end` stands in for the last blank, `largest` takes the larger way."""
    T, U = p_label.shape
    beta = np.zeros((T, U + 1))
    for t in range(T - 1, -1, -1):
        for u in range(U, -1, -1):
            ways = []
            if t + 1 < T:
                ways.append(p_blank[t, u] * beta[t + 1, u])
            if u < U:
                ways.append(p_label[t, u] * beta[t, u + 1])
            if not ways:
                ways = [p_blank[t, u] if end is None else end]
            beta[t, u] = max(ways) if largest else sum(ways)
    return beta


def _alpha(p_blank: Table, p_label: Table) -> Table:
    T, U = p_label.shape
    alpha = np.zeros((T, U + 1))
    alpha[0, 0] = 1
    for t, u in np.ndindex(T, U + 1):
        if t:
            alpha[t, u] += alpha[t - 1, u] * p_blank[t - 1, u]
        if u:
            alpha[t, u] += alpha[t, u - 1] * p_label[t, u - 1]
    return alpha


def _every_blank_leaves(p_blank: Table, p_label: Table) -> Table:
    """Backward table with the mistake that all blanks of the last frame lead to the end."""
    T, U = p_label.shape
    beta = np.vstack([np.zeros((T, U + 1)), np.ones(U + 1)])
    for t in range(T - 1, -1, -1):
        for u in range(U, -1, -1):
            beta[t, u] = p_blank[t, u] * beta[t + 1, u]
            if u < U:
                beta[t, u] += p_label[t, u] * beta[t, u + 1]
    return beta[:T]


def _arcs_of_the_target_cell(p_blank: Table, p_label: Table) -> Table:
    """Backward table with the probabilities taken where the arcs arrive."""
    T, U = p_label.shape
    beta = np.zeros((T, U + 1))
    beta[-1, -1] = p_blank[-1, -1]
    for t in range(T - 1, -1, -1):
        for u in range(U, -1, -1):
            if t + 1 < T:
                beta[t, u] += p_blank[t + 1, u] * beta[t + 1, u]
            if u < U:
                beta[t, u] += p_label[t, min(u + 1, U - 1)] * beta[t, u + 1]
    return beta


@exercise("07.backward")
def backward(function: Callable[[Table, Table], Table]) -> Verdict:
    """Check the backward table, on lattices of several shapes."""
    for T, U in ((5, 3), (3, 2), (2, 4), (1, 2)):
        tables = _tables(T, U, seed=10 * T + U)
        given = tuple(table.copy() for table in tables)
        answer = function(*given)
        right = _beta(*tables)
        if np.ndim(answer) == 0 and answer is not None and np.isclose(answer, right[0, 0]):
            return "only beta(0, 0) is returned; return the whole table"
        if np.shape(answer) == (U + 1, T) != (T, U + 1):
            return f"the table has shape {(U + 1, T)}: frames go first, expected {(T, U + 1)}"
        beta, wrong = as_array(answer, (T, U + 1))
        if wrong:
            return wrong
        if not _same(given, tables):
            return "an input was modified in place"
        if not np.allclose(beta, right, rtol=1e-6, atol=0):
            return _wrong_backward(beta, right, *tables)
    return None


def _wrong_backward(beta: Table, right: Table, p_blank: Table, p_label: Table) -> str:
    known = (
        (
            _beta(p_blank, p_label, end=1.0),
            "the last cell is 1; its blank, which ends the utterance, is missing",
        ),
        (_alpha(p_blank, p_label), "this is alpha, the ways from the start"),
        (
            _beta(p_blank, p_label, largest=True),
            "the larger way is taken; add the two ways",
        ),
        (
            _every_blank_leaves(p_blank, p_label),
            "in the last frame only the blank of the last cell leads to the end; the others leave "
            "the lattice with labels missing",
        ),
        (
            _arcs_of_the_target_cell(p_blank, p_label),
            "the probabilities are taken at the cell where an arc arrives; an arc belongs to the "
            "cell that it leaves",
        ),
        (np.log(right), "these are logarithms; return probabilities"),
        (right * _alpha(p_blank, p_label), "this is alpha * beta; return beta alone"),
    )
    for value, sentence in known:
        if np.allclose(beta, value, rtol=1e-6, atol=0):
            return sentence
    if not np.isclose(beta[-1, -1], p_blank[-1, -1]):
        return f"the last cell is {beta[-1, -1]:.4g}, expected its blank, {p_blank[-1, -1]:.4g}"
    T, U1 = beta.shape
    if not np.allclose(beta[-1], right[-1]):
        return "the last frame is wrong: there, only labels lead on (but for the last cell)"
    if not np.allclose(beta[:, -1], right[:, -1]):
        return "the row u = U is wrong: there, only blanks lead on"
    t, u = np.argwhere(~np.isclose(beta, right))[-1]
    return f"beta({t}, {u}) is {beta[t, u]:.4g}, expected {right[t, u]:.4g}"


@exercise("07.cell_gradient")
def cell_gradient(function: Callable[[Table, float, float, int], Table]) -> Verdict:
    """Check the gradient of a cell, for several numbers of units."""
    cases = ((3, 0.3, 0.5, 0), (5, 0.2, 0.1, 2), (4, 0.6, 0.0, 1), (6, 0.0, 0.7, 3))
    for K, xi_blank, xi_label, label in cases:
        p = np.random.default_rng(K).dirichlet(np.ones(K))
        given = p.copy()
        gradient, wrong = as_array(function(given, xi_blank, xi_label, label), (K,))
        if wrong:
            return wrong
        if not np.array_equal(given, p):
            return "p was modified in place; `gamma * p` makes a new array"
        right = _gradient(p, xi_blank, xi_label, label)
        if not np.allclose(gradient, right, atol=1e-9):
            return _wrong_gradient(gradient, p, xi_blank, xi_label, label)
    return None


def _gradient(p: Table, xi_blank: float, xi_label: float, label: int, gamma=None) -> Table:
    gradient = (xi_blank + xi_label if gamma is None else gamma) * p
    gradient[-1] -= xi_blank
    gradient[label] -= xi_label
    return gradient


def _wrong_gradient(g: Table, p: Table, xi_blank: float, xi_label: float, label: int) -> str:
    gamma = xi_blank + xi_label
    first = gamma * p
    first[0] -= xi_blank
    first[label] -= xi_label
    known = (
        (-_gradient(p, xi_blank, xi_label, label), "the sign is wrong: expected minus taken"),
        (
            _gradient(p, xi_blank, xi_label, label, gamma=1.0),
            "p must be multiplied by gamma = xi_blank + xi_label, the share of the alignments "
            "that come here",
        ),
        (gamma * p, "only what was expected is there; subtract what was taken"),
        (_gradient(p, xi_blank, 0, label, gamma), "xi_label is not subtracted from its label"),
        (_gradient(p, 0, xi_label, label, gamma), "xi_blank is not subtracted from the blank"),
        (_gradient(p, xi_label, xi_blank, label), "the two xi are exchanged"),
        (_gradient(p, -xi_blank, -xi_label, label, gamma), "what was taken is added; subtract it"),
        (_gradient(p, gamma, gamma, label, gamma), "subtract each arc's own xi, not gamma"),
        (_gradient(p, 1, 1, label, gamma), "1 is subtracted; the target is soft, subtract the xi"),
        (first, "the blank is the last unit, entry -1, not the first"),
        (_gradient(p, xi_blank, xi_label, label, xi_label), "gamma is xi_blank + xi_label"),
        (_gradient(p, xi_blank, xi_label, label, xi_blank), "gamma is xi_blank + xi_label"),
        (_gradient(p, 0, 0, label, 1.0), "this is p itself"),
    )
    for value, sentence in known:
        if np.allclose(g, value, atol=1e-9):
            return sentence
    if not np.isclose(g.sum(), 0, atol=1e-9):
        return f"the entries sum to {g.sum():.4g}; expected and taken must balance to 0"
    return "it is not gamma * p with xi_blank and xi_label taken off"


@exercise("07.best_frames")
def best_frames(function: Callable[[Table, Table], Sequence[int]]) -> Verdict:
    """Check the most probable alignment against all alignments."""
    for T, U, seed in ((5, 3, 2), (4, 4, 3), (6, 2, 17), (3, 2, 2), (2, 3, 3), (1, 2, 0)):
        tables = tuple(np.log(table) for table in _tables(T, U, seed))
        given = tuple(table.copy() for table in tables)
        answer = function(*given)
        frames, wrong = as_array(answer, (U,))
        if wrong:
            if np.shape(answer) == (T,) or np.shape(answer) == (T + U,):
                return f"{len(answer)} entries are returned, expected one frame per label, {U}"
            return wrong
        if not _same(given, tables):
            return "an input was modified in place"
        every = list(combinations_with_replacement(range(T), U))
        scores = [_score(*tables, way) for way in every]
        right = every[int(np.argmax(scores))]
        if tuple(frames) != right:
            return _wrong_frames(tuple(frames), right, *tables)
    return None


def _score(log_blank: Table, log_label: Table, frames: Sequence[int]) -> float:
    by_blank, by_label = _arcs(len(log_blank), frames)
    return sum(log_blank[c] for c in by_blank) + sum(log_label[c] for c in by_label)


def _wrong_frames(
    frames: tuple, right: tuple, log_blank: Table, log_label: Table
) -> str:  # fmt: skip
    T, U = log_label.shape
    if frames == right[::-1]:
        return "the frames are in the order of the walk back; turn them round"
    if frames == tuple(t + 1 for t in right):
        return "the frames are one too large: count from 0"
    if any(t < 0 or t >= T or t != int(t) for t in frames):
        return f"{[float(t) for t in frames]} are no frames from 0 to {T - 1}"
    if frames == tuple(np.argmax(log_label, axis=0)):
        return "each label has the frame where it is most probable; the blanks count too"
    gamma = _alpha(np.exp(log_blank), np.exp(log_label))[:, :U]
    gamma = gamma * np.exp(log_label) * _beta(np.exp(log_blank), np.exp(log_label))[:, 1:]
    if frames == tuple(np.argmax(gamma, axis=0)):
        return "each label has its most probable frame over all alignments; follow one alignment"
    if any(a > b for a, b in zip(frames, frames[1:], strict=False)):
        return f"the frames {[int(t) for t in frames]} fall; a label cannot come before the last"
    worse = _score(log_blank, log_label, right) - _score(
        log_blank, log_label, [int(t) for t in frames]
    )
    return (
        f"{list(right)} is more probable than {[int(t) for t in frames]} "
        f"by a factor of {np.exp(worse):.3g} (T = {T}, U = {U})"
    )
