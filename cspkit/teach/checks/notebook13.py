"""Checks of the exercises of notebook 13, is it faster?"""

import numpy as np
import scipy.sparse

from cspkit.teach.cases import table


def csr(M, *x):
    M = scipy.sparse.csr_array(np.array(M))
    return M.data, M.indices, M.indptr, np.array(x)


def csr_product(data, indices, indptr, x):
    y = np.zeros(len(indptr) - 1)
    for i in range(len(y)):
        row = slice(indptr[i], indptr[i + 1])
        y[i] = data[row] @ x[indices[row]]
    return y


table("13.csr_product", csr_product, [
    csr([[0, 2], [0, 0], [3, 4]], 10, 1), csr([[1, 0], [0, 1]], 10, 1),
    csr([[0, 3, 0, 8], [5, 0, 0, 0], [0, 0, 0, 0], [7, 0, 6, 1], [0, 0, 2, 0]], 10, 1, -2.3, 5),
    csr([[0, 1.5, 0, 4], [2.5, 0, 0, 0], [0, 0, 0, 0], [3.5, 0, 3, 0.5]], 10, 1, -2.3, 5),
], [
    ("data[row] @ x[indices[row]] => data[row].sum()", "the entries of x are missing"),
    ("data[row] @ x[indices[row]] => x[indices[row]].sum()", "the nonzeros themselves are missing"),
    ("x[indices[row]] => np.resize(x, row.stop - row.start)",
     "take x at the columns of the nonzeros: x[indices[...]]"),
    ("indptr[i + 1] => indptr[i + 1] - 1", "the last nonzero of each row is missing"),
    ("data[row] @ x[indices[row]] => (data[row] * x[indices[row]])[-1:].sum()",
     "only the last product of each row is left; add them: +="),
    (lambda data, indices, indptr, x: np.add.reduceat(data * x[indices], indptr[:-1]),
     "np.add.reduceat gives one product for an empty row, expected 0"),
    ("-y", "the sign is turned"),
    ("y.astype(data.dtype)",
     "the result is cut to integers, since it has the type of data; use np.zeros(R)"),
], right="SciPy's csr_array does the same in compiled code, without a loop in Python.")  # fmt: skip


def crossover(c, c_sparse):
    return max(0.0, 1 - c_sparse / c)


NONZEROS = "this is the share of nonzeros, 1 - s"
FASTER = "if c_sparse >= c, the answer is 0"
TURNED = "the dense product is the faster one: c_sparse / c"
table("13.crossover", crossover, [(8e9, 2e9), (1e9, 1e9), (1e9, 2e9), (16e9, 2e9)], [
    ("1 - c_sparse / c", "a sparsity is not negative"),
    ("c_sparse / c", NONZEROS),
    ("min(1.0, c_sparse / c)", NONZEROS),
    ("abs(1 - c_sparse / c)", FASTER),
    ("1 - c_sparse / c if c_sparse < c else 1.0", FASTER),
    ("1 - c / c_sparse", TURNED),
    ("max(0.0, c / c_sparse - 1)", TURNED),
    ("c_sparse / c => c / c_sparse", TURNED),
], right="If the dense product must wait for the weights, c is smaller, and so is s*.")  # fmt: skip


