"""Early stopping: end a training run by a figure of the dev part, keep the best weights."""

from __future__ import annotations

import json
import math

import torch
from torch import Tensor, nn

from cspkit.arguments import count
from cspkit.training import evaluating


class EarlyStopping:
    """End a run when a figure of the dev part falls no more, and go back to the best weights.

    To be given to `cspkit.training.train` as `on_step`. Every `every` steps the model is
    evaluated; after `patience` evaluations in a row without a new lowest value the run ends.
    While a pruner still chooses its support, nothing is evaluated: the weights between two such
    steps are not those of the result.

    However the run ends, the loop then calls `finish`: it evaluates the last weights, if they are
    not yet, and puts the best ones back. That is before the pruner's own `finish`, so that a
    pruned model has its final sparsity in any case.

    The schedules of `train` lower the rate until the last step, and most models improve until
    then: what stops a run early makes it end at a rate that is still high.

    Parameters
    ----------
    task : Task
        Its `evaluate` gives the figures.
    model : nn.Module
        The model that is trained.
    every : int
        Steps between two evaluations.
    patience : int
        Evaluations without a new lowest value that end the run.
    metric : str
        Name of the figure, smaller is better; one that is not finite is never the best.
    split : str
        Part of the data, "dev" as a rule.
    first : int
        Steps before which nothing is evaluated.

    Attributes
    ----------
    rows : list of dict
        A row per evaluation: step, as in the log, and all figures of the task.

    Raises
    ------
    ValueError
        If an argument is out of range; in the run, if the task has no such figure.

    Notes
    -----
    It has a `state`: with `state_file`, a run that was killed goes on as if nothing had been, to
    the bit.
    """

    def __init__(
        self,
        task: object,
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
        """The row with the lowest figure, the first of them; None before there is one."""
        finite = [row for row in self.rows if math.isfinite(row[self.metric])]
        return min(finite, key=lambda row: row[self.metric], default=None)

    @property
    def settings(self) -> dict[str, object]:
        """What tells this run from one with other settings."""
        names = ("every", "patience", "metric", "split", "first")
        return {name: getattr(self, name) for name in names}

    def __call__(self, row: dict[str, float]) -> bool:
        """Take the row of a step; return True where the run should end."""
        self._last = row
        done = row["step"] + 1
        if not row["frozen"] or done < self.first or done % self.every:
            return False
        self._evaluate()
        since = self.rows[self.rows.index(self.best) + 1 :] if self.best else self.rows
        return len(since) >= self.patience

    def finish(self) -> None:
        """Evaluate the last weights, if they can be and are not yet; put the best ones back."""
        last = self._last
        if last and last["frozen"] and (not self.rows or self.rows[-1]["step"] < last["step"]):
            self._evaluate()
        if self._weights:
            self.model.load_state_dict(self._weights)

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs: the best weights, and the rows as text."""
        seen = json.dumps([self.rows, self._last]).encode()
        best = {f"best.{name}": tensor for name, tensor in self._weights.items()}
        return best | {"rows": torch.frombuffer(bytearray(seen), dtype=torch.uint8)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        self.rows, self._last = json.loads(state["rows"].numpy(force=True).tobytes())
        self._weights = {n.removeprefix("best."): t for n, t in state.items() if n != "rows"}

    def _evaluate(self) -> None:
        with evaluating(self.model):
            figures = self.task.evaluate(self.model, self.split)
        if self.metric not in figures:
            raise ValueError(f"metric is {self.metric!r}: expected one of {', '.join(figures)}")
        self.rows.append({"step": self._last["step"]} | figures)
        if self.best is self.rows[-1]:
            self._weights = {n: t.detach().clone() for n, t in self.model.state_dict().items()}
