"""Checks of the exercises of notebook 07, the transducer."""

from itertools import combinations_with_replacement

import numpy as np

from cspkit.teach.cases import Case, edited, table

TOY = (
    np.array([[0.8, 0.5, 0.8], [0.4, 0.6, 0.8], [0.5, 0.2, 0.8]]),  # p_blank
    np.array([[0.1, 0.4], [0.5, 0.3], [0.4, 0.7]]),  # p_label
)


def drawn(T, U, seed):
    """Code of the probabilities of a lattice."""
    return (
        f"rng = default_rng({seed}); p_blank = rng.uniform(0.1, 0.6, ({T}, {U + 1})); "
        f"p_label = rng.uniform(0.1, 0.4, ({T}, {U}))"
    )


def alignment_probability(p_blank, p_label, frames):
    product, u = 1.0, 0
    for t in range(len(p_blank)):
        while u < len(frames) and frames[u] == t:
            product *= p_label[t, u]
            u += 1
        product *= p_blank[t, u]
    return product


SHARED = "several labels may share a frame: use `while`, not `if`"
AFTER = "the blanks after the last label are missing; every frame ends with one"
table("07.alignment_probability", alignment_probability, [
    *(Case(f"the lattice of the text, frames = {frames}", (*TOY, frames))
      for frames in ([1, 2], [0, 0])),
    *(f"{drawn(T, len(frames), seed=T)}; frames = {frames}" for T, frames in (
        (3, [1, 2]), (3, [0, 0]), (5, [1, 1, 3]), (4, [3]), (2, [0, 1, 1, 1]), (3, []))),
], [
    ("p_blank[t, u] => p_blank[t, u] if t + 1 < len(p_blank) else 1",
     "the blank of the last frame is missing"),
    ("product *= p_blank[t, u] =>", "the blanks are missing: every frame ends with one"),
    ("product *= p_label[t, u] =>", "the labels are missing"),
    ("np.log(product)", "this is the logarithm; return the probability"),
    ("-np.log(product)", "this is the cost; return the probability"),
    ("p_blank[t, u] => p_blank[t, 0]",
     "the blanks are all taken at u = 0; raise u after each label"),
    ("p_blank[t, u] => 1 if t in frames else p_blank[t, u]",
     "a frame that writes a label ends with a blank as well; those blanks are missing"),
    ("1.0 => 0.0 && *= => +=", "the arcs are added; multiply them"),
    ("p_blank[t, u] => p_blank[t, u - frames.count(t)]",
     "the blank of a frame comes after its labels, at the raised u"),
    ("while => if", SHARED),
    ("while u < len(frames) and frames[u] == t => if t in frames", SHARED),
    ("p_blank[t, u] => p_blank[t, u] if u < len(frames) else 1", AFTER),
    ("p_blank[t, u] => p_blank[t, u] if u < len(frames) or t + 1 == len(p_blank) else 1", AFTER),
], right="This is one term of P. Section 2 adds up all terms without a list.")  # fmt: skip


def backward(p_blank, p_label):
    T, U = p_label.shape
    beta = np.zeros((T, U + 1))
    beta[-1, -1] = p_blank[-1, -1]
    for t in range(T - 1, -1, -1):
        for u in range(U, -1, -1):
            if t + 1 < T:
                beta[t, u] += p_blank[t, u] * beta[t + 1, u]
            if u < U:
                beta[t, u] += p_label[t, u] * beta[t, u + 1]
    return beta


def forward(p_blank, p_label):
    T, U = p_label.shape
    alpha = np.zeros((T + 1, U + 2))  # the last row and column stay 0, for the index -1
    for t, u in np.ndindex(T, U + 1):
        by_blank = alpha[t - 1, u] * p_blank[t - 1, u]
        alpha[t, u] = (t == u == 0) + by_blank + alpha[t, u - 1] * p_label[t, u - 1]
    return alpha[:T, :-1]


def wrong_beta(answer, right, inputs):
    beta = np.asarray(answer, dtype=float)
    if not np.isclose(beta[-1, -1], right[-1, -1]):
        return f"the last cell is {beta[-1, -1]:.4g}, expected its blank, {right[-1, -1]:.4g}"
    if not np.allclose(beta[-1], right[-1]):
        return "the last frame is wrong: there, only labels lead on (but for the last cell)"
    if not np.allclose(beta[:, -1], right[:, -1]):
        return "the row u = U is wrong: there, only blanks lead on"
    t, u = np.argwhere(~np.isclose(beta, right))[-1]
    return f"beta({t}, {u}) is {beta[t, u]:.4g}, expected {right[t, u]:.4g}"


