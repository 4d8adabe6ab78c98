"""Tables of checks: how they are read, and that each known mistake of the course is named."""

import importlib

import numpy as np
import pytest

from cspkit.arguments import ArgumentError
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
        f"cases = {cases}\n{more}\n[doubled.mistakes]\n{mistakes}"
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
    ):
        found = table(mistakes=f'"three times" = {mistake}', setup="THREE = 3")
        said = found.check(lambda v, t: 3.0 * v)
        assert said == "three times; tried with the example, v = [1, 2], t = 1"
        assert found.check(found.solution) is None


def test_an_edit_that_finds_nothing_is_an_error():
    with pytest.raises(ArgumentError, match=r"edit has '2\.5': expected a part of\ndef doubled"):
        table(mistakes='"three times" = "2.5 => 3.0"')


def test_an_edit_changes_every_place():
    assert edited(DOUBLED, "factor => one && one = 2.0 => one = 3") == (
        "\ndef doubled(v, t):\n    one = 3\n    return one * v\n"
    )
    assert edited(DOUBLED, "factor * =>").endswith("return  v\n")


def test_an_unknown_key_is_an_error():
    with pytest.raises(ArgumentError, match=r"doubled has the key 'case': expected one of also"):
        table(more="case = 1")


def test_an_explanation_sees_the_answer():
    found = table(more="explain = 'f\"{answer[0]:g}, not {right[0]:g}, for t = {inputs[1]}\"'")
    assert found.check(lambda v, t: 5 * v).endswith("; 5, not 2, for t = 1")


def test_another_answer_and_a_check_of_its_own():
    both = table(more="also = ['-factor * v']")
    assert both.check(lambda v, t: -2 * v) is None
    setup = "\ndef of_lists(answer, compare):\n    return compare(lambda v, t: answer(list(v), t))"
    listed = table(more="check = 'of_lists'", setup=setup)
    assert listed.check(lambda v, t: [2 * x for x in v]) is None
    assert "expected" in listed.check(lambda v, t: 2 * v)


EXERCISES = {
    f"{notebook}.{name}": found
    for notebook in notebooks()
    for name, found in read_tables((FOLDER / f"notebook{notebook}.toml").read_text("utf-8")).items()
    if found.solution
}


@pytest.mark.parametrize("name", EXERCISES)
def test_known_mistakes_are_named_and_the_solution_is_right(name):
    _, _, solution, mistakes, compare = EXERCISES[name]
    assert compare(solution) is None
    with np.errstate(all="ignore"):
        said = [compare(wrong) for wrong, _ in mistakes]
    for (_, sentence), message in zip(mistakes, said, strict=True):
        assert message.startswith(sentence)


def test_no_known_mistake_is_lost():
    assert sum(len(found.mistakes) for found in EXERCISES.values()) >= 736


def test_code_of_checks_belongs_to_a_table():
    for path in FOLDER.glob("notebook*.py"):
        assert path.with_suffix(".toml").is_file()
        importlib.import_module(f"cspkit.teach.checks.{path.stem}")
