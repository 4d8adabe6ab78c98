"""Checks of the arguments of public functions, and the scaling of a system y = A x."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator

from cspkit.arguments import ArgumentError, positive

KINDS = ("array", "sparse", "operator")
# A matrix is scaled if |log2(mean column norm)| exceeds this number. Up to this number, the
# largest powers of A in the solvers, about ||A||^4, neither overflow nor underflow.
ORDINARY = {np.dtype(np.float32): 10, np.dtype(np.float64): 60}


class Scale(NamedTuple):
    """Powers of two that `check_system` takes out of a system.

    A = 2^a A', y = 2^b y' and x = 2^(b - a) x'. The solvers work with A', y' and x'. The
    squares of their entries neither overflow nor underflow. A power of two changes only the
    exponent of a number, so nothing is rounded.

    Attributes
    ----------
    a : int
        Exponent of A.
    b : int, or ndarray of int, shape (r,)
        Exponent of y, one for each signal.
    """

    a: int
    b: int | np.ndarray

    def of_penalty(self, lam):
        """Convert lam to the units of the scaled problem, 2^-(a + b) lam."""
        return np.maximum(self._scaled(lam, -(self.a + self.b)), 1e-300)

    def of_signal(self, t):
        """Convert a number t from the units of x to those of the scaled x, 2^(a - b) t."""
        return self._scaled(t, self.a - self.b)

    def of_residual(self, eps):
        """Convert a bound on ||y - A x|| to the units of the scaled y, 2^-b eps."""
        return self._scaled(eps, -self.b)

    @staticmethod
    def _scaled(value, exponent):
        # Numbers above 1e30 act like 1e30 in the scaled problem, and a float32 can hold 1e30.
        with np.errstate(over="ignore"):
            return np.minimum(np.ldexp(value, exponent), 1e30)

    def restore_signal(self, x):
        """Return x in the caller's units, or raise an error if floats cannot hold it."""
        return self._restore("x", x, self.b - self.a)

    def restore_penalty(self, lam):
        """Return lam in the caller's units, or raise an error if floats cannot hold it."""
        return self._restore("lam_max", np.float64(lam), self.a + self.b)

    @staticmethod
    def _restore(name, values, exponent):
        largest, dtype = np.max(np.abs(values), axis=0), values.dtype
        with np.errstate(over="ignore"):
            restored = np.ldexp(largest, exponent)
        lost = (restored < np.finfo(dtype).tiny) & (largest > 0)
        if np.any(lost | ~np.isfinite(restored)):
            if not np.all(np.isfinite(largest)):
                raise ArgumentError(
                    f"A makes {name} nan or inf: expected columns that differ less in size; divide "
                    "each column of A by its norm"
                )
            raise ArgumentError(
                f"y is too {'small' if np.any(lost) else 'large'} for A: {name} would be outside "
                f"the range of {dtype}; multiply y or A by a constant"
            )
        return np.ldexp(values, exponent)


def check_system(A, y, *, columns=False, unit_columns=False):
    """Check a measurement matrix and its measurements, and scale them to a size near 1.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : array_like, shape (m,) or, if `columns` allows it, (m, r)
        Measurements.
    columns : bool
        Whether the method takes several signals at once.
    unit_columns : bool
        Whether the method needs columns of norm about 1. If not, A is scaled only if its squares
        could overflow or underflow.

    Returns
    -------
    A : ndarray, CSC matrix or LinearOperator, shape (m, n)
        The scaled matrix: float32 if both arguments are float32, otherwise float64.
    y : ndarray, shape (m,) or (m, r)
        The scaled measurements, of the same type. The largest magnitude of each signal is
        between 1/2 and 1.
    scale : Scale
        The powers of two that were taken out.

    Raises
    ------
    ArgumentError
        If an argument has the wrong kind, shape or type, or holds nan or inf.
    """
    y = real_array("y", y)
    A, a = check_matrix(A, kinds=KINDS, dtype=y.dtype, unit_columns=unit_columns)
    if y.ndim not in ((1, 2) if columns else (1,)):
        expected = "(m,) or (m, r)" if columns else "(m,)"
        raise ArgumentError(f"y has shape {y.shape}: expected {expected}")
    if y.shape[0] != A.shape[0] or 0 in y.shape:
        raise ArgumentError(
            f"y has shape {y.shape}: expected {A.shape[0]} rows, as A {A.shape} has"
        )
    check_finite("y", y)
    b = exponents(y)
    return A, np.ldexp(y.astype(A.dtype, copy=False), -b), Scale(a, b)


