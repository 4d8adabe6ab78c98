"""The base class of learning tasks, and what a loop does with a task and its batches."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from cspkit.arguments import ArgumentError


class Task:
    """Base of all learning tasks: batches, a loss, and metrics.

    A task must have `batches` and `loss`. The other members have defaults.

    Attributes
    ----------
    settings : dict
        Values that identify this task among others of its class. A run can be resumed only if they
        have not changed.
    divergence : callable or None
        `divergence(reference_outputs, outputs, batch)` returns the scalar D, the compression
        error of the outputs. With None, the task can be trained and pruned only with mu = 0.
    errors : callable or None
        `errors(model, split)` returns two integer arrays: the numbers of errors and of words in
        each utterance of a part. `cspkit.study` computes intervals from them.
    shard : tuple of int or None
        Number of this process and of all processes that train together: (0, 1) for one process.
        `cspkit.training.train` sets it, and `batches("train", rng)` must then give this process its
        share of each batch. The whole batches must not depend on the number of processes. With
        None, several processes cannot train together.
    first_batch : int or None
        Number of the first batch of `batches("train", rng)`, normally 0. `cspkit.training.train`
        sets it if a run goes on after an interruption. With None, the batches of the steps that
        are done are drawn again and dropped.
    terms : callable or None
        `terms(batch)` returns two numbers: `loss` is a mean over the first number of terms, and
        `divergence` a mean over the second one. Shares and parts of a batch may differ in size, and
        these numbers are their weights. Needed for several processes, and for `split`.
    split : callable or None
        `split(batch, n)` returns a list of at most n batches, the parts of a batch. With None,
        gradients cannot be accumulated.
    """

    settings: ClassVar[dict[str, object]] = {}
    divergence: Callable[[Any, Any, Any], Tensor] | None = None
    errors: Callable[[nn.Module, str], tuple[np.ndarray, np.ndarray]] | None = None
    shard: tuple[int, int] | None = None
    first_batch: int | None = None
    terms: Callable[[Any], tuple[float, float]] | None = None
    split: Callable[[Any, int], list[Any]] | None = None

    def batches(self, split: str, rng: np.random.Generator) -> Iterable[Any]:
        """Return the batches of a part: "train", "dev" or "test".

        When the batches of "train" end, the loop calls this method again. The batches of the other
        parts must end.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method `batches(split, rng)`")

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Any]:
        """Return the scalar training loss, and the outputs of the model for `divergence`."""
        raise NotImplementedError(f"{type(self).__name__} needs a method `loss(model, batch)`")

    def reference_outputs(self, model: nn.Module, batch: Any) -> Any:
        """Return the outputs of the reference model for `divergence`.

        By default these are the outputs that `loss` returns. A task may override this method to
        compute only what D compares, without a loss.
        """
        return self.loss(model, batch)[1]

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Return the metrics of one part; smaller is better. Rates are fractions, not per cent.

        The default is "loss", the mean loss of the batches. By default `cspkit.study.tune` ranks
        by this loss.
        """
        rng, device = np.random.default_rng(0), next(model.parameters()).device
        with torch.no_grad(), evaluating(model):
            losses = [
                float(self.loss(model, on_device(batch, device))[0])
                for batch in self.batches(split, rng)
            ]
        if not losses:
            raise ArgumentError(
                f"batches of {type(self).__name__} gave nothing for {split!r}: expected at least "
                "one batch"
            )
        return {"loss": float(np.mean(losses))}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode inside this block."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def check_task(task: Task) -> None:
    """Refuse an object that is not a task.

    Raises
    ------
    ArgumentError
        If `task` is a class, or not an instance of `Task`.
    """
    if isinstance(task, type):
        raise ArgumentError(f"task is the class {task.__name__}: expected an object of this class")
    if not isinstance(task, Task):
        raise ArgumentError(
            f"task is a {type(task).__name__}: expected an object of a subclass of "
            "cspkit.training.Task"
        )


def on_device(batch: Any, device: torch.device) -> Any:
    """Move a batch to a device: an object with `to`, or a tuple, list or dict of such objects."""
    if hasattr(batch, "to"):
        return batch.to(device)
    if isinstance(batch, dict):
        return {key: on_device(part, device) for key, part in batch.items()}
    if isinstance(batch, (tuple, list)):
        parts = [on_device(part, device) for part in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch


def remaining_batches(task: Task, rng: np.random.Generator, done: int) -> Iterator[Any]:
    """Yield the batches of the steps that are not done, without end."""
    if done == 0 or task.first_batch is None:
        return itertools.islice(_without_end(task, rng), done, None)
    task.first_batch = done
    return _without_end(task, rng)


def _without_end(task: Task, rng: np.random.Generator) -> Iterator[Any]:
    """Yield the batches of "train" again and again.

    A loader that shuffles draws its order from torch's generator when a pass begins. Here the order
    depends only on `rng` and the number of the pass, so that a resumed run sees the same batches.
    """
    digest = hashlib.sha256(generator_state(rng).encode()).digest()
    for number in itertools.count():
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int.from_bytes(digest[:7]) + number)
            batches = task.batches("train", rng)
            if not isinstance(batches, Iterable):
                raise ArgumentError(
                    f"batches of {type(task).__name__} returned a {type(batches).__name__}: "
                    "expected an iterable of batches"
                )
            batches = iter(batches)
            first = list(itertools.islice(batches, 1))
        if not first:
            raise ArgumentError(
                f"batches of {type(task).__name__} gave nothing for 'train': expected batches in "
                "every call"
            )
        yield from first
        yield from batches


def generator_state(rng: np.random.Generator) -> str:
    """Return the state of a generator as text."""
    return json.dumps(rng.bit_generator.state, default=lambda array: array.tolist())


def kl_divergence(reference_logits: Tensor, logits: Tensor) -> Tensor:
    """Mean over cells of KL(p_reference || p), in float32 or a higher precision.

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
    log_p, log_reference = (
        t.log_softmax(dim=-1, dtype=torch.promote_types(t.dtype, torch.float32))
        for t in (logits, reference_logits)
    )
    terms = log_reference.exp() * (log_reference - log_p)
    terms = terms.masked_fill(log_reference == -math.inf, 0.0)
    return terms.sum() / max(1, logits[..., 0].numel())
