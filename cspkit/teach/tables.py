"""The checks of a notebook, read from its table `checks/notebookNN.toml`.

`setup` is code that every exercise of the notebook may use; `np`, `default_rng` and `Case` are
there without it. Each exercise is a table. A key with a space is a sentence that names a mistake:
its value has the wrong answers that it explains. A wrong answer is the code of the solution,
edited: "old => new" changes every place, and " && " joins several edits. Or it is a value to return
in place of the last one, in which `solution(...)` is the right answer. The first mistake that fits
is named, so the more special one comes first. The other keys are:

cases
    The example of the text comes first, then the hidden inputs. Code that assigns all arguments of
    the solution is shown to the reader as it is. An expression gives the tuple of the arguments,
    which are shown as name = value; or a list of such tuples or codes. A pair has the words to be
    shown and an expression that gives a tuple. Arguments with a default may be left out.
solution
    Code of a function, the right answer, if that of the notebook in `checks/solutions.toml` cannot
    serve. The names that it uses are in `setup`. A later exercise may call it.
right
    A sentence that is printed after a right answer.
otherwise, explain
    What to add if no mistake is known: a sentence, or code that gives a sentence or "" from
    `answer`, `right` and `inputs`.
also, parts, rtol
    As for `cspkit.teach.cases.table`; `also` has the values of other right answers to return.
check
    Name of a function of `setup`. It takes the answer and `compare`, the check by this table, which
    is None without cases. It returns what a check returns.

`checks/solutions.toml` is generated: see `cspkit.teach.notebooks`.
"""

from __future__ import annotations

import ast
import inspect
import tomllib
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cspkit.arguments import ArgumentError
from cspkit.teach import checks
from cspkit.teach.cases import Case, label, table
from cspkit.teach.check import Verdict, exercise

FOLDER = Path(checks.__file__).parent
SOLUTIONS = FOLDER / "solutions.toml"
GENERATE = "`python -m cspkit.teach.notebooks` takes it from the notebook"
KEYS = {"also", "cases", "check", "explain", "otherwise", "parts", "right", "rtol", "solution"}


def notebooks() -> list[str]:
    """Return the numbers of the notebooks that have a table, "00" first."""
    return sorted(path.stem.removeprefix("notebook") for path in FOLDER.glob("notebook*.toml"))


class Exercise(NamedTuple):
    """What a table says of an exercise: the functions that it describes, and its check.

    Without cases, `solution` and `compare` are None, and there are no mistakes.
    """

    check: Callable[[object], Verdict]
    right: str
    solution: Callable | None
    mistakes: list[tuple[Callable, str]]
    compare: Callable[[Callable], Verdict] | None


@cache
def load(notebook: str) -> None:
    """Register the checks of one notebook, given its number, such as "03", if they are not yet."""
    content = (FOLDER / f"notebook{notebook}.toml").read_text("utf-8")
    for name, found in read_tables(content, notebook).items():
        exercise(f"{notebook}.{name}", found.right)(found.check)


@cache
def solutions() -> dict[str, str]:
    """Return the code of the solutions in the notebooks, by the names of the exercises."""
    return tomllib.loads(SOLUTIONS.read_text("utf-8"))


def read_tables(content: str, notebook: str) -> dict[str, Exercise]:
    """Return the exercises of a notebook, given the content of its table as TOML.

    Raises
    ------
    ArgumentError
        If a table is wrong. The message names the file and the exercise, and says what is wrong.
    """
    tables = tomllib.loads(content)
    names: dict[str, Any] = {"np": np, "default_rng": np.random.default_rng, "Case": Case}
    exec(tables.pop("setup", ""), names)
    found = {}
    for name, given in tables.items():
        try:
            default = {"solution": solutions().get(f"{notebook}.{name}")}
            found[name] = _exercise(default | given, names)
        except Exception as error:  # the code in a table may raise anything
            kind = "" if isinstance(error, ArgumentError) else f"{type(error).__name__}: "
            raise ArgumentError(f"notebook{notebook}.toml, {name}: {kind}{error}") from error
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
    for change in edit.split("&&"):
        old, arrow, new = (part.strip(" ") for part in change.partition("=>"))
        if not arrow or "=>" in new:
            raise ArgumentError(f"edit has {change!r}: expected 'old => new'")
        if old not in source:
            raise ArgumentError(f"edit has {old!r}: expected a part of\n{source}")
        source = source.replace(old, new)
    return source


