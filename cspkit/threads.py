"""How many threads torch uses, set once, when a part that computes with it is imported."""

from __future__ import annotations

import contextlib
import ctypes
import os

import torch


def threads_asked() -> int:
    """Value of CSPKIT_THREADS, 1 where it is not set.

    Raises
    ------
    ValueError
        If it is no positive integer.
    """
    asked = os.environ.get("CSPKIT_THREADS", "1")
    if not asked.isdecimal() or int(asked) < 1:
        raise ValueError(f"CSPKIT_THREADS is {asked!r}: expected a positive integer")
    return int(asked)


def use_threads(count: int) -> None:
    """Set the number of torch threads, and keep freed memory in the process.

    On small recurrent networks two threads gain nothing over one, and thread pools that fight
    each other cost much more than they give: the parallelism here is processes over runs. The
    default C library on Linux returns the large blocks of every step to the system and takes
    them back, page by page, in the next; thresholds beyond their size stop that.
    """
    torch.set_num_threads(count)
    with contextlib.suppress(OSError, AttributeError):
        mmap_threshold, trim_threshold = -3, -1  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD of malloc.h
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(mmap_threshold, 1 << 30)
        mallopt(trim_threshold, (1 << 31) - 1)


use_threads(threads_asked())
