import copy
import warnings

import numpy as np
import pytest
import torch
from blobs import Blobs
from torch import nn

from cspkit.arguments import ArgumentError
from cspkit.pruning import GMP, PRUNERS, prunable_weights, prune
from cspkit.training import train


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
        ({"layers": [nn.LSTM]}, "layers has <class .*LSTM'>: expected one of 0.weight"),
        ({"layers": [3]}, "layers has 3: expected names or types"),
        ({"layers": []}, "layers is empty: expected names"),
        ({"layers": 5}, "layers is 5: expected a list"),
        ({"layers": {"2": 0.5}}, r"layers is {'2': 0.5}: .* use sparsity={...}"),
        ({"exclude": "2"}, "exclude is '2': expected a list"),
        ({"exclude": None}, "exclude is None: expected a list"),
        ({"exclude": [3]}, "exclude has 3: expected names or types"),
        ({"exclude": ["9"]}, "exclude has '9': expected one of 0.weight, 2.weight"),
        ({"sparsity": {}}, "sparsity is empty: expected names"),
        ({"sparsity": {"9": 0.5}}, "sparsity has '9': expected one of 0.weight"),
        ({"sparsity": {3: 0.5}}, "sparsity has 3: expected names or types"),
        ({"sparsity": {"2": 1.5}}, r"sparsity of '2.weight' is 1.5: expected a number in \[0, 1\)"),
        ({"sparsity": {"2": "a"}}, "sparsity of '2.weight' is 'a'"),
        ({"sparsity": {"2": 0.5}, "layers": ["2"]}, "layers is given, and sparsity is a dict"),
        ({"sparsity": True}, "sparsity is True"),
        ({"method": ["gmp"]}, r"method is \['gmp'\]: expected one of"),
        ({"method": PRUNERS["gmp"]}, "method is <class .*GMP'>: expected one of"),
        ({"task": [1]}, "task is a list: expected an object of a subclass of .*Task"),
        ({"task": Blobs}, "task is the class Blobs: expected an object"),
        ({"rate": 0}, "rate is 0"),
        ({"mu": -1}, "mu is -1"),
        ({"model": nn.Linear}, "model is the class Linear: expected an nn.Module"),
        ({"model": None}, "model is None: expected an nn.Module"),
        ({"on_step": [3]}, "on_step has 3"),
        ({"nosuch": 1}, "csp has no setting 'nosuch': expected .*exponent"),
        ({"rng": 0}, "rng is 0"),
        ({"layers": nn.Linear}, "layers is <class .*Linear'>: expected a list"),
        ({"method": "gmp", "budget": "sensitivity"}, "budget is 'sensitivity'"),
        ({"budget": "fair"}, "budget is 'fair'"),
        ({"exponent": 0}, "exponent is 0"),
        ({"end": 1.5}, "end is 1.5"),
        ({"every": 0}, "every is 0"),
        ({"steps": "a"}, "steps is 'a'"),
        ({"steps": 5.0}, "steps is 5.0"),
        ({"sparsity": "x"}, "sparsity is 'x'"),
        ({"every": 2.5}, "every is 2.5"),
        ({"floor": -1}, "floor is -1"),
        ({"method": "admm", "rho": 0.0}, "rho is 0.0: expected a finite number > 0"),
        ({"method": "admm", "every": "a"}, "every is 'a'"),
        ({"method": "acdc", "cycles": 0}, "cycles is 0: expected a whole number >= 1"),
        ({"method": "rigl", "alpha": 2}, r"alpha is 2: expected a fraction in \[0, 1\]"),
        ({"method": "narang", "quantile": 1.5}, "quantile is 1.5"),
        ({"method": "narang", "ramp": 0.8}, "start, ramp, end are 0.0, 0.8, 0.5"),
        ({"method": "narang", "ratio": float("inf")}, "ratio is inf"),
    ],
)
def test_bad_arguments_are_named(task, dense, change, message):
    call = {"model": dense, "task": task, "method": "csp", "sparsity": 0.5, "steps": 10} | change
    with pytest.raises(ArgumentError, match=message):
        prune(**call)


