"""The recordings of the Free Spoken Digit Dataset, downloaded on request and checked."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from cspkit.arguments import ArgumentError, positive
from cspkit.asr.audio import audio_seconds
from cspkit.asr.corpus import DIGITS
from cspkit.asr.manifest import Entry, write_manifest
from cspkit.files import locked

NAME = "fsdd-1.0.10"
FSDD_URL = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.zip"
# Of the 3,000 recordings, see `content_hash`.
FSDD_SHA256 = "997e451901d158bdf09dde66b240f3f19310fdbf4d9c056ebd806254df4a672c"
RECORDING = re.compile(r"[0-9]_[a-z]+_[0-9]+\.wav")
MOST_ARCHIVE, MOST_WAV, MOST_MEMBERS = 2**25, 2**20, 10_000  # bytes, bytes, files
CHUNK, TRIES = 2**16, 3
# Raised by zipfile if an archive is damaged, or is encrypted.
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)


def fetch_fsdd(
    folder: str | Path | None = None, *, url: str = FSDD_URL, timeout: float = 30.0
) -> Path:
    """Download the 3,000 recordings of the Free Spoken Digit Dataset, unless they are there.

    The recordings are those of the embedded corpus. They are checked by one SHA-256, see
    `content_hash`, at every call. A download that was interrupted goes on where it stopped, if the
    server allows it. The folder of the recordings appears whole or not at all. Several processes
    may call this function at the same time: one of them downloads, the others wait.

    Parameters
    ----------
    folder : str or Path, optional
        Folder for downloads. The default is the environment variable `CSPKIT_CACHE`, or the
        cache folder of the user. If it has the file fsdd-1.0.10.zip, this file is used and nothing
        is downloaded.
    url : str
        Address of a zip archive whose only top folder has a folder `recordings`.
    timeout : float
        Seconds to wait for each answer of the server.

    Returns
    -------
    Path
        The manifest FOLDER/fsdd-1.0.10/manifest.jsonl, see `cspkit.asr.manifest.Manifest`. The text
        of a line is a digit as a word. The line also has `duration`, `speaker` and `take`. The
        recordings are in the folder `recordings` beside the manifest.

    Raises
    ------
    ArgumentError
        If an argument is wrong, the archive is no zip archive, is too large or has a member with an
        unsafe name, or the recordings are others than expected.
    ConnectionError
        If the archive cannot be downloaded. The message says where it can be put by hand.
    ModuleNotFoundError
        If the package pooch is not installed.

    References
    ----------
    Jackson et al., "Free Spoken Digit Dataset", doi:10.5281/zenodo.1342401. CC BY-SA 4.0.

    Examples
    --------
    >>> recordings = Recordings(fetch_fsdd())  # doctest: +SKIP
    """
    if folder is None:
        import pooch

        folder = os.environ.get("CSPKIT_CACHE") or pooch.os_cache("cspkit")
    if not isinstance(folder, str | os.PathLike):
        raise ArgumentError(f"folder is {folder!r}: expected the name of a folder")
    if not isinstance(url, str) or not url.startswith(("https://", "http://")):
        raise ArgumentError(f"url is {url!r}: expected an address that starts with https://")
    positive("timeout", timeout)
    folder = Path(folder).absolute()
    whole, part = folder / NAME, folder / f"{NAME}.zip.part"
    if not whole.is_dir():
        with locked(part, wait=-1):
            if not whole.is_dir():
                _fetch(url, timeout, folder / f"{NAME}.zip", part, whole)
    elif (found := content_hash(whole / "recordings")) != FSDD_SHA256:
        raise ArgumentError(
            f"the recordings in {whole} were changed: their SHA-256 is {found}, expected "
            f"{FSDD_SHA256}. Delete this folder and try again"
        )
    manifest = whole / "manifest.jsonl"
    if not manifest.is_file():
        write_manifest(manifest, _entries(whole / "recordings"))
    return manifest


def content_hash(recordings: str | Path) -> str:
    """Return the SHA-256 of the wav files of a folder, as hexadecimal digits.

    Of each file, in the order of the names, the hash covers the name, a zero byte, the number of
    bytes in decimal digits, a zero byte, and the content. The bytes of an archive do not matter:
    the same files may be compressed in another way.
    """
    content = hashlib.sha256()
    for file in sorted(Path(recordings).glob("*.wav")):
        data = file.read_bytes()
        content.update(f"{file.name}\0{len(data)}\0".encode("utf-8", "surrogateescape"))
        content.update(data)
    return content.hexdigest()


def _fetch(url: str, timeout: float, by_hand: Path, part: Path, whole: Path) -> None:
    """Make the folder `whole` from the archive that was put there by hand, or from a download."""
    if by_hand.is_file():
        _unpack(by_hand, whole)
        return
    resumed = part.is_file()
    while True:
        try:
            if not zipfile.is_zipfile(part):  # a process may have stopped before it unpacked
                _download(url, timeout, part, by_hand)
            _unpack(part, whole)
        except ArgumentError as error:
            part.unlink(missing_ok=True)
            if not resumed:
                raise ArgumentError(f"{error}. It came from {url}") from None
            resumed = False  # the server may have changed the archive between the two parts
        else:
            part.unlink()
            return


def _download(url: str, timeout: float, part: Path, by_hand: Path) -> None:
    """Append what is missing of an archive."""
    import pooch

    for _ in range(TRIES):
        with part.open("ab") as file:
            start = file.tell()
            headers = {"Accept-Encoding": "identity"}
            if start:
                headers["Range"] = f"bytes={start}-"
            get = pooch.HTTPDownloader(
                chunk_size=CHUNK,
                timeout=timeout,
                headers=headers,
                hooks={"response": _Beginning(file, start)},
            )
            try:
                get(url, _Bounded(file), None)
                return
            except OSError as error:
                if error.errno is not None:  # the disk, not the network
                    raise
                problem = error
    if part.stat().st_size == 0:
        part.unlink()
    raise ConnectionError(
        f"{url} cannot be downloaded: {problem}. Try again later; or download it elsewhere, and "
        f"put it here as {by_hand}"
    )


class _Beginning:
    """Look at the head of each answer: a file that is sent from its start replaces the part."""

    def __init__(self, file: BinaryIO, start: int) -> None:
        self.file, self.start = file, start

    def __call__(self, response, **_) -> None:
        part = response.headers.get("Content-Range", "").startswith(f"bytes {self.start}-")
        if response.status_code in (200, 416) or (response.status_code == 206 and not part):
            self.file.truncate(0)
        if response.status_code == 206 and not part:
            raise OSError("the server sent another part than the one that was asked for")


class _Bounded:
    """A file that does not become too large."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.flush = file, file.flush

    def write(self, data: bytes) -> None:
        if self.file.tell() + len(data) > MOST_ARCHIVE:
            raise ArgumentError(f"the archive has more than {MOST_ARCHIVE} bytes")
        self.file.write(data)


