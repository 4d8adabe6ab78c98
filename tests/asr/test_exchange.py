import hashlib

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from cspkit.arguments import ArgumentError
from cspkit.asr import (
    CTCModel,
    DigitTask,
    StreamingRecogniser,
    Transducer,
    TransducerConfig,
    beam_search,
    load_transducer,
    save_transducer,
    transcribe,
    warm_start,
)
from cspkit.asr.joint import chunked_costs, joint_of
from cspkit.asr.transducer_config import large_config
from cspkit.deploy import SparseTransducer, load, pack, to_onnx
from cspkit.pruning import GMP, prunable_weights
from cspkit.training import train

CONFIG = TransducerConfig(encoder_size=12, predictor_size=10, embedding_size=4, joiner_size=8)


class MultiplicativeJoiner(nn.Module):
    """Logits of the product of frame and history, by units."""

    def __init__(self, n_units=11, size=16):
        super().__init__()
        self.frames, self.histories = nn.Linear(12, size), nn.Linear(10, size)
        self.start = nn.Embedding(3, size)  # a table that pruning must not cut
        self.output = nn.Linear(size, n_units)

    def forward(self, encoded, predicted):
        history = self.histories(predicted)[:, None] + self.start.weight.sum(0)
        return self.output(torch.tanh(self.frames(encoded)[:, :, None] * history))


class Attention(nn.Module):
    """An encoder that looks at the whole utterance, and has no state."""

    def __init__(self):
        super().__init__()
        self.inputs = nn.Linear(39, 12)
        self.heads = nn.MultiheadAttention(12, 2, batch_first=True)

    def forward(self, inputs, state):
        frames = self.inputs(inputs)
        return self.heads(frames, frames, frames)[0], None


class Fixed(nn.Module):
    """Returns what it is told."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, *_):
        return self.value


def gru():
    return nn.GRU(39, 12, 2, batch_first=True)


def exchanged(seed=0):
    torch.manual_seed(seed)
    return Transducer(CONFIG, encoder=gru(), joiner=MultiplicativeJoiner()).eval()


def speaking(model):
    """The model, with weights so large that it emits units."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 4
    return model


@pytest.fixture(scope="module")
def task():
    return DigitTask(config=CONFIG, batch_size=8)


def test_the_default_model_has_the_weights_that_it_always_had():
    torch.manual_seed(0)
    digest = hashlib.sha256()
    for name, tensor in Transducer().state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    assert digest.hexdigest()[:16] == "ba4434ea1c5f2bf8"


def test_an_exchanged_model_has_no_weights_of_the_parts_that_it_does_not_use():
    names = {name.partition(".")[0] for name, _ in exchanged().named_parameters()}
    assert names == {"encoder", "embedding", "predictor", "joiner"}


def test_pruning_finds_the_matrices_of_exchanged_parts():
    expected = {f"encoder.weight_{kind}_l{i}" for kind in ("ih", "hh") for i in (0, 1)}
    expected |= {f"predictor.weight_{kind}_l0" for kind in ("ih", "hh")}
    expected |= {"joiner.frames.weight", "joiner.histories.weight"}
    assert set(prunable_weights(exchanged())) == expected
    convolution = nn.Conv1d(39, 12, 3)
    model = Transducer(CONFIG, encoder=Convolution(convolution))
    assert "encoder.convolution.weight" in prunable_weights(model)


class Convolution(nn.Module):
    """A causal convolution; the state holds the last two frames."""

    def __init__(self, convolution):
        super().__init__()
        self.convolution = convolution

    def forward(self, inputs, state):
        if state is None:
            state = inputs.new_zeros(len(inputs), 2, inputs.shape[2])
        inputs = torch.cat([state, inputs], dim=1)
        return self.convolution(inputs.transpose(1, 2)).transpose(1, 2), inputs[:, -2:]


def test_an_exchanged_model_trains_and_is_pruned(task):
    model = exchanged()
    default = task.new_model(0)
    model.set_normalisation(default.feature_mean, default.feature_std)
    pruner = GMP(prunable_weights(model), 0.8, 24)
    rng = np.random.default_rng(0)
    log = train(model, task, 24, pruner=pruner, reference=exchanged(1), mu=0.1, rng=rng)
    assert log[-1]["loss"] < 0.8 * log[0]["loss"]
    assert float((model.joiner.frames.weight == 0).float().mean()) > 0.3
    assert model.joiner.output.weight.all() and model.joiner.start.weight.all()


def test_chunks_work_with_any_joiner(task):
    model = exchanged()
    batch = next(task.batches("dev", np.random.default_rng(0)))
    loss, _ = task.loss(model, batch)
    joint = joint_of(model, batch.features, batch.feature_lengths, batch.targets)
    lengths = batch.feature_lengths // 3, batch.target_lengths
    costs = chunked_costs(*joint, batch.targets, *lengths, largest=500)
    torch.testing.assert_close((costs / batch.target_lengths).mean(), loss)


