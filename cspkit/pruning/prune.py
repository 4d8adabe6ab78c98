"""Prune a trained model: any module, any task."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from cspkit.arguments import count
from cspkit.pruning.acdc import ACDC
from cspkit.pruning.admm import ADMM
from cspkit.pruning.csp import CSP
from cspkit.pruning.dpf import DPF
from cspkit.pruning.gmp import GMP
from cspkit.pruning.l1_prox import L1Prox
from cspkit.pruning.narang import Narang
from cspkit.pruning.oneshot import OneShot
from cspkit.pruning.rigl import RigL
from cspkit.training import Task, Watcher, train

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
OF_THE_RUN = ("self", "weights", "sparsity", "steps")  # arguments that are no settings
PRUNABLE_TYPES = (nn.Linear, nn.LSTM, nn.GRU, nn.RNN, nn.Conv1d)


@dataclass(frozen=True)
class Pruned:
    """What `prune` returns.

    Attributes
    ----------
    model : nn.Module
        A pruned copy; its cut weights are exact zeros.
    masks : dict of Tensor
        bool, by weight; True is kept.
    log : list of dict
        A row per step, see `cspkit.training.train`.
    """

    model: nn.Module
    masks: dict[str, Tensor]
    log: list[dict[str, float]]

    @property
    def n_nonzero(self) -> int:
        """Prunable weights that are not zero."""
        weights = dict(self.model.named_parameters())
        return sum(int((weights[name] != 0).sum()) for name in self.masks)

    @property
    def sparsity(self) -> float:
        """Zeros / prunable weights."""
        return 1.0 - self.n_nonzero / sum(mask.numel() for mask in self.masks.values())

    def report(self) -> pd.DataFrame:
        """Table with a row per layer and one for the total.

        Returns
        -------
        DataFrame
            Columns layer, shape, weights, nonzeros, sparsity (zeros / weights).
        """
        weights = dict(self.model.named_parameters())
        rows = [
            (name, tuple(mask.shape), mask.numel(), int((weights[name] != 0).sum()))
            for name, mask in self.masks.items()
        ]
        rows.append(("total", (), sum(r[2] for r in rows), sum(r[3] for r in rows)))
        table = pd.DataFrame(rows, columns=["layer", "shape", "weights", "nonzeros"])
        return table.assign(sparsity=1.0 - table.nonzeros / table.weights)


def prunable_weights(
    model: nn.Module, layers: Sequence[str | type[nn.Module]] | None = None
) -> dict[str, nn.Parameter]:
    """Find the weights to prune.

    Parameters
    ----------
    model : nn.Module
    layers : sequence of str or type, optional
        Names of layers or of weights, patterns such as "encoder.*", or types of layers such as
        `nn.LSTM`; biases never count. Where it is not given: what the model names in an attribute
        `prunable`, else every matrix or kernel of its Linear, LSTM, GRU, RNN and Conv1d layers;
        those of other layers stay as they are and do not count. A weight that layers share
        counts once, under its first name.

    Returns
    -------
    dict of nn.Parameter
        By name.

    Raises
    ------
    ValueError
        If a name matches nothing, there is nothing to prune, a weight is not the layer's own but
        computed anew in each pass (weight norm, `torch.nn.utils.prune`), or it belongs also to a
        layer that is not pruned: an embedding, or one that is not among `layers`.
    """
    if layers is None:
        layers = getattr(model, "prunable", None)
    if isinstance(layers, str | type):
        raise ValueError(f"layers is {layers!r}: expected a list of such")
    layers = None if layers is None else list(layers)
    for layer in layers or ():
        if not isinstance(layer, str | type):
            raise ValueError(f"layers has {layer!r}: expected names or types of layers")
    computed = _computed(model, layers)
    if computed:
        raise ValueError(
            f"{computed!r} is not a layer's own weight, but computed anew in each pass: expected "
            "plain weights; take off what computes it (remove_parametrizations, remove_weight_norm "
            "or prune.remove of torch.nn.utils) or name the other layers"
        )
    owned = {
        f"{prefix}.{name}" if prefix else name: (weight, module)
        for prefix, module in model.named_modules()
        if isinstance(module, PRUNABLE_TYPES)
        for name, weight in module.named_parameters(recurse=False)
        if weight.dim() >= 2
    }
    chosen = dict(owned)
    if layers is not None:
        matched = {p: {n for n, (_, module) in owned.items() if _is(n, module, p)} for p in layers}
        for pattern, names in matched.items():
            if not names:
                raise ValueError(f"layers has {pattern!r}: expected one of {', '.join(owned)}")
        chosen = {n: one for n, one in owned.items() if any(n in m for m in matched.values())}
    if not chosen:
        raise ValueError(f"{type(model).__name__} has no weights that can be pruned")
    first: dict[int, str] = {}
    for name, (weight, _) in chosen.items():
        first.setdefault(id(weight), name)
    _refuse_tied(model, first, chosen)
    return {name: chosen[name][0] for name in first.values()}


def _computed(model: nn.Module, layers: Sequence[str | type[nn.Module]] | None) -> str | None:
    """The first weight of a layer to be pruned that is no parameter, but made from others."""
    for prefix, module in model.named_modules():
        if not isinstance(module, PRUNABLE_TYPES):
            continue
        own = dict(module.named_parameters(recurse=False))
        names = list(module.parametrizations) if is_parametrized(module) else []
        for suffix in ("_v", "_orig"):  # weight norm of old; torch.nn.utils.prune
            names += [n.removesuffix(suffix) for n in own if n.endswith(suffix)]
        for name in names:
            weight = getattr(module, name, None)
            if name in own or not isinstance(weight, Tensor) or weight.dim() < 2:
                continue
            full = f"{prefix}.{name}".lstrip(".")
            if layers is None or any(_is(full, module, layer) for layer in layers):
                return full
    return None


def _is(name: str, module: nn.Module, pattern: str | type[nn.Module]) -> bool:
    """Whether a weight of a layer is meant by a pattern of its or the layer's name, or a type."""
    if isinstance(pattern, type):
        return isinstance(module, pattern)
    return fnmatchcase(name, pattern) or fnmatchcase(name.rpartition(".")[0], pattern)


