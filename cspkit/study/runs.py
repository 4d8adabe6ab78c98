"""The runs of a study: train and measure each run, in parallel processes if asked."""

from __future__ import annotations

import math
import multiprocessing
import os
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import joblib
import numpy as np
import torch
from torch import nn

from cspkit.arguments import ArgumentError
from cspkit.modules import copied, unwrapped
from cspkit.progress import progress
from cspkit.pruning import prunable_weights, prune
from cspkit.study.bench import (
    Bench,
    error_counts,
    facts,
    figures,
    identified,
    task_and_model,
)
from cspkit.study.entries import Run
from cspkit.study.rows import pack_counts
from cspkit.training import Task, train


def measure(bench: Bench, run: Run, metric: str | None = None, test: bool = True) -> dict[str, Any]:
    """Train one model and measure it. Two calls give the same row, except for the times.

    The model is measured in evaluation mode.

    Parameters
    ----------
    bench : Bench
    run : Run
        As `cspkit.study.bench.identified` returns it.
    metric : str, optional
        Name of an error rate that the task's `evaluate` returns. The default is the first name that
        is not "loss". If the task has a method `errors`, see `cspkit.training.Task`, the metric of
        the test part is sum(errors) / sum(words) instead.
    test : bool
        Whether the test part is measured. Tuning does not use the test part.

    Returns
    -------
    dict
        `Run.key`, then `dev_METRIC`, `test_METRIC`, `dev_loss` (nan if there is none),
        `nonzeros` (prunable weights that are not zero), `parameters` (all parameters that are not
        zero), `seconds` and `processor_seconds` of training, `fold`, `version` of the run, and the
        `errors` and `words` of the test utterances as text, see `cspkit.study.pack_counts`. The
        text is empty if the task counts no errors. If `test` is false, `test_METRIC`, `errors` and
        `words` are missing.

    Raises
    ------
    ArgumentError
        If the task has no such metric; if the bench returns another dense model than before; or if
        the sources are others than before.
    FloatingPointError
        If the training diverges, or if the metric of the dev part is not finite.
    """
    if multiprocessing.parent_process() is not None:
        os.environ["CSPKIT_PROGRESS"] = "0"  # the parent process shows one bar for all runs
    task, dense = task_and_model(bench, run.seed)
    here = identified(run, facts(bench, run.seed, task, dense))
    if here.dense != run.dense:
        raise ArgumentError(
            f"bench returned another dense model for seed {run.seed} than before: expected the "
            "same one in every call; set the random seed of the training, or load the model from "
            "a file"
        )
    if here.version != run.version:
        raise ArgumentError(
            f"the sources that {type(task).__name__} and {run} use are not those with which the "
            "study began: use the same on every machine, and change nothing while a study runs"
        )
    clock, processor = time.perf_counter(), time.process_time()
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=__name__)  # try_out has shown these warnings
        torch.manual_seed(run.seed)
        model = _trained(bench, run, task, dense)
        weights = prunable_weights(model)
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    if hasattr(bench, "keep"):
        bench.keep(run, model)
    metric, rate, loss = figures(task, model, "dev", metric)
    if not math.isfinite(rate):
        raise FloatingPointError(f"{metric} on dev is {rate}")
    row = run.key(bench.name) | {f"dev_{metric}": rate}
    counts = {}
    if test and task.errors is not None:
        errors, words = error_counts(task, model, "test")
        row[f"test_{metric}"] = float(errors.sum() / words.sum())
        counts = {"errors": pack_counts(errors), "words": pack_counts(words)}
    elif test:
        row[f"test_{metric}"] = figures(task, model, "test", metric)[1]
        counts = {"errors": "", "words": ""}
    return row | {
        "dev_loss": loss,
        "nonzeros": sum(int(w.count_nonzero()) for w in weights.values()),
        "parameters": sum(int(p.count_nonzero()) for p in model.parameters()),
        "seconds": round(clock, 2),
        "processor_seconds": round(processor, 2),
        "fold": run.fold,
        "version": run.version,
        **counts,
    }


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
    """Return the number of parameters, biases included, that pruning leaves in a model."""
    prunable = sum(w.numel() for w in prunable_weights(model).values())
    return sum(p.numel() for p in model.parameters()) - round(sparsity * prunable)


def run_all(
    bench: Bench,
    runs: Iterable[Run],
    metric: str | None,
    jobs: int | None,
    label: str,
    test: bool = True,
) -> Iterator[tuple[Run, dict[str, Any] | FloatingPointError]]:
    """Measure runs, `jobs` of them at a time. Yield each run and its row when the run ends.

    If a run diverges, its error is yielded in place of its row, and the other runs go on.

    Parameters
    ----------
    bench, metric, test
        As for `measure`.
    runs : iterable of Run
    jobs : int, optional
        Number of processes; -1 for one per processor. The default is what
        `joblib.parallel_config` sets; without such a context, the runs go one by one. Inside
        `cspkit.study.cluster` all workers are used instead.
    label : str
        Label of the progress bar.
    """
    runs = list(runs)
    parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")
    outcomes = parallel(joblib.delayed(_outcome)(bench, run, metric, test) for run in runs)
    yield from progress(outcomes, label, total=len(runs))


def _outcome(
    bench: Bench, run: Run, metric: str | None, test: bool
) -> tuple[Run, dict[str, Any] | FloatingPointError]:
    try:
        return run, measure(bench, run, metric, test)
    except FloatingPointError as error:
        return run, error
