"""The checks of notebook 07 accept the right answer and name each typical mistake."""

import numpy as np
import pytest
from answers import answer_tests

from cspkit.teach.check import verdict


def probability(blanks=lambda t, T: True, several=True, u_of_blank=lambda u, before: u):
    """The right product, with switches for mistakes."""

    def answer(p_blank, p_label, frames):
        product, u, T = 1.0, 0, len(p_blank)
        for t in range(T):
            before = u
            while u < len(frames) and frames[u] == t:
                product *= p_label[t, u]
                u += 1
                if not several:
                    break
            if blanks(t, T):
                product *= p_blank[t, u_of_blank(u, before)]
        return product

    return answer


def added(p_blank, p_label, frames):
    u, total = 0, 0.0
    for t in range(len(p_blank)):
        while u < len(frames) and frames[u] == t:
            total += p_label[t, u]
            u += 1
        total += p_blank[t, u]
    return total


def no_blank_after_a_label(p_blank, p_label, frames):
    product, u = 1.0, 0
    for t in range(len(p_blank)):
        if t in frames:
            while u < len(frames) and frames[u] == t:
                product *= p_label[t, u]
                u += 1
        else:
            product *= p_blank[t, u]
    return product


def only_blanks(p_blank, p_label, frames):
    return probability()(p_blank, np.ones_like(p_label), frames)


def label_in_each_of_its_frames(p_blank, p_label, frames):
    product, u = 1.0, 0
    for t in range(len(p_blank)):
        if t in frames:
            product *= p_label[t, u]
            u += 1
        product *= p_blank[t, u]
    return product


def blanks_before_labels(and_the_last):
    def answer(p_blank, p_label, frames):
        product, t = 1.0, 0
        for u, frame in enumerate(frames):
            product *= p_blank[t:frame, u].prod() * p_label[frame, u]
            t = frame
        return product * (p_blank[-1, -1] if and_the_last else 1)

    return answer


def overwrites_blank(p_blank, p_label, frames):
    right = probability()(p_blank, p_label, frames)
    p_blank[:] = 0
    return right


def beta_table(p_blank, p_label, end=None, join=sum, leaves=False, at_target=False):
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
            beta[t, u] = join(ways) if ways else (p_blank[t, u] if end is None else end)
    return beta


def beta_over(frames=None, labels=None, end_first=True, last_t=-1, last_u=-1):
    """beta with loops in another order or over fewer cells."""

    def answer(p_blank, p_label):
        T, U = p_label.shape
        beta = np.zeros((T, U + 1))
        if end_first:
            beta[-1, -1] = p_blank[-1, -1]
        for t in frames(T) if frames else range(T - 1, last_t, -1):
            for u in labels(U) if labels else range(U, last_u, -1):
                if (t, u) == (T - 1, U):
                    beta[t, u] = p_blank[t, u]
                if t + 1 < T:
                    beta[t, u] += p_blank[t, u] * beta[t + 1, u]
                if u < U:
                    beta[t, u] += p_label[t, u] * beta[t, u + 1]
        return beta

    return answer


def alpha_table(p_blank, p_label):
    T, U = p_label.shape
    alpha = np.zeros((T, U + 1))
    alpha[0, 0] = 1
    for t, u in np.ndindex(T, U + 1):
        if t:
            alpha[t, u] += alpha[t - 1, u] * p_blank[t - 1, u]
        if u:
            alpha[t, u] += alpha[t, u - 1] * p_label[t, u - 1]
    return alpha


def beta_then(change):
    def answer(p_blank, p_label):
        beta = beta_table(p_blank, p_label)
        change(beta)
        return beta

    return answer


def spoil_last(beta):
    beta[-1, -1] *= 1.5


def spoil_last_frame(beta):
    if beta.shape[1] > 1:
        beta[-1, 0] *= 1.5


def spoil_top_row(beta):
    beta[0, -1] *= 1.5


def spoil_start(beta):
    beta[0, 0] *= 1.5


def overwrites_label(p_blank, p_label):
    beta = beta_table(p_blank, p_label)
    p_label[:] = 0
    return beta


def cell(expected=lambda p, b, y: (b + y) * p, blank=1.0, label=1.0, place=-1):
    def answer(p, xi_blank, xi_label, k):
        gradient = np.array(expected(p, xi_blank, xi_label))
        gradient[place] -= blank * xi_blank
        gradient[k] -= label * xi_label
        return gradient

    return answer


def assigns(p, xi_blank, xi_label, k):
    gradient = (xi_blank + xi_label) * p
    gradient[-1], gradient[k] = -xi_blank, -xi_label
    return gradient


