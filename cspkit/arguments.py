"""Settings of a run, checked: the error names the argument, what came and what was expected."""

from __future__ import annotations

import math
from numbers import Integral, Real


def count(name: str, value: int, least: int = 1) -> int:
    """A setting that counts from `least`, as an int."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} is {value!r}: expected a whole number >= {least}")
    return int(value)


def positive(name: str, value: float, zero: bool = False) -> float:
    """A setting > 0, or >= 0 where it may be zero, as a float."""
    if not isinstance(value, Real) or not 0 <= value < math.inf or (value == 0 and not zero):
        raise ValueError(f"{name} is {value!r}: expected a finite number {'>=' if zero else '>'} 0")
    return float(value)


def fraction(name: str, value: float) -> float:
    """A setting in [0, 1], as a float."""
    if not isinstance(value, Real) or not 0 <= value <= 1:
        raise ValueError(f"{name} is {value!r}: expected a fraction in [0, 1]")
    return float(value)