class Plain(Blobs):
    """The blobs without a divergence."""

    divergence = None


def test_a_task_without_a_divergence_is_pruned_without_d(dense):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pruned = prune(dense, Plain(), "csp", 0.5, steps=6)
    assert all(row["divergence"] == 0 for row in pruned.log)
    with pytest.raises(ArgumentError, match="mu is 0.5, but Plain has no divergence"):
        prune(dense, Plain(), "csp", 0.5, steps=6, mu=0.5)


@pytest.mark.parametrize("method", sorted(PRUNERS))
def test_a_frozen_weight_stays_and_counts_nowhere(task, method):
    model = task.new_model()
    model[2].weight.requires_grad_(False)
    with pytest.warns(UserWarning, match="'2.weight' is frozen"):
        pruned = prune(model, task, method, 0.5, steps=10)
    assert pruned.n_nonzero == 300
    assert set(pruned.masks) == {"0.weight", "4.weight"}
    assert torch.equal(pruned.model[2].weight, model[2].weight)


@pytest.mark.parametrize("method", sorted(PRUNERS))
def test_each_layer_ends_at_its_own_sparsity(task, dense, method):
    pruned = prune(dense, task, method, {"2": 0.95, "[04].*": 0.5}, steps=12)
    report = pruned.report().set_index("layer")
    assert list(report.nonzeros[["0.weight", "2.weight", "4.weight"]]) == [200, 80, 100]
    pruned = prune(dense, task, method, {"4.weight": 0.25}, steps=12)
    assert set(pruned.masks) == {"4.weight"}
    assert pruned.n_nonzero == 150
    assert bool((pruned.model[2].weight != 0).all())


def test_a_weight_with_two_sparsities_is_named(task, dense):
    message = "'2': 0.9 and nn.Linear.*: 0.5, and both match '2.weight'"
    with pytest.raises(ArgumentError, match=message.replace("nn.Linear", "<class .*Linear'>")):
        prune(dense, task, "gmp", {"2": 0.9, nn.Linear: 0.5}, steps=3)
    same = prune(dense, task, "gmp", {"2": 0.5, nn.Linear: 0.5}, steps=3)
    assert len(same.masks) == 3
    # What stays dense anyway has no say.
    kept = prune(dense, task, "gmp", {"2": 0.9, nn.Linear: 0.5}, steps=3, exclude=["2"])
    assert kept.n_nonzero == 300


def test_excluded_layers_stay_dense(task, dense):
    pruned = prune(dense, task, "gmp", 0.9, steps=10, exclude=["0.*"])
    assert set(pruned.masks) == {"2.weight", "4.weight"}
    assert pruned.n_nonzero == 180
    assert bool((pruned.model[0].weight != 0).all())


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        lambda model: torch.compile(model, backend="eager"),
        lambda model: nn.DataParallel(torch.compile(model, backend="eager")),
        torch.optim.swa_utils.AveragedModel,
    ],
)
def test_a_wrapped_model_is_pruned_as_the_model_itself(task, dense, wrap):
    plain = prune(dense, task, "csp", 0.9, steps=8)
    pruned = prune(wrap(copy.deepcopy(dense)), task, "csp", 0.9, steps=8)
    assert list(pruned.masks) == ["0.weight", "2.weight", "4.weight"]
    for (name, weight), other in zip(
        plain.model.named_parameters(), pruned.model.parameters(), strict=True
    ):
        assert torch.equal(weight, other), name
    assert pruned.model(task.x).shape == (600, 5)


