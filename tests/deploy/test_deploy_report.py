"""Reports: every number against its definition, and models of other kinds."""

import copy
import gzip
import json
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from pruned_models import pruned
from torch import nn

from cspkit.arguments import ArgumentError
from cspkit.asr import DigitTask, emissions, latencies, load_transducer
from cspkit.asr.corpus import data_folder
from cspkit.deploy import SparseTransducer, load, pack, report
from cspkit.deploy.peers import own_step, peer_steps, ratios, step_times


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CSPKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def model():
    return pruned(load_transducer(data_folder() / "models" / "dense_fold0.safetensors"), 0.95)


@pytest.fixture(scope="module")
def utterances():
    corpus = DigitTask().corpus
    return [(u.features, corpus.word_ends(u)) for u in corpus.strings("dev", 0)[:10]]


@pytest.fixture(scope="module")
def found(model, utterances):
    return report(model, utterances=utterances, rounds=3)


def test_the_layers_of_a_report(model, found):
    layer = found.layers.loc["encoder.weight_hh_l0"]
    N, n = 512 * 128, round(0.05 * 512 * 128)
    assert (layer["weights"], layer["nonzeros"]) == (N, n)
    assert layer["bitmask"] == pytest.approx(1 + 8 * n / N)
    positions = -(n * math.log2(n / N) + (N - n) * math.log2(1 - n / N))
    assert positions / N < layer["bound"] < (positions + 8 * n) / N
    assert 0.8 * layer["bound"] < layer["packed"] < layer["zstd_int8"] < layer["bitmask"]
    total = found.layers.loc["all"]
    matrices = [t for t in model.state_dict().values() if t.dim() == 2]
    assert total["weights"] == sum(t.numel() for t in matrices)
    assert total["nonzeros"] == sum(int((t != 0).sum()) for t in matrices)


def test_the_bound_is_the_entropy_of_positions_and_codes():
    # Half of the entries are zero, and the codes are 127 and -127 equally often: 1 + 1/2 bits.
    weight = torch.zeros(64, 64)
    weight[::2, ::2], weight[1::2, ::2] = 1.0, -1.0
    layers = report({"w": weight}).layers
    assert layers["bound"].tolist() == pytest.approx([1.5, 1.5])
    assert np.isnan(report({"w": weight}, bits=32).layers["bound"]).all()


def test_the_sizes_of_a_report(model, found, tmp_path):
    pack(model, tmp_path / "model.csp", bits=8)
    sizes = found.sizes
    assert sizes["packed"] == (tmp_path / "model.csp").stat().st_size
    weights = sum(t.numel() for t in model.state_dict().values())
    assert sizes["safetensors"] == pytest.approx(4 * weights, rel=0.01)
    rows = sum(len(t) for t in model.state_dict().values() if t.dim() == 2)
    vectors = sum(t.numel() for t in model.state_dict().values() if t.dim() == 1)
    assert sizes["int8"] == weights - vectors + 4 * rows + 4 * vectors
    assert sizes["packed"] < sizes["int8, zstd"] < sizes["safetensors, zstd"]
    assert sizes["safetensors, zstd"] < sizes["safetensors, gzip"] < sizes["safetensors"]
    content = (data_folder() / "models" / "dense_fold0.safetensors").read_bytes()
    assert sizes["safetensors, gzip"] < len(gzip.compress(content))


def test_the_loading_of_a_report(found):
    loading = found.loading
    for name in ("packed", "safetensors"):
        assert loading[f"{name}_warm"] > 0 and loading[f"{name}_cold"] > 0
    longer = loading["packed_warm"] - loading["safetensors_warm"]
    saved = found.sizes["safetensors"] - found.sizes["packed"]
    assert loading["bandwidth"] == pytest.approx(saved / longer)
    assert loading["peak_memory"] >= 0


def test_peak_memory_is_that_of_this_process():
    program = (
        "import numpy; from cspkit.deploy.reporting import peak_memory; before = peak_memory(); "
        "block = numpy.ones(50_000_000); print((peak_memory() - before) / block.nbytes)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert float(done.stdout) == pytest.approx(1, abs=0.2)


def test_a_model_without_a_matrix_and_one_in_another_precision(model, utterances):
    assert report({"b": torch.ones(3)}).layers.loc["all", "weights"] == 0
    doubles = [(features.astype(float), ends) for features, ends in utterances]
    found = report(copy.deepcopy(model).double(), utterances=doubles, rounds=1)
    assert len(found.steps) == 5


def test_the_steps_of_a_report(found):
    programs = ["cspkit", "torch", "NumPy", "onnxruntime", "onnxruntime int8"]
    assert list(found.steps.index) == programs and found.facts["missing"] == []
    assert (found.steps["median"] <= found.steps["p95"]).all() and (found.steps["median"] > 0).all()
    assert found.steps["real_time_factor"].tolist() == pytest.approx(found.steps["median"] / 0.075)
    assert found.steps.loc["cspkit", "ratio"] == 1
    dense = 39 * 512 + 3 * 128 * 512 + 128 * 128 + 128 * 11
    assert found.facts["multiplications_dense"] == dense
    assert found.facts["multiplications"] == pytest.approx(0.05 * dense + 0.95 * 128 * 11, rel=1e-3)


def test_the_latency_is_that_of_the_emissions(utterances):
    dense = load_transducer(data_folder() / "models" / "dense_fold0.safetensors")
    found = report(dense, bits=32, utterances=utterances, rounds=0)
    emitted = emissions(dense, [features for features, _ in utterances])
    late = [latencies(e, ends) for e, (_, ends) in zip(emitted, utterances, strict=True)]
    assert found.facts["latency"] == np.median(np.concatenate(late))
    assert "to its output" in str(found)


def test_programs_that_are_not_installed_are_named(model, monkeypatch):
    find = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda n: None if "onnx" in n else find(n))
    found = report(model, rounds=1)
    assert list(found.steps.index) == ["cspkit", "torch", "NumPy"]
    assert "is not installed: onnxruntime, onnxruntime int8." in str(found)


