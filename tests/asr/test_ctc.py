from itertools import product

import numpy as np
import pytest
import torch

from cspkit.arguments import ArgumentError
from cspkit.asr import Transducer, TransducerConfig, load_spoken_digits
from cspkit.asr.batch import Batch
from cspkit.asr.ctc import CTCModel, CTCTask, ctc_greedy, ctc_transcribe, warm_start
from cspkit.pruning import prune
from cspkit.training import Task, train

CONFIG = TransducerConfig(units=("a", "b"), encoder_size=8, encoder_layers=1)
BLANK = 2


class Fixed(torch.nn.Module):
    """A model whose logits are given."""

    config = CONFIG

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.as_tensor(logits, dtype=torch.float32))

    def forward(self, features):
        return self.logits[:, : features.shape[1] // 3]


def batch_of(targets, n_frames):
    """A batch with targets (a list for each utterance) and stacked frames."""
    longest = max(len(t) for t in targets)
    return Batch(
        features=torch.zeros(len(targets), 3 * max(n_frames), 13),
        feature_lengths=3 * torch.tensor(n_frames),
        targets=torch.tensor([t + [0] * (longest - len(t)) for t in targets]),
        target_lengths=torch.tensor([len(t) for t in targets]),
    )


def merged(path):
    kept = [u for i, u in enumerate(path) if i == 0 or path[i - 1] != u]
    return [u for u in kept if u != BLANK]


@pytest.fixture(scope="module")
def task():
    task = CTCTask()
    task.config = CONFIG  # two units; the corpus is not used
    return task


def test_the_loss_is_the_sum_over_all_paths_that_merge_to_the_labels(task):
    logits = torch.randn(3, 5, 3, generator=torch.Generator().manual_seed(0))
    targets, n_frames = [[0, 0, 1], [1], [0, 1]], [5, 2, 4]
    loss, outputs = task.loss(Fixed(logits), batch_of(targets, n_frames))
    costs = []
    for row, labels, S in zip(logits.double().softmax(-1), targets, n_frames, strict=True):
        paths = [p for p in product(range(3), repeat=S) if merged(p) == labels]
        total = sum(float(row[range(S), list(p)].prod()) for p in paths)
        costs.append(-np.log(total) / len(labels))
    assert loss.item() == pytest.approx(np.mean(costs), rel=1e-5)
    assert torch.equal(outputs, logits)


def test_labels_that_do_not_fit_into_the_frames_cost_nothing(task):
    # Two equal labels need a blank between them: three frames.
    logits = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(0))
    model = Fixed(logits)
    loss, _ = task.loss(model, batch_of([[0, 0], [0, 1]], [2, 2]))
    alone, _ = task.loss(Fixed(logits[1:]), batch_of([[0, 1]], [2]))
    assert loss.item() == pytest.approx(alone.item() / 2)
    loss.backward()
    assert model.logits.grad[0].abs().max() == 0
    assert model.logits.grad[1].abs().max() > 0


def test_greedy_decoding_merges_repeats_and_leaves_blanks_out():
    paths = [[0, 0, 2, 0, 1, 1, 2], [2, 2, 2, 1, 1, 0, 0], [2, 2, 2, 2, 2, 2, 2]]
    model = Fixed(torch.nn.functional.one_hot(torch.tensor(paths), 3))
    found = ctc_greedy(model, torch.zeros(3, 21, 13), 3 * torch.tensor([7, 5, 7]) + 2)
    assert found == [[0, 0, 1], [1], []]


def test_divergence_is_the_mean_over_the_valid_frames(task):
    p, q = torch.randn(2, 2, 4, 3, generator=torch.Generator().manual_seed(0))
    batch = batch_of([[0], [0]], [4, 2])
    kl = (p.softmax(-1) * (p.log_softmax(-1) - q.log_softmax(-1))).sum(-1)
    expected = (kl[0].sum() + kl[1, :2].sum()) / 6
    assert task.divergence(p, q, batch).item() == pytest.approx(expected.item(), rel=1e-5)
    q[1, 2:] += 5.0
    assert task.divergence(p, q, batch).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("filler", [float("nan"), float("inf"), -float("inf")])