def overwrites_p(p, xi_blank, xi_label, k):
    p *= xi_blank + xi_label
    p[-1] -= xi_blank
    p[k] -= xi_label
    return p


def subtracts(value):
    def answer(p, xi_blank, xi_label, k):
        gamma = xi_blank + xi_label
        gradient = gamma * p
        gradient[-1] -= value(gamma)
        gradient[k] -= value(gamma)
        return gradient

    return answer


def viterbi(log_blank, log_label, join=max):
    T, U = log_label.shape
    best, came = np.full((T, U + 1), -np.inf), np.zeros((T, U + 1), dtype=bool)
    best[0, 0] = 0
    for t, u in np.ndindex(T, U + 1):
        if t:
            best[t, u] = best[t - 1, u] + log_blank[t - 1, u]
        if u:
            by_label = best[t, u - 1] + log_label[t, u - 1]
            came[t, u] = by_label > best[t, u]
            best[t, u] = join(best[t, u], by_label)
    frames, t, u = [], T - 1, U
    while u:
        if came[t, u]:
            frames, u = [t, *frames], u - 1
        else:
            t -= 1
    return frames


def arc_by_arc(log_blank, log_label):
    t, u, frames = 0, 0, []
    while u < log_label.shape[1]:
        if t + 1 < len(log_blank) and log_blank[t, u] > log_label[t, u]:
            t += 1
        else:
            frames, u = [*frames, t], u + 1
    return frames


def most_probable_each(log_blank, log_label):
    p_blank, p_label = np.exp(log_blank), np.exp(log_label)
    alpha, beta = alpha_table(p_blank, p_label), beta_table(p_blank, p_label)
    return np.argmax(alpha[:, :-1] * p_label * beta[:, 1:], axis=0)


RIGHT = {
    "07.alignment_probability": probability(),
    "07.backward": beta_table,
    "07.cell_gradient": cell(),
    "07.best_frames": viterbi,
}

