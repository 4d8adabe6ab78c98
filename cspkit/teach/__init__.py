"""Tools of the notebooks: figures, exercise checks, student copies, the site."""

from cspkit.teach import checks
from cspkit.teach.check import check, exercises, grade, verdict
from cspkit.teach.live import LivePlot
from cspkit.teach.plots import style
from cspkit.teach.sliders import explore
from cspkit.teach.solved import progress, solution

__all__ = [
    "LivePlot",
    "check",
    "checks",
    "exercises",
    "explore",
    "grade",
    "progress",
    "solution",
    "style",
    "verdict",
]
