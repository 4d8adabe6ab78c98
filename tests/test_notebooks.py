"""The hygiene of the committed notebooks; that their outputs are true is nbval's part."""

import re

import nbformat
import pytest

from cspkit.teach import exercises
from cspkit.teach.book import title_and_topic
from cspkit.teach.notebooks import FOLDER, all_notebooks, normalise

NOTEBOOKS = all_notebooks()
MAX_BYTES = 500_000
MAX_LINES = 30


@pytest.fixture(params=NOTEBOOKS, ids=[p.stem for p in NOTEBOOKS])
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code(notebook):
    return [c for c in notebook.cells if c.cell_type == "code"]


def prose(notebook):
    return "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 3


def test_executed_in_order_from_a_fresh_kernel(notebook):
    assert [c.execution_count for c in code(notebook)] == list(range(1, len(code(notebook)) + 1))


def test_no_errors_and_nothing_on_stderr(notebook):
    for cell in code(notebook):
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", cell.source


def test_at_least_one_output_is_checked(notebook):
    checked = [c for c in code(notebook) if "# NBVAL_CHECK_OUTPUT" in c.source]
    assert checked
    for cell in checked:
        assert cell.outputs, f"checked, but prints nothing:\n{cell.source}"
        printed = "".join(output.get("text", "") for output in cell.outputs)
        assert "agree: False" not in printed
        assert "equal: False" not in printed


def test_objectives_timing_and_title(path, notebook):
    title, topic = title_and_topic(notebook)
    assert title.split()[0] == path.name[:2]
    assert topic
    text = prose(notebook)
    assert re.search(r"reading and running \d+ min", text, re.IGNORECASE)
    assert "After this notebook you can" in text


def test_no_absolute_paths(path):
    text = path.read_text()
    for pattern in (
        r"/home/\w",
        r"/Users/\w",
        r"/root/",
        r"/tmp/\w",
        r"[A-Z]:\\\\Users",
        r"/work/",
    ):
        assert not re.search(pattern, text), pattern


def test_small_enough_to_clone_and_to_read(path, notebook):
    assert path.stat().st_size <= MAX_BYTES
    for cell in code(notebook):
        assert len(cell.source.splitlines()) <= MAX_LINES, cell.source


def test_metadata_is_the_same_on_every_machine(path, notebook):
    assert normalise(nbformat.from_dict(notebook)) == notebook


def test_every_exercise_has_a_check_and_its_solution_is_right(path, notebook):
    called = {}
    for cell in code(notebook):
        for name in re.findall(r'\bcheck\("([^"]+)"', cell.source):
            printed = "".join(o.get("text", "") for o in cell.outputs)
            called[name] = f"right: {name}" in printed
    assert all(called.values()), called
    assert set(called) == {name for name in exercises() if name.startswith(path.name[:2])}
    for mark in ("### BEGIN SOLUTION", "### END SOLUTION", "### BEGIN HIDDEN TESTS"):
        assert sum(mark in c.source for c in code(notebook)) == len(called), mark
    for cell in code(notebook):
        asked = re.findall(r"\b(?:check|grade)(\(.*\))", cell.source)
        assert len(set(asked)) <= 1, f"check and grade differ:\n{cell.source}"


def test_the_folder_holds_nothing_else():
    others = {p.name for p in FOLDER.iterdir()} - {p.name for p in NOTEBOOKS}
    assert others <= {"exercises", "conftest.py", ".ipynb_checkpoints", "__pycache__"}
