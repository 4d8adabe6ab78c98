"""Wrapped models, models in training mode and models with NaN: what is done before decoding."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from cspkit.arguments import ArgumentError
from cspkit.asr import (
    CTCModel,
    CTCTask,
    DigitTask,
    StreamingRecogniser,
    Transducer,
    TransducerConfig,
    align,
    beam_search,
    ctc_transcribe,
    emissions,
    greedy,
    load_transducer,
    save_transducer,
    transcribe,
    transducer,
    warm_start,
)
from cspkit.asr.corpus import data_folder
from cspkit.asr.ctc import ctc_greedy
from cspkit.modules import unwrapped

WRAPPERS = {
    "DataParallel": nn.DataParallel,
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "both": lambda model: torch.compile(nn.DataParallel(model), backend="eager"),
}


@pytest.fixture(params=WRAPPERS)
def wrap(request):
    return WRAPPERS[request.param]


@pytest.fixture(scope="module")
def task():
    return DigitTask(batch_size=4)


@pytest.fixture(scope="module")
def strings(task):
    return [s.features for s in task.corpus.strings("dev")[:4]]


def talkative(task):
    model = task.new_model(0)
    model.output.weight.data *= 30  # so that an untrained model says something
    return model.eval()


@pytest.fixture(scope="module")
def model(task):
    return talkative(task)


@pytest.fixture(scope="module")
def ctc():
    return talkative(CTCTask())


PADDED = torch.zeros(2, 9, 13), torch.tensor([9, 6])
DECODINGS = {
    "transcribe": lambda model, strings: transcribe(model, strings),
    "beam": lambda model, strings: transcribe(model, strings, beam=3),
    "emissions": lambda model, strings: emissions(model, strings),
    "greedy": lambda model, strings: greedy(model, *PADDED),
    "beam_search": lambda model, strings: beam_search(model, *PADDED, 2),
    "streaming": lambda model, strings: StreamingRecogniser(model).step(strings[0]),
    "align": lambda model, strings: align(model, strings[0], "one two").gamma.tolist(),
}
CTC_DECODINGS = {
    "transcribe": lambda model, strings: ctc_transcribe(model, strings),
    "greedy": lambda model, strings: ctc_greedy(model, *PADDED),
}


def test_unwrapped_returns_the_model_inside(wrap):
    model = nn.Linear(2, 2)
    assert unwrapped(model) is model
    assert unwrapped(wrap(model)) is model
    assert unwrapped(wrap(nn.DataParallel(model))) is model
    own = nn.Module()
    own.module = model  # a part of this name is not a wrapped model
    assert unwrapped(own) is own


@pytest.mark.parametrize("name", DECODINGS)
def test_a_wrapped_model_is_decoded(model, strings, wrap, name):
    expected = DECODINGS[name](model, strings)
    assert DECODINGS[name](wrap(model), strings) == expected
    assert expected


@pytest.mark.parametrize("name", CTC_DECODINGS)
def test_a_wrapped_ctc_model_is_decoded(ctc, strings, wrap, name):
    expected = CTC_DECODINGS[name](ctc, strings)
    assert CTC_DECODINGS[name](wrap(ctc), strings) == expected
    assert expected


@pytest.mark.parametrize("of", [DigitTask, CTCTask])
def test_a_task_takes_a_wrapped_model(model, ctc, wrap, of):
    task = of(batch_size=4)
    inner = model if of is DigitTask else ctc
    batch = next(task.batches("train", np.random.default_rng(0)))
    expected, outputs = task.loss(inner, batch)
    loss, found = task.loss(wrap(inner), batch)
    assert torch.equal(loss, expected) and torch.equal(found, outputs)
    assert torch.equal(
        task.reference_outputs(wrap(inner), batch), task.reference_outputs(inner, batch)
    )
    inner.zero_grad()
    loss.backward()
    assert all(p.grad is not None for p in inner.parameters())


def test_the_forward_of_the_wrapper_is_called():
    called = []

    class Watched(nn.DataParallel):
        def forward(self, *inputs, **options):
            called.append(len(inputs[0]))
            return super().forward(*inputs, **options)

    task = CTCTask(batch_size=4)
    task.loss(Watched(task.new_model(0)), next(task.batches("train", np.random.default_rng(0))))
    assert called == [4]


def test_a_wrapped_model_of_another_task_is_refused(wrap, task):
    stranger = wrap(Transducer(TransducerConfig(stack=2)))
    batch = next(task.batches("train", np.random.default_rng(0)))
    with pytest.raises(ArgumentError, match="config.stack of the model is 2: expected 3"):
        task.loss(stranger, batch)


def test_a_wrapped_model_is_evaluated(wrap):
    task = DigitTask()
    model = load_transducer(data_folder() / "models" / "dense_fold0.safetensors")
    assert task.evaluate(wrap(model), "dev") == task.evaluate(model, "dev")


def test_a_wrapped_model_is_saved_as_the_model(model, wrap, tmp_path):
    save_transducer(wrap(model), tmp_path / "model.safetensors")
    saved = load_transducer(tmp_path / "model.safetensors").state_dict()
    assert all(torch.equal(saved[name], t) for name, t in model.state_dict().items())


def test_a_wrapped_encoder_is_copied(wrap):
    transducer, ctc = Transducer(), CTCModel()
    warm_start(wrap(transducer), wrap(ctc))
    assert torch.equal(transducer.encoder.weight_hh_l0, ctc.encoder.weight_hh_l0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["output.weight", "embedding.weight", "feature_mean"])
@pytest.mark.parametrize("decoding", DECODINGS)
def test_a_model_with_weights_that_are_not_finite_is_refused(model, strings, decoding, name, value):
    spoiled = copy.deepcopy(model)
    spoiled.state_dict()[name].view(-1)[-1] = value
    with pytest.raises(ArgumentError, match=f"model has NaN or infinity in {name}: expected"):
        DECODINGS[decoding](nn.DataParallel(spoiled), strings)


@pytest.mark.parametrize("decoding", CTC_DECODINGS)
def test_a_ctc_model_with_weights_that_are_not_finite_is_refused(ctc, strings, decoding):
    spoiled = copy.deepcopy(ctc)
    spoiled.output.bias.data[0] = float("nan")
    with pytest.raises(ArgumentError, match="model has NaN or infinity in output.bias: expected"):
        CTC_DECODINGS[decoding](spoiled, strings)


def test_weights_are_checked_once_a_call(model, strings, monkeypatch):
    checks = []
    monkeypatch.setattr(transducer, "non_finite", lambda tensors: checks.append(len(tensors)))
    for name, decode in DECODINGS.items():
        decode(model, strings)
        assert checks == [len([*model.parameters(), *model.buffers()])], name
        checks.clear()


def test_large_weights_are_finite(model, strings):
    large = copy.deepcopy(model)
    large.output.bias.data[3:5] = torch.tensor([3e38, 3.1e38])  # their sum is infinite
    assert set(" ".join(transcribe(large, strings)).split()) == {"four"}


@pytest.mark.parametrize("decoding", DECODINGS)
def test_what_is_no_transducer_is_named(ctc, strings, decoding):
    for stranger, kind in ((ctc, "CTCModel"), (nn.Linear(2, 2), "Linear"), (None, "NoneType")):
        with pytest.raises(ArgumentError, match=f"model is a {kind}: expected a Transducer"):
            DECODINGS[decoding](stranger, strings)


def test_what_is_no_ctc_model_is_named(model, strings):
    with pytest.raises(ArgumentError, match="model is a Transducer: expected a CTCModel"):
        ctc_transcribe(model, strings)
    task = CTCTask(batch_size=4)
    batch = next(task.batches("train", np.random.default_rng(0)))
    with pytest.raises(ArgumentError, match="model is a Linear: expected a CTCModel"):
        task.loss(nn.Linear(2, 2), batch)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (None, "features is None: expected an array or a sequence"),
        (["seven.wav"], "features is a str"),
        ([[[1.0] * 13] * 3, [[1.0] * 12] * 3], r"features\[1\] have shape \(3, 12\)"),
        ([[[1.0] * 13] * 3, [[np.nan] * 13] * 3], r"features\[1\] contain NaN or infinity"),
    ],
)
def test_features_that_are_none_are_named(model, ctc, features, message):
    for decode in (lambda: transcribe(model, features), lambda: ctc_transcribe(ctc, features)):
        with pytest.raises(ArgumentError, match=message):
            decode()


class OtherInTraining(Transducer):
    """A Transducer that does not hear its input in training mode."""

    def encode(self, features, state=None):
        return super().encode(features if not self.training else 0 * features + 100.0, state)


@pytest.mark.parametrize("method", ["evaluate", "errors"])
@pytest.mark.parametrize("of", [DigitTask, CTCTask])
def test_a_task_evaluates_in_evaluation_mode_and_restores_the_mode(model, ctc, of, method):
    modes = []

    class Watched(type(model if of is DigitTask else ctc)):
        def encode(self, *given):
            modes.append(self.training)
            return super().encode(*given)

    task = of()
    watched = Watched(task.config)
    watched.load_state_dict((model if of is DigitTask else ctc).state_dict())
    watched.train()
    watched.output.eval()  # a part that is not trained stays as it is
    getattr(task, method)(watched, "dev")
    assert modes and not any(modes)
    assert watched.training and watched.encoder.training and not watched.output.training


@pytest.mark.parametrize("name", ["transcribe", "beam", "emissions", "align"])
def test_decoding_uses_evaluation_mode_and_restores_the_mode(model, strings, name):
    other = OtherInTraining(model.config)
    other.load_state_dict(model.state_dict())
    other.train()
    assert DECODINGS[name](other, strings) == DECODINGS[name](model, strings)
    assert other.training and other.encoder.training
