"""Tools of the notebooks: figures, exercise checks, student copies, the site."""

from cspkit.teach import checks
from cspkit.teach.check import check, exercises, verdict
from cspkit.teach.live import LivePlot
from cspkit.teach.plots import style
from cspkit.teach.solved import progress, solution

__all__ = [
    "LivePlot",
    "check",
    "checks",
    "exercises",
    "progress",
    "solution",
    "style",
    "verdict",
]
