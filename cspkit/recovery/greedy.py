"""Greedy recovery: choose columns one after the other (OMP) or in batches (CoSaMP)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.linalg import solve_triangular

from cspkit.arguments import count
from cspkit.recovery.operators import Matrix, columns, least_squares
from cspkit.recovery.proximal import keep_largest
from cspkit.recovery.result import RecoveryResult, make_result
from cspkit.recovery.validation import check_system, check_tolerance, exponents


def omp(A: Matrix, y: ArrayLike, k: int) -> RecoveryResult:
    """Orthogonal matching pursuit: add the column that fits the residual best, k times.

    In every step j = argmax |a_j^T (y - A x)| joins the support, and x becomes the least
    squares solution on the support. A QR factorisation of the chosen columns grows by one column
    in each step. The choice of j assumes columns of about equal norm.

    Many signals share the Gram matrix A^T A if this is faster (batch OMP).

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : array_like, shape (m,) or (m, r)
        Measurements, one signal per column.
    k : int
        Number of columns to choose, at most min(m, n). Fewer are chosen if the residual becomes
        zero earlier, or if no further column can make the residual smaller.

    Returns
    -------
    RecoveryResult
        The history has the relative residual after each step. There is no gap (nan).

    Raises
    ------
    ArgumentError
        If an argument has the wrong shape, type or range, or holds nan or inf; if the range of
        the float type cannot hold x.

    References
    ----------
    Pati, Rezaiifar, Krishnaprasad, "Orthogonal matching pursuit", Asilomar 1993.
    doi:10.1109/ACSSC.1993.342465
    Rubinstein, Zibulevsky, Elad, "Efficient implementation of the K-SVD algorithm using
    batch orthogonal matching pursuit", Technion CS-2008-08.
    """
    A, y, scale = check_system(A, y, columns=True)
    k = count("k", k, 1, min(A.shape))
    if y.ndim == 1:
        x, history = _omp_one(A, y, k)
        return make_result(x, len(history), True, np.nan, history, scale, method="omp")
    n, r = A.shape[1], y.shape[1]
    pays = isinstance(A, np.ndarray) and r * k >= n and n <= 8 * A.shape[0]
    if pays and np.min(exponents(A)) > -500:  # otherwise A^T A would underflow
        x, history = _omp_gram(A, y, k)
    else:
        x, history = np.zeros((n, r), dtype=y.dtype), np.full((k, r), np.nan)
        for i in range(r):
            x[:, i], steps = _omp_one(A, y[:, i], k)
            history[: len(steps), i] = steps
    n_iter = np.count_nonzero(~np.isnan(history), axis=0)
    return make_result(x, n_iter, True, np.nan, history, scale, method="omp")


def cosamp(
    A: Matrix, y: ArrayLike, k: int, *, tol: float = 1e-10, max_iter: int = 200
) -> RecoveryResult:
    """Compressive sampling matching pursuit: choose 2k, fit, keep k, repeat.

        T <- support of x and the 2k largest |A^T (y - A x)|
        b <- argmin over T of ||y - A b||_2
        x <- H_k(b)

    H_k keeps the k largest magnitudes.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : array_like, shape (m,)
        Measurements.
    k : int
        Number of nonzeros, at most min(m, n). The fit is unique only if m >= 3k.
    tol : float
        Stop when the relative residual is at most this, or falls by at most this. The solver uses
        at least ten times the spacing of floats near 1.
    max_iter : int
        Largest number of iterations.

    Returns
    -------
    RecoveryResult
        The iterate with the smallest residual. The history has the relative residual after each
        iteration. There is no gap (nan).

    Raises
    ------
    ArgumentError
        If an argument has the wrong shape, type or range, or holds nan or inf; if the range of
        the float type cannot hold x.

    Warns
    -----
    ConvergenceWarning
        If the residual rises, or is still falling after `max_iter` iterations.

    References
    ----------
    Needell, Tropp, "CoSaMP: iterative signal recovery from incomplete and inaccurate
    samples", Appl. Comput. Harmon. Anal. 2009. arXiv:0803.2392
    """
    A, y, scale = check_system(A, y)
    k, max_iter = count("k", k, 1, min(A.shape)), count("max_iter", max_iter)
    tol = check_tolerance(tol, y.dtype)
    x, residual, history = np.zeros(A.shape[1], dtype=y.dtype), y, []
    norm_y, converged, last = np.linalg.norm(y), not y.any(), 1.0
    while len(history) < max_iter and not converged:
        proxy = keep_largest(A.T @ residual, 2 * k)
        T = np.flatnonzero((proxy != 0) | (x != 0))
        x_new = keep_largest(least_squares(A, y, T), k)
        residual_new = y - A @ x_new
        history.append(np.linalg.norm(residual_new) / norm_y)
        if history[-1] > last + tol:
            break  # the supports repeat in a cycle: keep the previous, better iterate
        converged = history[-1] <= tol or last - history[-1] <= tol
        x, residual, last = x_new, residual_new, history[-1]
    return make_result(x, len(history), converged, np.nan, history, scale, method="cosamp")


def _omp_one(A, y, k):
    """OMP for one signal. Q R = A[:, support] grows by one column in every step."""
    m, n = A.shape
    At = A.T
    Q = np.empty((m, k), dtype=y.dtype, order="F")
    R = np.zeros((k, k), dtype=y.dtype)
    support, scale, history = [], [], []
    residual, norm_y = y, np.linalg.norm(y)
    rounding = np.finfo(y.dtype).eps
    # A residual below this size is rounding error. It would choose the next column at random.
    while len(support) < k and np.linalg.norm(residual) > 10 * rounding * norm_y:
        i = len(support)
        j = int(np.argmax(np.abs(At @ residual)))
        a = columns(A, [j])[:, 0]
        size, e = np.linalg.norm(a), 0
        if size < 1e-15:  # its square could underflow
            e = exponents(a)
            a = np.ldexp(a, -e)
            size = np.linalg.norm(a)
        R[:i, i] = Q[:, :i].T @ a
        q = a - Q[:, :i] @ R[:i, i]
        again = Q[:, :i].T @ q  # Gram-Schmidt twice: a single pass is not orthogonal enough
        q -= Q[:, :i] @ again
        R[:i, i] += again
        R[i, i] = np.linalg.norm(q)
        if R[i, i] <= np.sqrt(m) * 10 * rounding * size:
            break  # a_j is a linear combination of the chosen columns
        Q[:, i] = q / R[i, i]
        residual = residual - Q[:, i] * (Q[:, i] @ residual)
        support.append(j)
        scale.append(e)
        history.append(np.linalg.norm(residual) / norm_y)
    x, s = np.zeros(n, dtype=y.dtype), len(support)
    u = solve_triangular(R[:s, :s], Q[:, :s].T @ y)
    x[support] = np.ldexp(u, -np.array(scale, dtype=int))
    return x, history


def _omp_gram(A, Y, k):
    """OMP for many signals: G = A^T A replaces A, and all signals take a step at the same time.

    `inverse` holds the inverse Cholesky factor of G[support, support] of every signal. It grows
    by one row in a step. A signal that has stopped gets rows of zeros.
    """
    A, dtype, Y = A.astype(np.float64, copy=False), Y.dtype, Y.astype(np.float64, copy=False)
    (n, r), signals = (A.shape[1], Y.shape[1]), np.arange(Y.shape[1])
    G, diagonal = A.T @ A, np.sum(A * A, axis=0)
    rounding = np.finfo(np.float64).eps
    correlation = start = np.ascontiguousarray((A.T @ Y).T)
    energy = left = np.sum(Y * Y, axis=0)
    alive = energy > 0
    support, X = np.zeros((r, k), dtype=np.intp), sparse.csr_array((r, n))
    inverse, fit, history = np.zeros((r, k, k)), np.zeros((r, k)), np.full((k, r), np.nan)
    for i in range(k):
        j = np.argmax(np.abs(correlation), axis=1)
        g = G[j[:, None], support[:, :i]]
        w = _times(inverse[:, :i, :i], g)
        pivot = diagonal[j] - np.sum(w * w, axis=1)
        alive = alive & (pivot > 1e3 * rounding * diagonal[j])
        if not alive.any():
            break
        scale = alive / np.sqrt(np.where(alive, pivot, 1))
        support[:, i] = np.where(alive, j, 0)
        inverse[:, i, :i] = -scale[:, None] * _times(inverse[:, :i, :i].transpose(0, 2, 1), w)
        inverse[:, i, i] = scale
        fit[:, i] = scale * (start[signals, j] - np.sum(w * fit[:, :i], axis=1))
        left = np.maximum(left - fit[:, i] ** 2, 0)
        history[i, alive] = np.sqrt(left[alive] / energy[alive])
        alive = alive & (left > 1e3 * rounding * energy)
        x = _times(inverse[:, : i + 1, : i + 1].transpose(0, 2, 1), fit[:, : i + 1])
        X = _rows_of(support[:, : i + 1], x, n)
        correlation = start - X @ G
    else:
        i = k
    # The normal equations lose half of the digits. One correction step, computed from the
    # residual, restores them.
    correlation = (Y.T - X @ A.T) @ A
    c = np.take_along_axis(correlation, support, axis=1)
    correction = _times(inverse.transpose(0, 2, 1), _times(inverse, c))
    x = X + _rows_of(support, correction, n)
    return x.toarray().T.astype(dtype), history


def _times(matrices, vectors):
    """One matrix times one vector for every signal."""
    return np.matmul(matrices, vectors[:, :, None])[:, :, 0]


def _rows_of(support, x, n):
    """Sparse matrix whose row i has the values x[i] at the places support[i]."""
    r, s = support.shape
    return sparse.csr_array((x.ravel(), support.ravel(), np.arange(0, r * s + 1, s)), shape=(r, n))
