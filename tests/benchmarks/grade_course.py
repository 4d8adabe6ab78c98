"""Grade three submissions of every notebook with nbgrader: solved, empty and half solved.

    python tests/benchmarks/grade_course.py [NUMBER ...]

Prints for each notebook and submission the points that it deserves and the points that it got. The
exit code is 1 if they differ anywhere. All notebooks are executed three times, which takes about
half an hour; give their numbers to grade some of them only.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from submissions import graded

from cspkit.teach.notebooks import all_notebooks


def main():
    numbers = tuple(sys.argv[1:]) or ("",)
    paths = [path for path in all_notebooks() if path.name.startswith(numbers)]
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for path, kind, deserved, given in graded(Path(folder), paths):
            wrong += deserved != given
            print(f"{path.stem:35s} {kind:7s} {given:g} of {deserved:g} points", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
