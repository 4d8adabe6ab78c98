"""Submissions of a student for nbgrader: all, some or no exercises solved."""

import re

import nbformat
from nbgrader.api import Gradebook
from nbgrader.apps import NbGraderAPI
from traitlets.config import PyFileConfigLoader

from cspkit.teach.release import installed_programs, release

KINDS = ("solved", "empty", "half")


def submit(course, path, kind):
    """Hand in a notebook as a student of that name, and return the points it deserves."""
    solved = nbformat.read(path, as_version=4)
    copy = nbformat.read(course / "release" / path.stem / path.name, as_version=4)
    answers = [i for i, c in enumerate(solved.cells) if "### BEGIN SOLUTION" in c.source]
    chosen = {"solved": answers, "empty": [], "half": answers[: len(answers) // 2]}[kind]
    points = 0
    for i in chosen:
        copy.cells[i].source = re.sub(r".*### (BEGIN|END) SOLUTION\n?", "", solved.cells[i].source)
        graded = next(c for c in solved.cells[i:] if c.metadata.get("nbgrader", {}).get("grade"))
        points += graded.metadata["nbgrader"]["points"]
    handed_in = course / "submitted" / kind / path.stem / path.name
    handed_in.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(copy, handed_in)
    return points


def graded(course, paths):
    """Release notebooks, hand in three submissions of each, and grade them.

    Yields for each notebook and kind of submission the points that it deserves and got.
    """
    release(course, paths)
    config = PyFileConfigLoader("nbgrader_config.py", str(course)).load_config()
    config.CourseDirectory.root = str(course)
    nbgrader = NbGraderAPI(config=config)
    for path in paths:
        for kind in KINDS:
            deserved = submit(course, path, kind)
            with installed_programs():
                result = nbgrader.autograde(path.stem, kind)
            assert result["success"], result.get("log") or result.get("error")
            with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
                yield path, kind, deserved, gradebook.find_submission(path.stem, kind).score
