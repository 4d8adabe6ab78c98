"""What a study compares: an Entry is a method with settings, a Run is one training of it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cspkit.arguments import ArgumentError, positive
from cspkit.pruning import PRUNERS, prune
from cspkit.pruning.prune import check_settings
from cspkit.training import train

UNPRUNED = ("dense", "dense+", "small-dense")  # baselines, which are no pruning methods


@dataclass(frozen=True)
class Entry:
    """One of the methods that a study compares, with its settings.

    Attributes
    ----------
    name : str
        Name of the method: gmp, gmp+D, csp, csp+D, ... "+D" adds the compression-error term D, see
        `cspkit.training.train`.
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
        A method. "NAME+D" is the pruning method NAME with the compression-error term D.
    mu : float, optional
        Weight of D. The default is 1 with D; without D, mu is 0.
    rate : float, optional
        Peak learning rate. The default is that of `prune`, and for "dense+" that of `train`.
    **settings
        Arguments of the method's class.

    Returns
    -------
    Entry

    Raises
    ------
    ArgumentError
        If there is no such method or setting, if a setting cannot be written as JSON, if `mu` or
        `rate` is out of range, or if `mu` contradicts the name.
    """
    if not isinstance(name, str):
        raise ArgumentError(f"method is {name!r}: expected a name, such as 'csp', or an Entry")
    method = name if name in UNPRUNED else name.removesuffix("+D")
    if method not in PRUNERS and name not in UNPRUNED:
        known = ", ".join((*UNPRUNED, *PRUNERS))
        raise ArgumentError(f"method is {name!r}: expected one of {known}, perhaps with +D")
    check_settings(name, method, settings)
    settings = {n: v.item() if isinstance(v, np.generic) else v for n, v in settings.items()}
    try:
        json.dumps(settings)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"{name} has settings {settings!r}: expected numbers, strings, and lists or dicts of "
            f"them ({error})"
        ) from None
    uses_d = name != method
    mu = positive("mu", float(uses_d) if mu is None else mu, zero=True)
    if (mu > 0) != uses_d:
        other = f", or the name {method}{'' if uses_d else '+D'}" if method in PRUNERS else ""
        raise ArgumentError(f"mu is {mu:g} for {name}: expected {'> 0' if uses_d else '0'}{other}")
    if rate is None:
        trained_by = train if method == "dense+" else prune
        rate = inspect.signature(trained_by).parameters["rate"].default
    rate = 0.0 if method in ("dense", "small-dense") else positive("rate", rate)
    return Entry(name, method, mu, rate, settings)


@dataclass(frozen=True)
class Run:
    """One training of an entry: its sparsity, its seed and its number of steps.

    Attributes
    ----------
    entry : Entry
    sparsity : float
        Zeros / prunable weights; 0 for "dense" and "dense+".
    seed : int
        Seed of the task, of the dense model and of the batches.
    steps : int
        Training steps; 0 for "dense".
    trial : int, optional
        Number of the trial in a tuning; None in a comparison.
    dense : str
        Checksum of the dense model, see `cspkit.study.bench.DenseModel`. It is empty until the
        bench has returned the model.
    fold : str
        Name of the test part.
    version : str
        Hash of the sources that the run uses, see `cspkit.study.bench.identified`. Neither `fold`
        nor `version` is part of the key.
    """

    entry: Entry
    sparsity: float
    seed: int
    steps: int
    trial: int | None = None
    dense: str = ""
    fold: str = ""
    version: str = ""

    def key(self, task: str) -> dict[str, Any]:
        """Return the columns that identify the row of this run."""
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
