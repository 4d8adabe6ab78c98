import importlib

import numpy as np
import pytest

from cspkit.teach import check, exercises, verdict

registry = importlib.import_module("cspkit.teach.check")


@pytest.fixture
def even(monkeypatch):
    monkeypatch.setattr(registry, "_CHECKS", dict(registry._CHECKS))

    @registry.exercise("99.even")
    def even(answer):
        return None if answer(4) else "4 is even, too"


def test_the_three_verdicts(even, capsys):
    def unsolved(n):
        raise NotImplementedError

    assert verdict("99.even", lambda n: n % 2 == 0).startswith("right")
    assert verdict("99.even", lambda n: False) == "not yet: 99.even: 4 is even, too"
    assert "run the cell of the function again" in verdict("99.even", unsolved)
    assert verdict("99.even", unsolved).startswith("not solved")
    check("99.even", lambda n: True)
    assert capsys.readouterr().out == "right: 99.even\n"


def test_a_check_never_raises(even):
    assert "ZeroDivisionError: division by zero" in verdict("99.even", lambda n: 1 / 0)
    assert "TypeError" in verdict("99.even", None)
    assert "no exercise '00.none'" in verdict("00.none", None)


def doubled(v, t):
    return 2.0 * v


def compare(answer):
    inputs = [(np.array([1, 2]), 1), (np.array([3.0]), 0.5)]
    return registry.compare(doubled if answer is None else answer, doubled, inputs, [TRIPLED])


TRIPLED = (lambda v, t: 3.0 * v, "three times, not twice")


def test_compare_accepts_lists_and_small_differences():
    assert compare(lambda v, t: [2.000000001 * entry for entry in v]) is None


def test_compare_names_a_mistake_only_if_it_agrees_on_all_inputs():
    assert compare(TRIPLED[0]) == "three times, not twice"
    assert "expected [6.]" in compare(lambda v, t: (2.0 if v.size == 2 else 3.0) * v)


def test_compare_shows_the_input_that_fails():
    assert (
        compare(lambda v, t: v * t) == "for v = [1, 2], t = 1\nit gives [1., 2.], expected [2., 4.]"
    )
    assert "for v = [3.], t = 0.5\nit fails with IndexError" in compare(lambda v, t: v[1] and 2 * v)
    assert "for v = [3.], t = 0.5\nthe answer has" in compare(
        lambda v, t: 2 * v if v.size > 1 else 6.0
    )


def test_compare_keeps_the_inputs_of_the_next_call():
    def overwrites(v, t):
        v *= 2
        return v

    assert "in place" in compare(overwrites)
    assert compare(None) is None


def test_compare_passes_on_what_is_not_solved():
    def unsolved(v, t):
        raise NotImplementedError

    with pytest.raises(NotImplementedError):
        compare(unsolved)


def test_the_workbook_has_exercises():
    assert {"10.kept", "10.hard_threshold"} <= set(exercises())
