"""Checks of the exercises of notebook 05, a layer is a sensing problem."""

import numpy as np

from cspkit.recovery import soft_threshold
from cspkit.teach.cases import table
from cspkit.teach.checks.systems import scatter


def layer(p, n, seed):
    """Code of a layer: weights, and the Gram matrix of correlated inputs of unequal size."""
    return (
        f"rng = default_rng({seed}); A = rng.standard_normal((60, {n})) @ "
        f"rng.standard_normal(({n}, {n})) * rng.uniform(0.2, 2, {n}); G = A.T @ A / 60; "
        f"W = rng.standard_normal(({p}, {n})); "
    )


def gram_error(G, Z, W):
    D = Z - W
    return np.sqrt(np.sum((D @ G) * D) / np.sum((W @ G) * W))


table("05.gram_error", gram_error, [
    (np.diag([1, 4]), np.array([[3, 0]]), np.array([[3, 2]])),
    *(layer(p, n, seed=p) + Z for p, n in ((4, 6), (5, 5))
      for Z in ("Z = W * (rng.random(W.shape) < 0.5)", "Z = 0.9 * W", "Z = W", "Z = 0 * W")),
], [
    ("np.sqrt =>", "this is the square of the error; the root is missing"),
    ("np.sqrt(np.sum((D @ G) * D)) / np.sum((W @ G) * W)",
     "the root is taken above only; take it of the whole fraction"),
    ("np.mean(np.sqrt(np.sum((D @ G) * D, axis=1) / np.sum((W @ G) * W, axis=1)))",
     "this is the mean of the errors of the rows; sum over all rows above and below, then divide"),
    ("np.sqrt(np.linalg.norm(D @ G @ D.T) / np.linalg.norm(W @ G @ W.T))",
     "sum d^T G d over rows: the trace of D G D^T, not its norm"),
    ("np.sqrt(np.sum((D @ G) * D))", "the error is not relative: divide by what W computes"),
    ("np.sum((D @ G) * D)", "neither the division by what W computes nor the root is there"),
    ("@ G =>", "this is the error of the weights; G, which knows the inputs, is not used"),
    ("@ G => @ G @ G",
     "this is ||D G|| / ||W G||: the squared error of a row d is d^T G d, with G once"),
    ("Z - W => Z", "this is the size of what Z computes; take the difference Z - W first"),
    ("(W @ G) * W => (Z @ G) * Z", "divide by what W computes, not Z"),
    ("@ G => * np.diag(G)", "only the diagonal of G is used; correlated inputs add up"),
    ("np.sqrt(abs(np.sum(D @ G @ D.T) / np.sum(W @ G @ W.T)))",
     "sum d^T G d over rows: the trace of D G D^T, not the sum of all its entries"),
], right="G has n^2 entries, however many inputs m there are: A itself need not be kept."
)  # fmt: skip


def aware_mask(W, G, k):
    score = np.abs(W) * np.sqrt(np.diag(G))
    mask = np.zeros(score.shape, dtype=bool)
    np.put_along_axis(mask, np.argsort(-score, axis=1)[:, :k], True, axis=1)
    return mask


def wrong_mask(answer, right, inputs):
    per_row, k = np.unique(np.count_nonzero(answer, axis=1)), inputs[2]
    if not np.array_equal(per_row, [k]):
        return f"kept in a row: {', '.join(map(str, per_row))}; expected {k} in every row"
    return "other entries have a larger score |w| * sqrt(G[j, j])"


table("05.aware_mask", aware_mask, [
    (np.array([[3, 2]]), np.diag([1, 4]), 1),
    *(f"{layer(p, n, seed)}k = {k}" for p, n, k, seed in
      ((6, 6, 2, 0), (4, 9, 3, 1), (3, 5, 5, 2))),
], [
    ("np.argsort(-score, axis=1)[:, :k]",
     "the places are returned; return a mask of the shape of W"),
    ("W * mask", "the weights that stay are returned; return the mask, True where they stay"),
    ("* np.sqrt(np.diag(G)) =>",
     "this is the choice by magnitude; multiply every column by the rms of its input"),
    ("np.diag(G)) => np.diag(G))[:, None]",
     "every row is multiplied by an rms; multiply every column by the rms of its input"),
    ("np.sqrt(np.diag(G)) => np.linalg.norm(G, axis=0)",
     "the norm of a column of G is no rms; the mean square of input j is G[j, j]"),
    ("np.abs(W) => W", "negative weights are overlooked; the score needs |W|"),
    ("-score => score", "the smallest scores are kept; the largest must stay"),
    ("np.sqrt =>", "the mean square is used; its root, the rms, is missing"),
    ("* np.sqrt => / np.sqrt", "the magnitude is divided by the rms; multiply"),
    ("~mask", "the mask is inverted: True means that the weight stays"),
    ("score >= np.sort(score, axis=None)[-k * len(W)]",
     "the k largest must be chosen in every row, not over the whole layer"),
    ("score >= np.sort(score, axis=None)[-k]", "k weights are kept in all; keep k in every row"),
    ("axis=1 => axis=0 && [:, :k] => [:k]",
     "k entries of each column were chosen; choose along the row"),
    ("np.abs(W) * => 0 * W +", "the score has only the rms; multiply by |W|"),
], wrong_mask, right="If all inputs have the same rms, this is the choice by magnitude."
)  # fmt: skip


def refit_row(w, G, S):
    values = np.linalg.solve(G[np.ix_(S, S)], G[S] @ w)
    return scatter(w.size, S, values)


