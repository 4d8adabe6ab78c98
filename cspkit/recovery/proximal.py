"""Proximal operators: prox_f(v) = argmin_x 1/2 ||x - v||_2^2 + f(x)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cspkit.arguments import ArgumentError, count, positive
from cspkit.recovery.validation import check_finite, check_groups, exponents, real_array


def soft_threshold(v: ArrayLike, t: float | ArrayLike, *, nonnegative: bool = False) -> np.ndarray:
    """Proximal operator of t ||x||_1: x_i = sign(v_i) max(|v_i| - t, 0).

    Parameters
    ----------
    v : array_like
        Point, of any shape.
    t : float or array_like
        Threshold, at least 0. An array that broadcasts with `v` gives a weighted l1 norm.
    nonnegative : bool
        Add the constraint x >= 0: x_i = max(v_i - t, 0).

    Returns
    -------
    ndarray
        The point after shrinking: float32 if `v` is float32, otherwise float64.

    Raises
    ------
    ArgumentError
        If `v` is not real and finite, or `t` is negative, nan or of a wrong shape.
    """
    v = _point(v)
    return shrink(v, _thresholds("t", t, v), nonnegative)


def hard_threshold(v: ArrayLike, k: int) -> np.ndarray:
    """Projection on the k-sparse vectors: keep the k largest magnitudes, set the others to zero.

    This is the proximal operator of the indicator of ||x||_0 <= k. If magnitudes are equal, the
    first entries stay, so never more than k entries stay.

    Parameters
    ----------
    v : array_like, shape (n,) or (n, r)
        Point, or one point for each column.
    k : int
        How many entries of each column stay, at least 0.

    Returns
    -------
    ndarray, shape of v
        The sparse point: float32 if `v` is float32, otherwise float64.

    Raises
    ------
    ArgumentError
        If `v` is not real and finite or is a single number, or `k` is not an integer >= 0.
    """
    v = _point(v)
    if v.ndim == 0:
        raise ArgumentError("v is a single number: expected shape (n,) or (n, r)")
    return keep_largest(v, count("k", k, 0))


def l0_threshold(v: ArrayLike, t: float | ArrayLike) -> np.ndarray:
    """Proximal operator of t ||x||_0: keep v_i if |v_i| > sqrt(2 t), otherwise set it to zero.

    Parameters
    ----------
    v : array_like
        Point, of any shape.
    t : float or array_like
        Cost of a nonzero, at least 0. An array that broadcasts with `v` gives one cost for each
        entry.

    Returns
    -------
    ndarray
        The sparse point: float32 if `v` is float32, otherwise float64.

    Raises
    ------
    ArgumentError
        If `v` is not real and finite, or `t` is negative, nan or of a wrong shape.
    """
    v = _point(v)
    t = _thresholds("t", t, v, np.float64)
    return np.where(np.abs(v) > 2 * np.sqrt(t / 2), v, v.dtype.type(0))


def block_soft_threshold(v: ArrayLike, t: float | ArrayLike, groups: ArrayLike) -> np.ndarray:
    """Proximal operator of sum_g t_g ||x_g||_2. It shrinks each group as a whole.

    x_g = max(1 - t_g / ||v_g||_2, 0) v_g

    Parameters
    ----------
    v : array_like, shape (n,)
        Point.
    t : float or array_like, shape (G,)
        Threshold of each group, at least 0.
    groups : array_like of int, shape (n,)
        The group number of each entry. Each of 0, 1, ..., G - 1 must occur.

    Returns
    -------
    ndarray, shape (n,)
        The point after shrinking, in which whole groups can be zero: float32 if `v` is float32,
        otherwise float64.

    Raises
    ------
    ArgumentError
        If `v` is not real and finite, `groups` does not give a group number for each
        entry, or `t` is negative, nan or of a wrong shape.
    """
    v = _point(v)
    if v.ndim != 1 or v.size == 0:
        raise ArgumentError(f"v has shape {v.shape}: expected (n,) with n >= 1")
    groups = check_groups(groups, v.size)
    size = np.zeros(np.max(groups) + 1, dtype=v.dtype)
    np.maximum.at(size, groups, np.abs(v))
    t = _thresholds("t", t, size, np.float64)
    # The largest entry of each group is scaled to a size near 1, so that squares neither overflow
    # nor underflow.
    e = np.frexp(size)[1]
    with np.errstate(over="ignore"):
        t = np.ldexp(t, -e)
    return np.ldexp(block_shrink(np.ldexp(v, -e[groups]), t, groups), e[groups])


def project_l2_ball(v: ArrayLike, radius: float) -> np.ndarray:
    """Projection on the ball ||x||_2 <= radius.

    Parameters
    ----------
    v : array_like, shape (n,)
        Point.
    radius : float
        Radius, at least 0.

    Returns
    -------
    ndarray, shape (n,)
        The nearest point of the ball: float32 if `v` is float32, otherwise float64.

    Raises
    ------
    ArgumentError
        If `v` is not real and finite, or `radius` is not a finite number >= 0.
    """
    v = _point(v)
    radius = positive("radius", radius, zero=True)
    if v.size == 0:
        return v
    e = exponents(v.ravel())
    scaled = np.ldexp(v, -e)
    norm = float(np.linalg.norm(scaled))
    with np.errstate(over="ignore"):
        inside = norm <= np.ldexp(radius, -e)
    return v if inside else scaled * (radius / norm)


def project_linf_ball(v: ArrayLike, radius: float | ArrayLike) -> np.ndarray:
    """Projection on the box max_i |x_i| <= radius.

    `soft_threshold` subtracts this projection: v = soft_threshold(v, t) + project_linf_ball(v, t).

    Parameters
    ----------
    v : array_like
        Point, of any shape.
    radius : float or array_like
        Half of the side length of the box, at least 0. An array that broadcasts with `v` gives
        one radius for each entry.

    Returns
    -------
    ndarray
        The nearest point of the box.

    Raises
    ------
    ArgumentError
        If `v` is not real and finite, or `radius` is negative, nan or of a wrong shape.
    """
    v = _point(v)
    radius = _thresholds("radius", radius, v)
    return np.clip(v, -radius, radius)


def shrink(v, t, nonnegative=False):
    """`soft_threshold` without checks."""
    if nonnegative:
        return np.maximum(v - t, 0)
    return v - np.clip(v, -t, t)


def keep_largest(v, k):
    """`hard_threshold` without checks."""
    order = np.argsort(-np.abs(v), axis=0, kind="stable")[:k]
    x = np.zeros_like(v)
    np.put_along_axis(x, order, np.take_along_axis(v, order, axis=0), axis=0)
    return x


def block_shrink(v, t, groups):
    """`block_soft_threshold` without checks."""
    norms = group_norms(v, groups)
    scale = np.ones_like(norms)
    np.divide(t, norms, out=scale, where=norms > 0)
    return v * np.maximum(1 - scale, 0).astype(v.dtype)[groups]


def group_norms(v, groups):
    """||v_g||_2 of each group, in float64."""
    return np.sqrt(np.bincount(groups, weights=np.square(v, dtype=np.float64)))


def _point(v):
    v = real_array("v", v)
    check_finite("v", v)
    return v


def _thresholds(name, t, v, dtype=None):
    t = real_array(name, t)
    if not np.all(t >= 0):
        raise ArgumentError(f"{name} is {t.tolist()!r:.60}: expected numbers >= 0")
    try:
        np.broadcast_shapes(t.shape, v.shape)
    except ValueError:
        raise ArgumentError(
            f"{name} has shape {t.shape}: expected a number or the shape {v.shape}"
        ) from None
    with np.errstate(over="ignore"):
        return t.astype(dtype or v.dtype)
