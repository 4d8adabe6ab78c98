"""Exports: the words of onnxruntime, frame by frame and offline, and matrices of SciPy."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from format_reader import read
from pruned_models import pruned

from cspkit.arguments import ArgumentError
from cspkit.asr import DigitTask, Transducer, TransducerConfig, load_transducer, transcribe
from cspkit.asr.corpus import data_folder
from cspkit.asr.search import MAX_SYMBOLS
from cspkit.asr.transducer_config import CHARACTERS
from cspkit.deploy import SparseTransducer, load, pack, to_csr, to_onnx


class OnnxRecogniser:
    """Greedy decoding with the three graphs and what their metadata say."""

    def __init__(self, files):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.sessions = [onnxruntime.InferenceSession(f, options) for f in files]
        for session in self.sessions:
            facts = session.get_modelmeta().custom_metadata_map
            self.units = json.loads(facts.pop("units"))
            self.facts = {k: int(v) for k, v in facts.items() if k != "model_type"}
        self.start()

    def start(self):
        f = self.facts
        self.encoder = [np.zeros((f["encoder_layers"], 1, f["encoder_size"]), "f4")] * 2
        self.predictor = [np.zeros((1, 1, f["predictor_size"]), "f4")] * 2
        self.predict(f["blank"])

    def run(self, session, *inputs):
        names = [i.name for i in self.sessions[session].get_inputs()]
        return self.sessions[session].run(None, dict(zip(names, inputs, strict=True)))

    def predict(self, label):
        labels = np.array([[label]])
        predicted, *self.predictor = self.run(1, labels, *self.predictor)
        self.predicted = predicted[:, 0]

    def step(self, frames):
        encoded, *self.encoder = self.run(0, frames[None], *self.encoder)
        labels = []
        for s in range(encoded.shape[1]):
            for _ in range(MAX_SYMBOLS):
                (logits,) = self.run(2, encoded[:, s], self.predicted)
                best = int(logits.argmax())
                if best == self.facts["blank"]:
                    break
                labels.append(best)
                self.predict(best)
        return labels

    def words(self, features, piece):
        self.start()
        end = len(features) // self.facts["stack"] * self.facts["stack"]
        piece = piece or end
        labels = []
        for first in range(0, end, piece):
            labels += self.step(features[first : min(first + piece, end)])
        joint = "" if all(len(u) == 1 for u in self.units) else " "
        return " ".join(joint.join(self.units[n] for n in labels).split())


@pytest.fixture(scope="module")
def strings():
    return [u.features for u in DigitTask().corpus.strings("dev", 0)[:20]]


@pytest.mark.parametrize("sparsity", [0.0, 0.9])
def test_onnx_graphs_give_the_words_of_the_model(tmp_path, strings, sparsity):
    model = load_transducer(data_folder() / "models" / "dense_fold0.safetensors")
    model = pruned(model, sparsity)
    recogniser = OnnxRecogniser(to_onnx(model, tmp_path / "new" / "folder"))
    expected = transcribe(model, strings)
    stack = model.config.stack
    for piece in (stack, 7 * stack, None):  # frame by frame, in pieces, whole
        assert [recogniser.words(f, piece) for f in strings] == expected


def test_a_reader_of_the_format_onnxruntime_and_the_package_agree_on_the_test_set(tmp_path):
    path = tmp_path / "model.csp"
    pack(load(data_folder() / "models" / "csp95_fold0.csp"), path, bits=8)
    header, arrays = read(path)  # 80 lines that know only FORMAT.md
    config = header["transducer"]
    model = Transducer(TransducerConfig(**config | {"units": tuple(config["units"])})).eval()
    model.load_state_dict({name: torch.from_numpy(a.copy()) for name, a in arrays.items()})
    features = [u.features for u in DigitTask().corpus.strings("test", 0)]
    assert len(features) == 415
    offline = OnnxRecogniser(to_onnx(model, tmp_path))
    streaming = SparseTransducer(path, autotune=False)
    for f, expected in zip(features, transcribe(load(path), features), strict=True):
        assert offline.words(f, None) == expected
        assert " ".join(streaming.step(f) + streaming.finish()) == expected


def test_onnx_graphs_of_other_sizes_give_the_logits_of_the_model(tmp_path):
    config = TransducerConfig(
        units=CHARACTERS, n_features=5, stack=2, encoder_layers=1, encoder_size=12,
        embedding_size=7, predictor_size=20, joiner_size=9,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Transducer(config).eval()
    model.set_normalisation(torch.arange(5.0), torch.arange(1.0, 6.0))
    recogniser = OnnxRecogniser(to_onnx(model, tmp_path))
    features, labels = torch.randn(3, 8, 5), torch.randint(0, 5, (3, 4))
    zeros = [np.zeros((1, 3, n), "f4") for n in (12, 12, 20, 20)]
    encoded, *_ = recogniser.run(0, features.numpy(), *zeros[:2])
    predicted, *_ = recogniser.run(1, model.start(labels).numpy(), *zeros[2:])
    with torch.no_grad():
        expected = model(features, labels)
    for s, u in ((0, 0), (3, 4), (1, 2)):
        (logits,) = recogniser.run(2, encoded[:, s], predicted[:, u])
        np.testing.assert_allclose(logits, expected[:, s, u], atol=1e-5)


def test_onnx_graphs_need_a_recogniser(tmp_path):
    with pytest.raises(ArgumentError, match="model is a Linear: expected a Transducer"):
        to_onnx(torch.nn.Linear(2, 2), tmp_path)
    model = Transducer()
    with torch.no_grad():
        model.output.bias[0] = torch.nan
    with pytest.raises(ArgumentError, match="NaN or infinity in output.bias"):
        to_onnx(model, tmp_path)
    assert not any(tmp_path.iterdir())


def test_matrices_of_scipy():
    layers = torch.nn.Sequential(torch.nn.Linear(30, 20), torch.nn.Conv1d(2, 3, 4))
    with torch.no_grad():
        layers[0].weight[:, ::3] = 0
    matrices = to_csr(layers)
    assert list(matrices) == ["0.weight"]  # a kernel is no matrix
    assert matrices["0.weight"].nnz == 400
    x = np.random.default_rng(0).standard_normal(30).astype("f4")
    with torch.no_grad():
        expected = layers[0](torch.from_numpy(x)) - layers[0].bias
    np.testing.assert_allclose(matrices["0.weight"] @ x, expected, atol=1e-6)
    assert to_csr({"w": torch.eye(3, dtype=torch.float64)})["w"].dtype == np.float64
    with pytest.raises(ArgumentError, match="model has no matrix"):
        to_csr({"b": torch.ones(3)})
