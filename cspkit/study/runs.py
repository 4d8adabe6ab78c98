"""One run of a study: what it is (Entry, Run) and how it is measured."""

from __future__ import annotations

import inspect
import json
import math
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Protocol

import joblib
import numpy as np
import torch
from torch import nn

import cspkit.threads  # noqa: F401
from cspkit import __version__
from cspkit.arguments import ArgumentError, positive
from cspkit.modules import check_finite, check_trainable, copied, unwrapped
from cspkit.progress import progress
from cspkit.pruning import PRUNERS, prunable_weights, prune
from cspkit.pruning.prune import check_settings
from cspkit.resume import weights_hash
from cspkit.study.rows import pack_counts
from cspkit.study.statistics import UNPRUNED
from cspkit.training import Task, check_task, evaluating, train


class Bench(Protocol):
    """Gives the task and the dense model of a seed.

    A bench is sent to other processes, so it must be picklable: use a small dataclass, not a
    closure. If "small-dense" is compared, the bench also needs a method
    `small(seed, n_weights, steps)`. It returns a dense model of about `n_weights` weights, trained
    from scratch, for `steps` more steps than the dense model.
    """

    name: str  # name of the task; the first column of every row

    def __call__(self, seed: int) -> tuple[Task, nn.Module]:
        """Return the task of a seed and its trained dense model, the same ones in every call."""


@dataclass(frozen=True)
class Entry:
    """One of the methods that a study compares, with its settings.

    Attributes
    ----------
    name : str
        Name of the method: gmp, gmp+D, csp, csp-D, ... "+D" means that the compression-error term D
        is added to a method that does not have it by default; "-D" means that D is removed from a
        method that has it.
    method : str
        A name in `cspkit.pruning.PRUNERS`, or "dense", "dense+", "small-dense".
    mu : float
        Weight of D; 0 without D.
    rate : float
        Peak learning rate; 0 if the study does not train the model.
    settings : dict
        Arguments of the method's class.
    """

    name: str
    method: str
    mu: float
    rate: float
    settings: Mapping[str, Any]


def entry(
    name: str, *, mu: float | None = None, rate: float | None = None, **settings: Any
) -> Entry:
    """Make an Entry from its name, and check it before anything is trained.

    Parameters
    ----------
    name : str
        A method. "NAME+D" and "NAME-D" are the method NAME with and without the compression-error
        term, whatever its default is.
    mu : float, optional
        Weight of D. The default is the weight that the method's class states. If that is 0 and the
        name asks for D, the default is 1.
    rate : float, optional
        Peak learning rate. The default is that of `prune`, and for "dense+" that of `train`.
    **settings
        Arguments of the method's class.

    Returns
    -------
    Entry
        It has the shortest name: "csp+D" becomes "csp", and "gmp-D" becomes "gmp".

    Raises
    ------
    ArgumentError
        If there is no such method or setting, if a setting cannot be written as JSON, or if `mu`
        contradicts the name.
    """
    if not isinstance(name, str):
        raise ArgumentError(f"method is {name!r}: expected a name, such as 'csp', or an Entry")
    method = name if name in UNPRUNED else name.removesuffix("+D").removesuffix("-D")
    if method not in PRUNERS and name not in UNPRUNED:
        known = ", ".join((*UNPRUNED, *PRUNERS))
        raise ArgumentError(f"method is {name!r}: expected one of {known}, perhaps with +D or -D")
    check_settings(name, method, settings)
    settings = {n: v.item() if isinstance(v, np.generic) else v for n, v in settings.items()}
    try:
        json.dumps(settings)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"{name} has settings {settings!r}: expected numbers, strings, and lists or dicts of "
            f"them ({error})"
        ) from None
    default_mu = 0.0 if method in UNPRUNED else PRUNERS[method].mu
    uses_d = default_mu > 0 if name == method else name.endswith("+D")
    if mu is None:
        mu = (default_mu or 1.0) if uses_d else 0.0
    mu = positive("mu", mu, zero=True)
    if (mu > 0) != uses_d:
        other = f", or the name {method}{'-D' if uses_d else '+D'}" if method in PRUNERS else ""
        raise ArgumentError(f"mu is {mu:g} for {name}: expected {'> 0' if uses_d else '0'}{other}")
    if rate is None:
        trained_by = train if method == "dense+" else prune
        rate = inspect.signature(trained_by).parameters["rate"].default
    rate = 0.0 if method in ("dense", "small-dense") else positive("rate", rate)
    suffix = "" if uses_d == (default_mu > 0) else "+D" if uses_d else "-D"
    return Entry(method + suffix, method, mu, rate, settings)


