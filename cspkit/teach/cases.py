"""The check of a function: inputs, a right function, and known mistakes with their sentences."""

from __future__ import annotations

import copy
import dis
import inspect
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from cspkit.teach.check import NOTHING, Verdict, a_kind, as_array

SMALL = 24  # entries of an array that is written out; of a larger one the shape is


class Case(NamedTuple):
    """One input of a check. `where` shows the input to the reader."""

    where: str
    inputs: tuple


def table(
    reference: Callable,
    cases: Sequence[Case],
    mistakes: Sequence[tuple[Callable, str]],
    otherwise: str | Callable[[object, object, tuple], str] = "",
    parts: Sequence[str] = (),
    rtol: float = 1e-5,
    *,
    also: Sequence[Callable] = (),
) -> Callable[[Callable], Verdict]:
    """Return a check that compares a function with a reference.

    Parameters
    ----------
    reference : callable
        The right answer. If it returns a bool, an answer may return a bool or an integer; integers
        must be equal; if it returns a tensor, an answer must return a tensor.
    cases : sequence of Case
    mistakes : sequence of (callable, str)
        Wrong answers, each with the sentence that names the mistake. The first mistake is named
        that agrees with the answer on every case that the answer survives; or else, if the answer
        is no bool, on every case where the answer is wrong.
    otherwise : str or callable
        What to add if no mistake is known; or a function of answer, right answer and inputs.
    parts : sequence of str
        Names of the arrays, if the exercise returns more than one.
    rtol : float
        Relative tolerance.
    also : sequence of callables
        Other right answers, whose values differ from those of `reference`.

    Returns
    -------
    callable
        It takes an answer, and returns None or a sentence, as a check does.
    """
    names = list(inspect.signature(reference).parameters)

    def judge(function: Callable) -> Verdict:
        asked = [_ask(function, case, names) for case in cases]
        survived = [
            (answer, case.inputs)
            for (answer, wrong), case in zip(asked, cases, strict=True)
            if not wrong
        ]

        def agrees(other: Callable, pairs: list) -> bool:
            try:
                with np.errstate(all="ignore"):
                    return all(_equal(answer, other(*inputs), rtol) for answer, inputs in pairs)
            except (ArithmeticError, LookupError, TypeError, ValueError):
                return False  # a mistake that fails where the answer does not

        if len(survived) == len(cases) and any(agrees(other, survived) for other in also):
            return None
        for (answer, wrong), case in zip(asked, cases, strict=True):
            if wrong:
                return wrong
            expected = reference(*case.inputs)
            if hasattr(expected, "detach") and not hasattr(answer, "detach"):
                return f"the function returns {a_kind(answer)}, expected a tensor"
            wrong = _wrong_form(answer, expected, parts)
            if wrong or not _equal(answer, expected, rtol):
                break
        else:
            return None
        faults = [pair for pair in survived if not agrees(reference, [pair])]
        for pairs in (survived, [] if _is_bool(expected) else faults):
            for mistake, sentence in mistakes if pairs else ():
                if agrees(mistake, pairs):
                    return f"{sentence}; tried with {case.where}"
        if wrong:
            return f"{wrong}; tried with {case.where}"
        tail = otherwise if isinstance(otherwise, str) else otherwise(answer, expected, case.inputs)
        what = "the answer"
        if parts:  # show the first that differs
            what, answer, expected = next(
                part
                for part in zip(parts, answer, expected, strict=True)
                if not _equal(*part[1:], rtol)
            )
        if getattr(expected, "ndim", 0) == 2 and len(expected) > 1:
            row = next(i for i, e in enumerate(expected) if not _equal(answer[i], e, rtol))
            what, answer, expected = f"row {row} of {what}", answer[row], expected[row]
        shown = [text(value) for value in (answer, expected)]
        if shown[0] == shown[1]:
            shown = [text(value, digits=10) for value in (answer, expected)]
        return f"for {case.where}\n{what} is {shown[0]}, expected {shown[1]}" + (
            f"; {tail}" if tail else ""
        )

    def check(function: Callable) -> Verdict:
        wrong = judge(function)
        if wrong and (read := _read_outside(function)):
            names_read = ", ".join(read)
            wrong += f"; the function reads {names_read} of the notebook: use the arguments instead"
        return wrong

    return check


