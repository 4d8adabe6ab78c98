"""Checks of arguments. A message names the argument, the value given and the value expected."""

from __future__ import annotations

import math
from numbers import Integral, Real


class ArgumentError(ValueError):
    """The caller gave something wrong: an argument, a file or a class.

    Every check of the package raises this error. A plain ValueError means a fault inside the
    package. The command line exits with code 2 after an ArgumentError, and with code 1 after a
    ValueError.
    """


def count(name: str, value: int, least: int = 1, most: int | None = None) -> int:
    """Check that a value is a whole number from `least` to `most`; return it as an int."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        bounds = f">= {least}" if most is None else f"from {least} to {most}"
        raise ArgumentError(f"{name} is {value!r}: expected a whole number {bounds}")
    return int(value)


def positive(name: str, value: float, zero: bool = False) -> float:
    """Check that a number is finite and > 0 (>= 0 if `zero` is true); return it as a float."""
    if not _is_real(value) or not 0 <= value < math.inf or (value == 0 and not zero):
        bounds = ">= 0" if zero else "> 0"
        raise ArgumentError(f"{name} is {value!r}: expected a finite number {bounds}")
    return float(value)


def fraction(name: str, value: float) -> float:
    """Check that a number is in [0, 1]; return it as a float."""
    if not _is_real(value) or not 0 <= value <= 1:
        raise ArgumentError(f"{name} is {value!r}: expected a fraction in [0, 1]")
    return float(value)


def one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    """Check that a string is one of the known strings; return it."""
    if not isinstance(value, str) or value not in known:
        raise ArgumentError(f"{name} is {value!r}: expected one of {', '.join(map(repr, known))}")
    return value


def _is_real(value: object) -> bool:
    try:
        float(value)
    except (OverflowError, TypeError, ValueError):
        return False
    return isinstance(value, Real) and not isinstance(value, bool)
