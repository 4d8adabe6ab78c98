"""Tables of checks: how they are read, and that each known mistake of the course is named."""

import importlib

import numpy as np
import pytest

from cspkit.arguments import ArgumentError
from cspkit.teach import tables
from cspkit.teach.tables import FOLDER, edited, notebooks, read_tables

DOUBLED = """
def doubled(v, t):
    factor = 2.0
    return factor * v
"""


def table(cases="['(np.array([1, 2]), 1)']", mistakes="", more="", setup=""):
    """The exercise of a table in which a vector is doubled."""
    return read_tables(
        f"setup = '''{setup}'''\n[doubled]\nsolution = '''{DOUBLED}'''\n"
        f"cases = {cases}\n{more}\n{mistakes}",
        "99",
    )["doubled"]


def test_an_example_is_named_and_inputs_are_shown():
    for cases, shown in (
        ("['(np.array([1, 2]), 1)']", "the example, v = [1, 2], t = 1"),
        ("['v = np.ones(2); t = 0']", "the example, v = np.ones(2); t = 0"),
        ("[['two ones', '(np.ones(2), 0)']]", "two ones"),
        ("['[Case(\"ones\", (np.ones(2), 0))]']", "ones"),
        ("['[f\"v = np.ones({n}); t = 0\" for n in (2, 3)]']",
         "the example, v = np.ones(2); t = 0"),
    ):  # fmt: skip
        assert table(cases).check(lambda v, t: v).startswith(f"for {shown}\n")
    later = table("['(np.zeros(2), 1)', '(np.ones(2), 1)', 'v = np.ones(3); t = 0']")
    assert later.check(lambda v, t: v).startswith("for v = [1., 1.], t = 1\n")
    assert later.check(lambda v, t: 2 * v[:2]).endswith("tried with v = np.ones(3); t = 0")


def test_a_mistake_is_an_edit_or_a_value_to_return():
    for mistake in (
        "'2.0 => 3.0'",
        "'(factor + 1) * v'",
        "'factor => t && t * => 3 *'",
        "'1.5 * solution(v, t)'",
        "['2.0 => 4.0', 'THREE * v']",
        "'2.0 => 3.0'\nright = 'Twice.'",
    ):
        found = table(mistakes=f'"three times" = {mistake}', setup="THREE = 3")
        said = found.check(lambda v, t: 3.0 * v)
        assert said == "three times; tried with the example, v = [1, 2], t = 1"
        assert found.check(found.solution) is None


