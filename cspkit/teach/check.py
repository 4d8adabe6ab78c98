"""Exercise checks: they say whether an answer is right, and if not, what is wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cspkit.teach.record import record

Verdict = str | None  # a sentence that says what is wrong, or None if the answer is right
NOTHING = "the function returns None; does it end with a return line?"
_CHECKS: dict[str, Callable[[object], Verdict]] = {}
_RIGHT: dict[str, str] = {}


def exercise(name: str, right: str = "") -> Callable[[Callable], Callable]:
    """Register a function as the check of an exercise.

    The function takes the answer. It returns a sentence that says what is wrong, or None if the
    answer is right.

    Parameters
    ----------
    name : str
        Name of the exercise. It starts with the number of the notebook, "03.best_step".
    right : str
        A sentence that is printed after a right answer: a comparison, a limit, a later use.
    """

    def register(function: Callable[[object], Verdict]) -> Callable[[object], Verdict]:
        _CHECKS[name], _RIGHT[name] = function, right
        return function

    return register


def check(name: str, answer: object) -> None:
    """Print whether an answer is right. An answer that fails raises no error.

    In the folder of a student the result is also recorded, see `cspkit.teach.progress`.

    Parameters
    ----------
    name : str
        Name of the exercise, such as "01.hard_threshold".
    answer : object
        The function or value that the exercise asks for.
    """
    sentence = verdict(name, answer)
    print(sentence)
    if name in _CHECKS and not sentence.startswith("not solved"):
        record(name, solved=sentence.startswith("right"))


def verdict(name: str, answer: object) -> str:
    """Return the sentence that `check` prints: "right", "not yet" or "not solved", and why."""
    if not is_exercise(name):
        return f"not yet: there is no exercise {name!r}; choose from {', '.join(exercises())}"
    try:
        wrong = _CHECKS[name](answer)
    except NotImplementedError:
        return (
            f"not solved: {name} still raises NotImplementedError; "
            "if you wrote an answer, run the cell of the function again"
        )
    except (Exception, SystemExit) as error:  # the student's code may raise anything
        return f"not yet: {name} fails with {type(error).__name__}: {error}"
    if wrong is None:
        return f"right: {name}. {_RIGHT[name]}".removesuffix(". ")
    return f"not yet: {name}: {wrong}"


def grade(name: str, answer: object) -> None:
    """Raise an error unless an answer is right. nbgrader's hidden tests call this.

    Raises
    ------
    AssertionError
        The message is the sentence of `check`.
    """
    sentence = verdict(name, answer)
    if not sentence.startswith("right"):
        raise AssertionError(sentence)


def as_array(
    answer: object, shape: tuple[int, ...], finite: bool = True, scalar: str = "one number"
) -> tuple[np.ndarray | None, Verdict]:
    """Return an answer as an array of this shape, or a sentence that says what is wrong.

    `scalar` says what is expected if the shape is ().
    """
    if answer is None:
        return None, NOTHING
    expected = f"one array of shape {shape}" if shape else scalar
    try:
        if isinstance(answer, str):  # np.asarray reads "inf" and "0.5" as numbers
            raise TypeError
        array = np.asarray(answer, dtype=float)
    except (TypeError, ValueError):
        return None, f"the function returns {a_kind(answer)}, expected {expected}"
    if array.shape != shape:
        return None, f"the answer has shape {array.shape}, expected {shape or scalar}"
    if finite and not np.all(np.isfinite(array)):
        return None, "the answer contains nan or inf"
    return array, None


def a_kind(answer: object) -> str:
    """Return the type of an answer with its article: "a list", "an ndarray"."""
    kind = type(answer).__name__
    return f"{'an' if kind[0] in 'aeiouAEIO' or kind == 'ndarray' else 'a'} {kind}"


def is_exercise(name: str) -> bool:
    """Whether an exercise has a check. Only the checks of its notebook are loaded."""
    from cspkit.teach.tables import load, notebooks

    if name not in _CHECKS and name[:2] in notebooks():
        load(name[:2])
    return name in _CHECKS


def exercises() -> list[str]:
    """Return the names of all exercises that have a check, in the order of the notebooks."""
    from cspkit.teach.tables import load, notebooks

    for notebook in notebooks():
        load(notebook)
    return sorted(_CHECKS, key=lambda name: name[:2])
