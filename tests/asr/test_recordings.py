"""The utterances of a manifest: computed when asked for, stored, skipped, shuffled, batched."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from cspkit.arguments import ArgumentError
from cspkit.asr import load_audio, mfcc
from cspkit.asr.recordings import Recordings, by_length, shuffled


@pytest.fixture
def manifest(tmp_path):
    rng = np.random.default_rng(0)
    lines = []
    for i in range(6):
        rate = (8000, 16000)[i % 2]
        soundfile.write(tmp_path / f"{i}.wav", 0.1 * rng.standard_normal(rate * (1 + i)), rate)
        lines.append({"audio_filepath": f"{i}.wav", "text": f"word {i}", "speaker": f"s{i % 3}"})
    lines.append({"audio_filepath": "5.wav", "text": "part", "offset": 1.0, "duration": 2.0})
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path / "m.jsonl"


def test_an_utterance_has_the_features_of_its_segment(manifest):
    recordings = Recordings(manifest)
    assert len(recordings) == 7
    for i in range(6):
        waveform, rate = load_audio(manifest.with_name(f"{i}.wav"))
        np.testing.assert_array_equal(recordings[i].features, mfcc(waveform, rate))
        assert (recordings[i].text, recordings[i].speaker) == (f"word {i}", f"s{i % 3}")
    waveform, rate = load_audio(manifest.with_name("5.wav"))
    part = mfcc(waveform[rate : 3 * rate], rate)
    np.testing.assert_array_equal(recordings[6].features, part)
    assert len({u.id for u in recordings}) == 7


def test_features_are_computed_once_and_found_by_content(manifest, tmp_path, monkeypatch):
    cache = tmp_path / "new" / "cache"
    first = [u.features for u in Recordings(manifest, cache)]
    assert len(list(cache.rglob("*.npy"))) == 7
    monkeypatch.setattr("cspkit.asr.recordings.mfcc", lambda *_: pytest.fail("computed again"))
    for one, two in zip(first, Recordings(manifest, cache), strict=True):
        np.testing.assert_array_equal(one, two.features)
    shutil.move(manifest.with_name("0.wav"), manifest.with_name("a.wav"))  # a new name is enough
    lines = manifest.read_text().replace("0.wav", "a.wav")
    manifest.write_text(lines)
    np.testing.assert_array_equal(Recordings(manifest, cache)[0].features, first[0])
    monkeypatch.undo()
    shutil.copy(manifest.with_name("1.wav"), manifest.with_name("a.wav"))  # other content is not
    assert len(Recordings(manifest, cache)[0].features) == len(first[1])


def test_a_damaged_file_of_the_cache_is_written_again(manifest, tmp_path):
    cache = tmp_path / "cache"
    expected = Recordings(manifest, cache)[0].features
    (file,) = cache.rglob("*.npy")
    for content in (b"", file.read_bytes()[:-10], b"\x80\x04pickle"):
        file.write_bytes(content)
        np.testing.assert_array_equal(Recordings(manifest, cache)[0].features, expected)
        assert len(np.load(file)) == len(expected)


def test_several_processes_share_a_cache(manifest, tmp_path):
    program = (
        "import sys; from cspkit.asr.recordings import Recordings; "
        "print(sum(float(u.features.sum()) for u in Recordings(sys.argv[1], sys.argv[2])))"
    )
    call = [sys.executable, "-c", program, str(manifest), str(tmp_path / "cache")]
    running = [subprocess.Popen(call, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = {process.communicate()[0] for process in running}
    assert len(outputs) == 1 and all(process.returncode == 0 for process in running)
    assert len(list((tmp_path / "cache").rglob("*"))) == 7 + len(
        [f for f in (tmp_path / "cache").iterdir() if f.is_dir()]
    )  # no temporary file is left


def test_what_cannot_be_read_is_left_out_and_counted(manifest):
    manifest.with_name("1.wav").unlink()
    manifest.with_name("2.wav").write_text("no sound")
    soundfile.write(manifest.with_name("3.wav"), np.zeros(20), 8000)
    recordings = Recordings(manifest)
    found = [u.text for u in recordings.usable(range(7))]
    assert found == ["word 0", "word 4", "word 5", "part"]
    assert recordings.n_faults == 3 and [fault.line for fault in recordings.faults] == [2, 3, 4]
    for fault, reason in zip(
        recordings.faults, ("no such file", "is no audio file", "from 0 s: waveform"), strict=True
    ):
        assert reason in fault.reason
    with pytest.raises(FileNotFoundError, match="1.wav"):
        recordings[1]


def test_the_order_depends_on_seed_and_epoch():
    order = shuffled(100, seed=3, epoch=2)
    assert sorted(order) == list(range(100))
    np.testing.assert_array_equal(shuffled(100, 3, 2), order)
    assert not np.array_equal(order, shuffled(100, 3, 3))
    assert not np.array_equal(order, shuffled(100, 4, 2))
    with pytest.raises(ArgumentError, match="epoch is -1"):
        shuffled(10, 0, -1)


def test_batches_have_similar_lengths_and_few_frames():
    rng = np.random.default_rng(0)
    lengths = rng.integers(10, 300, 1000)
    lengths[17] = 5000  # longer than a batch
    order = shuffled(1000, 0, 0)
    batches = list(by_length(lengths, order, 4000, window=200))
    assert sorted(i for batch in batches for i in batch) == list(range(1000))
    sizes = [(len(batch), max(lengths[batch])) for batch in batches]
    assert all(n * longest <= 4000 or n == 1 for n, longest in sizes)
    padded = sum(n * longest for n, longest in sizes)
    assert padded < 1.15 * lengths.sum()
    unsorted = sum(32 * max(lengths[order[i : i + 32]]) for i in range(0, 1000, 32))
    assert padded < 0.7 * unsorted
    assert list(by_length(lengths, [], 4000)) == []
