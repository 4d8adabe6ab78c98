"""Manifests: what is read, what is refused and why, and how much memory it takes."""

import json
import random
import sys
import tracemalloc

import numpy as np
import pytest
import soundfile

from cspkit.__main__ import main
from cspkit.arguments import ArgumentError
from cspkit.asr.manifest import (
    SHOWN,
    Entry,
    Manifest,
    check_manifest,
    librispeech_entries,
    write_manifest,
)
from cspkit.asr.transducer_config import TransducerConfig


@pytest.fixture
def folder(tmp_path):
    """A folder with three recordings of one second, in two formats and sample rates."""
    rng = np.random.default_rng(0)
    for name, rate in (("a.wav", 8000), ("b.flac", 16000), ("c.wav", 44100)):
        soundfile.write(tmp_path / name, 0.1 * rng.standard_normal((rate, 2)), rate)
    return tmp_path


GOOD = [
    {"audio_filepath": "a.wav", "duration": 1.0, "text": "one two", "speaker": "anna"},
    {"audio_filepath": "b.flac", "text": " three  four ", "speaker": 7},
    {"audio_filepath": "c.wav", "duration": 0.5, "offset": 0.25, "text": "five", "lang": "en"},
]


def written(folder, lines, name="m.jsonl"):
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    (folder / name).write_text(text)
    return folder / name


def test_lines_are_read_when_they_are_asked_for(folder):
    manifest = Manifest(written(folder, ["", GOOD[0], "  ", *GOOD[1:]]))
    assert len(manifest) == 3 and manifest.n_faults == 0
    first, second, third = manifest
    assert first == Entry(2, folder / "a.wav", "one two", 0.0, 1.0, "anna", GOOD[0])
    assert (second.text, second.speaker, second.duration) == ("three four", "7", None)
    assert (third.line, third.offset, third.duration, third.fields["lang"]) == (5, 0.25, 0.5, "en")
    assert manifest.speakers == ["", "7", "anna"]
    assert [manifest.speakers[i] for i in manifest.speaker_of] == ["anna", "7", ""]
    np.testing.assert_array_equal(manifest.durations, np.float32([1.0, np.nan, 0.5]))
    assert manifest[-1] == third


BAD = [
    ("{", "no JSON"),
    ("[1]", "is a list: expected a JSON object"),
    ("[" * 3000, "no JSON"),
    ({"text": "one"}, "audio_filepath is missing"),
    ({"audio_filepath": "a.wav"}, "text is missing"),
    ({"audio_filepath": 3, "text": "one"}, "audio_filepath is 3"),
    ({"audio_filepath": "", "text": "one"}, "expected the name of a file"),
    ({"audio_filepath": "a\0.wav", "text": "one"}, "expected the name of a file"),
    ({"audio_filepath": "a.wav", "text": " "}, "text has no word"),
    ({"audio_filepath": "a.wav", "text": "one", "duration": 0}, "duration is 0"),
    ({"audio_filepath": "a.wav", "text": "one", "duration": "1"}, "duration is '1'"),
    ('{"audio_filepath": "a.wav", "text": "one", "duration": NaN}', "duration is nan"),
    ({"audio_filepath": "a.wav", "text": "one", "offset": -1}, "offset is -1"),
    ({"audio_filepath": "a.wav", "text": "one", "speaker": []}, "speaker is []"),
    ({"audio_filepath": "a.wav", "text": "eleven"}, "unit 'eleven'"),
    ('{"audio_filepath": "' + "a" * (1 << 20) + '"}', "longer than"),
]


