"""The two steps of CSP: what (S) minimises, and how it is told."""

import copy
import itertools

import numpy as np
import pytest
import torch
from by_hand import at
from torch import nn

from cspkit.arguments import ArgumentError
from cspkit.pruner import OrderError
from cspkit.pruning import CSP, prunable_weights, prune
from cspkit.pruning.activations import ActivationGram
from cspkit.pruning.measurement import gaussian_gram, regularised
from cspkit.recovery.proximal import block_soft_threshold
from cspkit.training import train


def shown(pruner, step):
    """Z and V of a step, by the name of the weight."""
    dense = {n: w.detach().clone() for n, w in pruner.weights.items()}
    with at(pruner, step):
        return {n: w.detach().clone() for n, w in pruner.weights.items()}, dense


def test_without_measurement_and_error_term_it_is_dpf_to_the_bit(task, dense):
    csp = prune(dense, task, "csp", 0.9, steps=60, mu=0.0, measurement="identity", rho=0.0)
    dpf = prune(dense, task, "dpf", 0.9, steps=60)
    for a, b in zip(csp.model.parameters(), dpf.model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("rate", [1e-3, 1e-2])
def test_without_those_and_without_memory_it_is_gmp_that_cuts_to_zero(task, dense, rate):
    settings = {"sparsity": 0.9, "steps": 100, "rate": rate, "mu": 0.0}
    csp = prune(dense, task, "csp", **settings, measurement="identity", rho=1.0)
    gmp = prune(dense, task, "gmp", **settings, keep_values=False)
    for a, b in zip(csp.model.parameters(), gmp.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_measurement_sees_the_gradient_that_the_optimizer_gets():
    weight = nn.Parameter(torch.ones(2, 3))
    pruner, optimizer = CSP({"w": weight}, 0.5, 10), torch.optim.SGD([weight], lr=0.1)
    with pruner.sparse():
        (1000 * weight.sum()).backward()
    nn.utils.clip_grad_norm_([weight], 1.0)
    pruner.step(optimizer)
    expected = 0.02 * torch.full((2, 3), 1 / 6)  # of norm 1
    torch.testing.assert_close(pruner.gram["w"], expected)


@pytest.mark.parametrize("measurement", ["identity", "gradients", "activations"])
def test_the_support_is_the_argmin_for_a_diagonal_measurement(measurement):
    torch.manual_seed(0)
    layer = nn.Linear(4, 2, bias=False)
    options = {"power": 1.0, "ridge": 0.0, "budget": "uniform", "end": 1.0}
    pruner = CSP({"w": layer.weight}, 0.5, 10, measurement=measurement, **options)
    pruner.watch(layer)
    cost = torch.ones(2, 4)
    if measurement == "gradients":
        cost = pruner.gram["w"].copy_(torch.rand(2, 4))
    elif measurement == "activations":
        cost = torch.rand(4)
        pruner.gram["w"].copy_(cost.diag())
        cost = cost.expand(2, 4)
    Z, V = shown(pruner, 9)
    assert int((Z["w"] != 0).sum()) == 8 - round(0.5 * (1 - 0.1**6) * 8) == 4
    errors = {}
    for kept in itertools.combinations(range(8), 4):
        candidate = torch.zeros(8)
        candidate[list(kept)] = V["w"].flatten()[list(kept)]
        errors[kept] = 0.5 * float((cost * (candidate.view(2, 4) - V["w"]).square()).sum())
    error = 0.5 * float((cost * (Z["w"] - V["w"]).square()).sum())
    assert error == pytest.approx(min(errors.values()), rel=1e-5)


@pytest.mark.parametrize("measurement", ["identity", "gradients", "sketch"])
def test_a_layer_that_the_loss_feels_more_keeps_more(measurement):
    torch.manual_seed(0)
    felt, unfelt = nn.Parameter(torch.randn(20, 20)), nn.Parameter(torch.randn(20, 20))
    pruner = CSP(
        {"felt": felt, "unfelt": unfelt}, 0.9, 10, budget="sensitivity", measurement=measurement
    )
    for step in range(5):
        with at(pruner, step):
            felt.grad, unfelt.grad = torch.randn(20, 20), 0.01 * torch.randn(20, 20)
        pruner.step(torch.optim.SGD([felt, unfelt], lr=0.0))
    masks = pruner.largest(0.9)
    kept = {name: int(mask.sum()) for name, mask in masks.items()}
    assert sum(kept.values()) == 80
    assert kept["felt"] > 4 * kept["unfelt"]
    if measurement == "identity":  # inside a layer, magnitude
        size = felt.detach().abs()
        assert size[masks["felt"]].min() >= size[~masks["felt"]].max()


def test_updates_correct_the_survivors_for_what_the_cut_takes():
    torch.manual_seed(0)
    A = torch.randn(50, 12) @ torch.randn(12, 12)
    gram = A.T @ A / (A.T @ A).diagonal().mean()
    errors = []
    for updates in (0, 5, 200):
        layer = nn.Linear(12, 6, bias=False)
        layer.weight.data = torch.randn(6, 12, generator=torch.Generator().manual_seed(1))
        options = {"measurement": "activations", "ridge": 0.1, "updates": updates, "end": 1.0}
        pruner = CSP({"w": layer.weight}, 0.5, 10, **options)
        pruner.watch(layer)
        pruner.gram["w"].copy_(gram)
        Z, V = shown(pruner, 9)
        G, error = regularised(gram, 0.1), Z["w"] - V["w"]
        errors.append(0.5 * float(torch.trace(error @ G @ error.T)))
    assert errors[0] > errors[1] > errors[2]
    # The least error for this support, by the normal equations of each row
    best = 0.0
    for v, mask in zip(V["w"], pruner.masks["w"], strict=True):
        z = torch.zeros(12)
        z[mask] = torch.linalg.solve(G[mask][:, mask], (G @ v)[mask])
        best += 0.5 * float((z - v) @ G @ (z - v))
    assert best <= errors[2] <= 1.05 * best


class Stack(nn.Module):
    """A layer of each kind, one after another."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, 5, 3, padding=1, stride=2)
        self.lstm = nn.LSTM(5, 4, 2, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(8, 6, batch_first=True)
        self.linear = nn.Linear(6, 2)

    def forward(self, x):
        self.seen = {"x": x, "conv": self.conv(x).transpose(1, 2)}
        self.seen["lstm"] = self.lstm(self.seen["conv"])[0]
        self.seen["gru"] = self.gru(self.seen["lstm"])[0]
        return self.linear(self.seen["gru"])


def scaled(rows):
    gram = rows.reshape(-1, rows.shape[-1])
    gram = gram.T @ gram
    return gram / gram.diagonal().mean()


def test_activations_are_those_that_enter_each_weight():
    torch.manual_seed(0)
    model = Stack()
    weights = prunable_weights(model)
    gram = {n: torch.zeros(w[0].numel(), w[0].numel()) for n, w in weights.items()}
    watched = ActivationGram(model, weights, gram, decay=0.0)
    with torch.no_grad():
        model(torch.randn(7, 3, 10))  # an evaluation does not count
    watched.commit()
    assert not any(g.any() for g in gram.values())
    model(torch.randn(7, 3, 10))
    watched.discard()  # nor does a step that was skipped
    model(torch.randn(7, 3, 10))
    watched.commit()
    seen = {name: tensor.detach() for name, tensor in model.seen.items()}
    assert torch.allclose(gram["linear.weight"], scaled(seen["gru"]), atol=1e-5)
    assert torch.allclose(gram["gru.weight_ih_l0"], scaled(seen["lstm"]), atol=1e-5)
    assert torch.allclose(gram["gru.weight_hh_l0"], scaled(seen["gru"][:, :-1]), atol=1e-5)
    assert torch.allclose(gram["lstm.weight_ih_l0"], scaled(seen["conv"]), atol=1e-5)
    forth, back = seen["lstm"].split(4, dim=2)
    assert torch.allclose(gram["lstm.weight_hh_l1"], scaled(forth[:, :-1]), atol=1e-5)
    assert torch.allclose(gram["lstm.weight_hh_l1_reverse"], scaled(back[:, 1:]), atol=1e-5)
    # The kernel of a convolution sees windows: its outputs follow from them.
    padded = nn.functional.pad(seen["x"], (1, 1)).unfold(2, 3, 2)  # (N, C, T, 3)
    assert torch.allclose(gram["conv.weight"], scaled(padded.transpose(1, 2).flatten(2)), atol=1e-5)

    before = copy.deepcopy(gram)
    watched.active = False
    model(torch.randn(7, 3, 10))
    watched.active = True
    watched.remove()
    model(torch.randn(7, 3, 10))
    watched.commit()
    assert all(torch.equal(before[n], gram[n]) for n in gram)


def test_activations_are_asked_for_before_they_are_used(task, dense):
    model = copy.deepcopy(dense)
    pruner = CSP(prunable_weights(model), 0.5, 30, measurement="activations")
    with pytest.raises(OrderError, match=r"call watch\(model\)"):
        train(model, task, 5, pruner=pruner, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    "settings",
    [
        {"measurement": "identity", "budget": "sensitivity"},
        {"measurement": "gradients"},
        {"measurement": "activations"},
        {"measurement": "sketch"},
    ],
)
def test_what_is_measured_survives_a_kill_to_the_bit(task, dense, tmp_path, settings):
    class KilledError(Exception):
        pass

    def run(state_file=None, kill_at=None):
        def watch(row):
            if row["step"] == kill_at:
                raise KilledError

        model = copy.deepcopy(dense)
        pruner = CSP(prunable_weights(model), 0.9, 40, updates=1, **settings)
        pruner.watch(model)
        train(
            model, task, 40, pruner=pruner, rng=np.random.default_rng(0), rate=1e-2,
            on_step=watch, state_file=state_file, state_every=7,
        )  # fmt: skip
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    unbroken = run()
    with pytest.raises(KilledError):
        run(tmp_path / "state.safetensors", kill_at=25)
    assert torch.equal(run(tmp_path / "state.safetensors"), unbroken)


def test_the_upper_layer_of_an_lstm_is_measured_by_the_lower_one():
    torch.manual_seed(0)
    lstm = nn.LSTM(5, 4, 2, batch_first=True)
    lower = nn.LSTM(5, 4, batch_first=True)
    lower.load_state_dict({n: p for n, p in lstm.state_dict().items() if n.endswith("l0")})
    weights, x = prunable_weights(lstm), torch.randn(3, 6, 5)
    gram = {n: torch.zeros(w.shape[1], w.shape[1]) for n, w in weights.items()}
    watched = ActivationGram(lstm, weights, gram, decay=0.0)
    for call in (lambda: lstm(x), lambda: lstm(input=x)):
        gram["weight_ih_l1"].zero_()
        call()
        watched.commit()
        assert torch.allclose(gram["weight_ih_l1"], scaled(lower(x)[0].detach()), atol=1e-5)


def test_a_sketch_is_the_identity_in_the_mean_and_of_low_rank():
    generator = torch.Generator().manual_seed(0)
    sketches = torch.stack([gaussian_gram(8, 4, generator) for _ in range(4000)])
    assert torch.allclose(sketches.mean(0), torch.eye(8), atol=0.06)
    assert torch.linalg.matrix_rank(sketches[0]) == 4


@pytest.mark.parametrize("threshold", ["hard", "soft", "firm"])
def test_thresholds_shrink_as_their_names_say(threshold):
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(8, 8))
    options = {"measurement": "identity", "end": 1.0, "threshold": threshold}
    pruner = CSP({"w": weight}, 0.5, 10, **options)
    Z, V = shown(pruner, 9)
    z, v = Z["w"].flatten(), V["w"].flatten()
    lam = v[z == 0].abs().max()
    for shrunk, value in zip(z.tolist(), v.tolist(), strict=True):
        size = abs(value)
        if size <= lam:
            expected = 0.0
        elif threshold == "hard" or (threshold == "firm" and size >= 2 * lam):
            expected = size
        else:
            expected = (size - float(lam)) * (2 if threshold == "firm" else 1)
        assert shrunk == pytest.approx(np.sign(value) * expected, abs=1e-6)


def test_blocks_shrink_by_the_proximal_operator_of_the_group_lasso():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(6, 10))  # the last block of a row has two weights
    options = {"measurement": "identity", "end": 1.0, "threshold": "soft", "block": "1x4"}
    pruner = CSP({"w": weight}, 0.5, 10, **options)
    Z, V = shown(pruner, 9)
    groups = (np.arange(6)[:, None] * 3 + np.arange(10) // 4).ravel()
    v, z = V["w"].numpy().ravel(), Z["w"].numpy().ravel()
    norms = np.sqrt(np.bincount(groups, weights=v**2))
    cut = np.bincount(groups, weights=pruner.masks["w"].numpy().ravel()) == 0
    assert 0 < cut.sum() < 18
    shrunk = block_soft_threshold(v, norms[cut].max(), groups)
    kept = np.isin(groups, np.flatnonzero(~cut))
    np.testing.assert_allclose(z, np.where(kept, shrunk, 0), atol=1e-6)


@pytest.mark.parametrize("rho", [0.0, 0.25, 1.0])
def test_rho_forgets_what_is_cut_and_nothing_else(rho):
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(8, 8))
    pruner = CSP({"w": weight}, 0.5, 10, measurement="identity", rho=rho, end=1.0)
    _, V = shown(pruner, 9)
    weight.grad = torch.zeros(8, 8)
    pruner.step(torch.optim.SGD([weight], lr=0.1))
    kept = pruner.masks["w"]
    assert torch.equal(weight[kept], V["w"][kept])
    assert torch.allclose(weight[~kept], (1 - rho) * V["w"][~kept])


def test_without_memory_plain_steps_are_iterative_hard_thresholding():
    torch.manual_seed(0)
    A, y = torch.randn(30, 20) / 30**0.5, torch.randn(30)
    weight = nn.Parameter(0.1 * torch.randn(1, 20))
    pruner = CSP({"w": weight}, 0.7, 40, measurement="identity", rho=1.0, exponent=1.0, end=1.0)
    z = weight.detach().clone().flatten()
    supports = set()
    for step in range(40):
        k = 20 - round(pruner.scheduled(step) * 20)
        z = torch.where(z.abs() >= z.abs().topk(k).values[-1], z, 0)
        supports.add(tuple(z.nonzero().flatten().tolist()))
        weight.grad = None
        with at(pruner, step):
            assert torch.allclose(weight.flatten(), z, atol=1e-6)
            (0.5 * (A @ weight.flatten() - y).square().sum()).backward()
        pruner.step(torch.optim.SGD([weight], lr=0.3))
        z = z - 0.3 * A.T @ (A @ z - y)
    last = min(supports, key=len)
    assert any(set(last) - set(other) for other in supports)  # one step can lift a weight back


@pytest.mark.parametrize("block", ["1x4", "4x1", "8x1", "1x8", "3x7"])
def test_blocks_live_and_die_together(task, dense, block):
    R, C = map(int, block.split("x"))
    pruned = prune(dense, task, "csp", 0.75, steps=30, block=block)
    for mask in pruned.masks.values():  # (40, 10), (40, 40), (5, 40): some last blocks are ragged
        for i in range(0, mask.shape[0], R):
            for j in range(0, mask.shape[1], C):
                whole = mask[i : i + R, j : j + C]
                assert bool(whole.all() or not whole.any())
    total = sum(m.numel() for m in pruned.masks.values())
    assert 0 <= pruned.n_nonzero - (total - round(0.75 * total)) < R * C


def test_the_blocks_with_the_largest_norms_survive():
    torch.manual_seed(0)
    V = torch.randn(6, 8)
    weight = nn.Parameter(V.clone())
    options = {"measurement": "identity", "end": 1.0, "block": "3x1"}
    Z, _ = shown(CSP({"w": weight}, 0.5, 10, **options), 9)
    norms = V.view(2, 3, 8).norm(dim=1)  # three neighbouring outputs of one input
    kept = norms >= norms.flatten().topk(8).values[-1]
    assert torch.equal(Z["w"], V * kept.repeat_interleave(3, dim=0))


def test_n_of_every_m_survive(task, dense):
    pruned = prune(dense, task, "csp", 0.75, steps=30, block="1:4", layers=["2.*", "4.*"])
    for mask in pruned.masks.values():
        assert bool((mask.unflatten(1, (-1, 4)).sum(2) == 1).all())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"measurement": "magic"}, "measurement is 'magic': expected one of 'identity'"),
        ({"threshold": "medium"}, "threshold is 'medium'"),
        ({"rho": 2}, "rho is 2"),
        ({"power": -1}, "power is -1"),
        ({"ridge": -0.1}, "ridge is -0.1"),
        ({"updates": -1}, "updates is -1"),
        ({"block": "0x4"}, "block is '0x4': expected 'RxC', such as '8x1', or 'N:M'"),
        ({"block": "4:2"}, "block is '4:2'"),
        ({"block": "2:4"}, "sparsity is 0.9: expected 0.5"),
        ({"block": "1:10"}, None),
        ({"updates": 1.7}, "updates is 1.7: expected a whole number"),
        ({"threshold": "soft"}, "threshold is 'soft' with measurement 'gradients'"),
        (
            {"threshold": "soft", "measurement": "identity", "block": "1:10"},
            "threshold is 'soft' with measurement 'identity' and block '1:10': expected",
        ),
        ({"block": "1x4", "budget": "uniform"}, "block is '1x4' with budget 'uniform'"),
        ({"block": "9:90"}, "a row of 0.weight has 10 weights: expected a multiple of 90"),
    ],
)
def test_bad_settings_are_named(task, dense, settings, message):
    if message is None:
        assert prune(dense, task, "csp", 0.9, steps=3, **settings).sparsity == pytest.approx(0.9)
        return
    sparsity = 0.9
    with pytest.raises(ValueError, match=message):
        prune(dense, task, "csp", sparsity, steps=3, **settings)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            nn.MultiheadAttention(4, 2),
            "'in_proj_weight' cannot be collected: it belongs to a Multi",
        ),
        (nn.Conv1d(4, 4, 3, groups=2), "'weight' .* a Conv1d must have groups=1"),
        (nn.LSTM(4, 4, proj_size=2), "'weight_ih_l0' .* a LSTM must have proj_size=0"),
    ],
)
def test_a_layer_that_cannot_be_watched_is_refused_for_its_reason(model, message):
    weights = {n: p for n, p in model.named_parameters() if p.dim() > 1}
    pruner = CSP(weights, 0.5, 10, measurement="activations")
    with pytest.raises(ArgumentError, match=f"measurement is 'activations', but .*{message}"):
        pruner.watch(model)
    assert not any(module._forward_hooks for module in model.modules())
