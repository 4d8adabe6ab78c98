"""Packed files: nothing is lost at 32 bits, and what is damaged is refused."""

import copy
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import zstandard
from format_reader import read
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cspkit.arguments import ArgumentError
from cspkit.asr import DigitTask, Transducer, TransducerConfig
from cspkit.deploy import PackError, load, pack
from cspkit.deploy.container import DTYPES, read_header, records_of


def sparse(shape, sparsity, seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=g)
    kept = torch.rand(shape, generator=g) >= sparsity
    return torch.where(kept, values, 0.0).to(dtype)


def bits_of(tensor):
    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.contiguous().reshape(-1).view(whole[tensor.dtype.itemsize])


def same_bits(one, other):
    alike = one.dtype == other.dtype and one.shape == other.shape
    return alike and torch.equal(bits_of(one), bits_of(other))


def layouts(path):
    header, data = read_header(path)
    return {record["name"]: record for record, _ in records_of(path, header, data)}


ODD = {
    "empty": torch.zeros(0, 3),
    "scalar": torch.tensor(2.5),
    "one": torch.tensor([[7.0]]),
    "zeros": torch.zeros(40, 30),
    "no zeros": torch.arange(1.0, 1201.0).view(40, 30),
    "one left": torch.eye(1200)[700].view(40, 30),
    "one row": sparse((1, 900), 0.9),
    "one column": sparse((900, 1), 0.9),
    "full columns": torch.cat([torch.ones(50, 3), torch.zeros(50, 5), sparse((50, 40), 0.9)], 1),
    "kernel": sparse((8, 4, 3, 3), 0.8),
    "negative zero": torch.tensor([[0.0, -0.0], [1.0, 0.0]]),
    "not finite": torch.tensor([[0.0, float("nan")], [float("inf"), -float("inf")]]),
    "tiny": torch.tensor([[1e-40, 0.0], [0.0, 1e38]]),
    "not contiguous": sparse((30, 40), 0.9).t(),
    "flags": sparse((20, 20), 0.5) != 0,
    "counter": torch.tensor(12345678901, dtype=torch.int64),
}
ODD |= {f"of {name}": sparse((64, 48), 0.9, 1).mul(50).to(dtype) for name, dtype in DTYPES.items()}


def test_at_32_bits_every_tensor_comes_back_bit_for_bit(tmp_path):
    pack(ODD, tmp_path / "odd.csp")
    found = load(tmp_path / "odd.csp")
    assert list(found) == list(ODD)
    assert [name for name in ODD if not same_bits(found[name], ODD[name])] == []


