"""When does recovery work? Properties of a matrix, and the threshold for large random matrices."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from cspkit.arguments import ArgumentError, count, positive
from cspkit.recovery.sensing import check_generator
from cspkit.recovery.validation import check_matrix, exponents, real_array


def coherence(A: ArrayLike) -> float:
    """Largest cosine between two columns, max_{i != j} |a_i^T a_j| / (||a_i|| ||a_j||).

    OMP and basis pursuit recover every k-sparse signal with k < (1 + 1/coherence) / 2.

    Parameters
    ----------
    A : array_like, shape (m, n)
        Measurement matrix without zero columns.

    Returns
    -------
    float
        A number between the Welch bound and 1. For a single column it is 0.

    Raises
    ------
    ArgumentError
        If `A` is not a finite real matrix, or has a zero column.

    References
    ----------
    Tropp, "Greed is good: algorithmic results for sparse approximation", IEEE Trans. Inf.
    Theory 2004. doi:10.1109/TIT.2004.834793
    """
    A, _ = check_matrix(A)
    A = np.ldexp(A, -exponents(A))
    norms = np.linalg.norm(A, axis=0)
    if np.any(norms == 0):
        raise ArgumentError(f"A has a zero column at index {np.argmin(norms)}: expected none")
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
        The bound. It is 0 for n <= m.

    Raises
    ------
    ArgumentError
        If `m` or `n` is not a positive integer.

    References
    ----------
    Welch, "Lower bounds on the maximum cross correlation of signals", IEEE Trans. Inf. Theory
    1974. doi:10.1109/TIT.1974.1055219
    """
    m, n = count("m", m), count("n", n)
    return float(np.sqrt((n - m) / (m * (n - 1)))) if n > m else 0.0


def exact_recovery_coefficient(A: ArrayLike, support: ArrayLike) -> float:
    """Exact recovery coefficient of a support S: max_{j not in S} ||A_S^+ a_j||_1.

    A_S^+ is the pseudo-inverse of the columns on S. If the coefficient is below 1, OMP and basis
    pursuit recover every signal with support S.

    Parameters
    ----------
    A : array_like, shape (m, n)
        Measurement matrix.
    support : array_like of int, shape (k,)
        S. The columns of A on S must be independent.

    Returns
    -------
    float
        The coefficient. It is 0 if S contains all columns.

    Raises
    ------
    ArgumentError
        If `A` is not a finite real matrix, or `support` is not a set of independent columns.

    References
    ----------
    Tropp, "Greed is good: algorithmic results for sparse approximation", IEEE Trans. Inf.
    Theory 2004. doi:10.1109/TIT.2004.834793
    """
    A_S, A_N, e = _split(A, support)
    coefficients = np.ldexp(np.linalg.lstsq(A_S, A_N, rcond=None)[0], -e[:, None])
    return float(np.max(np.sum(np.abs(coefficients), axis=0), initial=0))


def irrepresentability(A: ArrayLike, support: ArrayLike, signs: ArrayLike) -> float:
    """How well columns outside S can imitate the signs s on S: ||A_N^T A_S (A_S^T A_S)^-1 s||_inf.

    N is the set of columns outside S. If the value is below 1, and noise and lam are small
    enough, the lasso finds the support S with the signs s. If it is above 1, the lasso does not
    find them, even with very little noise.

    Parameters
    ----------
    A : array_like, shape (m, n)
        Measurement matrix.
    support : array_like of int, shape (k,)
        S. The columns of A on S must be independent.
    signs : array_like, shape (k,)
        s, with entries +1 or -1.

    Returns
    -------
    float
        The largest value over N. It is 0 if S contains all columns.

    Raises
    ------
    ArgumentError
        If `A` is not a finite real matrix, `support` is not a set of independent columns, or
        `signs` does not hold +1 or -1 for each of them.

    References
    ----------
    Zhao, Yu, "On model selection consistency of Lasso", JMLR 2006.
    Fuchs, "On sparse representations in arbitrary redundant bases", IEEE Trans. Inf. Theory
    2004. doi:10.1109/TIT.2004.828141
    """
    A_S, A_N, e = _split(A, support)
    signs = real_array("signs", signs)
    if signs.shape != e.shape or not np.all(np.abs(signs) == 1):
        raise ArgumentError(
            f"signs is {signs.tolist()}: expected {e.size} values +1 or -1, one for each member "
            "of support"
        )
    # theta is the vector of smallest norm with A_S^T theta = s.
    theta = np.linalg.lstsq(A_S.T, np.ldexp(signs, -e), rcond=None)[0]
    return float(np.max(np.abs(A_N.T @ theta), initial=0))


