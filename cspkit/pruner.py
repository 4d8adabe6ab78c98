"""The pruner that goes into any training loop, whoever wrote the loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from cspkit.arguments import ArgumentError


class OrderError(RuntimeError):
    """The parts of a training step came in an order that has no meaning."""


def kl_divergence(reference_logits: Tensor, logits: Tensor) -> Tensor:
    """Mean over cells of KL(p_reference || p), in float32 or better.

        KL(p_reference || p) = sum_k p_reference(k) (log p_reference(k) - log p(k))

    Parameters
    ----------
    reference_logits, logits : Tensor, shape (..., K)
        Logits of the K classes of each cell.

    Returns
    -------
    Tensor, shape ()

    Raises
    ------
    ArgumentError
        If the shapes differ.
    """
    if reference_logits.shape != logits.shape:
        raise ArgumentError(
            f"reference outputs have shape {tuple(reference_logits.shape)}, outputs "
            f"{tuple(logits.shape)}: expected the same shape"
        )
    pair = (_at_least_float32(t).reshape(-1, t.shape[-1]) for t in (logits, reference_logits))
    log_p, log_reference = (t.log_softmax(dim=-1) for t in pair)
    return nn.functional.kl_div(log_p, log_reference, reduction="batchmean", log_target=True)


def _at_least_float32(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


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
    times (gradient accumulation), an evaluation, or the writing of a sparse checkpoint. Entering
    the block again, also inside itself, changes nothing. V is back in the model after the block,
    also if an exception leaves it.

    The pruner sees the optimizer's steps by the optimizer's own step hooks, whoever calls it: the
    loop, a gradient scaler, or a trainer that passes a closure. A step that a gradient scaler
    skips leaves no trace in the pruner. If the gradients of a step are not finite, the pruner
    removes all gradients of the optimizer, so that the step changes nothing, and does not count it.
    `step` does the same by hand, for an optimizer without hooks.

    A method extends the hooks `choose`, `show`, `after_backward`, `before_update`,
    `after_update` and `conclude`, and lists what it remembers between steps in `remembers`.

    Parameters
    ----------
    weights : dict of nn.Parameter, optional
        The weights to prune, by name.

    Attributes
    ----------
    weights : dict of nn.Parameter
    masks : dict of Tensor
        bool, by name of the weight; True is kept.
    mu : float
        Weight of the compression-error term D, see `error_term`; the default is that of the
        method. It may be changed at any time.
    steps_done : int
        Optimizer steps so far, without those that were skipped.

    Raises
    ------
    OrderError
        If the optimizer makes a step inside `sparse`, or a step without gradients from `sparse`;
        if `sparse` is entered after `finish`; if `state` or `finish` is called inside `sparse`, or
        `finish` although no step was seen.
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
        self._chosen = False  # the support of this step is chosen
        self._skipping = False  # the optimizer's present step is to change nothing
        self._optimizer: torch.optim.Optimizer | None = None
        self._handles: list[Any] = []

    # What a loop uses

    @contextmanager
    def sparse(self) -> Iterator[None]:
        """Let the model compute with the sparse weights Z inside this block."""
        if self._depth == 0:
            self._enter()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._leave()

    def attach(self, optimizer: torch.optim.Optimizer) -> None:
        """See every step of an optimizer from now on, until `finish` or `detach`.

        Parameters
        ----------
        optimizer : torch.optim.Optimizer
            Has all weights of the pruner among its parameters.

        Raises
        ------
        ArgumentError
            If the optimizer lacks a weight.
        OrderError
            If the pruner is attached to another optimizer.
        """
        if self._optimizer is optimizer:
            return
        if self._optimizer is not None:
            raise OrderError(f"{self._name}.attach: attached already; call detach() first")
        self._check_optimizer(optimizer)
        self._optimizer = optimizer
        self._handles = [
            optimizer.register_step_pre_hook(self._on_step),
            optimizer.register_step_post_hook(lambda *_: self._after_step()),
        ]

    def detach(self) -> None:
        """No longer see the steps of the optimizer."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._optimizer = [], None

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Make a step of an optimizer; needs no `attach`.

        Parameters
        ----------
        optimizer : torch.optim.Optimizer
            Has all weights of the pruner among its parameters.
        """
        if self._optimizer is None:
            self._check_optimizer(optimizer)
            self._before_step(optimizer)
            optimizer.step()
            self._after_step()
        elif self._optimizer is optimizer:
            optimizer.step()
        else:
            raise OrderError(f"{self._name}.step: attached to another optimizer")

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
        """Zeros / prunable weights of the present masks, 0 to 1."""
        total = sum(m.numel() for m in self.masks.values())
        kept = sum(int(m.count_nonzero()) for m in self.masks.values())
        return 1.0 - kept / total if total else 0.0

    @property
    def settings(self) -> dict[str, object]:
        """What tells this run from one with other settings."""
        own = {
            name: value
            for name, value in vars(self).items()
            if isinstance(value, int | float | str)
            and not name.startswith("_")
            and name not in ("steps_done", "finished")
        }
        return own | {"weights": {n: list(w.shape) for n, w in self.weights.items()}}

    def state(self) -> dict[str, Tensor]:
        """What a run needs to go on, beside the dense weights in the model.

        Returns
        -------
        dict of Tensor
            By name; for `load_state`.
        """
        self._refuse_inside("state()")
        state = {"steps_done": torch.tensor(self.steps_done)}
        for attribute in self.remembers:
            for name, tensor in getattr(self, attribute).items():
                state[f"{attribute}.{name}"] = tensor
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` returned, into a pruner with the same weights and settings.

        Parameters
        ----------
        state : dict of Tensor

        Raises
        ------
        ArgumentError
            If the state belongs to another method or to other weights.
        """
        own = self.state()
        for name, tensor in own.items():
            if name not in state or state[name].shape != tensor.shape:
                found = f"shape {tuple(state[name].shape)}" if name in state else "nothing"
                raise ArgumentError(
                    f"state has {found} for {name!r}: expected shape {tuple(tensor.shape)}, from "
                    f"a {self._name} for the same weights"
                )
        self.steps_done = int(state["steps_done"])
        self._chosen = False
        for name in own.keys() - {"steps_done"}:
            own[name].copy_(state[name])

    # What a method extends

    def watch(self, model: nn.Module) -> None:
        """Collect from now on what enters the layers of a model, if the method measures it."""

    def choose(self, step: int) -> None:
        """Choose the support of Z, before the first forward pass of a step."""

    def dense_now(self, step: int) -> bool:
        """Whether V and Z differ at this step, so that `show` is called."""
        return False

    def show(self) -> None:
        """Put Z into the model; V is in `self._dense` too."""

    def after_backward(self, step: int) -> None:
        """Change gradients after a backward pass, before the loop clips them."""

    def before_update(self, step: int) -> None:
        """Use the gradients that the optimizer gets, and change V before its step."""

    def after_update(self, step: int) -> None:
        """Undo what the optimizer did to weights that are cut."""

    def conclude(self) -> None:
        """Leave the final weights in the model."""

    def debiasing(self, step: int) -> bool:
        """Whether the support is frozen at this step."""
        return False

    # What a method uses

    @torch.no_grad()
    def apply_masks(self) -> None:
        """Set weights that are cut to zero."""
        for name, weight in self.weights.items():
            weight.mul_(self.masks[name])

    @torch.no_grad()
    def mask_gradients(self) -> None:
        """Set the gradients of weights that are cut to zero."""
        for name, weight in self.weights.items():
            if weight.grad is not None:
                weight.grad.mul_(self.masks[name])

    # How it works

    @property
    def _name(self) -> str:
        return type(self).__name__

    @torch.no_grad()
    def _enter(self) -> None:
        if self.finished:
            raise OrderError(f"{self._name}.sparse: entered after finish()")
        if not self._chosen:
            self.choose(self.steps_done)
            self._chosen = True
        if self.dense_now(self.steps_done):
            for name, weight in self.weights.items():
                if name not in self._dense:
                    self._dense[name] = torch.empty_like(weight)
                self._dense[name].copy_(weight)
            self._swapped = True
            try:
                self.show()
            except BaseException:
                self._restore()
                raise
        torch.clear_autocast_cache()  # it may hold other weights, in half precision

    @torch.no_grad()
    def _leave(self) -> None:
        self._restore()
        self.after_backward(self.steps_done)

    def _restore(self) -> None:
        if self._swapped:
            # A change in place that autograd sees: a backward pass after the block is an error.
            for name, weight in self.weights.items():
                weight.copy_(self._dense[name])
            self._swapped = False
        torch.clear_autocast_cache()

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
            if not calls:  # a line search calls it several times in one step
                self._before_step(optimizer)
            calls.append(loss)
            return loss

        return sparse_closure

    @torch.no_grad()
    def _before_step(self, optimizer: torch.optim.Optimizer) -> None:
        self._refuse_inside("step of the optimizer")
        if self.weights and not self._chosen:
            raise OrderError(
                f"{self._name}: step of the optimizer without sparse(); compute loss and gradients "
                "of each step inside `with pruner.sparse():`"
            )
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.weights and not _finite(gradients):
            for parameter in parameters:
                parameter.grad = None
            self._skipping = True
            return
        scale = getattr(optimizer, "grad_scale", None)  # a gradient scaler left it to the optimizer
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
        self._chosen = False

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
