import copy

import numpy as np
import pytest
import torch
from blobs import Blobs

from cspkit.asr import DigitTask, load_transducer, save_transducer
from cspkit.pruning import CSP, GMP, PRUNERS, prunable_weights, prune
from cspkit.pruning.budget import keep_largest, kth_largest, masks_of_largest
from cspkit.pruning.schedule import polynomial_sparsity
from cspkit.training import train

TOTAL = 10 * 40 + 40 * 40 + 40 * 5


@pytest.fixture(scope="module")
def task():
    return Blobs()


@pytest.fixture(scope="module")
def dense(task):
    model = task.new_model()
    train(model, task, 200, rng=np.random.default_rng(0), rate=1e-2)
    return model


def test_the_schedule_starts_at_zero_ends_at_s_and_rises():
    s = [polynomial_sparsity(t, 100, 0.9, 6) for t in range(120)]
    assert s[0] == 0
    assert s[100:] == [0.9] * 20
    assert np.all(np.diff(s[:101]) > 0)
    assert s[50] == pytest.approx(0.9 * (1 - 0.5**6))


@pytest.mark.parametrize("k", [0, 1, 7, 12])
def test_keep_largest_keeps_exactly_k_even_with_ties(k):
    values = torch.tensor([[3.0, 1.0, 1.0, 1.0], [2.0, 1.0, 0.0, 0.0], [1.0, 3.0, 0.0, 0.0]])
    mask = keep_largest(values, k)
    assert int(mask.sum()) == k
    if 0 < k < 12:
        assert values[mask].min() >= values[~mask].max()


@pytest.mark.parametrize("kind", ["normal", "ties", "sorted", "periodic"])
@pytest.mark.parametrize("k", [1, 40, 3000, 30_001, 59_999, 60_000])
def test_kth_largest_is_exact(kind, k):
    torch.manual_seed(0)
    values = torch.randn(60_000)
    if kind == "ties":
        values = values.round(decimals=1)
    elif kind == "sorted":
        values = values.sort().values
    elif kind == "periodic":
        values = (torch.arange(60_000) % 37).float()
    assert kth_largest(values, k) == values.sort(descending=True).values[k - 1]


@pytest.mark.parametrize("budget", ["global", "uniform"])
@pytest.mark.parametrize("sparsity", [0.0, 0.333, 0.9, 0.9991])
def test_budgets_are_exact_to_one_weight(budget, sparsity):
    torch.manual_seed(0)
    weights = {"a": torch.randn(7, 11), "b": torch.randn(13, 3), "c": 9 * torch.randn(5, 5)}
    masks = masks_of_largest(weights, sparsity, budget)
    total = 7 * 11 + 13 * 3 + 5 * 5
    assert sum(int(m.sum()) for m in masks.values()) == total - round(sparsity * total)
    if budget == "uniform":
        for name, mask in masks.items():
            n = weights[name].numel()
            assert abs(int((~mask).sum()) - sparsity * n) <= 1
    else:
        kept = torch.cat([weights[n][m].abs() for n, m in masks.items()])
        cut = torch.cat([weights[n][~m].abs() for n, m in masks.items()])
        assert len(cut) == 0 or len(kept) == 0 or kept.min() >= cut.max()


@pytest.mark.parametrize("method", sorted(PRUNERS))
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.95])
def test_sparsity_is_exact_and_the_dense_model_untouched(task, dense, method, sparsity):
    before = copy.deepcopy(dense.state_dict())
    pruned = prune(dense, task, method, sparsity, steps=60)
    assert pruned.n_nonzero == TOTAL - round(sparsity * TOTAL)
    assert pruned.sparsity == pytest.approx(round(sparsity * TOTAL) / TOTAL)
    for name, weight in prunable_weights(pruned.model).items():
        assert torch.equal(weight != 0, pruned.masks[name])
    assert all(torch.equal(dense.state_dict()[n], t) for n, t in before.items())


@pytest.mark.parametrize("method", sorted(PRUNERS))
def test_a_classifier_survives_pruning(task, dense, method):
    settings = {"budget": "global"} if method == "narang" else {}
    pruned = prune(dense, task, method, 0.9, steps=300, **settings)
    assert (
        task.evaluate(pruned.model, "dev")["error"] <= task.evaluate(dense, "dev")["error"] + 0.05
    )


@pytest.mark.parametrize("method", ["csp", "dpf", "gmp", "l1-prox"])
def test_every_step_meets_the_schedule(task, dense, method):
    pruned = prune(dense, task, method, 0.9, steps=60, every=1, exponent=3)
    for row in pruned.log:
        s = polynomial_sparsity(row["step"], 40, 0.9, 3)
        assert row["sparsity"] == pytest.approx(round(s * TOTAL) / TOTAL)


@pytest.mark.parametrize(("method", "moves"), [(CSP, True), (GMP, False)])
def test_csp_moves_what_it_cuts_and_gmp_does_not(task, dense, method, moves):
    model = copy.deepcopy(dense)
    pruner = method(prunable_weights(model), 0.5, 30)
    seen = []
    train(
        model, task, 10, pruner=pruner, rng=np.random.default_rng(0), rate=1e-2,
        on_step=lambda row: seen.append(
            [(w.detach().clone(), pruner.masks[n]) for n, w in pruner.weights.items()]
        ),
    )  # fmt: skip
    for (before, was_in), (after, is_in) in zip(seen[8], seen[9], strict=True):
        cut = ~was_in & ~is_in
        assert int(cut.sum()) > 10
        moved = before[cut] != after[cut]
        assert bool(moved.float().mean() > 0.5) == moves
        assert moves or not moved.any()
        assert (before[cut] != 0).any()  # the values are kept, not set to zero


