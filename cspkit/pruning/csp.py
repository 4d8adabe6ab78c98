"""Compressed-sensing-based pruning: two steps in turn, between dense and sparse weights."""

from __future__ import annotations

from numbers import Real

import torch
from torch import Tensor, nn

from cspkit.arguments import count, fraction, positive
from cspkit.pruning.blocks import Block, block_norms, spread
from cspkit.pruning.budget import BUDGETS, keep_largest, masks_of_largest
from cspkit.pruning.gradual import GradualPruner
from cspkit.pruning.measurement import ActivationGram, gaussian_gram, regularised

MEASUREMENTS = ("identity", "gradients", "activations", "sketch")
THRESHOLDS = ("hard", "soft", "firm")
MEMORY = 0.98  # of the running average of squared gradients, per step
WATCH_EVERY = 10  # steps between two in which the inputs of the layers are looked at
TINY = 1e-12


class CSP(GradualPruner):
    """Compressed-sensing-based pruning (CSP).

    Each layer has dense weights V, the dual variable, and sparse weights Z, with which the
    recogniser computes. Two steps alternate:

        (S) sparsity inducing            Z <- argmin_Z 1/2 ||A (Z - V)^T||^2  s.t.  ||Z||_0 <= k
        (E) compression-error reduction  V <- V - eta grad_Z [ L(Z) + mu D(reference || Z) ]
                                               - rho (V - mask * V)

    The loss is evaluated where the recogniser will compute, at Z, and what it asks for is added
    to V, zeros of Z included. The schedule of k answers *when*, the support of Z *which*. When
    the schedule is over, that support stays and its weights are trained alone.

    How long V remembers what is cut, rho says. With rho = 1 each step starts from Z, as in
    iterative hard thresholding, and a weight that was cut comes back only where one step lifts it
    over the threshold: with Adam's small steps, hardly ever. With rho = 0, V goes on collecting
    evidence for it until (S) takes it back.

    D measures the compression error by what comes out of the model; the training loop computes
    it, given `reference` and `mu`.

    Parameters
    ----------
    weights, sparsity, steps, exponent, end, every, floor
        See `GradualPruner`.
    budget : {"global", "uniform", "erk", "sensitivity"}
        As there, and "sensitivity": a layer keeps as many weights as it would if all weights
        were ranked by |V| r^power, r the root of the layer's mean squared gradient; which ones,
        the measurement says.
    measurement : {"identity", "gradients", "activations", "sketch"}
        What measures the error of the cut, by the Gram matrix G = A^T A / m of each layer:
        "identity", G = I, the weights themselves; "activations", the layer's inputs (padding
        included), a running average that `watch` collects, of mean diagonal one in each layer;
        "sketch", `n / 2` Gaussian rows for n inputs. "gradients" has a diagonal G for all weights
        of a layer together, the running average F of their squared gradients, and
        1/2 sum F (Z - V)^2 stands for what the cut changes in the objective: its second-order
        term, up to scale, with squares of batch gradients for the curvature and without the term
        of first order.
    power : float
        Weights are ranked by |V| G_jj^(power / 2), 0 to 1: 1 is the exact argmin for a diagonal
        G, 0 is G = I; between, an estimate of G is trusted in part.
    ridge : float
        Share of the identity in G beside the activations or the sketch, see `regularised`.
    updates : int
        Gradient steps on the survivors, Z <- Z + tau mask * (V - Z) G with tau = 1 / ||G||, from
        Z = mask * V: they correct them for what the cut takes from the layer's output, until the
        support is frozen. Without effect for a diagonal G, of which mask * V is the argmin.
    threshold : {"hard", "soft", "firm"}
        With lam the largest magnitude that is cut from its layer, a survivor v becomes v, or
        (1 - lam / |v|) v, or, where |v| < 2 lam, twice that; of blocks, the norms are meant, and
        soft is the proximal operator of the group lasso. The last phase begins with v. Soft and
        firm go with "identity", where magnitude is the rank.
    rho : float
        Share of what is cut that V forgets in each step, 0 to 1.
    block : str
        "1x1"; "1xB": B neighbours of a row live and die together, by their norm; "N:M": N of
        every M neighbours live, so that the sparsity is 1 - N / M.
    seed : int
        Of the Gaussian sketch.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    A reading of the source, of which the equations were not at hand: the two steps and their
    names are its own, the choices of A, of the threshold and of D are made here.

    Without D and with A = I it meets older methods. rho = 0 is DPF. rho = 1 is gradual magnitude
    pruning that sets what it cuts to zero, `GMP(keep_values=False)`, but for weights that one step
    lifts back; between, the leak pulls V to Z as the penalty of ADMM and of learning-compression
    does, which take the gradient at V. Plain steps, rho = 0 and a soft threshold that is fixed are
    linearized Bregman, for a quadratic loss and V = 0 at first. "gradients" with power = 1 is the
    saliency of optimal brain damage with an empirical Fisher information. "activations" measures
    what SparseGPT and Wanda do after training, in every step of it.

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

    mu = 1.0
    budgets = (*BUDGETS, "sensitivity")

    def __init__(
        self,
        weights: dict[str, nn.Parameter],
        sparsity: float,
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
        self.measurement = _one_of("measurement", measurement, MEASUREMENTS)
        self.threshold = _one_of("threshold", threshold, THRESHOLDS)
        self.power = fraction("power", power)
        self.rho = fraction("rho", rho)
        self.ridge = positive("ridge", ridge, zero=True)
        self.updates = count("updates", updates, least=0)
        self.seed = count("seed", seed, least=0)
        self.block = block
        self._block = Block(block)
        if self.threshold != "hard" and (measurement != "identity" or self._block.pattern):
            raise ValueError(
                f"threshold is {threshold!r} with measurement {measurement!r} and block {block!r}: "
                "expected 'identity' and '1xB'"
            )
        self._watched: ActivationGram | None = None
        if measurement != "identity":
            self.remembers += ("gram",)
            self.gram = self._first_gram(weights)
        if budget == "sensitivity":
            self.remembers += ("sensitivity",)
            self.sensitivity = {name: w.new_zeros(()) for name, w in weights.items()}
        if isinstance(sparsity, Real):
            self._block.check(weights, sparsity, budget, floor)
        super().__init__(
            weights, sparsity, steps,
            exponent=exponent, end=end, every=every, budget=budget, floor=floor,
        )  # fmt: skip

    def watch(self, model: nn.Module) -> None:
        """Collect from now on what enters the layers; `prune` calls it.

        Parameters
        ----------
        model : nn.Module
            The owner of the weights.
        """
        if self.measurement == "activations":
            self._watched = ActivationGram(model, self.weights, self.gram)

    def before_forward(self, step: int) -> None:  # (S)
        if self._watched is not None:
            self._watched.active = step % WATCH_EVERY == 0 and not self.debiasing(step)
        elif self.measurement == "activations":
            raise ValueError("measurement is 'activations': call `watch(model)` before training")
        self.hard_threshold(step)
        if not self.debiasing(step):
            self._correct()
            self._shrink()

    def after_backward(self, step: int) -> None:  # (E): the optimizer moves V, not Z
        if self._watched is not None:
            self._watched.active = False
        if self.debiasing(step):
            self.mask_gradients()
            return
        for name, weight in self.weights.items():
            if weight.grad is None:
                continue
            if self.measurement == "gradients":
                self.gram[name].lerp_(weight.grad.square(), 1 - MEMORY)
            if self.budget == "sensitivity":
                self.sensitivity[name].lerp_(weight.grad.square().mean(), 1 - MEMORY)
        self.restore_dense()
        if self.rho > 0:
            for name, weight in self.weights.items():
                weight.data.mul_(1 - self.rho * ~self.masks[name])

    def finish(self) -> None:
        # A frozen support stays as it is: of blocks of unequal size another choice may fit.
        total = sum(mask.numel() for mask in self.masks.values())
        short = round(self.target * total) - round(self.sparsity * total)
        uncut = any(bool(w.data[~self.masks[n]].any()) for n, w in self.weights.items())
        if uncut or short >= self._block.size:
            self.cut()
        if self._watched is not None:
            self._watched.remove()

    def largest(self, sparsity: float) -> dict[str, Tensor]:
        """Masks of the weights whose cut would cost most, as A measures it."""
        sizes = {n: w.data.abs() for n, w in self.weights.items()}
        scores = {n: size * self._importance(n) for n, size in sizes.items()}
        if self.budget != "sensitivity":
            return self._block.masks(scores, sparsity, self.budget, self.floor)
        felt = {n: size * _root(self.sensitivity[n], self.power) for n, size in sizes.items()}
        shares = masks_of_largest(felt, sparsity, "global", self.floor)
        return {n: keep_largest(s, int(shares[n].count_nonzero())) for n, s in scores.items()}

    def _importance(self, name: str) -> float | Tensor:
        """G_jj^(power / 2) of each column, or of each weight."""
        if self.measurement == "identity":
            return 1.0
        gram, weight = self.gram[name], self.weights[name]
        if self.measurement == "gradients":
            return _root(gram, self.power)
        diagonal = regularised(gram, self.ridge).diagonal()
        return diagonal.sqrt().pow(self.power).view(weight[:1].shape)

    def _correct(self) -> None:
        """Z <- Z + tau mask * (V - Z) G, a few times."""
        if self.updates == 0 or self.measurement in ("identity", "gradients"):
            return
        for name, weight in self.weights.items():
            gram = regularised(self.gram[name], self.ridge)
            tau = 1.0 / torch.linalg.matrix_norm(gram, 2)
            rows, dense = weight.data.flatten(1), self._dense[name].flatten(1)
            for _ in range(self.updates):
                step = tau * (dense - rows) @ gram
                rows = (rows + step) * self.masks[name].flatten(1)
            weight.data.copy_(rows.view_as(weight))

    def _shrink(self) -> None:
        """The shrinkage of the soft and the firm threshold, of what the hard one left."""
        if self.threshold == "hard":
            return
        for name, weight in self.weights.items():
            v, size = weight.data, self._block.size
            lam = block_norms(self._dense[name] * ~self.masks[name], size).max()
            norms = block_norms(v, size)
            factor = (1.0 - lam / norms.clamp_min(TINY)).clamp_min(0.0)
            if self.threshold == "firm":
                factor = torch.where(norms < 2 * lam, 2 * factor, 1.0)
            v.mul_(spread(factor, v, size))

    def _first_gram(self, weights: dict[str, nn.Parameter]) -> dict[str, Tensor]:
        """Before anything is measured: zeros for curvatures, else the identity or the sketch."""
        if self.measurement == "gradients":
            return {name: torch.zeros_like(w) for name, w in weights.items()}
        sizes = {name: w[0].numel() for name, w in weights.items()}
        if self.measurement == "activations":
            return {n: torch.eye(size).to(weights[n]) for n, size in sizes.items()}
        generator = torch.Generator().manual_seed(self.seed)
        return {
            n: gaussian_gram(size, max(1, size // 2), generator).to(weights[n])
            for n, size in sizes.items()
        }


def _root(squares: Tensor, power: float) -> Tensor:
    """Their square root, to a power; positive, so that magnitude ranks where nothing is known."""
    return (squares + TINY).sqrt().pow(power)


def _one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(f"{name} is {value!r}: expected one of {', '.join(map(repr, known))}")
    return value
