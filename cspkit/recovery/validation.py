"""Checks of arguments, made once at the public doors."""

from numbers import Integral, Real

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator


def check_system(A, y, *, kinds=("array", "sparse", "operator"), columns=False):
    """Check a measurement matrix and its measurements, and bring them to one float type.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    y : array_like, shape (m,) or, where `columns` allows it, (m, r)
        Measurements.
    kinds : tuple of {"array", "sparse", "operator"}
        What the method can take as `A`.
    columns : bool
        Whether the method takes several signals at once.

    Returns
    -------
    A : ndarray, CSC matrix or LinearOperator, shape (m, n)
        float32 if both arguments are, float64 otherwise.
    y : ndarray, shape (m,) or (m, r)
        Of the same type.

    Raises
    ------
    ValueError
        If an argument has the wrong kind, shape or type, or holds nan or inf.
    """
    A, y = check_matrix(A, kinds=kinds), _real_array("y", y)
    if y.ndim not in ((1, 2) if columns else (1,)):
        expected = "(m,) or (m, r)" if columns else "(m,)"
        raise ValueError(f"y has shape {y.shape}, expected {expected}")
    if y.shape[0] != A.shape[0] or 0 in y.shape:
        raise ValueError(f"y has shape {y.shape}, expected {A.shape[0]} rows as in A {A.shape}")
    dtype = np.float32 if A.dtype == y.dtype == np.float32 else np.float64
    _check_finite("y", y)
    y = y.astype(dtype, copy=False)
    if isinstance(A, LinearOperator):
        _check_finite("A", A.T @ y)
    else:
        A = A.astype(dtype, copy=False)
    return A, y


def check_matrix(A, *, kinds=("array",)):
    """Check a measurement matrix alone; arguments and errors as in `check_system`.

    Parameters
    ----------
    A : array_like, sparse matrix or LinearOperator, shape (m, n)
        Measurement matrix.
    kinds : tuple of {"array", "sparse", "operator"}
        What the caller can take.

    Returns
    -------
    ndarray, CSC matrix or LinearOperator, shape (m, n)
        The matrix, in floating point.

    Raises
    ------
    ValueError
        If `A` has the wrong kind, shape or type, or holds nan or inf.
    """
    kind = "array"
    if sparse.issparse(A):
        kind = "sparse"
    elif isinstance(A, LinearOperator):
        kind = "operator"
    if kind not in kinds:
        raise ValueError(f"A is a {type(A).__name__}, expected one of: {', '.join(kinds)}")
    if kind == "operator":
        _check_real("A", A.dtype)
        return A
    A = A.tocsc() if kind == "sparse" else A
    values = _real_array("A", A.data if kind == "sparse" else A)
    if kind == "sparse":
        A = A.astype(values.dtype, copy=False)
    else:
        A = values
    if A.ndim != 2 or 0 in A.shape:
        raise ValueError(f"A has shape {A.shape}, expected (m, n) with m, n >= 1")
    _check_finite("A", values)
    return A


def check_sparsity(k, A):
    """Check a number of nonzeros against the shape of the measurement matrix.

    Parameters
    ----------
    k : int
        Number of nonzeros.
    A : matrix, shape (m, n)
        Measurement matrix.

    Returns
    -------
    int
        `k`.

    Raises
    ------
    ValueError
        If `k` is no integer from 1 to min(m, n).
    """
    most = min(A.shape)
    if isinstance(k, bool) or not isinstance(k, Integral) or not 1 <= k <= most:
        raise ValueError(f"k is {k!r}, expected an integer from 1 to min(m, n) = {most}")
    return int(k)


def check_number(name, value, *, low=0.0, open_low=False):
    """Check that an argument is a finite real number, not too small.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : float
        What came.
    low : float
        Smallest allowed value.
    open_low : bool
        Whether `low` itself is excluded.

    Returns
    -------
    float
        `value`.

    Raises
    ------
    ValueError
        If it is no number, not finite or out of range.
    """
    number = isinstance(value, Real) and not isinstance(value, bool) and np.isfinite(value)
    if not number or (value <= low if open_low else value < low):
        bound = f"{'>' if open_low else '>='} {low:g}"
        raise ValueError(f"{name} is {value!r}, expected a finite number {bound}")
    return float(value)


def check_tolerance(tol, dtype):
    """Check a tolerance on the relative change or misfit, and raise it to what rounding allows.

    Parameters
    ----------
    tol : float
        Tolerance, at least 0.
    dtype : numpy.dtype
        float32 or float64.

    Returns
    -------
    float
        `tol`, or ten times the spacing of numbers near 1 if that is larger.

    Raises
    ------
    ValueError
        If it is no number, not finite or negative.
    """
    return max(check_number("tol", tol), 10 * float(np.finfo(dtype).eps))


def check_count(name, value, *, low=1):
    """Check that an argument is an integer of at least `low`.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : int
        What came.
    low : int
        Smallest allowed value.

    Returns
    -------
    int
        `value`.

    Raises
    ------
    ValueError
        If it is no integer or too small.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < low:
        raise ValueError(f"{name} is {value!r}, expected an integer >= {low}")
    return int(value)


def check_weights(weights, n):
    """Check the positive weights of a weighted l1 norm.

    Parameters
    ----------
    weights : array_like, shape (n,)
        One weight per unknown.
    n : int
        Number of unknowns, or of groups.

    Returns
    -------
    ndarray, shape (n,)
        The weights in float64.

    Raises
    ------
    ValueError
        If the shape is wrong or a weight is not positive and finite.
    """
    weights = _real_array("weights", weights).astype(np.float64)
    if weights.shape != (n,):
        raise ValueError(f"weights has shape {weights.shape}, expected ({n},)")
    if not (np.all(weights > 0) and np.all(np.isfinite(weights))):
        raise ValueError("weights holds a value that is not positive and finite")
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
    ValueError
        If the shape is wrong, or the numbers are not 0, 1, ..., G - 1.
    """
    groups = np.asarray(groups)
    if groups.shape != (n,):
        raise ValueError(f"groups has shape {groups.shape}, expected ({n},) as x")
    found = np.unique(groups)
    if not np.array_equal(found, np.arange(len(found))):
        raise ValueError(f"groups holds the numbers {found}, expected 0, 1, ..., G - 1, all used")
    return groups.astype(np.intp)


def _real_array(name, values):
    values = np.asarray(values)
    _check_real(name, values.dtype)
    small = values.dtype in (np.float16, np.float32)
    return values.astype(np.float32 if small else np.float64, copy=False)


def _check_real(name, dtype):
    if np.issubdtype(dtype, np.complexfloating):
        raise ValueError(f"{name} is complex ({dtype}), expected real numbers")
    if not (np.issubdtype(dtype, np.number) or np.issubdtype(dtype, np.bool_)):
        raise ValueError(f"{name} has dtype {dtype}, expected real numbers")


def _check_finite(name, values):
    # One sum is many times cheaper than a test of every entry; it can overflow, hence the second.
    with np.errstate(invalid="ignore", over="ignore"):
        total = np.sum(values, dtype=np.float64)
    if not (np.isfinite(total) or np.all(np.isfinite(values))):
        raise ValueError(f"{name} holds nan or inf, expected finite numbers")
