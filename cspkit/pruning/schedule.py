"""When weights are cut: how the sparsity of a pruning run rises."""

from __future__ import annotations


def polynomial_sparsity(step: int, end: int, sparsity: float, exponent: float) -> float:
    """Sparsity at a step of a polynomial ramp.

        s_t = s (1 - (1 - t / n)^p)    for t < n,    s from t = n on

    Parameters
    ----------
    step : int
        t, from 0.
    end : int
        n, the first step with the final sparsity.
    sparsity : float
        s.
    exponent : float
        p: 1 is linear; with a larger p, more weights are cut early.

    Returns
    -------
    float

    References
    ----------
    Zhu and Gupta, "To prune, or not to prune", arXiv:1710.01878 (with p = 3).
    """
    if step >= end:
        return sparsity
    return sparsity * (1.0 - (1.0 - step / end) ** exponent)
