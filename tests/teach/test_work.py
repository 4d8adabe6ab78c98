"""The folder in which a student works."""

import pytest

from cspkit.arguments import ArgumentError
from cspkit.teach.notebooks import FOLDER, all_notebooks
from cspkit.teach.work import prepare, reset

NAME = "03_greedy_and_thresholding.ipynb"


def copy_of(name):
    return (FOLDER / "exercises" / name).read_text()


def test_a_new_folder_gets_the_copies_and_the_solved_notebooks(tmp_path):
    new = prepare(tmp_path / "work")
    assert [path.name for path in new] == [path.name for path in all_notebooks()]
    assert (tmp_path / "work" / NAME).read_text() == copy_of(NAME)
    solved = tmp_path / "work" / "solved" / NAME
    assert solved.read_text() == (FOLDER / NAME).read_text()


def test_the_work_of_a_student_stays(tmp_path):
    prepare(tmp_path)
    (tmp_path / NAME).write_text("mine")
    (tmp_path / "00_start_here.ipynb").unlink()
    assert prepare(tmp_path) == [tmp_path / "00_start_here.ipynb"]
    assert (tmp_path / NAME).read_text() == "mine"


def test_reset_starts_anew_and_keeps_what_was_there(tmp_path):
    prepare(tmp_path)
    for text in ("mine", "mine again"):
        (tmp_path / NAME).write_text(text)
        new, old = reset(tmp_path, "03")
        assert old.read_text() == text
        assert new.read_text() == copy_of(NAME)
    assert len(list((tmp_path / "old").iterdir())) == 2


@pytest.mark.parametrize("number", ["3", "99", "", "03_greedy"])
def test_an_unknown_number_is_refused(tmp_path, number):
    prepare(tmp_path)
    with pytest.raises(ArgumentError, match="number is"):
        reset(tmp_path, number)
