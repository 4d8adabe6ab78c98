"""A figure of a training run that grows while the run goes on."""

from __future__ import annotations

import os
import sys

import matplotlib.pyplot as plt
import numpy as np

from cspkit.arguments import count
from cspkit.early_stopping import EarlyStopping
from cspkit.teach.plots import BLUE, GREEN, ORANGE, reference_line


class LivePlot:
    """Plot loss, divergence and sparsity of a run. Give it to `train` as `on_step`.

    In a notebook, a new figure replaces the old one after every `every` steps. With
    `CSPKIT_PROGRESS=0`, the figure is drawn only once, at the end of the run; this setting is used
    when notebooks are executed for a commit. Outside notebooks, the figure is also drawn once, but
    it is not shown. Nothing is written to stderr.

    Parameters
    ----------
    every : int
        Number of steps between two drawings. The thick line of the loss is the mean over this
        number of steps.
    reference : float, optional
        A loss to compare with, for example that of the dense model. It is drawn as a dashed line.
    stopping : EarlyStopping, optional
        Its results on the dev part are drawn. Give it to `train` too, before this LivePlot.

    title : str
        Title of the figure.

    Attributes
    ----------
    rows : list of dict
        The rows of the log: one for each step.
    figure : Figure or None
        The last drawing.

    Raises
    ------
    ArgumentError
        If `every` is not a whole number >= 1.

    Examples
    --------
    >>> train(model, task, 600, rng=rng, on_step=LivePlot())  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        every: int = 50,
        reference: float | None = None,
        stopping: EarlyStopping | None = None,
        title: str = "",
    ) -> None:
        self.title = title
        self.every, self.reference, self.stopping = count("every", every), reference, stopping
        self.rows: list[dict[str, float]] = []
        self.figure: plt.Figure | None = None
        self._in_notebook = "ipykernel" in sys.modules
        self._live = self._in_notebook and os.environ.get("CSPKIT_PROGRESS") != "0"
        self._shown = None

    def __call__(self, row: dict[str, float]) -> None:
        """Add the row of one step, and draw the figure if it is time."""
        self.rows.append(row)
        if self._live and (row["step"] + 1) % self.every == 0:
            self._show()

    def finish(self) -> None:
        """Draw the whole run."""
        if self.rows:
            self._show()

    def resume(self, log: list[dict[str, float]]) -> None:
        """Start with the rows of an earlier part of the run, when `train` resumes the run."""
        self.rows = list(log)

    def _show(self) -> None:
        self.figure = self._draw()
        plt.close(self.figure)  # otherwise the notebook shows it a second time, below the cell
        if not self._in_notebook:
            return
        from IPython.display import display

        if self._shown is None:
            self._shown = display(self.figure, display_id=True)
        else:
            self._shown.update(self.figure)

    def _draw(self) -> plt.Figure:
        pruned = any(row["sparsity"] > 0 for row in self.rows)
        figure, panels = plt.subplots(1, 1 + pruned, squeeze=False)
        figure.suptitle(self.title, fontsize="medium")
        step = np.array([row["step"] + 1 for row in self.rows])
        loss = np.array([row["loss"] for row in self.rows])
        axes = panels[0, 0]
        axes.plot(step, loss, color=BLUE, alpha=0.25, linewidth=0.8, label="training loss")
        axes.plot(*_means(step, loss, self.every), color=BLUE, label=f"mean of {self.every} steps")
        divergence = np.array([row["divergence"] for row in self.rows])
        if divergence.any():
            means = _means(step, divergence, self.every)
            axes.plot(*means, color=ORANGE, linestyle="-.", label="divergence D")
        if self.stopping is not None and self.stopping.rows:
            points = [(r["step"] + 1, r[self.stopping.metric]) for r in self.stopping.rows]
            label = f"{self.stopping.split} {self.stopping.metric}"
            axes.plot(*zip(*points, strict=True), "o-", color=GREEN, label=label)
        if self.reference is not None:
            reference_line(axes, self.reference, "reference")
        axes.set(xlabel="step", ylabel="loss in nats", yscale="log")
        axes.legend()
        if pruned:
            sparsity = [100 * row["sparsity"] for row in self.rows]
            panels[0, 1].plot(step, sparsity, color=BLUE)
            panels[0, 1].set(xlabel="step", ylabel="zeros / prunable weights in %", ylim=(0, 100))
        return figure


def _means(step: np.ndarray, values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the means of `values` over `count` steps each, and the last step of each mean."""
    ends = np.arange(count, len(step) + 1, count)
    if len(ends) == 0 or ends[-1] < len(step):
        ends = np.append(ends, len(step))
    return step[ends - 1], np.array([values[max(0, e - count) : e].mean() for e in ends])
