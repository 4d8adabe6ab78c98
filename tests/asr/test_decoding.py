import itertools

import numpy as np
import pytest
import torch

from cspkit.arguments import ArgumentError
from cspkit.asr import (
    DigitTask,
    Emission,
    Transducer,
    TransducerConfig,
    beam_search,
    emissions,
    greedy,
    latencies,
    load_spoken_digits,
    load_transducer,
    mfcc,
    search,
    transcribe,
    word_error_rate,
)
from cspkit.asr.corpus import data_folder
from cspkit.asr.search import MAX_SYMBOLS, beam_paths, greedy_paths


@pytest.fixture(scope="module")
def task():
    return DigitTask()


@pytest.fixture(scope="module")
def dense():
    return load_transducer(data_folder() / "models" / "dense_fold0.safetensors")


def tiny(units, seed=0, sharpness=4.0):
    """A random model with few units, of which no sequence is hopeless."""
    torch.manual_seed(seed)
    model = Transducer(
        TransducerConfig(units, 3, 1, 1, 8, embedding_size=4, predictor_size=8, joiner_size=8)
    )
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(sharpness)
    return model.eval()


@torch.no_grad()
def summed(model, features, labels):
    """Probability of labels, over all alignments with at most MAX_SYMBOLS labels a frame."""
    logits = model(features, torch.tensor([labels], dtype=torch.long))[0].double()
    p, blank = logits.softmax(-1), model.config.blank

    def paths(s, u, emitted):
        if s == len(p):
            return float(u == len(labels))
        total = float(p[s, u, blank]) * paths(s + 1, u, 0)
        if u < len(labels) and emitted < MAX_SYMBOLS:
            total += float(p[s, u, labels[u]]) * paths(s, u + 1, emitted + 1)
        return total

    return paths(0, 0, 0)


@pytest.mark.parametrize("seed", range(4))
def test_a_beam_that_holds_everything_finds_the_most_probable_labels(seed, monkeypatch):
    monkeypatch.setattr(search, "MARGIN", float("inf"))
    model = tiny(("a", "b"), seed)
    features = torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(seed))
    every = itertools.chain.from_iterable(
        itertools.product((0, 1), repeat=n) for n in range(2 * MAX_SYMBOLS + 1)
    )
    probabilities = {labels: summed(model, features, list(labels)) for labels in every}
    best = max(probabilities, key=probabilities.get)
    paths, log_p = beam_paths(model, features, torch.tensor([2]), width=130)
    assert tuple(label for label, _ in paths[0]) == best
    assert log_p.exp().item() == pytest.approx(probabilities[best], rel=1e-4)
    # Narrow beams lose alignments, so they can only find less.
    narrow = beam_paths(model, features, torch.tensor([2]), width=2)[1]
    assert narrow.item() <= log_p.item() + 1e-6


def test_alignments_of_equal_labels_are_added_up():
    # One unit, equal logits: 1/2 for each arc. After three frames "a" has three alignments.
    model = tiny(("a",))
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.zero_()
    paths, log_p = beam_paths(model, torch.zeros(1, 3, 3), torch.tensor([3]), width=50)
    assert [label for label, _ in paths[0]] in ([0], [0, 0])  # 3/16 and 6/32
    assert log_p.exp().item() == pytest.approx(3 / 16)


def test_what_the_margin_gives_up_is_too_little_to_matter(monkeypatch):
    model = tiny(("a", "b", "c"), seed=1)
    features = torch.randn(6, 9, 3, generator=torch.Generator().manual_seed(0))
    lengths = torch.full((6,), 9)
    log_p = beam_paths(model, features, lengths, 10)[1]
    monkeypatch.setattr(search, "MARGIN", float("inf"))
    assert torch.allclose(log_p, beam_paths(model, features, lengths, 10)[1], atol=1e-2)


