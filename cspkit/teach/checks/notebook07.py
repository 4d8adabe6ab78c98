"""Checks of the exercises of notebook 07, the transducer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement

import numpy as np

from cspkit.teach.cases import Case, table

Table = np.ndarray
Cells = list[tuple[int, int]]

TOY = (
    np.array([[0.8, 0.5, 0.8], [0.4, 0.6, 0.8], [0.5, 0.2, 0.8]]),  # p_blank
    np.array([[0.1, 0.4], [0.5, 0.3], [0.4, 0.7]]),  # p_label
)


def _random(T: int, U: int, seed: int) -> tuple[str, tuple[Table, Table]]:
    """Probabilities of the blank (T, U + 1) and of the next label (T, U), and how to make them."""
    rng = np.random.default_rng(seed)
    made = (
        f"rng = default_rng({seed}); p_blank = rng.uniform(0.1, 0.6, ({T}, {U + 1})); "
        f"p_label = rng.uniform(0.1, 0.4, ({T}, {U}))"
    )
    return made, (rng.uniform(0.1, 0.6, (T, U + 1)), rng.uniform(0.1, 0.4, (T, U)))


def _arcs(T: int, frames: Sequence[int], several: bool = True) -> tuple[Cells, Cells]:
    """Cells left by a blank, and cells left by a label."""
    by_blank, by_label, u = [], [], 0
    for t in range(T):
        while u < len(frames) and frames[u] == t:
            by_label.append((t, u))
            u += 1
            if not several:
                break
        by_blank.append((t, u))
    return by_blank, by_label


def _alignment(
    blanks: Callable[[Cells, list[int]], Cells] = lambda cells, frames: cells,
    labels: bool = True,
    several: bool = True,
    join: Callable[[list[float]], float] = np.prod,
):
    """The probability of an alignment; the options make typical mistakes."""

    def answer(p_blank: Table, p_label: Table, frames: list[int]) -> float:
        by_blank, by_label = _arcs(len(p_blank), frames, several)
        taken = [p_blank[cell] for cell in blanks(by_blank, frames)]
        return join(taken + [p_label[cell] for cell in by_label if labels])

    return answer


def _alignment_cases() -> list[Case]:
    cases = [
        Case(f"the lattice of the text, frames {frames}", (*TOY, frames))
        for frames in ([1, 2], [0, 0])
    ]
    for T, frames in (
        (3, [1, 2]),
        (3, [0, 0]),
        (5, [1, 1, 3]),
        (4, [3]),
        (2, [0, 1, 1, 1]),
        (3, []),
    ):
        made, tables = _random(T, len(frames), seed=T)
        cases.append(Case(f"{made}, frames {frames}", (*tables, frames)))
    return cases


table(
    "07.alignment_probability",
    _alignment(),
    _alignment_cases(),
    [
        (_alignment(lambda cells, frames: cells[:-1]), "the blank of the last frame is missing"),
        (
            _alignment(lambda cells, frames: []),
            "the blanks are missing: every frame ends with one",
        ),
        (_alignment(labels=False), "the labels are missing"),
        (
            _alignment(join=lambda arcs: np.log(np.prod(arcs))),
            "this is the logarithm; return the probability",
        ),
        (
            _alignment(join=lambda arcs: -np.log(np.prod(arcs))),
            "this is the cost; return the probability",
        ),
        (
            _alignment(lambda cells, frames: [(t, 0) for t, _ in cells]),
            "the blanks are all taken at u = 0; raise u after each label",
        ),
        (
            _alignment(lambda cells, frames: [cell for cell in cells if cell[0] not in frames]),
            "a frame that writes a label ends with a blank as well; those blanks are missing",
        ),
        (_alignment(join=sum), "the arcs are added; multiply them"),
        (
            _alignment(lambda cells, frames: [(t, u - frames.count(t)) for t, u in cells]),
            "the blank of a frame comes after its labels, at the raised u",
        ),
        (_alignment(several=False), "several labels may share a frame: use `while`, not `if`"),
    ],
)


def _beta(
    end: Callable[[float], float] = lambda blank: blank,
    join: Callable[[list[float]], float] = sum,
    leaves: bool = False,
    at_target: bool = False,
):
    """The backward table; the options make typical mistakes."""

    def answer(p_blank: Table, p_label: Table) -> Table:
        T, U = p_label.shape
        beta = np.zeros((T, U + 1))
        for t in range(T - 1, -1, -1):
            for u in range(U, -1, -1):
                ways = []
                if t + 1 < T:
                    ways.append(p_blank[t + at_target, u] * beta[t + 1, u])
                elif leaves and u < U:
                    ways.append(p_blank[t, u])
                if u < U:
                    ways.append(p_label[t, min(u + at_target, U - 1)] * beta[t, u + 1])
                beta[t, u] = join(ways) if ways else end(p_blank[t, u])
        return beta

    return answer


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


def _wrong_beta(answer: object, right: Table, inputs: tuple) -> str:
    beta = np.asarray(answer, dtype=float)
    if not np.isclose(beta[-1, -1], right[-1, -1]):
        return f"the last cell is {beta[-1, -1]:.4g}, expected its blank, {right[-1, -1]:.4g}"
    if not np.allclose(beta[-1], right[-1]):
        return "the last frame is wrong: there, only labels lead on (but for the last cell)"
    if not np.allclose(beta[:, -1], right[:, -1]):
        return "the row u = U is wrong: there, only blanks lead on"
    t, u = np.argwhere(~np.isclose(beta, right))[-1]
    return f"beta({t}, {u}) is {beta[t, u]:.4g}, expected {right[t, u]:.4g}"


table(
    "07.backward",
    _beta(),
    [Case("the lattice of the text", TOY)]
    + [Case(*_random(T, U, seed=10 * T + U)) for T, U in ((5, 3), (3, 2), (2, 4), (1, 2))],
    [
        (lambda *a: _beta()(*a)[0, 0], "only beta(0, 0) is returned; return the whole table"),
        (lambda *a: _beta()(*a).T, "frames go first: the table has the shape (T, U + 1)"),
        (
            _beta(end=lambda blank: 1.0),
            "the last cell is 1; its blank, which ends the utterance, is missing",
        ),
        (_alpha, "this is alpha, the ways from the start"),
        (_beta(join=max), "the larger way is taken; add the two ways"),
        (
            _beta(leaves=True),
            "in the last frame only the blank of the last cell leads to the end; the others leave "
            "the lattice with labels missing",
        ),
        (
            _beta(at_target=True),
            "the probabilities are taken at the cell where an arc arrives; an arc belongs to the "
            "cell that it leaves",
        ),
        (lambda *a: np.log(_beta()(*a)), "these are logarithms; return probabilities"),
        (lambda *a: _beta()(*a) * _alpha(*a), "this is alpha * beta; return beta alone"),
    ],
    _wrong_beta,
)


def _gradient(
    expected: Callable[[float, float], float] = lambda blank, label: blank + label,
    blank: Callable[[float, float], float] = lambda blank, label: blank,
    label: Callable[[float, float], float] = lambda blank, label: label,
    place: int = -1,
):
    """The gradient of a cell; the options, functions of both xi, make typical mistakes."""

    def answer(p: Table, xi_blank: float, xi_label: float, k: int) -> Table:
        gradient = expected(xi_blank, xi_label) * p
        gradient[place] -= blank(xi_blank, xi_label)
        gradient[k] -= label(xi_blank, xi_label)
        return gradient

    return answer


_NOTHING, _ONE, _BOTH = (lambda *xi: 0), (lambda *xi: 1), (lambda *xi: sum(xi))


def _wrong_gradient(answer: object, right: Table, inputs: tuple) -> str:
    if not np.isclose(np.sum(answer), 0, atol=1e-9):
        return f"the entries sum to {np.sum(answer):.4g}; expected and taken must balance to 0"
    return "it is not gamma * p with xi_blank and xi_label taken off"


table(
    "07.cell_gradient",
    _gradient(),
    [Case("the example", (np.array([0.5, 0.1, 0.4]), 0.3, 0.5, 0))]
    + [
        Case(
            f"p = default_rng({K}).dirichlet(np.ones({K})), xi_blank = {blank}, "
            f"xi_label = {label}, label = {k}",
            (np.random.default_rng(K).dirichlet(np.ones(K)), blank, label, k),
        )
        for K, blank, label, k in (
            (3, 0.3, 0.5, 0),
            (5, 0.2, 0.1, 2),
            (4, 0.6, 0.0, 1),
            (6, 0.0, 0.7, 3),
        )
    ],
    [
        (lambda *a: -_gradient()(*a), "the sign is wrong: expected minus taken"),
        (
            _gradient(expected=_ONE),
            "p must be multiplied by gamma = xi_blank + xi_label, the share of the alignments "
            "that come here",
        ),
        (
            _gradient(blank=_NOTHING, label=_NOTHING),
            "only what was expected is there; subtract what was taken",
        ),
        (_gradient(label=_NOTHING), "xi_label is not subtracted from its label"),
        (_gradient(blank=_NOTHING), "xi_blank is not subtracted from the blank"),
        (lambda p, b, y, k: _gradient()(p, y, b, k), "the two xi are exchanged"),
        (
            _gradient(blank=lambda b, y: -b, label=lambda b, y: -y),
            "what was taken is added; subtract it",
        ),
        (_gradient(blank=_BOTH, label=_BOTH), "subtract each arc's own xi, not gamma"),
        (
            _gradient(blank=_ONE, label=_ONE),
            "1 is subtracted; the target is soft, subtract the xi",
        ),
        (_gradient(place=0), "the blank is the last unit, entry -1, not the first"),
        (_gradient(expected=lambda b, y: y), "gamma is xi_blank + xi_label"),
        (_gradient(expected=lambda b, y: b), "gamma is xi_blank + xi_label"),
        (_gradient(_ONE, _NOTHING, _NOTHING), "this is p itself"),
    ],
    _wrong_gradient,
)


def _score(log_blank: Table, log_label: Table, frames: Sequence[int]) -> float:
    by_blank, by_label = _arcs(len(log_blank), frames)
    return sum(log_blank[c] for c in by_blank) + sum(log_label[c] for c in by_label)


def _best(log_blank: Table, log_label: Table) -> Table:
    """The most probable alignment, by trying all."""
    every = list(combinations_with_replacement(range(len(log_blank)), log_label.shape[1]))
    return np.array(every[int(np.argmax([_score(log_blank, log_label, way) for way in every]))])


def _each_best(log_blank: Table, log_label: Table) -> Table:
    p_blank, p_label = np.exp(log_blank), np.exp(log_label)
    xi_label = _alpha(p_blank, p_label)[:, :-1] * p_label * _beta()(p_blank, p_label)[:, 1:]
    return np.argmax(xi_label, axis=0)


def _wrong_frames(answer: object, right: Table, inputs: tuple) -> str:
    frames, T = [float(t) for t in answer], len(inputs[0])
    if any(t < 0 or t >= T or t != int(t) for t in frames):
        return f"{frames} are no frames from 0 to {T - 1}"
    if frames != sorted(frames):
        return "the frames fall; a label cannot come before the last"
    factor = np.exp(_score(*inputs, right) - _score(*inputs, [int(t) for t in frames]))
    return f"the expected alignment is more probable by a factor of {factor:.3g}"


def _best_cases() -> list[Case]:
    cases = [Case("the lattice of the text", tuple(np.log(part) for part in TOY))]
    for T, U, seed in ((5, 3, 2), (4, 4, 3), (6, 2, 17), (3, 2, 2), (2, 3, 3), (1, 2, 0)):
        made, tables = _random(T, U, seed)
        cases.append(Case(f"the logarithms of {made}", tuple(np.log(part) for part in tables)))
    return cases


table(
    "07.best_frames",
    _best,
    _best_cases(),
    [
        (
            lambda *a: _best(*a)[::-1],
            "the frames are in the order of the walk back; turn them round",
        ),
        (lambda *a: _best(*a) + 1, "the frames are one too large: count from 0"),
        (
            lambda b, y: np.argmax(y, axis=0),
            "each label has the frame where it is most probable; the blanks count too",
        ),
        (
            _each_best,
            "each label has its most probable frame over all alignments; follow one alignment",
        ),
        (
            lambda b, y: np.sum(_best(b, y) <= np.arange(len(b))[:, None], axis=1),
            "there is one entry per frame; return one frame per label",
        ),
        (
            lambda b, y: np.sort(np.append(_best(b, y), np.arange(len(b)))),
            "there is one entry per move; return one frame per label",
        ),
    ],
    _wrong_frames,
)
