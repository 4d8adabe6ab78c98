"""Working sets: the few columns of a lasso problem that its answer is likely to use."""

import numpy as np

from cspkit.recovery.active_set import minimise_on_columns
from cspkit.recovery.duality import allowed_gap, certificate
from cspkit.recovery.operators import columns
from cspkit.recovery.validation import exponents


class WorkingSet:
    """The columns chosen so far for one signal, and the lasso answer on these columns.

    Columns are scaled to norm 1 and kept in float64, whatever the type of A. The scaling
    improves the condition of the Gram matrix. The cost is small, because only the few columns of
    the working set are scaled and converted. The unknowns u_j = ||a_j|| x_j have the penalties
    lam w_j / ||a_j||.

    Parameters
    ----------
    A : ndarray, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : ndarray, shape (m,)
        Measurements.
    penalty : L1
        The weighted l1 norm, with or without the constraint x >= 0.
    """

    def __init__(self, A, y, penalty):
        self.A, self.y, self.penalty = A, y, penalty
        self.members = np.empty(0, dtype=np.intp)
        self.unit_columns = np.empty((0, A.shape[0]))  # one column of A per row: appending is cheap
        self.norms, self.u = np.empty(0), np.empty(0)
        self.gram = np.empty((0, 0))
        self.residual = y
        self.incomplete = False  # True if some violating columns were left out

    @property
    def x(self):
        """The answer, shape (n,)."""
        x = np.zeros(self.A.shape[1], dtype=self.y.dtype)
        x[self.members] = self.u / self.norms
        return x

    @property
    def weights(self):
        """Weights of the members, shape (p,), or 1."""
        return 1 if self.penalty.weights is None else self.penalty.weights[self.members]

    def certificate(self, correlation, lam):
        """Gap and objective of the answer, relative to 1/2 ||y||^2, given A^T (y - A x)."""
        norm = np.sum(np.abs(self.u / self.norms * self.weights))
        largest = self.penalty.dual_norm(correlation) / lam
        return certificate(self.y, self.residual, lam * norm, self.residual, largest)

    def grow(self, correlation, lam):
        """Add the columns that violate the optimality conditions most, at most max(32, m / 8)."""
        strength = self.penalty.excess(correlation)
        candidate = strength > lam
        candidate[self.members] = False
        new = np.flatnonzero(candidate)
        most = max(32, self.A.shape[0] // 8)
        self.incomplete = len(new) > most
        if self.incomplete:
            new = new[np.argpartition(-strength[new], most)[:most]]
        if len(new) == 0:
            return
        added = columns(self.A, new).T.astype(np.float64, copy=False)
        norms, e = np.sqrt(np.einsum("ji,ji->j", added, added)), 0
        if np.min(norms) < 1e-100:  # squares of small columns could underflow
            e = exponents(added.T)
            added = np.ldexp(added, -e[:, None])
            norms = np.sqrt(np.einsum("ji,ji->j", added, added))
        added /= norms[:, None]
        old = len(self.members)
        gram = np.empty((old + len(new), old + len(new)))
        gram[:old, :old], gram[old:, old:] = self.gram, added @ added.T
        gram[:old, old:] = self.unit_columns @ added.T
        gram[old:, :old] = gram[:old, old:].T
        self.gram, self.unit_columns = gram, np.concatenate([self.unit_columns, added])
        self.members = np.concatenate([self.members, new])
        self.norms = np.concatenate([self.norms, np.ldexp(norms, e)])
        self.u = np.concatenate([self.u, np.zeros(len(new))])

    def solve(self, correlation, lam):
        """Minimise over the working set. Start from the present answer and its correlations.

        If the set is incomplete, the answer is provisional and need not be exact. A correlation
        may then exceed its penalty by up to the smallest of all penalties.
        """
        penalty = lam / self.norms * self.weights
        # Correlations below 1e-13 ||y|| are rounding errors.
        noise = np.min(penalty) if self.incomplete else 1e-13 * np.linalg.norm(self.y)
        self.u = minimise_on_columns(
            self.gram, correlation[self.members] / self.norms, penalty, self.u, noise,
            nonnegative=self.penalty.nonnegative,
        )  # fmt: skip
        support = np.flatnonzero(self.u)
        fit = self.u[support] @ self.unit_columns[support]
        self.residual = (self.y - fit).astype(self.y.dtype, copy=False)


def solve_in_rounds(A, sets, lam, tol, max_iter):
    """Solve the lasso for several signals that share the products with A.

    Parameters
    ----------
    A : ndarray, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    sets : list of WorkingSet
        One working set for each of r signals. At the end each set holds the answer.
    lam : float, or ndarray of shape (r,)
        Weight of the l1 term.
    tol : float
        Largest relative duality gap; see `allowed_gap`.
    max_iter : int
        Largest number of rounds.

    Returns
    -------
    n_iter : ndarray of int, shape (r,)
        Number of rounds.
    converged : ndarray of bool, shape (r,)
        Whether the gap is small enough.
    gap : ndarray, shape (r,)
        Relative duality gaps.
    history : ndarray, shape (rounds, r)
        Gap after each round, nan after a signal has ended.
    """
    r = len(sets)
    lam = np.full(r, lam)
    gap, n_iter, history = np.full(r, np.inf), np.zeros(r, dtype=int), []
    converged, open_signals = np.zeros(r, dtype=bool), np.arange(r)
    while len(open_signals) > 0:
        correlations = _correlate(A, [sets[i].residual for i in open_signals])
        history.append(np.full(r, np.nan))
        more = np.zeros(len(open_signals), dtype=bool)
        for position, (i, correlation) in enumerate(zip(open_signals, correlations, strict=True)):
            part, old = sets[i], gap[i]
            gap[i], objective = part.certificate(correlation, lam[i])
            history[-1][i], n_iter[i] = gap[i], len(history) - 1
            converged[i] = gap[i] <= allowed_gap(objective, tol)
            if converged[i] or n_iter[i] == max_iter:
                continue
            # A round adds columns or refines the answer. If it does neither, all later rounds
            # would do neither, so this signal ends here.
            before, exact = len(part.members), not part.incomplete
            part.grow(correlation, lam[i])
            stalled = gap[i] > 0.5 * old
            if len(part.members) > before or not exact or not (stalled or before == 0):
                part.solve(correlation, lam[i])
                more[position] = True
        open_signals = open_signals[more]
    return n_iter, converged, gap, np.array(history[1:]).reshape(-1, r)


def _correlate(A, residuals):
    if len(residuals) == 1:  # one vector is faster than a matrix with one column
        return [A.T @ residuals[0]]
    return (A.T @ np.stack(residuals, axis=1)).T