def _unpack(archive: Path, whole: Path) -> None:
    """Make the folder `whole` from the recordings of an archive."""
    new = whole.with_name(f".{NAME}.new")
    shutil.rmtree(new, ignore_errors=True)  # a process was killed
    try:
        (new / "recordings").mkdir(parents=True)
        for name, data in _recordings(archive):
            (new / "recordings" / name).write_bytes(data)
        found = content_hash(new / "recordings")
        if found != FSDD_SHA256:
            raise ArgumentError(
                f"{archive} has other recordings than expected: their SHA-256 is {found}, expected "
                f"{FSDD_SHA256}"
            )
        new.rename(whole)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _recordings(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each recording, after all names are checked."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            if len(members) > MOST_MEMBERS:
                raise ArgumentError(f"it has {len(members)} files, expected {MOST_MEMBERS} at most")
            for member in members:
                _check_name(member)
            for member in members:
                folders = PurePosixPath(member.filename).parts
                if folders[1:-1] == ("recordings",) and RECORDING.fullmatch(folders[-1]):
                    yield folders[-1], _content(opened, member)
    except (*DAMAGE, OSError) as error:
        raise ArgumentError(f"{archive} cannot be unpacked: {error}") from None


def _check_name(member: zipfile.ZipInfo) -> None:
    """Refuse links, devices, and names that lead out of a folder on any system."""
    name, kind = PurePosixPath(member.filename), stat.S_IFMT(member.external_attr >> 16)
    unsafe = name.is_absolute() or ".." in name.parts or {"\\", ":"} & set(str(name))
    if unsafe or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ArgumentError(f"{str(name)!r} is an unsafe name, a link or a device")


def _content(opened: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArgumentError(f"{member.filename!r} is compressed in an unknown way")
    with opened.open(member) as file:
        data = file.read(MOST_WAV + 1)
    if len(data) > MOST_WAV:
        raise ArgumentError(f"{member.filename!r} has more than {MOST_WAV} bytes")
    return data


def _entries(recordings: Path) -> Iterator[Entry]:
    """Yield an entry for each recording DIGIT_SPEAKER_TAKE.wav."""
    for number, file in enumerate(sorted(recordings.glob("*.wav")), start=1):
        digit, speaker, take = file.stem.split("_")
        yield Entry(
            number,
            file,
            DIGITS[int(digit)],
            duration=audio_seconds(file),
            speaker=speaker,
            fields={"take": int(take)},
        )
