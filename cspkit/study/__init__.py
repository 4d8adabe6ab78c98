"""Fair comparisons of pruning methods, on any Task: grid, tuning, statistics, report."""

from cspkit.study.grid import compare
from cspkit.study.rows import pack_counts, read_rows, unpack_counts
from cspkit.study.runs import Entry, entry
from cspkit.study.tuning import default_space, tune, tuned

__all__ = [
    "Entry",
    "compare",
    "default_space",
    "entry",
    "pack_counts",
    "read_rows",
    "tune",
    "tuned",
    "unpack_counts",
]