@pytest.mark.parametrize("width", [2, 5])
def test_beams_in_a_batch_are_those_alone(width):
    model = tiny(("a", "b", "c"), seed=1)
    features = torch.randn(6, 9, 3, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([9, 3, 1, 7, 9, 4])
    together = beam_search(model, features, lengths, width)
    alone = [
        beam_search(model, features[n : n + 1, :T], torch.tensor([T]), width)[0]
        for n, T in enumerate(lengths.tolist())
    ]
    assert together == alone
    assert any(together)


def test_a_wide_beam_is_more_probable_than_greedy():
    model = tiny(("a", "b", "c"), seed=3, sharpness=2.0)
    features = torch.randn(8, 6, 3, generator=torch.Generator().manual_seed(1))
    lengths = torch.full((8,), 6)
    found = beam_search(model, features, lengths, width=20)
    by_greedy = greedy(model, features, lengths)
    assert found != by_greedy
    gain = [
        summed(model, features[n : n + 1], found[n])
        - summed(model, features[n : n + 1], by_greedy[n])
        for n in range(8)
    ]
    assert min(gain) > -1e-9 and max(gain) > 1e-3


def test_on_the_test_strings_of_fold_0_beam_is_not_worse_than_greedy(task, dense):
    strings = task.corpus.strings("test", fold=0)
    features, references = [s.features for s in strings], [s.text for s in strings]
    rates = [word_error_rate(references, transcribe(dense, features, beam=w)) for w in (1, 5)]
    assert rates[1] <= rates[0] < 0.03


@pytest.mark.parametrize("decode", [greedy, beam_search])
def test_a_model_gone_astray_is_bounded(decode):
    model = tiny(("a", "b"))
    with torch.no_grad():
        model.output.bias[1] = 1e3
    (labels,) = decode(model, torch.zeros(1, 10, 3), torch.tensor([10]))
    assert set(labels) == {1}
    # Every alignment pays for its blanks, so that a beam need not fill its frames.
    assert len(labels) == 10 * MAX_SYMBOLS or (decode is beam_search and 0 < len(labels) <= 30)


@pytest.mark.parametrize("beam", [1, 5])
def test_a_unit_is_emitted_when_its_frame_is_complete_and_not_before(task, dense, beam):
    string = next(s for s in task.corpus.strings("dev") if len(s.text.split()) == 4)
    found = emissions(dense, string.features, beam=beam)
    assert " ".join(e.unit for e in found) == transcribe(dense, string.features, beam=beam)
    times = [e.time for e in found]
    assert times == sorted(times)
    assert 0 < times[0] and times[-1] <= len(string.features) * 0.025
    if beam == 1:
        for i, emission in enumerate(found):
            n_frames = round(emission.time / 0.025)
            assert n_frames % 3 == 0
            heard = transcribe(dense, string.features[:n_frames])
            assert heard.split()[: i + 1] == [e.unit for e in found[: i + 1]]
            if n_frames > 3:
                assert len(transcribe(dense, string.features[: n_frames - 1]).split()) <= i


def test_emissions_of_many_are_those_of_each(task, dense):
    strings = task.corpus.strings("dev")[:5]
    many = emissions(dense, [s.features for s in strings])
    assert many == [emissions(dense, s.features) for s in strings]
    assert dense.config.units[many[0][0].label] == many[0][0].unit


def test_a_beam_emits_near_where_greedy_does(task, dense):
    strings = task.corpus.strings("dev")[:40]
    features = [torch.from_numpy(s.features) for s in strings]
    padded = torch.nn.utils.rnn.pad_sequence(features, batch_first=True)
    lengths = torch.tensor([len(f) for f in features])
    by_greedy = greedy_paths(dense, padded, lengths)
    by_beam, _ = beam_paths(dense, padded, lengths, 5)
    shifts = [
        b[1] - g[1]
        for one, other in zip(by_greedy, by_beam, strict=True)
        if len(one) == len(other)
        for g, b in zip(one, other, strict=True)
    ]
    assert len(shifts) > 100
    assert np.abs(shifts).mean() < 0.5


@pytest.mark.parametrize("beam", [0, -1, 2.0, "5"])
def test_a_beam_is_a_positive_integer(dense, beam):
    with pytest.raises(ArgumentError, match=f"beam is {beam!r}: expected a whole number"):
        transcribe(dense, np.zeros((9, 13), np.float32), beam=beam)
    with pytest.raises(ArgumentError, match=f"width is {beam!r}"):
        beam_search(dense, torch.zeros(1, 9, 13), torch.tensor([9]), beam)


@pytest.mark.parametrize("beam", [1, 5])
@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.full((9, 13), np.inf), "NaN or infinity"),
        (np.zeros((9, 12)), r"shape \(9, 12\)"),
        (np.zeros((2, 13)), r"T >= 3"),
    ],
)
def test_bad_features_are_refused(dense, features, message, beam):
    for decode in (transcribe, emissions):
        with pytest.raises(ArgumentError, match=message):
            decode(dense, features, beam=beam)


@pytest.mark.parametrize("beam", [1, 5])
def test_silence_holds_no_words(dense, beam):
    assert transcribe(dense, mfcc(np.zeros(12_000)), beam=beam) == ""
    assert transcribe(dense, [], beam=beam) == []
    with pytest.raises(ArgumentError, match="batch_size is 0"):
        transcribe(dense, [np.zeros((9, 13))], batch_size=0, beam=beam)


def test_latency_is_the_time_from_the_end_of_a_word_to_its_emission():
    corpus = load_spoken_digits()
    string = next(s for s in corpus.strings("dev") if len(s.text.split()) == 3)
    lengths = [
        len(r.features) for name in string.id.split("+") for r in corpus.recordings if r.id == name
    ]
    ends = corpus.word_ends(string)
    assert ends == pytest.approx(np.cumsum(lengths) * 0.025)
    assert len(string.features) * 0.025 == pytest.approx(ends[-1])
    emitted = [
        Emission(0, "zero", end + late) for end, late in zip(ends, (0.1, -0.05, 0), strict=True)
    ]
    assert latencies(emitted, ends) == pytest.approx([0.1, -0.05, 0])
    with pytest.raises(ArgumentError, match="emitted has 2 units and word_ends 3 words"):
        latencies(emitted[:2], ends)
