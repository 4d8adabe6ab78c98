"""The download of recordings: whole or not at all, continued, checked, explained if it fails."""

import io
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cspkit.arguments import ArgumentError
from cspkit.asr import download, fetch_fsdd
from cspkit.asr.manifest import Manifest, check_manifest
from cspkit.asr.recordings import Recordings

FSDD = os.environ.get("CSPKIT_FSDD")
NAMES = [f"{digit}_{speaker}_{take}.wav" for digit in (0, 7) for speaker in ("anna", "otto")
         for take in (0, 13)]  # fmt: skip


class Server(ThreadingHTTPServer):
    """A loopback server of one archive.

    It breaks off after the bytes in `cuts`, one for each answer, and notes the ranges asked for.
    """

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cuts, self.with_range, self.status = content, [], True, 200
        self.silence, self.ranges = threading.Event(), []
        self.silence.set()
        self.url = f"http://127.0.0.1:{self.server_port}/v1.0.10.zip"

    def handle_error(self, *_):
        """A client that waits no longer is no fault of the server."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers["Range"]
        server.ranges.append(asked)
        server.silence.wait()
        start = int(asked[6:-1]) if asked and server.with_range else 0
        if server.status != 200 or start >= len(server.content):
            self.send_error(server.status if server.status != 200 else 416)
            return
        rest = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            whole = len(server.content)
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: server.cuts.pop(0)] if server.cuts else rest)

    def log_message(self, *_):
        pass


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A folder of eight recordings, which are expected in place of the 3,000."""
    folder = tmp_path / "source" / "recordings"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i, name in enumerate(NAMES):
        soundfile.write(folder / name, 0.1 * rng.standard_normal(800 + 100 * i), 8000)
    monkeypatch.setattr(download, "FSDD_SHA256", download.content_hash(folder))
    monkeypatch.setattr(download, "CHUNK", 100)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return folder


