"""Measure the error of a cut: the matrix A of 1/2 ||A (Z - V)^T||^2, as its Gram matrix G.

A row v of weights has n entries. Each frame a of the layer's input measures this row once:
y = a^T v. The rows of A are m frames. The error d = z - v of a row costs d^T G d / 2 per frame,
with G = A^T A / m. So only G must be kept, and not A, which grows with the length of the speech.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cspkit.arguments import count, fraction, positive
from cspkit.distributed import average_
from cspkit.pruner import OrderError
from cspkit.pruning.activations import ActivationGram

MEMORY = 0.98  # decay of the running average of squared gradients in each step
WATCH_EVERY = 10  # the inputs of the layers are collected in every tenth step
TINY = 1e-12


class Identity:
    """G = I measures the error of the weights themselves. The base of the other measurements.

    Parameters
    ----------
    weights : dict of nn.Parameter
    power : float
        Weights are ranked by |V| G_jj^(power / 2), 0 <= power <= 1. For a diagonal G, power = 1
        gives the exact argmin. power = 0 gives the argmin for G = I. A value between 0 and 1
        reduces the effect of G, which is useful if the estimate of G is uncertain.
    ridge : float
        Weight of the identity that is added to the G of activations or sketch, see `regularised`.
    updates : int
        Number of gradient steps on the kept weights, see `FullGram.correct`.
    seed : int
        Seed of the Gaussian sketch.

    Attributes
    ----------
    gram : dict of Tensor
        G of each layer, or its diagonal, by name; empty if G is I.
    """

    def __init__(
        self,
        weights: dict[str, nn.Parameter],
        *,
        power: float,
        ridge: float,
        updates: int,
        seed: int,
    ) -> None:
        self.weights = weights
        self.power = fraction("power", power)
        self.ridge = positive("ridge", ridge, zero=True)
        self.updates = count("updates", updates, least=0)
        self.seed = count("seed", seed, least=0)
        self.gram: dict[str, Tensor] = {}

    def importance(self, name: str) -> float | Tensor:
        """Return G_jj^(power / 2) of each column or of each weight."""
        return 1.0

    def watch(self, model: nn.Module) -> None:
        """Start to collect the inputs of a model's layers, if this measurement uses them."""

    def begin(self, step: int) -> None:
        """Prepare for the forward passes of a step."""

    def pause(self) -> None:
        """Collect nothing until the next `begin`."""

    def see_gradients(self) -> None:
        """Use the gradients of a step, as the optimizer gets them."""

    def correct(self, name: str, Z: Tensor, V: Tensor, mask: Tensor) -> Tensor:
        """Correct the kept weights Z = mask * V for the change that the cut makes to the output."""
        return Z

    def end(self) -> None:
        """Remove all hooks from the model."""


class SquaredGradients(Identity):
    """A diagonal G with one entry for each weight: F, a running average of squared gradients.

        F <- 0.98 F + 0.02 g^2        with g the gradient that the optimizer gets

    1/2 sum F (Z - V)^2 is an estimate of how much the cut changes the objective. It is the
    second-order term of this change, up to scale, with squared batch gradients in place of the
    curvature.
    """

    def __init__(self, weights: dict[str, nn.Parameter], **settings) -> None:
        super().__init__(weights, **settings)
        self.gram = {name: torch.zeros_like(w, dtype=_wide(w)) for name, w in weights.items()}

    def importance(self, name: str) -> Tensor:
        return root(self.gram[name], self.power)

    def see_gradients(self) -> None:
        for name, weight in self.weights.items():
            if weight.grad is not None:
                F = self.gram[name]
                F.lerp_(weight.grad.to(F.dtype).square(), 1 - MEMORY)


class FullGram(Identity):
    """Base of the measurements whose G is a full matrix for each layer."""

    def importance(self, name: str) -> Tensor:
        diagonal = regularised(self.gram[name], self.ridge).diagonal()
        return diagonal.sqrt().pow(self.power).view(self.weights[name][:1].shape)

    def correct(self, name: str, Z: Tensor, V: Tensor, mask: Tensor) -> Tensor:
        """Z <- Z + tau mask * (V - Z) G, `updates` times; 1 / tau is the spectral norm of G."""
        if self.updates == 0:
            return Z
        gram = regularised(self.gram[name], self.ridge).to(Z.dtype)
        tau = 1.0 / torch.linalg.matrix_norm(gram, 2)
        rows, dense = Z.flatten(1), V.flatten(1)
        for _ in range(self.updates):
            step = tau * (dense - rows) @ gram
            rows = (rows + step) * mask.flatten(1)
        return rows.view_as(Z)


class Activations(FullGram):
    """G is a running average of the Gram matrices of a layer's inputs, with mean diagonal one."""

    def __init__(self, weights: dict[str, nn.Parameter], **settings) -> None:
        super().__init__(weights, **settings)
        self.gram = {n: torch.eye(w[0].numel()).to(w.device, _wide(w)) for n, w in weights.items()}
        self._inputs: ActivationGram | None = None
        self._due = False  # the inputs of this step are collected

    def watch(self, model: nn.Module) -> None:
        self.end()
        self._inputs = ActivationGram(model, self.weights, self.gram)
        self._inputs.active = False

    def begin(self, step: int) -> None:
        if self._inputs is None:
            raise OrderError("measurement is 'activations': call watch(model) before the training")
        self._due = self._inputs.active = step % WATCH_EVERY == 0
        gradients = [w.grad for w in self.weights.values() if w.grad is not None]
        if not any(g.any() for g in gradients) or not all(g.isfinite().all() for g in gradients):
            self._inputs.discard()  # the last step was skipped: this is a new attempt

    def pause(self) -> None:
        if self._inputs is not None:
            self._inputs.active = False

    def see_gradients(self) -> None:
        self._inputs.commit()
        if self._due:
            for gram in self.gram.values():  # each process has seen its own share of the batch
                average_(gram)

    def end(self) -> None:
        if self._inputs is not None:
            self._inputs.remove()


class Sketch(FullGram):
    """G is the Gram matrix of a Gaussian matrix with n / 2 rows, for a layer with n inputs."""

    def __init__(self, weights: dict[str, nn.Parameter], **settings) -> None:
        super().__init__(weights, **settings)
        generator = torch.Generator().manual_seed(self.seed)
        for name, w in weights.items():
            n = w[0].numel()
            self.gram[name] = gaussian_gram(n, max(1, n // 2), generator).to(w.device, _wide(w))


MEASUREMENTS = {
    "identity": Identity,
    "gradients": SquaredGradients,
    "activations": Activations,
    "sketch": Sketch,
}


def gaussian_gram(n: int, m: int, generator: torch.Generator) -> Tensor:
    """Gram matrix A^T A / m of a Gaussian sketch A (m, n). Its expectation is I, its rank m."""
    sketch = torch.randn(m, n, generator=generator)
    return sketch.T @ sketch / m


def regularised(gram: Tensor, ridge: float) -> Tensor:
    """(G + ridge I) / (1 + ridge): G mixed with the identity; ridge = 0 leaves G as it is."""
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return (gram + ridge * eye) / (1 + ridge)


def root(squares: Tensor, power: float) -> Tensor:
    """sqrt(squares)^power, never zero, so that unmeasured weights are ranked by magnitude."""
    return (squares + TINY).sqrt_().pow_(power)


def _wide(weight: Tensor) -> torch.dtype:
    """At least float32, because squares of half-precision gradients underflow and overflow."""
    return torch.promote_types(weight.dtype, torch.float32)
