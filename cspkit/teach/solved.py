"""What is solved, as a figure; and the solution of an exercise, for those who tried it."""

from __future__ import annotations

import matplotlib.pyplot as plt

from cspkit.teach.check import exercises, is_exercise
from cspkit.teach.plots import BLUE, GREY, ORANGE
from cspkit.teach.record import SOLVED, TRIED, results
from cspkit.teach.tables import solutions

# The colour of each state, and how much of its square is filled.
MARKS = {SOLVED: (BLUE, "full"), TRIED: (ORANGE, "bottom"), "not tried": (GREY, "none")}


def progress() -> None:
    """Draw which exercises are solved: a row for each notebook, a square for each exercise.

    `check` records its results in one file, `.cspkit_progress.json` in the current folder, if this
    file is there. `make lab` makes it in `work/`. The environment variable CSPKIT_PROGRESS_FILE
    names another file. Without a file, the figure shows what was checked since the kernel started.
    """
    found, rows = results(), {}
    for name in exercises():
        rows.setdefault(name[:2], []).append(name)
    notebooks = list(rows)
    figure, axes = plt.subplots(figsize=(7.0, 0.45 * len(rows) + 0.6), layout="constrained")
    for state, (colour, filled) in MARKS.items():
        places = [
            (i, notebooks.index(notebook))
            for notebook, names in rows.items()
            for i, name in enumerate(names)
            if found.get(name, "not tried") == state
        ]
        across, down = zip(*places, strict=True) if places else ((), ())
        axes.plot(
            across, down, "s", color=colour, fillstyle=filled, markersize=10,
            label=f"{state}: {len(places)}",
        )  # fmt: skip
    for row, names in enumerate(rows.values()):
        for i, name in enumerate(names):
            axes.annotate(name[3:], (i, row), (0, -8), textcoords="offset points",
                          ha="center", va="top", fontsize=8)  # fmt: skip
    axes.set(yticks=range(len(rows)), yticklabels=notebooks, xticks=[], ylabel="notebook")
    axes.set(xlim=(-0.6, max(map(len, rows.values())) - 0.4), ylim=(len(rows) - 0.3, -0.5))
    axes.grid(False)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)


def solution(name: str) -> None:
    """Print the solution of an exercise that was tried: `check` has seen an answer to it.

    Parameters
    ----------
    name : str
        Name of the exercise, such as "01.debias".
    """
    if not is_exercise(name):
        print(f"There is no exercise {name!r}. Choose from {', '.join(exercises())}.")
    elif name not in results():
        print(
            f"Try {name} first: write an answer in place of the line that raises "
            f'NotImplementedError, run its cell, and the cell with check("{name}", ...). '
            "Right or wrong, the solution can then be read here. The hints of the exercise help."
        )
    else:
        print(solutions()[name])