def wrong_refit(answer, right, inputs):
    z, off = np.asarray(answer), np.delete(answer, inputs[2])
    if not np.any(z):
        return "z is all zeros; are the solved values written into it?"
    if np.any(off):
        return "off the support z must be zero"
    return "the values on the support do not solve G[S, S] z_S = G[S] @ w"


table("05.refit_row", refit_row, [
    (np.array([2, 1]), np.array([[1, 0.5], [0.5, 1]]), np.array([0])),
    *(f"{layer(1, n, seed)}w = W[0]; S = np.array({support})"
      for n, support, seed in ((8, [6, 1, 3], 0), (12, [0, 11, 5, 7, 2], 1))),
], [
    ("values", "only the values on the support are returned; write them into n zeros"),
    ("scatter(w.size, S, values).astype(w.dtype)",
     "the values are cut to integers, since np.zeros_like(w) has the type of w; use "
     "np.zeros(w.size)"),
    ("values) => w[S])",
     "the survivors keep their old values: the right-hand side is G[S] @ w with all of w, the "
     "cut weights too"),
    ("values) => G[S] @ w)",
     "this is the right-hand side G[S] @ w; solve with the block of G on S"),
    ("G[S] @ w => w[S]", "the right-hand side is w[S]; it must be G[S] @ w"),
    ("values) => values - w[S])", "this is only the correction; the old values w[S] are missing"),
    ("values) => 2 * w[S] - values)", "the correction has the wrong sign"),
    ("values) => (G[S] @ w) / np.diag(G)[S])", "only the diagonal of the block is inverted"),
    ("values) => np.linalg.inv(G)[S] @ w)", "all of G is inverted; take the block G[np.ix_(S, S)]"),
    ("values) => np.linalg.lstsq(G[:, S], G @ w, rcond=None)[0])",
     "G is used like A; its equations are G[S, S] z_S = G[S] @ w"),
    ("S, values => np.arange(S.size), values",
     "the right values in the wrong places: z[support] = values"),
    ("S, values => np.sort(S), values",
     "the right values in the wrong order; value i belongs to position support[i]"),
], wrong_refit,
    right="If no kept input is correlated with a cut one, the kept weights keep their values.",
)  # fmt: skip


def bregman_step(V, Z, W, G, lam):
    new = V - (Z - W) @ G / np.linalg.norm(G, 2)
    return new, soft_threshold(new, lam)


def wrong_bregman(answer, right, inputs):
    if np.allclose(answer[0], right[0]):
        return "V is right, but Z is not soft_threshold(V, lam)"
    return "the new V is not V - (Z - W) G / L"


table("05.bregman_step", bregman_step, [
    (np.zeros((1, 2)), np.zeros((1, 2)), np.array([[3, -1]]), np.eye(2), 2.0),
    *(f"{layer(p, n, seed=n)}lam = {lam}; V = 2 * rng.standard_normal(W.shape); "
      "Z = np.sign(V) * np.maximum(np.abs(V) - lam, 0)"
      for p, n, lam in ((3, 5, 0.4), (4, 4, 1.0))),
], [
    ("(soft_threshold(new, lam),) * 2",
     "V itself is thresholded; V stays dense, only Z is thresholded"),
    ("soft_threshold(new, lam), new", "V and Z are returned in the wrong order"),
    ("new", "only V is returned; return the pair V, Z"),
    ("soft_threshold(new, lam)", "only Z is returned; return the pair V, Z"),
    ("V - (Z => V + (Z", "the sign is wrong: V moves against the gradient (Z - W) G"),
    ("(Z - W) => Z", "W is missing in the gradient (Z - W) G"),
    ("@ G => @ G @ G", "the gradient (Z - W) G has G only once"),
    ("(Z - W) => (V - W)", "the gradient is taken at V; it must be taken at Z"),
    ("V - (Z => Z - (Z", "V is built from Z, so it forgets; build it from the old V"),
    ("/ np.linalg.norm(G, 2) =>", "the step 1/L is missing"),
    ("/ np => * np", "the gradient is multiplied by L; divide by it"),
    ("(G, 2) => (G)", "L is the spectral norm, np.linalg.norm(G, 2)"),
    ("(G, 2) => (G, 2) ** 2", "L is ||G||_2, not its square: G is A^T A already"),
    ("@ G =>", "the Gram matrix is missing in the gradient (Z - W) G"),
    ("- (Z => - lam * (Z", "lam belongs to the threshold, not to the step"),
    ("V, soft_threshold(V, lam)", "V has not moved"),
    ("new, new", "Z equals V: the threshold is missing"),
    ("(new, lam) => (new, lam / np.linalg.norm(G, 2))",
     "the threshold is lam / L; here it is lam itself"),
    ("(new, lam) => (Z, lam)", "the old Z is thresholded; threshold the new V"),
    ("new, np.maximum(new - lam, 0)", "negative entries of V are lost; use soft_threshold"),
    ("new, np.sign(new) * (np.abs(new) - lam)",
     "entries of V smaller than lam change their sign; use soft_threshold"),
    ("(new, lam) => (V, lam)", "Z is made from the old V; threshold the new one"),
    ("new, np.where(np.abs(new) > lam, new, 0)",
     "this is the hard threshold; soft also shrinks by lam"),
], wrong_bregman, parts=("V", "Z"),
    right="With the gradient of the loss, and the hard threshold, csp of notebook 10 does this.",
)  # fmt: skip
