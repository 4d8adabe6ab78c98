"""Dynamic pruning with feedback."""

from __future__ import annotations

from cspkit.pruning.gradual import GradualPruner


class DPF(GradualPruner):
    """Dynamic pruning with feedback: the gradient at the sparse weights moves the dense weights.

        Z <- H_k(V)
        V <- V - eta grad_Z L(Z)

    H_k keeps the k largest weights and sets all others to zero. A cut weight is zero in Z, but its
    entry in V still moves by the gradient at Z. The weight comes back when this entry is large
    enough. GMP differs from DPF because it masks the gradient. CSP is the method closest to DPF,
    but minimises another error.

    Parameters
    ----------
    weights, sparsity, steps, exponent, end, every, budget, floor
        See `GradualPruner`. The original chooses its masks every 16 steps and never freezes them.
        Here they are chosen in every step by default, and are frozen at `end`, as in all methods.

    References
    ----------
    Lin et al., "Dynamic model pruning with feedback", ICLR 2020, arXiv:2006.07253.
    """
