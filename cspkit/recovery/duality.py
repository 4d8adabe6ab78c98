"""The certificate: how far from the optimum can an answer be at most?"""

import numpy as np


def lasso_objective(residual, x, lam):
    """Objective 1/2 ||residual||_2^2 + lam ||x||_1, summed in float64.

    Parameters
    ----------
    residual : ndarray, shape (m,) or (m, r)
        y - A x.
    x : ndarray, shape (n,) or (n, r)
        Signal.
    lam : float
        Weight of the l1 term.

    Returns
    -------
    float, or ndarray of shape (r,)
        The objective of each column.
    """
    squares = np.sum(np.square(residual, dtype=np.float64), axis=0)
    return 0.5 * squares + lam * np.sum(np.abs(x), axis=0, dtype=np.float64)


def relative_gap(y, residual, penalty, dual_residual, largest):
    """Relative duality gap of an answer to 1/2 ||y - A x||_2^2 + penalty(x), for a norm.

    For penalty(x) = lam Omega(x), the dual problem is to maximise
    1/2 ||y||^2 - 1/2 ||y - theta||^2 subject to Omega*(A^T theta) <= lam. Any residual,
    scaled until it obeys the constraint, is a point of it, and its value is a lower bound of
    every objective. The gap is the objective minus that bound, divided by 1/2 ||y||^2.

    Parameters
    ----------
    y, residual : ndarray, shape (m,) or (m, r)
        Measurements, and y - A x.
    penalty : float, or ndarray of shape (r,)
        lam Omega(x).
    dual_residual : ndarray, shape of y
        The vector that is scaled to a dual point; `residual` itself, or that of a
        neighbouring iterate whose correlation is at hand.
    largest : float, or ndarray of shape (r,)
        Omega*(A^T dual_residual) / lam, the dual norm.

    Returns
    -------
    float, or ndarray of shape (r,)
        The relative gap of each column, at least 0; 0 for y = 0 and x = 0.
    """
    squares, fit = _dot(dual_residual, dual_residual), _dot(y, dual_residual)
    energy = 0.5 * _dot(y, y)
    # The best multiple of the dual residual is fit / squares, as far as the constraint allows;
    # a zero residual or correlation gives 0 / 0 or 1 / 0 here and is seen to after.
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.minimum(np.maximum(fit / squares, 0), 1 / np.float64(largest))
        scale = np.where(squares > 0, scale, 0.0)
        bound = scale * fit - 0.5 * scale**2 * squares
        gap = np.maximum(0.5 * _dot(residual, residual) + penalty - bound, 0)
        return np.where(energy > 0, gap / energy, gap)[()]


def lasso_gap(y, residual, x, lam, dual_residual, correlation, *, nonnegative=False):
    """Relative duality gap of a lasso answer: `relative_gap` for Omega = ||x||_1.

    Parameters
    ----------
    y, residual : ndarray, shape (m,) or (m, r)
        Measurements, and y - A x.
    x : ndarray, shape (n,) or (n, r)
        The answer to certify.
    lam : float
        Weight of the l1 term.
    dual_residual : ndarray, shape of y
        As in `relative_gap`.
    correlation : ndarray, shape of x
        A^T dual_residual.
    nonnegative : bool
        Whether x >= 0 is a constraint; the dual one is then max_i (A^T theta)_i <= lam.

    Returns
    -------
    float, or ndarray of shape (r,)
        The relative gap of each column.
    """
    penalty = lam * np.sum(np.abs(x), axis=0, dtype=np.float64)
    largest = np.max(correlation if nonnegative else np.abs(correlation), axis=0) / lam
    return relative_gap(y, residual, penalty, dual_residual, largest)


def _dot(u, v):
    """Inner product of each column, summed in float64."""
    return np.einsum("i...,i...->...", u, v, dtype=np.float64)
