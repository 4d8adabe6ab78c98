"""Which exercises were tried and which are solved, in one small file of the student."""

from __future__ import annotations

import json
import os
from pathlib import Path

from cspkit.arguments import ArgumentError
from cspkit.files import existing_file, locked, replacing

FILE = ".cspkit_progress.json"
TRIED, SOLVED = "tried", "solved"
WAIT = 5.0  # seconds, for another notebook that is writing its result
_seen: dict[str, str] = {}  # what was checked in this process


def record_file() -> Path | None:
    """Return the file of results, or None if nothing is to be recorded.

    The file is named by the environment variable CSPKIT_PROGRESS_FILE. Without this variable it
    is `.cspkit_progress.json` in the current folder, but only if it is there already: `make lab`
    makes it in `work/`. So tests, the site and the notebooks in `notebooks/` write nothing.
    """
    if named := os.environ.get("CSPKIT_PROGRESS_FILE"):
        return Path(named)
    return Path(FILE) if Path(FILE).exists() else None


def record(name: str, *, solved: bool) -> None:
    """Record that an exercise was tried, or solved. A solved exercise stays solved.

    If the file cannot be read or written, this prints a sentence and raises no error.
    """
    _seen[name] = SOLVED if solved or _seen.get(name) == SOLVED else TRIED
    if path := record_file():
        try:
            with locked(path, wait=WAIT):
                results = _read(path)
                if results.get(name) in (SOLVED, _seen[name]):
                    return
                with replacing(path) as file:
                    file.write_text(json.dumps(results | {name: _seen[name]}, indent=1) + "\n")
        except (ArgumentError, OSError) as error:
            print(f"The result is not recorded: {error}")


def results() -> dict[str, str]:
    """Return "tried" or "solved" for each exercise that was checked, in this process or before."""
    recorded = {}
    if path := record_file():
        try:
            with locked(path, wait=WAIT):
                recorded = _read(path)
        except (ArgumentError, OSError) as error:
            print(f"The recorded results cannot be read: {error}")
    return recorded | {k: v for k, v in _seen.items() if recorded.get(k) != SOLVED}


def _read(path: Path) -> dict[str, str]:
    """The results in a file. A damaged file is set aside, and an empty one takes its place."""
    try:
        text = existing_file(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        text = "not text"
    try:
        found = json.loads(text or "{}")
        if isinstance(found, dict) and set(map(str, found.values())) <= {TRIED, SOLVED}:
            return found
    except (json.JSONDecodeError, RecursionError):
        pass
    aside = path.with_name(f"{path.name}.damaged")
    path.replace(aside)
    with replacing(path) as file:
        file.write_text("{}\n")
    print(f"{path} is damaged. It is now {aside}, and a new record is begun.")
    return {}