def _refuse_tied(model: nn.Module, names: dict[int, str], chosen: dict[str, object]) -> None:
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            full = f"{prefix}.{name}".lstrip(".")
            if id(parameter) in names and full not in chosen:
                raise ValueError(
                    f"{names[id(parameter)]!r} is also {full!r} of a "
                    f"{type(module).__name__}, which is not pruned: expected weights of their "
                    "own; name all layers that share it, or none"
                )


def settings_of(method: str) -> dict[str, Any]:
    """Settings that the class of a method takes, with their defaults.

    A class that hands keywords on to its base has those of the base too.
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
        raise ValueError(f"{name} has no setting {min(unknown)!r}: expected {expected}")


def prune(
    model: nn.Module,
    task: Task,
    method: str,
    sparsity: float,
    *,
    steps: int = 600,
    rate: float = 1e-2,
    mu: float | None = None,
    layers: Sequence[str | type[nn.Module]] | None = None,
    rng: np.random.Generator | None = None,
    on_step: Watcher | Sequence[Watcher] = (),
    state_file: str | Path | None = None,
    state_every: int = 200,
    **settings,
) -> Pruned:
    """Prune a copy of a trained model, and train it while that happens.

    Parameters
    ----------
    model : nn.Module
        The trained model; it is not changed, and serves as the reference of D.
    task : Task
    method : str
        A name in `PRUNERS`.
    sparsity : float
        Zeros / prunable weights at the end, 0 <= sparsity < 1, met to one weight; where `csp`
        cuts blocks, to one block.
    steps : int
        Training steps, schedule and debiasing together.
    rate : float
        Peak learning rate; it warms up over the first fifth and falls to zero along a cosine.
    mu : float, optional
        Weight of the compression-error term; the method's own default where it is not given.
    layers : sequence of str or type, optional
        See `prunable_weights`.
    rng : np.random.Generator, optional
        Source of the batches; seed 0 where it is not given. Dropout draws from torch's own
        generator: `torch.manual_seed` before the call makes two runs equal.
    on_step : callable or sequence of such
        Called after every step with its row of the log.
    state_file : str or Path, optional
    state_every : int
        Where the state of the run is kept, and how often, so that it goes on after a kill, see
        `cspkit.training.train`.
    **settings
        Of the method, see its class.

    Returns
    -------
    Pruned

    Raises
    ------
    ValueError
        If the method is unknown or an argument is out of range, before anything is trained.
    """
    if method not in PRUNERS:
        raise ValueError(f"method is {method!r}: expected one of {', '.join(PRUNERS)}")
    check_settings(method, method, settings)
    if not isinstance(model, nn.Module):
        raise ValueError(f"model is {model!r}: expected an nn.Module")
    steps = count("steps", steps)
    pruned = copy.deepcopy(model)
    pruner = PRUNERS[method](prunable_weights(pruned, layers), sparsity, steps, **settings)
    if hasattr(pruner, "watch"):
        pruner.watch(pruned)
    log = train(
        pruned,
        task,
        steps,
        pruner=pruner,
        reference=model,
        mu=pruner.mu if mu is None else mu,
        rng=np.random.default_rng(0) if rng is None else rng,
        rate=rate,
        schedule="cosine",
        on_step=on_step,
        state_file=state_file,
        state_every=state_every,
    )
    return Pruned(pruned, pruner.masks, log)
