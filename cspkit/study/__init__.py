"""Fair comparisons of pruning methods, on any Task: grid, tuning, statistics, report."""

from cspkit.study.entries import Entry, entry
from cspkit.study.grid import compare
from cspkit.study.report import table
from cspkit.study.rows import pack_counts, read_rows, unpack_counts
from cspkit.study.statistics import cost_ratio, summary
from cspkit.study.tuning import default_space, finals, tune, tuned

__all__ = [
    "Entry",
    "compare",
    "cost_ratio",
    "default_space",
    "entry",
    "finals",
    "pack_counts",
    "read_rows",
    "summary",
    "table",
    "tune",
    "tuned",
    "unpack_counts",
]
