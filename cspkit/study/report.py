"""Rows of a study as a table that people read."""

from __future__ import annotations

import math

import pandas as pd

from cspkit.study.statistics import DRAWS, LOSSLESS, summary

HEAD = ("method", "zeros", "steps", "test", "95 % interval", "excess", "relative", "time")


def table(rows: pd.DataFrame, metric: str = "wer", against: str = "csp", draws: int = DRAWS) -> str:
    """Write the table of each task: a line per sparsity and method, rates in per cent.

    Parameters
    ----------
    rows : DataFrame
        As `compare` or `read_rows` returns them.
    metric : str
    against : str
        The method whose wins, ties and losses are shown.
    draws : int
        Of the bootstrap.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If the rows are no full comparison, see `cspkit.study.statistics.resample`.
    """
    if len(rows) == 0:
        raise ValueError("rows is empty: expected those of a study")
    texts = []
    for task, of_task in rows.groupby("task"):
        lines = summary(of_task, metric, against, draws)
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
        head = f"{task}, test {metric} in per cent, seeds {lines['seeds'].iloc[0]}"
        below = [f"intervals: 95 %, {_drawn(lines)}"]
        if not judged:
            below.append(f"no verdicts: no rival of {against}, or too few seeds")
        texts.append("\n".join([head, *body, *below]))
    notes = (
        f"excess over dense; * no loss: its upper end is under {100 * LOSSLESS:.1f}; "
        "relative: excess / dense\n"
        f"time: of the processor, {against} = 1\n"
        "win and loss: p < .05 after Holm's correction over the methods of a task"
    )
    return "\n\n".join([*texts, notes])


def _drawn(lines: pd.DataFrame) -> str:
    """What the intervals of a task come from."""
    if "," not in lines["seeds"].iloc[0]:
        if not lines["by_utterance"].all():
            return "none, one seed without counts of utterances has nothing to resample"
        return "utterances resampled; one seed cannot tell the chance of training"
    return f"seeds {'and utterances ' if lines['by_utterance'].all() else ''}resampled"


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
