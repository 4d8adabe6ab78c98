"""Checks of arguments: the message names the argument, what came and what was expected."""

from __future__ import annotations

import math
from numbers import Integral, Real


class ArgumentError(ValueError):
    """What the caller gave is wrong: an argument, a file that was named, a class that was passed.

    Every check of the package raises it. A plain ValueError is a fault inside the package, and
    the command line tells the two apart: exit code 2 for the first, 1 for the second.
    """


def count(name: str, value: int, least: int = 1, most: int | None = None) -> int:
    """Return a whole number from `least` to `most` as an int."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        bounds = f">= {least}" if most is None else f"from {least} to {most}"
        raise ArgumentError(f"{name} is {value!r}: expected a whole number {bounds}")
    return int(value)


def positive(name: str, value: float, zero: bool = False) -> float:
    """Return a finite number > 0, or >= 0 where it may be zero, as a float."""
    if not _is_real(value) or not 0 <= value < math.inf or (value == 0 and not zero):
        bounds = ">= 0" if zero else "> 0"
        raise ArgumentError(f"{name} is {value!r}: expected a finite number {bounds}")
    return float(value)


def fraction(name: str, value: float) -> float:
    """Return a number in [0, 1] as a float."""
    if not _is_real(value) or not 0 <= value <= 1:
        raise ArgumentError(f"{name} is {value!r}: expected a fraction in [0, 1]")
    return float(value)


def one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    """Return a string that is among the known ones."""
    if value not in known:
        raise ArgumentError(f"{name} is {value!r}: expected one of {', '.join(map(repr, known))}")
    return value


def _is_real(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
