"""The result of every solver, and the warning for a solver that did not converge."""

import warnings
from dataclasses import dataclass

import numpy as np


class ConvergenceWarning(UserWarning):
    """An iterative solver stopped before it met its own criterion."""


@dataclass(frozen=True, eq=False, repr=False)
class RecoveryResult:
    """A recovered signal and the evidence for it.

    The fields below describe one signal. If ``y`` has shape (m, r), there are r signals, and
    every field is an array. ``x`` has shape (n, r). ``support`` is an object array of r index
    arrays. ``n_iter``, ``converged`` and ``gap`` have shape (r,). ``history`` has shape
    (iterations, r), and is nan after a signal has stopped.

    Parameters
    ----------
    x : ndarray, shape (n,)
        The recovered signal.
    support : ndarray of int, shape (number of nonzeros,)
        Positions of the nonzeros of ``x``, increasing.
    n_iter : int
        Number of iterations.
    converged : bool
        Whether the method met its own stopping criterion.
    gap : float
        Relative duality gap. The objective of ``x`` is at most ``gap * 1/2 ||y||^2`` above the
        smallest objective, up to rounding in float64. The gap is computed from ``x`` in float64,
        even if ``x`` is float32. In `basis_pursuit` and `bpdn` it is relative to ``||x||_1``. It
        is nan if the method has no duality gap.
    history : ndarray, shape (iterations,)
        The relative duality gap after each iteration. If the method has no duality gap, it is a
        different quantity, in general the relative residual ``||y - A x|| / ||y||``. For float32
        the history is computed in float32.
    """

    x: np.ndarray
    support: np.ndarray
    n_iter: int | np.ndarray
    converged: bool | np.ndarray
    gap: float | np.ndarray
    history: np.ndarray

    def __repr__(self):
        if self.x.ndim == 1:
            return (
                f"RecoveryResult({self.support.size} of {self.x.size} nonzero, "
                f"n_iter={self.n_iter}, converged={self.converged}, gap={self.gap:.2g})"
            )
        return (
            f"RecoveryResult({self.x.shape[1]} signals of {self.x.shape[0]} entries, "
            f"{np.count_nonzero(self.converged)} converged, largest gap={np.max(self.gap):.2g})"
        )


def make_result(x, n_iter, converged, gap, history, scale, *, method):
    """Build a result in the caller's units, and warn if a signal did not converge.

    Parameters
    ----------
    x : ndarray, shape (n,) or (n, r)
        Recovered signal or signals, in the units of the scaled problem.
    n_iter, converged, gap : scalar, or ndarray of shape (r,)
        As in `RecoveryResult`.
    history : array_like, shape (iterations,) or (iterations, r)
        As in `RecoveryResult`.
    scale : Scale
        The powers of two that were taken out of the problem.
    method : str
        Name of the solver, for the warning.

    Returns
    -------
    RecoveryResult
        The fields, with scalars as plain Python numbers.

    Raises
    ------
    ArgumentError
        If the range of the float type cannot hold x.
    """
    x = scale.restore_signal(x)
    if x.ndim == 1:
        support = np.flatnonzero(x)
        n_iter, converged, gap = int(n_iter), bool(converged), float(gap)
    else:
        support = np.empty(x.shape[1], dtype=object)
        support[:] = [np.flatnonzero(column) for column in x.T]
        n_iter, converged, gap = (
            np.broadcast_to(field, x.shape[1:]).copy() for field in (n_iter, converged, gap)
        )
    if not np.all(converged):
        worst = np.max(gap)
        certificate = "" if np.isnan(worst) else f"; relative duality gap {worst:.2g}"
        warnings.warn(
            f"{method} stopped after {np.max(n_iter)} iterations before it converged{certificate}",
            ConvergenceWarning,
            stacklevel=3,
        )
    history = np.asarray(history, dtype=float).reshape(-1, *x.shape[1:])
    return RecoveryResult(x, support, n_iter, converged, gap, history)
