"""Damage manifests and audio files in many ways: each must be refused with its line and its reason.

    python tests/benchmarks/damaged_manifests.py [N]

N manifests are made, 500 by default. Most have three lines, of which the second is damaged or names
a damaged audio file; the others are damaged as a whole. `Manifest`, `check_manifest`,
`Recordings.usable` and `load_audio` read each of them. They may leave out the second line, and must
do so where the damage is certain; they may not raise anything but an ArgumentError or an OSError,
leave a file half-written, or take more than SECONDS of processor time for a manifest, or MEMORY in
all. Prints how often each kind of damage was found by whom, and fails if anything else happens.
"""

import collections
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from cspkit.arguments import ArgumentError
from cspkit.asr import audio as audio_module
from cspkit.asr import load_audio
from cspkit.asr.manifest import Manifest, check_manifest
from cspkit.asr.manifest_lines import DEEPEST, LONGEST_LINE, LONGEST_REASON
from cspkit.asr.recordings import Recordings
from cspkit.deploy.reporting import peak_memory

SECONDS, MEMORY = 20.0, 2e9
GOOD = [
    {"audio_filepath": "a.wav", "duration": 1.0, "text": "one two", "speaker": "anna"},
    {"audio_filepath": "b.flac", "text": "three", "speaker": 7, "lang": {"code": ["en"]}},
]
NUMBERS = ("NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1" + "0" * 400, "9" * 5000, "1e7",
           "-1", '"1"', "true", "[]", "{}", "1e300")  # fmt: skip


def with_field(name, value):
    """A good line in which one field has another value, given as JSON text."""
    fields = [f'"{key}": {json.dumps(old)}' for key, old in GOOD[0].items() if key != name]
    return ("{" + ", ".join([*fields, f'"{name}": {value}']) + "}").encode()


def cut(content, rng, least=1):
    return content[: int(rng.integers(least, len(content) - 1))]


def nested(rng):
    n = int(rng.integers(DEEPEST, 10 * DEEPEST))
    return with_field("x", "[" * n + "]" * n), with_field("x", '{"x": ' * n + "1" + "}" * n)