def test_all_programs_compute_the_same(model, utterances):
    steps, _ = peer_steps(model)
    steps["own"] = own_step(SparseTransducer(model, autotune=False))
    (features, _), *_ = utterances
    for first in range(0, 60, 3):
        frames = features[first : first + 3]
        found = {name: np.asarray(step(frames)) for name, step in steps.items()}
        for name in ("own", "NumPy", "onnxruntime"):
            assert found[name] == pytest.approx(found["torch"], abs=1e-3), name
        most = 0.15 * np.abs(found["torch"]).max()
        assert np.abs(found["onnxruntime int8"] - found["torch"]).max() < most


def test_ratios_are_medians_over_rounds():
    own = np.repeat([1.0, 1.0, 10.0], 10)  # the machine was disturbed in the last round
    times = pd.DataFrame({"own": own, "other": own * np.repeat([2.0, 2.0, 1.0], 10)})
    assert ratios(times, "own").to_dict() == {"own": 1.0, "other": 2.0}


def test_a_report_as_text_and_as_json(found):
    text = str(found)
    for part in ("encoder.weight_hh_l0", "onnxruntime int8", "packed", "MB/s", "Multiplications"):
        assert part in text
    facts = json.loads(found.to_json())
    assert {"layers", "sizes", "loading", "steps", "missing"} <= set(facts)
    assert facts["steps"][0]["program"] == "cspkit" and facts["layers"][-1]["name"] == "all"


def test_steps_may_be_left_out(model):
    found = report(model, rounds=0)
    assert found.steps is None and "Time of a step" not in str(found)
    with pytest.raises(ArgumentError, match="rounds is -1"):
        report(model, rounds=-1)


class Conformer(nn.Module):
    """A block like those of a Conformer: half-steps, attention, and a convolution."""

    def __init__(self, size=64):
        super().__init__()
        self.first = nn.Sequential(
            nn.LayerNorm(size), nn.Linear(size, 4 * size), nn.SiLU(), nn.Linear(4 * size, size)
        )
        self.attention = nn.MultiheadAttention(size, 4, batch_first=True)
        self.convolution = nn.Conv1d(size, size, 15, padding=7, groups=size)
        self.norm = nn.BatchNorm1d(size)
        self.pointwise = nn.Conv1d(size, size, 1)
        self.register_buffer("table", torch.arange(10))

    def forward(self, x):
        x = x + 0.5 * self.first(x)
        x = x + self.attention(x, x, x)[0]
        return x + self.pointwise(self.norm(self.convolution(x.mT))).mT


class Tagger(nn.Module):
    """A tagger with a GRU."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 24)
        self.gru = nn.GRU(24, 40, 2, bidirectional=True, batch_first=True)
        self.output = nn.Linear(80, 6)

    def forward(self, x):
        return self.output(self.gru(self.embedding(x))[0])


@pytest.mark.parametrize("kind", [Conformer, Tagger])
@pytest.mark.parametrize("bits", [32, 8])
def test_other_models_are_packed_loaded_and_reported(kind, bits, tmp_path):
    torch.manual_seed(0)
    model, inputs = kind().eval(), {Conformer: torch.randn(2, 20, 64)}
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() >= 2:
                weight[weight.abs() < weight.abs().quantile(0.9)] = 0
        inputs = inputs.get(kind, torch.randint(0, 50, (2, 20)))
        expected = model(inputs)
        pack(model, tmp_path / "model.csp", bits=bits)
        again = load(tmp_path / "model.csp", into=kind().eval())
        assert again(inputs) == pytest.approx(expected, abs=0 if bits == 32 else 0.05)
    found = report(tmp_path / "model.csp")
    assert found.steps is None and found.facts == {}
    assert found.sizes["packed"] < found.sizes["safetensors, zstd"]
    assert set(found.layers.index) == {
        *(n for n, t in model.state_dict().items() if t.dim() >= 2 and t.is_floating_point()),
        "all",
    }
    facts = json.loads(found.to_json(), parse_constant=pytest.fail)
    assert facts["steps"] is None and "all" in str(found)
    assert (facts["layers"][-1]["bound"] is None) == (bits == 32)


def test_times_are_measured_in_turns():
    calls = []
    threads = set()

    def step(name):
        threads.add(torch.get_num_threads())
        calls.append(name)

    steps = {name: lambda frames, name=name: step(name) for name in "ab"}
    torch.set_num_threads(2)
    try:
        times = step_times(steps, np.zeros((3, 3, 13), dtype=np.float32), rounds=2)
        assert threads == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert calls == ["a", "b"] + (["a"] * 10 + ["b"] * 10) * 2
    assert times.shape == (20, 2)
