"""Execute notebooks in place, so that what is committed is what the code does.

python -m cspkit.teach.notebooks            all of them
python -m cspkit.teach.notebooks 01 10      those whose names start so
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).parents[2] / "notebooks"
SECONDS_PER_CELL = 240


def all_notebooks() -> list[Path]:
    """The solved notebooks, in order."""
    return sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))


def execute(
    notebook: nbformat.NotebookNode, folder: Path = FOLDER, **options
) -> nbformat.NotebookNode:
    """Run a notebook from a fresh kernel; return it, changed.

    Metadata that differs from run to run or from machine to machine is dropped, and pictures are
    made lighter.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
    folder : Path
        Where it runs.
    **options
        For nbclient.NotebookClient.

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
        extra_arguments=["--IPKernelApp.log_level=40"],  # errors only, on the terminal
        **options,
    )
    client.execute()
    return lighten(normalise(notebook))


def normalise(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Keep only the metadata that every machine agrees on; return the notebook, changed."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k == "tags"})
    return notebook


def lighten(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Make the pictures of a notebook `lighter`; return it, changed."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output["data"]["image/png"] = lighter(output["data"]["image/png"])
    return notebook


def lighter(png: str) -> str:
    """A picture with a palette of 256 colours, often half as large; base64 in and out."""
    picture = Image.open(io.BytesIO(base64.b64decode(png)))
    if picture.mode == "P":
        return png
    with_palette = io.BytesIO()
    picture.convert("RGB").quantize(256).save(with_palette, "png", optimize=True)
    return base64.b64encode(with_palette.getvalue()).decode() + "\n"


def write(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write a notebook beside its place, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    nbformat.write(notebook, beside)
    beside.replace(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prefixes", nargs="*", help="numbers of notebooks; all if none is given")
    prefixes = tuple(parser.parse_args().prefixes) or ("",)
    for path in all_notebooks():
        if path.name.startswith(prefixes):
            print(path.name, flush=True)
            write(execute(nbformat.read(path, as_version=4)), path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
