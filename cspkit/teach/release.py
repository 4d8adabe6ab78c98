"""The course for nbgrader: assignments without solutions, made from the solved notebooks.

    python -m cspkit.teach.release build/course             a folder that nbgrader works in
    python -m cspkit.teach.release build/course --copies    also the copies in notebooks/exercises

Each notebook is an assignment of its own. `source/` holds the solved notebooks, `release/` what
students get, and `gradebook.db` what nbgrader needs to grade. nbgrader makes the release: the lines
between `### BEGIN SOLUTION` and `### END SOLUTION` become a line that raises NotImplementedError,
and the lines between `### BEGIN HIDDEN TESTS` and `### END HIDDEN TESTS` come back for grading.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import nbformat
from traitlets.config import Config, PyFileConfigLoader

from cspkit.arguments import ArgumentError
from cspkit.teach.notebooks import FOLDER, all_notebooks, write

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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where nbgrader works, such as build/course")
    parser.add_argument(
        "--copies", action="store_true", help="also write the copies in notebooks/exercises"
    )
    call = parser.parse_args()
    written = write_copies(course=call.folder) if call.copies else release(call.folder)
    print(f"{len(written)} assignments: {call.folder / 'release'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
