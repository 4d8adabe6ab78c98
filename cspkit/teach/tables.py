"""The checks of a notebook, read from its table `checks/notebookNN.toml`.

`setup` is code that every exercise of the notebook may use. Each exercise is a table:

solution
    Code of a function, the right answer. A later exercise may call it.
cases
    The example of the text comes first, then the hidden inputs. Code that assigns the arguments of
    the solution is shown to the reader as it is. An expression gives the tuple of the arguments,
    which are shown as name = value; or a list of such tuples or codes. A pair has the words to be
    shown and the expression.
mistakes
    Sentence = the wrong answers that it explains. A wrong answer is the code of the solution,
    edited: "old => new", several edits with " && " between; or another value to return, in which
    `solution(...)` is the right answer.
right
    A sentence that is printed after a right answer.
otherwise, explain
    What to add if no mistake is known: a sentence, or code that gives a sentence or "" from
    `answer`, `right` and `inputs`.
also, parts, rtol
    As for `cspkit.teach.cases.table`; `also` has the values of other right answers to return.
check
    Name of a function of `setup`. It takes the answer and the check by this table, which is None
    without a solution, and returns what a check returns.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cspkit.arguments import ArgumentError
from cspkit.teach import checks
from cspkit.teach.cases import Case, label, table
from cspkit.teach.check import Verdict, exercise

FOLDER = Path(checks.__file__).parent
KEYS = {"solution", "cases", "mistakes", "right", "otherwise", "explain", "also", "parts", "rtol",
        "check"}  # fmt: skip


def notebooks() -> list[str]:
    """Return the numbers of the notebooks that have a table, "00" first."""
    return sorted(path.stem.removeprefix("notebook") for path in FOLDER.glob("notebook*.toml"))


class Exercise(NamedTuple):
    """What a table says of an exercise: the functions that it describes, and its check.

    Without a solution, `solution` and `compare` are None, and there are no mistakes.
    """

    check: Callable[[object], Verdict]
    right: str
    solution: Callable | None
    mistakes: list[tuple[Callable, str]]
    compare: Callable[[Callable], Verdict] | None


def load(notebook: str) -> None:
    """Register the checks of one notebook, given its number, such as "03"."""
    content = (FOLDER / f"notebook{notebook}.toml").read_text("utf-8")
    for name, found in read_tables(content).items():
        exercise(f"{notebook}.{name}", found.right)(found.check)


def read_tables(content: str) -> dict[str, Exercise]:
    """Return the exercises of a table, given its content as TOML.

    Raises
    ------
    ArgumentError
        If an exercise has an unknown key, or an edit whose `old` is not in the solution.
    """
    tables = tomllib.loads(content)
    names: dict[str, Any] = {"np": np, "default_rng": np.random.default_rng, "Case": Case}
    exec(tables.pop("setup", ""), names)
    found = {}
    for name, given in tables.items():
        if unknown := sorted(set(given) - KEYS):
            raise ArgumentError(
                f"{name} has the key {unknown[0]!r}: expected one of {', '.join(sorted(KEYS))}"
            )
        found[name] = _exercise(given, names)
    return found


def edited(source: str, edit: str) -> str:
    """Return code with another part, "old => new" at every place, or with a new return value.

    Raises
    ------
    ArgumentError
        If the code has no `old`.
    """
    if "=>" not in edit:
        return source[: source.rindex("return ")] + f"return {edit}"
    for change in edit.split(" && "):
        old, new = (part.strip(" ") for part in change.split("=>"))
        if old not in source:
            raise ArgumentError(f"edit has {old!r}: expected a part of\n{source}")
        source = source.replace(old, new)
    return source


def _exercise(given: Mapping[str, Any], names: dict[str, Any]) -> Exercise:
    compare, solution, mistakes = None, None, []
    if "solution" in given:
        solution, mistakes, compare = _comparison(given, names)
    check = compare
    if "check" in given:
        check = partial(names[given["check"]], compare=compare)
    return Exercise(check, given.get("right", ""), solution, mistakes, compare)


def _comparison(given: Mapping[str, Any], names: dict[str, Any]) -> tuple:
    source = given["solution"]
    name, arguments = re.match(r"\s*def (\w+)\((.*?)\):", source).groups()
    solution = names[name] = _function(source, name, names)
    with_solution = names | {"solution": solution}

    def variants(edits: str | list[str]) -> list[Callable]:
        edits = [edits] if isinstance(edits, str) else edits
        return [_function(edited(source, edit), name, with_solution) for edit in edits]

    first, *others = given["cases"]
    cases = _cases(first, arguments, names, "the example, ")
    cases += [case for code in others for case in _cases(code, arguments, names)]
    mistakes = [
        (wrong, sentence)
        for sentence, edits in given["mistakes"].items()
        for wrong in variants(edits)
    ]
    otherwise = given.get("otherwise", "")
    if "explain" in given:
        explain = compile(given["explain"], "explain", "eval")

        def otherwise(answer, right, inputs):
            return eval(explain, names | {"answer": answer, "right": right, "inputs": inputs})

    options = {"parts": given.get("parts", ()), "rtol": given.get("rtol", 1e-5)}
    also = variants(given.get("also", []))
    return solution, mistakes, table(solution, cases, mistakes, otherwise, also=also, **options)


def _function(source: str, name: str, names: Mapping[str, Any]) -> Callable:
    found = dict(names)
    exec(source, found)
    return found[name]


def _cases(given: str | list[str], arguments: str, names: Mapping, before: str = "") -> list[Case]:
    """The cases of one entry. `before` is shown before the first, if it has no own words."""
    where, code = given if isinstance(given, list) else ("", given)
    parameters = arguments.split(", ")
    if not isinstance(ast.parse(code).body[0], ast.Expr):
        assigned = dict(names)
        exec(code, assigned)
        return [Case(before + code, tuple(assigned[name] for name in parameters))]
    found, cases = eval(code, dict(names)), []
    for case in found if isinstance(found, list) else [found]:
        if isinstance(case, str):
            cases += _cases(case, arguments, names, before)
        elif isinstance(case, Case):
            cases.append(case)
        else:
            cases.append(Case(where or before + label(parameters, case), case))
        before = ""
    return cases