WRONG = {
    "no part of the solution": (
        {"mistakes": '"three times" = "2.5 => 3.0"'},
        r"mistake 'three times': edit has '2\.5': expected a part of\ndef doubled",
    ),
    "no arrow": (
        {"mistakes": "'three times' = 'v && 2.0 => 3.0'"},
        r"edit has 'v ': expected 'old => new'",
    ),
    "no code": (
        {"mistakes": "'three times' = 'factor * v)'"},
        r"mistake 'three times': unmatched '\)'",
    ),
    "unknown key": (
        {"more": "case = 1"},
        r"key 'case': expected a sentence, or one of also, cases",
    ),
    "sentence of one word": ({"mistakes": "'three' = 'v'"}, r"key 'three': expected a sentence"),
    "no such check": ({"more": "check = 'own'"}, r"KeyError: 'own'"),
    "too few values": (
        {"cases": "['v = np.ones(2)']", "setup": "t = 1"},
        r"case 'v = np.ones\(2\)' has no value of t: expected all of v, t",
    ),
    "no tuple": ({"cases": "['np.ones(2)']"}, r"case 'np.ones\(2\)': expected a tuple of v, t"),
    "short": ({"cases": "['(1,)']"}, r"case '\(1,\)': expected a tuple of v, t"),
    "words": ({"cases": "[['a', 'v = t = 1']]"}, r"case 'v = t = 1' has words and assignments"),
    "fails": ({"cases": "['(1 / 0, 1)']"}, r"ZeroDivisionError: division by zero"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_table_is_an_error_that_says_where(name):
    given, message = WRONG[name]
    with pytest.raises(ArgumentError, match=f"notebook99.toml, doubled: .*{message}"):
        table(**given)


def test_a_table_needs_cases_or_a_check_and_a_solution():
    for content, missing in (
        ("[own]\nright = 'Yes.'", "no key 'cases', and no key 'check'"),
        ("[own]\ncases = ['()']", r"no key 'solution', and none in solutions.toml; `python -m .*"),
    ):
        with pytest.raises(ArgumentError, match=f"notebook99.toml, own: {missing}"):
            read_tables(content, "99")


def test_the_solution_of_a_notebook_is_found(monkeypatch):
    """Another function name, and an argument with a default, which cases may leave out."""
    code = "def twice(v, factor=TWO):\n    return factor * v\n"
    monkeypatch.setattr(tables, "solutions", lambda: {"99.doubled": code})
    given = "setup = 'TWO = 2'\n[doubled]\n\"a half\" = 'v / factor'\ncases = ["
    for case, shown, inputs in (
        ("(5,)", "the example, v = 5", (5,)),
        ("v = 5", "the example, v = 5", (5,)),
        ("(5, 3)", "the example, v = 5, factor = 3", (5, 3)),
        ("v = 5; factor = 3", "the example, v = 5; factor = 3", (5, 3)),
    ):
        found, seen = read_tables(f"{given}'{case}']", "99")["doubled"], []
        assert found.check(lambda v, factor=2: factor * v) is None
        assert found.check(lambda v, factor=2: v / factor) == f"a half; tried with {shown}"
        found.check(lambda *given, seen=seen: seen.append(given))
        assert seen == [inputs]
    with pytest.raises(ArgumentError, match=r"case '\(\)': expected a tuple of v, factor"):
        read_tables(f"{given}'()']", "99")


def test_an_edit_changes_every_place():
    assert edited(DOUBLED, "factor => one && one = 2.0 => one = 3") == (
        "\ndef doubled(v, t):\n    one = 3\n    return one * v\n"
    )
    assert edited(DOUBLED, "factor * =>").endswith("return  v\n")


def test_an_explanation_sees_the_answer():
    found = table(more="explain = 'f\"{answer[0]:g}, not {right[0]:g}, for t = {inputs[1]}\"'")
    assert found.check(lambda v, t: 5 * v).endswith("; 5, not 2, for t = 1")


def test_another_answer_and_a_check_of_its_own():
    own = "def doubled(answer, compare):\n    return compare(answer) and 'no'"
    assert table(more="check = 'doubled'", setup=own).check(lambda v, t: v) == "no"
    both = table(more="also = ['-factor * v']")
    assert both.check(lambda v, t: -2 * v) is None
    setup = "\ndef of_lists(answer, compare):\n    return compare(lambda v, t: answer(list(v), t))"
    listed = table(more="check = 'of_lists'", setup=setup)
    assert listed.check(lambda v, t: [2 * x for x in v]) is None
    assert "expected" in listed.check(lambda v, t: 2 * v)


EXERCISES = {
    f"{notebook}.{name}": found
    for notebook in notebooks()
    for name, found in read_tables(
        (FOLDER / f"notebook{notebook}.toml").read_text("utf-8"), notebook
    ).items()
    if found.solution
}


@pytest.mark.parametrize("name", EXERCISES)
def test_known_mistakes_are_named_and_the_solution_is_right(name):
    _, _, solution, mistakes, compare = EXERCISES[name]
    assert compare(solution) is None
    with np.errstate(all="ignore"):
        said = [compare(wrong) for wrong, _ in mistakes]
    for (_, sentence), message in zip(mistakes, said, strict=True):
        assert str(message).startswith(f"{sentence}; tried with")


def test_no_known_mistake_is_lost():
    assert sum(len(found.mistakes) for found in EXERCISES.values()) >= 736


def test_code_of_checks_belongs_to_a_table():
    for path in FOLDER.glob("notebook*.py"):
        assert path.with_suffix(".toml").is_file()
        importlib.import_module(f"cspkit.teach.checks.{path.stem}")
