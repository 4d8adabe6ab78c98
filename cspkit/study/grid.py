"""Fair comparisons: every method, at every sparsity, on every seed."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from numbers import Number
from pathlib import Path
from typing import Any

import pandas as pd

from cspkit.arguments import count
from cspkit.pruning import PRUNERS, prunable_weights
from cspkit.study.rows import Rows
from cspkit.study.runs import (
    Bench,
    Entry,
    Run,
    check_bench,
    check_task,
    entry,
    measure,
    run_all,
)  # fmt: skip

KEY = ("task", "method", "mu", "sparsity", "steps", "rate", "settings", "seed")


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
    metric: str = "wer",
) -> pd.DataFrame:
    """Measure pruning methods against one another, all from the same dense models.

    All methods of a seed start from the same checkpoint, see the same batches, and make the same
    number of steps. Each run is a row of `out`, written as it ends; rows that are there are not
    measured again, so a study that was killed goes on where it was, and the file is the same,
    times aside, however often that happened.

    Parameters
    ----------
    bench : Bench
        Gives the task and the dense model of a seed.
    methods : sequence of str or Entry
        Names as `entry` reads them. Beside the pruning methods: "dense" is the checkpoint as it
        is; "dense+" is trained on for as many steps; "small-dense" has as many weights as a
        pruned model has left, and needs `bench.small`.
    sparsities : sequence of float
        Zeros / prunable weights.
    seeds : sequence of int
    steps : int or sequence of int
        Training steps of each run; each method makes all lengths.
    out : str or Path
        CSV file, see `measure` for its columns.
    settings : mapping, optional
        By name of an entry: `rate`, `mu`, and what the method's class takes; what `tuned`
        returns. With "+D" or "-D" a method has its own settings, but for `mu`, where there are
        none under that name. An Entry brings its own.
    jobs : int, optional
        Runs at a time, each a process with one torch thread; None leaves it to
        `joblib.parallel_config`.
    metric : str
        A key of what the task's `evaluate` returns, smaller is better.

    Returns
    -------
    DataFrame
        The rows that were asked for, sorted.

    Raises
    ------
    ValueError
        If an argument is wrong, before anything is trained.
    FloatingPointError
        If runs diverged; raised after all others are measured.
    """
    runs = grid(methods, sparsities, seeds, steps, settings or {})
    check_bench(bench)
    if any(r.entry.method == "small-dense" for r in runs) and not hasattr(bench, "small"):
        raise ValueError("methods has 'small-dense', but the bench has no method `small`")
    rows = Rows(out, KEY, metric)
    missing = [run for run in runs if rows.get(run.key(bench.name)) is None]
    if missing:
        _try(bench, missing, metric)
    diverged = []
    for run, row in run_all(missing, partial(measure, bench, metric=metric), jobs, "comparing"):
        if isinstance(row, FloatingPointError):
            diverged.append(f"{run}: {row}")
        else:
            rows.add(row)
    if diverged:
        raise FloatingPointError("; ".join(diverged))
    keys = sorted(tuple(run.key(bench.name).values()) for run in runs)
    return pd.DataFrame(rows.get(dict(zip(KEY, key, strict=True))) for key in keys)


def _try(bench: Bench, runs: Sequence[Run], metric: str) -> None:
    """Make every pruner once, so that a bad setting is told before minutes of training."""
    task, dense = bench(runs[0].seed)
    check_task(task, dense, {run.entry.name: run.entry for run in runs}.values(), metric)
    for run in runs:
        if run.seed == runs[0].seed and run.entry.method in PRUNERS:
            weights = prunable_weights(copy.deepcopy(dense))
            try:
                PRUNERS[run.entry.method](weights, run.sparsity, run.steps, **run.entry.settings)
            except ValueError as error:
                raise ValueError(f"{run.entry.name} at sparsity {run.sparsity}: {error}") from None


def grid(
    methods: Sequence[str | Entry],
    sparsities: Sequence[float],
    seeds: Sequence[int],
    steps: int | Sequence[int],
    settings: Mapping[str, Mapping[str, Any]],
) -> list[Run]:
    """List the runs of a comparison, seed by seed, each once.

    Raises
    ------
    ValueError
        If an argument is wrong.
    """
    lengths = [steps] if steps is None or isinstance(steps, Number) else steps
    given = {"methods": methods, "sparsities": sparsities, "seeds": seeds, "steps": lengths}
    for name, values in given.items():
        if isinstance(values, (str, Number)) or len(values) == 0:
            raise ValueError(f"{name} is {values!r}: expected a sequence with at least one entry")
    for sparsity in sparsities:
        if not 0 <= sparsity < 1:
            raise ValueError(f"sparsities has {sparsity!r}: expected numbers in [0, 1)")
    for seed in seeds:
        count("an entry of seeds", seed, least=0)
    lengths = [count("steps", length) for length in lengths]
    known = {entry(name, **own).name: own for name, own in settings.items()}
    entries = [m if isinstance(m, Entry) else _tuned_entry(m, known) for m in methods]
    runs = {}
    for seed in seeds:
        for one in entries:
            pruned = one.method not in ("dense", "dense+")
            for length in lengths if one.method != "dense" else (0,):
                for sparsity in sparsities if pruned else (0.0,):
                    run = Run(one, float(sparsity), seed, length)
                    runs[tuple(run.key("").values())] = run
    return list(runs.values())


def _tuned_entry(name: str, settings: Mapping[str, Mapping[str, Any]]) -> Entry:
    """The entry of a name, with the settings of that name, or those of its method but for mu."""
    one = entry(name)
    of_method = settings.get(one.method, {})
    own = settings.get(one.name, {n: v for n, v in of_method.items() if n != "mu"})
    return entry(name, **own)
