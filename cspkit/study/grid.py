"""Fair comparisons: every method, at every sparsity, on every seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from cspkit.arguments import count
from cspkit.study.rows import Rows
from cspkit.study.runs import Bench, Entry, Run, entry, measure, run_all

KEY = ("task", "method", "mu", "sparsity", "steps", "rate", "settings", "seed")


def compare(
    bench: Bench,
    methods: Sequence[str | Entry],
    sparsities: Sequence[float],
    seeds: Sequence[int],
    steps: int,
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
    steps : int
        Training steps of each run.
    out : str or Path
        CSV file, see `measure` for its columns.
    settings : mapping, optional
        By name of an entry: `rate`, `mu`, and what the method's class takes; what `tuned`
        returns. An Entry brings its own.
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
    if any(r.entry.method == "small-dense" for r in runs) and not hasattr(bench, "small"):
        raise ValueError("methods has 'small-dense', but the bench has no method `small`")
    rows = Rows(out, KEY)
    missing = [run for run in runs if rows.get(run.key(bench.name)) is None]
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


def grid(
    methods: Sequence[str | Entry],
    sparsities: Sequence[float],
    seeds: Sequence[int],
    steps: int,
    settings: Mapping[str, Mapping[str, Any]],
) -> list[Run]:
    """List the runs of a comparison, seed by seed, each once.

    Raises
    ------
    ValueError
        If an argument is wrong.
    """
    for name, values in (("methods", methods), ("sparsities", sparsities), ("seeds", seeds)):
        if isinstance(values, str) or len(values) == 0:
            raise ValueError(f"{name} is {values!r}: expected a sequence with at least one entry")
    for sparsity in sparsities:
        if not 0 <= sparsity < 1:
            raise ValueError(f"sparsities has {sparsity!r}: expected numbers in [0, 1)")
    for seed in seeds:
        count("seeds", seed, least=0)
    steps = count("steps", steps)
    entries = [
        m if isinstance(m, Entry) else entry(m, **settings.get(entry(m).name, {})) for m in methods
    ]
    runs = {}
    for seed in seeds:
        for one in entries:
            pruned = one.method not in ("dense", "dense+")
            for sparsity in sparsities if pruned else (0.0,):
                run = Run(one, float(sparsity), seed, 0 if one.method == "dense" else steps)
                runs[tuple(run.key("").values())] = run
    return list(runs.values())
