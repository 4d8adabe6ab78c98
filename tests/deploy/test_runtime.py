"""The streaming runtime: the same words and logits as the model, in every layout."""

import json

import numpy as np
import pytest
import torch
from pruned_models import pruned

from cspkit.arguments import ArgumentError
from cspkit.asr import DigitTask, Transducer, TransducerConfig, load_transducer, transcribe
from cspkit.asr.corpus import data_folder
from cspkit.deploy import SparseTransducer, kernels, load, pack
from cspkit.deploy.layouts import LAYOUTS, Matrix, candidates, network, timings
from cspkit.deploy.runtime import matrices_of


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CSPKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def dense():
    return load_transducer(data_folder() / "models" / "dense_fold0.safetensors")


@pytest.fixture(scope="module")
def strings():
    return [u.features for u in DigitTask().corpus.strings("dev", 0)[:30]]


def words(recogniser, features):
    return [" ".join(recogniser.step(f) + recogniser.finish()) for f in features]


def logits_of(model, frames):
    """Logits of all frames before any label, (S, K), computed by torch."""
    with torch.no_grad():
        encoded, _ = model.encode(torch.from_numpy(frames)[None])
        predicted, _ = model.predict(model.start(torch.zeros((1, 0), dtype=torch.long)))
        return model.join(encoded, predicted)[0, :, 0].numpy()


def assert_same(recogniser, model, features):
    assert words(recogniser, features) == transcribe(model, features)
    expected, stack = logits_of(model, features[0]), model.config.stack
    found = []
    for i in range(0, stack * len(expected), stack):
        recogniser.encode(features[0][i : i + stack])
        found.append(recogniser.logits().copy())
    assert np.abs(np.stack(found) - expected).max() <= 1e-4 * np.abs(expected).max()


def test_the_dense_model_is_recognised_alike(dense, strings):
    assert_same(SparseTransducer(dense), dense, strings)


@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.98])
@pytest.mark.parametrize("block", [(1, 1), (8, 1), (1, 8)])
def test_pruned_models_are_recognised_alike_in_the_layout_of_their_blocks(
    dense, strings, sparsity, block
):
    model = pruned(dense, sparsity, block)
    wanted = {(1, 1): "slices", (8, 1): "blocks 8x1", (1, 8): "blocks 1x8"}[block]
    matrices = matrices_of(model)
    layouts = {n: wanted for n, m in matrices.items() if wanted in candidates(m)}
    assert len(layouts) >= 6
    recogniser = SparseTransducer(model, autotune=False, layouts=layouts)
    assert {recogniser.layouts[n] for n in layouts} == {wanted}
    assert_same(recogniser, model, strings[:10])


@pytest.mark.parametrize("bits", [32, 8, 4])
@pytest.mark.parametrize("layout", ["dense", "slices"])
def test_a_packed_file_is_recognised_like_the_model_that_it_holds(
    dense, strings, tmp_path, bits, layout
):
    pack(pruned(dense, 0.8), tmp_path / "model.csp", bits=bits)
    model = load(tmp_path / "model.csp")
    name = layout if bits == 32 else f"{layout} int8"
    layouts = dict.fromkeys(model.prunable, name)
    recogniser = SparseTransducer(tmp_path / "model.csp", autotune=False, layouts=layouts)
    assert_same(recogniser, model, strings[:10])


def test_frames_may_come_in_pieces_of_any_size(dense, strings):
    recogniser, rng = SparseTransducer(dense, autotune=False), np.random.default_rng(0)
    for features in strings[:5]:
        cuts = np.sort(rng.integers(0, len(features) + 1, 6))
        found = [w for piece in np.split(features, cuts) for w in recogniser.step(piece)]
        assert " ".join(found + recogniser.finish()) == transcribe(dense, features)


def test_other_sizes_work_too(strings):
    config = TransducerConfig(
        units=("a", "b", " "), stack=2, encoder_layers=3, encoder_size=20, predictor_size=36,
        joiner_size=12, embedding_size=7,
    )  # fmt: skip
    torch.manual_seed(0)
    model = pruned(Transducer(config), 0.7).eval()
    layouts = dict.fromkeys(model.prunable, "slices")
    for recogniser in (
        SparseTransducer(model, autotune=False, layouts=layouts),
        SparseTransducer(model),
    ):
        assert_same(recogniser, model, [f[:40] for f in strings[:4]])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(8, 8), (40, 24), (17, 5), (1, 30), (64, 1)])
