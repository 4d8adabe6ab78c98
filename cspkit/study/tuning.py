"""The same number of tuning trials for every method, on the dev part."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cspkit import __version__
from cspkit.arguments import count
from cspkit.pruning.prune import check_settings, settings_of
from cspkit.study.rows import Rows, read_rows
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

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

KEY = ("task", "method", "sparsity", "steps", "seed", "trial")
# Where settings of this name are looked for: low, high, and whether on a logarithmic scale.
INTERVALS = {
    "exponent": (2.0, 10.0, False),
    "end": (0.4, 0.8, False),
    "rho": (1e-3, 1e-1, True),
    "cycles": (2, 8, False),
    "alpha": (0.1, 0.5, False),
    "ratio": (1.0, 3.0, False),
}
CHOICES = {"budget": ("global", "uniform")}
RATES = (3e-3, 3e-2, True)
MUS = (0.3, 3.0, True)
N_RANDOM = 4  # trials drawn at random, after the defaults, before a model of them is fitted


def default_space(one: Entry) -> dict[str, BaseDistribution]:
    """Search space of an entry: the rate, mu where D is on, and the settings that its class has.

    Parameters
    ----------
    one : Entry

    Returns
    -------
    dict of optuna distributions
        Each holds the entry's own value, or the class's default, with which tuning begins.
    """
    space = {"rate": _interval(one.rate, *RATES)}
    if one.mu > 0:
        space["mu"] = _interval(one.mu, *MUS)
    for name, default in (settings_of(one.method) | dict(one.settings)).items():
        low, high, log = INTERVALS.get(name, (0, 0, False))
        if high and not (log and default == 0):  # 0 on a logarithmic scale: switched off
            space[name] = _interval(default, low, high, log)
        elif name in CHOICES:
            space[name] = _choice(default, CHOICES[name])
    return space


def _interval(default: float, low: float, high: float, log: bool) -> BaseDistribution:
    from optuna.distributions import FloatDistribution, IntDistribution

    kind = IntDistribution if isinstance(default, int) else FloatDistribution
    return kind(min(low, default), max(high, default), log=log)


def _choice(default: Any, choices: Sequence[Any]) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution

    return CategoricalDistribution([default, *(c for c in choices if c != default)])


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
    metric: str = "wer",
    objective: str = "dev_loss",
) -> pd.DataFrame:
    """Look for the settings of each method that are best on the dev part of one seed.

    Trial 0 is the method as it is, with its defaults. The next four are drawn at random, the
    others from a tree-structured Parzen estimator of those before. A trial depends on the seed,
    its number and the trials before it alone, so a tuning that was killed goes on where it was;
    the methods take turns, and are independent of one another.

    Parameters
    ----------
    bench : Bench
    methods : sequence of str or Entry
        Names as `entry` reads them.
    out : str or Path
        CSV file, a row per trial.
    spaces : mapping, optional
        By name of an entry, optuna distributions of `rate`, `mu` and settings, in place of
        `default_space`.
    trials : int
        Per method, the same for all.
    steps, sparsity, seed
        Of each run.
    jobs : int, optional
        As for `compare`.
    metric : str
        As for `compare`; recorded.
    objective : str
        Column that is made small. A loss ranks settings where a dev part is too small for error
        rates to do so; the task's `evaluate` must return "loss" then. Else "dev_METRIC".

    Returns
    -------
    DataFrame
        The rows of the trials, by method and trial.

    Raises
    ------
    ValueError
        If an argument is wrong, or recorded trials come from another space.

    References
    ----------
    Bergstra et al., "Algorithms for hyper-parameter optimization", NeurIPS 2011.
    """
    trials = count("trials", trials)
    if isinstance(methods, str) or len(methods) == 0:
        raise ValueError(f"methods is {methods!r}: expected a sequence with at least one entry")
    entries = {e.name: e for e in (m if isinstance(m, Entry) else entry(m) for m in methods)}
    for name in entries:
        if name in ("dense", "small-dense"):
            raise ValueError(f"methods has {name!r}, which has nothing to tune")
    if objective not in ("dev_loss", f"dev_{metric}"):
        raise ValueError(f"objective is {objective!r}: expected one of dev_loss, dev_{metric}")
    check_bench(bench)
    spaces = {name: default_space(e) for name, e in entries.items()} | dict(spaces or {})
    for name, space in spaces.items():
        if name not in entries:
            raise ValueError(f"spaces has {name!r}: expected one of {', '.join(entries)}")
        one = entries[name]
        check_settings(f"{name} in spaces", one.method, set(space) - {"rate", "mu"})
        itself = Run(one, sparsity, seed, steps, trial=0).key(bench.name)
        _recorded(one, space, [itself | {objective: 0.0}], objective, seed)
    rows = Rows(out, KEY, metric)
    place = {"task": bench.name, "sparsity": float(sparsity), "steps": steps, "seed": seed}
    measured = partial(measure, bench, metric=metric, test=False)
    history: dict[str, list[dict[str, Any]]] = {name: [] for name in entries}
    if any(rows.get(place | {"method": n, "trial": trials - 1}) is None for n in entries):
        task, dense = bench(seed)
        figures = check_task(task, dense, entries.values(), metric)
        if objective == "dev_loss" and not math.isfinite(figures.get("loss", math.nan)):
            returned = f"{figures['loss']} as" if "loss" in figures else "no"
            raise ValueError(
                f"objective is 'dev_loss', and evaluate of {type(task).__name__} returns "
                f"{returned} 'loss': expected one, or objective='dev_{metric}'"
            )
    for trial in range(trials):
        keys = {name: place | {"method": name, "trial": trial} for name in entries}
        drawn = [
            _drawn(entries[name], spaces[name], history[name], objective, seed)
            for name in entries
            if rows.get(keys[name]) is None
        ]
        runs = [Run(one, sparsity, seed, steps, trial) for one in drawn]
        for run, row in run_all(runs, measured, jobs, f"tuning, trial {trial}"):
            rows.add(_row(run, row, bench, objective))
        for name in entries:
            history[name].append(rows.get(keys[name]))
    for name, one in entries.items():  # where nothing was left to draw
        _recorded(one, spaces[name], history[name], objective, seed)
    return pd.DataFrame(row for trials_of_one in history.values() for row in trials_of_one)


def finals(
    bench: Bench,
    *,
    out: str | Path,
    seeds: Sequence[int] = (1, 2),
    within: float = 0.1,
    jobs: int | None = None,
    metric: str = "wer",
    objective: str = "dev_loss",
) -> pd.DataFrame:
    """Let the best trials of each method meet again, on the dev parts of other seeds.

    One seed cannot tell settings of nearly the same loss apart. A method whose second best is
    farther off is decided, and makes no more runs.

    Parameters
    ----------
    bench : Bench
    out : str or Path
        The file that `tune` wrote; the runs are added to it.
    seeds : sequence of int
        Others than that of the tuning.
    within : float
        A trial takes part whose loss is at most `1 + within` times that of its method's best.
    jobs, metric, objective
        As for `tune`.

    Returns
    -------
    DataFrame
        All rows of the file, from which `tuned` takes the best.

    Raises
    ------
    ValueError
        If the file holds no trials of another seed.
    """
    recorded = read_rows(out, KEY)
    first = recorded[~recorded["seed"].isin(list(seeds))]
    if first["seed"].nunique() != 1:
        raise ValueError(
            f"{out} has trials of {first['seed'].nunique()} seeds other than those of the finals, "
            f"{', '.join(map(str, seeds))}: expected one"
        )
    best = first.groupby("method")[objective].transform("min")
    near = first[first[objective] <= (1 + within) * best]
    near = near[near.groupby("method")["trial"].transform("size") > 1]
    rows, runs = Rows(out, KEY, metric), []
    for row in near.to_dict("records"):
        one = entry(row["method"], mu=row["mu"], rate=row["rate"], **json.loads(row["settings"]))
        for seed in seeds:
            if rows.get(row | {"seed": seed}) is None:
                runs.append(Run(one, row["sparsity"], seed, row["steps"], row["trial"]))
    measured = partial(measure, bench, metric=metric, test=False)
    for run, row in run_all(runs, measured, jobs, "tuning, finals"):
        rows.add(_row(run, row, bench, objective))
    return read_rows(out, KEY)


def tuned(rows: pd.DataFrame | str | Path, objective: str = "dev_loss") -> dict[str, dict]:
    """Best settings of each method among recorded trials.

    Parameters
    ----------
    rows : DataFrame, str or Path
        What `tune` or `finals` returned, or their file.
    objective : str
        Column that is made small, where a trial ran on several seeds its geometric mean, or its
        mean where there is a value that is not positive. Trials that ran on fewer seeds than
        others of their method are out; of equal ones the earlier is taken.

    Returns
    -------
    dict
        By name of an entry, what `compare` takes as `settings`: rate, mu, and settings of the
        class.

    Raises
    ------
    ValueError
        If all trials of a method diverged, if they are not of one task, sparsity and length, or
        if a trial has other settings on another seed.
    """
    if not isinstance(rows, pd.DataFrame):
        rows = read_rows(rows, KEY)
    for column in ("task", "sparsity", "steps"):
        if rows[column].nunique() > 1:
            raise ValueError(
                f"rows have {column} {', '.join(map(str, sorted(rows[column].unique())))}: "
                "expected the trials of one"
            )
    best = {}
    for name, trials in rows.groupby("method"):
        by_trial = trials.groupby("trial")
        if (by_trial[["mu", "rate", "settings"]].nunique() > 1).any(axis=None):
            raise ValueError(f"rows have trials of {name} whose settings differ between seeds")
        losses = trials.pivot(index="trial", columns="seed", values=objective)
        if losses.isna().all(axis=None):
            columns = ", ".join(c for c in rows if c.startswith("dev_"))
            raise ValueError(f"objective is {objective!r}, nan for {name}: one of {columns}?")
        losses = losses.dropna()
        positive = (losses > 0).all(axis=None)
        means = (np.log(losses) if positive else losses).mean(axis=1)
        if not means.min() < math.inf:
            raise ValueError(f"every trial of {name} diverged: expected one that did not")
        row = by_trial.first().loc[means.idxmin()]
        best[name] = {
            "rate": float(row["rate"]),
            "mu": float(row["mu"]),
            **json.loads(row["settings"]),
        }
    return best


def _row(
    run: Run, outcome: dict | FloatingPointError, bench: Bench, objective: str
) -> dict[str, Any]:
    """The row of a trial; where it diverged, at a rate that is too large, say, with loss inf."""
    if isinstance(outcome, FloatingPointError):
        return run.key(bench.name) | {objective: math.inf, "version": __version__}
    return outcome | {objective: math.inf} if math.isnan(outcome[objective]) else outcome


def _drawn(
    one: Entry,
    space: Mapping[str, BaseDistribution],
    history: Sequence[Mapping[str, Any]],
    objective: str,
    seed: int,
) -> Entry:
    """The entry of the next trial, a function of those before it and the seed alone."""
    if not history:
        return one
    drawn = _recorded(one, space, history, objective, seed).ask(dict(space)).params
    fixed = dict(one.settings) | {"rate": one.rate, "mu": one.mu}
    return entry(one.name, **(fixed | drawn))


def _recorded(
    one: Entry,
    space: Mapping[str, BaseDistribution],
    history: Sequence[Mapping[str, Any]],
    objective: str,
    seed: int,
) -> optuna.Study:
    """The trials as optuna has them; those that lie outside the space are refused."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=1 + N_RANDOM, multivariate=True, seed=1000 * seed + len(history)
        )
    study = optuna.create_study(sampler=sampler)
    for row in history:
        if math.isnan(row[objective]):
            raise ValueError(f"objective is {objective!r}, which is nan in trial {row['trial']}")
        values = settings_of(one.method) | json.loads(row["settings"])
        values |= {"rate": row["rate"], "mu": row["mu"]}
        try:
            study.add_trial(
                optuna.trial.create_trial(
                    params={name: values[name] for name in space},
                    distributions=dict(space),
                    value=row[objective],
                )
            )
        except ValueError as error:
            raise ValueError(
                f"trial {row['trial']} of {one.name} lies outside its space: {error}"
            ) from None
    return study
