import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from cspkit.arguments import ArgumentError
from cspkit.teach.student import student_copy, without_solutions, write_all

SOLVED = """def double(x):
    \"\"\"Twice x.\"\"\"
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION"""


def test_a_solution_becomes_a_stub_that_raises():
    namespace = {}
    exec(without_solutions(SOLVED), namespace)
    with pytest.raises(NotImplementedError, match="not solved"):
        namespace["double"](2)
    assert "2 * x" not in without_solutions(SOLVED)


@pytest.mark.parametrize("mark", ["### BEGIN SOLUTION", "### END SOLUTION"])
def test_a_lost_mark_is_an_error(mark):
    with pytest.raises(ArgumentError, match="BEGIN SOLUTION"):
        without_solutions(SOLVED.replace(mark, "pass"))


def test_a_student_copy_has_no_outputs_and_the_same_text():
    solved = new_notebook(cells=[new_markdown_cell("# 01"), new_code_cell(SOLVED)])
    solved.cells[1].execution_count = 3
    solved.cells[1].outputs = [nbformat.v4.new_output("stream", text="4")]
    copy = student_copy(solved)
    assert copy.cells[0].source == "# 01"
    assert copy.cells[1].outputs == []
    assert copy.cells[1].execution_count is None
    assert solved.cells[1].execution_count == 3


def test_the_committed_copies_are_those_that_are_generated(tmp_path):
    from cspkit.teach.notebooks import FOLDER

    generated = write_all(tmp_path)
    committed = sorted((FOLDER / "exercises").glob("*.ipynb"))
    assert [p.name for p in generated] == [p.name for p in committed]
    for new, old in zip(generated, committed, strict=True):
        assert new.read_text() == old.read_text(), f"{old.name}: run `make notebooks`"
