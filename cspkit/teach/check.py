"""Exercise checks: they say whether an answer is right, and if not, what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Verdict = str | None  # a sentence that says what is wrong, or None if the answer is right
NOTHING = "the function returns None; does it end with a return line?"
_CHECKS: dict[str, Callable[[object], Verdict]] = {}


def exercise(name: str) -> Callable[[Callable[[object], Verdict]], Callable[[object], Verdict]]:
    """Register a function as the check of an exercise.

    The function takes the answer. It returns a sentence that says what is wrong, or None if the
    answer is right.
    """

    def register(function: Callable[[object], Verdict]) -> Callable[[object], Verdict]:
        _CHECKS[name] = function
        return function

    return register


def check(name: str, answer: object) -> None:
    """Print whether an answer is right. An answer that fails raises no error.

    Parameters
    ----------
    name : str
        Name of the exercise, such as "01.hard_threshold".
    answer : object
        The function or value that the exercise asks for.
    """
    print(verdict(name, answer))


def verdict(name: str, answer: object) -> str:
    """Return the sentence that `check` prints: "right", "not yet" or "not solved", and why."""
    if name not in _CHECKS:
        return f"not yet: there is no exercise {name!r}; choose from {', '.join(sorted(_CHECKS))}"
    try:
        wrong = _CHECKS[name](answer)
    except NotImplementedError:
        return f"not solved: {name} still raises NotImplementedError"
    except (Exception, SystemExit) as error:  # the student's code may raise anything
        return f"not yet: {name} fails with {type(error).__name__}: {error}"
    return f"right: {name}" if wrong is None else f"not yet: {name}: {wrong}"


def as_array(answer: object, shape: tuple[int, ...]) -> tuple[np.ndarray | None, Verdict]:
    """Return an answer as an array of this shape, or a sentence that says what is wrong."""
    if answer is None:
        return None, NOTHING
    expected = f"one array of shape {shape}" if shape else "one number"
    try:
        array = np.asarray(answer, dtype=float)
    except (TypeError, ValueError):
        return None, f"the function returns a {type(answer).__name__}, expected {expected}"
    if array.shape != shape:
        return None, f"the answer has shape {array.shape}, expected {shape or 'one number'}"
    if not np.all(np.isfinite(array)):
        return None, "the answer contains nan or inf"
    return array, None


def exercises() -> list[str]:
    """Return the names of all exercises that have a check."""
    return sorted(_CHECKS)


def named(answer: np.ndarray, known: Sequence[tuple[object, str]], otherwise: str) -> str:
    """Name the mistake in an answer.

    `known` has pairs of a wrong answer and the sentence for it. The result is the first sentence
    whose wrong answer equals this answer, or `otherwise`.
    """
    for value, sentence in known:
        if np.shape(value) == np.shape(answer) and np.allclose(value, answer):
            return sentence
    return otherwise
