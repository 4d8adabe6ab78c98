import copy
from collections import OrderedDict

import numpy as np
import pytest
import torch
from blobs import Blobs
from torch import nn
from torch.nn.utils.prune import random_unstructured

from cspkit.pruning import GMP, PRUNERS, prunable_weights, prune
from cspkit.training import train


def test_layers_can_be_named(task, dense):
    pruned = prune(dense, task, "gmp", 0.9, steps=20, layers=["2.*"])
    assert set(pruned.masks) == {"2.weight"}
    assert pruned.n_nonzero == 160
    assert bool((dict(pruned.model.named_parameters())["0.weight"] != 0).all())


def test_layers_can_be_chosen_by_type():
    model = nn.ModuleDict({"a": nn.GRU(3, 4), "b": nn.Linear(4, 2), "c": nn.Linear(2, 2)})
    names = [list(prunable_weights(model, chosen)) for chosen in ([nn.GRU], ["b.*", nn.GRU])]
    assert names[0] == ["a.weight_ih_l0", "a.weight_hh_l0"]
    assert names[1] == [*names[0], "b.weight"]


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
    call = {"model": dense, "method": "csp", "sparsity": 0.5, "steps": 10} | change
    with pytest.raises(ValueError, match=message):
        prune(task=task, **call)


def test_a_shared_weight_counts_once(task):
    model = task.new_model()
    model[4] = torch.nn.Linear(40, 40, bias=False)
    model[4].weight = model[2].weight
    weights = prunable_weights(model)
    assert list(weights) == ["0.weight", "2.weight"]


def test_one_of_two_layers_that_share_a_weight_is_refused(task):
    model = task.new_model()
    model[4] = nn.Linear(40, 40, bias=False)
    model[4].weight = model[2].weight
    with pytest.raises(ValueError, match="'2.weight' is also '4.weight' of a Linear"):
        prunable_weights(model, ["2"])
    with pytest.raises(ValueError, match="'4.weight' is also '2.weight' of a Linear"):
        prunable_weights(model, ["4.weight"])
    assert list(prunable_weights(model, ["4", "2"])) == ["2.weight"]


def test_layers_are_chosen_by_their_own_name():
    model = nn.Sequential(OrderedDict(rnn=nn.GRU(5, 4), head=nn.Linear(4, 3)))
    assert list(prunable_weights(model, ["rnn"])) == ["rnn.weight_ih_l0", "rnn.weight_hh_l0"]
    assert list(prunable_weights(model, ["h*"])) == ["head.weight"]
    with pytest.raises(ValueError, match="layers has 'rn'"):
        prunable_weights(model, ["rn"])


def test_a_model_with_nothing_to_prune_is_named(task):
    with pytest.raises(ValueError, match="ReLU has no weights"):
        prune(torch.nn.ReLU(), task, "csp", 0.5)


def test_a_weight_shared_with_an_embedding_is_refused_unless_it_is_left_out():
    model = nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 5), nn.Linear(5, 7))
    model[2].weight = model[0].weight
    with pytest.raises(ValueError, match="'2.weight' is also '0.weight' of a Embedding"):
        prunable_weights(model)
    assert list(prunable_weights(model, ["1.weight"])) == ["1.weight"]


@pytest.mark.parametrize("method", sorted(PRUNERS))
def test_a_frozen_weight_is_refused_unless_it_is_left_out(task, dense, method):
    model = task.new_model()
    model[2].weight.requires_grad_(False)
    with pytest.raises(ValueError, match="'2.weight', which is frozen"):
        prune(model, task, method, 0.5, steps=10)
    pruned = prune(model, task, method, 0.5, steps=10, layers=["0.*", "4.*"])
    assert pruned.n_nonzero == 300
    assert torch.equal(pruned.model[2].weight, model[2].weight)


@pytest.mark.parametrize(
    "computed",
    [
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        nn.utils.weight_norm,
        lambda layer: random_unstructured(layer, "weight", amount=3),
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_weight_that_is_computed_anew_is_refused_unless_it_is_left_out(task, dense, computed):
    model = copy.deepcopy(dense)
    model[0] = computed(model[0])
    with pytest.raises(ValueError, match="'0.weight' is not a layer's own weight"):
        prunable_weights(model)
    with pytest.raises(ValueError, match="'0.weight' is not a layer's own weight"):
        prunable_weights(model, ["0*", "2"])
    assert set(prunable_weights(model, ["2", "4"])) == {"2.weight", "4.weight"}


def test_a_parameter_that_only_has_such_a_name_and_a_computed_bias_are_no_hindrance(dense):
    model = copy.deepcopy(dense)
    model[0].query_v = nn.Parameter(torch.ones(3))
    random_unstructured(model[2], "bias", amount=3)
    assert set(prunable_weights(model)) == {"0.weight", "2.weight", "4.weight"}
    assert set(prunable_weights(model, (name for name in ("0", "4")))) == {"0.weight", "4.weight"}


def test_a_pattern_alone_is_refused(task, dense):
    with pytest.raises(ValueError, match=r"layers is '2.\*': expected a list"):
        prune(dense, task, "gmp", 0.5, steps=10, layers="2.*")


def test_a_floor_holds_and_one_that_rules_out_the_target_is_named(task, dense):
    report = prune(dense, task, "gmp", 0.95, steps=30, floor=0.04).report()
    assert (report.nonzeros >= [16, 64, 8, 110]).all()
    assert report.nonzeros[3] == 110
    with pytest.raises(ValueError, match="sparsity is 0.95: expected at most 0.9, since floor"):
        prune(dense, task, "gmp", 0.95, steps=30, floor=0.1)


def test_the_report_counts_by_layer(task, dense):
    pruned = prune(dense, task, "gmp", 0.9, steps=20, budget="uniform")
    report = pruned.report()
    assert list(report.columns) == ["layer", "shape", "weights", "nonzeros", "sparsity"]
    assert list(report.layer) == ["0.weight", "2.weight", "4.weight", "total"]
    assert list(report["shape"])[:3] == [(40, 10), (40, 40), (5, 40)]
    assert list(report.weights) == [400, 1600, 200, 2200]
    assert list(report.nonzeros) == [40, 160, 20, 220]
    assert list(report.sparsity) == pytest.approx([0.9] * 4)


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