def text(value: object, digits: int = 4) -> str:
    """Write a number, a small array, or a list of them; of a large array the first and last."""
    if isinstance(value, str):
        return repr(value)
    if isinstance(value, bytes | dict):
        return f"{value!r:.60}"
    if isinstance(value, tuple | list) and any(np.ndim(part) for part in value):
        return " and ".join(text(part, digits) for part in value)
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        return str(value)
    if array.ndim:
        return np.array2string(
            array, precision=digits, separator=", ", suppress_small=digits < 9, threshold=SMALL
        )
    number = array.item()
    if isinstance(number, bool) or number % 1 == 0 and abs(number) < 1e9:
        return f"{number if isinstance(number, bool) else int(number)}"
    return f"{number:.{digits}g}"


def label(names: Sequence[str], inputs: tuple) -> str:
    """Write arguments as name = value, or as their shape."""
    return ", ".join(
        f"{name} = {text(value)}" if _size(value) <= SMALL else f"{name} of shape {np.shape(value)}"
        for name, value in zip(names, inputs, strict=False)
    )


def _size(value: object) -> int:
    return sum(map(_size, value)) if isinstance(value, list | tuple) else np.asarray(value).size


def _ask(function: Callable, case: Case, names: Sequence[str]) -> tuple[object, Verdict]:
    """Return the answer for a case, or a sentence that says why there is none."""
    given = copy.deepcopy(case.inputs)
    try:
        answer = function(*given)
    except NotImplementedError:
        raise
    except (Exception, SystemExit) as error:  # the student's code may raise anything
        return None, f"for {case.where}\nit fails with {type(error).__name__}: {error}"
    if answer is None:
        return None, f"{NOTHING} tried with {case.where}"
    for i, (before, after) in enumerate(zip(case.inputs, given, strict=True)):
        if not _same(before, after):
            name = names[i] if i < len(names) else "an input"
            return None, f"{name} itself was changed in place; work on a new array"
    return answer, None


def _read_outside(function: Callable) -> list[str]:
    """Data that a function reads from the notebook. Constants, in capitals, are left out."""
    if not inspect.isfunction(function):
        return []
    names = {i.argval for i in dis.get_instructions(function) if i.opname == "LOAD_GLOBAL"}
    data = {name: function.__globals__.get(name, callable) for name in names}
    return sorted(
        name
        for name, value in data.items()
        if not (callable(value) or inspect.ismodule(value) or (len(name) > 1 and name.isupper()))
    )


def _same(one: object, other: object) -> bool:
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return np.array_equal(one, other)


def _equal(answer: object, right: object, rtol: float) -> bool:
    if isinstance(right, tuple):
        return _is_several(answer, right) and all(
            _equal(a, r, rtol) for a, r in zip(answer, right, strict=True)
        )
    if isinstance(right, str | bytes | dict):
        return isinstance(answer, type(right)) and answer == right
    if hasattr(right, "detach") and not hasattr(answer, "detach"):
        return False
    try:
        array = np.asarray(answer, dtype=float)
    except (TypeError, ValueError, RuntimeError):
        return False
    if np.asarray(right).dtype.kind in "biu":
        rtol = 0.0
    return array.shape == np.shape(right) and np.allclose(array, right, rtol=rtol, equal_nan=True)


def _is_several(answer: object, right: tuple) -> bool:
    """Whether an answer has the parts of the right one, in a tuple, a list or one array."""
    dimensions = [getattr(part, "ndim", 0) for part in (answer, *right)]
    several = isinstance(answer, tuple | list) or dimensions[0] > max(dimensions[1:])
    return several and len(answer) == len(right)


def _is_bool(value: object) -> bool:
    return not isinstance(value, tuple) and np.asarray(value).dtype == bool


def _wrong_form(answer: object, right: object, parts: Sequence[str]) -> Verdict:
    """A sentence if the answer has another type or shape than the right one, or is not finite."""
    if isinstance(right, str | dict):
        wrong = f"the function returns {a_kind(answer)}, expected {a_kind(right)}"
        return None if isinstance(answer, type(right)) else wrong
    if isinstance(right, tuple):
        several = " and ".join(parts) or f"a list of {len(right)} arrays"
        parts = parts or [f"array {i}" for i in range(len(right))]
        if not _is_several(answer, right):
            return f"the function returns {a_kind(answer)}, expected {several}"
        for name, part, expected in zip(parts, answer, right, strict=True):
            if wrong := _wrong_form(part, expected, ()):
                return f"of {name}: {wrong}"
        return None
    finite = bool(np.isfinite(np.asarray(right)).all())
    scalar = "True or False" if _is_bool(right) else "one number"
    array, wrong = as_array(answer, np.shape(right), finite, scalar)
    if not wrong and _is_bool(right) and np.asarray(answer).dtype.kind == "f":
        return f"the answer has the type float ({array.flat[0]}), expected True or False"
    return wrong
