"""Files: check a path early, write the whole file or nothing, one process at a time."""

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
    """Check that a file can be written, before minutes are spent on its content.

    Parameters
    ----------
    path : str or Path
        A new file, a file to be replaced, or a symbolic link to either.
    name : str
        Name of the argument, for the error message.

    Returns
    -------
    Path
        The file itself. If `path` is a symbolic link, this is the target of the link.

    Raises
    ------
    ArgumentError
        If the path is a folder, a device or another special file, a read-only file, a link to
        itself or a link into a folder that does not exist; if its name is too long; or if its
        folder cannot be written to.
    """
    given = str(path) if isinstance(path, Path) else path
    shown = f"{name} is {given!r}"
    longest = LONGEST - len(".lock") - 1  # `locked` adds a dot and a suffix
    try:
        target = Path(path).resolve()
        lengths = [len(os.fsencode(part)) for part in target.parts]
        if lengths[-1] > longest or max(lengths) > LONGEST:
            raise ArgumentError(f"expected a shorter file name, {longest} bytes at most")
        mode = _mode(target)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise ArgumentError(f"{shown}: {getattr(error, 'strerror', None) or error}") from None
    if mode is not None and stat.S_ISDIR(mode):
        raise ArgumentError(f"{shown}, a folder: expected a file name")
    if mode is not None and not stat.S_ISREG(mode):
        raise ArgumentError(
            f"{shown}, which is not a regular file but a device, a pipe or a link to itself: "
            "expected the name of a regular file"
        )
    if Path(path).is_symlink() and not target.parent.is_dir():
        raise ArgumentError(
            f"{shown}, a link to {target}: expected a link into a folder that exists"
        )
    folder = next(parent for parent in target.parents if parent.exists())
    if not folder.is_dir():
        raise ArgumentError(f"{shown}, but {folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ArgumentError(f"{shown}, but {folder} cannot be written to")
    if mode is not None and not os.access(target, os.W_OK):
        raise ArgumentError(f"{shown}, but this file is read-only")
    return target


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Write a file so that it appears whole or not at all.

    Yields the path of a new, empty file in the same folder. When the block ends, that file is
    renamed to `path`. If the block raises, that file is deleted and `path` stays as it was. The
    file gets the permissions that the umask gives to new files. A symbolic link is followed.

    Parameters
    ----------
    path : str or Path
        See `check_output`. Folders that do not exist are made.

    Raises
    ------
    ArgumentError
        For the reasons that `check_output` lists.
    """
    target = check_output(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{secrets.token_hex(8)}.part")
    temporary.touch(exist_ok=False)
    mode = stat.S_IMODE(temporary.stat().st_mode)
    try:
        yield temporary
        temporary.chmod(mode)  # some writers make files that only their owner can read
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: str | Path, *, wait: float = 0.0) -> Iterator[None]:
    """Keep other processes from writing a file while the block runs.

    Every process that writes the file must use this lock. The lock is a hidden file in the same
    folder, and is deleted afterwards. If the process is killed, the system releases the lock.

    Parameters
    ----------
    path : str or Path
        See `check_output`. Folders that do not exist are made.
    wait : float
        How many seconds to wait if another process holds the lock; -1 waits without end.

    Raises
    ------
    ArgumentError
        If another process holds the lock, or for the reasons that `check_output` lists.
    """
    target = check_output(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    lock_file = target.with_name(f".{target.name}.lock")
    try:
        lock = FileLock(lock_file).acquire(timeout=wait)
    except Timeout:
        raise ArgumentError(
            f"{path} is in use by another process: wait for it, or choose another file"
        ) from None
    with lock:
        try:
            yield
        finally:
            # The lock file is deleted while it is held. A process that waits for it notices this,
            # and makes a new file.
            lock_file.unlink(missing_ok=True)


def _mode(path: Path) -> int | None:
    """Type and permissions of a file, or None if there is no such file."""
    try:
        return path.lstat().st_mode  # a link that is left after `resolve` is a link to itself
    except (FileNotFoundError, NotADirectoryError):
        return None


def existing_file(path: str | Path) -> Path:
    """Return the path of a regular file.

    Raises
    ------
    FileNotFoundError
        If the path does not exist.
    ArgumentError
        If the path is a folder, a pipe, a device or another special file.
    """
    if not isinstance(path, str | os.PathLike):
        raise ArgumentError(f"path is {path!r}: expected the name of a file")
    path = Path(path)
    if path.is_dir():
        raise ArgumentError(f"{path} is a folder: expected a file")
    if path.exists() and not path.is_file():
        raise ArgumentError(f"{path} is a pipe, a device or a socket: expected a regular file")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return path