@dataclass(frozen=True)
class Run:
    """An entry at one sparsity, seed and length.

    Attributes
    ----------
    entry : Entry
    sparsity : float
        Zeros / prunable weights; 0 for "dense" and "dense+".
    seed : int
        The bench gives the task and the dense model of this seed. The batches are drawn with it.
    steps : int
        Training steps; 0 for "dense".
    trial : int, optional
        Number of the trial in a tuning.
    dense : str
        Checksum of the dense model, see `DenseModel`.
    """

    entry: Entry
    sparsity: float
    seed: int
    steps: int
    trial: int | None = None
    dense: str = ""

    def key(self, task: str) -> dict[str, Any]:
        """Columns that identify the row of this run."""
        key = {
            "task": task,
            "method": self.entry.name,
            "mu": self.entry.mu,
            "sparsity": float(self.sparsity),
            "steps": self.steps,
            "rate": self.entry.rate,
            "settings": json.dumps(dict(self.entry.settings), sort_keys=True),
            "seed": self.seed,
            "dense": self.dense,
        }
        return key if self.trial is None else key | {"trial": self.trial}

    def __str__(self) -> str:
        return (
            f"{self.entry.name} at sparsity {self.sparsity}, seed {self.seed}, {self.steps} steps"
        )


def measure(bench: Bench, run: Run, metric: str | None = None, test: bool = True) -> dict[str, Any]:
    """Train one model and measure it. Two calls give the same row, except for the times.

    All figures are taken with the model in evaluation mode.

    Parameters
    ----------
    bench : Bench
    run : Run
        It must have the checksum of its dense model.
    metric : str, optional
        Name of an error rate that the task's `evaluate` returns. The default is the first name that
        is not "loss". If the task has `errors(model, split) -> (errors (n,), words (n,))`, with
        integer counts for each utterance, the metric of the test part is sum(errors) / sum(words).
    test : bool
        Whether the test part is measured. Tuning does not use the test part.

    Returns
    -------
    dict
        `Run.key`, then `dev_METRIC`, `test_METRIC`, `dev_loss` (nan if there is none),
        `nonzeros` (prunable weights that are not zero), `parameters` (all weights that are not
        zero), `seconds` and `processor_seconds` of training, `version`, and the `errors` and
        `words` of the test utterances, see `cspkit.study.rows.pack_counts`.

    Raises
    ------
    ArgumentError
        If the task has no such metric, or if the bench returns another dense model than before.
    FloatingPointError
        If the training diverges.
    """
    if multiprocessing.parent_process() is not None:
        os.environ["CSPKIT_PROGRESS"] = "0"  # the parent process shows one bar for all runs
    task, dense = _ask(bench, run.seed)
    if _checksum(dense) != run.dense:
        raise ArgumentError(
            f"bench returned another dense model for seed {run.seed} than before: expected the "
            "same one in every call; seed its training, or keep the model in a file"
        )
    clock, processor = time.perf_counter(), time.process_time()
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=__name__)  # try_out has shown these warnings
        torch.manual_seed(run.seed)
        model = _trained(bench, run, task, dense)
        weights = prunable_weights(model)
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    metric, rate, loss = _figures(task, model, "dev", metric)
    if not math.isfinite(rate):
        raise FloatingPointError(f"{metric} on dev is {rate}")
    row = run.key(bench.name) | {f"dev_{metric}": rate}
    counts = {}
    if test and task.errors is not None:
        errors, words = _counts(task, model, "test")
        row[f"test_{metric}"] = float(errors.sum() / words.sum())
        counts = {"errors": pack_counts(errors), "words": pack_counts(words)}
    elif test:
        row[f"test_{metric}"] = _figures(task, model, "test", metric)[1]
        counts = {"errors": "", "words": ""}
    return row | {
        "dev_loss": loss,
        "nonzeros": sum(int(w.count_nonzero()) for w in weights.values()),
        "parameters": sum(int(p.count_nonzero()) for p in model.parameters()),
        "seconds": round(clock, 2),
        "processor_seconds": round(processor, 2),
        "version": __version__,
        **counts,
    }


