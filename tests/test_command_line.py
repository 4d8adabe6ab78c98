import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cspkit.__main__ import _parser, default_model, main
from cspkit.asr import load_transducer
from cspkit.asr.checkpoint import checkpoint_facts
from cspkit.asr.corpus import data_folder
from cspkit.asr.task import DENSE_STEPS
from cspkit.asr.transducer import config_for
from cspkit.pruning import prunable_weights

FSDD = os.environ.get("CSPKIT_FSDD")


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "cspkit", *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("command", ["doctor", "train", "prune", "compare", "transcribe"])
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


def test_train_a_recogniser_that_writes_characters(tmp_path):
    out = tmp_path / "dense.safetensors"
    assert main(["train", "--steps", "1", "--units", "characters", "--out", str(out)]) == 0
    assert load_transducer(out).config == config_for("characters")
    assert checkpoint_facts(out)["command"].endswith("--steps 1 --units characters")
    with pytest.raises(ValueError, match="units is 'letters': expected 'words' or 'characters'"):
        config_for("letters")


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
        (["prune", "--rate", "-1"], "rate is -1"),
        (["compare", "--methods", "magic"], "method is 'magic': expected one of dense"),
        (["compare", "--sparsities", "1.2"], "sparsities has 1.2"),
        (["compare", "--seeds", "5"], "seeds has 5: expected 0 to 4"),
        (["compare", "--steps", "0"], "steps is 0"),
        (["compare", "--out", "."], "expected a file name"),
        (["transcribe", "none.wav"], "none.wav: no such file"),
        (["train", "--device", "cuda:99"], "--device is 'cuda:99', which torch cannot use: "),
        (["prune", "--device", "abacus"], "--device is 'abacus', which torch cannot use: "),
        (["transcribe", "none.wav", "--device", "meta"], "--device is 'meta', which torch cannot"),
    ],
)
def test_a_wrong_call_is_code_2_and_writes_nothing(tmp_path, monkeypatch, capsys, call, message):
    monkeypatch.chdir(tmp_path)
    assert main(call) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_compare_prints_the_table_of_what_it_wrote(tmp_path, capsys):
    out = tmp_path / "rows.csv"
    call = ["compare", "--quick", "--steps", "2", "--jobs", "1", "--out", str(out)]
    assert main([*call, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["out"] == str(out)
    by_method = {line["method"]: line for line in answer["summary"]}
    assert set(by_method) == {"dense", "gmp", "csp"}
    assert by_method["gmp"]["verdict"] == ""  # one seed tells nothing
    written = out.read_text()
    assert main(call) == 0
    assert f"{100 * by_method['gmp']['rate']:.2f}" in capsys.readouterr().out
    assert out.read_text() == written


def test_compare_judges_the_first_method_where_there_is_no_csp(tmp_path, capsys):
    call = ["compare", "--methods", "dense", "gmp", "acdc", "--sparsities", "0.9", "--seeds", "0"]
    call += ["--steps", "2", "3", "--jobs", "1", "--out", str(tmp_path / "rows.csv")]
    assert main(call) == 0
    told = capsys.readouterr().out
    assert "no rival of gmp, or too few seeds" in told and "gmp = 1" in told
    steps = [line.split()[3] for line in told.splitlines() if line.startswith("acdc")]
    assert steps == ["2", "3"]


def test_transcribe_searches_as_wide_as_it_is_told(tmp_path, monkeypatch, capsys):
    widths = []
    monkeypatch.setattr("cspkit.asr.transcribe", lambda *_, beam: widths.append(beam) or "")
    file = str(tmp_path / "silence.wav")
    soundfile.write(file, np.zeros(8000), 8000)
    assert main(["transcribe", file]) == main(["transcribe", "--beam", "5", file]) == 0
    assert widths == [1, 5]


@pytest.mark.parametrize("option", [["--jobs", "0"], ["--seeds", "-1"], ["--steps", "many"]])
def test_compare_names_the_option_that_is_no_number(option, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["compare", *option])
    assert stop.value.code == 2
    assert option[0] in capsys.readouterr().err


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


@pytest.mark.parametrize("seconds", [0.05, 0.5, 5.0])
def test_transcribe_hears_nothing_in_silence(tmp_path, capsys, seconds):
    soundfile.write(tmp_path / "silence.wav", np.zeros(int(8000 * seconds)), 8000)
    assert main(["transcribe", str(tmp_path / "silence.wav")]) == 0
    assert capsys.readouterr().out.strip() == ""


@pytest.mark.parametrize(
    ("n_samples", "message"),
    [(300, r"features have shape (2, 13): expected (T, 13) with T >= 3"), (150, "150 samples")],
)
def test_a_recording_too_short_for_a_frame_is_named(tmp_path, capsys, n_samples, message):
    file = tmp_path / "click.wav"
    soundfile.write(file, np.full(n_samples, 0.1), 8000)
    assert main(["transcribe", str(file)]) == 2
    error = capsys.readouterr().err
    assert f"{file}: " in error and message in error


@pytest.mark.skipif(not FSDD, reason="CSPKIT_FSDD is not set: it names the folder of recordings")
def test_transcribe_hears_the_digit(capsys):
    files = [str(Path(FSDD) / f"{digit}_lucas_2.wav") for digit in (3, 1, 4)]
    assert main(["transcribe", *files]) == 0
    heard = [line.rsplit(": ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert heard == ["three", "one", "four"]


def test_thedefault_model_is_the_recorded_one():
    assert default_model() == data_folder() / "models" / "dense_fold0.safetensors"


def test_the_default_length_of_training_is_that_of_the_recorded_models():
    assert _parser().parse_args(["train"]).steps == DENSE_STEPS


def test_a_fold_may_be_a_speaker():
    parse = _parser().parse_args
    assert [parse(["train", "--fold", f]).fold for f in ("3", "theo")] == [3, "theo"]
    assert main(["train", "--fold", "nobody", "--steps", "1"]) == 2


def test_a_package_that_is_missing_is_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "cspkit.teach.digit_bench", None)
    assert main(["compare", "--out", str(tmp_path / "rows.csv")]) == 1
    assert "pip install '.[study]'" in capsys.readouterr().err
