"""Checks of the exercise of notebook 00, start here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cspkit.teach.check import Verdict, compare, exercise


@exercise("00.sparsity")
def sparsity(function: Callable[[np.ndarray], float]) -> Verdict:
    """Check the share of zeros in a matrix, a vector, and an array without zeros."""
    return compare(
        function,
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
            (
                lambda W: np.sum(W == 0) / len(W),
                "the zeros are divided by the number of rows; divide by W.size",
            ),
            (lambda W: np.mean(W <= 0), "negative weights are counted, too; count W == 0"),
        ],
    )
