"""The hygiene of the committed notebooks; that their outputs are true is nbval's part."""

import math
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


def test_every_exercise_has_an_example_and_two_hints(path, notebook):
    prose = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    for exercise in re.split(r"(?m)^(?=### Exercise)", prose)[1:]:
        assert re.findall(r"<summary>(Hint.*?)</summary>", exercise) == ["Hint 1", "Hint 2"]
        assert re.search(r"^Example", exercise, re.M), exercise


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
    texts = {"README.md", "projects.md"}
    assert others <= texts | {"exercises", "conftest.py", ".ipynb_checkpoints", "__pycache__"}


def test_a_number_in_backticks_is_printed_by_a_checked_cell(notebook):
    """A number that the text quotes from a result, such as `3.5` or `12 %`."""
    checked = [c for c in code(notebook) if "# NBVAL_CHECK_OUTPUT" in c.source]
    printed = "\n".join(
        output.get("text", "") or output.get("data", {}).get("text/plain", "")
        for cell in checked
        for output in cell.outputs
    )
    number = r"(?<!`)`([-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?)(?: ?%)?`(?!`)"
    for quoted in re.findall(number, prose(notebook)):
        alone = rf"(?<![\d.,]){re.escape(quoted)}(?!\d|[.,]\d)"
        assert re.search(alone, printed), f"no checked cell prints {quoted}"


def minutes_to_read(notebook):
    """Minutes at 180 words and 20 lines of code a minute, rounded up to five."""
    lines = sum(len(c.source.splitlines()) for c in code(notebook))
    return 5 * math.ceil((len(prose(notebook).split()) / 180 + lines / 20) / 5)


def test_the_reading_time_is_measured(notebook):
    stated = re.search(r"[Rr]eading and running (\d+) min", prose(notebook))
    assert int(stated[1]) == minutes_to_read(notebook)


def test_teachers_read_the_times_of_the_notebooks(path, notebook):
    title = title_and_topic(notebook)[0]
    times = re.search(r"eading and running (\d+) min, exercises (\d+) min", prose(notebook))
    row = f"| [{title}]({path.name}) | {times[1]} | {times[2]} |"
    assert row in (FOLDER / "README.md").read_text()


def test_a_notebook_ends_with_links_to_its_neighbours(path, notebook):
    i = NOTEBOOKS.index(path)
    for neighbour in (NOTEBOOKS[i - 1] if i else None, *NOTEBOOKS[i + 1 : i + 2]):
        if neighbour is not None:
            title = title_and_topic(nbformat.read(neighbour, as_version=4))[0]
            assert f"[{title}]({neighbour.name})" in notebook.cells[-1].source
