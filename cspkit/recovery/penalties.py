"""Norms that make answers sparse, each with its dual norm and its proximal operator."""

import numpy as np

from cspkit.recovery.proximal import block_shrink, group_norms, shrink


class L1:
    """Omega(x) = sum_j w_j |x_j|, with or without the constraint x >= 0.

    Parameters
    ----------
    weights : ndarray, shape (n,), optional
        Positive weights w_j. The default is 1 for every entry.
    nonnegative : bool
        Add the constraint x >= 0.
    """

    def __init__(self, weights=None, nonnegative=False):
        self.weights, self.nonnegative = weights, nonnegative

    def norm(self, x):
        """Omega of each column, summed in float64."""
        size = np.abs(x)
        if self.weights is not None:
            size = (size.T * self.weights).T
        return np.sum(size, axis=0, dtype=np.float64)

    def dual_norm(self, correlation):
        """Omega* of each column: max_j |c_j| / w_j.

        With x >= 0 it is max_j c_j / w_j, which may be negative.
        """
        return np.max(self.excess(correlation), axis=0)

    def excess(self, correlation):
        """|c_j| / w_j, or c_j / w_j with x >= 0. If this exceeds lam, x_j can become nonzero."""
        if self.weights is not None:
            correlation = (correlation.T / self.weights).T
        return correlation if self.nonnegative else np.abs(correlation)

    def prox(self, v, t):
        """Proximal operator of t ||x||_1. It assumes that all weights are 1."""
        return shrink(v, t, self.nonnegative)


class GroupNorm:
    """Omega(x) = sum_g w_g ||x_g||_2.

    Parameters
    ----------
    groups : ndarray of int, shape (n,)
        The group number of each entry.
    weights : ndarray, shape (G,)
        Positive weights w_g.
    """

    def __init__(self, groups, weights):
        self.groups, self.weights = groups, weights

    def norm(self, x):
        """Omega of x."""
        return self.weights @ group_norms(x, self.groups)

    def dual_norm(self, correlation):
        """Omega* of a correlation c, max_g ||c_g||_2 / w_g."""
        return np.max(group_norms(correlation, self.groups) / self.weights)

    def prox(self, v, t):
        """Proximal operator of t Omega."""
        return block_shrink(v, t * self.weights, self.groups)