# By kind: a line that `Manifest` and `check_manifest` leave out.
LINES = {
    "line cut": lambda rng: cut(json.dumps(GOOD[0]).encode(), rng),
    "not UTF-8": lambda rng: with_field("text", '"one"').replace(b"one", b"on\xff\xfe"),
    "NUL byte": lambda rng: with_field("text", '"o\0ne"'),
    "control character": lambda rng: with_field("text", '"o\x07ne"'),
    "too long": lambda rng: with_field("text", '"' + "one " * (LONGEST_LINE // 3) + '"'),
    "deep": lambda rng: nested(rng)[int(rng.integers(2))],
    "never closed": lambda rng: b"[" * int(rng.integers(1, 100_000)),
    "no object": lambda rng: [b"3", b"null", b'"one"', b"[1]", b"NaN"][int(rng.integers(5))],
    "two objects": lambda rng: b"{}{}",
    "wrong type": lambda rng: with_field(
        str(rng.choice(["audio_filepath", "text"])), str(rng.choice(["3", "null", "[]", "{}"]))
    ),
    "wrong number": lambda rng: with_field(
        str(rng.choice(["duration", "offset"])), str(rng.choice(NUMBERS))
    ),
    "wrong speaker": lambda rng: with_field("speaker", str(rng.choice(["[[1]]", "{}", "1.5"]))),
    "field missing": lambda rng: b'{"audio_filepath": "a.wav", "duration": 1.0}',
    "no word": lambda rng: with_field("text", '" \\t\\u2003 "'),
    "half a pair": lambda rng: with_field(str(rng.choice(["text", "speaker"])), '"a\\ud800"'),
    "no name": lambda rng: with_field("audio_filepath", str(rng.choice(['""', '"a\\u0000"']))),
}


def audio(suffix, n=8000, **options):
    """The bytes of a recording."""
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        noise = 0.1 * np.random.default_rng(0).standard_normal(n)
        soundfile.write(file.name, noise, 8000, **options)
        return Path(file.name).read_bytes()


def changed(content, place, new):
    return content[:place] + new + content[place + len(new) :]


def samples(value):
    """A wav file of floats, one of which has this value."""
    floats = np.zeros(8000)
    floats[4000] = value
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        soundfile.write(file.name, floats, 8000, subtype="DOUBLE")
        return Path(file.name).read_bytes()


def bomb(known):
    """A small FLAC file of more samples than are read; its header knows how many, or does not."""
    with tempfile.NamedTemporaryFile(suffix=".flac") as file:
        with soundfile.SoundFile(file.name, "w", 8000, 1) as opened:
            for _ in range(audio_module.MOST_SAMPLES // 2**20 + 1):
                opened.write(np.zeros(2**20, np.int16))
        content = Path(file.name).read_bytes()
    if not known:  # the number of samples: the last 36 bits of these eight bytes
        head = int.from_bytes(content[18:26], "big") >> 36 << 36
        content = changed(content, 18, head.to_bytes(8, "big"))
    return content


def flipped(content, rng):
    content = bytearray(content)
    for _ in range(int(rng.integers(1, 10))):
        most = int(rng.choice([100, len(content)]))
        content[int(rng.integers(most))] = int(rng.integers(256))
    return bytes(content)


def recordings():
    """By kind: content of an audio file, or what makes it; and who must refuse its line.

    "all": the check of the manifest and the readers. "segment": the same, but `load_audio` can read
    what is left. "readers": only what decodes the file, since
    the check reads headers. "features": only what computes features. "none": it depends on the
    place of the damage.
    """
    wav, flac, ogg, mp3 = (audio(suffix) for suffix in (".wav", ".flac", ".ogg", ".mp3"))
    bombs = {known: bomb(known) for known in (True, False)}
    plain = {
        "missing file": (lambda p, rng: None, "all"),
        "folder": (lambda p, rng: p.mkdir(), "all"),
        "pipe": (lambda p, rng: os.mkfifo(p), "all"),
        "device": (lambda p, rng: p.symlink_to("/dev/zero"), "all"),
        "link to itself": (lambda p, rng: p.symlink_to(p), "all"),
        "link to nothing": (lambda p, rng: p.symlink_to("nothing"), "all"),
    }
    content = {
        "empty file": (lambda rng: b"", "all"),
        "text": (lambda rng: b"no sound " * 100, "all"),
        "random bytes": (lambda rng: b"\0" + rng.bytes(3000), "all"),
        "no samples": (lambda rng: audio(".wav", 0), "all"),
        "few samples": (lambda rng: audio(".wav", 20), "features"),
        "wav header cut": (lambda rng: wav[: int(rng.integers(40))], "all"),
        "flac header cut": (lambda rng: flac[: int(rng.integers(40))], "all"),
        "ogg header cut": (lambda rng: ogg[: int(rng.integers(40))], "all"),
        "wav cut": (lambda rng: cut(wav[:-1000], rng, 44), "segment"),
        "flac cut": (lambda rng: flac[: int(rng.integers(100, len(flac) - 500))], "readers"),
        "sizes too large": (lambda rng: changed(wav, 40, rng.bytes(3) + b"\xff"), "none"),
        "sizes too small": (lambda rng: changed(wav, 40, rng.bytes(2) + b"\0\0"), "none"),
        "no sample rate": (lambda rng: changed(wav, 24, bytes(4)), "all"),
        "large sample rate": (lambda rng: changed(wav, 24, b"\xff\xff\xff\x7f"), "all"),
        "no channels": (lambda rng: changed(wav, 22, bytes(2)), "all"),
        "many channels": (lambda rng: changed(wav, 22, b"\xff\xff"), "all"),
        "NaN": (lambda rng: samples(np.nan), "readers"),
        "infinity": (lambda rng: samples(-np.inf), "readers"),
        "huge sample": (lambda rng: samples(1e300), "readers"),
        "bomb": (lambda rng: bombs[True], "all"),
        "bomb of unknown length": (lambda rng: bombs[False], "all"),
        "wav changed": (lambda rng: flipped(wav, rng), "none"),
        "flac changed": (lambda rng: flipped(flac, rng), "none"),
        "ogg changed": (lambda rng: flipped(ogg, rng), "none"),
        "mp3 changed": (lambda rng: flipped(mp3, rng), "none"),
    }
    written = {
        kind: (lambda p, rng, make=make: p.write_bytes(make(rng)), refuser)
        for kind, (make, refuser) in content.items()
    }
    return plain | written


def whole_files():
    """By kind: the bytes of a manifest, or what makes it, and how many lines are good, or None."""
    lines = [json.dumps(line).encode() for line in GOOD]
    text = b"\n".join(lines) + b"\n"
    return {
        "nothing": (lambda rng: b"", 0),
        "white space": (lambda rng: b" \n\t\r\n" * 100, 0),
        "byte order mark": (lambda rng: b"\xef\xbb\xbf" + text, 2),
        "CRLF": (lambda rng: text.replace(b"\n", b"\r\n"), 2),
        "CR": (lambda rng: text.replace(b"\n", b"\r"), 0),
        "no last line end": (lambda rng: text[:-1], 2),
        "UTF-16": (lambda rng: text.decode().encode("utf-16"), 0),
        "NUL bytes": (lambda rng: bytes(int(rng.integers(1, 3 * LONGEST_LINE))), 0),
        "one long line": (lambda rng: b"x" * int(rng.integers(1, 4 * LONGEST_LINE)), 0),
        "lines twice": (lambda rng: text * 3, None),
        "manifest cut": (lambda rng: cut(text, rng), None),
        "manifest changed": (lambda rng: flipped(text * 3, rng), None),
        "random bytes as manifest": (lambda rng: rng.bytes(5000), 0),
        "audio as manifest": (lambda rng: audio(".wav"), 0),
    }


SPECIAL = {
    "no manifest": lambda p: None,
    "folder as manifest": lambda p: p.mkdir(),
    "pipe as manifest": os.mkfifo,
    "device as manifest": lambda p: p.symlink_to("/dev/zero"),
    "link to itself as manifest": lambda p: p.symlink_to(p),
}
NAMES = {
    "long name": "x" * 300,
    "long path": "x/" * 4000,
    "name that is no Unicode": "\udcff\ud800",
    "raw": "seven.raw",
}


class Damage:
    """A folder with two good recordings, in which damaged manifests are read one after the other.

    Attributes
    ----------
    found : Counter
        How often each kind was left out by each reader.
    bad : list of str
        What should not have happened.
    """

    def __init__(self, folder):
        self.folder, self.found, self.bad = folder, collections.Counter(), []
        (folder / "a.wav").write_bytes(audio(".wav"))
        (folder / "b.flac").write_bytes(audio(".flac"))
        self.recordings, self.whole_files = recordings(), whole_files()
        self.kinds = [*LINES, *self.recordings, *self.whole_files, *SPECIAL, *NAMES, "twice"]

    def examine(self, kind, rng):
        """Make one damaged manifest of a kind, and read it."""
        work = self.folder / "work"
        work.mkdir()
        for name in ("a.wav", "b.flac"):
            os.link(self.folder / name, work / name)
        path = work / "m.jsonl"
        start = time.process_time()
        try:
            for message in self._examine(kind, path, rng):
                self.bad.append(f"{kind}: {message}")
        except BaseException as error:  # RecursionError, MemoryError, SystemExit
            self.bad.append(f"{kind}: {type(error).__name__}: {str(error)[:200]}")
        if (seconds := time.process_time() - start) > SECONDS:
            self.bad.append(f"{kind}: {seconds:.1f} s")
        shutil.rmtree(work)

    def _examine(self, kind, path, rng):
        if kind in SPECIAL:
            SPECIAL[kind](path)
            self.found[kind, ""] += 1
            yield from self._refused(kind, path)
        elif kind in self.whole_files:
            make, n = self.whole_files[kind]
            path.write_bytes(make(rng))
            manifest, usable, checked = yield from self._read(kind, path)
            if n is not None and (len(manifest), len(usable), checked.n_good) != (n, n, n):
                yield f"{len(manifest)}, {len(usable)}, {checked.n_good} lines: expected {n}"
        elif kind in LINES:
            yield from self._second_line(kind, path, LINES[kind](rng), "manifest")
        elif kind == "twice":
            yield from self._second_line(kind, path, with_field("lang", '"en"'), "check")
        else:
            name = NAMES.get(kind, "damaged")
            audio = path.parent / name
            refuser = "all"
            if kind in self.recordings:
                make, refuser = self.recordings[kind]
                make(audio, rng)
            elif kind == "raw":
                audio.write_bytes(rng.bytes(1000))
            line = with_field("audio_filepath", json.dumps(name))
            if kind == "few samples":
                line = json.dumps({"audio_filepath": name, "text": "one"}).encode()
            load = True
            try:
                load_audio(audio)
            except (ArgumentError, OSError) as error:
                load = False
                if not str(error):
                    yield "load_audio gives no reason"
            left_out = yield from self._second_line(kind, path, line, refuser)
            if load and refuser in ("all", "readers"):
                yield "load_audio reads it"
            if not load and "usable" not in left_out:
                yield "load_audio refuses it, Recordings.usable does not"

    def _second_line(self, kind, path, line, refuser):
        """Read a manifest whose second line is damaged; return who left it out."""
        path.write_bytes(
            b"\n".join([json.dumps(GOOD[0]).encode(), line, json.dumps(GOOD[1]).encode()])
        )
        manifest, usable, checked = yield from self._read(kind, path)
        in_manifest = [fault.line for fault in manifest.faults]
        in_check = [fault.line for fault in checked.faults]
        for lines, good in ((in_manifest, len(manifest)), (in_check, checked.n_good)):
            if lines not in ([], [2]) or good != 3 - len(lines):
                yield f"lines {lines} are left out, and {good} are good"
        if [u.text for u in usable if not u.id.endswith(":2")] != ["one two", "three"]:
            yield f"the good lines are read as {[u.text for u in usable]}"
        left_out = {
            name for name, lines in (("manifest", in_manifest), ("check", in_check)) if lines
        }
        left_out |= {"usable"} if len(usable) < 3 else set()
        must = {
            "manifest": {"manifest", "check", "usable"},
            "all": {"check", "usable"},
            "segment": {"check", "usable"},
            "check": {"check"},
            "readers": {"usable"},
            "features": {"usable"},
            "none": set(),
        }[refuser]
        if not must <= left_out:
            yield f"left out by {sorted(left_out)}: expected {sorted(must)}"
        self.found.update((kind, name) for name in left_out)
        return left_out

    def _read(self, kind, path):
        """Read a manifest in every way; return what came."""
        out, cache = path.with_name("good.jsonl"), path.with_name("cache")
        self.found[kind, ""] += 1
        manifest = Manifest(path)
        if len(list(manifest)) != len(manifest):
            yield "the length is wrong"
        readers = Recordings(manifest), Recordings(manifest, cache)
        usable, stored = (list(reader.usable(range(len(manifest)))) for reader in readers)
        if [u.text for u in usable] != [u.text for u in stored]:
            yield "with a cache, other lines can be used"
        checked = check_manifest(path, out=out)
        faults = [*manifest.faults, *readers[0].faults, *checked.faults]
        for fault in faults:
            lines = fault.reason.encode().splitlines()
            if len(lines) != 1 or len(fault.reason) > LONGEST_REASON:
                yield f"the reason is not one short line: {fault.reason!r:.100}"
        if readers[0].n_faults + len(usable) != len(manifest):
            yield "not every line that was left out is counted"
        written = [json.loads(line) for line in out.read_bytes().splitlines()]
        if len(written) != checked.n_good or check_manifest(out).faults:
            yield "the good lines that were written are not good"
        parts = [file.name for file in path.parent.rglob("*") if ".part" in file.name]
        if parts or any(np.load(file).ndim != 2 for file in cache.rglob("*.npy")):
            yield f"files are half-written: {parts}"
        return manifest, usable, checked

    def _refused(self, kind, path):
        """What is no file is refused by every reader."""
        readers = {"manifest": Manifest, "check": check_manifest, "usable": Recordings}
        for name, reader in readers.items():
            try:
                reader(path)
                yield f"{name} reads it"
            except (ArgumentError, FileNotFoundError) as error:
                self.found[kind, name] += 1
                if path.name not in str(error):
                    yield f"{name} does not name it: {error}"


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    with tempfile.TemporaryDirectory() as folder:
        damage = Damage(Path(folder))
        before = peak_memory()
        for i in range(n):
            kind = damage.kinds[i % len(damage.kinds)]
            damage.examine(kind, np.random.default_rng(i))
        memory = peak_memory() - before
    print(f"{'damage':28s} {'cases':>6s} {'manifest':>8s} {'check':>6s} {'usable':>6s}")
    for kind in damage.kinds:
        row = [damage.found[kind, name] for name in ("", "manifest", "check", "usable")]
        print(f"{kind:28s} {row[0]:6d} {row[1]:8d} {row[2]:6d} {row[3]:6d}")
    print(f"{memory / 1e6:.0f} MB beyond the start")
    if memory > MEMORY:
        damage.bad.append(f"{memory / 1e6:.0f} MB")
    sys.exit("\n".join(damage.bad) if damage.bad else 0)


if __name__ == "__main__":
    main()
