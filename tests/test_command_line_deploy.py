"""The command lines pack and report, and packed files where a command takes a model."""

import json
import sys

import numpy as np
import pytest
import soundfile
import torch

from cspkit.__main__ import default_model, main
from cspkit.asr import Transducer, load_transducer, save_transducer
from cspkit.deploy import load, pack
from cspkit.teach.digit_bench import compare_digits
from cspkit.teach.kept_models import kept_models, table_of_models


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["cspkit"])
    monkeypatch.setenv("CSPKIT_PROGRESS", "0")
    monkeypatch.setenv("CSPKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def packed(tmp_path):
    pack(load_transducer(default_model()), tmp_path / "model.csp", bits=8)
    return tmp_path / "model.csp"


@pytest.fixture
def tone(tmp_path):
    sound = 0.1 * np.sin(np.arange(8000))
    soundfile.write(tmp_path / "tone.wav", sound, 8000)
    return str(tmp_path / "tone.wav")


@pytest.mark.parametrize("command", ["pack", "report"])
def test_the_commands_have_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert "--bits" in capsys.readouterr().out


def test_pack_writes_the_model_with_so_many_bits(tmp_path, capsys):
    file = tmp_path / "new" / "model.csp"
    assert main(["pack", "--out", str(file), "--bits", "32", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts == {"out": str(file), "bytes": file.stat().st_size, "parameters": 336235}
    expected = load_transducer(default_model()).state_dict()
    assert all(load(file).state_dict()[name].equal(t) for name, t in expected.items())
    assert main(["pack", "--out", str(file), "--bits", "4"]) == 0
    assert capsys.readouterr().out == f"written: {file}, {file.stat().st_size} bytes\n"


def test_a_packed_file_is_a_model_to_every_command(packed, tone, tmp_path, capsys):
    assert main(["transcribe", "--model", str(packed), tone]) == 0
    save_transducer(load(packed), tmp_path / "model.safetensors")
    of_packed = capsys.readouterr().out
    assert main(["transcribe", "--model", str(tmp_path / "model.safetensors"), tone]) == 0
    assert capsys.readouterr().out == of_packed
    assert main(["pack", "--model", str(packed), "--out", str(tmp_path / "again.csp")]) == 0
    assert load(tmp_path / "again.csp").config == load(packed).config


def test_report_prints_tables_or_json(packed, capsys):
    assert main(["report", "--model", str(packed)]) == 0
    text = capsys.readouterr().out
    for part in ("Bits per weight", "packed", "onnxruntime int8", "to its output"):
        assert part in text
    assert main(["report", "--model", str(packed), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["sizes"]["packed"] == packed.stat().st_size


def test_a_packed_file_can_be_pruned_further(packed, tmp_path):
    out = tmp_path / "pruned.safetensors"
    call = ["prune", "--model", str(packed), "--steps", "2", "--sparsity", "0.5", "--out", str(out)]
    assert main(call) == 0
    model = load_transducer(out)
    weights = torch.cat([model.state_dict()[name].flatten() for name in model.prunable])
    assert int((weights == 0).sum()) == len(weights) // 2


def test_tensors_of_any_model_are_reported(packed, capsys):
    pack({"w": Transducer().output.weight}, packed)
    assert main(["report", "--model", str(packed)]) == 0
    assert "Bits per weight" in capsys.readouterr().out


def test_compare_with_kept_models_answers_in_json(tmp_path, capsys):
    call = ["compare", "--methods", "dense", "--seeds", "0", "--jobs", "1", "--json"]
    call += ["--out", str(tmp_path / "rows.csv"), "--keep", str(tmp_path / "kept")]
    assert main(call) == 0
    models = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["models"]
    assert models[0]["model"] == "dense_steps0_seed0" and models[0]["packed"] > 1e5
    assert models[-1] == models[-1] | {"model": "onnxruntime int8", "packed": None}


@pytest.mark.parametrize("command", ["pack", "prune", "transcribe"])
@pytest.mark.parametrize("content", ["damaged", "tensors"])
def test_a_packed_file_that_is_no_recogniser_is_refused(
    command, content, packed, tone, tmp_path, capsys
):
    if content == "damaged":
        packed.write_bytes(packed.read_bytes()[:-100])
    else:
        pack({"w": Transducer().output.weight}, packed)
    call = [command, "--model", str(packed)]
    call += [tone] if command == "transcribe" else ["--out", str(tmp_path / "o.csp")]
    assert main(call) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"cspkit {command}: --model: {packed}")
    assert ("is damaged" if content == "damaged" else "expected a recogniser") in message
    assert not (tmp_path / "o.csp").exists()


def test_models_of_a_comparison_are_kept_and_measured(tmp_path):
    keep = tmp_path / "kept"
    call = {"out": tmp_path / "rows.csv", "keep": keep}
    rows = compare_digits(["dense", "gmp"], [0.9], [0], [2], **call)
    names = {"dense_steps0_seed0.csp", "gmp_0.9_steps2_seed0.csp"}
    assert {file.name for file in keep.iterdir()} == names
    for name, row in (("dense_steps0_seed0", 0), ("gmp_0.9_steps2_seed0", 1)):
        model = load(keep / f"{name}.csp")
        nonzeros = sum(int(model.state_dict()[n].count_nonzero()) for n in model.prunable)
        assert nonzeros == rows.sort_values("steps").iloc[row]["nonzeros"]
    table = kept_models(keep)
    assert list(table.index[:3]) == ["dense_steps0_seed0", "gmp_0.9_steps2_seed0", "torch"]
    assert table.loc["gmp_0.9_steps2_seed0", "ratio"] == 1
    sizes = table["float32"] / table["packed"]
    assert sizes["gmp_0.9_steps2_seed0"] > 4 * sizes["dense_steps0_seed0"] > 4 * 4
    text = table_of_models(table)
    assert "times smaller" in text and "onnxruntime int8" in text
    assert "no model was kept" in table_of_models(kept_models(tmp_path / "none"))
