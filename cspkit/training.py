"""The training loop.

The loop works with any task and any pruning method. Dense training is the loop with a pruner that
prunes nothing. The weight mu of the compression-error term mu * D(reference || model) is an
argument of the loop, so every method can use this term.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import cspkit.threads  # noqa: F401
from cspkit import distributed
from cspkit.arguments import ArgumentError, count, one_of, positive
from cspkit.modules import check_trainable
from cspkit.progress import progress
from cspkit.pruner import Pruner
from cspkit.resume import RunState, weights_hash
from cspkit.task import (
    Task,
    check_task,
    evaluating,
    generator_state,
    on_device,
    remaining_batches,
)

Watcher = Callable[[dict[str, float]], bool | None]
SCHEDULES = ("one-cycle", "cosine")
COMPARE_EVERY = 50  # steps between two comparisons of the processes of a run


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
    accumulate: int = 1,
    autocast: str | None = None,
    optimizer: Callable[..., torch.optim.Optimizer] | None = None,
    on_step: Watcher | Sequence[Watcher] = (),
    state_file: str | Path | None = None,
    state_every: int = 200,
) -> list[dict[str, float]]:
    """Train a model in place, with or without pruning.

    Each step takes the gradient of

        L(W) + mu D(reference || model)

    clips its norm, and makes one step of the optimizer. The training runs on the device of the
    model. To train on a GPU, first move the model and the reference there, and then make the
    pruner. On a CPU two runs give exactly the same result, to the last bit; on a GPU they may not.

    Several processes may train together, see `cspkit.distributed`. Each of them calls this function
    with the same arguments, and with a model and a generator in the same state. The task gives each
    process its share of every batch, see `Task.shard`. The batches, the step and the log are those
    of one process, up to rounding; the weights of all processes are equal to the last bit. Only
    process 0 writes the state of the run, and all processes read it. The run may be continued by
    another number of processes.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    task : Task
        Gives batches, the loss L and the divergence D.
    steps : int
        Number of updates.
    pruner : Pruner, optional
        A pruning method, made for the weights of this model. The default trains densely.
    reference : nn.Module, optional
        D compares the outputs with those of this model. It runs in evaluation mode and is not
        changed. Needed if mu > 0.
    mu : float
        Weight of the compression-error term, >= 0.
    rng : np.random.Generator
        Source of all randomness of the batches.
    rate : float
        Peak learning rate.
    schedule : {"one-cycle", "cosine"}
        "one-cycle" is for training from scratch, "cosine" for training a trained model further,
        see `rate_factor`.
    clip : float
        Bound on the norm of the gradient, > 0; `math.inf` means no bound.
    accumulate : int
        Each process splits its share of a batch into this many parts, and computes one part at a
        time. This takes less memory. The step is the same, up to rounding.
    autocast : {None, "bf16"}
        With "bf16" the forward passes run in `torch.autocast` with bfloat16. The weights, their
        gradients and the optimizer keep their precision.
    optimizer : callable, optional
        `optimizer(parameters, lr=rate)` returns the optimizer: a class of `torch.optim`, or a
        `functools.partial` of one. The default is Adam.
    on_step : callable or sequence of callables
        Watchers. Each is called after every step with the row of this step in the log, for live
        plots and records. If a watcher returns True, the run ends after this step. If a watcher
        has a method `finish`, the loop calls it after the last step, before `finish` of the
        pruner. A watcher that changes the run and remembers something must have `state`,
        `load_state` and `settings`, as `cspkit.early_stopping.EarlyStopping` has; its state is
        kept in `state_file`. A watcher that only observes may have a method `resume`: a resumed
        run calls it with the rows of the earlier steps.
    state_file : str or Path, optional
        File for the state of the run. A stopped run continues from it, and ends with exactly the
        same result, to the last bit. To continue, call again with the same arguments, and with a
        model and a generator in the same state as at the first call. Ctrl-C lets the current step
        end and writes the file. The file is deleted when the run ends.
    state_every : int
        Steps between two writes of that file. `cspkit.resume.stored_weights` reads the weights
        that were written last.

    Returns
    -------
    list of dict
        A row per step: step, loss, divergence, rate, sparsity and frozen. The value of frozen is 0
        while a pruner still chooses its support, and 1 after that. Without a pruner it is always 1.

    Raises
    ------
    ArgumentError
        Before the training: if an argument is wrong or does not fit the others. During the
        training: if the task does not return what `Task` describes.
    cspkit.resume.OtherRun
        If `state_file` belongs to another run.
    cspkit.resume.Interrupted
        After Ctrl-C, if `state_file` is given.
    FloatingPointError
        If the loss, D or the gradient is not finite. The message names the step, and the file with
        the last good state. This file is kept.
    cspkit.distributed.ProcessesDiffer
        If the weights or masks of the processes are not equal. They are compared at the start,
        every 50 steps and at the end; the message names the step.
    """
    steps, state_every = count("steps", steps), count("state_every", state_every)
    mu, rate = positive("mu", mu, zero=True), positive("rate", rate)
    clip = clip if clip == math.inf else positive("clip", clip)
    one_of("schedule", schedule, SCHEDULES)
    accumulate = count("accumulate", accumulate)
    if autocast is not None:
        one_of("autocast", autocast, ("bf16",))
    check_task(task)
    _check(model, task, reference, mu, rng, pruner, accumulate)
    watchers = [on_step] if callable(on_step) else list(on_step or ())
    for watch in watchers:
        if not callable(watch):
            raise ArgumentError(f"on_step has {watch!r}: expected a callable that takes a row")

    parameters = [p for p in model.parameters() if p.requires_grad]
    adam = partial(torch.optim.Adam, fused=True)
    if optimizer is not None and not callable(optimizer):
        raise ArgumentError(
            f"optimizer is {optimizer!r}: expected a class such as torch.optim.SGD, or a function "
            "that returns an optimizer for `(parameters, lr=rate)`"
        )
    update = _optimizer(optimizer or adam, parameters, rate)
    peaks = [group["lr"] for group in update.param_groups]
    device = next(model.parameters()).device
    dense, pruner = pruner is None, pruner or Pruner()
    parts = {f"watcher{i}": w for i, w in enumerate(watchers) if hasattr(w, "state")}
    if not dense:
        parts["pruner"] = pruner
    run = {"steps": steps, "mu": mu, "rate": rate, "schedule": schedule, "clip": clip}
    run |= {"autocast": autocast}
    if distributed.world() > 1 or state_file is not None:
        run |= _inputs(reference, task, rng)
    state = RunState(state_file, state_every, model, update, parts, run)
    precision = partial(torch.autocast, device.type, torch.bfloat16)
    pruner.attach(update)
    model.train()
    try:
        with state.held(), distributed.sharded(task):
            log = state.load()
            start = {"the call of train": run, "the number of steps done": len(log)}
            distributed.check_same("before training", start)
            distributed.compare("before training", model, pruner)
            loss_of = distributed.loss_of(task, model)
            batches = remaining_batches(task, rng, len(log))
            if log:
                for watch in watchers:
                    if hasattr(watch, "resume"):
                        watch.resume(log)
            remaining = range(len(log), steps)
            if distributed.rank() == 0:
                remaining = progress(remaining, "training" if dense else "pruning")
            for step in remaining:
                pieces, weights = distributed.parts(task, next(batches), accumulate)
                update.zero_grad()
                loss = divergence = 0.0
                with pruner.sparse():
                    for i, piece in enumerate(pieces):
                        piece = on_device(piece, device)
                        with distributed.averaging(loss_of, now=i == len(pieces) - 1):
                            with precision() if autocast else nullcontext():
                                L, D = _terms(loss_of, piece, task, reference, mu)
                            of_loss, of_D = weights()[i]
                            L, D = of_loss * L, of_D * D
                            (L + mu * D).backward()
                        loss, divergence = loss + L.detach(), divergence + D.detach()
                distributed.check_gradients(model)
                norm = nn.utils.clip_grad_norm_(parameters, clip)
                loss, divergence = distributed.mean(loss, divergence)
                measured = {"loss": loss, "divergence": divergence, "norm of the gradient": norm}
                for quantity, value in measured.items():
                    if not torch.isfinite(value):
                        raise FloatingPointError(
                            f"the {quantity} of step {step} is {value.item()}; {state.last_good()}"
                        )
                factor = rate_factor(schedule, step, steps)
                for group, peak in zip(update.param_groups, peaks, strict=True):
                    group["lr"] = peak * factor
                update.step()

                row = {
                    "step": step,
                    "loss": loss.item(),
                    "divergence": divergence.item(),
                    "rate": rate * factor,
                    "sparsity": pruner.sparsity,
                    "frozen": float(dense or pruner.debiasing(step)),
                }
                log.append(row)
                if (step + 1) % COMPARE_EVERY == 0:
                    distributed.compare(f"after step {step}", model, pruner)
                stops = [watch(row) for watch in watchers]  # every watcher must see the row
                stops, interrupted = distributed.any_of(any(stops), state.interrupted())
                if stops:
                    break
                state.after_step(log, interrupted)
            state.delete()
        for watch in watchers:
            if hasattr(watch, "finish"):
                watch.finish()
        distributed.compare(f"after step {log[-1]['step']}", model, pruner)
        pruner.finish()
    finally:
        pruner.detach()
        if task.first_batch is not None:
            task.first_batch = 0
    model.eval()
    return log


def rate_factor(schedule: str, step: int, steps: int) -> float:
    """Learning rate of a step as a fraction of its peak.

    With t = step / steps, "one-cycle" rises along a cosine from 1/25 to 1 until t = 0.3 and falls
    along a cosine to zero. "cosine" is (1 + cos(pi t)) / 2, with a linear warm-up until t = 0.2.
    The warm-up protects a trained model: the first updates of Adam are as large as the rate, even
    if the gradient is small. Without the warm-up they would move the model far away.

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