FORWARD = "range(T - 1, -1, -1) => range(T) && range(U, -1, -1) => range(U + 1)"
ORDER = "a cell is used before it is computed; both loops must run from the end to the start"
ZEROS = "a row of zeros is left: range(..., -1, -1) ends at 0, but range(..., 0, -1) ends at 1"
table("07.backward", backward, [
    Case("the lattice of the text", TOY),
    *(drawn(T, U, seed=10 * T + U) for T, U in ((5, 3), (3, 2), (2, 4), (1, 2))),
], [
    ("beta[0, 0]", "only beta(0, 0) is returned; return the whole table"),
    ("beta.T", "frames go first: the table has the shape (T, U + 1)"),
    ("= p_blank[-1, -1] => = 1",
     "the last cell is 1; its blank, which ends the utterance, is missing"),
    (forward, "this is alpha, the ways from the start"),
    ("+= p_label[t, u] * beta[t, u + 1] => = max(beta[t, u], p_label[t, u] * beta[t, u + 1])",
     "the larger way is taken; add the two ways"),
    ("+= p_label => = p_label", "the second way replaces the first; add the two ways, with +="),
    (FORWARD, ORDER),
    (FORWARD + " && beta[-1, -1] = p_blank[-1, -1] => && return => beta[-1, -1] = p_blank[-1, -1]; "
     "return", ORDER),
    ("T - 1, -1, -1 => T - 1, 0, -1", ZEROS),
    ("(U, -1, -1 => (U, 0, -1", ZEROS),
    ("T - 1, -1, -1 => T - 1, 0, -1 && (U, -1, -1 => (U, 0, -1", ZEROS),
    ("beta[-1, -1] = p_blank[-1, -1] => beta[-1] = p_blank[-1]",
     "in the last frame only the blank of the last cell leads to the end; the others leave the "
     "lattice with labels missing"),
    ("p_blank[t, u] => p_blank[t + 1, u] && p_label[t, u] => p_label[t, min(u + 1, U - 1)]",
     "the probabilities are taken at the cell where an arc arrives; an arc belongs to the cell "
     "that it leaves"),
    ("np.log(beta)", "these are logarithms; return probabilities"),
    ("beta * forward(p_blank, p_label)", "this is alpha * beta; return beta alone"),
], wrong_beta,
    right="alpha * beta / P is the probability to pass through a cell; the gradient needs it.",
)  # fmt: skip


def cell_gradient(p, xi_blank, xi_label, label):
    gamma = xi_blank + xi_label
    gradient = gamma * p
    gradient[-1] -= xi_blank
    gradient[label] -= xi_label
    return gradient


def wrong_gradient(answer, right, inputs):
    if not np.isclose(np.sum(answer), 0, atol=1e-9):
        return f"the entries sum to {np.sum(answer):.4g}; expected and taken must balance to 0"
    return "it is not gamma * p with xi_blank and xi_label taken off"


GAMMA = "gamma is xi_blank + xi_label"
table("07.cell_gradient", cell_gradient, [
    (np.array([0.5, 0.1, 0.4]), 0.3, 0.5, 0),
    *(f"p = default_rng({K}).dirichlet(np.ones({K})); xi_blank, xi_label, label = {given}"
      for K, given in ((3, (0.3, 0.5, 0)), (5, (0.2, 0.1, 2)), (4, (0.6, 0, 1)), (6, (0, 0.7, 3)))),
], [
    ("-gradient", "the sign is wrong: expected minus taken"),
    ("gamma * p => p.copy()",
     "p must be multiplied by gamma = xi_blank + xi_label, the share of the alignments that come "
     "here"),
    ("-= => -= 0 *", "only what was expected is there; subtract what was taken"),
    ("-= xi_label => -= 0", "xi_label is not subtracted from its label"),
    ("-= xi_blank => -= 0", "xi_blank is not subtracted from the blank"),
    ("-= => = -", "the share of gamma * p is lost at the blank or the label; subtract with -="),
    ("gradient / gamma", "divided by gamma; a cell counts only as much as alignments pass through"),
    ("= xi_blank + xi_label => = xi_blank * xi_label", GAMMA),
    ("-= xi_blank => -= xi_blank * p[-1] && -= xi_label => -= xi_label * p[label]",
     "what is taken is multiplied by p; subtract xi itself"),
    ("-= => -= gamma -", "the two xi are exchanged"),
    ("-= => +=", "what was taken is added; subtract it"),
    ("-= => -= gamma #", "subtract each arc's own xi, not gamma"),
    ("-= => -= 1 #", "1 is subtracted; the target is soft, subtract the xi"),
    ("[-1] => [0]", "the blank is the last unit, entry -1, not the first"),
    ("= xi_blank + xi_label => = xi_label", GAMMA),
    ("= xi_blank + xi_label => = xi_blank", GAMMA),
    ("p", "this is p itself"),
], wrong_gradient, right="It sums to 0: adding a constant to all logits changes no p.")  # fmt: skip


