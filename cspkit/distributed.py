"""One training run by several processes, on one machine or many.

Each process computes its share of every batch. DistributedDataParallel averages the gradients, so
all processes make the same step, and their weights and masks stay the same. `torchrun` starts the
processes, and `session` connects them. Without a process group the functions here change nothing.
"""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cspkit.arguments import ArgumentError
from cspkit.pruner import Pruner
from cspkit.task import Task
from cspkit.tensors import bytes_of

FROM_TORCHRUN = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
# The argument of DDP that sends all buffers in every forward pass; renamed in torch 2.13.
SENT_BUFFERS = "forward_sync_buffers"
if SENT_BUFFERS not in inspect.signature(DistributedDataParallel).parameters:
    SENT_BUFFERS = "broadcast_buffers"
PATIENCE = timedelta(minutes=30)  # that a process waits for the others


class ProcessesDiffer(RuntimeError):  # noqa: N818
    """The processes of a run no longer hold the same weights or masks."""


def connected() -> bool:
    """Return whether this process has a process group of torch.distributed."""
    return dist.is_available() and dist.is_initialized()


def world() -> int:
    """Return the number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if connected() else 1


def rank() -> int:
    """Return the number of this process. Process 0 prints and writes files."""
    return dist.get_rank() if connected() else 0


@contextmanager
def session(device: str = "cpu") -> Iterator[str]:
    """Connect the processes that torchrun started, while the block runs.

    The processes exchange tensors by nccl if they compute on GPUs, and by gloo otherwise. Without
    torchrun nothing happens. If the block raises an error, the process should end; torchrun then
    ends the others.

    Parameters
    ----------
    device : str
        "cpu" or "cuda".

    Yields
    ------
    str
        The device of this process. On GPUs each process of a machine has its own.

    Raises
    ------
    ArgumentError
        If torch was built without torch.distributed, if one GPU is named for all processes, or if
        the machine has fewer GPUs than processes.
    """
    if not os.environ.keys() >= FROM_TORCHRUN:
        yield device
        return
    if not dist.is_available():
        raise ArgumentError("torchrun was used, but torch was built without torch.distributed")
    gpu = device.startswith("cuda")
    if gpu:
        local, present = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if device != "cuda" or local >= present:
            raise ArgumentError(
                f"device is {device!r} for process {local} of this machine, which has {present} "
                "GPUs: expected 'cuda' and a GPU for each process"
            )
        device = f"cuda:{local}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if gpu else "gloo", timeout=PATIENCE)
    yield device
    dist.destroy_process_group()


@contextmanager
def sharded(task: Task) -> Iterator[None]:
    """Let a task give each process its share of every batch, while the block runs."""
    if world() == 1:
        yield
        return
    before, task.shard = task.shard, (rank(), world())
    try:
        yield
    finally:
        task.shard = before


class _Loss(nn.Module):
    """The loss of a task as the forward pass of a module, so that DDP sees every forward pass."""

    def __init__(self, task: Task, model: nn.Module) -> None:
        super().__init__()
        self.model, self.compute = model, task.loss

    def forward(self, batch: Any) -> tuple[Tensor, Any]:
        return self.compute(self.model, batch)


def loss_of(task: Task, model: nn.Module) -> Callable[[Any], tuple[Tensor, Any]]:
    """Return the function of a batch that computes `task.loss(model, batch)`.

    With several processes, its backward pass averages the gradients over the processes. Buffers
    are exchanged by `compare`.
    """
    if not connected():
        return partial(task.loss, model)
    return DistributedDataParallel(_Loss(task, model), **{SENT_BUFFERS: False})


def averaging(loss: Callable, now: bool) -> AbstractContextManager:
    """Average gradients in the backward pass of this block, or leave that to a later pass."""
    return nullcontext() if now or not connected() else loss.no_sync()


def check_gradients(model: nn.Module) -> None:
    """Refuse a model with a parameter that got no gradient: DDP would wait for it.

    Raises
    ------
    ArgumentError
        The message names the parameter.
    """
    for name, parameter in model.named_parameters() if connected() else ():
        if parameter.requires_grad and parameter.grad is None:
            raise ArgumentError(
                f"model has {name!r}, which got no gradient: expected a loss that uses every "
                "parameter, since several processes train together; freeze this one with "
                "requires_grad_(False)"
            )


def total(*values: float) -> list[float]:
    """Return the sums of some numbers over all processes."""
    if not connected():
        return list(values)
    sums = torch.tensor(values, dtype=torch.float64, device=_device())
    dist.all_reduce(sums)
    return sums.tolist()


def parts(task: Task, batch: Any, n: int) -> tuple[list[Any], Callable[[], list[list[float]]]]:
    """Split the share of a batch that this process has; return its parts and their weights.

        weight of a part = W m / (sum of m over all parts of all processes)    with W processes

    m is the number of terms of the part, see `Task.terms`. It may be 0. The sum over parts of
    weight * mean of the part, averaged over processes, is the mean over all terms of the batch.

    Parameters
    ----------
    task : Task
    batch : object
    n : int
        Number of parts.

    Returns
    -------
    parts : list
        At most n batches.
    weights : callable
        Returns for each part the weights of its loss and of its divergence. It waits for the other
        processes, so call it after the forward pass.
    """
    found = [batch] if n == 1 else task.split(batch, n)
    if n == 1 and world() == 1:
        return found, lambda: [[1.0, 1.0]]
    terms = np.array([task.terms(part) for part in found], dtype=float)
    if not connected():
        return found, lambda: (terms / np.maximum(terms.sum(axis=0), 1)).tolist()
    sums = torch.tensor(terms.sum(axis=0), device=_device())
    sent = dist.all_reduce(sums, async_op=True)

    def weights() -> list[list[float]]:
        sent.wait()
        return (world() * terms / np.maximum(sums.cpu().numpy(), 1)).tolist()

    return found, weights


def mean(*scalars: Tensor) -> tuple[Tensor, ...]:
    """Return the means of some scalar tensors over all processes."""
    if not connected():
        return scalars
    sums = total(*(scalar.item() for scalar in scalars))
    return tuple(torch.tensor(s / world(), dtype=torch.float64) for s in sums)


def average_(tensor: Tensor) -> None:
    """Replace a tensor by its mean over all processes."""
    if connected():
        dist.all_reduce(tensor)
        tensor /= world()


def any_of(*flags: bool) -> list[bool]:
    """Return for each flag whether it is true in any process."""
    return [n > 0 for n in total(*flags)]


def barrier() -> None:
    """Wait for all other processes."""
    total(0.0)


def check_same(when: str, facts: dict[str, object]) -> None:
    """Compare facts between all processes.

    Parameters
    ----------
    when : str
        For the message, such as "after step 49".
    facts : dict
        Tensors, or objects with a `repr`. All processes must give the same names.

    Raises
    ------
    ProcessesDiffer
        The message says when, and names the first fact that differs.
    """
    if not connected():
        return
    digests = [int.from_bytes(hashlib.sha256(_bytes(f)).digest()[:7]) for f in facts.values()]
    extremes = torch.tensor([digests, [-d for d in digests]], device=_device())
    dist.all_reduce(extremes, dist.ReduceOp.MAX)
    for name, most, least in zip(facts, *extremes.tolist(), strict=True):
        if most != -least:
            raise ProcessesDiffer(f"{when}, {name} is not the same in all {world()} processes")


def compare(when: str, model: nn.Module, pruner: Pruner) -> None:
    """Compare the weights of the model, and all that the pruner remembers, between all processes.

    Before that, all processes get the buffers of process 0, such as the running means of a
    normalisation. Each process updates its buffers by its own share of the batches.

    Raises
    ------
    ProcessesDiffer
        See `check_same`.
    """
    if not connected():
        return
    for buffer in model.buffers():
        dist.broadcast(buffer, 0)
    check_same(when, model.state_dict() | pruner.state())


def _bytes(fact: object) -> bytes:
    return bytes_of(fact) if isinstance(fact, Tensor) else repr(fact).encode()


def _device() -> torch.device:
    """The device of tensors that the processes exchange."""
    if dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
