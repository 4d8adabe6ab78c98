"""Fair comparisons: every method, at every sparsity, on every seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Number
from pathlib import Path
from typing import Any

import pandas as pd

from cspkit.arguments import ArgumentError, count, fraction
from cspkit.study.bench import (
    Bench,
    DenseModel,
    as_list,
    check_bench,
    dense_models,
    identified,
    try_out,
)
from cspkit.study.entries import Entry, Run, entry
from cspkit.study.rows import Rows
from cspkit.study.runs import run_all

KEY = ("task", "method", "mu", "sparsity", "steps", "rate", "settings", "seed", "dense")


def compare(
    bench: Bench,
    methods: Sequence[str | Entry],
    sparsities: Sequence[float],
    seeds: Sequence[int],
    steps: int | Sequence[int],
    *,
    out: str | Path,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    jobs: int | None = None,
    metric: str | None = None,
) -> pd.DataFrame:
    """Compare pruning methods that all start from the same dense models.

    All methods of a seed start from the same dense model, see the same batches, and make the same
    number of steps. Each run is a row of `out`, written as soon as the run ends. Rows that are
    there already are not measured again, so a study that was killed continues where it stopped.
    It then ends with the same file as a study that was not killed, except for the times. The
    checksum of the dense model is part of a row's key, so rows of other dense models are never used
    in this study. A row is measured again if the sources that it uses have changed, see
    `cspkit.study.bench.identified`, unless a file same_results.csv beside `out` says that they
    give the same results, see `cspkit.study.rows.read_same`. Two processes may write to one file.

    Parameters
    ----------
    bench : Bench
        Gives the task and the dense model of a seed, see `cspkit.study.bench.Bench`.
    methods : sequence of str or Entry
        Names of pruning methods, as `entry` reads them, and of three baselines: "dense" is the
        dense model itself; "dense+" is the dense model, trained for `steps` more steps;
        "small-dense" is a small dense model with as many weights as a pruned model has left, and
        needs `bench.small`.
    sparsities : sequence of float
        Zeros / prunable weights.
    seeds : sequence of int
    steps : int or sequence of int
        Training steps of each run. With several lengths, each method runs at every length.
    out : str or Path
        CSV file, see `measure` for its columns.
    settings : mapping, optional
        Maps the name of an entry to a dict with `rate`, `mu` and arguments of the method's class,
        as `tuned` returns it. A name that is not in the mapping takes the settings of its method
        with D, or without D, except `mu`. An Entry uses its own settings instead.
    jobs : int, optional
        Number of runs at the same time, each in a process with one torch thread. With None,
        `joblib.parallel_config` decides. Inside `cspkit.study.cluster` all workers of the cluster
        are used instead.
    metric : str, optional
        A key of the dict that the task's `evaluate` returns; smaller is better. The default is the
        first key that is not "loss".

    Returns
    -------
    DataFrame
        The rows that were asked for, sorted.

    Raises
    ------
    ArgumentError
        If an argument is wrong, before any run starts; or if the bench returns different dense
        models for one seed.
    FloatingPointError
        If runs diverged. It is raised after all other runs are measured.

    Warns
    -----
    UserWarning
        If weights stay dense, see `cspkit.pruning.prunable_weights`.
    """
    rows = Rows(out, KEY, metric)
    runs = _runs(bench, methods, sparsities, seeds, steps, settings, jobs)
    missing = _missing(bench, runs, rows)
    if missing:
        metric, _ = try_out(bench, missing, metric)
        rows.check_metric(metric)
    diverged = []
    for run, row in run_all(bench, missing, metric, jobs, "comparing"):
        if isinstance(row, FloatingPointError):
            diverged.append(f"{run}: {row}")
        else:
            rows.add(row)
    if diverged:
        raise FloatingPointError("; ".join(diverged))
    keys = sorted((run.key(bench.name) for run in runs), key=lambda key: tuple(key.values()))
    return pd.DataFrame(rows.get(key) for key in keys)


def missing_runs(
    bench: Bench,
    methods: Sequence[str | Entry],
    sparsities: Sequence[float],
    seeds: Sequence[int],
    steps: int | Sequence[int],
    *,
    out: str | Path,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    jobs: int | None = None,
) -> list[Run]:
    """Return the runs that `compare` would measure, because `out` has no row of them.

    Parameters
    ----------
    bench, methods, sparsities, seeds, steps, out, settings, jobs
        As for `compare`.

    Returns
    -------
    list of Run

    Raises
    ------
    ArgumentError
        If an argument is wrong.
    """
    runs = _runs(bench, methods, sparsities, seeds, steps, settings, jobs)
    return _missing(bench, runs, Rows(out, KEY))


def _runs(bench, methods, sparsities, seeds, steps, settings, jobs) -> list[Run]:
    runs = grid(methods, sparsities, seeds, steps, settings or {})
    check_bench(bench, jobs)
    if any(r.entry.method == "small-dense" for r in runs) and not hasattr(bench, "small"):
        raise ArgumentError(
            "methods has 'small-dense', but the bench has no method `small`: add it"
        )
    return _with_models(runs, dense_models(bench, (run.seed for run in runs), jobs))


def _missing(bench: Bench, runs: Sequence[Run], rows: Rows) -> list[Run]:
    return [run for run in runs if rows.get(run.key(bench.name), run.version) is None]


def grid(
    methods: Sequence[str | Entry],
    sparsities: Sequence[float],
    seeds: Sequence[int],
    steps: int | Sequence[int],
    settings: Mapping[str, Mapping[str, Any]],
) -> list[Run]:
    """List the runs of a comparison, seed by seed.

    Raises
    ------
    ArgumentError
        If an argument is wrong.
    """
    lengths = [steps] if steps is None or isinstance(steps, (str, Number)) else steps
    methods = as_list("methods", methods)
    sparsities = [fraction("an entry of sparsities", s) for s in as_list("sparsities", sparsities)]
    if 1 in sparsities:
        raise ArgumentError("an entry of sparsities is 1.0: expected less than 1")
    seeds = [count("an entry of seeds", seed, least=0) for seed in as_list("seeds", seeds)]
    lengths = [count("steps", length) for length in as_list("steps", lengths)]
    known = {}
    for name, given in settings.items():
        if not isinstance(given, Mapping):
            raise ArgumentError(
                f"settings has {given!r} for {name!r}: expected a dict such as {{'rate': 0.01}}"
            )
        known[entry(name, **given).name] = given
    entries = [m if isinstance(m, Entry) else _tuned_entry(m, known) for m in methods]
    return [
        Run(member, sparsity, seed, length)
        for seed in seeds
        for member in entries
        for length in (lengths if member.method != "dense" else [0])
        for sparsity in (sparsities if member.method not in ("dense", "dense+") else [0.0])
    ]


def _with_models(runs: Sequence[Run], models: Mapping[int, DenseModel]) -> list[Run]:
    """Return each run once, with the checksum of its model."""
    found = [identified(run, models[run.seed]) for run in runs]
    return list({tuple(run.key("").values()): run for run in found}.values())


def _tuned_entry(name: str, settings: Mapping[str, Mapping[str, Any]]) -> Entry:
    """Make an entry with the settings for its name, or else for its method with or without D."""
    plain = entry(name)
    other = f"{name}+D" if plain.mu == 0 else plain.method
    of_other = {n: v for n, v in settings.get(other, {}).items() if n != "mu"}
    return entry(name, **settings.get(name, of_other))
