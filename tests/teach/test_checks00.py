"""The check of notebook 00 accepts the right answer and names each typical mistake."""

import numpy as np
from answers import answer_tests


def overwrites(W):
    W[:] = W == 0
    return np.mean(W)


RIGHT = [
    ("00.sparsity", lambda W: np.mean(W == 0)),
    ("00.sparsity", lambda W: 1 - np.count_nonzero(W) / W.size),
]

WRONG = [
    ("00.sparsity", lambda W: np.mean(W != 0), "the share of nonzeros"),
    ("00.sparsity", lambda W: np.sum(W == 0), "the number of zeros"),
    ("00.sparsity", lambda W: 100 * np.mean(W == 0), "per cent"),
    ("00.sparsity", lambda W: np.sum(W == 0) / len(W), "the number of rows"),
    ("00.sparsity", lambda W: np.mean(W <= 0), "negative weights"),
    ("00.sparsity", lambda W: np.mean(W == 0, axis=0), "shape (3,), expected one number"),
    ("00.sparsity", lambda W: 0.5, "W = [[ 0,  2,  0],\n [ 0, -1,  0]]\nthe answer is 0.5"),
    ("00.sparsity", overwrites, "in place"),
]


test_right, test_wrong, test_unsolved, test_nothing = answer_tests(RIGHT, WRONG)