@given(
    st.integers(1, 40), st.integers(1, 60), st.floats(0, 1), st.integers(0, 10**6),
    st.sampled_from([32, 16, 8, 4]),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_any_matrix_keeps_its_zeros_and_its_nonzeros(tmp_path_factory, R, C, s, seed, bits):
    path = tmp_path_factory.mktemp("any") / "any.csp"
    tensor = sparse((R, C), s, seed) * 10.0 ** (seed % 7 - 3)
    pack({"w": tensor}, path, bits=bits)
    found = load(path)["w"]
    assert torch.equal(found != 0, tensor != 0)
    if bits == 32:
        assert same_bits(found, tensor)
    elif bits == 8:
        assert (found - tensor).abs().max() <= tensor.abs().max() / 127 * 1.1
    elif bits == 4:
        most = (1.1 * tensor.abs().max() / 7) ** 2 * tensor.count_nonzero()
        assert (found - tensor).pow(2).sum() <= most
    assert torch.equal(torch.from_numpy(read(path)[1]["w"].copy()), found)


@pytest.mark.parametrize(
    ("sparsity", "structure", "layout"),
    [(0.0, "none", "dense"), (0.5, "none", "bitmask"), (0.9, "rows", "columns")],
)
def test_the_smallest_layout_is_taken(tmp_path, sparsity, structure, layout):
    tensor = sparse((300, 200), sparsity)
    if structure == "rows":
        tensor[::2], tensor[:, ::2] = 0.0, 0.0
    pack({"w": tensor}, tmp_path / "w.csp")
    assert layouts(tmp_path / "w.csp")["w"]["layout"] == layout


def test_large_tensors_take_the_faster_codes(tmp_path):
    pack({"w": sparse((1024, 1024), 0.95)}, tmp_path / "w.csp", bits=8)
    assert layouts(tmp_path / "w.csp")["w"]["layout"] == "gaps"


def test_the_positions_cost_less_than_independent_ones_would(tmp_path):
    """Where rows and columns die together, as after pruning, the entropy bound is beaten."""
    g = torch.Generator().manual_seed(0)
    rate = torch.rand(256, 1, generator=g) ** 4 * torch.rand(1, 128, generator=g) ** 2
    tensor = (torch.rand(256, 128, generator=g) < rate).float()
    pack({"w": tensor}, tmp_path / "w.csp")
    record = layouts(tmp_path / "w.csp")["w"]
    p = float(tensor.mean())
    entropy = -(p * np.log2(p) + (1 - p) * np.log2(1 - p)) * tensor.numel() / 8
    assert record["layout"] == "columns" and record["sizes"][0] < 0.9 * entropy


@pytest.fixture(scope="module")
def pruned():
    """A recogniser with 95 % zeros."""
    model = DigitTask().new_model(0)
    with torch.no_grad():
        for i, name in enumerate(model.prunable):
            weight = dict(model.named_parameters())[name]
            weight.masked_fill_(sparse(weight.shape, 0.95, i) == 0, 0.0)
    return model.eval()


def test_a_transducer_comes_back_whole(tmp_path, pruned):
    pack(pruned, tmp_path / "model.csp")
    found = load(tmp_path / "model.csp")
    assert isinstance(found, Transducer) and found.config == pruned.config and not found.training
    for name, tensor in pruned.state_dict().items():
        assert same_bits(found.state_dict()[name], tensor)
    small = Transducer(TransducerConfig(units=("a", "b"), encoder_size=8, joiner_size=4))
    pack(small, tmp_path / "small.csp", bits=16)
    assert load(tmp_path / "small.csp").config == small.config


@pytest.mark.parametrize(("bits", "smaller"), [(32, 14), (16, 24), (8, 37), (4, 50)])
def test_the_file_of_a_pruned_recogniser_is_small(tmp_path, pruned, bits, smaller):
    pack(pruned, tmp_path / "model.csp", bits=bits)
    full = sum(t.numel() * t.element_size() for t in pruned.state_dict().values())
    assert (tmp_path / "model.csp").stat().st_size * smaller < full


@pytest.mark.parametrize("bits", [32, 16, 8, 4])
def test_a_reader_written_from_the_page_agrees(tmp_path, pruned, bits):
    odd = {name: t for name, t in ODD.items() if bits == 32 or name != "not finite"}
    for model in (pruned, odd):
        pack(model, tmp_path / "x.csp", bits=bits)
        header, found = read(tmp_path / "x.csp")
        expected = load(tmp_path / "x.csp")
        if model is pruned:
            expected = expected.state_dict()
            assert header["transducer"]["encoder_size"] == 128
        for name, tensor in expected.items():
            if bits == 32 or tensor.dtype != torch.bfloat16:  # the reader has no bfloat16
                assert bits_of(tensor).numpy().tobytes() == found[name].tobytes(), name


def test_the_reader_is_short():
    lines = Path(__file__).with_name("format_reader.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 80


def test_bits_may_differ_by_name(tmp_path):
    tensors = {"a.weight": sparse((50, 40), 0.5), "b.weight": sparse((50, 40), 0.5)}
    pack(tensors, tmp_path / "x.csp", bits={"a.*": 4, "*": 32})
    records = layouts(tmp_path / "x.csp")
    assert records["a.weight"]["bits"] == 4 and "codes" not in records["b.weight"]
    with pytest.raises(ArgumentError, match="bits has no pattern for 'b.weight': add"):
        pack(tensors, tmp_path / "x.csp", bits={"a.*": 4})


def test_vectors_keep_what_they_need(tmp_path):
    tensors = {
        "lstm.bias_ih_l0": torch.linspace(-1, 1, 200), "norm.weight": torch.rand(200) + 0.1,
        "norm.running_var": torch.rand(200) * 1e-3,
        "mean": torch.rand(13), "big": torch.rand(200) * 1e30,
    }  # fmt: skip
    pack(tensors, tmp_path / "x.csp", bits=8)
    records, found = layouts(tmp_path / "x.csp"), load(tmp_path / "x.csp")
    assert records["lstm.bias_ih_l0"]["bits"] == 8
    assert records["norm.weight"]["values"] == "float16"
    assert torch.allclose(found["norm.weight"], tensors["norm.weight"], rtol=1e-3)
    for name in ("mean", "big", "norm.running_var"):
        assert same_bits(found[name], tensors[name])


def test_tensors_fill_a_model_that_is_given(tmp_path):
    model, other = nn.GRU(5, 7), nn.GRU(5, 7)
    pack(model, tmp_path / "x.csp")
    assert load(tmp_path / "x.csp", into=other) is other
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(one, another) for one, another in pairs)
    with pytest.raises(
        ArgumentError, match="into does not fit .*it has the shape \\(24,\\) for 'b"
    ):
        load(tmp_path / "x.csp", into=nn.GRU(5, 8))
    before = [p.clone() for p in other.parameters()]
    other.weight_ih_l0 = nn.Parameter(torch.ones(3, 5))
    with pytest.raises(ArgumentError, match="weight_ih_l0"):
        load(tmp_path / "x.csp", into=other)
    assert torch.equal(other.weight_hh_l0, before[1])  # nothing was filled
    with pytest.raises(ArgumentError, match="into is a int: expected a torch.nn.Module"):
        load(tmp_path / "x.csp", into=3)


@pytest.mark.parametrize(
    ("model", "bits", "message"),
    [
        ({}, 32, "model has no tensors"),
        (3, 32, "model is a int: expected a torch.nn.Module or a state_dict"),
        ({"w": torch.full((64,), float("inf"))}, 16, "'w' has values that are not finite"),
        ({"w": 1.0}, 32, "model has 'w', a float: expected tensors by name"),
        ({"w": torch.ones(2, 2, dtype=torch.complex64)}, 32, "model has 'w' of torch.complex64"),
        ({"w": torch.ones(2, 2)}, 5, "bits is 5: expected one of 32, 16, 8, 4"),
        ({"w": torch.ones(2, 2)}, True, "bits is True"),
        ({"w": torch.full((2, 2), float("nan"))}, 8, "'w' has values that are not finite"),
    ],
)
def test_bad_arguments_are_refused_and_nothing_is_written(tmp_path, model, bits, message):
    with pytest.raises(ArgumentError, match=message):
        pack(model, tmp_path / "x.csp", bits=bits)
    assert list(tmp_path.iterdir()) == []


def damaged(path, change):
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(bytes(content))


def flip(place):
    def change(content):
        content[place] ^= 1

    return change


@pytest.fixture
def packed(tmp_path, pruned):
    pack(pruned, tmp_path / "model.csp", bits=8)
    return tmp_path / "model.csp"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (flip(0), "is not a packed file"),
        (flip(8), "has version 0 of the format: expected 1"),
        (flip(30), "the header is damaged"),
        (flip(-1), "tensor 'output.bias' is damaged"),
        (lambda c: c.__delitem__(slice(10, None)), "the header is cut off"),
        (
            lambda c: c.__delitem__(slice(-100, None)),
            "tensor 'output.weight' is damaged, or cut off",
        ),
        (lambda c: c.extend(b"more"), "4 bytes after the last tensor"),
    ],
)
def test_damage_is_named(packed, change, message):
    damaged(packed, change)
    with pytest.raises(PackError, match=message):
        load(packed)


