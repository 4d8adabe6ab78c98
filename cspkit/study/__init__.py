"""Fair comparisons of pruning methods, on any Task: grid, tuning, statistics, report."""

from cspkit.study.clusters import cluster
from cspkit.study.entries import Entry, entry
from cspkit.study.grid import compare, missing_runs
from cspkit.study.report import table
from cspkit.study.rows import pack_counts, read_rows, unpack_counts
from cspkit.study.search import default_space
from cspkit.study.statistics import cost_ratio, summary
from cspkit.study.tuning import finals, missing_finals, tune, tuned

__all__ = [
    "Entry",
    "cluster",
    "compare",
    "cost_ratio",
    "default_space",
    "entry",
    "finals",
    "missing_finals",
    "missing_runs",
    "pack_counts",
    "read_rows",
    "summary",
    "table",
    "tune",
    "tuned",
    "unpack_counts",
]
