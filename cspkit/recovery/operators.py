"""What the solvers ask of a measurement matrix beside products: columns and its norm."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, svds

Matrix = ArrayLike | sparse.spmatrix | sparse.sparray | LinearOperator


def columns(A, support):
    """Columns of a measurement matrix as a dense array.

    Parameters
    ----------
    A : ndarray, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    support : array_like of int, shape (s,)
        Which columns.

    Returns
    -------
    ndarray, shape (m, s)
        A[:, support], in column order in memory.
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

    The step 1 / ||A||^2 of the gradient methods must not be too long, so the result of
    the Lanczos iteration, which approaches the norm from below, is raised by 0.1 %.

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
    norm = svds(A, k=1, v0=start, tol=1e-4, return_singular_vectors=False)[0]
    return 1.001 * float(norm)


def least_squares(A, y, support):
    """Signal on a given support with the smallest residual, argmin ||y - A x||_2.

    Parameters
    ----------
    A : ndarray, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : ndarray, shape (m,)
        Measurements.
    support : ndarray of int
        Where x may differ from zero.

    Returns
    -------
    ndarray, shape (n,)
        The signal; of several with the same residual, the one of smallest norm.
    """
    x = np.zeros(A.shape[1], dtype=y.dtype)
    x[support] = np.linalg.lstsq(columns(A, support), y, rcond=None)[0]
    return x