def test_the_gradient_is_taken_at_the_sparse_weights(task, dense):
    seen = []

    class Watching(Blobs):
        def loss(self, model, batch):
            weights = prunable_weights(model).values()
            seen.append(sum(int((w == 0).sum()) for w in weights) / TOTAL)
            return super().loss(model, batch)

    pruned = prune(dense, Watching(), "csp", 0.8, steps=30, mu=0.0, exponent=3)
    assert seen == pytest.approx([row["sparsity"] for row in pruned.log])


def test_a_cut_weight_can_come_back(task, dense):
    model = copy.deepcopy(dense)
    pruner = CSP(prunable_weights(model), 0.9, 200)
    history = []
    train(
        model, task, 200, pruner=pruner, rng=np.random.default_rng(0), rate=1e-2, schedule="cosine",
        on_step=lambda row: history.append(pruner.masks["2.weight"].clone()),
    )  # fmt: skip
    out_before = torch.stack([~mask for mask in history]).any(dim=0)
    assert int((history[-1] & out_before).sum()) > 0


def test_the_support_is_frozen_after_the_schedule(task, dense):
    model = copy.deepcopy(dense)
    pruner = CSP(prunable_weights(model), 0.9, 90)
    history = []
    train(
        model, task, 90, pruner=pruner, rng=np.random.default_rng(0), rate=1e-2,
        on_step=lambda row: history.append({n: m.clone() for n, m in pruner.masks.items()}),
    )  # fmt: skip
    for later in history[61:]:
        assert all(torch.equal(later[n], history[60][n]) for n in later)
    assert any(not torch.equal(history[30][n], history[60][n]) for n in history[60])


def test_with_mu_zero_no_reference_is_asked(task, dense):
    class Counting(Blobs):
        calls = 0

        def loss(self, model, batch):
            Counting.calls += 1
            return super().loss(model, batch)

    prune(dense, Counting(), "csp", 0.5, steps=5, mu=0.0)
    assert Counting.calls == 5
    prune(dense, Counting(), "csp", 0.5, steps=5)
    assert Counting.calls == 15


def test_two_runs_agree_to_the_bit(task, dense):
    first, second = (prune(dense, task, "csp", 0.9, steps=40) for _ in range(2))
    for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("method", sorted(PRUNERS))
def test_a_transducer_is_pruned_exactly_and_zeros_survive_the_file(tmp_path, method):
    task = DigitTask(batch_size=4)
    pruned = prune(task.new_model(0), task, method, 0.95, steps=6)
    assert pruned.n_nonzero == 331_264 - round(0.95 * 331_264)
    save_transducer(pruned.model, tmp_path / "pruned.safetensors")
    loaded = prunable_weights(load_transducer(tmp_path / "pruned.safetensors"))
    for name, mask in pruned.masks.items():
        assert torch.equal(loaded[name] != 0, mask)


def test_layers_can_be_named(task, dense):
    pruned = prune(dense, task, "gmp", 0.9, steps=20, layers=["2.*"])
    assert set(pruned.masks) == {"2.weight"}
    assert pruned.n_nonzero == 160
    assert bool((dict(pruned.model.named_parameters())["0.weight"] != 0).all())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sparsity": 1.2}, r"sparsity is 1.2: expected a number in \[0, 1\)"),
        ({"sparsity": 1.0}, "sparsity is 1.0"),
        ({"sparsity": -0.1}, "sparsity is -0.1"),
        ({"sparsity": float("nan")}, "sparsity is nan"),
        ({"method": "magic"}, "method is 'magic': expected one of .*gmp.*csp"),
        ({"layers": ["9.weight"]}, "layers has '9.weight': expected one of 0.weight"),
        ({"budget": "fair"}, "budget is 'fair'"),
        ({"exponent": 0}, "exponent is 0"),
        ({"end": 1.5}, "end is 1.5"),
        ({"every": 0}, "every is 0"),
        ({"steps": "a"}, "steps is 'a'"),
        ({"steps": 5.0}, "steps is 5.0"),
        ({"sparsity": "x"}, "sparsity is 'x'"),
    ],
)
def test_bad_arguments_are_named(task, dense, change, message):
    call = {"method": "csp", "sparsity": 0.5, "steps": 10} | change
    with pytest.raises(ValueError, match=message):
        prune(dense, task, **call)


def test_a_shared_weight_counts_once(task):
    model = task.new_model()
    model[4] = torch.nn.Linear(40, 40, bias=False)
    model[4].weight = model[2].weight
    weights = prunable_weights(model)
    assert list(weights) == ["0.weight", "2.weight"]


def test_a_model_with_nothing_to_prune_is_named(task):
    with pytest.raises(ValueError, match="ReLU has no weights"):
        prune(torch.nn.ReLU(), task, "csp", 0.5)
