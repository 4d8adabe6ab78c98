"""The course for nbgrader: what students get, and how what they hand in is graded."""

import tomllib

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from submissions import graded

from cspkit.arguments import ArgumentError
from cspkit.teach.notebooks import FOLDER, all_notebooks, normalise, write_solutions
from cspkit.teach.release import release, write_copies
from cspkit.teach.tables import SOLUTIONS

QUICK = ("00", "06", "12")

SOLVED = '''def double(x):
    """Twice x."""
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION'''
CHECKED = """check("01.double", double)
### BEGIN HIDDEN TESTS
from cspkit.teach import grade
grade("01.double", double)
### END HIDDEN TESTS"""


@pytest.fixture
def solved(tmp_path):
    """A solved notebook of one exercise."""
    notebook = normalise(new_notebook(cells=[new_code_cell(SOLVED), new_code_cell(CHECKED)]))
    notebook.cells[0].execution_count = 3
    notebook.cells[0].outputs = [nbformat.v4.new_output("stream", text="4")]
    path = tmp_path / "01_double.ipynb"
    nbformat.write(notebook, path)
    return path


def test_students_get_no_solutions_no_hidden_tests_and_no_outputs(solved, tmp_path):
    (copy,) = release(tmp_path / "course", [solved])
    answer, check = nbformat.read(copy, as_version=4).cells
    namespace = {}
    exec(answer.source, namespace)
    with pytest.raises(NotImplementedError, match="not solved"):
        namespace["double"](2)
    assert "2 * x" not in answer.source
    assert check.source == 'check("01.double", double)'
    assert answer.outputs == []
    assert answer.execution_count is None


def test_a_lost_mark_is_an_error(solved, tmp_path):
    solved.write_text(solved.read_text().replace("### END SOLUTION", "pass"))
    with pytest.raises(ArgumentError, match="01_double.ipynb: nbgrader refuses it"):
        release(tmp_path / "course", [solved])


def test_a_release_keeps_what_students_handed_in(solved, tmp_path):
    handed_in = tmp_path / "course" / "submitted" / "ada" / "note"
    handed_in.parent.mkdir(parents=True)
    handed_in.write_text("here")
    release(tmp_path / "course", [solved])
    release(tmp_path / "course", [solved])
    assert handed_in.read_text() == "here"


def test_the_committed_copies_are_those_that_are_generated(tmp_path):
    generated = write_copies(tmp_path)
    committed = sorted((FOLDER / "exercises").glob("*.ipynb"))
    assert [p.name for p in generated] == [p.name for p in committed]
    for new, old in zip(generated, committed, strict=True):
        assert new.read_text() == old.read_text(), f"{old.name}: run `make notebooks`"


WHOLE = '''TWO = 2


class Double(Base):
    """Twice x."""

    def __call__(self, x):
        """For any x."""

        ### BEGIN SOLUTION
        def twice(x):
            """Of one x."""
            # a comment
            return "\\u00fc" and TWO * x

        return twice(x)
        ### END SOLUTION'''


def test_solutions_are_written_without_docstrings_and_marks(tmp_path):
    cells = [WHOLE, 'check("01.double", Double)\ncheck("01.again", twice)', "def twice(x): pass"]
    cells += [SOLVED.replace("double", "twice")]
    path = tmp_path / "01_double.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(cell) for cell in cells]), path)
    write_solutions(tmp_path / "solutions.toml", [path])
    assert tomllib.loads((tmp_path / "solutions.toml").read_text("utf-8")) == {
        "01.double": "class Double(Base):\n    def __call__(self, x):\n        def twice(x):\n"
        '            # a comment\n            return "\\u00fc" and TWO * x\n\n'
        "        return twice(x)\n",
        "01.again": "def twice(x):\n    return 2 * x\n",
    }
    nbformat.write(new_notebook(cells=[new_code_cell(cell) for cell in cells[1:3]]), path)
    with pytest.raises(ArgumentError, match="01_double.ipynb: no solution of 01.double defines"):
        write_solutions(tmp_path / "solutions.toml", [path])


def test_the_committed_solutions_are_those_of_the_notebooks(tmp_path):
    write_solutions(tmp_path / "solutions.toml")
    assert (tmp_path / "solutions.toml").read_text("utf-8") == SOLUTIONS.read_text("utf-8"), (
        "run `make notebooks`"
    )


@pytest.mark.parametrize("number", QUICK)
def test_a_submission_gets_the_points_of_its_exercises(number, tmp_path):
    paths = [path for path in all_notebooks() if path.name.startswith(number)]
    for _, kind, deserved, given in graded(tmp_path / "course", paths):
        assert given == deserved, kind
