import importlib
import inspect
import subprocess
import sys

import numpy as np
import pytest

from cspkit.teach import check, exercises, grade, verdict
from cspkit.teach.cases import Case, label, table

registry = importlib.import_module("cspkit.teach.check")


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    exercises()
    monkeypatch.setattr(registry, "_CHECKS", dict(registry._CHECKS))
    monkeypatch.setattr(registry, "_RIGHT", dict(registry._RIGHT))


@pytest.fixture
def even():
    @registry.exercise("99.even")
    def even(answer):
        return None if answer(4) else "4 is even, too"


def unsolved(*_):
    raise NotImplementedError


def test_the_three_verdicts(even, capsys):
    assert verdict("99.even", lambda n: n % 2 == 0).startswith("right")
    assert verdict("99.even", lambda n: False) == "not yet: 99.even: 4 is even, too"
    assert "run the cell of the function again" in verdict("99.even", unsolved)
    assert verdict("99.even", unsolved).startswith("not solved")
    check("99.even", lambda n: True)
    assert capsys.readouterr().out == "right: 99.even\n"


def test_a_sentence_follows_a_right_answer_only(capsys):
    registry.exercise("99.odd", right="Half of all numbers are.")(lambda answer: answer)
    check("99.odd", None)
    assert capsys.readouterr().out == "right: 99.odd. Half of all numbers are.\n"
    assert verdict("99.odd", "no") == "not yet: 99.odd: no"


def test_a_check_never_raises(even):
    assert "ZeroDivisionError: division by zero" in verdict("99.even", lambda n: 1 / 0)
    assert "TypeError" in verdict("99.even", None)
    assert "no exercise '00.none'" in verdict("00.none", None)