def check_matrix(A, *, kinds=("array",), dtype=None, unit_columns=False):
    """Check a measurement matrix, and scale it if its squares could overflow or underflow.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    kinds : tuple of {"array", "sparse", "operator"}
        Kinds of matrix that the caller accepts.
    dtype : numpy.dtype, optional
        Float type of the measurements. The matrix gets the wider one of the two types.
    unit_columns : bool
        As in `check_system`.

    Returns
    -------
    A : ndarray, CSC matrix or LinearOperator, shape (m, n)
        The scaled matrix, float32 or float64.
    a : int
        Exponent of the power of two that was taken out; 0 for a matrix of ordinary size.

    Raises
    ------
    ArgumentError
        If `A` has the wrong kind, shape or type, or holds nan or inf.
    """
    kind = "array"
    if sparse.issparse(A):
        kind = "sparse"
    elif isinstance(A, LinearOperator):
        kind = "operator"
    if kind not in kinds:
        raise ArgumentError(f"A is a {type(A).__name__}: expected one of: {', '.join(kinds)}")
    A = real_array("A", A) if kind == "array" else A
    if len(A.shape) != 2 or 0 in A.shape:
        raise ArgumentError(f"A has shape {A.shape}: expected (m, n) with m, n >= 1")
    if kind == "operator":
        return _check_operator(A, dtype, unit_columns)
    A = A.tocsc() if kind == "sparse" else A
    values = real_array("A", A.data) if kind == "sparse" else A
    dtype = np.result_type(values, dtype or values.dtype)
    energy, a = _energy(values), 0
    if not 1e-30 < energy < 1e30:  # too small or too large for a float32, or not finite
        check_finite("A", values)
        a = int(exponents(values.ravel()))
        energy = _energy(np.ldexp(values, -a))
    a = _exponent(a, energy / A.shape[1], dtype, unit_columns)
    values = values.astype(dtype, copy=False)
    values = np.ldexp(values, -a) if a else values
    if kind == "array":
        return values, a
    return type(A)((values, A.indices, A.indptr), shape=A.shape), a


class _Operator(LinearOperator):
    """A caller's operator, divided by 2^a. Input and output have the same float type."""

    def __init__(self, operator, dtype, a):
        self.operator, self.a = operator, a
        super().__init__(dtype, operator.shape)

    def _matvec(self, x):
        return self._apply(self.operator.matvec, x)

    def _rmatvec(self, x):
        return self._apply(self.operator.rmatvec, x)

    def _matmat(self, X):
        return self._apply(self.operator.matmat, X)

    def _rmatmat(self, X):
        return self._apply(self.operator.rmatmat, X)

    def _apply(self, product, x):
        values = np.asarray(product(x))
        _check_real("A", values.dtype)
        values = values.astype(x.dtype, copy=False)
        return np.ldexp(values, -self.a) if self.a else values


def _check_operator(A, dtype, unit_columns):
    """Check an operator by one product with A^T and one with A."""
    _check_real("A", A.dtype)
    single = A.dtype == np.float32 and dtype in (None, np.float32)
    operator = _Operator(A, np.float32 if single else np.float64, 0)
    (m, n), rng = A.shape, np.random.default_rng(0)
    v = rng.standard_normal(m).astype(operator.dtype)
    u = _product("A.T @ v", operator.rmatvec, v)
    e = int(exponents(u))
    u = np.ldexp(u, -e)
    Au = np.ldexp(_product("A @ u", operator.matvec, u), -e)
    energy = float(np.dot(u, u))
    if abs(float(np.dot(Au, v)) - energy) > 1e-3 * energy:
        raise ArgumentError(
            "A has an rmatvec that does not belong to its matvec: expected "
            "v @ A.matvec(u) == u @ A.rmatvec(v) for all u and v"
        )
    # For random v, the mean of ||A^T v||^2 / ||v||^2 is ||A||_F^2 / m.
    a = _exponent(e, energy / float(np.dot(v, v)) * m / n, operator.dtype, unit_columns)
    return _Operator(A, operator.dtype, a), a


