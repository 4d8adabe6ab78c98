"""Working sets: the few columns of a lasso problem that its answer can use."""

import numpy as np

from cspkit.recovery.active_set import minimise_on_columns
from cspkit.recovery.duality import lasso_gap
from cspkit.recovery.operators import columns


class WorkingSet:
    """For one signal: the columns that matter so far, and the answer on them.

    Columns are scaled to norm 1 and kept in float64, whatever the type of A: that makes the
    Gram matrix as well conditioned as scaling can, at a cost that only the few columns of the
    working set bear. The unknowns u_j = ||a_j|| x_j then have penalties lam w_j / ||a_j||.

    Parameters
    ----------
    A : ndarray, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : ndarray, shape (m,)
        Measurements.
    weights : ndarray, shape (n,), or None
        Weights of the l1 norm; None for equal ones.
    nonnegative : bool
        Whether x >= 0 is a constraint.
    """

    def __init__(self, A, y, weights, nonnegative):
        self.A, self.y, self.weights, self.nonnegative = A, y, weights, nonnegative
        self.members = np.empty(0, dtype=np.intp)
        self.unit_columns = np.empty((0, A.shape[0]))  # one per row, so that growing is cheap
        self.norms, self.u = np.empty(0), np.empty(0)
        self.gram = np.empty((0, 0))
        self.residual = y
        self.incomplete = False  # whether columns that should be members were left out

    @property
    def x(self):
        """The answer, shape (n,)."""
        x = np.zeros(self.A.shape[1], dtype=self.y.dtype)
        x[self.members] = self.u / self.norms
        return x

    def gap(self, correlation, lam):
        """Relative duality gap of the answer, given A^T (y - A x)."""
        w = self.weights
        weighted = self.u / self.norms if w is None else self.u / self.norms * w[self.members]
        correlation = correlation if w is None else correlation / w
        return lasso_gap(
            self.y, self.residual, weighted, lam, self.residual, correlation,
            nonnegative=self.nonnegative,
        )  # fmt: skip

    def grow(self, correlation, lam):
        """Take in the columns that violate the optimality conditions most, but not too many."""
        strength = correlation.copy() if self.nonnegative else np.abs(correlation)
        if self.weights is not None:
            strength /= self.weights
        strength[self.members] = 0
        new = np.flatnonzero(strength > lam)
        most = max(32, self.A.shape[0] // 8)
        self.incomplete = len(new) > most
        if self.incomplete:
            new = new[np.argpartition(-strength[new], most)[:most]]
        if len(new) == 0:
            return
        added = columns(self.A, new).T.astype(np.float64, copy=False)
        norms = np.sqrt(np.einsum("ji,ji->j", added, added))
        added /= norms[:, None]
        old = len(self.members)
        gram = np.empty((old + len(new), old + len(new)))
        gram[:old, :old], gram[old:, old:] = self.gram, added @ added.T
        gram[:old, old:] = self.unit_columns @ added.T
        gram[old:, :old] = gram[:old, old:].T
        self.gram, self.unit_columns = gram, np.concatenate([self.unit_columns, added])
        self.members = np.concatenate([self.members, new])
        self.norms = np.concatenate([self.norms, norms])
        self.u = np.concatenate([self.u, np.zeros(len(new))])

    def solve(self, correlation, lam):
        """Minimise over the working set, from the present answer and its correlations.

        The answer on an incomplete set is provisional and need not be exact: violations up to
        the penalty itself are let pass.
        """
        penalty = lam / self.norms
        if self.weights is not None:
            penalty *= self.weights[self.members]
        # Correlations below 1e-13 ||y|| are rounding errors of those of y.
        noise = np.min(penalty) if self.incomplete else 1e-13 * np.linalg.norm(self.y)
        self.u = minimise_on_columns(
            self.gram, correlation[self.members] / self.norms, penalty, self.u, noise,
            nonnegative=self.nonnegative,
        )  # fmt: skip
        support = np.flatnonzero(self.u)
        fit = self.u[support] @ self.unit_columns[support]
        self.residual = (self.y - fit).astype(self.y.dtype, copy=False)


def solve_in_rounds(A, sets, lam, tol, max_iter):
    """Solve the lasso of several signals, whose products with A are shared.

    Parameters
    ----------
    A : ndarray, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    sets : list of WorkingSet
        One for each of r signals; each holds its answer at the end.
    lam : float
        Weight of the l1 term.
    tol : float
        Largest relative duality gap.
    max_iter : int
        Largest number of rounds.

    Returns
    -------
    x : ndarray, shape (n, r)
        The answers.
    n_iter, gap : ndarray, shape (r,)
        Rounds and relative duality gaps.
    history : ndarray, shape (rounds, r)
        Gap after each round, nan after a signal has ended.
    """
    r = len(sets)
    gap, n_iter, history = np.full(r, np.inf), np.zeros(r, dtype=int), []
    open_signals = np.arange(r)
    while True:
        correlations = _correlate(A, [sets[i].residual for i in open_signals])
        old = gap[open_signals]
        gap[open_signals] = [
            sets[i].gap(c, lam) for i, c in zip(open_signals, correlations, strict=True)
        ]
        history.append(np.full(r, np.nan))
        history[-1][open_signals] = gap[open_signals]
        n_iter[open_signals] = len(history) - 1
        # A round adds columns, or else refines; one that does neither will not do so later.
        more = (gap[open_signals] > tol) & (n_iter[open_signals] < max_iter)
        for position in np.flatnonzero(more):
            part, correlation = sets[open_signals[position]], correlations[position]
            before, exact = len(part.members), not part.incomplete
            part.grow(correlation, lam)
            stalled = gap[open_signals[position]] > 0.5 * old[position]
            if len(part.members) == before and exact and (stalled or before == 0):
                more[position] = False
            else:
                part.solve(correlation, lam)
        open_signals = open_signals[more]
        if len(open_signals) == 0:
            x = np.stack([part.x for part in sets], axis=1)
            return x, n_iter, gap, np.array(history[1:]).reshape(-1, r)


def _correlate(A, residuals):
    if len(residuals) == 1:  # a matrix-vector product is faster than one with a single column
        return [A.T @ residuals[0]]
    return (A.T @ np.stack(residuals, axis=1)).T