def test_a_product_in_every_layout(layout, shape):
    rng = np.random.default_rng(0)
    kept = rng.random(shape) < 0.2
    if "blocks" in layout:  # some entries of a block are zero
        shape = 8 * shape[0], 8 * shape[1]
        kept = np.kron(kept, np.ones((8, 8), dtype=bool)) & (rng.random(shape) < 0.9)
    codes = rng.integers(-127, 128, shape) * kept
    scales = rng.random(shape[0]).astype(np.float32)
    values, bias = (codes * scales[:, None]).astype(np.float32), scales + 1
    matrix = Matrix(values, bias, codes.astype(np.int8), scales)
    x, y = rng.standard_normal(shape[1]).astype(np.float32), np.ones(shape[0], dtype=np.float32)
    other = Matrix(np.ones((3, 3), dtype=np.float32), np.ones(3, dtype=np.float32))
    kernels.multiply(network([(other, "dense"), (matrix, layout)]), 1, x, y)
    assert y == pytest.approx(bias + values @ x, rel=1e-5, abs=1e-3)


def test_the_gates_are_exact_to_3e_7():
    x = np.concatenate([np.linspace(-20, 20, 20_001), [-1e30, 1e30, 0.0]]).astype(np.float32)
    exact = x.astype(np.float64)
    found = np.array([kernels.tanh(v) for v in x])
    assert np.abs(found - np.tanh(exact)).max() < 3e-7
    found = np.array([kernels.sigmoid(v) for v in x])
    with np.errstate(over="ignore"):
        assert np.abs(found - 1 / (1 + np.exp(-exact))).max() < 3e-7


def test_the_choice_of_layouts_is_stored_and_used_again(dense, cache, monkeypatch):
    model = pruned(dense, 0.95)
    first = SparseTransducer(model).layouts
    (file,) = cache.iterdir()
    assert json.loads(file.read_text()) == first
    monkeypatch.setattr("cspkit.deploy.layouts.timings", lambda m: pytest.fail("timed again"))
    assert SparseTransducer(model).layouts == first
    monkeypatch.undo()
    monkeypatch.setenv("CSPKIT_CACHE", str(cache))
    file.write_text("{damaged")
    assert set(SparseTransducer(model).layouts) == set(first)
    assert json.loads(file.read_text())


def test_without_autotune_nothing_is_timed(dense, cache, monkeypatch):
    monkeypatch.setattr("cspkit.deploy.layouts.timings", lambda m: pytest.fail("timed"))
    layouts = SparseTransducer(pruned(dense, 0.95), autotune=False).layouts
    assert layouts["encoder.weight_hh_l0"] == "slices" and layouts["output.weight"] == "dense"
    assert not cache.exists()


def test_every_layout_that_fits_is_timed():
    matrix = Matrix(np.eye(16, dtype=np.float32), np.zeros(16, dtype=np.float32))
    assert set(timings(matrix)) == set(candidates(matrix)) == {"dense", "slices"}


@pytest.mark.parametrize(
    "layouts",
    [{"encoder.weight_hh_l0": "csr"}, {"encoder": "dense"}, {"output.weight": "dense int8"}],
)
def test_layouts_that_do_not_fit_are_refused(dense, layouts):
    with pytest.raises(ArgumentError, match="layouts has .*; expected"):
        SparseTransducer(dense, layouts=layouts)


@pytest.mark.parametrize("shape", [(2, 13), (4, 13), (3, 12), (39,), (1000, 13)])
def test_a_stack_of_another_size_is_refused(dense, shape):
    recogniser = SparseTransducer(dense, autotune=False)
    with pytest.raises(ArgumentError, match="frames have shape .*: expected \\(3, 13\\)"):
        recogniser.encode(np.zeros(shape, dtype=np.float32))


def test_frames_of_other_types_give_the_same(dense, strings):
    recogniser = SparseTransducer(dense, autotune=False)
    expected = recogniser.encode(strings[0][:3]).copy()
    for frames in (strings[0][:3].astype(float), np.asfortranarray(strings[0][:3])):
        recogniser.finish()
        assert recogniser.encode(frames) == pytest.approx(expected, abs=1e-6)


def test_a_change_of_the_model_changes_no_recogniser(strings):
    model = load_transducer(data_folder() / "models" / "dense_fold0.safetensors")
    recogniser = SparseTransducer(model, autotune=False)
    expected = words(recogniser, strings[:3])
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(1.0)
    assert words(recogniser, strings[:3]) == expected


def test_tensors_without_a_configuration_are_no_recogniser(tmp_path):
    pack({"w": torch.eye(3)}, tmp_path / "w.csp")
    with pytest.raises(ArgumentError, match="expected a packed recogniser"):
        SparseTransducer(tmp_path / "w.csp")
