"""The lasso on few columns, solved exactly through their Gram matrix."""

import numpy as np
from scipy.linalg.lapack import dposv

# The solver takes the smallest step length, between 0 and 1, at which a sign flips. It tries this
# length to the power of each of these exponents.
STEP_EXPONENTS = np.linspace(1, 0, 8)


def minimise_on_columns(G, correlation, penalty, x, noise, *, nonnegative=False):
    """Minimise 1/2 ||y - A x||_2^2 + sum_j t_j |x_j| given G = A^T A, by an active set.

    While the signs s of the support S are fixed, the objective is quadratic, and

        G_SS d = A_S^T (y - A x) - t_S s_S

    gives the step d to its minimum. If a sign would flip on the way, the step is shortened. The
    entries that have reached zero leave S, and the problem on the smaller S is solved again. At the
    minimum for S, columns with |a_j^T (y - A x)| > t_j enter with the sign of their correlation.
    The objective falls in every step, and the number of supports is finite. So the method ends.
    Its answer is exact up to rounding.

    Parameters
    ----------
    G : ndarray, shape (p, p)
        Gram matrix of the columns, which have norm 1.
    correlation : ndarray, shape (p,)
        A^T (y - A x) at the starting point.
    penalty : ndarray, shape (p,)
        Weights t_j, above 0.
    x : ndarray, shape (p,)
        Starting point.
    noise : float
        A correlation outside the support may exceed its penalty by this much.
    nonnegative : bool
        Add the constraint x >= 0.

    Returns
    -------
    ndarray, shape (p,)
        The minimiser.

    References
    ----------
    Lee, Battle, Raina, Ng, "Efficient sparse coding algorithms", NIPS 2006: feature-sign
    search. Here many entries can join or leave the support at the same time.
    """
    x, q = x.copy(), correlation.copy()
    sign = np.sign(x)
    S = np.flatnonzero(x)
    at_minimum, share = len(S) == 0, 0.3
    for _ in range(100 + 10 * len(x)):
        if at_minimum:
            excess = (q if nonnegative else np.abs(q)) - penalty
            excess[S] = -np.inf
            largest = np.max(excess)
            if largest <= noise:
                break
            entering = np.flatnonzero(excess >= share * largest)
            S = np.concatenate([S, entering])
            sign[entering] = np.sign(q[entering])
        x_S, s = x[S], sign[S]
        G_S = G.take(S, axis=0)
        G_SS, slope = G_S.take(S, axis=1), q[S] - penalty[S] * s
        d = _solve(G_SS, slope)
        flips = (x_S + d) * s <= 0
        at_minimum = not flips.any()
        if at_minimum:
            x_new = x_S + d
        else:
            x_new = _best_step(x_S, d, s, flips, G_SS, slope)
            if x_new is None:
                # Several columns entered together, and some would get the wrong sign. These leave
                # again. From now on only the column with the largest excess enters, because this
                # always lowers the objective.
                S = S[~(flips & (x_S == 0))]
                at_minimum = bool(np.all(x[S] != 0))
                if share == 1 and at_minimum:
                    break
                share = 1.0 if at_minimum else share
                continue
        x[S] = x_new
        q -= (x_new - x_S) @ G_S
        S = S[x_new != 0]
    return x


def _solve(G_SS, slope):
    """Newton step d, from G_SS d = slope.

    Equal columns make G_SS singular, so a small multiple of the identity is added. The step is
    then long in directions that do not change the fit. This does no harm, because the caller
    shortens the step to where the next entry reaches zero.
    """
    for ridge in (1e-14, 1e-12, 1e-10, 1e-8):
        H = G_SS.copy()
        H.flat[:: len(H) + 1] += ridge
        _, d, failure = dposv(H.T, slope, overwrite_a=True)  # H.T is H, in column order
        if not failure:
            break
    return d


def _best_step(x_S, d, s, flips, G_SS, slope):
    """The best of a few shortened steps, or None if all of them raise the objective.

    Entries that would change their sign s are set to zero.
    """
    reach = np.where(flips, -x_S / d, np.inf)
    first = np.argmin(reach)
    steps = reach[first] ** STEP_EXPONENTS if reach[first] > 0 else np.ones(1)
    tried = x_S[:, None] + steps * d[:, None]
    tried[first, 0] = 0  # exactly zero: the shortest step ends where this entry is 0
    tried *= tried * s[:, None] > 0
    moves = tried - x_S[:, None]
    change = 0.5 * np.sum(moves * (G_SS @ moves), axis=0) - slope @ moves
    best = np.argmin(change)
    return tried[:, best] if change[best] < 0 else None