def cut_blocks(W, r, k):
    blocks = W.reshape(len(W) // r, r, W.shape[1])
    norms = (blocks**2).sum(axis=1)
    mask = np.zeros(norms.size, dtype=bool)
    mask[np.argsort(norms, axis=None)[norms.size - k :]] = True
    return W * np.repeat(mask.reshape(norms.shape), r, axis=0)


def wrong_cut(answer, right, inputs):
    places = [tuple(map(int, place)) for place in np.argwhere(~np.isclose(answer, right))]
    return f"wrong at {places[:3]}, and at {len(places)} places in all"


ALL = "k counts the blocks of the whole matrix, not of each row or column of blocks"
SINGLE, MASK = "these are single weights; cut whole blocks", "this is the mask; multiply W by it"
table("13.cut_blocks", cut_blocks, [
    *(f"W = np.array({W}); r = 2; k = 1" for W in (
        [[3, 1], [0, 1]], [[2, 2], [1, 2]], [[-3, 1, 2.5], [0, 1, 0]], [[3, 2], [0, 2]])),
    *(f"W = default_rng(0).integers(-9, 10, (8, 3)); r, k = {rk}" for rk in ("4, 2", "2, 5")),
], [
    ("blocks**2 => np.abs(blocks)", "add squares, not absolute values"),
    ("argsort(norms => argsort(-norms", "these are the blocks with the smallest norms"),
    ("blocks**2 => blocks", "square before the sum: signs cancel"),
    (lambda W, r, k: cut_blocks(W, 1, k * r), SINGLE),
    (lambda W, r, k: cut_blocks(W, 1, k), SINGLE),
    (lambda W, r, k: cut_blocks(W.T, r, k).T, "these blocks are lying: r columns of one row"),
    ("[norms.size - k :] => [k:]", "k blocks are kept, not cut"),
    ("norms.size - k => norms.size - k + 1", "only k - 1 blocks are kept"),
    (lambda W, r, k: np.vstack([cut_blocks(W[i : i + r], r, min(k, W.shape[1]))
                                for i in range(0, len(W), r)]), ALL),
    (lambda W, r, k: np.hstack([cut_blocks(W[:, [j]], r, min(k, len(W) // r))
                                for j in range(W.shape[1])]), ALL),
    ("W.reshape(len(W) // r, r, W.shape[1]) => W.reshape(r, -1, W.shape[1]).swapaxes(0, 1)",
     "the r rows of a block are neighbours: W.reshape(R // r, r, C)"),
    ("np.repeat(mask.reshape(norms.shape), r, axis=0) => "
     "np.tile(mask.reshape(norms.shape), (r, 1))",
     "np.tile repeats the whole mask; each of its rows must be repeated: np.repeat"),
    ("(blocks**2).sum => np.abs(blocks).max", "add the squares of the whole block"),
    ("return W * => return (W != 0) &", MASK),
    ("return W * => return", MASK),
], wrong_cut, right="With r = 1 this is the choice of single weights by magnitude.")  # fmt: skip


def speedup(f, g):
    return 1 / (f + (1 - f) / g)


table("13.speedup", speedup, [(0.2, 20), (0.2, 2), (0, 7), (1, 5), (0.5, 2)], [
    ("f + (1 - f) / g", "this is the new time over the old one; the factor is its inverse"),
    ("f + (1 - f) * g", "the times are added, not the factors"),
    ("1 - (f + (1 - f) / g)", "this is the share of the time that is saved"),
    ("(1 - f) / g => (1 - f) * g", "the rest takes less time: (1 - f) / g"),
    ("f + (1 - f) / g => (1 - f) / g", "the share f is missing: it takes as long as before"),
    ("g", "only the share 1 - f becomes g times faster, not the whole"),
    ("f + (1 - f) / g => 1 - f + f / g", "f is the share that does not become faster"),
], right="It stays below 1 / f, however large g is: below 5 for f = 0.2.")  # fmt: skip


def break_even(D, P, t_D, t_P):
    return (D - P) / (t_P - t_D) if t_P > t_D else np.inf


ALWAYS = "if t_P <= t_D the packed file always wins: inf"
QUOTIENT = "np.divide(D - P, t_P - t_D)"
table("13.break_even", break_even, [
    (1_300_000, 30_000, 0.001, 0.031), (1_000_000, 100_000, 0.0, 0.1),
    (1_000_000, 100_000, 0.2, 0.1), (1_000_000, 100_000, 0.1, 0.1),
], [
    *((wrong, ALWAYS) for wrong in
      (QUOTIENT, f"abs({QUOTIENT})", "np.inf => -np.inf", "np.inf => 0.0")),
    ("(D - P) / (t_P - t_D) => (D - P) / (t_P - t_D) / 1e6", "give bytes a second, not megabytes"),
    ("t_P - t_D => t_D - t_P", "the sign is turned"),
    ("(D - P) / (t_P - t_D) => (t_P - t_D) / (D - P)",
     "this is seconds a byte; the bandwidth is its inverse"),
    ("D - P => D", "the packed file must be read, too: D - P"),
    ("t_P - t_D => t_P", "the dense file has a time to load, too: t_P - t_D"),
], right="A slower storage favours the packed file: each byte less to read saves more time."
)  # fmt: skip