def archive(source, *others, method=zipfile.ZIP_DEFLATED):
    """A zip archive like that of a release; `others` are pairs of a ZipInfo or name and bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as opened:
        opened.writestr("fsdd-1.0.10/README.md", "read me " * 50)
        for path in source.iterdir():
            opened.writestr(f"fsdd-1.0.10/recordings/{path.name}", path.read_bytes())
        for member, content in others:
            opened.writestr(member, content)
    return file.getvalue()


@pytest.fixture
def server(source):
    server = Server(archive(source))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.silence.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folder(tmp_path):
    """The folder for downloads, which does not exist yet."""
    return tmp_path / "cache"


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_recordings_are_downloaded_once_and_become_a_manifest(server, source, folder):
    path = fetch_fsdd(folder, url=server.url)
    assert path == folder / "fsdd-1.0.10" / "manifest.jsonl" and left(folder) == ["fsdd-1.0.10"]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["audio_filepath"] for line in lines] == [f"recordings/{name}" for name in NAMES]
    assert lines[1] == {
        "audio_filepath": "recordings/0_anna_13.wav", "text": "zero", "duration": 0.1125,
        "speaker": "anna", "take": 13,
    }  # fmt: skip
    assert [line["text"] for line in lines] == ["zero"] * 4 + ["seven"] * 4
    assert check_manifest(path).faults == [] and len(list(Recordings(path))) == len(NAMES)
    for name in NAMES:
        assert (path.with_name("recordings") / name).read_bytes() == (source / name).read_bytes()
    assert fetch_fsdd(folder, url=server.url) == path
    assert server.ranges == [None]


@pytest.mark.parametrize("with_range", [True, False])
def test_a_download_that_breaks_off_continues(server, folder, with_range):
    server.cuts, server.with_range = [3000, 2000], with_range
    assert len(Manifest(fetch_fsdd(folder, url=server.url))) == len(NAMES)
    second = 5000 if with_range else 2000
    assert server.ranges == [None, "bytes=3000-", f"bytes={second}-"]


def test_a_later_call_continues_what_an_earlier_call_has_left(server, folder):
    server.cuts = [1000, 500, 300]
    with pytest.raises(ConnectionError, match=r"cannot be downloaded.*fsdd-1\.0\.10\.zip"):
        fetch_fsdd(folder, url=server.url)
    assert left(folder) == ["fsdd-1.0.10.zip.part"]
    fetch_fsdd(folder, url=server.url)
    assert server.ranges[-1] == "bytes=1800-" and left(folder) == ["fsdd-1.0.10"]


def test_an_archive_that_was_not_unpacked_is_not_downloaded_again(server, folder):
    folder.mkdir()
    (folder / "fsdd-1.0.10.zip.part").write_bytes(server.content)
    (folder / ".fsdd-1.0.10.new" / "recordings").mkdir(parents=True)  # killed while it unpacked
    (folder / ".fsdd-1.0.10.new" / "recordings" / "9_anna_0.wav").write_bytes(b"half")
    assert len(Manifest(fetch_fsdd(folder, url=server.url))) == len(NAMES)
    assert server.ranges == [] and left(folder) == ["fsdd-1.0.10"]


@pytest.mark.parametrize("size", [700, 100_000])
def test_a_part_of_another_archive_is_thrown_away(server, folder, size):
    folder.mkdir()
    (folder / "fsdd-1.0.10.zip.part").write_bytes(bytes(size))
    assert len(Manifest(fetch_fsdd(folder, url=server.url))) == len(NAMES)
    assert server.ranges == [f"bytes={size}-", None] and left(folder) == ["fsdd-1.0.10"]


def test_the_same_recordings_may_be_compressed_in_another_way(server, source, folder):
    server.content = archive(source, ("fsdd-1.0.10/new.txt", "new"), method=zipfile.ZIP_STORED)
    assert len(Manifest(fetch_fsdd(folder, url=server.url))) == len(NAMES)


def test_a_file_that_was_put_by_hand_needs_no_server(server, folder):
    folder.mkdir()
    (folder / "fsdd-1.0.10.zip").write_bytes(server.content)
    fetch_fsdd(folder, url="http://127.0.0.1:9/closed.zip")
    assert left(folder) == ["fsdd-1.0.10", "fsdd-1.0.10.zip"]


def failing(server, folder, error, match, **options):
    with pytest.raises(error, match=match) as caught:
        fetch_fsdd(folder, url=server.url, **options)
    assert left(folder) == []
    return str(caught.value)


def test_an_address_that_does_not_answer_is_explained(server, folder):
    server.status = 404
    message = failing(server, folder, ConnectionError, "404")
    assert server.url in message and str(folder / "fsdd-1.0.10.zip") in message
    server.status = 200
    server.silence.clear()
    failing(server, folder, ConnectionError, "timed out", timeout=0.1)
    server.silence.set()
    server.url = "http://127.0.0.1:9/closed.zip"
    failing(server, folder, ConnectionError, "put it here as")


def test_wrong_content_is_refused_and_not_kept(server, source, folder):
    right = server.content
    server.content = b"<html>log in</html>" * 500
    message = failing(server, folder, ArgumentError, "not a zip file")
    assert server.url in message
    (source / NAMES[0]).write_bytes((source / NAMES[1]).read_bytes())
    server.content = archive(source)
    message = failing(server, folder, ArgumentError, "other recordings than expected")
    assert download.FSDD_SHA256 in message and download.content_hash(source) in message
    server.content = right
    fetch_fsdd(folder, url=server.url)


def special(kind):
    member = zipfile.ZipInfo("fsdd-1.0.10/x")
    member.external_attr = (kind | 0o644) << 16
    return member


UNSAFE = ["../x", "fsdd-1.0.10/recordings/../../../x", "/tmp/x", "C:/x", "fsdd\\..\\..\\x",
          special(stat.S_IFLNK), special(stat.S_IFCHR), special(stat.S_IFIFO)]  # fmt: skip


@pytest.mark.parametrize("member", UNSAFE, ids=range(len(UNSAFE)))
def test_an_archive_with_an_unsafe_member_is_refused(server, source, folder, member):
    server.content = archive(source, (member, "outside"))
    failing(server, folder, ArgumentError, "is an unsafe name, a link or a device")
    assert not [path for path in folder.parent.rglob("*") if path.name == "x"]


def test_sizes_are_bounded(server, source, folder, monkeypatch):
    whole = server.content
    bomb = bytes(download.MOST_WAV + 1)
    server.content = archive(source, ("fsdd-1.0.10/recordings/1_anna_0.wav", bomb))
    assert len(server.content) < len(whole) + 10_000
    failing(server, folder, ArgumentError, f"more than {download.MOST_WAV} bytes")
    server.content = whole
    monkeypatch.setattr(download, "MOST_MEMBERS", 8)
    failing(server, folder, ArgumentError, "it has 9 files, expected 8 at most")
    monkeypatch.setattr(download, "MOST_ARCHIVE", len(whole) - 1)
    failing(server, folder, ArgumentError, "the archive has more than")


def test_random_damage_of_an_archive_is_refused(server, source, folder):
    folder.mkdir()
    file, rng = folder / "fsdd-1.0.10.zip", random.Random(0)
    refused = 0
    for _ in range(200):
        content = bytearray(server.content)
        most = rng.choice((100, 1500, len(content)))  # the directory is at the end
        for _ in range(rng.randint(1, 3)):
            content[-rng.randint(1, most)] = rng.randrange(256)
        file.write_bytes(content[: rng.choice((len(content), rng.randrange(len(content))))])
        try:
            path = fetch_fsdd(folder)
        except ArgumentError:
            assert left(folder) == ["fsdd-1.0.10.zip"]
            refused += 1
        else:
            assert download.content_hash(path.with_name("recordings")) == download.FSDD_SHA256
            shutil.rmtree(path.parent)
    assert refused > 100


def test_recordings_that_were_changed_later_are_noticed(server, folder):
    path = fetch_fsdd(folder, url=server.url)
    path.unlink()
    assert fetch_fsdd(folder, url=server.url).is_file()  # the manifest alone is made again
    (path.with_name("recordings") / NAMES[3]).unlink()
    with pytest.raises(ArgumentError, match="were changed.*Delete this folder"):
        fetch_fsdd(folder, url=server.url)


def test_two_processes_download_once(server, source, folder, monkeypatch):
    monkeypatch.setenv("CSPKIT_CACHE", str(folder))
    program = (
        "import sys; from cspkit.asr import download; download.FSDD_SHA256 = sys.argv[2]; "
        "print('ready', flush=True); print(download.fetch_fsdd(url=sys.argv[1]))"
    )
    server.silence.clear()
    call = [sys.executable, "-c", program, server.url, download.FSDD_SHA256]
    running = [subprocess.Popen(call, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.stdout.readline() for process in running] == ["ready\n"] * 2
    threading.Timer(0.3, server.silence.set).start()
    paths = {process.communicate()[0].strip() for process in running}
    assert paths == {str(folder / "fsdd-1.0.10" / "manifest.jsonl")}
    assert server.ranges == [None] and left(folder) == ["fsdd-1.0.10"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "file:///x.zip"}, "url is 'file:///x.zip'"),
        ({"timeout": 0}, "timeout is 0"),
        ({"folder": 3}, "folder is 3"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, options, message):
    with pytest.raises(ArgumentError, match=message):
        fetch_fsdd(**{"folder": tmp_path} | options)


@pytest.mark.skipif(not FSDD, reason="CSPKIT_FSDD is not set: it names the folder of recordings")
def test_the_hash_is_that_of_the_3000_recordings(server, folder, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server.content = archive(Path(FSDD), method=zipfile.ZIP_STORED)
    manifest = Manifest(fetch_fsdd(folder, url=server.url))
    assert len(manifest) == 3000 and manifest.n_faults == 0 and len(manifest.speakers) == 6
    assert 1200 < manifest.durations.sum() < 1400
    assert {entry.fields["take"] for entry in manifest} == set(range(50))
