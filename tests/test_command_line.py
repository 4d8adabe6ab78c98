import importlib.metadata
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_files import special

from cspkit import __version__
from cspkit.__main__ import default_model, main
from cspkit.asr import load_transducer
from cspkit.asr.checkpoint import checkpoint_facts
from cspkit.asr.corpus import data_folder
from cspkit.asr.digits import DENSE_STEPS
from cspkit.asr.transducer_config import config_for
from cspkit.doctor import examine
from cspkit.files import locked
from cspkit.options import parse
from cspkit.pruning import prunable_weights
from cspkit.tensors import read_tensors

FSDD = os.environ.get("CSPKIT_FSDD")


@pytest.fixture(autouse=True)
def _called_as_a_console_script(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["cspkit"])
    monkeypatch.setenv("CSPKIT_PROGRESS", "0")


def run(*arguments, **options):
    command = [sys.executable, "-m", "cspkit", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


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


def test_doctor_refuses_an_extra_of_a_wrong_version_but_not_one_that_is_missing(monkeypatch):
    versions = {"numpy": "2.4", "matplotlib": "3.1"}
    texts = ["numpy>=2", 'joblib>=1; extra == "study"', 'matplotlib>=3.9; extra == "teach"']

    def version(name):
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(importlib.metadata, "requires", lambda _: texts)
    monkeypatch.setattr(importlib.metadata, "version", version)
    found = {f.requirement.split(",")[0]: f[1:] for f in examine()}
    assert found["numpy >=2"] == (True, "2.4")
    assert found["cspkit[study]"] == (True, "joblib >=1: not installed")
    assert found["cspkit[teach]"] == (False, "matplotlib >=3.9: 3.1")


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
    umask = os.umask(0)
    os.umask(umask)
    assert {stat.S_IMODE(f.stat().st_mode) for f in (dense, pruned)} == {0o666 & ~umask}


def test_train_a_recogniser_that_writes_characters(tmp_path):
    out = tmp_path / "dense.safetensors"
    assert main(["train", "--steps", "1", "--units", "characters", "--out", str(out)]) == 0
    assert load_transducer(out).config == config_for("characters")
    assert checkpoint_facts(out)["command"].endswith("--steps 1 --units characters")
    with pytest.raises(ValueError, match="units is 'letters': expected .*'words'.*'characters'"):
        config_for("letters")


def code_of(call):
    """Exit code of a call, of argparse too."""
    try:
        return main(call)
    except SystemExit as stop:
        return stop.code


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (["prune", "--sparsity", "1.2"], "--sparsity is 1.2"),
        (["prune", "--sparsity", "1"], "--sparsity is 1.0: expected less than 1"),
        (["prune", "--sparsity", "nan"], "--sparsity is nan"),
        (["prune", "--sparsity", "most"], "--sparsity: invalid float value: 'most'"),
        (["prune", "--method", "magic"], "--method is 'magic': expected one of 'oneshot', 'gmp'"),
        (["prune", "--model", "none.safetensors"], "--model: none.safetensors: no such file"),
        (["prune", "--model", "."], "--model: . is a folder"),
        (["prune", "--out", "."], "expected a file name"),
        (["train", "--steps", "0"], "--steps is 0"),
        (["train", "--steps", "-5"], "--steps is -5: expected a whole number >= 1"),
        (["train", "--steps", "many"], "--steps: invalid int value: 'many'"),
        (["train", "--fold", "7"], "--fold is 7"),
        (["train", "--fold", "nobody"], "--fold is 'nobody'"),
        (["train", "--seed", "-1"], "--seed is -1"),
        (["train", "--seed", "99999999999999999999"], "--seed is 99999999999999999999"),
        (["train", "--state-every", "0"], "--state-every is 0"),
        (["prune", "--sparsity", "1.2", "--out", "a/b/c"], "--sparsity is 1.2"),
        (["prune", "--rate", "-1"], "--rate is -1"),
        (["prune", "--rate", "inf"], "--rate is inf"),
        (["prune", "--mu", "-1"], "--mu is -1"),
        (["compare", "--methods", "magic"], "method is 'magic': expected one of dense"),
        (["compare", "--sparsities", "1.2"], "--sparsities is 1.2"),
        (["compare", "--seeds", "-1"], "--seeds is -1"),
        (["compare", "--steps", "0"], "--steps is 0"),
        (["compare", "--jobs", "0"], "--jobs is 0"),
        (["compare", "--out", "."], "expected a file name"),
        (["compare", "--train-dense", __file__], f"but {__file__} is not a folder"),
        (["transcribe", "none.wav"], "none.wav: no such file"),
        (["transcribe", "none.wav", "--beam", "0"], "--beam is 0"),
        (["train", "--device", "cuda:99"], "--device is 'cuda:99', which torch cannot use: "),
        (["prune", "--device", "abacus"], "--device is 'abacus', which torch cannot use: "),
        (["transcribe", "none.wav", "--device", "meta"], "--device is 'meta', which torch cannot"),
        (["train", "--device", "hpu"], "--device is 'hpu', which torch cannot use: "),
    ],
)
def test_a_wrong_call_is_code_2_and_writes_nothing(tmp_path, monkeypatch, capsys, call, message):
    monkeypatch.chdir(tmp_path)
    assert code_of(call) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["train", "prune", "compare"])