def test_a_model_that_was_compiled_in_place_or_in_part_is_pruned(task, dense):
    model = copy.deepcopy(dense)
    model.compile(backend="eager")
    assert prune(model, task, "gmp", 0.9, steps=4).n_nonzero == 220
    model = copy.deepcopy(dense)
    model[2] = torch.compile(model[2], backend="eager")
    assert prune(model, task, "gmp", 0.9, steps=4, layers=["2"]).n_nonzero == 160


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_the_optimizer_is_the_callers(task, dense, optimizer):
    made = []

    def make(parameters, lr):
        made.append(optimizer(parameters, lr=lr, weight_decay=0.1))
        return made[0]

    pruned = prune(dense, task, "csp", 0.9, steps=20, optimizer=make)
    assert len(made) == 1
    assert pruned.n_nonzero == 220
    default = prune(dense, task, "csp", 0.9, steps=20)
    assert not torch.equal(pruned.model[0].weight, default.model[0].weight)


def test_a_notice_comes_once_and_points_at_the_caller(task):
    model = task.new_model()
    model[2].weight.requires_grad_(False)
    for call in (prunable_weights, lambda m: prune(m, task, "gmp", 0.5, steps=2)):
        with pytest.warns(UserWarning, match="'2.weight' is frozen") as caught:
            call(model)
        assert [w.filename for w in caught] == [__file__]


def test_a_pattern_alone_is_refused(task, dense):
    with pytest.raises(ArgumentError, match=r"layers is '2.\*': expected a list"):
        prune(dense, task, "gmp", 0.5, steps=10, layers="2.*")


def test_a_floor_holds_and_one_that_rules_out_the_target_is_named(task, dense):
    report = prune(dense, task, "gmp", 0.95, steps=30, floor=0.04).report()
    assert list(report.layer)[3] == "total"
    assert (report.nonzeros[:4] >= [16, 64, 8, 110]).all()
    assert report.nonzeros[3] == 110
    with pytest.raises(ArgumentError, match="sparsity is 0.95: expected at most 0.9, since floor"):
        prune(dense, task, "gmp", 0.95, steps=30, floor=0.1)


class Breaking(Blobs):
    """The blobs, until a step whose loss, or only its gradient, is not finite."""

    def __init__(self, step, gradient=False):
        super().__init__()
        self.left, self.gradient = step, gradient

    def loss(self, model, batch):
        self.left -= 1
        loss, outputs = super().loss(model, batch)
        if self.left == -1:
            # The root has no finite slope at zero.
            loss = loss + (0 * loss).sqrt() if self.gradient else loss * float("nan")
        return loss, outputs


@pytest.mark.parametrize(
    ("gradient", "what"),
    [(False, "the loss of step 27 is nan"), (True, "the norm of the gradient of step 27 is nan")],
)
def test_a_run_that_breaks_leaves_its_last_good_state(dense, tmp_path, gradient, what):
    state, seen = tmp_path / "state.safetensors", []

    def run(task):
        model = copy.deepcopy(dense)
        train(
            model, task, 40, pruner=GMP(prunable_weights(model), 0.9, 40), state_file=state,
            rng=np.random.default_rng(0), on_step=lambda row: seen.append(row), state_every=10,
        )  # fmt: skip

    with pytest.raises(FloatingPointError, match=f"{what}; the last good state is in .*ors"):
        run(Breaking(27, gradient))
    seen.clear()
    run(Breaking(-2))  # never
    assert [row["step"] for row in seen] == list(range(20, 40))
    assert np.isfinite([row["loss"] for row in seen]).all()
    assert not state.exists()


def test_a_run_that_breaks_says_where_no_state_is(task, dense, tmp_path):
    with pytest.raises(FloatingPointError, match="step 3 is nan; no state of the run was kept"):
        prune(dense, Breaking(3), "gmp", 0.9, steps=10)
    with pytest.raises(FloatingPointError, match="step 3 is nan; no state was written to .* yet"):
        prune(dense, Breaking(3), "gmp", 0.9, steps=10, state_file=tmp_path / "state")
