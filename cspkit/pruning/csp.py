"""Compressed-sensing-based pruning: two alternating steps, on sparse and on dense weights."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real

import torch
from torch import Tensor, nn

from cspkit.arguments import ArgumentError, fraction, one_of
from cspkit.pruning.blocks import Block
from cspkit.pruning.budget import BUDGETS, keep_largest, masks_of_largest
from cspkit.pruning.gradual import GradualPruner
from cspkit.pruning.measurement import MEASUREMENTS, MEMORY, root

THRESHOLDS = ("hard", "soft", "firm")


class CSP(GradualPruner):
    """Compressed-sensing-based pruning (CSP).

    With its defaults, CSP is iterative hard thresholding in the metric of the squared gradients.
    Each step keeps the k weights with the largest |V| F^(1/4), where F is a running average of the
    squared gradients, and sets all other weights to zero. At these sparse weights it takes the
    gradient of the loss L, and of the error term D if its weight mu is not zero:

        (S) sparsity inducing            Z <- argmin_Z 1/2 ||A (Z - V)^T||^2  s.t.  ||Z||_0 <= k
        (E) compression-error reduction  V <- V - rho (V - mask * V)
                                         V <- V - eta grad_Z [ L(Z) + mu D(reference || Z) ]

    V are the dense weights of a layer, the dual variable. Z are its sparse weights, the primal
    variable, with which the model computes. The schedule of k decides *when* weights are cut, and
    the support of Z decides *which* weights. After the schedule the support does not change any
    more, and only its weights are trained.

    A measures the error of the cut, through its Gram matrix G. rho sets how quickly V forgets the
    weights that were cut. With rho = 1 it forgets them at once, V <- mask * V, and a cut weight
    comes back only if one step lifts it over the threshold. With rho < 1, V forgets them step by
    step, and with rho = 0 it never forgets them.

    D measures the compression error in the outputs of the model. Its weight mu is 0 by default,
    because the recorded comparison does not show that D pays for the time it takes; mu = 1 is a
    good start. `prune` and `cspkit.training.train` compute D if mu > 0; in your own loop, set `mu`
    and call `cspkit.pruner.Pruner.error_term`.

    Parameters
    ----------
    weights, sparsity, steps, exponent, end, every, floor
        See `GradualPruner`.
    budget : {"global", "uniform", "erk", "sensitivity"}
        "sensitivity": a layer keeps as many weights as it would if all weights were ranked by
        |V| r^power, where r is the root of the layer's mean squared gradient. The measurement
        decides which weights of the layer these are. For the other budgets see `GradualPruner`.
    measurement : {"gradients", "identity", "activations", "sketch"}
        The kind of A, see the classes of `cspkit.pruning.measurement`. "activations" needs `watch`.
    power, ridge, updates, seed
        Settings of the measurement, see `cspkit.pruning.measurement.Identity`.
    threshold : {"hard", "soft", "firm"}
        How the kept weights shrink while the support still changes, see `Block.shrink`. The lam
        of a layer is the largest norm of the blocks that are cut from it. "soft" and "firm" need
        the measurement "identity", which ranks weights by magnitude, and a block "RxC".
    rho : float
        In each step, the cut weights in V are multiplied by 1 - rho, 0 <= rho <= 1.
    block : str
        "1x1", "RxC" or "N:M", see `cspkit.pruning.blocks.Block`.

    Raises
    ------
    ArgumentError
        If an argument is out of range.

    Notes
    -----
    This is an interpretation of Zhen et al.: the equations of that paper were not available. The
    two steps and their names come from the paper. The choices of A, of the threshold and of D are
    made here.

    Without D and with A = I, CSP is close to older methods. With rho = 0 it is DPF. With rho = 1 it
    is gradual magnitude pruning that sets cut weights to zero, `GMP(keep_values=False)`, except
    that one step may bring a cut weight back. With rho between 0 and 1, the first line of (E) pulls
    V toward Z, as the penalty does in ADMM and in learning-compression; but these two methods take
    the gradient at V. With plain gradient steps, rho = 0 and a fixed soft threshold, CSP is the
    linearized Bregman method, if the loss is quadratic and V starts at 0.

    The measurement "gradients" with power = 1 gives the saliency of optimal brain damage, with an
    empirical Fisher information. The measurement "activations" measures during the training what
    SparseGPT and Wanda measure after it.

    References
    ----------
    Zhen et al., "Sparsification via compressed sensing for automatic speech recognition",
    ICASSP 2021, arXiv:2102.04932.
    Lin et al., "Dynamic model pruning with feedback", ICLR 2020, arXiv:2006.07253 (DPF).
    Blumensath and Davies, "Iterative hard thresholding for compressed sensing", Applied and
    Computational Harmonic Analysis 27(3), 2009, doi:10.1016/j.acha.2009.04.002.
    LeCun, Denker and Solla, "Optimal brain damage", NIPS 1989.
    Theis et al., "Faster gaze prediction with dense networks and Fisher pruning", 2018,
    arXiv:1801.05787.
    Carreira-Perpinan and Idelbayev, "Learning-compression algorithms for neural net pruning",
    CVPR 2018.
    Frantar and Alistarh, "SparseGPT: massive language models can be accurately pruned in
    one-shot", ICML 2023, arXiv:2301.00774.
    Sun et al., "A simple and effective pruning approach for large language models", ICLR 2024,
    arXiv:2306.11695 (Wanda).
    Gao and Bruce, "WaveShrink with firm shrinkage", Statistica Sinica 7, 1997.
    """

    budgets = (*BUDGETS, "sensitivity")
    remembers = ("masks", "gram", "sensitivity")

    def __init__(
        self,
        weights: dict[str, nn.Parameter],
        sparsity: float | Mapping[str, float],
        steps: int,
        *,
        measurement: str = "gradients",
        power: float = 0.5,
        ridge: float = 1.0,
        updates: int = 0,
        threshold: str = "hard",
        rho: float = 1.0,
        block: str = "1x1",
        seed: int = 0,
        exponent: float = 6.0,
        end: float = 2 / 3,
        every: int = 1,
        budget: str = "global",
        floor: float = 0.0,
    ) -> None:
        self.measurement = one_of("measurement", measurement, tuple(MEASUREMENTS))
        self.threshold = one_of("threshold", threshold, THRESHOLDS)
        self.rho = fraction("rho", rho)
        self.block = block
        self._block = Block(block)
        if threshold != "hard" and (measurement != "identity" or self._block.pattern):
            raise ArgumentError(
                f"threshold is {threshold!r} with measurement {measurement!r} and block {block!r}: "
                "expected measurement 'identity' and a block 'RxC'"
            )
        measured = {"power": power, "ridge": ridge, "updates": updates, "seed": seed}
        self.A = MEASUREMENTS[measurement](weights, **measured)
        self.gram = self.A.gram
        for final in sparsity.values() if isinstance(sparsity, Mapping) else [sparsity]:
            if isinstance(final, Real):
                self._block.check(weights, final, budget, floor)
        self.sensitivity = {}
        if budget == "sensitivity":
            self.sensitivity = {n: torch.zeros((), device=w.device) for n, w in weights.items()}
        super().__init__(
            weights, sparsity, steps,
            exponent=exponent, end=end, every=every, budget=budget, floor=floor,
        )  # fmt: skip

    @property
    def settings(self) -> dict[str, object]:
        """The settings that identify this run. A resumed run must have the same settings."""
        names = ("power", "ridge", "updates", "seed")
        return super().settings | {name: getattr(self.A, name) for name in names}

    def watch(self, model: nn.Module) -> None:
        """Collect the inputs of the layers from now on, for the measurement "activations".

        Parameters
        ----------
        model : nn.Module
            The model that has these weights.
        """
        self.A.watch(model)

    def scores(self) -> dict[str, Tensor]:
        """(S) |V| G_jj^(power / 2). The weights with the largest scores are the support of Z."""
        return {n: v * self.A.importance(n) for n, v in super().scores().items()}

    def rank(self, scores: dict[str, Tensor], sparsity: float) -> dict[str, Tensor]:
        """Make masks of the largest scores, in blocks. All these weights are ranked together."""
        if self.budget != "sensitivity":
            return self._block.masks(scores, sparsity, self.budget, self.floor)
        power = self.A.power
        ranked = {n: self.weights[n].abs() * root(self.sensitivity[n], power) for n in scores}
        shares = masks_of_largest(ranked, sparsity, "global", self.floor)
        return {n: keep_largest(s, int(shares[n].count_nonzero())) for n, s in scores.items()}

    def show(self) -> None:
        """(S) Put Z into the model: mask * V, then corrected for a full G, then shrunk."""
        self.A.begin(self.steps_done)
        super().show()
        for name, weight in self.weights.items():
            V, mask = self._dense[name], self.masks[name]
            Z = self.A.correct(name, weight, V, mask)
            if self.threshold != "hard":
                lam = self._block.norms(V * ~mask).max()
                Z = self._block.shrink(Z, lam, firm=self.threshold == "firm")
            weight.copy_(Z)

    def after_backward(self, step: int) -> None:
        """Stop collecting inputs. If the support is frozen, mask the gradients."""
        super().after_backward(step)
        self.A.pause()

    def before_update(self, step: int) -> None:
        """(E) Let V forget the cut weights; the optimizer then moves V by the gradient at Z."""
        if self.debiasing(step):
            return
        self.A.see_gradients()
        for name, average in self.sensitivity.items():
            gradient = self.weights[name].grad
            if gradient is not None:
                average.lerp_(gradient.float().square().mean(), 1 - MEMORY)
        if self.rho > 0:
            for name, weight in self.weights.items():
                weight.lerp_(weight * self.masks[name], self.rho)  # V - rho (V - mask * V)

    def conclude(self) -> None:
        """Leave the final weights in the model, and no hook."""
        super().conclude()
        self.A.end()