@pytest.mark.parametrize("kind", ["device", "pipe", "folder", "link into no folder", "long name"])
def test_an_output_that_cannot_be_written_is_refused_before_any_work(
    tmp_path, monkeypatch, capsys, command, kind
):
    out = special(kind, tmp_path)
    before = list(tmp_path.iterdir())
    for work in ("cspkit.teach.digit_bench.compare_digits", "cspkit.asr.DigitTask"):
        monkeypatch.setattr(work, None)
    assert main([command, "--out", str(out)]) == 2
    assert f"--out is {str(out)!r}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == before


def test_the_names_of_the_other_files_of_a_run_are_checked_too(tmp_path, capsys):
    assert main(["train", "--out", str(tmp_path / ("o" * 247))]) == 2
    assert "the state file of --out is" in capsys.readouterr().err
    assert main(["compare", "--tune", "--out", str(tmp_path / ("o" * 245))]) == 2
    assert "--out with --tune is" in capsys.readouterr().err


def test_a_link_is_written_through_and_stays(tmp_path, capsys):
    (tmp_path / "target").write_text("old")
    link = tmp_path / "link.safetensors"
    link.symlink_to("target")
    assert main(["train", "--steps", "1", "--out", str(link)]) == 0
    assert link.is_symlink() and load_transducer(tmp_path / "target") is not None
    assert f"written: {link}" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["train", "prune"])
def test_a_second_process_is_told_that_out_is_in_use(tmp_path, capsys, command):
    out = tmp_path / "model.safetensors"
    with locked(out):
        assert main([command, "--steps", "1", "--out", str(out)]) == 2
    assert f"{out} is in use by another process" in capsys.readouterr().err
    assert not out.exists()


