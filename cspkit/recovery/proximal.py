"""Proximal operators: prox_f(v) = argmin_x 1/2 ||x - v||_2^2 + f(x)."""

import numpy as np


def soft_threshold(
    v: np.ndarray, t: float | np.ndarray, *, nonnegative: bool = False
) -> np.ndarray:
    """Proximal operator of t ||x||_1: x_i = sign(v_i) max(|v_i| - t, 0).

    Parameters
    ----------
    v : ndarray
        Point, of any shape.
    t : float or ndarray
        Threshold, at least 0; an array that broadcasts gives a weighted l1 norm.
    nonnegative : bool
        Add the constraint x >= 0: x_i = max(v_i - t, 0).

    Returns
    -------
    ndarray
        The shrunken point.
    """
    if nonnegative:
        return np.maximum(v - t, 0)
    return v - np.clip(v, -t, t)


def hard_threshold(v: np.ndarray, k: int) -> np.ndarray:
    """Projection on the k-sparse vectors: keep the k largest magnitudes, zero the others.

    The proximal operator of the indicator of ||x||_0 <= k. Ties are broken by position, so
    that exactly k entries stay (fewer if v has fewer nonzeros).

    Parameters
    ----------
    v : ndarray, shape (n,) or (n, r)
        Point, or one point per column.
    k : int
        How many entries of each column stay.

    Returns
    -------
    ndarray, shape of v
        The sparse point.
    """
    k = min(k, v.shape[0])
    order = np.argsort(-np.abs(v), axis=0, kind="stable")[:k]
    x = np.zeros_like(v)
    np.put_along_axis(x, order, np.take_along_axis(v, order, axis=0), axis=0)
    return x


def l0_threshold(v: np.ndarray, t: float) -> np.ndarray:
    """Proximal operator of t ||x||_0: keep v_i where |v_i| > sqrt(2 t).

    Parameters
    ----------
    v : ndarray
        Point, of any shape.
    t : float
        Price of a nonzero, at least 0.

    Returns
    -------
    ndarray
        The sparse point.
    """
    return np.where(np.square(v) > 2 * t, v, 0)


def block_soft_threshold(v: np.ndarray, t: float | np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Proximal operator of sum_g t_g ||x_g||_2: every group shrinks as one.

    x_g = max(1 - t_g / ||v_g||_2, 0) v_g

    Parameters
    ----------
    v : ndarray, shape (n,)
        Point.
    t : float or ndarray, shape (number of groups,)
        Threshold of each group, at least 0.
    groups : ndarray of int, shape (n,)
        Number of the group, from 0, that each entry belongs to.

    Returns
    -------
    ndarray, shape (n,)
        The point, with whole groups at zero.
    """
    norms = np.sqrt(np.bincount(groups, weights=np.square(v, dtype=np.float64)))
    scale = np.zeros_like(norms)
    np.divide(t, norms, out=scale, where=norms > 0)
    return v * np.maximum(1 - scale, 0).astype(v.dtype)[groups]


def project_l2_ball(v: np.ndarray, radius: float) -> np.ndarray:
    """Projection on the ball ||x||_2 <= radius.

    Parameters
    ----------
    v : ndarray, shape (n,)
        Point.
    radius : float
        Radius, at least 0.

    Returns
    -------
    ndarray, shape (n,)
        The nearest point of the ball.
    """
    norm = np.linalg.norm(v)
    return v if norm <= radius else v * (radius / norm)


def project_linf_ball(v: np.ndarray, radius: float | np.ndarray) -> np.ndarray:
    """Projection on the box max_i |x_i| <= radius, the dual partner of `soft_threshold`.

    Parameters
    ----------
    v : ndarray
        Point, of any shape.
    radius : float or ndarray
        Half side of the box, at least 0.

    Returns
    -------
    ndarray
        The nearest point of the box; v = soft_threshold(v, t) + project_linf_ball(v, t).
    """
    return np.clip(v, -radius, radius)
