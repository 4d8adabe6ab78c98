"""The figure of a comparison of pruning methods."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from cspkit.study.entries import UNPRUNED
from cspkit.study.statistics import metric_of, summary
from cspkit.teach.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, reference_line

MARKERS = "osD^vP*X<>p"
# csp and the methods that are most similar to it have the same colour in every figure.
COLOURS = {"csp": BLUE, "gmp": ORANGE, "dpf": GREEN, "admm": RED, "acdc": PURPLE}


def plot(
    rows: pd.DataFrame,
    metric: str | None = None,
    axes: plt.Axes | None = None,
) -> plt.Axes:
    """Draw the test rate against the sparsity, one line per method, with 95 % intervals.

    A method with the divergence D has filled markers and a line of dashes and dots, a method
    without D open markers and a dotted line; the line of csp is solid. The dense model is a dashed
    line. Points of the same sparsity are drawn side by side.

    Parameters
    ----------
    rows : DataFrame
        Rows of one task and one length, in the form that `cspkit.study.compare` and `read_rows`
        return.
    metric : str, optional
        The default is the metric that the rows have.
    axes : Axes, optional
        The default is the axes of a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    ArgumentError
        If the rows are not a complete comparison, see `cspkit.study.statistics.fold_rates`.
    """
    metric = metric_of(rows, metric)
    axes = axes or plt.figure(figsize=(7.0, 4.0)).add_subplot()
    lines = summary(rows, metric)
    pruned = lines[~lines["method"].isin(UNPRUNED[:2])]
    with_divergence = set(rows.loc[rows["mu"] > 0, "method"])
    sparsities = sorted(set(pruned["sparsity"]))
    methods = [str(m) for m in pruned["method"].unique()]
    for i, method in enumerate(methods):
        own = pruned[pruned["method"] == method]
        shift = 0.05 * (i - (len(methods) - 1) / 2)
        base = method.removesuffix("+D")
        bases = sorted({m.removesuffix("+D") for m in methods})
        colour = COLOURS.get(base, GREY)
        axes.errorbar(
            [sparsities.index(s) + shift for s in own["sparsity"]],
            100 * own["rate"],
            yerr=100 * own[["low", "high"]].sub(own["rate"], axis=0).abs().to_numpy().T,
            color=colour,
            marker=MARKERS[bases.index(base) % len(MARKERS)],
            markerfacecolor=colour if method in with_divergence else "white",
            linestyle="-" if method == "csp" else "-." if method in with_divergence else ":",
            elinewidth=0.9,
            capsize=2,
            label=method,
        )
    dense = lines[lines["method"] == "dense"]
    if len(dense):
        reference_line(axes, 100 * dense["rate"].iloc[0], "dense")
    axes.set_xticks(range(len(sparsities)), [f"{100 * s:g}" for s in sparsities])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="zeros (% of the prunable weights)", yscale="log")
    axes.set_ylabel(f"test {metric.upper() if metric == 'wer' else metric} (%)")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend(ncols=2, fontsize="small")
    return axes
