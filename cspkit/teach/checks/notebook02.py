"""Inputs of the checks of notebook 02: answers to a lasso problem, and points of its path."""

import numpy as np

from cspkit.recovery import lam_max_of, lasso
from cspkit.teach.checks.systems import A, Y

LAM = 0.3 * lam_max_of(A, Y)
BEST = lasso(A, Y, LAM, tol=1e-12).x
FLIPPED, MORE = np.round(BEST, 2), np.round(BEST, 2)
FLIPPED[np.argmax(np.abs(BEST))] *= -1
MORE[np.argmin(np.abs(BEST))] = 0.4
FIT = np.linalg.lstsq(A, Y, rcond=None)[0]


def path_points():
    """Return A, y, lam, the support and the signs at five points of the paths of two signals."""
    found = []
    for y in (np.array([-0.8, 0.8, -0.6, 1.3]), np.array([1.1, -1.1, 0.7, -1.9])):
        for share in (0.9, 0.7, 0.5, 0.3, 0.15):
            lam = share * lam_max_of(A, y)
            x = lasso(A, y, lam, tol=1e-12).x
            found.append((A, y, lam, np.flatnonzero(x), np.sign(x[x != 0])))
    return found