def test_a_fault_of_the_program_is_no_wrong_call(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ValueError("a fault")

    monkeypatch.setattr("cspkit.training.train", fail)
    with pytest.raises(ValueError, match="a fault"):
        main(["train", "--steps", "1", "--out", str(tmp_path / "x")])


def test_a_fault_of_the_program_reaches_the_shell_with_its_traceback(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import cspkit.doctor\ndef fail(): raise ValueError('a fault')\n"
        "cspkit.doctor.examine = fail\n"
    )
    result = run("doctor", env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert result.returncode == 1
    assert "Traceback" in result.stderr and "ValueError: a fault" in result.stderr


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FloatingPointError("the loss of step 3 is nan"), "cspkit train: the loss of step 3 is"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_what_fails_on_this_machine_is_code_1_and_one_line(
    tmp_path, monkeypatch, capsys, error, message
):
    monkeypatch.setattr("cspkit.training.train", lambda *_, **__: (_ for _ in ()).throw(error))
    assert main(["train", "--steps", "1", "--out", str(tmp_path / "x")]) == 1
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1


@pytest.mark.parametrize("damaged", ["models/dense_fold0.safetensors", "digits/features.npz"])
def test_a_damaged_installation_is_no_wrong_call(tmp_path, monkeypatch, capsys, damaged):
    shutil.copytree(data_folder(), tmp_path / "data")
    (tmp_path / "data" / damaged).write_bytes(b"damaged")
    monkeypatch.setenv("CSPKIT_DATA", str(tmp_path / "data"))
    assert main(["prune", "--steps", "1", "--out", str(tmp_path / "x")]) == 1
    assert f"{tmp_path / 'data' / damaged} is damaged" in capsys.readouterr().err


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
    assert "no rival of gmp, or fewer than 5 folds" in told and "gmp = 1" in told
    steps = [line.split()[3] for line in told.splitlines() if line.startswith("acdc")]
    assert steps == ["2", "3"]


def test_transcribe_searches_as_wide_as_it_is_told(tmp_path, monkeypatch, capsys):
    widths = []
    monkeypatch.setattr("cspkit.asr.transcribe", lambda *_, beam: widths.append(beam) or "")
    file = str(tmp_path / "silence.wav")
    soundfile.write(file, np.zeros(8000), 8000)
    assert main(["transcribe", file]) == main(["transcribe", "--beam", "5", file]) == 0
    assert widths == [1, 5]


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
    assert parse(["train"]).steps == DENSE_STEPS


def test_a_fold_may_be_a_speaker():
    assert [parse(["train", "--fold", f]).fold for f in ("3", "theo")] == [3, "theo"]


def test_a_package_that_is_missing_is_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "cspkit.teach.digit_bench", None)
    assert main(["compare", "--out", str(tmp_path / "rows.csv")]) == 1
    assert "pip install 'cspkit[teach]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "prog"),
    [("/bin/cspkit", "cspkit"), ("/lib/cspkit/__main__.py", "python -m cspkit")],
)
def test_messages_begin_with_the_command_that_was_called(monkeypatch, capsys, file, prog):
    monkeypatch.setattr(sys, "argv", [file])
    assert main(["train", "--steps", "0"]) == 2
    assert capsys.readouterr().err.startswith(f"{prog} train: --steps is 0")
    assert code_of(["train", "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: {prog} train ")


def test_the_version_is_printed(capsys):
    assert code_of(["--version"]) == 0
    assert capsys.readouterr().out == f"cspkit {__version__}\n"


def test_an_empty_variable_is_no_folder_of_data(monkeypatch):
    usual = data_folder()
    monkeypatch.setenv("CSPKIT_DATA", "")
    assert data_folder() == usual


@pytest.fixture
def recordings(tmp_path):
    """Two files with a tone, and four that cannot be transcribed."""
    good = [tmp_path / "a.wav", tmp_path / "b.wav"]
    for i, file in enumerate(good):
        soundfile.write(file, 0.1 * np.sin(np.arange(8000) / (10 + i)), 8000)
    bad = [tmp_path / name for name in ("none.wav", "text.wav", "folder", "pipe")]
    bad[1].write_text("no audio")
    bad[2].mkdir()
    os.mkfifo(bad[3])
    return [str(file) for file in good], [str(file) for file in bad]


def test_bad_files_do_not_lose_the_others(recordings, monkeypatch, capsys):
    monkeypatch.setattr("cspkit.asr.transcribe", lambda *_, **__: "one two")
    (first, last), bad = recordings
    assert main(["transcribe", first, *bad, last]) == 2
    told = capsys.readouterr()
    assert told.out == f"{first}: one two\n{last}: one two\n"
    lines = told.err.splitlines()
    assert len(lines) == len(bad)
    assert all(f"cspkit transcribe: {file}" in li for file, li in zip(bad, lines, strict=True))
    assert main(["transcribe", "--json", first, *bad, last]) == 2
    rows = json.loads(capsys.readouterr().out)
    assert [row["file"] for row in rows] == [first, *bad, last]
    assert rows[0] == {"file": first, "text": "one two"}
    assert all(row.keys() == {"file", "error"} and row["file"] in row["error"] for row in rows[1:5])


@pytest.mark.parametrize("stop", [RuntimeError("a fault"), KeyboardInterrupt()])
@pytest.mark.parametrize("json_option", [[], ["--json"]])
def test_finished_lines_are_printed_before_a_later_file_stops_the_program(
    recordings, monkeypatch, capsys, stop, json_option
):
    answers = iter(["one two", stop])

    def transcribe(*_, **__):
        answer = next(answers)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr("cspkit.asr.transcribe", transcribe)
    first, last = recordings[0]
    if isinstance(stop, KeyboardInterrupt):
        assert main(["transcribe", *json_option, first, last]) == 130
    else:
        with pytest.raises(RuntimeError):
            main(["transcribe", *json_option, first, last])
    printed = capsys.readouterr().out
    expected = [{"file": first, "text": "one two"}]
    assert json.loads(printed) == expected if json_option else printed == f"{first}: one two\n"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_name_that_the_terminal_cannot_show_loses_no_line(recordings, tmp_path, encoding):
    first, last = recordings[0]
    strange = [os.fsdecode(b"r\xe9s.wav"), "öl.wav", "two\nlines.wav", "\x1b[31mred.wav"]
    try:
        for name in strange:
            shutil.copy(first, tmp_path / name)
    except OSError:
        pytest.skip("this file system accepts no such name")
    absent = os.fsdecode(b"\xff.wav")
    result = run(
        "transcribe", *strange, absent, last, cwd=tmp_path, encoding="utf-8",
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )  # fmt: skip
    assert result.returncode == 2, result.stderr
    names = [line.partition(": ")[0] for line in result.stdout.splitlines()]
    oil = "öl.wav" if encoding == "utf-8" else r"\xf6l.wav"
    assert names == [r"r\udce9s.wav", oil, r"two\nlines.wav", r"\x1b[31mred.wav", last]
    assert result.stderr.splitlines() == [r"python -m cspkit transcribe: \udcff.wav: no such file"]


def test_a_reader_that_closes_the_pipe_gets_no_traceback(recordings):
    command = [sys.executable, "-m", "cspkit", "transcribe", *recordings[0]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


STEPS = ["train", "--steps", "40", "--state-every", "1", "--json"]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A training that Ctrl-C has stopped: the process, and its state file."""
    out = tmp_path_factory.mktemp("run") / "model.safetensors"
    state = out.with_name(f"{out.name}.state")
    process = subprocess.Popen(
        [sys.executable, "-m", "cspkit", *STEPS, "--out", str(out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not state.exists() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert stdout == "" and not out.exists()
    return stderr, state


@pytest.fixture
def stopped(interrupted, tmp_path):
    """The same in a folder of this test: its state file, and --out."""
    out = tmp_path / "model.safetensors"
    return shutil.copy(interrupted[1], f"{out}.state"), out


def assert_same(one, other):
    """Two checkpoints are equal to the bit. Their files may order metadata in two ways."""
    (tensors, metadata), (tensors2, metadata2) = read_tensors(one), read_tensors(other)
    assert metadata == metadata2 and tensors.keys() == tensors2.keys()
    assert all(tensor.equal(tensors2[name]) for name, tensor in tensors.items())


def test_an_interrupted_training_says_how_to_go_on_and_goes_on(interrupted, stopped, capsys):
    stderr, _ = interrupted
    state, out = stopped
    assert "Traceback" not in stderr and len(stderr.splitlines()) == 1
    assert ".state: repeat the call to continue" in stderr
    tensors, metadata = read_tensors(state)
    done = len(json.loads(metadata["log"]))
    assert 0 < done < 40 and f"stopped after {done} of 40 steps" in stderr
    seconds = float(tensors["watcher0.seconds"])
    started = time.perf_counter()
    assert main([*STEPS, "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert told.err == f"cspkit train: resumed at step {done} of 40\n"
    assert not Path(state).exists()
    whole = json.loads(told.out)["seconds"]
    assert seconds < whole < seconds + time.perf_counter() - started
    unbroken = out.with_name("unbroken")
    assert main([*STEPS, "--out", str(unbroken)]) == 0
    assert_same(out, unbroken)


def test_the_state_of_another_run_says_what_to_do(stopped, capsys):
    state, out = stopped
    other = ["train", "--steps", "2", "--out", str(out)]
    assert main(other) == 2
    told = capsys.readouterr().err
    assert "its steps is 40, that of this run is 2" in told
    assert f"delete {state}, choose another --out, or start again with --fresh" in told
    assert main([*other, "--fresh"]) == 0
    assert "resumed" not in capsys.readouterr().err
    assert out.exists() and not Path(state).exists()


def test_a_damaged_state_says_what_to_do(stopped, capsys):
    state, out = stopped
    Path(state).write_bytes(Path(state).read_bytes()[:1000])
    assert main([*STEPS, "--out", str(out)]) == 2
    told = capsys.readouterr().err
    assert "is truncated" in told and f"delete {state}, choose another --out, or start" in told


def test_short_runs_are_saved_too():
    for command in ("train", "prune"):
        assert parse([command]).state_every <= 50


def test_a_pruning_can_be_resumed(tmp_path, monkeypatch, capsys):
    from cspkit.resume import RunState

    save = RunState.after_step

    def stop_after_two(self, log, interrupted):
        save(self, log, interrupted)
        if len(log) == 2:
            raise KeyboardInterrupt

    call = ["prune", "--method", "gmp", "--steps", "4", "--state-every", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(RunState, "after_step", stop_after_two)
        assert main([*call, "--out", str(tmp_path / "x")]) == 130
    assert f"the last saved state is in {tmp_path}/x.state: repeat" in capsys.readouterr().err
    assert main([*call, "--out", str(tmp_path / "x")]) == 0
    assert capsys.readouterr().err == "cspkit prune: resumed at step 2 of 4\n"
    assert main([*call, "--out", str(tmp_path / "y")]) == 0
    assert_same(tmp_path / "x", tmp_path / "y")


def test_an_interruption_after_the_training_says_that_the_model_is_written(
    tmp_path, monkeypatch, capsys
):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("cspkit.asr.DigitTask.evaluate", stop)
    out = tmp_path / "model.safetensors"
    assert main(["train", "--steps", "1", "--out", str(out)]) == 130
    assert f"{out} is written, but its error rates were not" in capsys.readouterr().err
    assert load_transducer(out) is not None


def test_an_interrupted_comparison_says_where_its_rows_are(tmp_path, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("cspkit.teach.digit_bench.compare_digits", stop)
    out = tmp_path / "rows.csv"
    assert main(["compare", "--out", str(out)]) == 130
    assert f"finished runs are in {out}: repeat the call to continue" in capsys.readouterr().err
