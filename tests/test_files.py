import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cspkit.arguments import ArgumentError
from cspkit.files import check_output, locked, replacing


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def write(path, text):
    with replacing(path) as temporary:
        temporary.write_text(text)


def test_a_file_is_written_with_its_folders(tmp_path):
    write(tmp_path / "a" / "b" / "rows.csv", "1")
    assert (tmp_path / "a" / "b" / "rows.csv").read_text() == "1"
    assert [file.name for file in (tmp_path / "a" / "b").iterdir()] == ["rows.csv"]


def test_a_block_that_raises_leaves_the_old_file_and_no_other(tmp_path):
    write(tmp_path / "rows.csv", "old")
    with pytest.raises(KeyError), replacing(tmp_path / "rows.csv") as temporary:
        temporary.write_text({}["half of the new one"])
    assert [(f.name, f.read_text()) for f in tmp_path.iterdir()] == [("rows.csv", "old")]


def test_two_writers_do_not_share_a_temporary_file(tmp_path):
    with replacing(tmp_path / "x") as first, replacing(tmp_path / "x") as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "x").read_text() == "first"  # its block ends last


def test_the_umask_decides_the_mode(tmp_path, umask):
    with replacing(tmp_path / "x") as temporary:
        temporary.unlink()  # as writers do that make a new file, for their owner alone
        temporary.touch(mode=0o600)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o666 & ~umask


def test_a_link_is_followed(tmp_path):
    target, link = tmp_path / "target", tmp_path / "links" / "link"
    target.write_text("old")
    link.parent.mkdir()
    link.symlink_to("../target")
    assert check_output(link) == target
    write(link, "new")
    assert link.is_symlink() and target.read_text() == "new"


def test_a_link_to_a_file_that_is_not_there_yet_makes_it(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text() == "new"


NOT_MADE = ("device", "null byte", "long name", "long folder", "long path")


def special(kind, folder):
    """Make a path that cannot be written to."""
    path = folder / "out"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path(os.devnull)
    elif kind == "link to a device":
        path.symlink_to(os.devnull)
    elif kind == "link to a folder":
        path.symlink_to(folder)
    elif kind == "link into no folder":
        path.symlink_to(folder / "none" / "out")
    elif kind == "link to itself":
        path.symlink_to(path)
    elif kind == "under a file":
        path.write_text("")
        path = path / "below" / "out"
    elif kind == "long name":
        path = folder / ("o" * 250)
    elif kind == "long folder":
        path = folder / "none" / ("o" * 256) / "out"
    elif kind == "long path":
        path = folder / "/".join(["o" * 200] * 25)
    elif kind == "null byte":
        path = folder / "o\0ut"
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("folder", "a folder: expected a file name"),
        ("link to a folder", "a folder: expected a file name"),
        ("pipe", "is not a regular file"),
        ("device", "is not a regular file"),
        ("link to a device", "is not a regular file"),
        ("link into no folder", "expected a link into a folder that exists"),
        ("link to itself", "itself|[Ll]oop"),
        ("under a file", "out is not a folder"),
        ("long name", "expected a shorter file name, 249 bytes at most"),
        ("long folder", "expected a shorter file name"),
        ("long path", "File name too long"),
        ("null byte", "null"),
    ],
)
@pytest.mark.parametrize("writer", [check_output, replacing, locked])
def test_what_is_no_regular_file_is_refused_and_left_alone(tmp_path, kind, message, writer):
    path = special(kind, tmp_path)
    before = os.lstat(path) if kind in ("folder", "pipe", "device") else None
    refused = writer if writer is check_output else lambda path: writer(path).__enter__()
    with pytest.raises(ArgumentError, match=f"^path is .*({message})"):
        refused(path)
    assert len(list(tmp_path.iterdir())) == (kind not in NOT_MADE)
    if before is not None:
        assert os.lstat(path).st_mode == before.st_mode


@pytest.mark.parametrize("path", [None, 3, b"out"])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(ArgumentError, match=f"--out is {path!r}"):
        check_output(path, "--out")


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != tmp_path)  # root may write
    with pytest.raises(ArgumentError, match=f"but {tmp_path} cannot be written to"):
        check_output(tmp_path / "new" / "out", "--out")


def test_a_file_that_is_read_only_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "out"
    file.write_text("kept")
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != file)
    with pytest.raises(ArgumentError, match="read-only"):
        check_output(file)


def test_a_name_that_is_no_utf_8_is_a_name(tmp_path):
    name = os.fsdecode(b"r\xe9sultat")
    try:
        write(tmp_path / name, "new")
    except OSError:
        pytest.skip("this file system accepts no such name")
    assert os.listdir(os.fsencode(tmp_path)) == [b"r\xe9sultat"]


HOLDER = """
import sys
from cspkit.files import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_second_process_is_told(tmp_path):
    path, link = tmp_path / "new" / "out", tmp_path / "link"
    link.symlink_to(path)
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        for name in (path, link):  # one file under two names
            with pytest.raises(ArgumentError, match="in use by another process"), locked(name):
                pass
        holder.kill()
    with locked(path, wait=10.0):  # a killed process holds nothing
        pass


def test_a_lock_is_free_after_a_block_that_raises(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path / "out"):
        raise KeyError
    with locked(tmp_path / "out"), locked(tmp_path / "other"):
        pass