def probability(log_blank, log_label, frames):
    return alignment_probability(np.exp(log_blank), np.exp(log_label), frames)


def best_frames(log_blank, log_label):
    every = combinations_with_replacement(range(len(log_blank)), log_label.shape[1])
    best = max(every, key=lambda frames: probability(log_blank, log_label, frames))
    return np.array(best)


def most_probable_each(log_blank, log_label):
    p_blank, p_label = np.exp(log_blank), np.exp(log_label)
    through = forward(p_blank, p_label)[:, :-1] * p_label * backward(p_blank, p_label)[:, 1:]
    return np.argmax(through, axis=0)


def greedy(log_blank, log_label):
    t, frames = 0, []
    while len(frames) < log_label.shape[1]:
        u = len(frames)
        if t + 1 == len(log_blank) or log_label[t, u] > log_blank[t, u]:
            frames.append(t)
        else:
            t += 1
    return np.array(frames)


def walk_over_sums(log_blank, log_label):
    p_blank, p_label = np.exp(log_blank), np.exp(log_label)
    alpha, t, u, frames = forward(p_blank, p_label), *p_label.shape, []
    t -= 1
    while u:
        by_blank = alpha[t - 1, u] * p_blank[t - 1, u] if t else 0
        if alpha[t, u - 1] * p_label[t, u - 1] > by_blank:
            u, frames = u - 1, [t, *frames]
        else:
            t -= 1
    return np.array(frames)


added = edited(alignment_probability, "1.0 => 0.0 && *= => +=")


def wrong_best(answer, right, inputs):
    frames, T = [float(t) for t in answer], len(inputs[0])
    if any(t < 0 or t >= T or t != int(t) for t in frames):
        return f"{frames} are no frames from 0 to {T - 1}"
    if frames != sorted(frames):
        return "the frames fall; a label cannot come before the last"
    factor = probability(*inputs, right) / probability(*inputs, frames)
    return f"the expected alignment is more probable by a factor of {factor:.3g}"


table("07.best_frames", best_frames, [
    Case("the lattice of the text", tuple(map(np.log, TOY))),
    *(f"{drawn(*given)}; log_blank, log_label = np.log(p_blank), np.log(p_label)"
      for given in ((5, 3, 2), (4, 4, 4), (6, 2, 17), (3, 2, 2), (2, 3, 3), (1, 2, 0))),
], [
    ("np.array(best)[::-1]", "the frames are in the order of the walk back; turn them round"),
    ("np.array(best) + 1", "the frames are one too large: count from 0"),
    ("np.argmax(log_label, axis=0)",
     "each label has the frame where it is most probable; the blanks count too"),
    (greedy, "each cell takes its more probable arc; compare whole alignments"),
    (walk_over_sums, "the scores add the two ways; keep only the better one"),
    ("probability(log_blank, log_label => added(np.exp(log_blank), np.exp(log_label)",
     "probabilities are added along the alignment; add their logarithms"),
    ("probability(log_blank => probability(np.vstack([log_blank[1:], log_blank[-1:]])",
     "a blank is taken at the cell where it arrives; it belongs to the cell that it leaves"),
    ("np.array([t for t in best if t])", "labels at frame 0 are missing: walk on until u is 0"),
    (most_probable_each,
     "each label has its most probable frame over all alignments; follow one alignment"),
    ("np.sum(best <= np.arange(len(log_blank))[:, None], axis=1)",
     "there is one entry per frame; return one frame per label"),
    ("np.sort([*best, *range(len(log_blank))])",
     "there is one entry per move; return one frame per label"),
], wrong_best, right="Here it has 0.1344 of P = 0.3298. The loss counts the other alignments, too."
)  # fmt: skip
