"""How many weights a pruned model has left, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
from torch import nn


def layer_table(model: nn.Module, pruned: Iterable[str]) -> pd.DataFrame:
    """Count the nonzeros of a model.

    Parameters
    ----------
    model : nn.Module
    pruned : iterable of str
        Names of the weights that were pruned.

    Returns
    -------
    DataFrame
        Columns layer, shape, weights, nonzeros, sparsity (zeros / weights) and state. A row for
        each pruned weight, with the state "pruned", or "emptied" if it has no nonzeros left; a row
        "total" for all of them; a row for each other weight with two or more dimensions, with the
        state "dense"; and a row "all parameters", which counts biases and norms too.
    """
    parameters, pruned = dict(model.named_parameters()), list(pruned)
    nonzeros = {name: int(p.count_nonzero()) for name, p in parameters.items()}
    dense = [n for n, p in parameters.items() if n not in pruned and p.dim() >= 2]

    def row(name: str, state: str) -> tuple:
        weight = parameters[name]
        return name, tuple(weight.shape), weight.numel(), nonzeros[name], state

    def total(name: str, names: Iterable[str]) -> tuple:
        n_weights, n_nonzero = 0, 0
        for part in names:
            n_weights, n_nonzero = n_weights + parameters[part].numel(), n_nonzero + nonzeros[part]
        return name, (), n_weights, n_nonzero, ""

    rows = [row(name, "pruned" if nonzeros[name] else "emptied") for name in pruned]
    rows.append(total("total", pruned))
    rows += [row(name, "dense") for name in dense]
    rows.append(total("all parameters", parameters))
    table = pd.DataFrame(rows, columns=["layer", "shape", "weights", "nonzeros", "state"])
    table.insert(4, "sparsity", 1.0 - table.nonzeros / table.weights)
    return table
