"""Sparse signals and the random matrices that measure them."""

from __future__ import annotations

import numpy as np
from scipy.fft import dct
from scipy.linalg import toeplitz as toeplitz_matrix

from cspkit.arguments import ArgumentError, count, one_of


def sparse_signal(
    n: int, k: int, rng: np.random.Generator, *, kind: str = "gaussian", nonnegative: bool = False
) -> np.ndarray:
    """Draw a signal with k nonzeros at random positions.

    Parameters
    ----------
    n, k : int
        Length and number of nonzeros, 0 <= k <= n.
    rng : numpy.random.Generator
        Source of randomness.
    kind : {"gaussian", "sign"}
        Whether the nonzeros are standard normal, or +1 and -1.
    nonnegative : bool
        Replace the nonzeros by their absolute values.

    Returns
    -------
    ndarray, shape (n,)
        The signal, float64.

    Raises
    ------
    ArgumentError
        If `n` is not a positive integer, `k` is not an integer from 0 to n, `kind` is unknown or
        `rng` is not a Generator.
    """
    n = count("n", n)
    k, kind, rng = (
        count("k", k, 0, n),
        one_of("kind", kind, ("gaussian", "sign")),
        check_generator(rng),
    )
    x = np.zeros(n)
    place = rng.choice(n, size=k, replace=False)
    if kind == "gaussian":
        x[place] = rng.standard_normal(k)
    else:
        x[place] = rng.choice([-1.0, 1.0], size=k)
    return np.abs(x) if nonnegative else x


def gaussian(m: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Gaussian measurement matrix: entries N(0, 1/m), columns of norm about 1.

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
    ArgumentError
        If `m` or `n` is not a positive integer, or `rng` is not a Generator.
    """
    m, n, rng = count("m", m), count("n", n), check_generator(rng)
    return rng.standard_normal((m, n)) / np.sqrt(m)


def rademacher(m: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Random signs: entries +1/sqrt(m) or -1/sqrt(m) with equal probability, columns of norm 1.

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
    ArgumentError
        If `m` or `n` is not a positive integer, or `rng` is not a Generator.
    """
    m, n, rng = count("m", m), count("n", n), check_generator(rng)
    return rng.choice([-1.0, 1.0], size=(m, n)) / np.sqrt(m)


def partial_dct(m: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """m random rows of the orthonormal n-point cosine transform, multiplied by sqrt(n/m).

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
    ArgumentError
        If `n` is not a positive integer, `m` is not an integer from 1 to n, or `rng` is not a
        Generator.
    """
    n = count("n", n)
    m, rng = count("m", m, 1, n), check_generator(rng)
    rows = np.sort(rng.choice(n, size=m, replace=False))
    return dct(np.eye(n), norm="ortho", axis=0)[rows] * np.sqrt(n / m)


def toeplitz(m: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Random convolution: A[i, j] = t[i - j], where t has n + m - 1 entries N(0, 1/m).

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
    ArgumentError
        If `m` or `n` is not a positive integer, or `rng` is not a Generator.

    References
    ----------
    Haupt, Bajwa, Raz, Nowak, "Toeplitz compressed sensing matrices with applications to
    sparse channel estimation", IEEE Trans. Inf. Theory 2010. doi:10.1109/TIT.2010.2070191
    """
    m, n, rng = count("m", m), count("n", n), check_generator(rng)
    t = rng.standard_normal(m + n - 1) / np.sqrt(m)
    return toeplitz_matrix(t[n - 1 :], t[n - 1 :: -1])


def check_generator(rng):
    """Return `rng`, or raise an error if it is not a numpy.random.Generator."""
    if not isinstance(rng, np.random.Generator):
        raise ArgumentError(
            f"rng is {rng!r}: expected a Generator, for example numpy.random.default_rng(0)"
        )
    return rng
