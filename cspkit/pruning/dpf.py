"""Dynamic pruning with feedback."""

from __future__ import annotations

from cspkit.pruning.gradual import GradualPruner


class DPF(GradualPruner):
    """Dynamic pruning with feedback: the gradient at the sparse weights moves the dense weights.

        Z <- H_k(V)
        V <- V - eta grad_Z L(Z)

    The dense weights V are a memory. A weight that is cut still moves, by the gradient that the
    loss has at its zero, and comes back when it is large enough. GMP differs by the mask on the
    gradient. CSP, the nearest relative of DPF, minimises another error.

    Parameters
    ----------
    weights, sparsity, steps, exponent, end, every, budget, floor
        See `GradualPruner`. The original chooses its masks every 16 steps and never freezes them.
        Here they are chosen in every step and frozen at `end`, as for the other methods.

    References
    ----------
    Lin et al., "Dynamic model pruning with feedback", ICLR 2020, arXiv:2006.07253.
    """