@pytest.mark.parametrize("encoder", ["GRU", "Convolution"])
def test_streaming_equals_greedy_decoding(task, encoder):
    torch.manual_seed(1)
    part = gru() if encoder == "GRU" else Convolution(nn.Conv1d(39, 12, 3))
    model = speaking(Transducer(CONFIG, encoder=part).eval())
    recogniser = StreamingRecogniser(model)
    for utterance in task.corpus.strings("dev")[:6]:
        words = []
        for first in range(0, len(utterance.features), 7):
            words += recogniser.step(utterance.features[first : first + 7])
        words += recogniser.finish()
        assert " ".join(words) == transcribe(model, utterance.features)
    assert words


def test_beam_search_takes_exchanged_parts(task):
    model = speaking(exchanged())
    features = torch.from_numpy(task.corpus.recordings[0].features)[None]
    lengths = torch.tensor([features.shape[1]])
    assert beam_search(model, features, lengths, width=3)[0]


def test_streaming_refuses_an_encoder_that_cannot_continue():
    model = Transducer(CONFIG, encoder=Attention()).eval()
    assert isinstance(transcribe(model, np.ones((30, 13), np.float32)), str)
    with pytest.raises(ArgumentError, match="encoder Attention, which returns no state: expected"):
        StreamingRecogniser(model)
    both = nn.LSTM(39, 6, 1, batch_first=True, bidirectional=True)
    with pytest.raises(ArgumentError, match="encoder LSTM, whose outputs .* in two pieces differ"):
        StreamingRecogniser(Transducer(CONFIG, encoder=both).eval())


def test_a_checkpoint_needs_the_exchanged_parts(tmp_path):
    path, model = tmp_path / "model.safetensors", exchanged()
    save_transducer(model, path, seed=0)
    loaded = load_transducer(path, encoder=gru(), joiner=MultiplicativeJoiner())
    assert not loaded.training and loaded.exchanged == model.exchanged
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    with pytest.raises(ArgumentError, match="saved with the encoder GRU: expected this part too"):
        load_transducer(path)
    with pytest.raises(ArgumentError, match="saved with the joiner MultiplicativeJoiner"):
        load_transducer(path, encoder=gru())
    with pytest.raises(ArgumentError, match="do not fit its configuration with the encoder LSTM"):
        load_transducer(
            path, encoder=nn.LSTM(39, 12, 2, batch_first=True), joiner=MultiplicativeJoiner()
        )
    with pytest.raises(ArgumentError, match="size mismatch for joiner.frames.weight"):
        load_transducer(path, encoder=gru(), joiner=MultiplicativeJoiner(size=15))


def test_the_file_of_a_default_model_says_nothing_about_parts(tmp_path):
    save_transducer(Transducer(CONFIG), tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert set(file.metadata()) == {"format", "config", "facts"}
    with pytest.raises(ArgumentError, match="do not fit its configuration with the encoder GRU"):
        load_transducer(tmp_path / "model.safetensors", encoder=gru())


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"encoder": nn.GRU(39, 12)}, "encoder has batch_first=False"),
        ({"encoder": nn.GRU(39, 13, batch_first=True)}, r"encoder returned .*\(2, 4, 12\) and a"),
        ({"encoder": nn.GRU(40, 12, batch_first=True)}, r"encoder GRU failed with inputs \(\(2, 4"),
        ({"encoder": nn.Linear(39, 12)}, "encoder Linear failed with inputs"),
        ({"encoder": Fixed(torch.zeros(2, 4, 12))}, r"encoder returned \(2, 4, 12\): expected a"),
        ({"encoder": Fixed((torch.zeros(2, 2, 12), None))}, r"encoder returned \(\(2, 2, 12\), No"),
        ({"encoder": torch.relu}, "encoder is .*: expected an nn.Module"),
        ({"joiner": MultiplicativeJoiner(12)}, r"joiner returned \(2, 4, 3, 12\): expected logits"),
        ({"joiner": Fixed(None)}, r"joiner returned NoneType: expected logits \(2, 4, 3, 11\)"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, message):
    with pytest.raises(ArgumentError, match=message):
        Transducer(CONFIG, **parts)


def test_what_knows_only_the_default_parts_says_so(tmp_path):
    model = exchanged()
    with pytest.raises(ArgumentError, match="model has the encoder GRU: expected a Transducer"):
        SparseTransducer(model)
    with pytest.raises(ArgumentError, match="model has the encoder GRU: expected a Transducer"):
        to_onnx(model, tmp_path)
    with pytest.raises(ArgumentError, match="transducer has the encoder GRU: expected the default"):
        warm_start(model, CTCModel(CONFIG))
    pack(model, tmp_path / "model.csp")
    assert set(load(tmp_path / "model.csp")) == set(model.state_dict())
    again = load(tmp_path / "model.csp", into=exchanged(1))
    assert torch.equal(again.joiner.frames.weight, model.joiner.frames.weight)


def test_the_large_configuration_has_about_thirty_million_weights():
    with torch.device("meta"):
        model = Transducer(large_config([f"piece{i}" for i in range(1000)]))
    assert sum(p.numel() for p in model.parameters()) == 30_157_801
    assert model.parameter_counts()["encoder"] == 26_018_304
    with pytest.raises(ArgumentError, match="units is 'abc': expected one or more strings"):
        large_config("abc")
