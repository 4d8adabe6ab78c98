"""Dynamic pruning with feedback."""

from __future__ import annotations

from cspkit.pruning.gradual import GradualPruner


class DPF(GradualPruner):
    """Dynamic pruning with feedback: the gradient at the sparse weights moves the dense ones.

        Z <- H_k(V)
        V <- V - eta grad_Z L(Z)

    The dense V are the memory: a weight that is cut goes on being moved by the gradient that the
    loss has where it is zero, and comes back once it is large enough. GMP differs in the mask
    before the gradient; CSP, whose nearest relative this is, in the error that it minimises.

    Parameters
    ----------
    weights, sparsity, steps, exponent, end, every, budget, floor
        See `GradualPruner`. The original chooses its masks every 16 steps, and never freezes
        them: here they are chosen in every step and frozen at `end`, as for the other methods.

    References
    ----------
    Lin et al., "Dynamic model pruning with feedback", ICLR 2020, arXiv:2006.07253.
    """

    def before_forward(self, step: int) -> None:
        self.hard_threshold(step)

    def after_backward(self, step: int) -> None:
        if self.debiasing(step):
            self.mask_gradients()
        else:
            self.restore_dense()