@pytest.mark.parametrize(("line", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_lines_that_cannot_be_used_are_left_out_and_counted(folder, line, reason):
    path = written(folder, [GOOD[0], line, GOOD[1]])
    manifest = Manifest(path, TransducerConfig())
    assert [entry.line for entry in manifest] == [1, 3]
    ((number, found),) = manifest.faults
    assert number == 2 and reason in found and manifest.n_faults == 1
    checked = check_manifest(path, config=TransducerConfig())
    assert [fault.line for fault in checked.faults] == [2] and checked.n_good == 2


def test_only_some_faults_are_kept_but_all_are_counted(folder):
    manifest = Manifest(written(folder, ["{"] * (SHOWN + 5) + GOOD))
    assert (len(manifest), len(manifest.faults), manifest.n_faults) == (3, SHOWN, SHOWN + 5)


def test_a_check_opens_the_audio(folder):
    (folder / "text.wav").write_text("no sound")
    lines = [
        {"audio_filepath": "none.wav", "text": "one"},
        {"audio_filepath": "text.wav", "text": "one"},
        {"audio_filepath": ".", "text": "one"},
        {"audio_filepath": "a.wav", "text": "one", "duration": 1.2},
        {"audio_filepath": "a.wav", "text": "one", "offset": 1.0},
        {"audio_filepath": "a.wav", "text": "one", "offset": 0.5, "duration": 0.6},
        GOOD[0],
        GOOD[0] | {"text": "two"},
        GOOD[2],
    ]
    checked = check_manifest(written(folder, lines), out=folder / "good.jsonl")
    reasons = [
        "none.wav: no such file", "text.wav is no audio file", "is a folder",
        "from 0 to 1.2 s, but", "from 1 to 1 s, but", "from 0.5 to 1.1 s, but",
        "line 7 has the same audio",
    ]  # fmt: skip
    assert [fault.line for fault in checked.faults] == [1, 2, 3, 4, 5, 6, 8]
    for fault, reason in zip(checked.faults, reasons, strict=True):
        assert reason in fault.reason
    assert (checked.n_good, checked.seconds) == (2, pytest.approx(1.5))
    assert checked.units == {"one": 1, "two": 1, "five": 1}
    assert [json.loads(li) for li in (folder / "good.jsonl").read_text().splitlines()] == [
        GOOD[0], GOOD[2],
    ]  # fmt: skip


def test_a_speaker_of_another_part_is_found(folder):
    train = written(folder, GOOD[:1], "train.jsonl")
    test = written(folder, [GOOD[1], GOOD[2] | {"speaker": "anna"}], "test.jsonl")
    (fault,) = check_manifest(test, others=[train]).faults
    assert fault.line == 2 and fault.reason == f"speaker 'anna' also speaks in {train}"
    assert check_manifest(train, others=[]).faults == []


def test_what_is_written_is_read_again(folder, tmp_path_factory):
    entries = list(Manifest(written(folder, GOOD)))
    again = folder / "again.jsonl"
    assert write_manifest(again, entries) == 3
    assert "/" not in again.read_text()  # next to the recordings: relative paths
    for old, new in zip(entries, Manifest(again), strict=True):
        assert (new.audio, new.text, new.offset, new.duration, new.speaker) == (
            old.audio, old.text, old.offset, old.duration, old.speaker,
        )  # fmt: skip
        assert new.fields.keys() >= old.fields.keys()
    elsewhere = tmp_path_factory.mktemp("other") / "m.jsonl"
    write_manifest(elsewhere, entries)
    assert [entry.audio for entry in Manifest(elsewhere)] == [entry.audio for entry in entries]


def test_librispeech_folders_become_a_manifest(tmp_path):
    chapter = tmp_path / "train-clean-100" / "19" / "198"
    chapter.mkdir(parents=True)
    lines = ["19-198-0000 MISTER BROWN", "19-198-0001 IT'S LATE", ""]
    (chapter / "19-198.trans.txt").write_text("\n".join(lines))
    for name in ("19-198-0000", "19-198-0001"):
        soundfile.write(chapter / f"{name}.flac", np.zeros(16000), 16000)
    assert write_manifest(tmp_path / "m.jsonl", librispeech_entries(tmp_path)) == 2
    checked = check_manifest(tmp_path / "m.jsonl")
    assert checked.faults == [] and checked.seconds == 2.0
    assert [entry.text for entry in Manifest(tmp_path / "m.jsonl")] == ["mister brown", "it's late"]
    assert Manifest(tmp_path / "m.jsonl").speakers == ["19"]
    (chapter / "19-198.trans.txt").write_text("19-198-0000\n")
    with pytest.raises(ArgumentError, match="has no text for '19-198-0000'"):
        list(librispeech_entries(tmp_path))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ArgumentError, match="no \\*.trans.txt"):
        list(librispeech_entries(empty))
    with pytest.raises(FileNotFoundError):
        list(librispeech_entries(tmp_path / "none"))


def test_a_manifest_that_is_none(tmp_path):
    with pytest.raises(FileNotFoundError):
        Manifest(tmp_path / "none.jsonl")
    with pytest.raises(ArgumentError, match="is a folder"):
        check_manifest(tmp_path)


def test_random_damage_never_raises(folder):
    content = bytearray(written(folder, GOOD * 3).read_bytes())
    rng = random.Random(0)
    for _ in range(200):
        damaged = bytearray(content)
        for _ in range(rng.randint(1, 5)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        (folder / "d.jsonl").write_bytes(damaged[: rng.randrange(len(damaged))])
        manifest = Manifest(folder / "d.jsonl")
        assert len(list(manifest)) == len(manifest)
        checked = check_manifest(folder / "d.jsonl")
        assert checked.n_good <= len(manifest)


def test_many_lines_take_little_memory(tmp_path):
    n = 20_000
    line = json.dumps({"audio_filepath": "x" * 200, "text": "one " * 20, "speaker": "s"})
    (tmp_path / "m.jsonl").write_text(f"{line}\n" * n)
    tracemalloc.start()
    manifest = Manifest(tmp_path / "m.jsonl")
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(manifest) == n and kept < 60 * n
    assert manifest[n - 1].line == n


@pytest.fixture
def _as_script(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["cspkit"])


@pytest.mark.usefixtures("_as_script")
def test_the_command_reports_lines_and_writes_the_good_ones(folder, capsys):
    train = written(folder, [GOOD[0], "{"], "train.jsonl")
    test = written(folder, [GOOD[1], GOOD[2] | {"speaker": "anna"}], "test.jsonl")
    call = ["manifest", "check", str(train), str(test), "--out", str(folder / "good")]
    assert main(call) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{train}:2: the line is no JSON")
    assert lines[1] == f"{train}: 1 good lines, 1 others; 0.0 minutes, 2 words"
    assert lines[2] == f"{test}:2: speaker 'anna' also speaks in {train}"
    good = folder / "good"
    assert [len(Manifest(good / name)) for name in ("train.jsonl", "test.jsonl")] == [1, 1]
    # The good lines name the recordings relative to their own folder.
    assert check_manifest(good / "train.jsonl").n_good == 1

    assert main(["manifest", "check", str(good / "train.jsonl"), "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert (result["good"], result["seconds"], result["faults"]) == (1, 1.0, [])


@pytest.mark.usefixtures("_as_script")
def test_a_wrong_call_of_the_command_is_code_2(folder, capsys):
    assert main(["manifest", "check", str(folder / "none.jsonl")]) == 2
    assert "none.jsonl: no such file" in capsys.readouterr().err
    file = written(folder, GOOD)
    (folder / "other").mkdir()
    other = written(folder / "other", GOOD)
    assert main(["manifest", "check", str(file), str(other), "--out", str(folder / "x")]) == 2
    assert "expected different names" in capsys.readouterr().err
