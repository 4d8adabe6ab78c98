"""What is recorded of the exercises, how it is drawn, and when a solution is printed."""

import importlib
import json
import os

import matplotlib.pyplot as plt
import numpy as np
import pytest

from cspkit.files import locked
from cspkit.teach import check, exercises, progress, solution
from cspkit.teach.notebooks import all_notebooks

record = importlib.import_module("cspkit.teach.record")
FILE = ".cspkit_progress.json"


def right(W):
    return np.mean(W == 0)


def wrong(W):
    return 0.5


def unsolved(*_):
    raise NotImplementedError


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """A folder as `make lab` makes it; nothing was checked yet."""
    monkeypatch.delenv("CSPKIT_PROGRESS_FILE", raising=False)
    monkeypatch.setattr(record, "_seen", {})
    monkeypatch.chdir(tmp_path)
    (tmp_path / FILE).write_text("{}\n")
    yield tmp_path
    plt.close("all")


def recorded(path=FILE):
    with open(path) as file:
        return json.load(file)


def test_a_result_is_recorded_and_a_solved_exercise_stays_solved():
    check("00.sparsity", unsolved)
    assert recorded() == {}
    check("00.sparsity", wrong)
    check("01.debias", lambda *_: None)
    assert recorded() == {"00.sparsity": "tried", "01.debias": "tried"}
    check("00.sparsity", right)
    check("00.sparsity", wrong)
    assert recorded() == {"00.sparsity": "solved", "01.debias": "tried"}


def test_a_solved_exercise_stays_solved_in_a_new_kernel_and_without_a_file(folder):
    (folder / FILE).write_text('{"00.sparsity": "solved"}')
    check("00.sparsity", wrong)
    assert recorded() == {"00.sparsity": "solved"}
    (folder / FILE).unlink()
    check("00.sparsity", right)
    check("00.sparsity", wrong)
    assert record.results() == {"00.sparsity": "solved"}


def test_what_was_checked_in_this_kernel_is_added_to_the_file(folder):
    (folder / FILE).unlink()
    check("00.sparsity", right)
    (folder / FILE).write_text('{"01.debias": "tried"}')
    check("00.none", right)
    assert record.results() == {"00.sparsity": "solved", "01.debias": "tried"}
    assert recorded() == {"01.debias": "tried"}


def test_nothing_is_written_where_the_file_is_not(folder):
    (folder / FILE).unlink()
    check("00.sparsity", right)
    check("00.none", right)
    assert list(folder.iterdir()) == []


def test_the_variable_names_a_file_that_need_not_exist(monkeypatch, folder):
    monkeypatch.setenv("CSPKIT_PROGRESS_FILE", str(folder / "mine" / "results.json"))
    check("00.sparsity", right)
    assert recorded(folder / "mine" / "results.json") == {"00.sparsity": "solved"}
    assert recorded() == {}


@pytest.mark.parametrize(
    "content", [b"[1, 2]", b'{"00.sparsity": 3}', b'{"00.spars', b"\xff\xfe", b"[" * 100_000]
)
def test_a_damaged_file_is_set_aside_with_a_sentence(folder, capsys, content):
    (folder / FILE).write_bytes(content)
    check("00.sparsity", right)
    assert recorded() == {"00.sparsity": "solved"}
    assert (folder / f"{FILE}.damaged").read_bytes() == content
    printed = capsys.readouterr().out
    assert printed.startswith("right: 00.sparsity")
    assert "is damaged. It is now" in printed


def test_an_empty_file_is_a_new_record(folder, capsys):
    (folder / FILE).write_text("")
    check("00.sparsity", right)
    assert recorded() == {"00.sparsity": "solved"}
    assert "damaged" not in capsys.readouterr().out


def test_a_record_that_cannot_be_kept_is_a_sentence(folder, capsys, monkeypatch):
    monkeypatch.setattr(record, "WAIT", 0.0)
    with locked(FILE):
        check("00.sparsity", right)
    assert "The result is not recorded: " in capsys.readouterr().out
    os.unlink(FILE)
    os.mkfifo(FILE)
    check("00.sparsity", right)
    assert "not a regular file" in capsys.readouterr().out


def test_no_solution_before_an_attempt(capsys):
    solution("01.debias")
    check("01.debias", unsolved)
    solution("01.debias")
    printed = capsys.readouterr().out
    assert printed.count("Try 01.debias first: write an answer") == 2
    assert 'check("01.debias", ...)' in printed
    assert "lstsq" not in printed


def test_the_solution_after_an_attempt_in_this_kernel_or_before(folder, capsys):
    (folder / FILE).write_text('{"01.debias": "tried"}')
    solution("01.debias")
    assert capsys.readouterr().out == (
        "def debias(A, y, support):\n"
        "    x = np.zeros(A.shape[1])\n"
        "    x[support] = np.linalg.lstsq(A[:, support], y, rcond=None)[0]\n"
        "    return x\n\n"
    )
    (folder / FILE).unlink()
    check("00.sparsity", wrong)
    capsys.readouterr()
    solution("00.sparsity")
    assert capsys.readouterr().out == "def sparsity(W):\n    return np.mean(W == 0)\n\n"


@pytest.mark.parametrize("name", exercises())
def test_every_exercise_has_a_solution_to_print(folder, capsys, name):
    (folder / FILE).write_text(json.dumps({name: "tried"}))
    solution(name)
    compile(capsys.readouterr().out, name, "exec")


def test_an_unknown_exercise_is_a_sentence(capsys):
    solution("01.unknown")
    assert "There is no exercise '01.unknown'. Choose from 00.sparsity, " in capsys.readouterr().out


def test_the_figure_has_a_row_a_notebook_and_tells_the_states_apart_without_colour():
    check("00.sparsity", right)
    check("01.debias", lambda *_: None)
    progress()
    (axes,) = plt.gcf().axes
    counts = {line.get_label(): line for line in axes.lines}
    left = len(exercises()) - 2
    assert list(counts) == ["solved: 1", "tried: 1", f"not tried: {left}"]
    assert len({line.get_fillstyle() for line in axes.lines}) == 3
    assert [len(line.get_xdata()) for line in axes.lines] == [1, 1, left]
    assert list(counts["solved: 1"].get_ydata()) == [0]
    assert len(axes.get_yticks()) == len(all_notebooks())
    assert {t.get_text() for t in axes.texts} == {name[3:] for name in exercises()}
