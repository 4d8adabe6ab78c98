import itertools

import numpy as np
import pytest
import torch

from cspkit.arguments import ArgumentError
from cspkit.asr import (
    DigitTask,
    align,
    emissions,
    lattice_posteriors,
    load_transducer,
    rnnt_loss,
)
from cspkit.asr.corpus import data_folder


@pytest.fixture(scope="module")
def dense():
    return load_transducer(data_folder() / "models" / "dense_fold0.safetensors")


def random_case(T, U, K=5, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(T, U + 1, K, generator=generator, dtype=dtype)
    return logits, torch.randint(0, K - 1, (U,), generator=generator)


def alignments(logits, labels, blank):
    """Every alignment: the emission frames of the labels, the cells, the log probability."""
    log_p = logits.double().log_softmax(-1)
    T, U = len(logits), len(labels)
    for frames in itertools.combinations_with_replacement(range(T), U):
        total, by_label, by_blank = 0.0, [], []
        u = 0
        for t in range(T):
            while u < U and frames[u] == t:
                total += float(log_p[t, u, labels[u]])
                by_label.append((t, u))
                u += 1
            total += float(log_p[t, u, blank])
            by_blank.append((t, u))
        yield frames, by_label, by_blank, total


@pytest.mark.parametrize(("T", "U"), [(1, 1), (1, 3), (4, 0), (4, 1), (3, 3), (5, 4)])
@pytest.mark.parametrize("blank", [-1, 0])
def test_posteriors_are_sums_over_all_alignments(T, U, blank):
    logits, labels = random_case(T, U)
    labels = labels + (blank == 0)
    every = list(alignments(logits, labels.tolist(), blank))
    total = np.logaddexp.reduce([score for *_, score in every])
    blanks, emitted = np.zeros((T, U + 1)), np.zeros((T, U + 1))
    for _, by_label, by_blank, score in every:
        for t, u in by_label:
            emitted[t, u] += np.exp(score - total)
        for t, u in by_blank:
            blanks[t, u] += np.exp(score - total)

    lattice = lattice_posteriors(logits, labels, blank=blank)
    np.testing.assert_allclose(lattice.blank, blanks, atol=1e-12)
    np.testing.assert_allclose(lattice.label, emitted, atol=1e-12)
    np.testing.assert_allclose(lattice.gamma, blanks + emitted, atol=1e-12)
    assert lattice.log_probability == pytest.approx(total)
    frames, *_, best = max(every, key=lambda alignment: alignment[-1])
    assert tuple(lattice.path) == frames
    assert lattice.path_log_probability == pytest.approx(best)


def test_gamma_is_a_distribution_over_every_antidiagonal():
    logits, labels = random_case(30, 9, dtype=torch.float32)
    gamma = lattice_posteriors(logits, labels).gamma
    for d in range(30 + 9):
        cells = [gamma[d - u, u] for u in range(10) if 0 <= d - u < 30]
        assert sum(cells) == pytest.approx(1, abs=1e-6)


def test_the_loss_and_its_gradient_come_from_the_same_lattice():
    logits, labels = random_case(12, 4)
    logits.requires_grad_()
    loss = rnnt_loss(logits[None], labels[None], torch.tensor([12]), torch.tensor([4]))
    loss.backward()
    lattice = lattice_posteriors(logits.detach(), labels)
    assert lattice.log_probability == pytest.approx(-loss.item())
    p_blank = logits.detach().softmax(-1)[..., -1].numpy()
    expected = lattice.gamma * p_blank - lattice.blank
    np.testing.assert_allclose(logits.grad[..., -1].numpy(), expected, atol=1e-10)


def test_padding_is_cut_off():
    logits, labels = random_case(9, 4)
    cut = lattice_posteriors(logits, labels, 6, 2)
    alone = lattice_posteriors(logits[:6, :3], labels[:2])
    assert cut.gamma.shape == (6, 3)
    np.testing.assert_array_equal(cut.gamma, alone.gamma)
    np.testing.assert_array_equal(cut.path, alone.path)
    assert cut.log_probability == alone.log_probability


@pytest.mark.parametrize("filler", [float("nan"), float("inf"), -float("inf")])
def test_padding_may_hold_anything(filler):
    logits, labels = random_case(9, 4)
    alone = lattice_posteriors(logits[:6, :3], labels[:2])
    logits[6:], logits[:, 3:], labels[2:] = filler, filler, -1
    cut = lattice_posteriors(logits, labels, 6, 2)
    for found, expected in zip(cut, alone, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_accepted(dtype):
    logits, labels = random_case(6, 3, dtype=torch.float32)
    half = lattice_posteriors(logits.to(dtype), labels)
    single = lattice_posteriors(logits.to(dtype).float(), labels)
    np.testing.assert_array_equal(half.gamma, single.gamma)
    assert half.gamma.dtype == np.float64


def test_a_trained_model_aligns_words_where_it_emits_them(dense):
    string = next(s for s in DigitTask().corpus.strings("dev") if len(s.text.split()) == 5)
    lattice = align(dense, string.features, string.text)
    assert lattice.gamma.shape == (len(string.features) // 3, 6)
    found = emissions(dense, string.features)
    assert " ".join(e.unit for e in found) == string.text
    frames = [round(e.time / 0.075) - 1 for e in found]
    assert np.abs(lattice.path - frames).max() <= 3
    # The mean frame of each label under the posterior is near the best path's.
    mean = (np.arange(len(lattice.label))[:, None] * lattice.label[:, :5]).sum(axis=0)
    assert np.abs(mean - lattice.path).max() <= 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda lg, la: lattice_posteriors(lg[None], la), r"logits have shape \(1, 6, 4, 5\)"),
        (lambda lg, la: lattice_posteriors(lg, la[:2]), r"targets have shape \(1, 2\)"),
        (lambda lg, la: lattice_posteriors(lg, la + 9), "targets contain"),
        (lambda lg, la: lattice_posteriors(lg, la, 7), "logit_lengths are from 7 to 7"),
        (lambda lg, la: lattice_posteriors(lg, la, 6, 4), "target_lengths are from 4 to 4"),
        (lambda lg, la: lattice_posteriors(lg, la, 2.5), "logit_length is 2.5"),
        (lambda lg, la: lattice_posteriors(lg, la, 6, "3"), "target_length is '3'"),
        (lambda lg, la: lattice_posteriors(lg.numpy(), la), "logits is a ndarray: expected a"),
        (lambda lg, la: lattice_posteriors(lg, la.tolist()), "targets is a list: expected a"),
        (lambda lg, la: lattice_posteriors(lg * np.nan, la), "logits contain NaN"),
        (
            lambda lg, la: lattice_posteriors(lg.index_fill(2, torch.tensor([4]), -np.inf), la),
            "give the targets probability zero",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ArgumentError, match=message):
        call(*random_case(6, 3))


def test_align_refuses_what_is_no_utterance_of_the_model(dense):
    with pytest.raises(ArgumentError, match="'ten'"):
        align(dense, np.zeros((9, 13), np.float32), "one ten")
    with pytest.raises(ArgumentError, match="T >= 3"):
        align(dense, np.zeros((2, 13), np.float32), "one")
    with pytest.raises(ArgumentError, match="NaN"):
        align(dense, np.full((9, 13), np.nan, np.float32), "one")
