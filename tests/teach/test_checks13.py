"""The checks of notebook 13 accept the right answer and name each typical mistake."""

import math

import numpy as np
import pytest
from answers import answer_tests

from cspkit.teach import verdict


def product(data, indices, indptr, x, value=True, vector=True, columns=True, last=0, total=sum):
    y = np.zeros(len(indptr) - 1)
    for i in range(len(y)):
        row = slice(indptr[i], indptr[i + 1] + last)
        of_x = x[indices[row]] if columns else x[: row.stop - row.start]
        y[i] = total((data[row] if value else 1) * (of_x if vector else 1) * np.ones(len(of_x)))
    return y


def cut(W, r, k, norm=lambda blocks: (blocks**2).sum(axis=1)):
    R, C = W.shape
    norms = norm(W.reshape(R // r, r, C))
    mask = np.zeros(norms.size, dtype=bool)
    mask[np.argsort(norms, axis=None)[-k:]] = True
    return W * np.repeat(mask.reshape(norms.shape), r, axis=0)


def shuffled(W, r):
    """The rows in steps of len(W) // r, one after the other."""
    return W.reshape(r, -1, W.shape[1]).swapaxes(0, 1).reshape(W.shape)


def even(D, P, t_D, t_P, over=lambda D, P, t_D, t_P: (D - P) / (t_P - t_D)):
    return over(D, P, t_D, t_P) if t_P > t_D else math.inf


RIGHT = {
    "13.csr_product": product,
    "13.crossover": lambda v, sparse: max(0.0, 1 - sparse / v),
    "13.cut_blocks": cut,
    "13.speedup": lambda f, k: 1 / (f + (1 - f) / k),
    "13.break_even": even,
}
WRONG = [
    ("13.csr_product", lambda *a: product(*a, vector=False), "entries of x are missing"),
    ("13.csr_product", lambda *a: product(*a, value=False), "nonzeros themselves"),
    ("13.csr_product", lambda *a: product(*a, columns=False), "x[indices[...]]"),
    ("13.csr_product", lambda *a: product(*a, last=-1), "the last nonzero"),
    ("13.csr_product", lambda *a: product(*a, total=lambda p: sum(p[-1:])), "+="),
    ("13.csr_product", lambda d, i, start, x: np.add.reduceat(d * x[i], start[:-1]), "empty row"),
    ("13.csr_product", lambda *a: -product(*a), "sign"),
    ("13.csr_product", lambda *a: product(*a) + 1, "expected [ 2.,  0., 34.]"),
    ("13.csr_product", lambda data, indices, indptr, x: data[:1], "shape"),
    ("13.csr_product", lambda data, *a: product(data, *a).astype(data.dtype), "cut to integers"),
    ("13.crossover", lambda v, sparse: 1 - sparse / v, "not negative"),
    ("13.crossover", lambda v, sparse: sparse / v, "share of nonzeros"),
    ("13.crossover", lambda v, sparse: 1 - v / sparse, "faster one"),
    ("13.crossover", lambda v, sparse: min(1, sparse / v), "share of nonzeros"),
    ("13.crossover", lambda v, sparse: max(0, 1 - v / sparse), "faster one"),
    ("13.crossover", lambda v, sparse: abs(1 - sparse / v), "the answer is 0"),
    ("13.crossover", lambda v, sparse: 1 - sparse / v if sparse < v else 1, "the answer is 0"),
    ("13.crossover", lambda v, sparse: max(0, v / sparse - 1), "faster one"),
    ("13.crossover", lambda v, sparse: "0.75", "returns a str"),
    ("13.crossover", lambda v, sparse: 0.5, "expected 0.75"),
    ("13.cut_blocks", lambda W, r, k: cut(W, r, k, lambda b: -(b**2).sum(axis=1)), "smallest"),
    ("13.cut_blocks", lambda W, r, k: cut(W, r, k, lambda b: b.sum(axis=1)), "signs cancel"),
    ("13.cut_blocks", lambda W, r, k: cut(W, 1, r * k), "whole blocks"),
    ("13.cut_blocks", lambda W, r, k: cut(W, r, k, lambda b: abs(b).sum(axis=1)), "add squares"),
    ("13.cut_blocks", lambda W, r, k: cut(W, r, k, lambda b: abs(b).max(axis=1)), "whole block"),
    ("13.cut_blocks", lambda W, r, k: cut(W, 1, k), "whole blocks"),
    ("13.cut_blocks", lambda W, r, k: cut(W, r, k) != 0, "multiply W by it"),
    ("13.cut_blocks", lambda W, r, k: cut(W.T, r, k).T, "lying"),
    ("13.cut_blocks", lambda W, r, k: cut(W, r, W.size // r - k), "k blocks are cut"),
    ("13.cut_blocks", lambda W, r, k: cut(W, r, k - 1) * (k > 1), "only k - 1"),
    (
        "13.cut_blocks",
        lambda W, r, k: (
            np.vstack([cut(b, r, k) for b in W.reshape(-1, r, 3)]) if W.size > 6 else cut(W, r, k)
        ),
        "whole matrix",
    ),
    (
        "13.cut_blocks",
        lambda W, r, k: np.hstack([cut(b[:, None], r, k) for b in W.T]),
        "whole matrix",
    ),
    (
        "13.cut_blocks",
        lambda W, r, k: cut(W, r, k, lambda b: (b.reshape(r, -1, b.shape[2]) ** 2).sum(axis=0)),
        "neighbours",
    ),
    ("13.cut_blocks", lambda W, r, k: W * shuffled(cut(W, r, k) != 0, len(W) // r), "np.tile"),
    ("13.cut_blocks", lambda W, r, k: W + 1, "wrong at [(0, 0)"),
    ("13.speedup", lambda f, k: f + (1 - f) / k, "inverse"),
    ("13.speedup", lambda f, k: f + (1 - f) * k, "the factors are added"),
    ("13.speedup", lambda f, k: 1 / (1 - f + f / k), "does not become faster"),
    ("13.speedup", lambda f, k: (1 - f) * (1 - 1 / k), "saved"),
    ("13.speedup", lambda f, k: 1 / (f + (1 - f) * k), "less time"),
    ("13.speedup", lambda f, k: k / (1 - f) if f < 1 else 1, "share f is missing"),
    ("13.speedup", lambda f, k: k, "not the whole"),
    ("13.speedup", lambda f, k: 3.0, "expected 4.167"),
    ("13.break_even", lambda D, P, t_D, t_P: (D - P) / (t_P - t_D), "always wins"),
    ("13.break_even", lambda D, P, t_D, t_P: abs((D - P) / (t_P - t_D)), "always wins"),
    ("13.break_even", lambda *a: even(*a) if a[3] > a[2] else 0, "always wins"),
    ("13.break_even", lambda *a: even(*a) if a[3] > a[2] else -math.inf, "always wins"),
    ("13.break_even", lambda *a: even(*a) if a[3] > a[2] else "infinity", "returns a str"),
    ("13.break_even", lambda *a: even(*a) / 1e6, "megabytes"),
    ("13.break_even", lambda *a: even(*a, lambda D, P, t_D, t_P: D / (t_P - t_D)), "read, too"),
    ("13.break_even", lambda *a: even(*a, lambda D, P, t_D, t_P: (D - P) / t_P), "t_P - t_D"),
    ("13.break_even", lambda *a: even(*a, lambda D, P, a, b: (b - a) / (D - P)), "inverse"),
    ("13.break_even", lambda *a: even(*a, lambda D, P, a, b: (D - P) / (a - b)), "sign"),
    ("13.break_even", lambda *a: even(*a, lambda *b: 5.0), "expected"),
]


@pytest.mark.parametrize("name", RIGHT)
def test_the_example_is_tried_first_and_shown(name):
    assert "the example" in verdict(name, lambda *_: 0.123)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("13.csr_product", lambda *a: product(*a).tolist()),
        ("13.crossover", lambda v, sparse: np.float32(max(0, 1 - sparse / v))),
        ("13.break_even", lambda *a: np.float64(even(*a))),
    ],
)
def test_a_right_answer_in_another_form(name, answer):
    assert verdict(name, answer).startswith(f"right: {name}")


test_right, test_wrong, test_unsolved, test_nothing = answer_tests(RIGHT, WRONG)