def rip_lower_bound(
    A: ArrayLike, k: int, rng: np.random.Generator, *, trials: int = 1_000
) -> float:
    """Monte Carlo lower bound of the restricted isometry constant delta_k.

    delta_k is the largest | ||A x||^2 / ||x||^2 - 1 | over all k-sparse x. Its exact value takes
    too long to compute. Random supports of size k give only a lower bound, because a support
    that was not drawn may have a larger value.

    Parameters
    ----------
    A : array_like, shape (m, n)
        Measurement matrix.
    k : int
        Number of nonzeros, at most min(m, n).
    rng : numpy.random.Generator
        Source of randomness.
    trials : int
        Number of random supports.

    Returns
    -------
    float
        The largest value found.

    Raises
    ------
    ArgumentError
        If an argument has the wrong shape, type or range, or if a float cannot hold the result.

    References
    ----------
    Candes, Tao, "Decoding by linear programming", IEEE Trans. Inf. Theory 2005.
    arXiv:math/0502327
    """
    (A, a), rng = check_matrix(A), check_generator(rng)
    k, worst = count("k", k, 1, min(A.shape)), 0.0
    for _ in range(count("trials", trials)):
        A_S = A[:, rng.choice(A.shape[1], size=k, replace=False)]
        with np.errstate(over="ignore"):
            eigenvalues = np.ldexp(np.linalg.eigvalsh(A_S.T @ A_S), 2 * a)
        worst = max(worst, abs(eigenvalues[0] - 1), abs(eigenvalues[-1] - 1))
    if not np.isfinite(worst):
        raise ArgumentError("A is too large: delta_k would overflow; expected columns of norm 1")
    return float(worst)


def phase_transition(delta: float | ArrayLike, nonnegative: bool = False) -> float | np.ndarray:
    """Weak l1 threshold: how sparse a signal must be for basis pursuit to recover it.

    Basis pursuit with large Gaussian matrices of m = delta n rows recovers most k-sparse signals
    if and only if k / m is below

        rho(delta) = max_z [1 - (c/delta) M(z)] / [1 + z^2 - c M(z)],
        M(z) = (1 + z^2) Phi(-z) - z phi(z),

    with c = 2, or c = 1 for nonnegative signals recovered under the constraint x >= 0. Phi is the
    standard normal distribution function, and phi is its density.

    Parameters
    ----------
    delta : float or array_like
        Measurements per unknown, m/n, above 0 and below 1.
    nonnegative : bool
        Whether the signals are nonnegative and recovery uses the constraint x >= 0.

    Returns
    -------
    float or ndarray of the shape of delta
        rho.

    Raises
    ------
    ArgumentError
        If a value of `delta` is not between 0 and 1.

    References
    ----------
    Donoho, Tanner, "Neighborliness of randomly projected simplices in high dimensions", PNAS
    2005. doi:10.1073/pnas.0502258102
    Donoho, Maleki, Montanari, "Message-passing algorithms for compressed sensing", PNAS 2009.
    arXiv:0907.3574
    """
    deltas = real_array("delta", delta).astype(np.float64)
    rho = [
        _sparsity_at(d, minimax_threshold(d, nonnegative), nonnegative)
        for d in deltas.ravel().tolist()
    ]
    return np.reshape(rho, deltas.shape)[()]


def minimax_threshold(delta: float, nonnegative: bool = False) -> float:
    """The z at the maximum in `phase_transition`, which is the best threshold for AMP.

    Parameters
    ----------
    delta : float
        Measurements per unknown, m/n, above 0 and below 1.
    nonnegative : bool
        Whether the signals are nonnegative and recovery uses the constraint x >= 0.

    Returns
    -------
    float
        Threshold in units of the noise level.

    Raises
    ------
    ArgumentError
        If `delta` is not between 0 and 1.
    """
    if not 0 < positive("delta", delta) < 1:
        raise ArgumentError(f"delta is {delta!r}: expected a number above 0 and below 1")
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
    """Return the columns inside S, scaled by 2^-e, the columns outside S, and the exponents e."""
    A, _ = check_matrix(A)
    real_array("support", support)
    n, S = A.shape[1], np.asarray(support)
    if S.ndim != 1 or S.size == 0 or S.dtype.kind not in "iu":
        raise ArgumentError(f"support is {support!r}: expected a list of column indices")
    if np.any((S < 0) | (S >= n)) or np.unique(S).size < S.size:
        raise ArgumentError(f"support is {support!r}: expected distinct indices from 0 to {n - 1}")
    e = exponents(A[:, S])
    A_S = np.ldexp(A[:, S], -e)
    if np.linalg.matrix_rank(A_S) < S.size:
        raise ArgumentError(
            "support names linearly dependent columns of A: expected independent ones"
        )
    return A_S, np.delete(A, S, axis=1), e
