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

    The loss is evaluated where the recogniser will compute, at Z, and what it asks for is added
    to V, zeros of Z included. So V goes on collecting evidence for a weight that is cut, until
    (S) takes it back. The schedule of k answers *when*, the support of Z *which*. When the
    schedule is over, that support stays and its weights are trained alone.

    D measures the compression error by what comes out of the model; the training loop computes
    it, given `reference` and `mu`. Without D this setting is DPF, the nearest relative.

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
