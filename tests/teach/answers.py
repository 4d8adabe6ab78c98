"""What must hold of the checks of every notebook, given right and wrong answers to its exercises.

A test module says

    test_right, test_wrong, test_unsolved, test_nothing = answer_tests(RIGHT, WRONG)
"""

import pytest

from cspkit.teach.check import verdict


def unsolved(*_):
    raise NotImplementedError("exercise not solved yet")


def answer_tests(right, wrong, in_place=()):
    """Tests of right answers, of typical mistakes, and of no answer.

    Parameters
    ----------
    right : list of (name, answer), or a dict
        Every exercise of the notebook is among them.
    wrong : list of (name, answer, part of the sentence that names the mistake)
    in_place : names of exercises whose right answers return nothing
    """
    pairs = list(right.items() if isinstance(right, dict) else right)
    names = list(dict.fromkeys(name for name, _ in pairs))

    @pytest.mark.parametrize(("name", "answer"), pairs)
    def test_right(name, answer):
        assert verdict(name, answer).startswith(f"right: {name}")

    @pytest.mark.parametrize(("name", "answer", "sentence"), wrong)
    def test_wrong(name, answer, sentence):
        told = verdict(name, answer)
        assert told.startswith(f"not yet: {name}: ")
        assert sentence in told

    @pytest.mark.parametrize("name", names)
    def test_unsolved(name):
        assert verdict(name, unsolved).startswith("not solved")

    @pytest.mark.parametrize("name", [name for name in names if name not in in_place])
    def test_nothing(name):
        assert "returns None" in verdict(name, lambda *_: None)

    return test_right, test_wrong, test_unsolved, test_nothing
