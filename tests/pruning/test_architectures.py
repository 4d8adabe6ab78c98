"""Models of other people's kinds: a Conformer block, a Transformer encoder, a BatchNorm network."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from cspkit.pruner import kl_divergence
from cspkit.pruning import PRUNERS, prunable_weights, prune
from cspkit.training import Task, train

STEPS, SPARSITY = 12, 0.8
pytestmark = pytest.mark.filterwarnings("ignore:the weights to prune are 3,204")


class Conformer(nn.Module):
    """One block over a convolutional front end, (N, T, 8) -> (N, 3)."""

    def __init__(self):
        super().__init__()
        self.front = nn.Conv2d(1, 4, 3, stride=2, padding=1)  # halves time and features
        self.project = nn.Linear(16, 16)
        self.position = nn.Parameter(0.1 * torch.randn(1, 5, 16))
        self.feed = nn.Sequential(
            nn.LayerNorm(16), nn.Linear(16, 32), nn.SiLU(), nn.Dropout(0.1), nn.Linear(32, 16)
        )
        self.norm = nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.pointwise_in = nn.Conv1d(16, 32, 1)
        self.depthwise = nn.Conv1d(16, 16, 3, padding=1, groups=16)
        self.batch_norm = nn.BatchNorm1d(16)
        self.pointwise_out = nn.Conv1d(16, 16, 1)
        self.output = nn.Linear(16, 3)

    def forward(self, x):
        maps = self.front(x[:, None]).relu()  # (N, 4, 5, 4)
        x = self.project(maps.transpose(1, 2).flatten(2)) + self.position
        x = x + 0.5 * self.feed(x)
        normed = self.norm(x)
        x = x + self.attention(normed, normed, normed, need_weights=False)[0]
        y = nn.functional.glu(self.pointwise_in(x.transpose(1, 2)), dim=1)
        y = nn.functional.silu(self.batch_norm(self.depthwise(y)))
        return self.output((x + self.pointwise_out(y).transpose(1, 2)).mean(dim=1))


class Transformer(nn.Module):
    """Two layers of torch's own encoder, (N, T, 8) -> (N, 3)."""

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(8, 16)
        layer = nn.TransformerEncoderLayer(16, 2, dim_feedforward=32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.output = nn.Linear(16, 3)

    def forward(self, x):
        return self.output(self.encoder(self.project(x)).mean(dim=1))


class Convolutions(nn.Sequential):
    """Images with batch norms, (N, T, 8) -> (N, 3)."""

    def __init__(self):
        super().__init__(
            nn.Unflatten(1, (1, 10)),
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 3),
        )


MODELS = {"conformer": Conformer, "transformer": Transformer, "batch norm": Convolutions}
WEIGHTS = {
    "conformer": {
        "front.weight": 4 * 9,
        "project.weight": 16 * 16,
        "feed.1.weight": 32 * 16,
        "feed.4.weight": 16 * 32,
        "attention.in_proj_weight": 3 * 16 * 16,
        "attention.out_proj.weight": 16 * 16,
        "pointwise_in.weight": 32 * 16,
        "depthwise.weight": 16 * 3,
        "pointwise_out.weight": 16 * 16,
        "output.weight": 3 * 16,
    },
    "transformer": {"project.weight": 8 * 16}
    | {
        f"encoder.layers.{i}.{name}": n
        for i in range(2)
        for name, n in [
            ("self_attn.in_proj_weight", 3 * 16 * 16),
            ("self_attn.out_proj.weight", 16 * 16),
            ("linear1.weight", 32 * 16),
            ("linear2.weight", 16 * 32),
        ]
    }
    | {"output.weight": 3 * 16},
    "batch norm": {"1.weight": 8 * 9, "5.weight": 16 * 8 * 9, "10.weight": 3 * 16},
}


class Sums(Task):
    """Which of three directions the mean of a sequence points to."""

    directions = torch.from_numpy(np.random.default_rng(0).normal(size=(8, 3))).float()

    def batches(self, split, rng):
        for _ in range(5):
            x = torch.from_numpy(rng.normal(size=(16, 10, 8))).float()
            yield x, (x.mean(dim=1) @ self.directions).argmax(dim=-1)

    def loss(self, model, batch):
        outputs = model(batch[0])
        return nn.functional.cross_entropy(outputs, batch[1]), outputs

    def divergence(self, reference_outputs, outputs, batch):
        return kl_divergence(reference_outputs, outputs)


