"""The one training loop, and the two protocols that it speaks: Task and Pruner.

The loop knows no task and no pruning method by name. Dense training is the loop with no pruner;
the compression-error term mu * D(reference || model) is an argument, so open to every method.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

import cspkit.threads  # noqa: F401
from cspkit.arguments import count, positive
from cspkit.progress import progress
from cspkit.resume import fingerprint, load_state, save_state

Watcher = Callable[[dict[str, float]], bool | None]


@runtime_checkable
class Task(Protocol):
    """What the loop must know of a learning task.

    More methods may be there. `divergence(reference_outputs, outputs, batch)` is the scalar
    D; a task without it is trained and pruned with mu = 0 only. `reference_outputs(model, batch)`
    returns what `divergence` takes first, where that is not all that `loss` returns second: it
    saves the reference model the loss, and what D does not look at. `errors(model, split)`
    counts errors and words of each utterance, for intervals in studies. `settings`, a dict, tells
    a task from others of its class, so that a resumed run goes on with its own.
    """

    def batches(self, split: str, rng: np.random.Generator) -> Iterator[Any]:
        """Yield batches: without end for "train", once through for the other parts."""

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Any]:
        """Return the scalar training loss and the model's outputs."""

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Return the figures of merit on one part, smaller is better; fractions, not per cent.

        Among them "loss", the mean loss of the part, by which `cspkit.study.tune` ranks.
        """


@runtime_checkable
class Pruner(Protocol):
    """What a pruning method does at the four moments of a training step.

    `cspkit.pruning.prune` asks for two attributes more, `masks` and `mu` (the method's default
    weight of D); a run that can be resumed asks for `state`, which returns tensors by name that
    tell all that the pruner remembers between steps, `load_state`, and `settings`, a dict.
    `debiasing(step)`, where it is there, tells whether the support is frozen at a step; of a pruner
    without it, the support is taken for one that may change until the end.
    """

    def before_forward(self, step: int) -> None:
        """Put the weights into the model that the loss is taken at."""

    def after_backward(self, step: int) -> None:
        """Change gradients, and put the weights into the model that the optimizer updates."""

    def after_update(self, step: int) -> None:
        """Mend what the optimizer must not move."""

    def finish(self) -> None:
        """Leave the final weights in the model, their zeros exact."""

    @property
    def sparsity(self) -> float:
        """Zeros / prunable weights at present, 0 to 1."""


def train(
    model: nn.Module,
    task: Task,
    steps: int,
    *,
    pruner: Pruner | None = None,
    reference: nn.Module | None = None,
    mu: float = 0.0,
    rng: np.random.Generator,
    rate: float = 3e-3,
    schedule: str = "one-cycle",
    clip: float = 5.0,
    on_step: Watcher | Sequence[Watcher] = (),
    state_file: str | Path | None = None,
    state_every: int = 200,
) -> list[dict[str, float]]:
    """Train a model in place, dense or while it is pruned.

    Each step takes the gradient of

        L(W) + mu D(reference || model)

    clips its norm, and makes one step of Adam. It computes where the model is: to train on a
    GPU, move model and reference there first, before a pruner is made for the model. Only on a
    CPU do two runs agree to the bit.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    task : Task
        Where batches, the loss L and the divergence D come from.
    steps : int
        Number of updates.
    pruner : Pruner, optional
        A pruning method, made for the weights of this model; none trains densely.
    reference : nn.Module, optional
        The model whose outputs D compares with, in evaluation mode; it is not changed. Needed
        where mu > 0.
    mu : float
        Weight of the compression-error term, >= 0.
    rng : np.random.Generator
        Source of all randomness of the batches.
    rate : float
        Peak learning rate of Adam.
    schedule : {"one-cycle", "cosine"}
        For training from scratch, and for going on from a trained model, see `rate_factor`.
    clip : float
        Bound on the norm of the gradient, > 0; infinite where there is to be none.
    on_step : callable or sequence of such
        Called after every step with its row of the log, for live plots and records. If one
        returns True the run ends there. A method `finish` that one may have is called after the
        last step, before that of the pruner. One that changes the run and remembers something
        has `state`, `load_state` and `settings`, as `cspkit.early_stopping.EarlyStopping` has, to
        be kept in `state_file`; one that only watches may have `resume`, which a resumed run
        calls with the rows of the steps before.
    state_file : str or Path, optional
        Where the state of the run is kept, so that a run that was killed goes on where it was,
        to the bit; deleted when the run ends. Call again with the same arguments and a model and
        a generator in the same state.
    state_every : int
        Steps between two writes of that file. `cspkit.resume.stored_weights` reads the weights
        of the last write.

    Returns
    -------
    list of dict
        A row per step: step, loss, divergence, rate, sparsity, and frozen: 0 while a pruner still
        chooses its support, 1 after that and without one.

    Raises
    ------
    ValueError
        If the arguments do not fit one another, or `state_file` belongs to another run.
    FloatingPointError
        If the loss, D or the gradient is not finite; the message names the step, and the state of
        the last good step that was written, which stays.
    """
    steps, state_every = count("steps", steps), count("state_every", state_every)
    mu, rate = positive("mu", mu, zero=True), positive("rate", rate)
    clip = clip if clip == math.inf else positive("clip", clip)
    _validate(task, reference, mu, rng, schedule)
    parameters = [p for p in model.parameters() if p.requires_grad]
    device = next(model.parameters()).device
    optimizer = torch.optim.Adam(parameters, lr=rate, fused=True)
    model.train()
    log: list[dict[str, float]] = []
    outputs_of = getattr(task, "reference_outputs", lambda *given: task.loss(*given)[1])
    run = {"steps": steps, "mu": mu, "rate": rate, "schedule": schedule, "clip": clip}
    watchers = [on_step] if callable(on_step) else list(on_step or ())
    for watch in watchers:
        if not callable(watch):
            raise ValueError(f"on_step has {watch!r}: expected what takes a row of the log")
    parts = {f"watcher{i}": w for i, w in enumerate(watchers) if hasattr(w, "state")}
    if pruner is not None:
        parts["pruner"] = pruner
    if state_file is not None:
        run |= fingerprint(model, reference, task, parts, rng)
    may_freeze = hasattr(pruner, "debiasing")
    batches = iter(task.batches("train", rng))
    if state_file is not None and Path(state_file).is_file():
        log = load_state(Path(state_file), model, optimizer, parts, run)
        next(islice(batches, len(log) - 1, None), None)  # those that it has seen
        for watch in watchers:
            if hasattr(watch, "resume"):
                watch.resume(log)
    for step in progress(range(len(log), steps), "pruning" if pruner else "training"):
        batch = on_device(_next(batches, step), device)
        if pruner is not None:
            pruner.before_forward(step)

        loss, outputs = _loss(task, model, batch)
        divergence = loss.new_zeros(())
        if mu > 0:
            with torch.no_grad(), evaluating(reference):
                reference_outputs = outputs_of(reference, batch)
            divergence = _scalar("divergence", task.divergence(reference_outputs, outputs, batch))
        objective = loss + mu * divergence
        for what, value in (("loss", loss), ("divergence", divergence)):
            if not torch.isfinite(value):
                raise _not_finite(what, step, value, state_file)

        optimizer.zero_grad()
        objective.backward()
        if pruner is not None:
            pruner.after_backward(step)
        norm = nn.utils.clip_grad_norm_(parameters, clip)
        if not torch.isfinite(norm):
            raise _not_finite("norm of the gradient", step, norm, state_file)
        for group in optimizer.param_groups:
            group["lr"] = rate * rate_factor(schedule, step, steps)
        optimizer.step()
        if pruner is not None:
            pruner.after_update(step)

        row = {
            "step": step,
            "loss": loss.item(),
            "divergence": divergence.item(),
            "rate": optimizer.param_groups[0]["lr"],
            "sparsity": pruner.sparsity if pruner is not None else 0.0,
            "frozen": float(pruner is None or (may_freeze and pruner.debiasing(step))),
        }
        log.append(row)
        wishes = [watch(row) for watch in watchers]  # all of them see the row
        if any(wishes):
            break
        if state_file is not None and (step + 1) % state_every == 0:
            save_state(Path(state_file), model, optimizer, parts, log, run)
    if state_file is not None:
        Path(state_file).unlink(missing_ok=True)
    for watch in watchers:
        if hasattr(watch, "finish"):
            watch.finish()
    if pruner is not None:
        pruner.finish()
    model.eval()
    return log


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode for a while."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _loss(task: Task, model: nn.Module, batch: Any) -> tuple[Tensor, Any]:
    returned = task.loss(model, batch)
    if not isinstance(returned, (tuple, list)) or len(returned) != 2:
        told = f"a {type(returned).__name__}"
        if isinstance(returned, (tuple, list)):
            told += f" of {len(returned)}"
        raise ValueError(f"loss of the task returned {told}: expected the loss and the outputs")
    loss = _scalar("loss", returned[0])
    if not loss.requires_grad:
        raise ValueError("loss of the task returned a loss without a gradient: expected one")
    return loss, returned[1]


def _scalar(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.numel() != 1:
        is_tensor = isinstance(value, Tensor)
        told = f"shape {tuple(value.shape)}" if is_tensor else f"a {type(value).__name__}"
        raise ValueError(f"{name} of the task has {told}: expected a scalar tensor")
    return value


def _next(batches: Iterator[Any], step: int) -> Any:
    try:
        return next(batches)
    except StopIteration:
        told = f"the train batches of the task end before step {step}: expected no end"
        raise ValueError(told) from None


def _not_finite(what, step, value, state_file) -> FloatingPointError:
    kept = "no state of the run was kept"
    if state_file is not None:
        kept = f"no state was written to {state_file} yet"
        if Path(state_file).is_file():
            kept = f"the last good state is in {state_file}"
    return FloatingPointError(f"the {what} of step {step} is {value.item()}; {kept}")


def on_device(batch: Any, device: torch.device) -> Any:
    """A batch on a device: a tensor or what else has a `to`, or a tuple, list or dict of such."""
    if hasattr(batch, "to"):
        return batch.to(device)
    if isinstance(batch, dict):
        return {key: on_device(part, device) for key, part in batch.items()}
    if isinstance(batch, (tuple, list)):
        parts = [on_device(part, device) for part in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch


def rate_factor(schedule: str, step: int, steps: int) -> float:
    """Learning rate of a step as a fraction of its peak.

    With t = step / steps, "one-cycle" rises along a cosine from 1/25 to 1 until t = 0.3 and falls
    along a cosine to zero. "cosine" is (1 + cos(pi t)) / 2, with a linear warm-up until t = 0.2:
    Adam's first updates have the size of the rate, however small the gradient, and would throw a
    trained model far off.

    References
    ----------
    Smith and Topin, "Super-convergence", arXiv:1708.07120.
    """
    t = step / steps
    if schedule == "cosine":
        return min(1.0, (step + 1) / (0.2 * steps)) * (1 + math.cos(math.pi * t)) / 2
    if t < 0.3:
        return 1 - (1 - 1 / 25) * (1 + math.cos(math.pi * t / 0.3)) / 2
    return (1 + math.cos(math.pi * (t - 0.3) / 0.7)) / 2


def _validate(task, reference, mu, rng, schedule) -> None:
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng is {rng!r}: expected np.random.default_rng(SEED)")
    if mu > 0 and reference is None:
        raise ValueError(f"reference is None with mu = {mu}: expected the model to compare with")
    if isinstance(task, type):
        raise ValueError(f"task is the class {task.__name__}: expected an object of it")
    if mu > 0 and not callable(getattr(task, "divergence", None)):
        raise ValueError(f"mu is {mu}, but {type(task).__name__} has no divergence: expected mu=0")
    if schedule not in ("one-cycle", "cosine"):
        raise ValueError(f"schedule is {schedule!r}: expected 'one-cycle' or 'cosine'")
