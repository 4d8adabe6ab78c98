import os
from pathlib import Path

import numpy as np
import pytest
import torch

from cspkit.arguments import ArgumentError
from cspkit.asr import (
    DigitTask,
    StreamingMFCC,
    StreamingRecogniser,
    Transducer,
    TransducerConfig,
    load_audio,
    load_transducer,
    mfcc,
    transcribe,
    word_error_rate,
)
from cspkit.asr.corpus import data_folder
from cspkit.asr.search import MAX_SYMBOLS

FSDD = os.environ.get("CSPKIT_FSDD")
needs_audio = pytest.mark.skipif(
    not FSDD, reason="CSPKIT_FSDD is not set: it names the folder of the 3,000 recordings"
)


@pytest.fixture(scope="module")
def task():
    return DigitTask()


@pytest.fixture(scope="module")
def dense():
    return load_transducer(data_folder() / "models" / "dense_fold0.safetensors")


def pieces(values, rng, longest):
    """Cut values into pieces of 0 to `longest`; of exactly 1 where `longest` is 1."""
    first = 0
    while first < len(values):
        length = 1 if longest == 1 else int(rng.integers(0, longest + 1))
        yield values[first : first + length]
        first += length


def streamed(recogniser, features, longest=7, rng=None):
    words = []
    for piece in pieces(features, rng or np.random.default_rng(0), longest):
        words += recogniser.step(piece)
    return " ".join(words + recogniser.finish())


def front_end(samples, sample_rate=8000, longest=900, rng=None):
    """What StreamingMFCC makes of samples that come in random pieces."""
    front = StreamingMFCC(sample_rate)
    frames = [
        front.step(piece) for piece in pieces(samples, rng or np.random.default_rng(0), longest)
    ]
    return np.concatenate([*frames, front.finish()])


def state_size(streaming):
    """Numbers that a streaming object keeps, beside its model."""

    def size(value):
        if isinstance(value, torch.Tensor):
            return value.untyped_storage().nbytes()
        if isinstance(value, np.ndarray):
            return value.nbytes if value.base is None else value.base.nbytes
        if isinstance(value, list | tuple):
            return sum(map(size, value))
        if hasattr(value, "__dict__") and not isinstance(value, torch.nn.Module):
            return sum(map(size, vars(value).values()))
        return 0

    return size(streaming)


def test_the_whole_test_set_has_the_words_of_offline_decoding(task, dense):
    strings = task.corpus.strings("test", fold=0)
    recogniser, rng = StreamingRecogniser(dense), np.random.default_rng(0)
    online = [streamed(recogniser, s.features, longest=9, rng=rng) for s in strings]
    assert online == transcribe(dense, [s.features for s in strings])


@pytest.mark.parametrize("longest", [1, 2, 5, 1000])
def test_joiner_outputs_are_those_of_offline_decoding(task, dense, monkeypatch, longest):
    outputs, join = [], dense.join

    def recorded(encoded, predicted):
        logits = join(encoded, predicted)
        outputs.append(logits.flatten().clone())
        return logits

    monkeypatch.setattr(dense, "join", recorded)
    recogniser = StreamingRecogniser(dense)
    for string in task.corpus.strings("test", fold=0)[::25]:
        outputs.clear()
        words = streamed(recogniser, string.features, longest)
        online = torch.stack(outputs)
        outputs.clear()
        assert words == transcribe(dense, string.features)
        offline = torch.stack(outputs)
        assert online.shape == offline.shape
        assert (online - offline).abs().max() <= 1e-5


def test_words_come_as_soon_as_their_frames_are_there(task, dense):
    string = next(s for s in task.corpus.strings("dev") if len(s.text.split()) == 2)
    recogniser = StreamingRecogniser(dense)
    heard = ""
    for t, frame in enumerate(string.features[:, None]):
        heard = " ".join([*heard.split(), *recogniser.step(frame)])
        if t >= 2:
            assert heard == transcribe(dense, string.features[: t + 1])
    assert heard


def test_ten_minutes_stream_in_constant_memory(task, dense):
    rng = np.random.default_rng(0)
    recordings = task.corpus.split("test", fold=0)
    speech = np.concatenate([recordings[i].features for i in rng.integers(540, size=1600)])[:24000]
    assert len(speech) * 0.025 == 600
    recogniser = StreamingRecogniser(dense)
    words, sizes = [], []
    for first in range(0, len(speech), 60):
        words += recogniser.step(speech[first : first + 60])
        sizes.append(state_size(recogniser))
    assert len(set(sizes)) == 1
    assert sizes[0] < 20_000
    assert words == transcribe(dense, speech).split()
    assert len(words) > 10


def test_ten_minutes_of_audio_stream_in_constant_memory():
    rng, sizes, n_frames = np.random.default_rng(0), set(), 0
    front = StreamingMFCC()
    second = 0.1 * rng.standard_normal(8000)
    for _ in range(600):
        n_frames += len(front.step(second))
        sizes.add(state_size(front))
    assert n_frames + len(front.finish()) == 24001
    assert max(sizes) < 10_000
    front = StreamingMFCC(44100)
    for _ in range(20):
        front.step(0.1 * rng.standard_normal(44100))
    assert state_size(front) < 20_000


