"""Exercise checks: they say whether an answer is right, and if not, what is wrong."""

from __future__ import annotations

import copy
import inspect
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
        return (
            f"not solved: {name} still raises NotImplementedError; "
            "if you wrote an answer, run the cell of the function again"
        )
    except (Exception, SystemExit) as error:  # the student's code may raise anything
        return f"not yet: {name} fails with {type(error).__name__}: {error}"
    return f"right: {name}" if wrong is None else f"not yet: {name}: {wrong}"


def grade(name: str, answer: object) -> None:
    """Raise an error unless an answer is right. nbgrader's hidden tests call this.

    Raises
    ------
    AssertionError
        The message is the sentence of `check`.
    """
    sentence = verdict(name, answer)
    assert sentence.startswith("right"), sentence


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


def compare(
    function: Callable[..., object],
    reference: Callable[..., object],
    inputs: Sequence[tuple],
    mistakes: Sequence[tuple[Callable[..., object], str]] = (),
    also: Sequence[Callable[..., object]] = (),
    tolerance: float = 1e-6,
) -> Verdict:
    """Compare a function with a reference on inputs that are small enough to be shown.

    Parameters
    ----------
    function, reference : callable
        The answer of a student, and a right one. Both return a number or an array.
    inputs : sequence of tuples
        Arguments. Those that the notebook shows come first.
    mistakes : sequence of (callable, str)
        Wrong functions, with the sentence for each. The sentence is returned if the answer and the
        wrong function agree on all inputs.
    also : sequence of callables
        Other right functions, whose values differ from those of `reference`.
    tolerance : float
        Largest relative and absolute difference.
    """

    def agree(one: Sequence[np.ndarray], other: Callable[..., object]) -> bool:
        return all(
            np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=tolerance, atol=tolerance)
            for a, b in ((a, other(*given)) for a, given in zip(one, inputs, strict=True))
        )

    answers = []
    for given in inputs:
        passed, where = copy.deepcopy(given), f"for {shown(reference, given)}"
        try:
            value = function(*passed)
        except NotImplementedError:
            raise
        except Exception as error:
            return f"{where}\nit fails with {type(error).__name__}: {error}"
        value, wrong = as_array(value, np.shape(reference(*given)))
        if wrong:
            return wrong if given is inputs[0] else f"{where}\n{wrong}"
        if not all(map(np.array_equal, passed, given)):
            return "an input was modified in place; work on a new array"
        answers.append(value)
    if any(agree(answers, right) for right in (reference, *also)):
        return None
    for mistake, sentence in mistakes:
        if agree(answers, mistake):
            return sentence
    for value, given in zip(answers, inputs, strict=True):
        right = reference(*given)
        if not np.allclose(value, right, rtol=tolerance, atol=tolerance):
            return f"for {shown(reference, given)}\nit gives {text(value)}, expected {text(right)}"
    return "each value alone is allowed, but the values do not belong to one definition"


def shown(function: Callable[..., object], given: tuple) -> str:
    """Write the arguments of a function as name = value."""
    names = inspect.signature(function).parameters
    return ", ".join(f"{name} = {text(value)}" for name, value in zip(names, given, strict=False))


def text(value: object) -> str:
    """Write a number, or an array with a line for each row."""
    if np.ndim(value) == 0:
        return f"{value:.5g}"
    return np.array2string(np.asarray(value), precision=4, separator=", ", suppress_small=True)