def _check(model, task, reference, mu, rng, pruner, accumulate) -> None:
    check_trainable(model)
    name = type(task).__name__
    if distributed.world() > 1 and (task.shard is None or task.terms is None):
        raise ArgumentError(
            f"task is a {name}, which cannot share batches between {distributed.world()} "
            "processes: expected a task with `shard` and `terms`, see cspkit.training.Task"
        )
    if accumulate > 1 and (task.split is None or task.terms is None):
        raise ArgumentError(
            f"accumulate is {accumulate}, but {name} cannot split batches: expected 1, or a task "
            "with `split` and `terms`, see cspkit.training.Task"
        )
    if isinstance(model, nn.parallel.DistributedDataParallel):
        raise ArgumentError(
            "model is a DistributedDataParallel: expected the model inside it, model.module; the "
            "loop wraps it itself"
        )
    if not isinstance(rng, np.random.Generator):
        raise ArgumentError(f"rng is {rng!r}: expected np.random.default_rng(SEED)")
    if pruner is not None and not isinstance(pruner, Pruner):
        raise ArgumentError(f"pruner is {pruner!r}: expected a cspkit.training.Pruner")
    if mu > 0 and reference is None:
        raise ArgumentError(f"reference is None with mu = {mu}: expected the model to compare with")
    if mu > 0 and task.divergence is None:
        raise ArgumentError(
            f"mu is {mu}, but {name} has no divergence: expected mu=0, or a task "
            "with a method `divergence(reference_outputs, outputs, batch)`"
        )