def test_a_model_of_characters_gives_whole_words():
    torch.manual_seed(3)
    model = Transducer(TransducerConfig(units=("a", "b", " "))).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(4.0)
    features = 2 * torch.randn(90, 13, generator=torch.Generator().manual_seed(0)).numpy()
    offline = transcribe(model, features)
    assert len(offline.split()) >= 3
    for longest in (1, 10, 90):
        assert streamed(StreamingRecogniser(model), features, longest) == offline


def test_a_recogniser_starts_afresh_after_finish(task, dense):
    first, second = (s.features for s in task.corpus.strings("dev")[:2])
    recogniser = StreamingRecogniser(dense)
    streamed(recogniser, first)
    recogniser.step(second[:1])
    recogniser.finish()
    assert streamed(recogniser, second) == transcribe(dense, second)


def test_less_than_a_stack_and_nothing_have_no_words(dense):
    recogniser = StreamingRecogniser(dense)
    assert recogniser.finish() == []
    assert recogniser.step(np.zeros((2, 13))) == []
    assert recogniser.step(np.zeros((0, 13))) == []
    assert recogniser.finish() == []


def test_a_model_gone_astray_is_bounded():
    model = Transducer()
    with torch.no_grad():
        model.output.bias[3] = 1e3
    assert StreamingRecogniser(model).step(np.zeros((30, 13))) == ["three"] * 10 * MAX_SYMBOLS


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros(13), r"frames have shape \(13,\): expected \(T, 13\)"),
        (np.zeros((3, 12)), r"frames have shape \(3, 12\)"),
        (np.full((3, 13), np.nan), "frames contain NaN"),
    ],
)
def test_bad_frames_are_refused_and_change_nothing(task, dense, frames, message):
    features = task.corpus.strings("dev")[0].features
    recogniser = StreamingRecogniser(dense)
    words = recogniser.step(features[:20])
    with pytest.raises(ArgumentError, match=message):
        recogniser.step(frames)
    words += recogniser.step(features[20:])
    assert " ".join(words) == transcribe(dense, features)


@pytest.mark.parametrize("sample_rate", [8000, 11025, 16000, 44100])
@pytest.mark.parametrize("seconds", [0.026, 0.05, 0.2013, 1.0])
def test_the_front_end_equals_mfcc_where_the_loudest_comes_first(sample_rate, seconds):
    rng = np.random.default_rng(0)
    n_samples = int(seconds * sample_rate)
    # A click, then noise that falls to 100 dB under it: most of it is under the floor.
    samples = rng.standard_normal(n_samples) * 10 ** np.linspace(-1, -6, n_samples)
    samples[: n_samples // 4] *= 10
    offline = mfcc(samples, sample_rate)
    for longest in (1000, 97):
        online = front_end(samples, sample_rate, longest)
        assert online.shape == offline.shape and online.dtype == np.float32
        np.testing.assert_allclose(online, offline, atol=1e-3)


def test_the_front_end_does_not_depend_on_the_pieces():
    samples = np.random.default_rng(0).standard_normal(3000) * np.geomspace(1e-6, 1, 3000)
    whole = front_end(samples, longest=3000)
    for longest in (1, 7, 400):
        np.testing.assert_allclose(front_end(samples, longest=longest), whole, atol=1e-3)


def test_the_floor_follows_the_loudest_value_so_far():
    rng = np.random.default_rng(0)
    samples = 1e-5 * rng.standard_normal(8000)
    samples[4000:4400] += 0.5 * rng.standard_normal(400)
    online, offline = front_end(samples), mfcc(samples)
    difference = np.abs(online - offline).max(axis=1)
    assert difference[:18].min() > 10  # quiet bands, which offline are under the floor
    assert difference[22:].max() < 1e-3  # the click has come: nothing differs any more


@pytest.mark.parametrize("n_samples", [0, 1, 200])
def test_too_little_audio_has_no_frames(n_samples):
    front = StreamingMFCC()
    assert front.step(np.zeros(n_samples)).shape == (0, 13)
    assert front.finish().shape == (0, 13)
    assert len(front.step(np.zeros(800))) + len(front.finish()) == 5


def test_silence_alone_streams():
    np.testing.assert_array_equal(front_end(np.zeros(4000)), mfcc(np.zeros(4000)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: StreamingMFCC(0), "sample_rate is 0"),
        (lambda: StreamingMFCC(8000.5), "sample_rate is 8000.5"),
        (lambda: StreamingMFCC().step(np.zeros((9, 2))), r"samples have shape \(9, 2\)"),
        (lambda: StreamingMFCC().step([0.0, np.inf]), "samples contain NaN or infinity"),
    ],
)
def test_bad_audio_is_refused(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


@needs_audio
def test_the_running_floor_costs_no_words(task, dense):
    online, offline, references = [], [], []
    for string in task.corpus.strings("test", fold=0):
        audio = [load_audio(Path(FSDD) / f"{name}.wav")[0] for name in string.id.split("+")]
        samples = np.concatenate(audio)
        offline.append(mfcc(samples))
        online.append(front_end(samples))
        references.append(string.text)
    worst = np.concatenate(
        [np.abs(a - b).max(axis=1) for a, b in zip(online, offline, strict=True)]
    )
    assert 0.15 < np.mean(worst > 1e-3) < 0.25  # before the loudest frame of a string
    assert np.median(worst[worst > 1e-3]) < 1.1
    rates = [word_error_rate(references, transcribe(dense, x)) for x in (online, offline)]
    assert rates[0] == rates[1]