def _exercise(given: Mapping[str, Any], names: dict[str, Any]) -> Exercise:
    if unknown := [key for key in given if key not in KEYS and " " not in key]:
        raise ArgumentError(
            f"key {unknown[0]!r}: expected a sentence, or one of {', '.join(sorted(KEYS))}"
        )
    if "cases" not in given and "check" not in given:
        raise ArgumentError("no key 'cases', and no key 'check'")
    check = names[given["check"]] if "check" in given else None  # before a solution has its name
    solution, mistakes, compare = None, [], None
    if "cases" in given:
        solution, mistakes, compare = _comparison(given, names)
    check = partial(check, compare=compare) if check else compare
    return Exercise(check, given.get("right", ""), solution, mistakes, compare)


def _comparison(given: Mapping[str, Any], names: dict[str, Any]) -> tuple:
    source = given["solution"]
    if source is None:
        raise ArgumentError(f"no key 'solution', and none in {SOLUTIONS.name}; {GENERATE}")
    name = [part.name for part in ast.parse(source).body if isinstance(part, ast.FunctionDef)][-1]
    solution = names[name] = _function(source, name, names)
    parameters = inspect.signature(solution).parameters
    with_solution = names | {"solution": solution}

    def variants(edits: str | list[str]) -> list[Callable]:
        edits = [edits] if isinstance(edits, str) else edits
        return [_function(edited(source, edit), name, with_solution) for edit in edits]

    first, *others = given["cases"]
    cases = _cases(first, parameters, names, "the example, ")
    cases += [case for code in others for case in _cases(code, parameters, names)]
    mistakes = []
    for sentence, edits in ((key, given[key]) for key in given if " " in key):
        try:
            mistakes += [(wrong, sentence) for wrong in variants(edits)]
        except Exception as error:
            raise ArgumentError(f"mistake {sentence!r}: {error}") from error
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


def _cases(
    given: str | list[str], parameters: Mapping, known: Mapping, before: str = ""
) -> list[Case]:
    """The cases of one entry, for arguments of these parameters, with the names that code may use.

    `before` is shown before the first case, if it has no own words.
    """
    where, code = given if isinstance(given, list) else ("", given)
    needed = [name for name, one in parameters.items() if one.default is inspect.Parameter.empty]
    if not isinstance(ast.parse(code).body[0], ast.Expr):
        assigned: dict[str, Any] = {}
        exec(code, dict(known), assigned)
        if where:
            raise ArgumentError(f"case {code!r} has words and assignments: expected an expression")
        if missing := [name for name in needed if name not in assigned]:
            raise ArgumentError(
                f"case {code!r} has no value of {missing[0]}: expected all of {', '.join(needed)}"
            )
        inputs = tuple(assigned[name] for name in parameters if name in assigned)
        return [Case(before + code, inputs)]
    found, cases = eval(code, dict(known)), []
    for case in found if isinstance(found, list) else [found]:
        if isinstance(case, str):
            cases += _cases(case, parameters, known, before)
        else:
            shown, inputs = case if isinstance(case, Case) else (where, case)
            sizes = range(len(needed), len(parameters) + 1)
            if not isinstance(inputs, tuple) or len(inputs) not in sizes:
                raise ArgumentError(f"case {code!r}: expected a tuple of {', '.join(parameters)}")
            cases.append(Case(shown or before + label(list(parameters), inputs), inputs))
        before = ""
    return cases