def check_bench(bench: Bench, jobs: int | None) -> None:
    """Check that a bench has a name and can be called, and that `jobs` is a number of processes.

    Raises
    ------
    ArgumentError
        If a check fails.
    """
    if not callable(bench) or not isinstance(getattr(bench, "name", None), str):
        raise ArgumentError(
            f"bench is {bench!r}: expected an object that has a name and is called with a seed"
        )
    whole = isinstance(jobs, Integral) and not isinstance(jobs, bool)
    if jobs is not None and (not whole or jobs == 0):
        raise ArgumentError(
            f"jobs is {jobs!r}: expected a whole number >= 1, -1 for one process per processor, "
            "or None"
        )


def as_list(name: str, values: Any) -> list:
    """Return a sequence with at least one entry as a list.

    Raises
    ------
    ArgumentError
        If `values` is something else. The message names the argument.
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
    has_divergence : bool
        Whether the task has a divergence.
    """

    checksum: str
    has_divergence: bool


def dense_models(bench: Bench, seeds: Iterable[int], jobs: int | None) -> dict[int, DenseModel]:
    """Ask the bench for the dense model of each seed, once.

    Raises
    ------
    ArgumentError
        If the bench does not return a task and a model that can be trained.
    """
    seeds = sorted(set(seeds))
    found = joblib.Parallel(n_jobs=jobs)(joblib.delayed(_dense)(bench, seed) for seed in seeds)
    return dict(zip(seeds, found, strict=True))


