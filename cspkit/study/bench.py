"""The task and the dense model of each seed, and the checks before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, Protocol

import joblib
import numpy as np
from torch import nn

from cspkit.arguments import ArgumentError
from cspkit.modules import check_finite, check_trainable, copied, unwrapped
from cspkit.pruning import PRUNERS, prunable_weights
from cspkit.resume import weights_hash
from cspkit.study.entries import Run
from cspkit.study.version import sources_version
from cspkit.training import Task, check_task, evaluating


class Bench(Protocol):
    """Gives the task and the dense model of a seed.

    A bench is sent to other processes, so it must be picklable: use a small dataclass, not a
    closure. If "small-dense" is compared, the bench also needs a method
    `small(seed, n_weights, steps)`. This method trains a model of about `n_weights` weights from
    scratch, for `steps` more steps than the dense model, and returns it. If several seeds have the
    same test part, it needs a method `fold(seed)` that returns the name of the test part. Without
    this method every seed is a fold of its own. A method `keep(run, model)` is called with every
    trained model of a study and its `cspkit.study.entries.Run`.
    """

    name: str  # name of the task; the first column of every row

    def __call__(self, seed: int) -> tuple[Task, nn.Module]:
        """Return the task and the trained dense model of a seed. Equal seeds give equal models."""


def check_bench(bench: Bench, jobs: int | None) -> None:
    """Check that a bench has a name and can be called, and that `jobs` is a number of processes.

    Raises
    ------
    ArgumentError
        If a check fails.
    """
    if not callable(bench) or not isinstance(getattr(bench, "name", None), str):
        raise ArgumentError(
            f"bench is {bench!r}: expected an object that has a name and can be called with a seed"
        )
    whole = isinstance(jobs, Integral) and not isinstance(jobs, bool)
    if jobs is not None and (not whole or jobs == 0 or jobs < -1):
        raise ArgumentError(
            f"jobs is {jobs!r}: expected a whole number >= 1, -1 for one process per processor, "
            "or None"
        )


def as_list(name: str, values: Any) -> list:
    """Return a sequence with at least one entry as a list.

    Raises
    ------
    ArgumentError
        If `values` is no sequence, or is empty. The message names the argument.
    """
    if isinstance(values, Iterable) and not isinstance(values, (str, bytes, Mapping)):
        listed = list(values)
        if listed:
            return listed
    raise ArgumentError(f"{name} is {values!r}: expected a sequence with at least one entry")


@dataclass(frozen=True)
class DenseModel:
    """Facts about the dense model of a seed, needed before a study looks for recorded rows.

    Attributes
    ----------
    checksum : str
        The first 12 hexadecimal digits of the SHA-256 of the weights.
    task_module : str
        Name of the module of the task's class.
    fold : str
        Name of the test part of the seed; the seed itself if the bench names no folds.
    """

    checksum: str
    task_module: str
    fold: str


def dense_models(bench: Bench, seeds: Iterable[int], jobs: int | None) -> dict[int, DenseModel]:
    """Call the bench once for each seed, and return facts about the dense models.

    Raises
    ------
    ArgumentError
        If the bench does not return a task and a model that can be trained.
    """
    seeds = sorted(set(seeds))
    found = joblib.Parallel(n_jobs=jobs)(joblib.delayed(_dense)(bench, seed) for seed in seeds)
    return dict(zip(seeds, found, strict=True))


def _dense(bench: Bench, seed: int) -> DenseModel:
    return facts(bench, seed, *task_and_model(bench, seed))


def facts(bench: Bench, seed: int, task: Task, dense: nn.Module) -> DenseModel:
    """Return the facts about the dense model of a seed."""
    fold = bench.fold(seed) if hasattr(bench, "fold") else seed
    return DenseModel(checksum(dense), type(task).__module__, str(fold))


def identified(run: Run, model: DenseModel) -> Run:
    """Return a run with the checksum of its dense model, its fold and the version of its sources.

    The version covers the training loop, the module of the task, the module of the pruning method,
    and what they import from the same packages, see `sources_version`.
    """
    modules = ["cspkit.training", model.task_module]
    if run.entry.method in PRUNERS:
        modules.append(PRUNERS[run.entry.method].__module__)
    version = sources_version(*modules)
    return replace(run, dense=model.checksum, fold=model.fold, version=version)


def try_out(bench: Bench, runs: Sequence[Run], metric: str | None) -> tuple[str, float]:
    """Check task, model and settings on one seed, before the long training.

    The dense model is evaluated on the dev part, and the pruner of each run of the seed is made.

    Parameters
    ----------
    bench : Bench
    runs : sequence of Run
    metric : str, optional
        As for `measure`.

    Returns
    -------
    metric : str
    loss : float
        Loss of the dense model on the dev part; nan if the task returns no loss.

    Raises
    ------
    ArgumentError
        If the model cannot be pruned or copied, if the task lacks the metric or a divergence that
        an entry needs, or if a setting is out of range.
    """
    seed = runs[0].seed
    task, dense = task_and_model(bench, seed)
    check_finite(dense)
    weights = prunable_weights(dense)
    copied(unwrapped(dense))  # every method copies it: raise now if that fails
    metric, rate, loss = figures(task, dense, "dev", metric)
    if not math.isfinite(rate):
        raise ArgumentError(
            f"evaluate of {type(task).__name__} returned {rate} as {metric!r}: expected a finite "
            "number"
        )
    if task.errors is not None:
        error_counts(task, dense, "dev")
    for run in runs:
        member = run.entry
        if member.mu > 0 and task.divergence is None:
            raise ArgumentError(
                f"methods has {member.name!r}, which needs D, but {type(task).__name__} has no "
                f"divergence: expected a task with one, or the method {member.method!r}"
            )
        if run.seed != seed or member.method not in PRUNERS:
            continue
        copies = {name: nn.Parameter(w.detach().clone()) for name, w in weights.items()}
        try:
            PRUNERS[member.method](copies, run.sparsity, run.steps, **member.settings)
        except ArgumentError as error:
            raise ArgumentError(f"{member.name} at sparsity {run.sparsity}: {error}") from None
    return metric, loss


def task_and_model(bench: Bench, seed: int) -> tuple[Task, nn.Module]:
    """Return the task and the dense model of a seed."""
    returned = bench(seed)
    parts = returned if isinstance(returned, (tuple, list)) else [returned]
    if len(parts) != 2 or not isinstance(parts[1], nn.Module):
        kinds = " and ".join(type(part).__name__ for part in parts)
        raise ArgumentError(f"bench returned {kinds}: expected a task and its dense model")
    check_task(parts[0])
    check_trainable(parts[1])
    return tuple(parts)


def checksum(model: nn.Module) -> str:
    """Return the checksum of a model, see `DenseModel`."""
    return weights_hash(unwrapped(model))[:12]


def figures(
    task: Task, model: nn.Module, split: str, metric: str | None
) -> tuple[str, float, float]:
    """Evaluate a model. Return the metric's name and value, and the loss (nan if there is none)."""
    with evaluating(model):
        returned = task.evaluate(model, split)
    if not isinstance(returned, Mapping) or not returned:
        raise ArgumentError(
            f"evaluate of {type(task).__name__} returned {returned!r}: expected a dict such as "
            "{'error': 0.1}"
        )
    if metric is None:
        metric = next((name for name in returned if name != "loss"), "loss")
    if metric not in returned:
        raise ArgumentError(f"metric is {metric!r}: expected one of {', '.join(returned)}")
    values = {name: returned.get(name, math.nan) for name in (metric, "loss")}
    for name, value in values.items():
        try:
            values[name] = float(value)
        except (RuntimeError, TypeError, ValueError):
            raise ArgumentError(
                f"evaluate of {type(task).__name__} returned a {type(value).__name__} as {name!r}: "
                "expected a number"
            ) from None
    return metric, values[metric], values["loss"]


def error_counts(task: Task, model: nn.Module, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of errors and of words in each utterance, two arrays of shape (n,)."""
    with evaluating(model):
        returned = task.errors(model, split)
    if not isinstance(returned, (tuple, list)) or len(returned) != 2:
        returned = returned, None
    errors, words = (np.asarray(counts) for counts in returned)
    kinds, shapes = {errors.dtype.kind, words.dtype.kind}, {errors.shape, words.shape}
    if not kinds <= set("iub") or len(shapes) > 1 or errors.ndim != 1 or not words.any():
        raise ArgumentError(
            f"errors of {type(task).__name__} returned {errors.dtype} {errors.shape} and "
            f"{words.dtype} {words.shape}: expected two arrays of whole numbers, the errors and "
            "the words of each utterance, with at least one word"
        )
    return errors.astype(np.int64), words.astype(np.int64)
