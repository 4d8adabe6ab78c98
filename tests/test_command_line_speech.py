"""The command line on speech of one's own: from a folder of recordings to a transcript."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from speech_folder import RATE, spoken, write_manifest_of

from cspkit.__main__ import default_model, main
from cspkit.asr import Corpus, checkpoint_facts, load_spoken_digits, load_transducer, transcribe
from cspkit.asr.corpus import joined
from cspkit.asr.manifest import Manifest
from cspkit.asr.recordings import Recordings

FSDD, YESNO = os.environ.get("CSPKIT_FSDD"), os.environ.get("CSPKIT_YESNO")
QUICK = ["--width", "8", "--batch-size", "2"]


def run(capsys, *arguments):
    """Run a command with --json; return what it printed."""
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def librispeech(tmp_path):
    """A folder like LibriSpeech: six speakers, three utterances of each."""
    rng = np.random.default_rng(0)
    for speaker in range(6):
        folder = tmp_path / "speech" / str(speaker) / "1"
        folder.mkdir(parents=True)
        lines = ""
        for i in range(3):
            words = rng.choice(["red", "green", "blue", "black"], 3).tolist()
            name = f"{speaker}-1-{i:04}"
            soundfile.write(folder / f"{name}.flac", spoken(words, rng, 16000), 16000)
            lines += f"{name} {' '.join(words).upper()}\n"
        (folder / f"{speaker}-1.trans.txt").write_text(lines)
    return tmp_path / "speech"


def test_from_a_librispeech_folder_to_a_transcript_in_pieces_of_words(
    librispeech, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "manifest", "make", librispeech, "--out", "all.jsonl") == {"all.jsonl": 18}
    parts = run(capsys, "manifest", "split", "all.jsonl", "--out", "parts")
    assert list(parts.values()) == [9, 3, 6]  # whole speakers
    assert main(["manifest", "check", *parts]) == 0  # no speaker is in two parts
    capsys.readouterr()
    Path("run.toml").write_text(
        "manifest = 'parts/train.jsonl'\ndev = 'parts/dev.jsonl'\ntest = 'parts/test.jsonl'\n"
        "cache = 'features'\ntext = 'plain-1'\nbatch-size = 2\n"
        "[train]\nunits = 'pieces'\npieces = 16\nwidth = 8\nsteps = 3\nout = 'dense.safetensors'\n"
        "[prune]\nmodel = 'dense.safetensors'\nout = 'pruned.safetensors'\nsteps = 9\n"
    )
    found = run(capsys, "train", "--config", "run.toml", "--steps", 2)  # the command line wins
    assert (found["text"], found["left_out"]) == ("plain-1", 0) and found["test_wer"] >= 0
    units = load_transducer("dense.safetensors").config.units
    assert len(units) == 16 and "\u2581" in units
    assert checkpoint_facts("dense.safetensors")["command"].endswith("--steps 2 --units pieces")
    found = run(capsys, "prune", "--config", "run.toml", "--steps", 2, "--sparsity", 0.9)
    assert found["sparsity"] == pytest.approx(0.9, abs=1e-3)
    run(capsys, "pack", "--model", "pruned.safetensors", "--out", "model.csp")
    audio = next(librispeech.rglob("*.flac"))
    rows = run(capsys, "transcribe", "--model", "model.csp", audio)
    assert rows[0]["file"] == str(audio) and isinstance(rows[0]["text"], str)
    call = ["transcribe", "--model", "model.csp", "--manifest", "parts/test.jsonl"]
    rows = run(capsys, *call, "--text", "plain-1")
    assert [row["reference"] for row in rows] == [e.text for e in Manifest("parts/test.jsonl")]
    assert main(call) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"WER: \d+\.\d\d % of 18 words \(text: as-is-1\)", last)


def test_a_pruning_uses_the_corpus_of_its_dense_model(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_manifest_of(tmp_path, 12)
    call = ["--manifest", "all.jsonl", "--out", "dense.safetensors", "--fold", 1, *QUICK]
    run(capsys, "train", *call, "--steps", 1, "--cache", "cache")
    facts = checkpoint_facts("dense.safetensors")
    assert facts["data"]["manifest"] == str(tmp_path / "all.jsonl") and facts["fold"] == 1
    run(capsys, "prune", "--model", "dense.safetensors", "--out", "p.safetensors", "--steps", 1)
    assert checkpoint_facts("p.safetensors")["data"] == facts["data"]
    assert checkpoint_facts("p.safetensors")["fold"] == 1


def test_a_comparison_on_speech_of_ones_own(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_manifest_of(tmp_path, 15, speakers=("ann", "bob", "cat", "dan", "eve"))
    call = ["compare", "--manifest", "all.jsonl", "--methods", "dense", "gmp", "--sparsities", 0.5]
    call += ["--seeds", 0, 1, "--steps", 1, "--dense-steps", 1, "--jobs", 1, *QUICK]
    call += ["--cache", "cache", "--train-dense", "dense", "--out", "rows.csv"]
    found = run(capsys, *call)
    assert {row["method"] for row in found["summary"]} == {"dense", "gmp"}
    assert len(list(Path("dense").glob("all-*.safetensors"))) == 2
    rows = Path("rows.csv").read_text()
    assert found == run(capsys, *call) and rows == Path("rows.csv").read_text()


def test_recordings_with_their_texts_become_a_manifest(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name, text in (("b", "red  green\n"), ("a", "blue"), ("c", None)):
        soundfile.write(tmp_path / f"{name}.wav", spoken(["red"], rng), RATE)
        if text is not None:
            (tmp_path / f"{name}.txt").write_text(text)
    run(capsys, "manifest", "make", tmp_path, "--out", tmp_path / "new" / "m.jsonl")
    entries = list(Manifest(tmp_path / "new" / "m.jsonl"))
    assert [(e.audio.name, e.text) for e in entries] == [("a.wav", "blue"), ("b.wav", "red green")]
    assert main(["manifest", "check", str(tmp_path / "new" / "m.jsonl")]) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (["train", "--manifest", "none.jsonl"], "--manifest: .*none.jsonl: no such file"),
        (["compare", "--manifest", "none.jsonl"], "--manifest: .*none.jsonl: no such file"),
        (["train", "--dev", "a.jsonl"], "--dev is given without --manifest: expected both"),
        (["train", "--manifest", "a.jsonl", "--dev", "a.jsonl"], "--dev is .* and test is None"),
        (["train", "--units", "pieces"], "--units is 'pieces': expected --manifest with it"),
        (["train", "--width", "0"], "--width is 0"),
        (["train", "--manifest", "a.jsonl", "--by", "day"], "--by is 'day', but line 1 of"),
        (["compare", "--by", "speaker"], "--by is given without --manifest"),
        (["transcribe"], "transcribe has FILEs and --manifest, or neither: expected one of them"),
        (["transcribe", "--manifest", "x.jsonl"], "--manifest: .*x.jsonl: no such file"),
        (["train", "--most-frames", "9"], "--most-frames is given without --manifest: expected"),
        (["train", "--manifest", "a.jsonl", "--most-frames", "9"], "a.jsonl has no duration"),
        (["manifest", "make", "none", "--out", "m.jsonl"], "none: no such folder"),
        (["manifest", "make", ".", "--out", "m.jsonl"], "has no audio file with a text"),
        (["manifest", "make", "."], "make has 1 FILEs: expected 1, and --out"),
        (["manifest", "split", "a.jsonl", "b.jsonl", "--out", "x"], "split has 2 FILEs: expected"),
        (["manifest", "split", "a.jsonl", "--out", "x", "--fold", "5"], "--fold is 5: expected 0"),
    ],
)
def test_a_wrong_call_is_code_2_and_writes_no_file(tmp_path, monkeypatch, capsys, call, message):
    monkeypatch.chdir(tmp_path)
    row = {"audio_filepath": "a.wav", "text": "red"}
    Path("a.jsonl").write_text(4 * (json.dumps(row) + "\n"))
    out = [] if call[0] in ("manifest", "transcribe") else ["--out", "new.csv"]
    assert main([*call, *out]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == ["a.jsonl"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = 'many'", "argument --steps: invalid int value: 'many'"),
        ("step = 3", "run.toml has 'step': expected names of options"),
        ("[train]\nsparsity = 0.9", "run.toml has 'sparsity' in [train]: expected names of"),
        ("[fly]\nsteps = 1", "run.toml has 'steps' in [fly]: expected names of options"),
        ("steps = ", "--config: run.toml: Invalid value"),
        ("config = 'run.toml'", "run.toml has 'config': expected names of options"),
        (None, "--config: [Errno 2] No such file"),
    ],
)
def test_a_wrong_file_of_options_is_refused(tmp_path, monkeypatch, capsys, text, message):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("run.toml").write_text(text)
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--config", "run.toml"])
    assert stopped.value.code == 2
    assert message.replace("--config: [", "[") in capsys.readouterr().err


@pytest.mark.skipif(not FSDD, reason="CSPKIT_FSDD is not set: it names the folder of recordings")
def test_a_manifest_of_the_recordings_gives_the_words_of_the_embedded_features(tmp_path):
    corpus = load_spoken_digits()
    strings = corpus.strings("test", 0)[::8]
    names = sorted({name for string in strings for name in string.id.split("+")})
    by_name = {r.id: r for r in corpus.recordings}
    path = tmp_path / "m.jsonl"
    path.write_text(
        "".join(
            json.dumps({
                "audio_filepath": f"{FSDD}/{name}.wav", "text": by_name[name].text,
                "speaker": by_name[name].speaker,
            }) + "\n"
            for name in names
        )
    )  # fmt: skip
    heard = dict(zip(names, Recordings(path), strict=True))
    own = [joined([heard[name] for name in string.id.split("+")]) for string in strings]
    assert [u.text for u in own] == [u.text for u in strings]
    model = load_transducer(default_model())
    words = [transcribe(model, [u.features for u in some]) for some in (own, strings)]
    assert words[0] == words[1]


@pytest.mark.skipif(not YESNO, reason="CSPKIT_YESNO is not set: it names the folder of recordings")
def test_speech_that_nobody_prepared_goes_through_the_chain(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("wav").mkdir()
    for file in sorted(Path(YESNO).glob("*.wav"))[::6]:
        shutil.copy(file, "wav")
        words = ["yes" if letter == "1" else "no" for letter in file.stem.split("_")]
        Path("wav", f"{file.stem}.txt").write_text(" ".join(words))
    run(capsys, "manifest", "make", "wav", "--out", "all.jsonl")
    run(capsys, "manifest", "split", "all.jsonl", "--out", ".")
    call = ["--manifest", "train.jsonl", "--dev", "dev.jsonl", "--test", "test.jsonl", *QUICK]
    run(capsys, "train", *call, "--steps", 2, "--out", "dense.safetensors")
    assert load_transducer("dense.safetensors").config.units == ("no", "yes")
    run(capsys, "prune", "--model", "dense.safetensors", "--steps", 2, "--sparsity", 0.9)
    run(capsys, "pack", "--model", "build/pruned.safetensors", "--out", "model.csp")
    rows = run(capsys, "transcribe", "--model", "model.csp", *sorted(Path("wav").glob("*.wav")))
    assert len(rows) == 10 and all("text" in row for row in rows)
    assert len(Corpus.from_manifest("all.jsonl").recordings) == 10
