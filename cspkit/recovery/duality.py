"""The certificate: a bound on the distance of the objective from its minimum."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cspkit.arguments import ArgumentError, positive
from cspkit.recovery.operators import in_float64
from cspkit.recovery.penalties import L1
from cspkit.recovery.validation import check_finite, exponents, real_array


def relative_gap(
    y: ArrayLike,
    residual: ArrayLike,
    penalty: float | ArrayLike,
    dual_residual: ArrayLike,
    largest: float | ArrayLike,
) -> float | np.ndarray:
    """Duality gap of an answer to 1/2 ||y - A x||_2^2 + penalty(x), relative to 1/2 ||y||_2^2.

    The penalty is a norm, penalty(x) = lam Omega(x). The dual problem is to maximise
    1/2 ||y||^2 - 1/2 ||y - theta||^2 subject to Omega*(A^T theta) <= lam, where Omega* is
    the dual norm. Any residual can be scaled to a theta that satisfies the constraint. The dual
    value at this theta is a lower bound on the smallest objective. The gap is the objective minus
    this bound, divided by 1/2 ||y||^2. So the objective of x is at most gap * 1/2 ||y||^2 above the
    smallest objective.

    Parameters
    ----------
    y, residual : array_like, shape (m,) or (m, r)
        Measurements, and y - A x.
    penalty : float, or array_like of shape (r,)
        lam Omega(x).
    dual_residual : array_like, shape of y
        The vector that is scaled to a dual point: `residual`, or the residual of a nearby point
        for which A^T dual_residual is known already.
    largest : float, or array_like of shape (r,)
        Omega*(A^T dual_residual) / lam. A value <= 0 means that every positive multiple of
        `dual_residual` satisfies the dual constraint. This can happen if x >= 0 is required.

    Returns
    -------
    float, or ndarray of shape (r,)
        The relative gap of each column, at least 0. For y = 0 it is the absolute gap.

    Raises
    ------
    ArgumentError
        If an argument has the wrong shape, type or range, or holds nan; if `y` or a residual
        holds inf.
    """
    y, residual, dual_residual = _vectors(y, residual, dual_residual)
    penalty = _numbers("penalty", penalty, y, 0)
    largest = _numbers("largest", largest, y, -np.inf)
    e, d = exponents(y), exponents(dual_residual)
    with np.errstate(over="ignore"):
        return certificate(
            np.ldexp(y, -e), np.ldexp(residual, -e), np.ldexp(penalty, -2 * e),
            np.ldexp(dual_residual, -d), np.ldexp(largest, e - d),
        )[0]  # fmt: skip


def lasso_gap(
    y: ArrayLike,
    residual: ArrayLike,
    x: ArrayLike,
    lam: float,
    dual_residual: ArrayLike,
    correlation: ArrayLike,
    *,
    nonnegative: bool = False,
) -> float | np.ndarray:
    """Relative duality gap of a lasso answer: `relative_gap` with the penalty lam ||x||_1.

    Parameters
    ----------
    y, residual : array_like, shape (m,) or (m, r)
        Measurements, and y - A x.
    x : array_like, shape (n,) or (n, r)
        The answer to certify.
    lam : float
        Weight of the l1 term, above 0.
    dual_residual : array_like, shape of y
        As in `relative_gap`.
    correlation : array_like, shape of x
        A^T dual_residual.
    nonnegative : bool
        Whether x >= 0 is a constraint. The constraint of the dual problem is then
        max_i (A^T theta)_i <= lam.

    Returns
    -------
    float, or ndarray of shape (r,)
        The relative gap of each column, at least 0. For y = 0 it is the absolute gap.

    Raises
    ------
    ArgumentError
        If an argument has the wrong shape, type or range, or holds nan or inf.
    """
    y, residual, dual_residual = _vectors(y, residual, dual_residual)
    x, correlation = (
        real_array(name, values).astype(np.float64, copy=False)
        for name, values in (("x", x), ("correlation", correlation))
    )
    if x.ndim != y.ndim or x.shape[1:] != y.shape[1:] or x.size == 0:
        raise ArgumentError(
            f"x has shape {x.shape}: expected one column for each column of y {y.shape}"
        )
    if correlation.shape != x.shape:
        raise ArgumentError(
            f"correlation has shape {correlation.shape}: expected {x.shape}, as x has"
        )
    check_finite("x", x)
    check_finite("correlation", correlation)
    mantissa, f = np.frexp(positive("lam", lam))
    e, d, l1 = exponents(y), exponents(dual_residual), L1(nonnegative=nonnegative)
    with np.errstate(over="ignore"):
        return certificate(
            np.ldexp(y, -e), np.ldexp(residual, -e), mantissa * l1.norm(np.ldexp(x, f - 2 * e)),
            np.ldexp(dual_residual, -d), l1.dual_norm(np.ldexp(correlation, e - d - f)) / mantissa,
        )[0]  # fmt: skip


def certificate(y, residual, penalty, dual_residual, largest):
    """Gap and objective, both relative to 1/2 ||y||^2.

    The arguments are those of `relative_gap`.

    Returns
    -------
    gap, objective : float, or ndarray of shape (r,)
        For y = 0 both are absolute.
    """
    squares, fit = _dot(dual_residual, dual_residual), _dot(y, dual_residual)
    energy = 0.5 * _dot(y, y)
    # The best multiple of the dual residual is fit / squares, if the constraint allows it. The
    # constraint allows every multiple if `largest` is at most 0. A zero dual residual gives 0 / 0,
    # and the scale is then set to 0.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        allowed = 1 / np.maximum(largest, np.float64(0))
        scale = np.minimum(np.maximum(fit / squares, 0), allowed)
        scale = np.where(squares > 0, scale, 0.0)
        bound = scale * fit - 0.5 * scale**2 * squares
        objective = 0.5 * _dot(residual, residual) + penalty
        gap = np.maximum(objective - bound, 0)
        unit = np.where(energy > 0, energy, 1)
        return (gap / unit)[()], (objective / unit)[()]


def certificate_in_float64(A, y, x, lam, penalty):
    """Gap and objective of a rounded answer x, computed in float64 from x itself.

    Parameters
    ----------
    A : ndarray, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : ndarray, shape (m,) or (m, r)
        Measurements.
    x : ndarray, shape (n,) or (n, r)
        The answer.
    lam : float, or ndarray of shape (r,)
        Weight of the penalty.
    penalty : L1 or GroupNorm
        The norm.

    Returns
    -------
    gap, objective : float, or ndarray of shape (r,)
        As in `certificate`.
    """
    A, x = in_float64(A), x.astype(np.float64)
    residual = y.astype(np.float64) - A @ x
    largest = penalty.dual_norm(A.T @ residual) / lam
    return certificate(y, residual, lam * penalty.norm(x), residual, largest)


def allowed_gap(objective, tol):
    """Largest gap at which a solver may stop: min(tol, sqrt(tol) * objective).

    Gap and objective are relative to 1/2 ||y||^2. The second bound matters for a very small lam.
    The smallest objective is then far below tol * 1/2 ||y||^2. Under the first bound alone, the
    solver could stop at any x that fits y, even if its l1 norm is large.
    """
    return np.minimum(tol, np.sqrt(tol) * objective)


def _vectors(y, *others):
    y = real_array("y", y).astype(np.float64, copy=False)
    if y.ndim not in (1, 2) or y.size == 0:
        raise ArgumentError(f"y has shape {y.shape}: expected (m,) or (m, r)")
    arrays = [y]
    for name, values in zip(("residual", "dual_residual"), others, strict=True):
        arrays.append(real_array(name, values).astype(np.float64, copy=False))
        if arrays[-1].shape != y.shape:
            raise ArgumentError(
                f"{name} has shape {arrays[-1].shape}: expected {y.shape}, as y has"
            )
    for name, values in zip(("y", "residual", "dual_residual"), arrays, strict=True):
        check_finite(name, values)
    return arrays


def _numbers(name, values, y, least):
    values = real_array(name, values).astype(np.float64, copy=False)
    if values.shape not in ((), y.shape[1:]):
        raise ArgumentError(f"{name} has shape {values.shape}: expected {y.shape[1:]}")
    if not np.all(values >= least):
        raise ArgumentError(f"{name} is {values.tolist()}: expected numbers >= {least}, not nan")
    return values


def _dot(u, v):
    """Inner product of each column, summed in float64."""
    return np.einsum("i...,i...->...", u, v, dtype=np.float64)
