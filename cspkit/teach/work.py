"""The folder in which a student works: `work/` with the student copies.

    python -m cspkit.teach.work work               copies what is not there yet
    python -m cspkit.teach.work work --reset 03    starts notebook 03 anew, and keeps the old one

Nothing in the folder is ever overwritten, except `work/solved/`, which holds the solved notebooks
to read.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from cspkit.arguments import ArgumentError
from cspkit.teach.notebooks import FOLDER, all_notebooks
from cspkit.teach.record import FILE


def prepare(folder: Path) -> list[Path]:
    """Copy the notebooks that a working folder lacks, and return the paths of the new copies."""
    solved = folder / "solved"
    solved.mkdir(parents=True, exist_ok=True)
    if not (folder / FILE).exists():
        (folder / FILE).write_text("{}\n")  # `check` records its results here
    for path in all_notebooks():
        shutil.copyfile(path, solved / path.name)
    copies = sorted((FOLDER / "exercises").glob("*.ipynb"))
    missing = [path for path in copies if not (folder / path.name).exists()]
    for path in missing:
        shutil.copyfile(path, folder / path.name)
    return [folder / path.name for path in missing]


def reset(folder: Path, number: str) -> tuple[Path, Path]:
    """Start a notebook anew. The old one moves to the subfolder `old`.

    Parameters
    ----------
    folder : Path
    number : str
        Number of the notebook, such as "03".

    Returns
    -------
    new, old : Path

    Raises
    ------
    ArgumentError
        If the folder has no such notebook.
    """
    found = [p for p in all_notebooks() if p.name.split("_")[0] == number]
    if len(found) != 1 or not (folder / found[0].name).exists():
        raise ArgumentError(
            f"number is {number!r}: expected the number of a notebook in {folder}, such as '03'"
        )
    new, kept = folder / found[0].name, folder / "old"
    kept.mkdir(exist_ok=True)
    n = 1 + len(list(kept.glob(f"{new.stem}.*.ipynb")))
    old = new.rename(kept / f"{new.stem}.{n}.ipynb")
    shutil.copyfile(FOLDER / "exercises" / new.name, new)
    return new, old


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="such as work")
    parser.add_argument("--reset", metavar="NUMBER", help="start this notebook anew")
    call = parser.parse_args()
    if call.reset:
        try:
            new, old = reset(call.folder, call.reset)
        except ArgumentError as error:
            parser.error(str(error))
        print(f"{new} is new; yours is {old}")
    else:
        new = prepare(call.folder)
        print(*(f"new: {path}" for path in new), sep="\n") if new else print("nothing new")
    return 0


if __name__ == "__main__":
    sys.exit(main())
