"""The course for nbgrader: assignments without solutions, made from the solved notebooks.

    python -m cspkit.teach.release build/course             a folder that nbgrader works in
    python -m cspkit.teach.release build/course --copies    also the copies in notebooks/exercises,
                                                            and cspkit/teach/checks/solutions.toml

Each notebook is an assignment of its own. `source/` holds the solved notebooks, `release/` what
students get, and `gradebook.db` what nbgrader needs to grade. nbgrader makes the release: the lines
between `### BEGIN SOLUTION` and `### END SOLUTION` become a line that raises NotImplementedError,
and the lines between `### BEGIN HIDDEN TESTS` and `### END HIDDEN TESTS` come back for grading.
`solutions.toml` has the solutions. The checks compare with them, and `cspkit.teach.solution` prints
them.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import nbformat
from traitlets.config import Config, PyFileConfigLoader

from cspkit.arguments import ArgumentError
from cspkit.files import replacing
from cspkit.teach.notebooks import FOLDER, all_notebooks, write
from cspkit.teach.tables import SOLUTIONS

CONFIG = """# Used by every nbgrader command that is started in this folder.
c = get_config()
c.CourseDirectory.course_id = "cspkit"
c.ClearSolutions.code_stub = {
    "python": "# Write your solution here, in place of the next line.\\n"
    'raise NotImplementedError("exercise not solved yet")'
}
c.ExecutePreprocessor.timeout = 600  # seconds for a cell
"""


def release(folder: Path, notebooks: Sequence[Path] | None = None) -> list[Path]:
    """Make a folder that nbgrader works in, and return the notebooks for the students.

    What is in the folder already, such as submissions and grades, stays.

    Parameters
    ----------
    folder : Path
    notebooks : sequence of Path, optional
        Solved notebooks; all notebooks of the workbook if None.

    Raises
    ------
    ArgumentError
        If nbgrader refuses a notebook. The message has the reason.
    """
    from nbgrader.apps import NbGraderAPI

    notebooks = all_notebooks() if notebooks is None else notebooks
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nbgrader_config.py").write_text(CONFIG)
    config = PyFileConfigLoader("nbgrader_config.py", str(folder)).load_config()
    config.CourseDirectory.root = str(folder.resolve())
    nbgrader = NbGraderAPI(config=Config(config))
    released = []
    for path in notebooks:
        source = folder / "source" / path.stem / path.name
        source.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, source)
        with installed_programs():
            made = nbgrader.generate_assignment(path.stem, force=True)
        if not made["success"]:
            raise ArgumentError(
                f"{path.name}: nbgrader refuses it: {made.get('log') or made.get('error')}"
            )
        released.append(folder / "release" / path.stem / path.name)
    return released


@contextmanager
def installed_programs() -> Iterator[None]:
    """Let nbgrader find the program `alembic`, which is installed beside Python."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before


def write_copies(folder: Path = FOLDER / "exercises", course: Path | None = None) -> list[Path]:
    """Write the student copies of all notebooks, and return their paths.

    Parameters
    ----------
    folder : Path
    course : Path, optional
        Where `release` works; a temporary folder if None.
    """
    with tempfile.TemporaryDirectory() as temporary:
        released = release(course or Path(temporary))
        copies = [folder / path.name for path in released]
        for path, copy in zip(released, copies, strict=True):
            write(nbformat.read(path, as_version=4), copy)
    return copies


def write_solutions(path: Path = SOLUTIONS, notebooks: Sequence[Path] | None = None) -> None:
    """Write the solutions that solved notebooks give to `check`, by the names of the exercises.

    Parameters
    ----------
    path : Path
    notebooks : sequence of Path, optional
        All notebooks of the workbook if None.

    Raises
    ------
    ArgumentError
        If no cell with a solution defines what a check is given.
    """
    content = "# Generated from the solved notebooks by cspkit.teach.release; do not edit.\n"
    for notebook in all_notebooks() if notebooks is None else notebooks:
        sources = [cell.source for cell in nbformat.read(notebook, as_version=4).cells]
        solved = {}
        for source in sources:
            if "### BEGIN SOLUTION" in source:
                solved |= _definitions(source)
        for name, given in re.findall(r'^check\("([^"]+)", (\w+)\)', "\n".join(sources), re.M):
            if given not in solved:
                raise ArgumentError(f"{notebook.name}: no solution of {name} defines {given!r}")
            content += f"\n\"{name}\" = '''\n{solved[given]}\n'''\n"
    with replacing(path) as new:
        new.write_text(content, "utf-8")


def _definitions(source: str) -> dict[str, str]:
    """The functions and classes of a cell, without docstrings and marks."""
    source = re.sub(r"^ *### (BEGIN|END) SOLUTION\n?", "", source, flags=re.MULTILINE)
    lines, left_out, kinds = source.splitlines(), set(), ast.FunctionDef | ast.ClassDef
    tree = ast.parse(source)
    for part in ast.walk(tree):
        if isinstance(part, kinds) and ast.get_docstring(part) is not None:
            first, last = part.body[0].lineno - 1, part.body[0].end_lineno
            left_out |= {*range(first, last), *([last] if lines[last : last + 1] == [""] else [])}
    return {
        part.name: "\n".join(
            lines[i] for i in range(part.lineno - 1, part.end_lineno) if i not in left_out
        )
        for part in tree.body
        if isinstance(part, kinds)
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where nbgrader works, such as build/course")
    parser.add_argument(
        "--copies", action="store_true",
        help="also write the copies in notebooks/exercises, and the solutions for the checks",
    )  # fmt: skip
    call = parser.parse_args()
    written = write_copies(course=call.folder) if call.copies else release(call.folder)
    if call.copies:
        write_solutions()
    print(f"{len(written)} assignments: {call.folder / 'release'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