def test_a_hundred_damaged_files_are_refused(packed):
    whole, rng = packed.read_bytes(), np.random.default_rng(0)
    for i in range(100):
        content = bytearray(whole)
        place = int(rng.integers(len(content)))
        if i % 3 == 0:
            content[place] ^= 1 << int(rng.integers(8))
        elif i % 3 == 1:
            del content[place:]
        else:
            content[place : place + 8] = rng.bytes(8)
        packed.write_bytes(bytes(content))
        part = "model.csp(: | is not a packed | has version ).*(tensor|header|packed file|version)"
        with pytest.raises(PackError, match=part):
            load(packed)


def forged(path, change):
    """Write a file whose header was changed and whose checksums are right."""
    header, data = read_header(path)
    data, place = bytes(data), 0
    change(header)
    for record in header["tensors"]:
        if not isinstance(record, dict):
            continue
        end = place + sum(record["sizes"])
        facts = {k: v for k, v in record.items() if k not in ("sizes", "crc")}
        text = json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()
        record["crc"] = zlib.crc32(data[place:end], zlib.crc32(text))
        place = end
    text = json.dumps(header).encode()
    packed = zstandard.compress(text)
    sizes = (1).to_bytes(2, "little") + len(packed).to_bytes(4, "little")
    sizes += len(text).to_bytes(4, "little") + zlib.crc32(packed).to_bytes(4, "little")
    path.write_bytes(path.read_bytes()[:8] + sizes + packed + data)


def of(tensor, **changes):
    def change(header):
        (record,) = [r for r in header["tensors"] if r["name"] == tensor]
        record.update(changes)

    return change


