"""Small systems that several notebooks are checked with, and least squares on a support."""

from __future__ import annotations

import numpy as np

Array = np.ndarray

A = np.array(
    [
        [0.8, -0.3, 0.1, 0.4, -0.5, 0.2],
        [-0.2, 0.7, 0.5, -0.1, 0.4, -0.6],
        [0.3, 0.2, -0.8, 0.5, 0.1, 0.4],
        [0.4, 0.6, 0.2, -0.7, 0.7, 0.6],
    ]
)
Y = np.array([1.5, -2.0, 0.6, 0.4])


def scatter(n: int, support: Array, values: Array) -> Array:
    """Write values into n zeros."""
    x = np.zeros(n)
    x[support] = values
    return x


def fit_on(A: Array, y: Array, support: Array) -> Array:
    """Least squares fit that is zero off a support."""
    return scatter(A.shape[1], support, np.linalg.lstsq(A[:, support], y, rcond=None)[0])
