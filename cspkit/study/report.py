"""Print the rows of a study as a table."""

from __future__ import annotations

import math

import pandas as pd

from cspkit.study.statistics import LEAST_FOLDS, LOSSLESS, check_rows, metric_of, summary

HEAD = ("method", "zeros", "steps", "test", "95 % interval", "excess", "relative", "time")


def table(rows: pd.DataFrame, metric: str | None = None, against: str = "csp") -> str:
    """Write a table for each task: a line per sparsity and method, rates in per cent.

    Parameters
    ----------
    rows : DataFrame
        As `compare` or `read_rows` returns them.
    metric : str, optional
        The default is the metric that the rows of the task have.
    against : str
        The method whose wins, ties and losses are shown.

    Returns
    -------
    str

    Raises
    ------
    ArgumentError
        If the rows are not a complete comparison, see `cspkit.study.statistics.fold_rates`.
    """
    check_rows(rows)
    texts = []
    for task, of_task in rows.groupby("task"):
        task_metric = metric_of(of_task, metric)
        lines = summary(of_task, task_metric, against)
        lines = lines.sort_values(["sparsity", "steps", "rate", "method"])
        judged = bool((lines["verdict"] != "").any())
        cells = [[*HEAD, f"{against} has a"], *map(_cells, lines.to_dict("records"))]
        cells = [row if judged else row[:-1] for row in cells]
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        body = [
            "  ".join(
                cell.ljust(width) if i in (0, 8) else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in cells
        ]
        folds = lines["folds"].iloc[0]
        head = f"{task}, test {task_metric} in per cent, folds {folds}"
        one = "," not in folds
        below = ["intervals: none, one fold" if one else "intervals: 95 %, Student's t over folds"]
        if not judged:
            below.append(f"no verdicts: no rival of {against}, or fewer than {LEAST_FOLDS} folds")
        texts.append("\n".join([head, *body, *below]))
    notes = (
        f"excess over dense; * no loss: its upper end is under {100 * LOSSLESS:.1f}; "
        "relative: excess / dense\n"
        f"time: of the processor, {against} = 1\n"
        "win and loss: p < .05 in a paired t-test over folds, after Holm's correction over the "
        "rivals\nat one sparsity and number of steps"
    )
    return "\n\n".join([*texts, notes])


def _cells(line: dict) -> list[str]:
    def percent(value, digits=2):
        return "" if math.isnan(value) else f"{100 * value:.{digits}f}"

    excess = relative = ""
    if not math.isnan(line.get("excess", math.nan)) and line["method"] != "dense":
        star = "*" if line["lossless"] else " "
        low, high = percent(line["excess_low"]), percent(line["excess_high"])
        excess = f"{100 * line['excess']:+.2f}" + (f" ({low} to {high}){star}" if low else "")
        relative = "" if math.isnan(line["degradation"]) else f"{100 * line['degradation']:+.0f} %"
    return [
        line["method"],
        f"{percent(line['sparsity'], 1)} %",
        str(line["steps"]),
        percent(line["rate"]),
        "" if math.isnan(line["low"]) else f"{percent(line['low'])} to {percent(line['high'])}",
        excess,
        relative,
        "" if math.isnan(line["cost"]) else f"{line['cost']:.2f}",
        line["verdict"],
    ]
