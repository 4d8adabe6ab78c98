"""When recovery works: properties of a matrix, and the threshold of large random ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from cspkit.recovery.validation import check_count, check_matrix, check_sparsity


def coherence(A: ArrayLike) -> float:
    """Largest cosine between two columns, max_{i != j} |a_i^T a_j| / (||a_i|| ||a_j||).

    Every k-sparse signal with k < (1 + 1/coherence) / 2 is recovered by OMP and by basis
    pursuit.

    Parameters
    ----------
    A : array_like, shape (m, n)
        Measurement matrix without zero columns.

    Returns
    -------
    float
        Between the Welch bound and 1; 0 for a single column.

    Raises
    ------
    ValueError
        If `A` is no finite real matrix, or has a zero column.

    References
    ----------
    Tropp, "Greed is good: algorithmic results for sparse approximation", IEEE Trans. Inf.
    Theory 2004. doi:10.1109/TIT.2004.834793
    """
    A = check_matrix(A)
    norms = np.linalg.norm(A, axis=0)
    if np.any(norms == 0):
        raise ValueError(f"A has a zero column (number {np.argmin(norms)}), expected none")
    unit = A / norms
    cosines = np.abs(unit.T @ unit)
    np.fill_diagonal(cosines, 0)
    return float(np.max(cosines))


def welch_bound(m: int, n: int) -> float:
    """Smallest coherence that any (m, n) matrix can have, sqrt((n - m) / (m (n - 1))).

    Parameters
    ----------
    m, n : int
        Rows and columns.

    Returns
    -------
    float
        The bound; 0 for n <= m.

    Raises
    ------
    ValueError
        If `m` or `n` is no positive integer.

    References
    ----------
    Welch, "Lower bounds on the maximum cross correlation of signals", IEEE Trans. Inf. Theory
    1974. doi:10.1109/TIT.1974.1055219
    """
    m, n = check_count("m", m), check_count("n", n)
    return float(np.sqrt((n - m) / (m * (n - 1)))) if n > m else 0.0


def exact_recovery_coefficient(A: ArrayLike, support: ArrayLike) -> float:
    """Exact recovery condition of a support S: max_{j not in S} ||A_S^+ a_j||_1.

    Below 1, OMP and basis pursuit recover every signal on S.

    Parameters
    ----------
    A : array_like, shape (m, n)
        Measurement matrix.
    support : array_like of int, shape (k,)
        S, on which the columns must be independent.

    Returns
    -------
    float
        The coefficient; 0 if S has all columns.

    Raises
    ------
    ValueError
        If `A` is no finite real matrix, or `support` no set of independent columns.

    References
    ----------
    Tropp, "Greed is good: algorithmic results for sparse approximation", IEEE Trans. Inf.
    Theory 2004. doi:10.1109/TIT.2004.834793
    """
    A = check_matrix(A)
    S, others = _split(A, support)
    coefficients = np.linalg.lstsq(A[:, S], A[:, others], rcond=None)[0]
    return float(np.max(np.sum(np.abs(coefficients), axis=0), initial=0))


def irrepresentability(A: ArrayLike, support: ArrayLike, signs: ArrayLike) -> float:
    """How nearly other columns imitate a sign pattern: ||A_N^T A_S (A_S^T A_S)^-1 s||_inf.

    N are the columns outside S. Below 1, the lasso finds the support S with signs s, for
    noise and lam small enough; above 1 it does not, however small the noise.

    Parameters
    ----------
    A : array_like, shape (m, n)
        Measurement matrix.
    support : array_like of int, shape (k,)
        S, on which the columns must be independent.
    signs : array_like, shape (k,)
        s, entries +1 or -1.

    Returns
    -------
    float
        The largest value over N; 0 if S has all columns.

    Raises
    ------
    ValueError
        If `A` is no finite real matrix, `support` no set of independent columns, or `signs`
        does not fit it.

    References
    ----------
    Zhao, Yu, "On model selection consistency of Lasso", JMLR 2006.
    Fuchs, "On sparse representations in arbitrary redundant bases", IEEE Trans. Inf. Theory
    2004. doi:10.1109/TIT.2004.828141
    """
    A = check_matrix(A)
    S, others = _split(A, support)
    signs = np.asarray(signs, dtype=float)
    if signs.shape != S.shape or not np.all(np.abs(signs) == 1):
        raise ValueError(f"signs is {signs}, expected {S.size} values +1 or -1 as in support")
    theta = np.linalg.lstsq(A[:, S].T, signs, rcond=None)[0]  # A_S^T theta = s, of smallest norm
    return float(np.max(np.abs(A[:, others].T @ theta), initial=0))


def rip_lower_bound(
    A: ArrayLike, k: int, rng: np.random.Generator, *, trials: int = 1_000
) -> float:
    """Monte Carlo lower bound of the restricted isometry constant delta_k.

    delta_k is the largest | ||A x||^2 / ||x||^2 - 1 | over all k-sparse x. Its exact value is
    out of reach; random supports of size k bound it from below, and only from below: that no
    bad support was drawn proves nothing.

    Parameters
    ----------
    A : array_like, shape (m, n)
        Measurement matrix.
    k : int
        Number of nonzeros, at most min(m, n).
    rng : numpy.random.Generator
        Source of randomness.
    trials : int
        Number of supports drawn.

    Returns
    -------
    float
        The largest value found.

    Raises
    ------
    ValueError
        If an argument has the wrong shape, type or range.

    References
    ----------
    Candes, Tao, "Decoding by linear programming", IEEE Trans. Inf. Theory 2005.
    arXiv:math/0502327
    """
    A = check_matrix(A)
    k, worst = check_sparsity(k, A), 0.0
    for _ in range(check_count("trials", trials)):
        A_S = A[:, rng.choice(A.shape[1], size=k, replace=False)]
        eigenvalues = np.linalg.eigvalsh(A_S.T @ A_S)
        worst = max(worst, abs(eigenvalues[0] - 1), abs(eigenvalues[-1] - 1))
    return float(worst)


def phase_transition(delta: float | ArrayLike, nonnegative: bool = False) -> float | np.ndarray:
    """Weak l1 threshold: how sparse a signal must be for basis pursuit to recover it.

    Large Gaussian matrices with m = delta n rows recover most k-sparse signals if and only if
    k / m is below

        rho(delta) = max_z [1 - (c/delta) M(z)] / [1 + z^2 - c M(z)],
        M(z) = (1 + z^2) Phi(-z) - z phi(z),

    with c = 2, or c = 1 for nonnegative signals recovered under the constraint x >= 0.

    Parameters
    ----------
    delta : float or array_like
        Measurements per unknown, m/n, above 0 and below 1.
    nonnegative : bool
        Whether signals and recovery are nonnegative.

    Returns
    -------
    float or ndarray of the shape of delta
        rho.

    Raises
    ------
    ValueError
        If a delta is not between 0 and 1.

    References
    ----------
    Donoho, Tanner, "Neighborliness of randomly projected simplices in high dimensions", PNAS
    2005. doi:10.1073/pnas.0502258102
    Donoho, Maleki, Montanari, "Message-passing algorithms for compressed sensing", PNAS 2009.
    arXiv:0907.3574
    """
    deltas = np.asarray(delta, dtype=float)
    rho = [_sparsity_at(d, minimax_threshold(d, nonnegative), nonnegative) for d in deltas.flat]
    return np.reshape(rho, deltas.shape)[()]


def minimax_threshold(delta: float, nonnegative: bool = False) -> float:
    """The z that attains the maximum of `phase_transition`: the best threshold of AMP.

    Parameters
    ----------
    delta : float
        Measurements per unknown, m/n, above 0 and below 1.
    nonnegative : bool
        Whether signals and recovery are nonnegative.

    Returns
    -------
    float
        Threshold in units of the noise level.

    Raises
    ------
    ValueError
        If `delta` is not between 0 and 1.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta is {delta}, expected a number above 0 and below 1")
    found = minimize_scalar(
        lambda z: -_sparsity_at(delta, z, nonnegative), bounds=(0, 12), method="bounded",
        options={"xatol": 1e-10},
    )  # fmt: skip
    return float(found.x)


def _sparsity_at(delta, z, nonnegative):
    c = 1 if nonnegative else 2
    M = (1 + z**2) * norm.cdf(-z) - z * norm.pdf(z)
    return (1 - c / delta * M) / (1 + z**2 - c * M)


def _split(A, support):
    S = np.asarray(support)
    n = A.shape[1]
    if S.ndim != 1 or S.size == 0 or not np.issubdtype(S.dtype, np.integer):
        raise ValueError(f"support is {support!r}, expected a list of column numbers")
    if np.any((S < 0) | (S >= n)) or np.unique(S).size < S.size:
        raise ValueError(f"support is {support!r}, expected different columns from 0 to {n - 1}")
    if np.linalg.matrix_rank(A[:, S]) < S.size:
        raise ValueError("support names columns of A that are not independent")
    return S, np.setdiff1d(np.arange(n), S)
