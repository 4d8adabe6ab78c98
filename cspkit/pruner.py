"""The base class of all pruners. A pruner works in any training loop.

The life of a step, with the methods that are called, those of a pruning method in capitals:

    with pruner.sparse():      _enter         CHOOSE the support; if DENSE_NOW, SHOW Z
        forward, backward      _on_gradient   notes gradients from outside of the block
                               _leave         V comes back; AFTER_BACKWARD
    optimizer.step()           _before_step   refuses, skips, or BEFORE_UPDATE
                               _after_step    AFTER_UPDATE; the next step may choose again
    pruner.finish()                           CONCLUDE

The class has its parts in this order: methods for a training loop, what a stopped run stores, hooks
of a pruning method, helpers for it; then, inside, how Z and V change places (`_enter` to
`_restore`) and how the optimizer's steps are followed (`_on_step` to `_after_step`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from cspkit.arguments import ArgumentError
from cspkit.task import kl_divergence


class OrderError(RuntimeError):
    """The parts of a training step were called in the wrong order."""


class Pruner:
    """Base of all pruning methods. This class itself prunes nothing.

    The model holds dense weights V between the steps, and computes with sparse weights Z inside
    `sparse`:

        pruner.attach(optimizer)
        for batch in batches:
            optimizer.zero_grad()
            with pruner.sparse():
                loss_of(model(batch)).backward()
            optimizer.step()
        pruner.finish()

    Everything that needs Z goes into the block: forward and backward passes, once or several
    times (gradient accumulation), an evaluation, or the writing of a sparse checkpoint. A step may
    have several such blocks, also nested ones; they all use the same support of Z.
    After the block the model holds V again, even if the block raised an exception.

    The pruner follows the optimizer's steps through the step hooks of the optimizer. So it does not
    matter who calls the step: the loop, a gradient scaler, or a trainer that passes a closure. If a
    gradient scaler skips a step, the pruner does not change. If the gradients of a step are not
    finite, the pruner removes all gradients of the optimizer, so that the step changes nothing. The
    pruner does not count this step. Without `attach`, call `step` of the pruner in place of `step`
    of the optimizer. If a step calls its closure several times, as LBFGS does, the pruner uses the
    gradients of the first call.

    A pruning method overrides the hooks `choose`, `show`, `after_backward`, `before_update`,
    `after_update` and `conclude`. It lists in `remembers` the attributes that it needs again in
    later steps.

    Parameters
    ----------
    weights : dict of nn.Parameter, optional
        The weights to prune, by name.

    Attributes
    ----------
    weights : dict of nn.Parameter
    masks : dict of Tensor
        bool, by name of the weight; True means that the weight is kept.
    mu : float
        Weight of the compression-error term D, see `error_term`; 0, without D, by default.
        `mu` may be changed at any time.
    steps_done : int
        Optimizer steps so far, without the skipped steps.

    Raises
    ------
    OrderError
        If the optimizer makes a step inside `sparse`, or uses gradients computed outside `sparse`;
        if `sparse` is entered after `finish`; if `state`, `load_state` or `finish` is called inside
        `sparse`; or if `finish` is called before the first step.
    """

    mu = 0.0
    remembers: tuple[str, ...] = ("masks",)

    def __init__(self, weights: dict[str, nn.Parameter] | None = None) -> None:
        self.weights = weights or {}
        self.masks = {n: torch.ones_like(w, dtype=torch.bool) for n, w in self.weights.items()}
        self.steps_done = 0
        self.finished = False
        self._dense: dict[str, Tensor] = {}  # V, while the model holds Z
        self._depth = 0  # of nested `sparse` blocks
        self._swapped = False  # the model holds Z at present
        self._chosen = False  # the support of this step has been chosen
        self._outside = False  # a gradient was computed outside of `sparse`
        self._skipping = False  # the optimizer's current step must change nothing
        self._optimizer: torch.optim.Optimizer | None = None
        self._handles: list[Any] = []  # of the optimizer's step hooks
        self._gradient_hooks: list[Any] = []

    # Methods for a training loop

    @contextmanager
    def sparse(self) -> Iterator[None]:
        """Let the model compute with the sparse weights Z inside this block."""
        if self.finished:
            raise OrderError(
                f"{self._name}.sparse: entered after finish(); the model holds its final weights"
            )
        self._depth += 1
        try:
            if self._depth == 1:
                self._enter()
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._leave()

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """Follow every step of an optimizer from now on, until `finish` or `detach`.

        Parameters
        ----------
        optimizer : torch.optim.Optimizer
            Its parameters must include all weights of the pruner.

        Raises
        ------
        ArgumentError
            If the optimizer lacks a weight.
        OrderError
            If the pruner is attached to another optimizer, or after `finish`.
        """
        if self._optimizer is optimizer:
            return
        if self.finished:
            raise OrderError(f"{self._name}.attach: called after finish(); make a new pruner")
        if self._optimizer is not None:
            raise OrderError(f"{self._name}.attach: attached already; call detach() first")
        self._check_optimizer(optimizer)
        self._optimizer = optimizer
        self._handles = [
            optimizer.register_step_pre_hook(self._on_step),
            optimizer.register_step_post_hook(lambda *_: self._after_step()),
        ]

    def detach(self) -> None:
        """Stop following the steps of the optimizer."""
        for handle in self._handles + self._gradient_hooks:
            handle.remove()
        self._handles, self._gradient_hooks, self._optimizer = [], [], None

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Make one step of an optimizer. A call of `attach` is not needed.

        Parameters
        ----------
        optimizer : torch.optim.Optimizer
            Its parameters must include all weights of the pruner.
        """
        if self._optimizer is None:
            self._check_optimizer(optimizer)
            self._before_step(optimizer)
            optimizer.step()
            self._after_step()
        elif self._optimizer is optimizer:
            optimizer.step()
        else:
            raise OrderError(
                f"{self._name}.step: attached to another optimizer; call detach() first"
            )

    def error_term(
        self, reference_outputs: Tensor, outputs: Tensor, valid: Tensor | None = None
    ) -> Tensor:
        """The compression-error term mu D(reference || outputs), to be added to the loss.

        D is the mean over cells of KL(p_reference || p), see `kl_divergence`.

        Parameters
        ----------
        reference_outputs : Tensor, shape (..., K)
            Logits of the dense model that the pruning started from. No gradient flows into them.
        outputs : Tensor, shape (..., K)
            Logits of the model, computed inside `sparse`.
        valid : Tensor, shape (...), optional
            bool; True for the cells that count, False for padding. The default is all cells.

        Returns
        -------
        Tensor, shape ()
            Zero if `mu` is 0.
        """
        if self.mu == 0:
            return outputs.new_zeros(())
        reference_outputs = reference_outputs.detach()
        if valid is not None:
            reference_outputs, outputs = reference_outputs[valid], outputs[valid]
        return self.mu * kl_divergence(reference_outputs, outputs)

    def finish(self) -> None:
        """Leave the final weights in the model, with exact zeros. A second call does nothing."""
        if self.finished:
            return
        self._refuse_inside("finish()")
        if self.weights and self.steps_done == 0:
            raise OrderError(
                f"{self._name}.finish: no step of the optimizer was seen; call attach(optimizer) "
                "before the loop, or step(optimizer) in it"
            )
        self.conclude()
        self.detach()
        self.finished = True

    @property
    def sparsity(self) -> float:
        """Zeros / prunable weights in the current masks, 0 to 1."""
        total = sum(m.numel() for m in self.masks.values())
        kept = sum(int(m.count_nonzero()) for m in self.masks.values())
        return 1.0 - kept / total if total else 0.0

    # What a stopped run stores

    @property
    def settings(self) -> dict[str, object]:
        """The settings that identify this run. A resumed run must have the same ones."""
        values = {
            name: value
            for name, value in vars(self).items()
            if isinstance(value, int | float | str)
            and not name.startswith("_")
            and name not in ("mu", "steps_done", "finished")
        }
        return values | {"weights": {n: list(w.shape) for n, w in self.weights.items()}}

    def state(self) -> dict[str, Tensor]:
        """What a stopped run needs to continue, in addition to the dense weights in the model.

        Returns
        -------
        dict of Tensor
            By name, for `load_state`.
        """
        self._refuse_inside("state()")
        run = json.dumps([self._name, self.settings], sort_keys=True).encode()
        state = {
            "run": torch.frombuffer(bytearray(run), dtype=torch.uint8),
            "steps_done": torch.tensor(self.steps_done),
        }
        return state | {name: tensor.clone() for name, tensor in self._remembered().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned. This pruner must have the same weights and settings.

        Parameters
        ----------
        state : dict of Tensor

        Raises
        ------
        ArgumentError
            If the state belongs to another method, to other settings or to other weights.
        """
        self._refuse_inside("load_state()")
        current, run = self._remembered(), [self._name, self.settings]
        stored = "nothing"
        if "run" in state:
            stored = json.loads(state["run"].numpy(force=True).tobytes())
        if stored != json.loads(json.dumps(run)):
            raise ArgumentError(f"state belongs to {stored}: expected a state of {run}")
        for name in current.keys() ^ (state.keys() - {"run", "steps_done"}):
            raise ArgumentError(f"state is damaged: {name!r} is missing, or is not expected")
        self.steps_done = int(state["steps_done"])
        self._chosen = False
        for name, tensor in current.items():
            tensor.copy_(state[name])

    # Hooks that a pruning method overrides

    def watch(self, model: nn.Module) -> None:
        """Start to collect the inputs of the model's layers, if the method measures them."""

    def choose(self, step: int) -> None:
        """Choose the support of Z, before the first forward pass of a step."""

    def dense_now(self, step: int) -> bool:
        """Whether V and Z differ at this step. If so, `show` is called."""
        return False

    def show(self) -> None:
        """Put Z into the model, which holds V before this call; a copy of V is in `self._dense`."""

    def after_backward(self, step: int) -> None:
        """Change gradients after a backward pass, before the loop clips them."""

    def before_update(self, step: int) -> None:
        """Use the gradients that the optimizer gets, or change V, before the optimizer's step."""

    def after_update(self, step: int) -> None:
        """Undo what the optimizer did to weights that are cut."""

    def conclude(self) -> None:
        """Leave the final weights in the model."""

    def debiasing(self, step: int) -> bool:
        """Whether the support is frozen at this step."""
        return False

    # Helpers for a pruning method

    @torch.no_grad()
    def apply_masks(self) -> None:
        """Write zeros into the weights that are cut."""
        for name, weight in self.weights.items():
            weight.masked_fill_(~self.masks[name], 0)

    @torch.no_grad()
    def mask_gradients(self) -> None:
        """Write zeros into the gradients of the weights that are cut."""
        for name, weight in self.weights.items():
            if weight.grad is not None:
                weight.grad.mul_(self.masks[name])

    # Inside: copies and what is stored

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles are not attached to an optimizer."""
        return vars(self) | {"_optimizer": None, "_handles": [], "_gradient_hooks": []}

    def _remembered(self) -> dict[str, Tensor]:
        """The tensors of `remembers`, by name."""
        return {
            f"{attribute}.{name}": tensor
            for attribute in self.remembers
            for name, tensor in getattr(self, attribute).items()
        }

    @property
    def _name(self) -> str:
        return type(self).__name__

    # Inside: Z and V change places

    @torch.inference_mode(False)
    @torch.no_grad()
    def _enter(self) -> None:
        self._restore()  # an interrupt may have come between two lines of `_leave`
        self._watch_gradients()
        if not self._chosen:
            self.choose(self.steps_done)
            self._chosen = True
        if self.dense_now(self.steps_done):
            for name, weight in self.weights.items():
                if name not in self._dense:
                    self._dense[name] = torch.empty_like(weight)
                self._dense[name].copy_(weight)
            self._swapped = True
            self.show()
        torch.clear_autocast_cache()  # it may hold half-precision copies of older weights

    @torch.inference_mode(False)
    @torch.no_grad()
    def _leave(self) -> None:
        self._restore()
        self.after_backward(self.steps_done)

    def _watch_gradients(self) -> None:
        """Note gradients that are computed outside of `sparse`, where the model holds V."""
        if not self._gradient_hooks:
            self._gradient_hooks = [
                weight.register_post_accumulate_grad_hook(self._on_gradient)
                for weight in self.weights.values()
                if weight.requires_grad
            ]
        if self._outside:
            gradients = (weight.grad for weight in self.weights.values())
            self._outside = any(g is not None and bool(g.any()) for g in gradients)

    def _on_gradient(self, weight: Tensor) -> None:
        self._outside = self._outside or self._depth == 0

    def _restore(self) -> None:
        if self._swapped:
            # Autograd notices this change in place, so a backward pass after the block is an error.
            for name, weight in self.weights.items():
                weight.copy_(self._dense[name])
            self._swapped = False
        torch.clear_autocast_cache()

    # Inside: the steps of the optimizer are followed

    def _on_step(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> Any:
        """Step hook of the optimizer. A closure computes loss and gradients inside the step."""
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is None:
            self._before_step(optimizer)
            return None
        return args[:1], kwargs | {"closure": self._in_sparse(closure, optimizer)}

    def _in_sparse(self, closure: Callable[[], Any], optimizer: torch.optim.Optimizer):
        calls = []

        @torch.enable_grad()
        def sparse_closure() -> Any:
            with self.sparse():
                loss = closure()
            if not calls:  # a line search calls the closure several times
                self._before_step(optimizer)
            calls.append(loss)
            return loss

        return sparse_closure

    @torch.no_grad()
    def _before_step(self, optimizer: torch.optim.Optimizer) -> None:
        self._skipping = False
        self._refuse_inside("step of the optimizer")
        if self.weights and (self._outside or not self._chosen):
            raise OrderError(
                f"{self._name}: step of the optimizer without sparse(); compute loss and gradients "
                "of each step inside `with pruner.sparse():`"
            )
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.weights and not _finite(gradients):
            for parameter in parameters:
                parameter.grad = None
            self._skipping, self._outside = True, False
            return
        # Some gradient scalers leave it to the optimizer to divide the gradients by the scale.
        scale = getattr(optimizer, "grad_scale", None)
        if scale is not None:
            for gradient in gradients:
                gradient.div_(scale)
            optimizer.grad_scale = None
        self.before_update(self.steps_done)

    @torch.no_grad()
    def _after_step(self) -> None:
        if self._skipping:
            self._skipping = False
            return
        self.after_update(self.steps_done)
        self.steps_done += 1
        self._chosen = self._outside = False

    # Inside: refusals

    def _refuse_inside(self, what: str) -> None:
        if self._depth:
            raise OrderError(f"{self._name}: {what} inside sparse(); leave the block first")

    def _check_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise ArgumentError(
                f"optimizer is a {type(optimizer).__name__}: expected a torch.optim.Optimizer"
            )
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for name, weight in self.weights.items():
            if id(weight) not in held:
                raise ArgumentError(
                    f"optimizer does not have {name!r} among its parameters: expected an optimizer "
                    "of all weights that are pruned"
                )


def _finite(gradients: list[Tensor]) -> bool:
    values = [g.coalesce().values() if g.is_sparse else g for g in gradients]
    # The sum of squares is faster, but may overflow.
    return any(bool(get_total_norm(values, p).isfinite()) for p in (2.0, math.inf))
