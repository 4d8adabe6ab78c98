"""Output files: checked before the work, written whole or not at all, one writer at a time."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from cspkit.arguments import ArgumentError

LONGEST = 255  # bytes of a file name on common file systems


def check_output(path: str | Path, name: str = "path") -> Path:
    """Check that a file can be written, before minutes are spent on what goes into it.

    Parameters
    ----------
    path : str or Path
        A new file, a file to be replaced, or a symbolic link to either.
    name : str
        Of the argument, for the message.

    Returns
    -------
    Path
        The file itself: where `path` is a symbolic link, its target.

    Raises
    ------
    ArgumentError
        If the path is a folder, a device or another special file, a link whose target's folder
        does not exist, too long, or in a folder that cannot be written to.
    """
    try:
        target = Path(path).resolve()
        mode = target.stat().st_mode if target.exists() else None
    except (OSError, RuntimeError, ValueError) as error:
        raise ArgumentError(f"{name} is {str(path)!r}: {_reason(error)}") from None
    if mode is not None and stat.S_ISDIR(mode):
        raise ArgumentError(f"{name} is {str(path)!r}, a folder: expected a file name")
    if mode is not None and not stat.S_ISREG(mode):
        raise ArgumentError(f"{name} is {str(path)!r}, which is no regular file: expected one")
    if Path(path).is_symlink() and not target.parent.is_dir():
        raise ArgumentError(
            f"{name} is {str(path)!r}, a link to {target}: expected a link into a folder that exists"
        )
    if len(os.fsencode(target.name)) > LONGEST - len(".lock") - 1:
        raise ArgumentError(f"{name} is {str(path)!r}: expected a shorter file name")
    folder = next(parent for parent in target.parents if parent.exists())
    if not folder.is_dir():
        raise ArgumentError(f"{name} is {str(path)!r}, but {folder} is no folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ArgumentError(f"{name} is {str(path)!r}, but {folder} cannot be written to")
    return target


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Write a file so that it appears whole or not at all.

    Yields the path of a new, empty file in the same folder. When the block ends, that file is
    renamed over `path`; when the block raises, it is deleted and `path` is as it was. The mode of
    the file is the one that the umask gives to new files. A symbolic link is followed.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    ArgumentError
        As `check_output` does.
    """
    target = check_output(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{secrets.token_hex(8)}.part")
    beside.touch(exist_ok=False)
    mode = stat.S_IMODE(beside.stat().st_mode)
    try:
        yield beside
        beside.chmod(mode)  # some writers make files that only their owner can read
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def locked(path: str | Path, *, wait: float = 0.0) -> Iterator[None]:
    """Hold a file for one process.

    Parameters
    ----------
    path : str or Path
        The file; the lock is a hidden file beside it, which stays.
    wait : float
        Seconds to wait for another process; -1 waits without end.

    Raises
    ------
    ArgumentError
        If another process holds the file.
    """
    target = check_output(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(target.with_name(f".{target.name}.lock"), timeout=wait):
            yield
    except Timeout:
        raise ArgumentError(
            f"{path} is in use by another process: wait for it, or choose another file"
        ) from None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
