"""Check of the exercise of notebook 00, start here."""

import numpy as np

from cspkit.teach.cases import table


def sparsity(W):
    return np.mean(W == 0)


table(
    "00.sparsity",
    sparsity,
    [
        (np.array([[0, 2, 0], [0, -1, 0]]),),
        (np.array([1.5, 0.0, -2.0, 0.1, 0.0, 3.0, 1.0, -1.0]),),
        (np.array([[1.0, -1.0]]),),
        (np.zeros((2, 2, 2)),),
    ],
    [
        ("== => !=", "this is the share of nonzeros; count the zeros"),
        ("mean => sum", "this is the number of zeros; divide by W.size"),
        ("np.mean => 100 * np.mean", "this is per cent; return a share from 0 to 1"),
        ("np.sum(W == 0) / len(W)",
         "the zeros are divided by the number of rows; divide by W.size"),
        ("== => <=", "negative weights are counted, too; count W == 0"),
    ],
    right="Notebook 10 brings it to 0.95 among the prunable weights of the recogniser.",
)  # fmt: skip
