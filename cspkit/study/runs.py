"""One run of a study: what it is (Entry, Run), and how it is measured."""

from __future__ import annotations

import copy
import inspect
import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import joblib
import numpy as np
import torch
from torch import nn

import cspkit.threads  # noqa: F401
from cspkit import __version__
from cspkit.arguments import positive
from cspkit.progress import progress
from cspkit.pruning import PRUNERS, prunable_weights, prune
from cspkit.pruning.prune import check_settings
from cspkit.study.rows import pack_counts
from cspkit.training import Task, train

REFERENCES = ("dense", "dense+", "small-dense")  # what is no pruning method


class Bench(Protocol):
    """Where the task and the dense model of a seed come from.

    It is sent to other processes, so it must pickle: a small dataclass, not a closure. One
    method more may be there, which `small-dense` needs: `small(seed, n_weights, steps)` returns
    a dense model of about `n_weights` weights, trained from scratch for `steps` more steps than
    the dense model was.
    """

    name: str  # of the task, the first column of every row

    def __call__(self, seed: int) -> tuple[Task, nn.Module]:
        """Return the task of a seed and its trained dense model, the same at every call."""


@dataclass(frozen=True)
class Entry:
    """A method with all that it needs to be told, as it takes part in a study.

    Attributes
    ----------
    name : str
        The method, with "+D" where the compression-error term D is added to a method that has
        none of its own, with "-D" where it is taken from one that has: gmp, gmp+D, csp, csp-D.
    method : str
        A name in `cspkit.pruning.PRUNERS`, or "dense", "dense+", "small-dense".
    mu : float
        Weight of D, 0 without it.
    rate : float
        Peak learning rate; 0 where nothing is trained here.
    settings : dict
        Of the method's class.
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
        A method; "NAME+D" and "NAME-D" ask for it with and without the compression-error term,
        whatever the method's own default is.
    mu : float, optional
        Weight of D; that of the method's class, or 1 where this is 0 and D is asked for.
    rate : float, optional
        Peak learning rate; the default of `prune`, for "dense+" that of `train`.
    **settings
        Of the method's class.

    Returns
    -------
    Entry
        Under its shortest name: "csp+D" is "csp", "gmp-D" is "gmp".

    Raises
    ------
    ValueError
        If there is no such method or setting, or `mu` contradicts the name.
    """
    method = name if name in REFERENCES else name.removesuffix("+D").removesuffix("-D")
    if method not in PRUNERS and name not in REFERENCES:
        known = ", ".join((*REFERENCES, *PRUNERS))
        raise ValueError(f"method is {name!r}: expected one of {known}, perhaps with +D or -D")
    check_settings(name, method, settings)
    own = 0.0 if method in REFERENCES else PRUNERS[method].mu
    asked = own > 0 if name == method else name.endswith("+D")
    if mu is None:
        mu = (own or 1.0) if asked else 0.0
    if (mu > 0) != asked:
        other = f", or the name {method}{'-D' if asked else '+D'}" if method in PRUNERS else ""
        raise ValueError(f"mu is {mu!r} for {name}: expected {'> 0' if asked else '0'}{other}")
    positive("mu", mu, zero=True)
    if rate is None:
        trained_by = train if method == "dense+" else prune
        rate = inspect.signature(trained_by).parameters["rate"].default
    if method in ("dense", "small-dense"):
        rate = 0.0
    else:
        positive("rate", rate)
    suffix = "" if asked == (own > 0) else "+D" if asked else "-D"
    return Entry(method + suffix, method, float(mu), float(rate), dict(settings))


@dataclass(frozen=True)
class Run:
    """An entry at one sparsity, seed and length.

    Attributes
    ----------
    entry : Entry
    sparsity : float
        Zeros / prunable weights; 0 for "dense" and "dense+".
    seed : int
        Picks task and dense model from the bench, and seeds the batches.
    steps : int
        Training steps; 0 for "dense".
    trial : int, optional
        Its number in a tuning.
    """

    entry: Entry
    sparsity: float
    seed: int
    steps: int
    trial: int | None = None

    def key(self, task: str) -> dict[str, Any]:
        """What tells its row from all others."""
        key = {
            "task": task,
            "method": self.entry.name,
            "mu": self.entry.mu,
            "sparsity": float(self.sparsity),
            "steps": self.steps,
            "rate": self.entry.rate,
            "settings": json.dumps(dict(self.entry.settings), sort_keys=True),
            "seed": self.seed,
        }
        return key if self.trial is None else key | {"trial": self.trial}

    def __str__(self) -> str:
        return (
            f"{self.entry.name} at sparsity {self.sparsity}, seed {self.seed}, {self.steps} steps"
        )


