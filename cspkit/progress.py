"""Progress bars for loops that take more than two seconds.

Bars appear in a terminal and in a notebook, but not in a log file. `CSPKIT_PROGRESS=0` turns them
off everywhere. The committed notebooks are executed with this setting, because bars write to
stderr.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm.auto import tqdm

T = TypeVar("T")


def progress(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Iterate over items and show a progress bar.

    Parameters
    ----------
    items : iterable
    label : str
        Text in front of the bar.
    total : int, optional
        Number of items. The default is `len(items)`, if `items` has a length.
    """
    shown = "ipykernel" in sys.modules or sys.stderr.isatty()
    off = os.environ.get("CSPKIT_PROGRESS") == "0" or not shown
    return iter(tqdm(items, desc=label, total=total, delay=2.0, disable=off))
