"""Pruning of weights below a threshold that rises in two linear pieces."""

from __future__ import annotations

from torch import Tensor, nn

from cspkit.arguments import ArgumentError, count, fraction, positive
from cspkit.pruning.gradual import MaskedPruner


class Narang(MaskedPruner):
    """Narang's gradual pruning: the threshold of each layer rises slowly, then faster.

        mask_l <- |W_l| >= eps_l(t)       every few steps
        W_l    <- mask_l * (W_l - eta grad L(W))

        eps_l(t) = theta_l (t - start)                                   start <= t <= ramp
                 = theta_l (ramp - start) + phi_l (t - ramp)             ramp <= t <= end

    with phi_l = ratio * theta_l. theta_l is chosen so that the threshold ends at reach * q_l, where
    q_l is a quantile of the magnitudes in the dense layer. With ratio = 3/2 and reach = 1 this is
    the rule of the original,

        theta_l = 2 q_l / (2 (ramp - start) + 3 (end - ramp)).

    Here the slopes are per step. A weight that is cut is set to zero and stays zero.

    Parameters
    ----------
    weights, sparsity, steps, budget, floor
        See `MaskedPruner`. The same quantile in all layers gives about the same sparsity in each
        layer, so the default budget is "uniform".
    quantile : float, optional
        Fraction of the magnitudes below q_l. The original takes 0.9, for sparsities of about 0.9.
        The default is the final sparsity. If `sparsity` is a dict, it is the sparsity of the layer.
    start, ramp, end : float
        Fractions of the steps. In the original, start is the second epoch, ramp is 1/4 and end is
        1/2 of the run. The default ramp is half way from start to end.
    ratio : float
        phi_l / theta_l; the original gives 1.5 to 2.
    reach : float
        The last threshold in units of q_l. Weights grow during training, especially at a high
        learning rate, so thresholds that end at q_l may cut too few weights.
    every : int
        Steps between two updates of the masks, `freq` in the original.

    Notes
    -----
    A threshold does not cut an exact number of weights. So at `end` the method keeps exactly the k
    largest weights, where k is the number that the final sparsity allows. Before `end` the
    threshold never cuts the k largest weights. The original has one threshold for each type of
    layer; here each layer has its own.

    References
    ----------
    Narang et al., "Exploring sparsity in recurrent neural networks", ICLR 2017,
    arXiv:1704.05119.
    """

    remembers = ("masks", "theta")

    def __init__(
        self,
        weights: dict[str, nn.Parameter],
        sparsity: float,
        steps: int,
        *,
        quantile: float | None = None,
        start: float = 0.0,
        ramp: float | None = None,
        end: float = 0.5,
        ratio: float = 1.5,
        reach: float = 1.0,
        every: int = 10,
        budget: str = "uniform",
        floor: float = 0.0,
    ) -> None:
        super().__init__(weights, sparsity, steps, end=end, budget=budget, floor=floor)
        self.own_quantile = quantile is None
        self.quantile = self.target if quantile is None else fraction("quantile", quantile)
        ramp = (start + end) / 2 if ramp is None else ramp
        self.start = int(fraction("start", start) * steps)
        self.ramp = int(fraction("ramp", ramp) * steps)
        if not start <= ramp <= end:
            raise ArgumentError(
                f"start, ramp, end are {start}, {ramp}, {end}: expected start <= ramp <= end"
            )
        self.ratio = positive("ratio", ratio)
        self.reach = positive("reach", reach)
        self.every = count("every", every)
        length = self.ramp - self.start + self.ratio * (self.end - self.ramp)
        ends = {name: self.reach * self._quantile(name) for name in weights}
        self.theta = {name: end / max(length, 1) for name, end in ends.items()}

    def _quantile(self, name: str) -> Tensor:
        """Magnitude below which a fraction `quantile` of the weights lies, shape ()."""
        magnitudes = self.weights[name].detach().abs().flatten()
        n = len(magnitudes)
        below = self._by_name.get(name, self.quantile) if self.own_quantile else self.quantile
        return magnitudes.kthvalue(min(n, round(below * n) + 1)).values

    def threshold(self, name: str, step: int) -> Tensor:
        """eps_l(t), shape ()."""
        first = min(step, self.ramp) - self.start
        second = max(min(step, self.end) - self.ramp, 0)
        return self.theta[name] * (first + self.ratio * second)

    def choose(self, step: int) -> None:
        super().choose(step)
        if self.start <= step < self.end and (step - self.start) % self.every == 0:
            needed = self.largest(self.target)
            self.masks = {
                name: needed[name] | (weight.abs() >= self.threshold(name, step))
                for name, weight in self.weights.items()
            }
            self.apply_masks()

    def after_backward(self, step: int) -> None:
        self.mask_gradients()

    def after_update(self, step: int) -> None:
        self.apply_masks()
