"""Damaged manifests and audio files: the damaged line is left out, with its number and reason."""

import json
import os
import re

import numpy as np
import pytest
import soundfile
from benchmarks.damaged_manifests import Damage

from cspkit.arguments import ArgumentError
from cspkit.asr import audio
from cspkit.asr.manifest import (
    Entry,
    Manifest,
    check_manifest,
    librispeech_entries,
    write_manifest,
)
from cspkit.asr.recordings import Recordings


def test_a_hundred_damaged_manifests(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "MOST_SAMPLES", 2**20)
    damage = Damage(tmp_path)
    assert len(damage.kinds) < 100
    for i in range(100):
        damage.examine(damage.kinds[i % len(damage.kinds)], np.random.default_rng(1000 + i))
    assert damage.bad == []
    assert all(damage.found[kind, ""] for kind in damage.kinds)
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("a.wav", "b.flac")] == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1-2-0 ONE \xff", "in UTF-8"),
        (b"1/2 ONE", "expected the name of an utterance"),
        (b"1\0 ONE", "expected the name of an utterance"),
        (b"1-2-0 " + b"A" * (1 << 21), "at most 1048576 bytes"),
        (b"1-2-0", "has no text for '1-2-0'"),
    ],
)
def test_damaged_transcripts_name_their_file_and_line(tmp_path, line, reason):
    path = tmp_path / "1-2.trans.txt"
    path.write_bytes(b"\xef\xbb\xbf1-2-9 ONE TWO\r\n\r\n" + line)
    read = librispeech_entries(tmp_path)
    assert next(read) == Entry(1, tmp_path / "1-2-9.flac", "one two", speaker="1")
    with pytest.raises(ArgumentError, match=r"1-2\.trans\.txt.*" + re.escape(reason)):
        next(read)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ArgumentError, match="is a pipe"):
        list(librispeech_entries(tmp_path))


def test_a_name_that_is_no_unicode_is_written_and_read_again(tmp_path):
    audio = tmp_path / os.fsdecode(b"\xe4.wav")
    soundfile.write(audio.with_name("a.wav"), np.zeros(800), 8000)
    audio.with_name("a.wav").rename(audio)
    write_manifest(tmp_path / "m.jsonl", [Entry(1, audio, "one")])
    (tmp_path / "m.jsonl").read_text(encoding="utf-8")
    assert [entry.audio for entry in Manifest(tmp_path / "m.jsonl")] == [audio]
    assert check_manifest(tmp_path / "m.jsonl").n_good == 1


def test_a_manifest_that_changes_while_it_is_read(tmp_path):
    soundfile.write(tmp_path / "a.wav", 0.1 * np.sin(np.arange(4000)), 8000)
    lines = [json.dumps({"audio_filepath": "a.wav", "text": f"word {i}"}) for i in range(3)]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    recordings = Recordings(tmp_path / "m.jsonl")
    (tmp_path / "m.jsonl").write_text(f"{lines[0]}\n{lines[1][:20]}")
    assert [u.text for u in recordings.usable(range(3))] == ["word 0"]
    assert [fault.line for fault in recordings.faults] == [2, 3]
