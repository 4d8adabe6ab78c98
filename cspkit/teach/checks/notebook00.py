"""Check of the exercise of notebook 00, start here."""

import numpy as np

from cspkit.teach.cases import table

table(
    "00.sparsity",
    lambda W: np.mean(W == 0),
    [
        (np.array([[0, 2, 0], [0, -1, 0]]),),
        (np.array([1.5, 0.0, -2.0, 0.1, 0.0, 3.0, 1.0, -1.0]),),
        (np.array([[1.0, -1.0]]),),
        (np.zeros((2, 2, 2)),),
    ],
    [
        (lambda W: np.mean(W != 0), "this is the share of nonzeros; count the zeros"),
        (lambda W: np.sum(W == 0), "this is the number of zeros; divide by W.size"),
        (lambda W: 100 * np.mean(W == 0), "this is per cent; return a share from 0 to 1"),
        (lambda W: np.sum(W == 0) / len(W),
         "the zeros are divided by the number of rows; divide by W.size"),
        (lambda W: np.mean(W <= 0), "negative weights are counted, too; count W == 0"),
    ],
    right="Notebook 10 brings it to 0.95 among the prunable weights of the recogniser.",
)  # fmt: skip
