"""Problems with known answers, and optimality conditions written down a second time."""

import numpy as np

from cspkit.recovery import gaussian, sparse_signal


def exact_problem(seed=0, m=100, n=200, k=10, r=None, nonnegative=False):
    """Noiseless y = A x with far more measurements than a k-sparse signal needs."""
    rng = np.random.default_rng(seed)
    A = gaussian(m, n, rng)
    if r is None:
        x = sparse_signal(n, k, rng, nonnegative=nonnegative)
    else:
        x = np.stack([sparse_signal(n, k, rng) for _ in range(r)], axis=1)
    return A, x, A @ x


def noisy_problem(seed=0, m=60, n=120, k=8, noise=0.05):
    rng = np.random.default_rng(seed)
    A = gaussian(m, n, rng)
    x = sparse_signal(n, k, rng)
    return A, x, A @ x + noise * rng.standard_normal(m) / np.sqrt(m)


def kkt_violation(A, y, x, lam, nonnegative=False):
    """Largest violation of the lasso's optimality conditions, relative to max |A^T y|.

    A^T (y - A x) = lam sign(x) on the support, |A^T (y - A x)| <= lam off it.
    """
    c = A.T @ (y - A @ x)
    on = x != 0
    off = c[~on] - lam if nonnegative else np.abs(c[~on]) - lam
    worst = max(np.max(np.abs(c[on] - lam * np.sign(x[on])), initial=0), np.max(off, initial=0))
    if nonnegative and np.any(x < 0):
        return np.inf
    return worst / (np.max(np.abs(A.T @ y)) or 1)


def objective(A, y, x, lam):
    return 0.5 * np.sum((y - A @ x) ** 2) + lam * np.sum(np.abs(x))
