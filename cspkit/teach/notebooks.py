"""Execute notebooks in place, so that the committed outputs are those of the current code.

    python -m cspkit.teach.notebooks            all notebooks
    python -m cspkit.teach.notebooks 01 10      those whose names start with 01 or 10

Before that, the solutions in all notebooks are written to `cspkit/teach/checks/solutions.toml`. The
checks compare with them, and `cspkit.teach.solution` prints them.
"""

from __future__ import annotations

import argparse
import ast
import base64
import io
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

from cspkit.arguments import ArgumentError
from cspkit.files import replacing
from cspkit.teach.tables import SOLUTIONS

FOLDER = Path(__file__).parents[2] / "notebooks"
SECONDS_PER_CELL = 240


def all_notebooks() -> list[Path]:
    """Return the paths of the solved notebooks, in order."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))


def execute(
    notebook: nbformat.NotebookNode, folder: Path = FOLDER, **options
) -> nbformat.NotebookNode:
    """Run a notebook in a new kernel, in place, and return the notebook.

    Metadata that differ between runs or machines are removed, and the image data are made smaller.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
    folder : Path
        Working directory of the kernel.
    **options
        Arguments of nbclient.NotebookClient.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails.
    """
    os.environ.setdefault("CSPKIT_PROGRESS", "0")
    client = NotebookClient(
        notebook,
        timeout=SECONDS_PER_CELL,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--IPKernelApp.log_level=40"],  # errors only, on the terminal
        **options,
    )
    client.execute()
    return lighten(normalise(notebook))


def normalise(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Remove the metadata that differ between machines, in place, and return the notebook.

    The metadata of nbgrader follow from the cells, and are written anew.
    """
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k == "tags"})
    _mark(notebook)
    return notebook


def _mark(notebook: nbformat.NotebookNode) -> None:
    """Write the metadata that nbgrader needs: which cells are answers, which are graded.

    An exercise gives 1 point, or 2 if its heading has the word "stretch".
    """
    points, answer = 1, None
    for cell in notebook.cells:
        if heading := re.search(r"^### Exercise.*", cell.source, re.MULTILINE):
            points = 2 if "(stretch)" in heading[0] else 1
        if "### BEGIN SOLUTION" in cell.source:
            answer = cell
        if exercise := re.search(r'^grade\("(\d\d)\.(\w+)"', cell.source, re.MULTILINE):
            name = f"{exercise[1]}-{exercise[2]}"
            common = {"schema_version": 3, "cell_type": "code", "task": False}
            may_edit = {"solution": True, "grade": False, "locked": False}
            answer.metadata["nbgrader"] = common | may_edit | {"grade_id": f"{name}-answer"}
            gives_points = {"solution": False, "grade": True, "locked": True, "points": points}
            cell.metadata["nbgrader"] = common | gives_points | {"grade_id": name}


def lighten(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Apply `lighter` to the pictures of a notebook, in place, and return the notebook."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output["data"]["image/png"] = lighter(output["data"]["image/png"])
    return notebook


def lighter(png: str) -> str:
    """Reduce a picture to 256 colours, which often halves its size. Input and output are base64."""
    picture = Image.open(io.BytesIO(base64.b64decode(png)))
    if picture.mode == "P":
        return png
    with_palette = io.BytesIO()
    picture.convert("RGB").quantize(256).save(with_palette, "png", optimize=True)
    return base64.b64encode(with_palette.getvalue()).decode() + "\n"


def write(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write a notebook to a file, completely or not at all."""
    with replacing(path) as file:
        nbformat.write(notebook, file)


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
    content = "# Generated from the solved notebooks by cspkit.teach.notebooks; do not edit.\n"
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
    parser.add_argument("prefixes", nargs="*", help="numbers of notebooks; the default is all")
    prefixes = parser.parse_args().prefixes or [""]
    for prefix in prefixes:
        if not any(path.name.startswith(prefix) for path in all_notebooks()):
            parser.error(f"prefixes has {prefix!r}: no notebook has a name that starts with it")
    write_solutions()
    for path in all_notebooks():
        if path.name.startswith(tuple(prefixes)):
            print(path.name, flush=True)
            write(execute(nbformat.read(path, as_version=4)), path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