@pytest.fixture(scope="module")
def trained():
    models = {}
    for kind, make in MODELS.items():
        torch.manual_seed(0)
        models[kind] = make()
        train(models[kind], Sums(), 20, rng=np.random.default_rng(0), rate=1e-2)
    return models


@pytest.mark.parametrize("kind", MODELS)
def test_all_matrices_and_kernels_are_pruned_by_default(trained, kind):
    weights = prunable_weights(trained[kind])
    assert {name: w.numel() for name, w in weights.items()} == WEIGHTS[kind]


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("method", sorted(PRUNERS))
def test_counts_are_exact_and_the_zeros_survive_a_state_dict(trained, kind, method):
    model, task = trained[kind], Sums()
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(1)
    pruned = prune(model, task, method, SPARSITY, steps=STEPS, mu=1.0)
    total = sum(WEIGHTS[kind].values())
    assert pruned.n_nonzero == total - round(SPARSITY * total)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert all(t.isfinite().all() for t in pruned.model.state_dict().values())
    again = MODELS[kind]()
    again.load_state_dict(pruned.model.state_dict())
    for name, weight in prunable_weights(again).items():
        assert torch.equal(weight != 0, pruned.masks[name])

    x = next(task.batches("dev", np.random.default_rng(5)))[0]
    with torch.no_grad():
        outputs = pruned.model(x)
        assert torch.equal(again.eval()(x), outputs)
        # One sequence alone: no layer is left in training mode.
        assert torch.allclose(pruned.model(x[:1]), outputs[:1], atol=1e-5)


@pytest.mark.parametrize("method", ["csp", "gmp", "rigl"])
@pytest.mark.parametrize("kind", ["conformer", "batch norm"])
def test_batch_statistics_are_those_of_the_pruned_model(trained, kind, method):
    """Running averages with weight 0.1 a batch, over the 60 batches after the support is frozen."""
    pruned = prune(trained[kind], Sums(), method, SPARSITY, steps=90, rate=1e-3, end=1 / 3).model
    norms = [m for m in pruned.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    seen = []
    for norm in norms:
        assert int(norm.num_batches_tracked) == 20 + 90
        norm.register_forward_pre_hook(lambda module, inputs: seen.append((module, inputs[0])))
    batches = list(Sums().batches("train", np.random.default_rng(7)))
    with torch.no_grad():
        pruned(torch.cat([x for x, _ in batches]))
    assert len(seen) == len(norms)
    for norm, inputs in seen:
        dims = [d for d in range(inputs.dim()) if d != 1]
        var, mean = torch.var_mean(inputs, dims)
        assert (norm.running_mean - mean).abs().max() <= 0.25 * inputs.std()
        ratio = (norm.running_var + 1e-3) / (var + 1e-3)
        assert 0.5 < ratio.min()
        assert ratio.max() < 2


def test_the_report_of_a_conformer_counts_what_stays_dense(trained):
    model = trained["conformer"]
    report = prune(model, Sums(), "csp", 0.9, steps=STEPS).report().set_index("layer")
    assert report.state["position"] == "dense"
    assert report.sparsity["total"] == pytest.approx(0.9, abs=2e-4)
    zeros = (report.weights - report.nonzeros)["all parameters"]
    parameters = sum(p.numel() for p in model.parameters())
    assert report.weights["all parameters"] == parameters == 3_579
    assert zeros == round(0.9 * sum(WEIGHTS["conformer"].values())) == 2_884


def test_attention_alone_is_pruned_by_its_type(trained):
    pruned = prune(
        trained["transformer"], Sums(), "csp", {nn.MultiheadAttention: 0.5, "*linear?": 0.9},
        steps=STEPS,
    )  # fmt: skip
    report = pruned.report().set_index("layer")
    for i in range(2):
        layer = f"encoder.layers.{i}"
        assert report.nonzeros[f"{layer}.self_attn.in_proj_weight"] == 384
        assert report.nonzeros[f"{layer}.self_attn.out_proj.weight"] == 128
        assert report.nonzeros[f"{layer}.linear1.weight"] == 51
    assert list(report.state[["project.weight", "output.weight"]]) == ["dense"] * 2