ALIGN, BACK, CELL, BEST = RIGHT
WRONG = [
    (ALIGN, probability(blanks=lambda t, T: t < T - 1), "the last frame is missing"),
    (ALIGN, probability(blanks=lambda t, T: False), "the blanks are missing"),
    (ALIGN, only_blanks, "the labels are missing"),
    (ALIGN, lambda *a: np.log(probability()(*a)), "this is the logarithm"),
    (ALIGN, lambda *a: -np.log(probability()(*a)), "this is the cost"),
    (ALIGN, probability(u_of_blank=lambda u, before: 0), "all taken at u = 0"),
    (ALIGN, probability(u_of_blank=lambda u, before: before), "comes after its labels"),
    (ALIGN, probability(several=False), "several labels may share"),
    (ALIGN, no_blank_after_a_label, "ends with a blank as well"),
    (ALIGN, added, "multiply them"),
    (ALIGN, label_in_each_of_its_frames, "several labels may share"),
    (ALIGN, blanks_before_labels(False), "after the last label"),
    (ALIGN, blanks_before_labels(True), "after the last label"),
    (ALIGN, overwrites_blank, "in place"),
    (ALIGN, lambda *a: 2 * probability()(*a), "expected"),
    (ALIGN, lambda *a: [0.1, 0.2], "expected one number"),
    (BACK, lambda b, y: beta_table(b, y, end=1.0), "which ends the utterance"),
    (BACK, alpha_table, "this is alpha"),
    (BACK, lambda b, y: beta_table(b, y, join=max), "add the two ways"),
    (BACK, beta_over(lambda T: range(T), lambda U: range(U + 1)), "before it is computed"),
    (BACK, beta_over(lambda T: range(T), lambda U: range(U + 1), False), "before it is computed"),
    (BACK, beta_over(last_t=0), "a row of zeros"),
    (BACK, beta_over(last_u=0), "a row of zeros"),
    (BACK, beta_over(last_t=0, last_u=0), "a row of zeros"),
    (BACK, lambda b, y: beta_table(b, y, join=lambda ways: ways[-1]), "replaces the first"),
    (BACK, lambda b, y: beta_table(b, y, leaves=True), "only the blank of the last cell"),
    (BACK, lambda b, y: beta_table(b, y, at_target=True), "the cell that it leaves"),
    (BACK, lambda b, y: np.log(beta_table(b, y)), "logarithms"),
    (BACK, lambda b, y: beta_table(b, y) * alpha_table(b, y), "return beta alone"),
    (BACK, lambda b, y: beta_table(b, y)[0, 0], "return the whole table"),
    (BACK, lambda b, y: beta_table(b, y).T, "frames go first"),
    (BACK, overwrites_label, "in place"),
    (BACK, beta_then(spoil_last), "expected its blank"),
    (BACK, beta_then(spoil_last_frame), "the last frame is wrong"),
    (BACK, beta_then(spoil_top_row), "a cell with u = U is wrong"),
    (BACK, beta_then(spoil_start), "beta(0, 0) is"),
    (CELL, lambda *a: -cell()(*a), "the sign is wrong"),
    (CELL, cell(lambda p, b, y: p), "multiplied by gamma"),
    (CELL, cell(blank=0, label=0), "subtract what was taken"),
    (CELL, cell(label=0), "xi_label is not subtracted"),
    (CELL, cell(blank=0), "xi_blank is not subtracted"),
    (CELL, lambda p, b, y, k: cell()(p, y, b, k), "exchanged"),
    (CELL, cell(blank=-1, label=-1), "what was taken is added"),
    (CELL, subtracts(lambda gamma: gamma), "each arc's own xi"),
    (CELL, subtracts(lambda gamma: 1.0), "the target is soft"),
    (CELL, cell(place=0), "not the first"),
    (CELL, cell(lambda p, b, y: y * p), "gamma is xi_blank + xi_label"),
    (CELL, cell(lambda p, b, y: b * p), "gamma is xi_blank + xi_label"),
    (CELL, lambda p, b, y, k: p.copy(), "p itself"),
    (CELL, assigns, "subtract with -="),
    (CELL, lambda p, b, y, k: cell()(p, b, y, k) / (b + y), "divided by gamma"),
    (CELL, cell(lambda p, b, y: b * y * p), "gamma is xi_blank + xi_label"),
    (
        CELL,
        lambda p, b, y, k: cell()(p, p[-1] * b, p[k] * y, k) + (b + y - p[-1] * b - p[k] * y) * p,
        "subtract xi itself",
    ),
    (CELL, overwrites_p, "in place"),
    (CELL, lambda p, b, y, k: cell()(p, b, y, k) + 0.1, "must balance"),
    (CELL, lambda p, b, y, k: 2 * cell()(p, b, y, k), "it is not gamma"),
    (BEST, lambda b, y: viterbi(b, y)[::-1], "turn them round"),
    (BEST, lambda b, y: [t + 1 for t in viterbi(b, y)], "one too large"),
    (BEST, lambda b, y: [-1] * y.shape[1], "are no frames"),
    (BEST, lambda b, y: np.arange(y.shape[1])[::-1] % len(b), "the frame numbers fall"),
    (BEST, lambda b, y: np.argmax(y, axis=0), "the blanks count too"),
    (BEST, arc_by_arc, "compare whole alignments"),
    (BEST, lambda b, y: viterbi(b, y, np.logaddexp), "keep only the better one"),
    (BEST, lambda b, y: viterbi(np.exp(b), np.exp(y)), "add their logarithms"),
    (BEST, lambda b, y: viterbi(np.vstack([b[1:], b[-1:]]), y), "cell that it leaves"),
    (BEST, lambda b, y: [t for t in viterbi(b, y) if t], "walk on until u is 0"),
    (BEST, most_probable_each, "follow one alignment"),
    (BEST, lambda b, y: [0] * y.shape[1], "more probable by a factor"),
    (BEST, lambda b, y: [sum(f <= t for f in viterbi(b, y)) for t in range(len(b))], "per frame"),
    (BEST, lambda b, y: sorted([*viterbi(b, y), *range(len(b))]), "one entry per move"),
    (BEST, lambda b, y: [0] * 9, "expected (2,)"),
]


test_right, test_wrong, test_unsolved, test_nothing = answer_tests(RIGHT, WRONG)


@pytest.mark.parametrize("name", RIGHT)
def test_the_example_is_tried_first_and_shown(name):
    told = verdict(name, lambda *_: 0.123)
    assert "the lattice of the text" in told or "the example" in told


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        (ALIGN, lambda *a: np.array(probability()(*a))),
        (BACK, lambda *a: beta_table(*a).tolist()),
        (CELL, lambda *a: list(cell()(*a))),
        (BEST, lambda *a: np.array(viterbi(*a), dtype=float)),
    ],
)
def test_a_right_answer_in_another_form(name, answer):
    assert verdict(name, answer).startswith(f"right: {name}")


def test_an_error_with_a_hidden_input_shows_the_input():
    told = verdict(ALIGN, lambda b, y, frames: probability()(b, y, frames) + len(frames) - 2)
    assert "frames = [1, 1, 3]" in told
    told = verdict(ALIGN, lambda b, y, frames: frames[0] * 0 + probability()(b, y, frames))
    assert "frames = []" in told
    assert "IndexError" in told
