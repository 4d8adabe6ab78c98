"""Inputs of the checks of notebook 05, and what is wrong with an answer."""

import numpy as np


def layer(p, n, seed):
    """Return code of a layer: weights, and the Gram matrix of correlated inputs."""
    return (
        f"rng = default_rng({seed}); A = rng.standard_normal((60, {n})) @ "
        f"rng.standard_normal(({n}, {n})) * rng.uniform(0.2, 2, {n}); G = A.T @ A / 60; "
        f"W = rng.standard_normal(({p}, {n})); "
    )


def wrong_mask(answer, right, inputs):
    per_row, k = np.unique(np.count_nonzero(answer, axis=1)), inputs[2]
    if not np.array_equal(per_row, [k]):
        return f"kept in a row: {', '.join(map(str, per_row))}; expected {k} in every row"
    return "other entries have a larger score |w| * sqrt(G[j, j])"


def wrong_refit(answer, right, inputs):
    z, off = np.asarray(answer), np.delete(answer, inputs[2])
    if not np.any(z):
        return "z is all zeros; are the solved values written into it?"
    if np.any(off):
        return "off the support z must be zero"
    return "the values on the support do not solve G[S, S] z_S = G[S] @ w"