def test_padding_may_hold_anything(task, filler):
    logits = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    batch = batch_of([[0, 1], [1]], [5, 3])
    batch.targets[1, 1] = -1
    found = []
    for value in (0.0, filler):
        filled = logits.clone()
        filled[1, 3:] = value
        model = Fixed(filled)
        loss, outputs = task.loss(model, batch)
        divergence = task.divergence(filled.flip(2), outputs, batch)
        (loss + divergence).backward()
        found.append((loss, divergence, model.logits.grad))
    for clean, spoiled in zip(*found, strict=True):
        assert torch.equal(clean, spoiled)
    gradient = found[1][2]
    assert (gradient[1, 3:] == 0).all() and (gradient[1, :3] != 0).any()


def test_half_precision_is_computed_in_float32(task):
    logits = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    batch = batch_of([[0, 1], [1]], [5, 3])
    half, single = Fixed(logits), Fixed(logits)
    half.to(torch.bfloat16)
    losses = [task.loss(model, batch)[0] for model in (half, single)]
    assert losses[0].dtype == torch.float32 and torch.equal(*losses)
    divergence = task.divergence(logits.flip(2), logits, batch)
    assert divergence.dtype == torch.float32


def test_the_encoder_is_that_of_the_transducer():
    torch.manual_seed(0)
    transducer, ctc = Transducer(), CTCModel()
    ctc.set_normalisation(torch.linspace(-1, 1, 13), torch.linspace(1, 2, 13))
    joiner = transducer.joiner_encoder.weight.clone()
    features = torch.randn(2, 20, 13)
    before = transducer.encode(features)[0]
    warm_start(transducer, ctc)
    encoded = transducer.encode(features)[0]
    assert torch.equal(encoded, ctc.encode(features)[0])
    assert not torch.allclose(encoded, before)
    assert torch.equal(transducer.joiner_encoder.weight, joiner)
    # A copy: training one does not move the other.
    ctc.encoder.weight_hh_l0.data.zero_()
    assert torch.equal(transducer.encode(features)[0], encoded)


@pytest.mark.parametrize("change", [{"stack": 2}, {"encoder_layers": 1}, {"encoder_size": 64}])
def test_encoders_of_other_sizes_are_named(change):
    ((name, value),) = change.items()
    with pytest.raises(ArgumentError, match=f"ctc_model has {name} {value}: expected"):
        warm_start(Transducer(), CTCModel(TransducerConfig(**change)))


def test_it_trains_on_digits_and_is_pruned_with_the_common_loop():
    task = CTCTask(batch_size=8, config=TransducerConfig(encoder_size=32), augmentation=None)
    task.longest = lambda step: 1
    assert isinstance(task, Task)
    model = task.new_model(0)
    batches = task.batches("train", np.random.default_rng(9))
    held = [next(batches) for _ in range(8)]

    def cost():
        with torch.no_grad():
            return np.mean([task.loss(model, batch)[0].item() for batch in held])

    before = cost()
    train(model, task, 150, rng=np.random.default_rng(0), rate=1e-2)
    assert cost() < 0.5 * before
    pruned = prune(model, task, "csp", 0.5, steps=4, mu=1.0)
    n = sum(w.numel() for w in pruned.masks.values())
    assert pruned.n_nonzero == n - round(0.5 * n)
    assert pruned.log[-1]["divergence"] > 0


def test_evaluation_uses_its_own_decoding(task):
    task = CTCTask()
    model = task.new_model(0)
    model.output.bias.data[model.config.blank] = 100.0
    assert task.evaluate(model, "dev")["wer"] == 1.0  # nothing but blanks: all words deleted


def test_one_utterance_and_many_agree():
    task = CTCTask()
    model = task.new_model(0)
    model.output.weight.data *= 30  # so that an untrained model says something
    features = [r.features for r in load_spoken_digits().recordings[:40:8]]
    texts = ctc_transcribe(model, features, batch_size=2)
    assert texts == [ctc_transcribe(model, f) for f in features]
    assert len(set(texts)) > 1


@pytest.mark.parametrize("shape", [(2, 13), (9, 12), (13,)])
def test_features_that_are_none_are_refused(shape):
    with pytest.raises(ArgumentError, match="features"):
        ctc_transcribe(CTCModel(), [np.zeros(shape)])


def test_errors_and_words_of_utterances_add_up_to_the_rate():
    task = CTCTask(batch_size=4)
    model = task.new_model(0)
    errors, words = task.errors(model, "dev")
    assert errors.sum() / words.sum() == pytest.approx(task.evaluate(model, "dev")["wer"])
