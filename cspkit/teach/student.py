"""Write the student copies: the notebooks without solutions and without outputs.

    python -m cspkit.teach.student

The lines between `### BEGIN SOLUTION` and `### END SOLUTION` (nbgrader's marks) are replaced by a
line that raises NotImplementedError. Everything else stays the same.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat

from cspkit.arguments import ArgumentError
from cspkit.teach.notebooks import FOLDER, all_notebooks, normalise, write

SOLUTION = re.compile(
    r"^(?P<indent>[ \t]*)### BEGIN SOLUTION\n(?P<body>.*?)^[ \t]*### END SOLUTION[ \t]*$",
    re.DOTALL | re.MULTILINE,
)


def without_solutions(source: str) -> str:
    """Replace every solution in the source of a cell by a stub.

    Raises
    ------
    ArgumentError
        If the marks do not come in pairs.
    """
    stubbed = SOLUTION.sub(
        r"\g<indent># Write your solution here, in place of the next line.\n"
        r'\g<indent>raise NotImplementedError("exercise not solved yet")',
        source,
    )
    if "### BEGIN SOLUTION" in stubbed or "### END SOLUTION" in stubbed:
        raise ArgumentError(
            "source has a BEGIN SOLUTION without END SOLUTION, or the reverse: expected pairs, in\n"
            f"{source}"
        )
    return stubbed


def student_copy(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return the student copy of a notebook. The notebook is not changed."""
    copy = normalise(nbformat.from_dict(notebook))
    for cell in copy.cells:
        if cell.cell_type == "code":
            cell.source = without_solutions(cell.source)
            cell.outputs, cell.execution_count = [], None
    return copy


def write_all(folder: Path = FOLDER / "exercises") -> list[Path]:
    """Write the student copies of all notebooks, and return their paths."""
    written = [folder / path.name for path in all_notebooks()]
    for path, copy in zip(all_notebooks(), written, strict=True):
        write(student_copy(nbformat.read(path, as_version=4)), copy)
    return written


if __name__ == "__main__":
    for written in write_all():
        print(written.relative_to(FOLDER.parent))
    sys.exit(0)
