"""Exercise checks as tables: a reference, inputs, and known mistakes with their sentences."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from cspkit.teach.check import NOTHING, Verdict, as_array, exercise


class Case(NamedTuple):
    """One input of a check. `where` shows the input to the reader, as text or as code."""

    where: str
    inputs: tuple


def table(
    name: str,
    reference: Callable,
    cases: Sequence[Case],
    mistakes: Sequence[tuple[Callable, str]],
    otherwise: str | Callable[[object, object, tuple], str] = "",
    parts: Sequence[str] = (),
    rtol: float = 1e-5,
) -> Callable[[Callable], Verdict]:
    """Register the check of an exercise that compares a function with a reference.

    Parameters
    ----------
    name : str
        Name of the exercise, such as "03.best_step".
    reference : callable
        The right answer.
    cases : sequence of Case
        The examples of the text come first, then the hidden inputs.
    mistakes : sequence of (callable, str)
        Wrong answers, each with the sentence that names the mistake. A mistake is named if it
        agrees with the answer on every case that the answer survives.
    otherwise : str or callable
        What to add if no mistake is known; or a function of answer, right answer and inputs.
    parts : sequence of str
        Names of the arrays, if the exercise returns more than one.
    rtol : float
        Relative tolerance.

    Returns
    -------
    callable
        The check, for an exercise that needs another question before or after it.
    """

    def check(function: Callable) -> Verdict:
        answers = []
        for case in cases:
            answer, wrong = _ask(function, case)
            if wrong:
                return wrong
            answers.append((answer, case.inputs))
            right = reference(*case.inputs)
            if not _equal(answer, right, rtol):
                break
        else:
            return None
        answers += [(_ask(function, c)[0], c.inputs) for c in cases[len(answers) :]]
        survived = [(given, inputs) for given, inputs in answers if given is not None]
        for mistake, sentence in mistakes:
            if all(_equal(given, mistake(*inputs), rtol) for given, inputs in survived):
                return f"{sentence}; tried with {case.where}"
        wrong = _wrong_form(answer, right, parts)
        if wrong:
            return f"{wrong}; tried with {case.where}"
        tail = otherwise if isinstance(otherwise, str) else otherwise(answer, right, case.inputs)
        shown, expected = _show(answer), _show(right)
        if shown == expected:
            shown, expected = _show(answer, digits=10), _show(right, digits=10)
        return f"for {case.where} the answer is {shown}, expected {expected}" + (
            f"; {tail}" if tail else ""
        )

    return exercise(name)(check)


def _ask(function: Callable, case: Case) -> tuple[object, Verdict]:
    """Return the answer for a case, or a sentence that says why there is none."""
    given = copy.deepcopy(case.inputs)
    try:
        answer = function(*given)
    except NotImplementedError:
        raise
    except (Exception, SystemExit) as error:  # the student's code may raise anything
        return None, f"for {case.where} it fails with {type(error).__name__}: {error}"
    if answer is None:
        return None, NOTHING
    if not all(map(np.array_equal, given, case.inputs)):
        return None, f"an input was modified in place; work on new arrays; tried with {case.where}"
    return answer, None


def _equal(answer: object, right: object, rtol: float) -> bool:
    if isinstance(right, tuple):
        return (
            isinstance(answer, tuple | list)
            and len(answer) == len(right)
            and all(_equal(a, r, rtol) for a, r in zip(answer, right, strict=True))
        )
    if isinstance(right, str):
        return isinstance(answer, str) and answer == right
    try:
        array = np.asarray(answer, dtype=float)
    except (TypeError, ValueError):
        return False
    return array.shape == np.shape(right) and np.allclose(array, right, rtol=rtol)


def _wrong_form(answer: object, right: object, parts: Sequence[str]) -> Verdict:
    """A sentence if the answer has another type or shape than the right one, or is not finite."""
    if isinstance(right, str):
        kind = type(answer).__name__
        return None if kind == "str" else f"the function returns a {kind}, expected a str"
    if not parts:
        return as_array(answer, np.shape(right))[1]
    if not isinstance(answer, tuple | list) or len(answer) != len(parts):
        return f"the function returns a {type(answer).__name__}, expected {' and '.join(parts)}"
    for name, part, expected in zip(parts, answer, right, strict=True):
        if wrong := as_array(part, np.shape(expected))[1]:
            return f"of {name}: {wrong}"
    return None


def _show(value: object, digits: int = 4) -> str:
    """A value in a few words: a number, or the first four numbers of an array."""
    if isinstance(value, tuple | list) and any(map(np.ndim, value)):
        return " and ".join(_show(part, digits) for part in value)
    if isinstance(value, str):
        return repr(value)
    array = np.asarray(value)
    if array.ndim == 0:
        return str(bool(array)) if array.dtype == bool else f"{float(array):.{digits}g}"
    flat = array.ravel()
    more = ", ..." if flat.size > 4 else ""
    return "[" + ", ".join(f"{float(v):.{digits}g}" for v in flat[:4]) + more + "]"
