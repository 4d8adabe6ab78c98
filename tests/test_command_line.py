import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cspkit.__main__ import default_model, main
from cspkit.asr import load_transducer
from cspkit.asr.corpus import data_folder
from cspkit.pruning import prunable_weights

FSDD = os.environ.get("CSPKIT_FSDD")


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "cspkit", *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("command", ["doctor", "train", "prune", "transcribe"])
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_doctor_finds_everything_here(capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("[OK] ") for line in lines)
    assert {"corpus checksum", "Jupyter kernel python3"} <= {li[5:].split(":")[0] for li in lines}


def test_doctor_says_what_fails(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("CSPKIT_DATA", str(tmp_path))
    monkeypatch.setenv("CSPKIT_THREADS", "many")
    assert main(["doctor", "--json"]) == 1
    failed = [f for f in json.loads(capsys.readouterr().out) if not f["ok"]]
    assert [f["requirement"] for f in failed] == [
        "torch threads",
        "corpus checksum",
        "dense checkpoint",
    ]


def test_train_then_prune(tmp_path, capsys):
    dense, pruned = tmp_path / "dense.safetensors", tmp_path / "new" / "pruned.safetensors"
    assert main(["train", "--steps", "3", "--out", str(dense), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"out", "seconds", "dev_wer", "test_wer"}
    call = ["prune", "--method", "gmp", "--sparsity", "0.9", "--steps", "3"]
    assert main([*call, "--model", str(dense), "--out", str(pruned)]) == 0
    assert "sparsity: 0.9" in capsys.readouterr().out
    weights = prunable_weights(load_transducer(pruned)).values()
    assert sum(int((w == 0).sum()) for w in weights) == round(0.9 * 331_264)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (["prune", "--sparsity", "1.2"], "sparsity is 1.2"),
        (["prune", "--method", "magic"], "expected one of oneshot, gmp"),
        (["prune", "--model", "none.safetensors"], "none.safetensors: no such file"),
        (["prune", "--out", "."], "expected a file name"),
        (["train", "--steps", "0"], "steps is 0"),
        (["train", "--fold", "7"], "fold is 7"),
        (["prune", "--sparsity", "1.2", "--out", "a/b/c"], "sparsity is 1.2"),
        (["transcribe", "none.wav"], "none.wav: no such file"),
    ],
)
def test_a_wrong_call_is_code_2_and_writes_nothing(tmp_path, monkeypatch, capsys, call, message):
    monkeypatch.chdir(tmp_path)
    assert main(call) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_exit_code_reaches_the_shell(tmp_path):
    (tmp_path / "text.wav").write_text("no audio")
    result = run("transcribe", str(tmp_path / "text.wav"))
    assert result.returncode == 2
    assert "is no audio file" in result.stderr
    assert "Traceback" not in result.stderr
    assert run("dance").returncode == 2


def test_doctor_reports_what_is_not_there(tmp_path):
    for missing in ("matplotlib", "torch", "numpy"):
        (tmp_path / missing).mkdir()
        (tmp_path / missing / "__init__.py").write_text(f"raise ImportError('no {missing}')")
    result = subprocess.run(
        [sys.executable, "-m", "cspkit", "doctor"], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "[FAIL] corpus checksum: no " in result.stdout


def test_threads_are_one_or_as_asked():
    code = "import cspkit.asr, torch; print(torch.get_num_threads())"
    for asked, threads in ((None, "1"), ("2", "2")):
        environment = {k: v for k, v in os.environ.items() if k != "CSPKIT_THREADS"}
        environment |= {"CSPKIT_THREADS": asked} if asked else {}
        result = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        assert result.stdout.strip() == threads


def test_transcribe_answers_in_json(tmp_path, capsys):
    tone = 0.1 * np.sin(np.arange(16000) / 10)
    soundfile.write(tmp_path / "tone.wav", np.stack([tone, tone], axis=1), 16000)
    assert main(["transcribe", "--json", str(tmp_path / "tone.wav")]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["file"] == str(tmp_path / "tone.wav")
    assert isinstance(row["text"], str)


@pytest.mark.skipif(not FSDD, reason="CSPKIT_FSDD is not set: it names the folder of recordings")
def test_transcribe_hears_the_digit(capsys):
    files = [str(Path(FSDD) / f"{digit}_lucas_2.wav") for digit in (3, 1, 4)]
    assert main(["transcribe", *files]) == 0
    heard = [line.rsplit(": ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert heard == ["three", "one", "four"]


def test_thedefault_model_is_the_recorded_one():
    assert default_model() == data_folder() / "models" / "dense_fold0.safetensors"
