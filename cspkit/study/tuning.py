"""Tuning: the same number of trials for every method, on the dev part."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cspkit.arguments import ArgumentError, count, fraction, one_of, positive
from cspkit.files import locked
from cspkit.study.bench import Bench, as_list, check_bench, dense_models, identified, try_out
from cspkit.study.entries import Entry, Run, entry
from cspkit.study.rows import Rows, read_rows
from cspkit.study.runs import run_all
from cspkit.study.search import Search, checked_spaces, shared_storage, values_of

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

TRIAL = ("task", "method", "sparsity", "steps", "seed", "trial")
KEY = (*TRIAL, "dense")


def tune(
    bench: Bench,
    methods: Sequence[str | Entry],
    *,
    out: str | Path,
    spaces: Mapping[str, Mapping[str, BaseDistribution]] | None = None,
    trials: int = 10,
    steps: int = 600,
    sparsity: float = 0.95,
    seed: int = 0,
    jobs: int | None = None,
    metric: str | None = None,
    objective: str = "dev_loss",
    storage: str | Path | None = None,
) -> pd.DataFrame:
    """Search for the best settings of each method on the dev part of one seed.

    Trial 0 is the method with its defaults. The next four trials are drawn at random. The others
    are drawn from a tree-structured Parzen estimator that is fitted to the earlier trials. A trial
    depends only on the seed, its number and the trials before it, so a tuning that was killed
    continues where it stopped. The methods take turns, and do not influence one another. As in
    `compare`, the checksum of the dense model is part of a row's key.

    This process alone chooses the settings and writes the rows. Other processes and the workers of
    a cluster only train and measure, so they need no storage of optuna.

    Parameters
    ----------
    bench : Bench
    methods : sequence of str or Entry
        Names as `entry` reads them.
    out : str or Path
        CSV file, a row per trial.
    spaces : mapping, optional
        Maps the name of an entry to optuna distributions of `rate`, `mu` and settings. They
        replace those of `default_space`.
    trials : int
        Number of trials of each method.
    steps, sparsity, seed
        Training steps, sparsity and seed of all trials.
    jobs : int, optional
        As for `compare`.
    metric : str, optional
        An error rate that is recorded too. The default is the METRIC of the objective, or, for
        "dev_loss", the default of `compare`.
    objective : {"dev_loss", "dev_METRIC"}
        The column to minimise. The loss can rank settings even if the dev part is too small to rank
        them by error rates. For "dev_loss" the task's `evaluate` must return "loss".
    storage : str or Path, optional
        Gets a copy of the finished trials, as an optuna study for each method, for optuna's own
        plots and dashboards on other machines. It is the path of a journal file, or the address of
        a server, such as "postgresql://user@host/tuning". SQLite is refused. The tuning does not
        read the copy; it continues from the rows in `out`.

    Returns
    -------
    DataFrame
        The rows of the trials, in the order of `methods`, then of the trials.

    Raises
    ------
    ArgumentError
        If an argument is wrong, or if the defaults or recorded trials lie outside the search space.

    References
    ----------
    Bergstra et al., "Algorithms for hyper-parameter optimization", NeurIPS 2011.
    """
    trials, steps = count("trials", trials), count("steps", steps)
    sparsity, seed = fraction("sparsity", sparsity), count("seed", seed, least=0)
    methods = as_list("methods", methods)
    entries = {e.name: e for e in (m if isinstance(m, Entry) else entry(m) for m in methods)}
    for name in entries:
        if name in ("dense", "small-dense"):
            raise ArgumentError(f"methods has {name!r}, which has nothing to tune: leave it out")
    metric = _metric_for(objective, metric)
    check_bench(bench, jobs)
    searches = [
        Search(entries[name], space, objective, seed)
        for name, space in checked_spaces(entries, spaces or {}).items()
    ]
    for search in searches:  # every space must contain the defaults
        default = Run(search.member, sparsity, seed, steps, trial=0).key(bench.name)
        replace(search, rows=[default | {objective: 0.0}]).study()
    rows = Rows(out, KEY, metric)
    copy = None if storage is None else shared_storage(storage)
    model = dense_models(bench, [seed], jobs)[seed]

    def run_of(member: Entry, trial: int) -> Run:
        return identified(Run(member, sparsity, seed, steps, trial), model)

    def row_of(member: Entry, trial: int) -> dict[str, Any] | None:
        run = run_of(member, trial)
        return rows.get(run.key(bench.name), run.version)

    if any(row_of(member, trials - 1) is None for member in entries.values()):
        first = [run_of(member, 0) for member in entries.values()]
        metric, loss = try_out(bench, first, metric)
        rows.check_metric(metric)
        if objective == "dev_loss" and not math.isfinite(loss):
            raise ArgumentError(
                "objective is 'dev_loss', but evaluate returned no finite 'loss': add it, or use "
                f"objective='dev_{metric}'"
            )
    for trial in range(trials):
        runs = [
            run_of(search.next_entry(), trial)
            for search in searches
            if row_of(search.member, trial) is None
        ]
        for run, row in run_all(bench, runs, metric, jobs, f"tuning, trial {trial}", test=False):
            rows.add(_row(run, row, bench, objective))
        for search in searches:
            search.rows.append(row_of(search.member, trial))
        if copy is not None:
            with locked(out, wait=-1):  # others may tune for the same file
                for search in searches:
                    search.publish(copy)
    for search in searches:  # the recorded trials must lie in the space even if none was drawn
        search.study()
    return pd.DataFrame(row for search in searches for row in search.rows)


def finals(
    bench: Bench,
    *,
    out: str | Path,
    seeds: Sequence[int] = (1, 2),
    within: float = 0.1,
    jobs: int | None = None,
    metric: str | None = None,
    objective: str = "dev_loss",
) -> pd.DataFrame:
    """Repeat the best trials of each method on the dev parts of other seeds.

    One seed cannot decide between settings with nearly the same loss. If no other trial of a method
    is nearly as good as its best trial, the method gets no more runs.

    Parameters
    ----------
    bench : Bench
    out : str or Path
        The file that `tune` wrote; the runs are added to it.
    seeds : sequence of int
        Seeds that differ from the seed of the tuning.
    within : float
        A trial is nearly as good as the best if its objective is at most `1 + within` times that of
        the best. These trials are repeated.
    jobs, metric, objective
        As for `tune`.

    Returns
    -------
    DataFrame
        The rows in the file that belong to this bench and its dense models. `tuned` finds the best
        of them.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ArgumentError
        If an argument is wrong, or if the file does not hold trials of this bench on exactly one
        other seed.
    """
    metric = _metric_for(objective, metric)
    rows = Rows(out, KEY, metric)
    runs, dense = _finals(bench, out, seeds, within, jobs, objective)
    metric = metric or rows.metric
    for run, row in run_all(bench, runs, metric, jobs, "tuning, finals", test=False):
        rows.add(_row(run, row, bench, objective))
    found = read_rows(out, KEY)
    own = (found["task"] == bench.name) & (found["dense"] == found["seed"].map(dense))
    return found[own].reset_index(drop=True)


def missing_finals(
    bench: Bench,
    *,
    out: str | Path,
    seeds: Sequence[int] = (1, 2),
    within: float = 0.1,
    jobs: int | None = None,
    objective: str = "dev_loss",
) -> list[Run]:
    """Return the runs that `finals` would measure, because `out` has no row of them.

    Parameters
    ----------
    bench, out, seeds, within, jobs, objective
        As for `finals`.

    Returns
    -------
    list of Run

    Raises
    ------
    FileNotFoundError, ArgumentError
        As `finals`.
    """
    return _finals(bench, out, seeds, within, jobs, objective)[0]


def _finals(bench, out, seeds, within, jobs, objective) -> tuple[list[Run], dict[int, str]]:
    """The missing runs of `finals`, and the checksum of the dense model of each seed."""
    seeds = [count("an entry of seeds", seed, least=0) for seed in as_list("seeds", seeds)]
    within = positive("within", within, zero=True)
    check_bench(bench, jobs)
    recorded = read_rows(out, TRIAL)
    rows = Rows(out, KEY)
    if objective not in recorded:
        raise ArgumentError(f"objective is {objective!r}: {out} has no such column")
    own = recorded[recorded["task"] == bench.name]
    tuned_on = sorted(set(own["seed"]) - set(seeds))
    if len(tuned_on) != 1:
        raise ArgumentError(
            f"seeds is {seeds}: besides these, {out} has trials of {len(tuned_on)} seeds; expected "
            "exactly one, the seed of tune"
        )
    models = dense_models(bench, [*tuned_on, *seeds], jobs)
    dense = {seed: model.checksum for seed, model in models.items()}
    first = own[(own["seed"] == tuned_on[0]) & (own["dense"] == dense[tuned_on[0]])]
    if len(first) == 0:
        raise ArgumentError(
            f"{out} has no trials of the dense model of seed {tuned_on[0]}, whose checksum is "
            f"{dense[tuned_on[0]]}: call tune for it first"
        )
    best = first.groupby("method")[objective].transform("min")
    near = first[first[objective] <= (1 + within) * best]
    near = near[near.groupby("method")["trial"].transform("size") > 1]
    runs = []
    for row in near.to_dict("records"):
        member = entry(row["method"], **values_of(row))
        for seed in seeds:
            run = Run(member, row["sparsity"], seed, row["steps"], row["trial"])
            run = identified(run, models[seed])
            if rows.get(run.key(bench.name), run.version) is None:
                runs.append(run)
    return runs, dense


def tuned(rows: pd.DataFrame | str | Path, objective: str = "dev_loss") -> dict[str, dict]:
    """Return the best settings of each method among recorded trials.

    Parameters
    ----------
    rows : DataFrame, str or Path
        What `tune` or `finals` returned, or their file.
    objective : str
        The column to minimise. If trials ran on several seeds, the geometric mean over the seeds is
        minimised, or the arithmetic mean if a value is not positive. Trials that ran on fewer seeds
        than others of their method are left out. If trials are equally good, the first is taken.

    Returns
    -------
    dict
        Maps the name of an entry to its rate, mu, and settings of the class. `compare` takes this
        dict as `settings`.

    Raises
    ------
    ArgumentError
        If a column is missing; if all trials of a method diverged; if the trials are of several
        tasks, sparsities or lengths, or of several dense models of one seed; or if a trial has
        different settings on different seeds.
    """
    if not isinstance(rows, pd.DataFrame):
        rows = read_rows(rows, TRIAL)
    lacking = [c for c in (*TRIAL, "mu", "rate", "settings", objective) if c not in rows]
    if lacking:
        raise ArgumentError(f"rows has no column {lacking[0]!r}: expected the trials of `tune`")
    for column in ("task", "sparsity", "steps"):
        if rows[column].nunique() > 1:
            raise ArgumentError(
                f"rows have {column} {', '.join(map(str, sorted(rows[column].unique())))}: "
                f"expected one value of {column}; select the rows of one of them"
            )
    if "dense" in rows and (rows.groupby("seed")["dense"].nunique() > 1).any():
        raise ArgumentError("rows have trials of several dense models of one seed: expected one")
    best = {}
    for name, trials in rows.groupby("method"):
        by_trial = trials.groupby("trial")
        if (by_trial[["mu", "rate", "settings"]].nunique() > 1).any(axis=None):
            raise ArgumentError(
                f"rows have trials of {name} whose settings differ between seeds: expected "
                "equal settings on all seeds"
            )
        losses = trials.pivot(index="trial", columns="seed", values=objective)
        if losses.isna().all(axis=None):
            columns = ", ".join(c for c in rows if c.startswith("dev_"))
            raise ArgumentError(
                f"objective is {objective!r}, which is nan in every trial of {name}: expected one "
                f"of {columns}"
            )
        losses = losses.dropna()
        means = (np.log(losses) if (losses > 0).all(axis=None) else losses).mean(axis=1)
        if not means.min() < math.inf:
            raise ArgumentError(f"every trial of {name} diverged: tune it with lower rates")
        best[name] = values_of(by_trial.first().loc[means.idxmin()])
    return best


def _metric_for(objective: str, metric: str | None) -> str | None:
    """Return the metric, or that of the objective if none is given (None for "dev_loss")."""
    if metric is None and isinstance(objective, str) and objective.startswith("dev_"):
        return None if objective == "dev_loss" else objective.removeprefix("dev_")
    one_of("objective", objective, ("dev_loss", f"dev_{metric or 'METRIC'}"))
    return metric


def _row(
    run: Run, outcome: dict | FloatingPointError, bench: Bench, objective: str
) -> dict[str, Any]:
    """Return the row of a trial. If the trial diverged, its objective is inf."""
    if isinstance(outcome, FloatingPointError):
        known = {"fold": run.fold, "version": run.version}
        return run.key(bench.name) | known | {objective: math.inf}
    return outcome | {objective: math.inf} if math.isnan(outcome[objective]) else outcome
