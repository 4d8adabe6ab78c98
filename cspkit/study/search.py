"""The search spaces of a tuning, and its next trials."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cspkit.arguments import ArgumentError, one_of
from cspkit.files import check_output
from cspkit.pruning.prune import check_settings, settings_of
from cspkit.study.entries import Entry, entry

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage

# The range of a setting: low, high, and whether the scale is logarithmic. Every method that has a
# setting of this name uses the range. `rho` has two meanings: in admm it is the weight of the
# penalty that pulls the weights to their sparse copy; in csp each step multiplies the cut weights
# in V by 1 - rho.
INTERVALS = {
    "rate": (3e-3, 1e-1, True),
    "mu": (0.3, 3.0, True),
    "exponent": (2.0, 10.0, False),
    "end": (0.2, 0.8, False),
    "rho": (1e-3, 1e-1, True),
    "cycles": (2, 8, False),
    "alpha": (0.1, 0.5, False),
    "ratio": (1.0, 3.0, False),
    "reach": (1.0, 4.0, True),
}
CHOICES = {"budget": ("global", "uniform"), "keep_values": (True, False)}
N_RANDOM = 4  # random trials, after the defaults and before the fitted model is used


def default_space(member: Entry) -> dict[str, BaseDistribution]:
    """Return the search space of an entry: rate, mu if D is used, and settings of its class.

    Parameters
    ----------
    member : Entry

    Returns
    -------
    dict of optuna distributions
        Each distribution contains the value with which tuning starts: the value of the entry, or
        the default of the class. If the value lies outside the usual range, the range is widened.
        For example, the default of csp is rho = 1, so its range of rho goes up to 1. A setting with
        a logarithmic range is left out if its value is 0.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    space: dict[str, BaseDistribution] = {}
    of_class = settings_of(member.method) | dict(member.settings)
    for name, default in ({"rate": member.rate, "mu": member.mu} | of_class).items():
        if name in CHOICES:
            choices = [default, *(c for c in CHOICES[name] if c != default)]
            space[name] = CategoricalDistribution(choices)
        elif name in INTERVALS:
            low, high, log = INTERVALS[name]
            kind = IntDistribution if isinstance(default, int) else FloatDistribution
            if default != 0 or not log:  # 0 has no logarithm: not tuned
                space[name] = kind(min(low, default), max(high, default), log=log)
    return space


def checked_spaces(
    entries: Mapping[str, Entry], given: Mapping[str, Mapping[str, BaseDistribution]]
) -> dict[str, Mapping[str, BaseDistribution]]:
    """Return the search space of each entry: the given one, or the default."""
    from optuna.distributions import BaseDistribution

    for name, space in given.items():
        one_of("an entry of spaces", name, tuple(entries))
        if not isinstance(space, Mapping):
            raise ArgumentError(
                f"spaces has {space!r} for {name}: expected a dict of distributions"
            )
        check_settings(f"{name} in spaces", entries[name].method, set(space) - {"rate", "mu"})
        for setting, distribution in space.items():
            if not isinstance(distribution, BaseDistribution):
                raise ArgumentError(
                    f"spaces has {distribution!r} for {setting!r} of {name}: expected a "
                    "distribution of optuna, such as FloatDistribution(0.1, 1.0)"
                )
    return {name: default_space(e) for name, e in entries.items()} | dict(given)


def values_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rate, mu and settings of a row, as arguments of `entry`."""
    values = {"rate": float(row["rate"]), "mu": float(row["mu"])}
    return values | json.loads(row["settings"])


@dataclass
class Search:
    """The tuning of one entry in a space, with the rows of its earlier trials in their order."""

    member: Entry
    space: Mapping[str, BaseDistribution]
    objective: str
    seed: int
    rows: list[Mapping[str, Any]] = field(default_factory=list)

    def next_entry(self) -> Entry:
        """Return the entry of the next trial: it depends on the seed and the earlier trials."""
        if not self.rows:
            return self.member
        values = {"rate": self.member.rate, "mu": self.member.mu, **self.member.settings}
        return entry(self.member.name, **values | self.study().ask(dict(self.space)).params)

    def study(self) -> optuna.Study:
        """Return the trials as an optuna study. Trials outside the space raise an ArgumentError."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                n_startup_trials=1 + N_RANDOM,
                multivariate=True,
                seed=1000 * self.seed + len(self.rows),
            )
        study = optuna.create_study(sampler=sampler)
        self._add_trials(study)
        return study

    def publish(self, storage: BaseStorage) -> None:
        """Add the trials to the study of this search in a storage, unless they are there."""
        import optuna

        names = ("task", "method", "sparsity", "steps", "seed", "dense", "version")
        name = " ".join([*(str(self.rows[0][name]) for name in names), self.objective])
        self._add_trials(optuna.create_study(storage=storage, study_name=name, load_if_exists=True))

    def _add_trials(self, study: optuna.Study) -> None:
        """Add all rows but those that are trials of the study already."""
        import optuna

        for row in self.rows[len(study.get_trials(deepcopy=False)) :]:
            loss = row[self.objective]
            if math.isnan(loss):
                raise ArgumentError(
                    f"objective is {self.objective!r}, which is nan in trial {row['trial']}"
                )
            values = settings_of(self.member.method) | values_of(row)
            params, space = {name: values[name] for name in self.space}, dict(self.space)
            try:
                study.add_trial(
                    optuna.trial.create_trial(params=params, distributions=space, value=loss)
                )
            except ValueError as error:
                raise ArgumentError(
                    f"trial {row['trial']} of {self.member.name} lies outside its space: {error}"
                ) from None


def shared_storage(storage: str | Path) -> BaseStorage:
    """Return an optuna storage that several machines can read and write: see `tune`.

    Raises
    ------
    ArgumentError
        If the storage is SQLite, a file that is not a journal, or a server that cannot be used.
    """
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    shown = "storage is " + repr(re.sub(r":[^:@/]*@", ":...@", str(storage)))  # no password
    if not isinstance(storage, (str, Path)) or str(storage).lower().startswith("sqlite"):
        raise ArgumentError(
            f"{shown}: expected the path of a journal file or the address of a database server; "
            "SQLite loses trials if several machines write to it"
        )
    path = None if "://" in str(storage) else check_output(storage, "storage")
    try:
        if path is None:
            return RDBStorage(str(storage))
        path.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(path)))
    except Exception as error:  # each driver of a database has its own
        raise ArgumentError(f"{shown}, which optuna cannot use: {error}") from error