def _optimizer(make: Callable, parameters: list[nn.Parameter], rate: float) -> Any:
    try:
        update = make(parameters, lr=rate)
    except TypeError as error:
        raise ArgumentError(
            f"optimizer failed with (parameters, lr={rate}): {error}; expected a class such as "
            "torch.optim.SGD, or functools.partial of such a class"
        ) from None
    if not isinstance(update, torch.optim.Optimizer) or isinstance(update, torch.optim.LBFGS):
        raise ArgumentError(
            f"optimizer returned a {type(update).__name__}: expected a torch.optim.Optimizer that "
            "makes a step without a closure"
        )
    held = {id(p) for group in update.param_groups for p in group["params"]}
    if held != {id(p) for p in parameters}:
        raise ArgumentError(
            "optimizer returned an optimizer of other parameters: expected all parameters that it "
            "was given, and no others"
        )
    return update


def _terms(
    loss_of: Callable, batch: Any, task: Task, reference: nn.Module | None, mu: float
) -> tuple[Tensor, Tensor]:
    """Return loss and divergence of a batch."""
    loss, outputs = _loss(loss_of, batch)
    if mu == 0:
        return loss, loss.new_zeros(())
    with torch.no_grad(), evaluating(reference):
        expected = task.reference_outputs(reference, batch)
    return loss, _scalar("divergence", task.divergence(expected, outputs, batch))


def _loss(loss_of: Callable, batch: Any) -> tuple[Tensor, Any]:
    returned = loss_of(batch)
    if not isinstance(returned, (tuple, list)) or len(returned) != 2:
        found = f"a {type(returned).__name__}"
        if isinstance(returned, (tuple, list)):
            found += f" of {len(returned)}"
        raise ArgumentError(f"loss of the task returned {found}: expected the loss and the outputs")
    loss = _scalar("loss", returned[0])
    if not loss.requires_grad:
        raise ArgumentError(
            "loss of the task returned a loss without a gradient: expected requires_grad to be True"
        )
    return loss, returned[1]


def _scalar(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.numel() != 1:
        is_tensor = isinstance(value, Tensor)
        found = f"shape {tuple(value.shape)}" if is_tensor else f"a {type(value).__name__}"
        raise ArgumentError(f"{name} of the task has {found}: expected a scalar tensor")
    return value


def _inputs(reference: nn.Module | None, task: Task, rng: np.random.Generator) -> dict:
    """The inputs that identify a run, for its state file."""
    return {
        "reference": None if reference is None else weights_hash(reference),
        "task": [type(task).__name__, task.settings],
        "generator": generator_state(rng),
    }
