"""Base classes of the methods: masks, a schedule, and debiasing on a frozen support."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real

from torch import Tensor, nn

from cspkit.arguments import ArgumentError, count, fraction, one_of, positive
from cspkit.pruner import Pruner
from cspkit.pruning.budget import BUDGETS, masks_of_largest
from cspkit.pruning.schedule import polynomial_sparsity


class MaskedPruner(Pruner):
    """Base of all methods: weights, their masks, and a last phase with frozen masks.

    At step `end` the largest weights are kept, exactly as many as the final sparsity allows. All
    other weights are zero from then on, and only the kept weights are trained. This is the
    debiasing step of compressed sensing. A method decides what happens before `end` by overriding
    the hooks of `cspkit.pruner.Pruner`.

    The settings of a method are its public attributes that are numbers or strings. Its state is the
    attributes that `remembers` names; they are dicts of tensors. Everything else must follow from
    the settings and the initial weights.

    Parameters
    ----------
    weights : dict of nn.Parameter
        The prunable weights, by name.
    sparsity : float or dict of float
        Final zeros / prunable weights, 0 <= sparsity < 1, exact up to one weight. A dict gives each
        weight, by name, its own sparsity; `budget` then has no effect.
    steps : int
        Length of the whole run, in optimizer steps.
    end : float
        Fraction of the steps after which the support is frozen.
    budget : {"global", "uniform", "erk"}
        How many weights each layer keeps, see `cspkit.pruning.budget`.
    floor : float
        Each layer keeps at least this fraction of its weights.

    Raises
    ------
    ArgumentError
        If an argument is out of range.
    """

    budgets = BUDGETS

    def __init__(
        self,
        weights: dict[str, nn.Parameter],
        sparsity: float | Mapping[str, float],
        steps: int,
        *,
        end: float = 2 / 3,
        budget: str = "global",
        floor: float = 0.0,
    ) -> None:
        _check_weights(weights)
        super().__init__(weights)
        self._by_name = _by_name(weights, sparsity)
        zeros = sum(round(s * weights[n].numel()) for n, s in self._by_name.items())
        total = sum(w.numel() for w in weights.values())
        self.target = zeros / total if self._by_name else _sparsity("sparsity", sparsity)
        self.end = int(fraction("end", end) * count("steps", steps))
        self.budget = one_of("budget", budget, self.budgets)
        self.floor = fraction("floor", floor)
        self.largest(self.target)  # floors that are too high raise an error now, before training

    @property
    def settings(self) -> dict[str, object]:
        """The settings that identify this run. A resumed run must have the same settings."""
        return super().settings | {"by_name": dict(self._by_name)}

    def choose(self, step: int) -> None:
        """Cut to the target when the schedule is over."""
        if step == self.end:
            self.cut()

    def after_backward(self, step: int) -> None:
        """If the support is frozen, give no gradient to weights that are cut."""
        if self.debiasing(step):
            self.mask_gradients()

    def after_update(self, step: int) -> None:
        """If the support is frozen, undo what the optimizer did to weights that are cut."""
        if self.debiasing(step):
            self.apply_masks()

    def conclude(self) -> None:
        """Leave the final weights in the model. If the support is not frozen yet, cut now."""
        if self.debiasing(self.steps_done - 1):
            self.apply_masks()
        else:
            self.cut()

    def debiasing(self, step: int) -> bool:
        """Whether the support is frozen at this step."""
        return step >= self.end

    def scores(self) -> dict[str, Tensor]:
        """Scores >= 0 by which weights are ranked: their magnitudes."""
        return {n: w.detach().abs() for n, w in self.weights.items()}

    def largest(self, sparsity: float) -> dict[str, Tensor]:
        """Make masks of the weights with the largest scores, within the budget."""
        return self.masks_of(self.scores(), sparsity)

    def masks_of(self, scores: dict[str, Tensor], sparsity: float) -> dict[str, Tensor]:
        """Make masks of the largest scores, with the budget or with a sparsity for each weight."""
        if not self._by_name:
            return self.rank(scores, sparsity)
        share = sparsity / self.target if self.target else 0.0  # how much of the target is reached
        masks = {}
        for name, final in self._by_name.items():
            masks |= self.rank({name: scores[name]}, share * final)
        return masks

    def rank(self, scores: dict[str, Tensor], sparsity: float) -> dict[str, Tensor]:
        """Make masks of the largest scores. All these weights are ranked together."""
        return masks_of_largest(scores, sparsity, self.budget, self.floor)

    def cut(self) -> None:
        """W <- H_k(W): keep the k largest weights, as many as the final sparsity allows."""
        self.masks = self.largest(self.target)
        self.apply_masks()


class GradualPruner(MaskedPruner):
    """Base of the methods whose sparsity rises along the polynomial schedule until `end`.

    Between the steps the model holds the dense weights V. Inside `sparse` it holds Z = mask * V, so
    the gradient is taken at Z.

    Parameters
    ----------
    weights, sparsity, steps, end, budget, floor
        See `MaskedPruner`.
    exponent : float
        Exponent p of the polynomial schedule.
    every : int
        Steps between two updates of the masks.
    """

    def __init__(
        self,
        weights: dict[str, nn.Parameter],
        sparsity: float | Mapping[str, float],
        steps: int,
        *,
        exponent: float = 6.0,
        end: float = 2 / 3,
        every: int = 1,
        budget: str = "global",
        floor: float = 0.0,
    ) -> None:
        super().__init__(weights, sparsity, steps, end=end, budget=budget, floor=floor)
        self.exponent = positive("exponent", exponent)
        self.every = count("every", every)

    def scheduled(self, step: int) -> float:
        """Sparsity that the schedule asks for at a step."""
        return polynomial_sparsity(step, self.end, self.target, self.exponent)

    def choose(self, step: int) -> None:
        """Choose the support of Z by the schedule, and freeze it when the schedule is over."""
        super().choose(step)
        if step < self.end and step % self.every == 0:
            self.masks = self.largest(self.scheduled(step))

    def dense_now(self, step: int) -> bool:
        """Whether V and Z differ: they do until the support is frozen."""
        return step < self.end

    def show(self) -> None:
        """Z <- mask * V."""
        for name, weight in self.weights.items():
            weight.mul_(self.masks[name]).add_(0.0)  # -0 + 0 = 0; faster than masked_fill_


def _check_weights(weights: dict[str, nn.Parameter]) -> None:
    if not weights:
        raise ArgumentError("weights is empty: expected at least one prunable weight")
    for name, weight in weights.items():
        if not weight.requires_grad:
            raise ArgumentError(
                f"weights has {name!r}, which is frozen (requires_grad=False): expected weights "
                "that can be trained; leave this weight out"
            )
        bad = int((~weight.detach().isfinite()).sum())
        if bad:
            raise ArgumentError(
                f"weights has {name!r} with {bad} values that are NaN or infinite: expected finite "
                "values"
            )


def _sparsity(name: str, value: float) -> float:
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= value < 1:
        raise ArgumentError(f"{name} is {value!r}: expected a number in [0, 1)")
    return float(value)


def _by_name(weights: dict[str, nn.Parameter], sparsity: object) -> dict[str, float]:
    if not isinstance(sparsity, Mapping):
        return {}
    if set(sparsity) != set(weights):
        differing = min(set(sparsity) ^ set(weights), key=str)
        raise ArgumentError(
            f"sparsity and weights differ in {differing!r}: expected the same names in both"
        )
    return {name: _sparsity(f"sparsity of {name!r}", s) for name, s in sparsity.items()}
