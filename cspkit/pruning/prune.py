"""Prune a trained model: any module, any task."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from cspkit.arguments import ArgumentError, count, one_of
from cspkit.modules import check_finite, check_trainable, copied, unwrapped
from cspkit.pruning.acdc import ACDC
from cspkit.pruning.admm import ADMM
from cspkit.pruning.csp import CSP
from cspkit.pruning.dpf import DPF
from cspkit.pruning.gmp import GMP
from cspkit.pruning.hold import Hold
from cspkit.pruning.l1_prox import L1Prox
from cspkit.pruning.narang import Narang
from cspkit.pruning.oneshot import OneShot
from cspkit.pruning.report import layer_table
from cspkit.pruning.rigl import RigL
from cspkit.pruning.selection import Layer, prunable_weights, select
from cspkit.training import Task, Watcher, check_task, train

__all__ = ["PRUNERS", "Pruned", "check_settings", "prunable_weights", "prune", "settings_of"]

PRUNERS = {
    "oneshot": OneShot,
    "gmp": GMP,
    "narang": Narang,
    "l1-prox": L1Prox,
    "acdc": ACDC,
    "admm": ADMM,
    "rigl": RigL,
    "dpf": DPF,
    "csp": CSP,
}
OF_THE_RUN = ("self", "weights", "sparsity", "steps")  # arguments that are not settings


@dataclass(frozen=True)
class Pruned:
    """The result of `prune`.

    Attributes
    ----------
    model : nn.Module
        A pruned copy; the weights that were cut are exact zeros.
    masks : dict of Tensor
        bool, by name of the weight; True is kept.
    log : list of dict
        A row per step, see `cspkit.training.train`.
    """

    model: nn.Module
    masks: dict[str, Tensor]
    log: list[dict[str, float]]

    @property
    def n_nonzero(self) -> int:
        """Number of prunable weights that are not zero."""
        weights = dict(self.model.named_parameters())
        return sum(int(weights[name].count_nonzero()) for name in self.masks)

    @property
    def sparsity(self) -> float:
        """Zeros / prunable weights."""
        return 1.0 - self.n_nonzero / sum(mask.numel() for mask in self.masks.values())

    def report(self) -> pd.DataFrame:
        """Count weights and nonzeros by layer.

        Returns
        -------
        DataFrame
            Columns layer, shape, weights, nonzeros, sparsity (zeros / weights) and state. First a
            row for each pruned weight, with the state "pruned", or "emptied" if no nonzeros are
            left; then their "total"; then a row for each other weight with two or more dimensions,
            with the state "dense"; last "all parameters", which counts biases and norms too.
        """
        return layer_table(self.model, self.masks)

    def hold(self, model: nn.Module | None = None) -> Hold:
        """Make a pruner that keeps these zeros while a model is trained further.

        Parameters
        ----------
        model : nn.Module, optional
            A model that has weights with the names and shapes of the masks, such as a copy of the
            pruned model. Its weights that the masks cut are set to zero immediately. The default is
            the pruned model itself.

        Returns
        -------
        Hold
            Pass it to `cspkit.training.train` as `pruner`, or use it in your own loop.

        Raises
        ------
        ArgumentError
            If `model` is not an nn.Module or lacks a weight, or if a shape differs.
        """
        model = self.model if model is None else model
        if not isinstance(model, nn.Module):
            raise ArgumentError(f"model is {model!r}: expected an nn.Module")
        weights = dict(unwrapped(model).named_parameters())
        for name in self.masks:
            if name not in weights:
                raise ArgumentError(f"model has no weight {name!r}: expected one for each mask")
        return Hold({name: weights[name] for name in self.masks}, self.masks)


def settings_of(method: str) -> dict[str, Any]:
    """Return the settings that the class of a method takes, with their defaults.

    If a class passes keywords on to its base class, the settings of the base are included.
    """
    settings: dict[str, Any] = {}
    for cls in PRUNERS[method].__mro__ if method in PRUNERS else ():
        if "__init__" not in vars(cls):
            continue
        parameters = inspect.signature(cls.__init__).parameters.values()
        for p in parameters:
            if p.name not in OF_THE_RUN and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
                settings.setdefault(p.name, p.default)
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            break
    return settings


def check_settings(name: str, method: str, settings: Iterable[str]) -> None:
    """Refuse settings that the class of a method does not take."""
    known = settings_of(method)
    unknown = set(settings) - set(known)
    if unknown:
        expected = ", ".join(known) or "none"
        raise ArgumentError(f"{name} has no setting {min(unknown)!r}: expected {expected}")


def prune(
    model: nn.Module,
    task: Task,
    method: str,
    sparsity: float | Mapping[Layer, float],
    *,
    steps: int = 600,
    rate: float = 1e-2,
    mu: float = 0.0,
    layers: Sequence[Layer] | None = None,
    exclude: Sequence[Layer] = (),
    rng: np.random.Generator | None = None,
    accumulate: int = 1,
    autocast: str | None = None,
    optimizer: Callable[..., torch.optim.Optimizer] | None = None,
    on_step: Watcher | Sequence[Watcher] = (),
    state_file: str | Path | None = None,
    state_every: int = 200,
    **settings,
) -> Pruned:
    """Prune a copy of a trained model, and train the copy at the same time.

    Parameters
    ----------
    model : nn.Module
        The trained model. It is not changed. The compression-error term D compares its outputs with
        those of the copy. If the model is wrapped (`DataParallel`, `DistributedDataParallel`,
        `torch.compile`), the model inside the wrapper is copied, pruned and returned.
    task : Task
    method : str
        A name in `PRUNERS`.
    sparsity : float or mapping
        Zeros / prunable weights at the end, 0 <= sparsity < 1, exact up to one weight, or up to one
        block if `csp` cuts blocks. A mapping gives names, patterns or types of layers their own
        sparsity, as in {"encoder.*": 0.95, "joiner*": 0.8}. Each weight that matches a key ends at
        the sparsity of this key. All other weights stay dense.
    steps : int
        Training steps, including those after the support is frozen.
    rate : float
        Peak learning rate. The rate rises over the first fifth of the steps and falls to zero
        along a cosine.
    mu : float
        Weight of the term D. A weight above 0 needs a task that has a divergence.
    layers, exclude : sequence of str or type, optional
        Which weights are pruned and which stay dense, see `prunable_weights`.
    rng : np.random.Generator, optional
        Source of the batches. The default has seed 0. Dropout uses torch's own generator: call
        `torch.manual_seed` before `prune` to make two runs equal.
    accumulate : int
        Parts into which each process splits its share of a batch, see `cspkit.training.train`.
    autocast : {None, "bf16"}
        Precision of the forward passes, see `cspkit.training.train`.
    optimizer : callable, optional
        `optimizer(parameters, lr=rate)` returns the optimizer. The default is Adam.
    on_step : callable or sequence of callables
        Called after every step with its row of the log.
    state_file : str or Path, optional
        File for the state of the run, from which a stopped run continues, see
        `cspkit.training.train`.
    state_every : int
        Steps between two writes of that file.
    **settings
        Settings of the method, see its class.

    Returns
    -------
    Pruned

    Raises
    ------
    ArgumentError
        If an argument is unknown or out of range, or if the model or the task cannot be used, see
        `prunable_weights`, `cspkit.modules` and `cspkit.training.train`. Then nothing is trained.

    Warns
    -----
    UserWarning
        If weights that could be pruned stay dense, see `prunable_weights`.
    """
    one_of("method", method, tuple(PRUNERS))
    check_settings(method, method, settings)
    check_task(task)
    steps = count("steps", steps)
    check_trainable(model)
    weights, sparsity, notices = select(model, layers, exclude, sparsity)
    model = unwrapped(model)
    check_finite(model)
    pruned = copied(model)
    parameters = dict(pruned.named_parameters())
    pruner = PRUNERS[method]({n: parameters[n] for n in weights}, sparsity, steps, **settings)
    for notice in notices:
        warnings.warn(notice, stacklevel=2)
    pruner.watch(pruned)
    log = train(
        pruned,
        task,
        steps,
        pruner=pruner,
        reference=model,
        mu=mu,
        rng=np.random.default_rng(0) if rng is None else rng,
        rate=rate,
        schedule="cosine",
        accumulate=accumulate,
        autocast=autocast,
        optimizer=optimizer,
        on_step=on_step,
        state_file=state_file,
        state_every=state_every,
    )
    return Pruned(pruned, pruner.masks, log)