def _product(what, product, v):
    try:
        values = product(v)
    except ArgumentError:
        raise
    except Exception as error:
        raise ArgumentError(
            f"A cannot compute {what} for a float vector ({type(error).__name__}: {error}): "
            "expected a LinearOperator with a matvec and an rmatvec"
        ) from error
    check_finite("A", values)
    return values


def _exponent(e, energy, dtype, unit_columns):
    """Exponent of the mean column norm, 2^e sqrt(energy); 0 if A need not be scaled."""
    # Norms from 0.518 to 1.035 count as about 1. AMP diverges for larger norms.
    e += int(np.ceil(np.log2(energy) / 2 - 0.05)) if energy > 0 else 0
    return e if unit_columns or abs(e) > ORDINARY[np.dtype(dtype)] else 0


def _energy(values):
    """Sum of squares; nan or inf if a value is not finite."""
    values = values.ravel(order="K")
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.dot(values, values))


def exponents(values):
    """For each column, the exponent e with 1/2 <= max|values| / 2^e < 1."""
    return np.frexp(np.max(np.abs(values), axis=0, initial=0))[1]


def check_tolerance(tol, dtype):
    """Check a tolerance, and raise it to the level of rounding errors.

    Parameters
    ----------
    tol : float
        Tolerance, at least 0.
    dtype : numpy.dtype
        float32 or float64.

    Returns
    -------
    float
        `tol`, or ten times the spacing of floats near 1 if this is larger.

    Raises
    ------
    ArgumentError
        If `tol` is not a finite number >= 0.
    """
    return max(positive("tol", tol, zero=True), 10 * float(np.finfo(dtype).eps))


def check_weights(weights, n):
    """Check the positive weights of a weighted norm.

    Parameters
    ----------
    weights : array_like, shape (n,)
        One weight for each unknown or group.
    n : int
        Number of unknowns, or of groups.

    Returns
    -------
    ndarray, shape (n,)
        The weights in float64.

    Raises
    ------
    ArgumentError
        If the shape is wrong or a weight is not positive and finite.
    """
    weights = real_array("weights", weights).astype(np.float64)
    if weights.shape != (n,):
        raise ArgumentError(f"weights has shape {weights.shape}: expected ({n},)")
    if not np.all((weights > 0) & np.isfinite(weights)):
        raise ArgumentError("weights holds 0, a negative number, nan or inf: expected finite > 0")
    return weights


def check_groups(groups, n):
    """Check a numbering of groups.

    Parameters
    ----------
    groups : array_like of int, shape (n,)
        Group of each unknown.
    n : int
        Number of unknowns.

    Returns
    -------
    ndarray of int, shape (n,)
        The numbering.

    Raises
    ------
    ArgumentError
        If the shape is wrong, or the numbers are not 0, 1, ..., G - 1.
    """
    groups = real_array("groups", groups)
    if groups.shape != (n,):
        raise ArgumentError(f"groups has shape {groups.shape}: expected ({n},)")
    found = np.unique(groups)
    if not np.array_equal(found, np.arange(len(found))):
        raise ArgumentError(
            f"groups holds the numbers {found}: expected all of 0, 1, ..., G - 1 and no other"
        )
    return groups.astype(np.intp)


def real_array(name, values):
    """Return values as an array of float32 (from float16 or float32) or float64."""
    try:
        values = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"{name} is not an array ({error}): expected real numbers in rows of equal length"
        ) from error
    _check_real(name, values.dtype)
    small = values.dtype in (np.float16, np.float32)
    with np.errstate(over="ignore"):
        return values.astype(np.float32 if small else np.float64, copy=False)


def check_finite(name, values):
    """Raise an error if a value is nan or inf."""
    # One sum is many times cheaper than a test of every entry. But the sum can overflow. So the
    # entries are tested only if the sum is not finite.
    with np.errstate(invalid="ignore", over="ignore"):
        total = np.sum(values, dtype=np.float64)
    if not (np.isfinite(total) or np.all(np.isfinite(values))):
        raise ArgumentError(f"{name} holds nan or inf: expected finite numbers")


def _check_real(name, dtype):
    if dtype is not None and dtype.kind == "c":
        raise ArgumentError(f"{name} is complex ({dtype}): expected real numbers")
    if dtype is None or dtype.kind not in "biuf":
        raise ArgumentError(f"{name} has dtype {dtype}: expected real numbers")
