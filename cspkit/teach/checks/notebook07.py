"""Lattices for the checks of notebook 07, other alignments, and what is wrong with an answer."""

import numpy as np

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
        return "the last frame is wrong: there, only labels lead on (except in the last cell)"
    if not np.allclose(beta[:, -1], right[:, -1]):
        return "a cell with u = U is wrong: there, only blanks lead on"
    t, u = np.argwhere(~np.isclose(beta, right))[-1]
    return f"beta({t}, {u}) is {beta[t, u]:.4g}, expected {right[t, u]:.4g}"


def arcs(log_blank, log_label, frames):
    """Return the logarithms of the probabilities of the arcs of an alignment."""
    frames = np.asarray(frames, dtype=int)
    labels = [log_label[t, u] for u, t in enumerate(frames)]
    return labels + [log_blank[t, np.sum(frames <= t)] for t in range(len(log_blank))]


def most_probable_each(log_blank, log_label, backward):
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


def wrong_best(answer, right, inputs):
    frames, T = [float(t) for t in answer], len(inputs[0])
    if any(t < 0 or t >= T or t != int(t) for t in frames):
        return f"{frames} are no frames from 0 to {T - 1}"
    if frames != sorted(frames):
        return "the frame numbers fall; a label cannot be in an earlier frame than its predecessor"
    factor = np.exp(np.sum(arcs(*inputs, right)) - np.sum(arcs(*inputs, frames)))
    return f"the expected alignment is more probable by a factor of {factor:.3g}"
