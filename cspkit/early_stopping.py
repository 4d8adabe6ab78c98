"""Early stopping: end a run when a dev metric no longer falls, and keep the best weights."""

from __future__ import annotations

import json
import math

import torch
from torch import Tensor, nn

from cspkit.arguments import ArgumentError, count
from cspkit.training import Task, evaluating


class EarlyStopping:
    """End a run when a metric of the dev part no longer falls, and go back to the best weights.

    Give it to `cspkit.training.train` as `on_step`. The model is evaluated every `every` steps. The
    run ends after `patience` evaluations in a row without a new lowest value. While a pruner still
    chooses its support, nothing is evaluated, because the weights do not yet have their final
    sparsity.

    At the end of every run the loop calls `finish` of this class, which evaluates the last weights,
    if they were not evaluated yet, and puts the best weights back into the model. After that, the
    loop calls `finish` of the pruner. So a pruned model always has its final sparsity.

    The schedules of `train` lower the learning rate until the last step, and most models improve
    until then. A run that is stopped early ends at a learning rate that is still high.

    Parameters
    ----------
    task : Task
        Its `evaluate` gives the metrics.
    model : nn.Module
        The model that is trained.
    every : int
        Steps between two evaluations.
    patience : int
        The run ends after this many evaluations in a row without a new lowest value.
    metric : str
        Name of the metric; smaller is better. A value that is not finite is never the best.
    split : str
        Part of the data, usually "dev".
    first : int
        Steps before the first evaluation.

    Attributes
    ----------
    rows : list of dict
        A row per evaluation: step, as in the log, and all metrics of the task.

    Raises
    ------
    ArgumentError
        If an argument is out of range; during the run, if the task has no such metric.

    Notes
    -----
    `state_file` of `train` also stores the state of this class. So a run that was stopped and
    continued gives exactly the same result as a run without a stop, to the last bit.
    """

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        *,
        every: int = 100,
        patience: int = 5,
        metric: str = "loss",
        split: str = "dev",
        first: int = 0,
    ) -> None:
        self.task, self.model = task, model
        self.every = count("every", every)
        self.patience = count("patience", patience)
        self.first = count("first", first, least=0)
        self.metric, self.split = metric, split
        self.rows: list[dict[str, float]] = []
        self._last: dict[str, float] | None = None  # row of the log
        self._weights: dict[str, Tensor] = {}

    @property
    def best(self) -> dict[str, float] | None:
        """The first row with the lowest value, or None if no row has a finite value."""
        finite = [row for row in self.rows if math.isfinite(row[self.metric])]
        return min(finite, key=lambda row: row[self.metric], default=None)

    @property
    def settings(self) -> dict[str, object]:
        """The settings that identify this run. A resumed run must have the same ones."""
        names = ("every", "patience", "metric", "split", "first")
        return {name: getattr(self, name) for name in names}

    def __call__(self, row: dict[str, float]) -> bool:
        """Take the row of a step; return True if the run should end."""
        self._last = row
        done = row["step"] + 1
        if not row["frozen"] or done < self.first or done % self.every:
            return False
        self._evaluate()
        since = self.rows[self.rows.index(self.best) + 1 :] if self.best else self.rows
        return len(since) >= self.patience

    def finish(self) -> None:
        """Evaluate the last weights, if that is not done yet; put the best weights back."""
        last = self._last
        if last and last["frozen"] and (not self.rows or self.rows[-1]["step"] < last["step"]):
            self._evaluate()
        if self._weights:
            self.model.load_state_dict(self._weights)

    def state(self) -> dict[str, Tensor]:
        """Return what a resumed run needs: the best weights, and the rows as text."""
        seen = json.dumps([self.rows, self._last]).encode()
        best = {f"best.{name}": tensor for name, tensor in self._weights.items()}
        return best | {"rows": torch.frombuffer(bytearray(seen), dtype=torch.uint8)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        self.rows, self._last = json.loads(state["rows"].numpy(force=True).tobytes())
        self._weights = {n.removeprefix("best."): t for n, t in state.items() if n != "rows"}

    def _evaluate(self) -> None:
        with evaluating(self.model):
            figures = self.task.evaluate(self.model, self.split)
        if self.metric not in figures:
            raise ArgumentError(f"metric is {self.metric!r}: expected one of {', '.join(figures)}")
        self.rows.append({"step": self._last["step"]} | figures)
        if self.best is self.rows[-1]:
            self._weights = {n: t.detach().clone() for n, t in self.model.state_dict().items()}