W = "encoder.weight_hh_l0"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (of(W, shape=[10**6, 10**6]), "entries: expected at most max_weights"),
        (of(W, shape=[512, -1]), "the record of tensor"),
        (of(W, shape=[511, 128]), W),
        (of(W, shape=[10**18, 0]), "the record of tensor|max_weights"),
        (of(W, shape=[10**9, 0]), "entries: expected at most max_weights"),
        (of(W, shape=[10**4000, 10**4000]), "the record of tensor"),
        (of(W, shape=[2] * 500), "the record of tensor"),
        (of(W, counts=[1] * 40), "buckets: expected at most 31"),
        (of(W, steps=[1] * 40), "buckets: expected at most 31"),
        (of(W, n=10**12), "n is 1000000000000: expected 0 to 65536"),
        (of(W, layout="rows"), "the layout is 'rows'"),
        (of(W, counts=[0]), W),
        (of(W, counts="many"), W),
        (of(W, codes=[1, 2]), W),
        (of(W, codes=[-1] * 17), W),
        (of(W, bits=40), "bits is 40: expected 2 to 8"),
        (of(W, base=10**9), "base is 1000000000"),
        (of(W, layout="columns", prior=0), "prior is 0: expected 1 to 1048576"),
        (of(W, dtype="object"), "the record of tensor"),
        (of(W, name="encoder.weight_hh_l1"), "the record of tensor"),
        (of(W, name="other"), "the tensors do not fit the configuration"),
        (of(W, sizes=[4, 4]), f"tensor '{W}'"),
        (lambda h: h["transducer"].update(encoder_size=-4), "the configuration is wrong"),
        (lambda h: h["transducer"].update(code="import os"), "the configuration is wrong"),
        (lambda h: h["transducer"].update(encoder_size=10**7), "the configuration is wrong"),
        (lambda h: h["transducer"].update(encoder_layers=10**9), "the configuration is wrong"),
        (lambda h: h["transducer"].update(units=3), "the configuration is wrong"),
        (lambda h: h.update(tensors={}), "the header cannot be read|no list"),
        (lambda h: h["tensors"].append(7), "the record of tensor"),
    ],
)
def test_forgeries_with_right_checksums_are_refused(packed, change, message):
    forged(packed, change)
    with pytest.raises(PackError, match=message):
        load(packed)


@pytest.mark.parametrize("bits", [8, 4])
def test_rounded_values_are_packed_without_a_further_change(pruned, tmp_path, bits):
    pack(pruned, tmp_path / "first.csp", bits=bits)
    once = load(tmp_path / "first.csp")
    pack(once, tmp_path / "second.csp", bits=bits)
    again = load(tmp_path / "second.csp").state_dict()
    for name, tensor in once.state_dict().items():
        if tensor.dim() > 1:
            assert again[name].equal(tensor), name


def test_four_bits_take_the_scale_with_the_least_error(tmp_path):
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    weight[weight.abs() < 1] = 0
    weight[0, 0] = 10.0  # with a scale for this value, most others would have the codes 1 and 2
    pack({"w": weight}, tmp_path / "w.csp", bits=4)
    errors = []
    for scale in 2 ** (torch.arange(-24, 16) / 8):
        codes = (weight / scale).round().clamp(-7, 7)
        codes = torch.where((codes == 0) & (weight != 0), weight.sign(), codes)
        errors.append(float((codes * scale - weight).pow(2).sum()))
    found = float((load(tmp_path / "w.csp")["w"] - weight).pow(2).sum())
    without_cut = float((((weight / (10 / 7)).round() * 10 / 7) - weight).pow(2).sum())
    assert found <= min(errors) * (1 + 1e-5) < 0.9 * without_cut


def test_what_is_loaded_is_bounded(packed):
    with pytest.raises(
        PackError, match="336\\d\\d\\d entries: expected at most max_weights = 1000"
    ):
        load(packed, max_weights=1000)


@pytest.mark.parametrize("bits", [16, 8, 4])
@pytest.mark.parametrize(
    "weight",
    [
        torch.full((4, 4), 1e-44), torch.full((8, 8), 1e-9), torch.full((8, 8), 3e38),
        torch.full((4, 4), 1e-60, dtype=torch.float64),
        torch.full((4, 4), 1e300, dtype=torch.float64),
        torch.full((4, 4), 65504.0, dtype=torch.float16), torch.tensor([[1e-30, 1e30]]),
    ],
)  # fmt: skip
def test_extreme_values_stay_nonzero_and_finite(tmp_path, weight, bits):
    pack({"w": weight}, tmp_path / "w.csp", bits=bits)
    found = load(tmp_path / "w.csp")["w"]
    assert torch.isfinite(found).all() and (found != 0).all() and found.dtype == weight.dtype


def test_values_that_follow_a_pattern_are_stored_dense_if_that_is_smaller(tmp_path):
    board = (torch.arange(300)[:, None] + torch.arange(300)) % 2 * 1.0
    pack({"w": board, "i": torch.arange(10**5) % 7}, tmp_path / "w.csp")
    assert (tmp_path / "w.csp").stat().st_size < 2000
    found = load(tmp_path / "w.csp")
    assert torch.equal(found["w"], board) and torch.equal(found["i"], torch.arange(10**5) % 7)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_a_recogniser_in_another_precision_comes_back_bit_for_bit(pruned, tmp_path, dtype):
    model = copy.deepcopy(pruned).to(dtype)
    pack(model, tmp_path / "model.csp")
    found = load(tmp_path / "model.csp").state_dict()
    assert all(same_bits(found[name], tensor) for name, tensor in model.state_dict().items())