def measure(bench: Bench, run: Run, metric: str, test: bool = True) -> dict[str, Any]:
    """Train one model and measure it; two calls give the same row, times aside.

    Parameters
    ----------
    bench : Bench
    run : Run
    metric : str
        A key of what the task's `evaluate` returns, a rate of errors. Where the task has
        `errors(model, split) -> (errors (n,), words (n,))`, integer counts for each utterance,
        the metric of the test part is sum(errors) / sum(words).
    test : bool
        Whether the test part is measured. Tuning does not look at it.

    Returns
    -------
    dict
        `Run.key`, then `dev_METRIC`, `test_METRIC`, `dev_loss` (nan where there is none),
        `nonzeros` (prunable weights that are not zero), `parameters` (all that are not zero),
        `seconds` of training by the clock and of the processor, `version`, and the counts of
        errors and words of the test utterances, see `cspkit.study.rows.pack_counts`.

    Raises
    ------
    ValueError
        If the task has no such metric.
    FloatingPointError
        If the training diverges.
    """
    if multiprocessing.parent_process() is not None:
        os.environ["CSPKIT_PROGRESS"] = "0"  # the bar over runs is in the parent process
    task, dense = bench(run.seed)
    clock, processor = time.perf_counter(), time.process_time()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        model = _trained(bench, run, task, dense)
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    dev = _figures(task, model, "dev", metric)
    if not math.isfinite(dev[metric]):
        raise FloatingPointError(f"{metric} on dev is {dev[metric]}")
    row = run.key(bench.name) | {f"dev_{metric}": dev[metric]}
    counts = {}
    if test and hasattr(task, "errors"):
        errors, words = _counts(task, model, "test")
        row[f"test_{metric}"] = float(errors.sum() / words.sum())
        counts = {"errors": pack_counts(errors), "words": pack_counts(words)}
    elif test:
        row[f"test_{metric}"] = _figures(task, model, "test", metric)[metric]
        counts = {"errors": "", "words": ""}
    return row | {
        "dev_loss": dev.get("loss", float("nan")),
        "nonzeros": sum(int((w != 0).sum()) for w in prunable_weights(model).values()),
        "parameters": sum(int((p != 0).sum()) for p in model.parameters()),
        "seconds": round(clock, 2),
        "processor_seconds": round(processor, 2),
        "version": __version__,
        **counts,
    }


def check_bench(bench: Bench) -> None:
    """Refuse what has no name for its rows, or cannot be asked for a seed."""
    if not callable(bench) or not isinstance(getattr(bench, "name", None), str):
        raise ValueError(f"bench is {bench!r}: expected an object with a name, called with a seed")


def check_task(
    task: Task, dense: nn.Module, entries: Iterable[Entry], metric: str
) -> dict[str, float]:
    """Refuse what a bench returned, before minutes of training: no model, metric or divergence.

    Returns the figures of the dense model on dev.
    """
    if not isinstance(dense, nn.Module):
        kinds = f"{type(task).__name__} and {type(dense).__name__}"
        raise ValueError(f"bench returned {kinds}: expected a task and its dense model")
    figures = _figures(task, dense, "dev", metric)
    if not math.isfinite(figures[metric]):
        raise ValueError(f"evaluate returned {figures[metric]} as {metric}: expected a number")
    if hasattr(task, "errors"):
        _counts(task, dense, "dev")
    for one in entries:
        if one.mu > 0 and not callable(getattr(task, "divergence", None)):
            name = f"{one.method}-D" if PRUNERS[one.method].mu else one.method
            raise ValueError(
                f"{one.name} asks for D, and {type(task).__name__} has no divergence: expected "
                f"one, or the method {name!r}"
            )
    return figures


def _figures(task: Task, model: nn.Module, split: str, metric: str) -> dict[str, float]:
    """The metric, and the loss if there is one, that the task's `evaluate` returns, as floats."""
    figures = task.evaluate(model, split)
    if metric not in figures:
        raise ValueError(f"metric is {metric!r}: expected one of {', '.join(figures)}")
    return {name: float(figures[name]) for name in {metric, "loss"} & set(figures)}


def _counts(task: Task, model: nn.Module, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Errors and words that the task counts in each utterance."""
    errors, words = map(np.asarray, task.errors(model, split))
    if errors.shape != words.shape or errors.ndim != 1 or not words.sum() > 0:
        raise ValueError(
            f"errors of the task returned arrays of shapes {errors.shape} and {words.shape}, with "
            f"{words.sum()} words: expected a count of errors and of words for each utterance"
        )
    return errors, words


def _trained(bench: Bench, run: Run, task: Task, dense: nn.Module) -> nn.Module:
    method, rng = run.entry.method, np.random.default_rng(run.seed)
    if method == "dense":
        return dense
    if method == "dense+":
        model = copy.deepcopy(dense)
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
    """Weights of a model, biases and all, that pruning to this sparsity leaves."""
    prunable = sum(w.numel() for w in prunable_weights(model).values())
    return sum(p.numel() for p in model.parameters()) - round(sparsity * prunable)


def run_all(
    runs: Iterable[Run], measured: Callable[[Run], dict[str, Any]], jobs: int | None, label: str
) -> Iterator[tuple[Run, dict[str, Any] | FloatingPointError]]:
    """Measure runs in processes of their own; yield each with its row as soon as it ends.

    A run that diverges yields its error, so that the others go on.

    Parameters
    ----------
    runs : iterable of Run
    measured : callable
        Run -> row; it is sent to the processes.
    jobs : int, optional
        How many at a time, -1 for as many as there are processors. None leaves number and
        backend to `joblib.parallel_config`; without such a context the runs go one by one.
    label : str
        Of the progress bar.
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
