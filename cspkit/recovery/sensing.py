"""Sparse signals and the random matrices that measure them."""

import numpy as np
from scipy.fft import dct
from scipy.linalg import toeplitz as toeplitz_matrix

from cspkit.recovery.validation import check_count


def sparse_signal(
    n: int, k: int, rng: np.random.Generator, *, kind: str = "gaussian", nonnegative: bool = False
) -> np.ndarray:
    """Draw a signal with k nonzeros at random places.

    Parameters
    ----------
    n, k : int
        Length and number of nonzeros.
    rng : numpy.random.Generator
        Source of randomness.
    kind : {"gaussian", "sign"}
        Nonzeros standard normal, or +1 and -1.
    nonnegative : bool
        Take absolute values.

    Returns
    -------
    ndarray, shape (n,)
        The signal, float64.

    Raises
    ------
    ValueError
        If `k` is not in 0..n or `kind` is unknown.
    """
    n, k = check_count("n", n), check_count("k", k, low=0)
    if k > n:
        raise ValueError(f"k is {k}, expected at most n = {n}")
    x = np.zeros(n)
    place = rng.choice(n, size=k, replace=False)
    if kind == "gaussian":
        x[place] = rng.standard_normal(k)
    elif kind == "sign":
        x[place] = rng.choice([-1.0, 1.0], size=k)
    else:
        raise ValueError(f"kind is {kind!r}, expected 'gaussian' or 'sign'")
    return np.abs(x) if nonnegative else x


def gaussian(m: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Gaussian measurement matrix, entries N(0, 1/m), so that columns have norm about 1.

    Parameters
    ----------
    m, n : int
        Measurements and unknowns.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray, shape (m, n)
        The matrix, float64.

    Raises
    ------
    ValueError
        If `m` or `n` is no positive integer.
    """
    m, n = check_count("m", m), check_count("n", n)
    return rng.standard_normal((m, n)) / np.sqrt(m)


def rademacher(m: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Random signs, +1/sqrt(m) or -1/sqrt(m) with equal chance; columns have norm 1.

    Parameters
    ----------
    m, n : int
        Measurements and unknowns.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray, shape (m, n)
        The matrix, float64.

    Raises
    ------
    ValueError
        If `m` or `n` is no positive integer.
    """
    m, n = check_count("m", m), check_count("n", n)
    return rng.choice([-1.0, 1.0], size=(m, n)) / np.sqrt(m)


def partial_dct(m: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Random m rows of the orthonormal n-point discrete cosine transform, times sqrt(n/m).

    Parameters
    ----------
    m, n : int
        Measurements and unknowns, m <= n.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray, shape (m, n)
        The matrix, float64; A A^T = (n/m) I.

    Raises
    ------
    ValueError
        If `m` or `n` is no positive integer, or m > n.
    """
    m, n = check_count("m", m), check_count("n", n)
    if m > n:
        raise ValueError(f"m is {m}, expected at most n = {n}: the transform has n rows")
    rows = np.sort(rng.choice(n, size=m, replace=False))
    return dct(np.eye(n), norm="ortho", axis=0)[rows] * np.sqrt(n / m)


def toeplitz(m: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Random convolution: A[i, j] = t[i - j] with t of n + m - 1 entries N(0, 1/m).

    Parameters
    ----------
    m, n : int
        Measurements and unknowns.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray, shape (m, n)
        The matrix, float64.

    Raises
    ------
    ValueError
        If `m` or `n` is no positive integer.

    References
    ----------
    Haupt, Bajwa, Raz, Nowak, "Toeplitz compressed sensing matrices with applications to
    sparse channel estimation", IEEE Trans. Inf. Theory 2010. doi:10.1109/TIT.2010.2070191
    """
    m, n = check_count("m", m), check_count("n", n)
    t = rng.standard_normal(m + n - 1) / np.sqrt(m)
    return toeplitz_matrix(t[n - 1 :], t[n - 1 :: -1])
