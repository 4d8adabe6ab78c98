"""Progress bars: in a terminal or a notebook, where they take over two seconds.

`CSPKIT_PROGRESS=0` switches them off everywhere, as in committed notebooks, since they write to
stderr; a log file gets none.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm.auto import tqdm

T = TypeVar("T")


def progress(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Iterate over items behind a labelled bar; `total` is their number where they have no len."""
    shown = "ipykernel" in sys.modules or sys.stderr.isatty()
    off = os.environ.get("CSPKIT_PROGRESS") == "0" or not shown
    return iter(tqdm(items, desc=label, total=total, delay=2.0, disable=off))
