"""Compressed-sensing-based pruning: two steps in turn, between dense and sparse weights."""

from __future__ import annotations

from cspkit.pruning.gradual import GradualPruner


class CSP(GradualPruner):
    """Compressed-sensing-based pruning (CSP).

    Each layer has dense weights V, the dual variable, and sparse weights Z, with which the
    recogniser computes. Two steps alternate:

        (S) sparsity inducing            Z <- argmin_Z 1/2 ||Z - V||^2  s.t.  ||Z||_0 <= k
                                           = H_k(V), the k largest entries
        (E) compression-error reduction  V <- V - eta grad_Z [ L(Z) + mu D(reference || Z) ]

    The gradient is taken at Z and applied to all of V. V is never cut and so remembers: a weight
    that was cut gathers gradients and can come back. *When* is the schedule of k, *which* is the
    support of Z. After the schedule the support is frozen and the survivors are trained alone.

    D is the compression error in what the model computes; it comes from the training loop, which
    takes `reference` and `mu`. Without it this setting is DPF, its nearest relative.

    Parameters
    ----------
    weights, sparsity, steps, exponent, end, every, budget
        See `GradualPruner`.

    Notes
    -----
    A reading of the source, of which the equations were not at hand: the two steps and their
    names are its own, the choice of A = I, of the hard threshold and of D is made here.

    References
    ----------
    Zhen et al., "Sparsification via compressed sensing for automatic speech recognition",
    ICASSP 2021, arXiv:2102.04932.
    Lin et al., "Dynamic model pruning with feedback", ICLR 2020, arXiv:2006.07253 (DPF).
    """

    mu = 1.0

    def before_forward(self, step: int) -> None:  # (S)
        self.hard_threshold(step)

    def after_backward(self, step: int) -> None:  # (E): the optimizer moves V, not Z
        if self.debiasing(step):
            self.mask_gradients()
        else:
            self.restore_dense()

    def after_update(self, step: int) -> None:
        if self.debiasing(step):
            for name, weight in self.weights.items():
                weight.data.mul_(self.masks[name])
