import importlib

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
    assert verdict("99.even", unsolved).startswith("not solved")
    check("99.even", lambda n: True)
    assert capsys.readouterr().out == "right: 99.even\n"


def test_a_check_never_raises(even):
    assert "ZeroDivisionError: division by zero" in verdict("99.even", lambda n: 1 / 0)
    assert "TypeError" in verdict("99.even", None)
    assert "no exercise '00.none'" in verdict("00.none", None)


def test_the_workbook_has_exercises():
    assert {"10.kept", "10.hard_threshold"} <= set(exercises())
