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


def progress(items: Iterable[T], label: str) -> Iterator[T]:
    """Iterate over items behind a labelled bar."""
    shown = "ipykernel" in sys.modules or sys.stderr.isatty()
    off = os.environ.get("CSPKIT_PROGRESS") == "0" or not shown
    return iter(tqdm(items, desc=label, delay=2.0, disable=off))
