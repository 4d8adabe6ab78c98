"""The number of torch threads. It is set when a module that computes with torch is imported."""

from __future__ import annotations

import contextlib
import ctypes
import os

import torch

from cspkit.arguments import ArgumentError

MOST = 1024  # torch starts as many threads as it is asked for


def threads_asked() -> int:
    """Read the number of threads from the variable CSPKIT_THREADS; the default is 1.

    Raises
    ------
    ArgumentError
        If the variable is not a whole number from 1 to 1024.
    """
    text = os.environ.get("CSPKIT_THREADS", "1")
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise ArgumentError(f"CSPKIT_THREADS is {text!r}: expected a whole number from 1 to {MOST}")
    return int(text)


def use_threads(count: int) -> None:
    """Set the number of torch threads, and keep freed memory in the process.

    For small recurrent networks two threads are not faster than one, and thread pools that
    compete for the same cores are much slower. cspkit therefore uses one thread, and runs several
    trainings in parallel processes.

    The C library on Linux returns the large memory blocks of every training step to the system
    and takes them back, page by page, in the next step. Higher thresholds stop this.
    """
    torch.set_num_threads(count)
    with contextlib.suppress(OSError, AttributeError):
        mmap_threshold, trim_threshold = -3, -1  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD of malloc.h
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(mmap_threshold, 1 << 30)
        mallopt(trim_threshold, (1 << 31) - 1)


use_threads(threads_asked())