def test_only_the_checks_of_one_notebook_are_loaded():
    code = (
        "import sys; from cspkit.teach import verdict, exercises; verdict('03.rests', None); "
        "loaded = {name[:2] for name in sys.modules['cspkit.teach.check']._CHECKS}; "
        "print(loaded, len({name[:2] for name in exercises()}))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "{'03'} 15\n"


def test_the_workbook_has_exercises():
    assert {"10.kept", "10.hard_threshold"} <= set(exercises())


def doubled(v, t):
    factor = 2.0
    return factor * v


CASES = [(np.array([1, 2]), 1), (np.array([3.0]), 0.5), (np.array([-1.0]), 0.0)]


def told(answer, reference=doubled, cases=CASES, mistakes=(), right="", **options):
    names = list(inspect.signature(reference).parameters)
    cases = [case if isinstance(case, Case) else Case(label(names, case), case) for case in cases]
    registry.exercise("99.table", right)(table(reference, cases, mistakes, **options))
    return verdict("99.table", answer).removeprefix("not yet: 99.table: ")


def test_a_table_accepts_lists_and_small_differences():
    assert told(lambda v, t: [2.000000001 * entry for entry in v]) == "right: 99.table"
    assert told(doubled, right="Twice.") == "right: 99.table. Twice."


def test_a_mistake_is_named_if_it_agrees_wherever_the_answer_is_wrong():
    mistakes = [(lambda v, t: 3.0 * v, "three times")]
    assert "three times" in told(lambda v, t: (2 if t == 1 else 3) * v, mistakes=mistakes)
    assert "expected" in told(lambda v, t: (2 if t == 1 else 4 - 2 * t) * v, mistakes=mistakes)


def test_a_mistake_in_a_truth_value_is_named_only_if_it_agrees_everywhere():
    def positive(x):
        return x > 0

    def said(answer):
        opposite = (lambda x: not x > 0, "the opposite")
        return told(answer, positive, [(1,), (0,), (-1,)], [opposite])

    assert said(lambda x: x <= 0).startswith("the opposite")
    assert said(lambda x: x >= 0) == "for x = 0\nthe answer is True, expected False"
    assert said(lambda x: np.int64(x > 0)) == "right: 99.table"
    assert said(lambda x: float(x > 0)).startswith("the answer has the type float (1.0)")


def test_a_mistake_that_fails_on_an_input_is_not_named():
    said = told(lambda v, t: v * t, mistakes=[(lambda v, t: v / [1, 2, 3], "by three")])
    assert "expected" in said


def test_the_input_that_fails_is_shown():
    assert told(lambda v, t: v * t) == (
        "for v = [1, 2], t = 1\nthe answer is [1, 2], expected [2., 4.]"
    )
    for answer, sentence in (
        (lambda v, t: v[1] and 2 * v, "for v = [3.], t = 0.5\nit fails with IndexError"),
        (lambda v, t: 2 * v if v.size > 1 else 6.0, "expected (1,); tried with v = [3.], t = 0.5"),
        (lambda v, t: 2 * v if v.size > 1 else None, "returns None"),
    ):
        assert sentence in told(answer)


def test_a_large_input_is_shown_by_its_shape():
    assert "v of shape (5, 9), t = 1\n" in told(lambda v, t: v, cases=[(np.ones((5, 9)), 1)])
    assert "for some v\n" in told(lambda v, t: v, cases=[Case("some v", (np.ones(2), 1))])


def test_whole_numbers_must_be_equal():
    def said(answer):
        return told(answer, lambda n: 400_000 + n, [(1,)])

    assert said(lambda n: 400_002) == ("for n = 1\nthe answer is 400002, expected 400001")
    assert said(lambda n: np.float64(400_001)) == "right: 99.table"


def test_a_small_difference_is_shown():
    assert "the answer is 2.00001999, expected 2.000000001" in told(
        lambda x: 2.00001999, lambda x: 2.000000001, [(1,)], rtol=1e-9
    )


def test_another_right_function_is_right_if_it_agrees_everywhere():
    roots = {"reference": lambda x: np.sqrt(x), "also": [lambda x: -np.sqrt(x)]}
    cases = [(4.0,), (9.0,)]
    assert told(lambda x: -np.sqrt(x), cases=cases, **roots) == "right: 99.table"
    assert "expected 3" in told(lambda x: 2.0 if x == 4 else -3.0, cases=cases, **roots)
    assert "expected 2" in told(lambda x: -2.0 if x == 4 else 1 / 0, cases=cases, **roots)


def test_the_inputs_of_the_next_call_are_kept():
    def overwrites(v, t):
        v *= 2
        return v

    assert told(overwrites) == "v itself was changed in place; work on a new array"
    assert told(doubled) == "right: 99.table"


def test_what_is_not_solved_is_passed_on():
    assert told(unsolved).startswith("not solved")


def test_grade_raises_the_sentence_of_check_unless_the_answer_is_right():
    grade("00.sparsity", lambda W: np.mean(W == 0))
    with pytest.raises(AssertionError, match="not yet: 00.sparsity: .*nonzeros"):
        grade("00.sparsity", lambda W: np.mean(W != 0))
    with pytest.raises(AssertionError, match="not yet"):
        grade("00.no_such_exercise", None)


def test_data_of_the_notebook_that_a_function_reads_are_named():
    notebook = {"np": np, "n": 100, "RATE": 2.0}
    exec("def uses_n(v, t): return np.zeros(n) * RATE\ndef right(v, t): return (2 + 0 * n) * v",
         notebook)  # fmt: skip
    wrong = told(notebook["uses_n"])
    assert wrong.endswith("; the function reads n of the notebook: use the arguments instead")
    assert told(notebook["right"]) == "right: 99.table"


def test_of_a_matrix_the_first_row_that_differs_is_shown():
    def right(v):
        return np.outer(v, v)

    def wrong(v):
        return right(v) + [[0, 0], [0, 1]]

    assert "row 1 of the answer is [2, 5], expected [2, 4]" in told(wrong, right, [((1, 2),)])


def test_of_a_truth_value_the_message_asks_for_one():
    def right(v):
        return bool(np.all(v))

    assert "returns a str, expected True or False" in told(lambda v: "yes", right, [((1, 2),)])
