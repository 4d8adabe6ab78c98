"""Operations on a measurement matrix: columns, spectral norm, least squares, float64 products."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.sparse.linalg import ArpackError, LinearOperator, svds

from cspkit.recovery.validation import exponents

Matrix = ArrayLike | sparse.spmatrix | sparse.sparray | LinearOperator


def columns(A, support):
    """Columns of a measurement matrix as a dense array.

    Parameters
    ----------
    A : ndarray, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    support : array_like of int, shape (s,)
        Indices of the columns.

    Returns
    -------
    ndarray, shape (m, s)
        A[:, support], stored column by column in memory.
    """
    if sparse.issparse(A):
        return A[:, support].toarray(order="F")
    if isinstance(A, LinearOperator):
        unit = np.zeros((A.shape[1], len(support)), dtype=A.dtype)
        unit[support, np.arange(len(support))] = 1
        return np.asfortranarray(A @ unit)
    return A.T[support].T


def largest_singular_value(A):
    """Spectral norm of a measurement matrix, ||A||_2, rounded up a little.

    The step 1 / ||A||^2 of the gradient methods must not be too long. The Lanczos iteration
    approaches the norm from below, so its result is raised by 0.1 %.

    Parameters
    ----------
    A : ndarray, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.

    Returns
    -------
    float
        An upper estimate of the largest singular value.
    """
    if min(A.shape) <= 64:
        small = columns(A, np.arange(A.shape[1])) if A.shape[1] <= A.shape[0] else None
        if small is None:
            small = columns(A.T, np.arange(A.shape[0]))
        return 1.001 * float(np.linalg.norm(small, 2))
    start = np.random.default_rng(0).standard_normal(min(A.shape)).astype(A.dtype)
    try:
        norm = svds(A, k=1, v0=start, tol=1e-4, return_singular_vectors=False)[0]
    except ArpackError:
        if np.any((A if A.shape[1] == len(start) else A.T) @ start):
            raise
        return 0.0  # the Lanczos iteration does not accept A = 0
    return 1.001 * float(norm)


def least_squares(A, y, support):
    """Signal with the smallest residual on a given support, argmin ||y - A x||_2.

    Parameters
    ----------
    A : ndarray, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : ndarray, shape (m,)
        Measurements.
    support : ndarray of int
        Positions at which x may be nonzero.

    Returns
    -------
    ndarray, shape (n,)
        The signal. If several signals have the same residual, the one with the smallest
        norm is returned.
    """
    x = np.zeros(A.shape[1], dtype=y.dtype)
    if len(support) == 0:
        return x
    chosen = columns(A, support)
    size = np.max(np.abs(chosen), axis=0)
    if np.min(size) * 1e3 < np.max(size):  # `lstsq` ignores columns that are too small
        e = exponents(chosen)
        x[support] = np.ldexp(np.linalg.lstsq(np.ldexp(chosen, -e), y, rcond=None)[0], -e)
    else:
        x[support] = np.linalg.lstsq(chosen, y, rcond=None)[0]
    return x


def in_float64(A):
    """The same matrix, but with products in float64, to certify a float32 answer.

    Parameters
    ----------
    A : ndarray, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.

    Returns
    -------
    ndarray, sparse matrix or LinearOperator, shape (m, n)
        `A` itself if it is in float64 or a LinearOperator. A float32 array is converted in parts
        during a product.
    """
    if isinstance(A, LinearOperator) or A.dtype == np.float64:
        return A
    return A.astype(np.float64) if sparse.issparse(A) else _InParts(A)


class _InParts(LinearOperator):
    """A float32 array whose products are computed in float64, a few columns at a time."""

    def __init__(self, A):
        self.A, self.width = A, max(1, 2**18 // A.shape[0])
        super().__init__(np.float64, A.shape)

    def _matmat(self, x):
        used = np.flatnonzero(x.reshape(len(x), -1).any(axis=1))
        parts = np.split(used, range(self.width, len(used), self.width))
        return sum(self.A[:, part].astype(np.float64) @ x[part] for part in parts)

    def _rmatmat(self, y):
        parts = (self.A[:, i : i + self.width] for i in range(0, self.shape[1], self.width))
        return np.concatenate([part.T.astype(np.float64) @ y for part in parts])

    _matvec, _rmatvec = _matmat, _rmatmat