def try_out(bench: Bench, runs: Sequence[Run], metric: str | None) -> tuple[str, float]:
    """Check task, model and settings on one seed, before the long training.

    The dense model is evaluated on the dev part, and every pruner of that seed is made once.

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
    task, dense = _ask(bench, seed)
    check_finite(dense)
    weights = prunable_weights(dense)
    copied(unwrapped(dense))  # every method copies it: raise now if that fails
    metric, rate, loss = _figures(task, dense, "dev", metric)
    if not math.isfinite(rate):
        raise ArgumentError(f"evaluate returned {rate} as {metric}: expected a number")
    if task.errors is not None:
        _counts(task, dense, "dev")
    for run in runs:
        member = run.entry
        if member.mu > 0 and task.divergence is None:
            name = f"{member.method}-D" if PRUNERS[member.method].mu else member.method
            raise ArgumentError(
                f"methods has {member.name!r}, which needs D, but {type(task).__name__} has no "
                f"divergence: expected a task with one, or the method {name!r}"
            )
        if run.seed != seed or member.method not in PRUNERS:
            continue
        copies = {name: nn.Parameter(w.detach().clone()) for name, w in weights.items()}
        try:
            PRUNERS[member.method](copies, run.sparsity, run.steps, **member.settings)
        except ArgumentError as error:
            raise ArgumentError(f"{member.name} at sparsity {run.sparsity}: {error}") from None
    return metric, loss


def _ask(bench: Bench, seed: int) -> tuple[Task, nn.Module]:
    """Return the task and the dense model of a seed."""
    returned = bench(seed)
    parts = returned if isinstance(returned, (tuple, list)) else [returned]
    if len(parts) != 2 or not isinstance(parts[1], nn.Module):
        kinds = " and ".join(type(part).__name__ for part in parts)
        raise ArgumentError(f"bench returned {kinds}: expected a task and its dense model")
    check_task(parts[0])
    check_trainable(parts[1])
    return tuple(parts)


def _dense(bench: Bench, seed: int) -> DenseModel:
    task, dense = _ask(bench, seed)
    return DenseModel(_checksum(dense), task.divergence is not None)


def _checksum(model: nn.Module) -> str:
    return weights_hash(unwrapped(model))[:12]


def _figures(
    task: Task, model: nn.Module, split: str, metric: str | None
) -> tuple[str, float, float]:
    """Return the name of the metric, its value, and the loss (nan if the task returns none)."""
    with evaluating(model):
        figures = task.evaluate(model, split)
    if not isinstance(figures, Mapping) or not figures:
        raise ArgumentError(
            f"evaluate of {type(task).__name__} returned {figures!r}: expected a dict such as "
            "{'error': 0.1}"
        )
    if metric is None:
        metric = next((name for name in figures if name != "loss"), "loss")
    if metric not in figures:
        raise ArgumentError(f"metric is {metric!r}: expected one of {', '.join(figures)}")
    values = {name: figures.get(name, math.nan) for name in (metric, "loss")}
    for name, value in values.items():
        try:
            values[name] = float(value)
        except (RuntimeError, TypeError, ValueError):
            raise ArgumentError(
                f"evaluate of {type(task).__name__} returned a {type(value).__name__} as {name!r}: "
                "expected a number"
            ) from None
    return metric, values[metric], values["loss"]


def _counts(task: Task, model: nn.Module, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the errors and the words that the task counts in each utterance."""
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


def _trained(bench: Bench, run: Run, task: Task, dense: nn.Module) -> nn.Module:
    method, rng = run.entry.method, np.random.default_rng(run.seed)
    if method == "dense":
        return dense
    if method == "dense+":
        model = copied(unwrapped(dense))
        train(model, task, run.steps, rng=rng, rate=run.entry.rate, schedule="cosine")
        return model
    if method == "small-dense":
        return bench.small(run.seed, weights_left(dense, run.sparsity), run.steps)
    return prune(
        dense,
        task,
        method,
        run.sparsity,
        steps=run.steps,
        rate=run.entry.rate,
        mu=run.entry.mu,
        rng=rng,
        **run.entry.settings,
    ).model


def weights_left(model: nn.Module, sparsity: float) -> int:
    """Return how many weights, biases included, a model has left after pruning."""
    prunable = sum(w.numel() for w in prunable_weights(model).values())
    return sum(p.numel() for p in model.parameters()) - round(sparsity * prunable)


def run_all(
    runs: Iterable[Run], measured: Callable[[Run], dict[str, Any]], jobs: int | None, label: str
) -> Iterator[tuple[Run, dict[str, Any] | FloatingPointError]]:
    """Measure runs in separate processes. Yield each run with its row as soon as it ends.

    A run that diverges yields its error, and the others go on.

    Parameters
    ----------
    runs : iterable of Run
    measured : callable
        Run -> row. It is sent to the processes.
    jobs : int, optional
        Number of processes; -1 for one per processor. With None, `joblib.parallel_config` sets
        the number and the backend; without such a context the runs go one by one.
    label : str
        Label of the progress bar.
    """
    runs = list(runs)
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")
    outcomes = parallel(joblib.delayed(_outcome)(measured, run) for run in runs)
    yield from progress(outcomes, label, total=len(runs))


def _outcome(measured, run):
    try:
        return run, measured(run)
    except FloatingPointError as error:
        return run, error
