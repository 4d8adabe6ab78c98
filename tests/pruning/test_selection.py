"""Which weights are pruned: names, patterns, types, and what stays dense."""

import copy
import warnings
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn.utils.prune import random_unstructured

from cspkit.arguments import ArgumentError
from cspkit.asr import Transducer
from cspkit.pruning import prunable_weights, prune
from cspkit.training import Task

LAYERS = {
    nn.Linear: (lambda: nn.Linear(3, 4), ["weight"]),
    nn.Bilinear: (lambda: nn.Bilinear(3, 2, 4), ["weight"]),
    nn.Conv1d: (lambda: nn.Conv1d(4, 4, 3, groups=4), ["weight"]),
    nn.Conv2d: (lambda: nn.Conv2d(3, 4, 3), ["weight"]),
    nn.Conv3d: (lambda: nn.Conv3d(3, 4, 3), ["weight"]),
    nn.ConvTranspose1d: (lambda: nn.ConvTranspose1d(3, 4, 3), ["weight"]),
    nn.ConvTranspose2d: (lambda: nn.ConvTranspose2d(3, 4, 3), ["weight"]),
    nn.ConvTranspose3d: (lambda: nn.ConvTranspose3d(3, 4, 3), ["weight"]),
    nn.LSTM: (
        lambda: nn.LSTM(3, 4, proj_size=2),
        ["weight_ih_l0", "weight_hh_l0", "weight_hr_l0"],
    ),
    nn.GRU: (lambda: nn.GRU(3, 4), ["weight_ih_l0", "weight_hh_l0"]),
    nn.RNN: (lambda: nn.RNN(3, 4), ["weight_ih_l0", "weight_hh_l0"]),
    nn.LSTMCell: (lambda: nn.LSTMCell(3, 4), ["weight_ih", "weight_hh"]),
    nn.GRUCell: (lambda: nn.GRUCell(3, 4), ["weight_ih", "weight_hh"]),
    nn.RNNCell: (lambda: nn.RNNCell(3, 4), ["weight_ih", "weight_hh"]),
    nn.MultiheadAttention: (
        lambda: nn.MultiheadAttention(4, 2, add_bias_kv=True),  # bias_k, bias_v (1, 1, 4)
        ["in_proj_weight", "out_proj.weight"],
    ),
}


@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
def test_a_layer_is_pruned_by_default_and_by_its_name_or_type(kind):
    make, names = LAYERS[kind]
    model = nn.ModuleDict({"a": make(), "norm": nn.BatchNorm1d(4), "b": nn.Linear(2, 2)})
    names = [f"a.{name}" for name in names]
    assert list(prunable_weights(model)) == [*names, "b.weight"]
    other = [] if kind is not nn.Linear else ["b.weight"]
    assert list(prunable_weights(model, [kind])) == names + other
    assert list(prunable_weights(model, ["a"])) == names
    assert list(prunable_weights(model, ["a.*"])) == names
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prunable_weights(nn.Sequential(make()))


def test_attention_with_keys_of_another_size_is_pruned_whole():
    attention = nn.MultiheadAttention(4, 2, kdim=3, vdim=5)
    assert list(prunable_weights(attention)) == [
        "q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight",
    ]  # fmt: skip


class Odd(nn.Module):
    """Weights that are no layer's, or a layer's of another kind."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.ones(5, 6))
        self.scale = nn.Parameter(torch.ones(1))
        self.counts = nn.Parameter(torch.zeros(2, 2, dtype=torch.int64), requires_grad=False)
        self.list = nn.ParameterList([torch.ones(2, 3), torch.ones(3)])
        self.attention = nn.MultiheadAttention(4, 2, add_bias_kv=True)
        self.embedding = nn.Embedding(7, 3)
        self.norm = nn.LayerNorm([2, 3])


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        (["table"], ["table"]),
        (["list.0"], ["list.0"]),
        (["list"], ["list.0"]),
        (["embedding"], ["embedding.weight"]),
        ([nn.Embedding, "table"], ["table", "embedding.weight"]),
        (["norm.weight"], ["norm.weight"]),
        (["attention.bias_k"], ["attention.bias_k"]),  # a bias by its own name only
        (["attention"], ["attention.in_proj_weight", "attention.out_proj.weight"]),
        (
            ["*"],
            ["table", "list.0", "attention.in_proj_weight", "attention.out_proj.weight"]
            + ["embedding.weight", "norm.weight"],
        ),
    ],
)
def test_any_floating_weight_of_two_dimensions_can_be_named(layers, names):
    assert sorted(prunable_weights(Odd(), layers)) == sorted(names)


@pytest.mark.parametrize("name", ["scale", "counts", "list.1", "attention.in_proj_bias"])
def test_what_is_no_weight_cannot_be_named(name):
    with pytest.raises(ArgumentError, match=f"layers has {name!r}: expected one of .*table"):
        prunable_weights(Odd(), [name])


def test_names_of_a_large_model_are_not_all_listed():
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(30)))
    with pytest.raises(ArgumentError, match=r"layers has 'x': expected one of 0.*11.* and 18 more"):
        prunable_weights(model, ["x"])


def test_a_module_around_layers_can_be_named():
    model = nn.ModuleDict(
        {"encoder": nn.Sequential(nn.Linear(3, 4), nn.LSTM(4, 4)), "head": nn.Linear(4, 2)}
    )
    expected = ["encoder.0.weight", "encoder.1.weight_ih_l0", "encoder.1.weight_hh_l0"]
    assert list(prunable_weights(model, ["encoder"])) == expected
    assert list(prunable_weights(model, [nn.Sequential])) == expected


def test_a_list_of_a_models_own_is_the_default():
    assert len(prunable_weights(Transducer())) == 8
    own = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Embedding(900, 3))
    own.prunable = ["1"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(prunable_weights(own)) == ["1.weight"]
    assert list(prunable_weights(own, ["0"])) == ["0.weight"]
    own.prunable = ["1", "5"]
    with pytest.raises(ArgumentError, match="prunable of Sequential has '5': expected one of 0"):
        prunable_weights(own)


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        lambda model: torch.compile(model, backend="eager"),
        lambda model: torch.compile(nn.DataParallel(model), backend="eager"),
    ],
)
def test_a_wrapped_transducer_has_the_same_weights(wrap):
    model = Transducer()
    wrapped, plain = prunable_weights(wrap(model)), prunable_weights(model)
    assert list(wrapped) == list(plain)
    assert all(wrapped[name] is plain[name] for name in plain)
    assert sum(w.numel() for w in wrapped.values()) == 331_264


def test_layers_can_be_chosen_by_type():
    model = nn.ModuleDict({"a": nn.GRU(3, 4), "b": nn.Linear(4, 2), "c": nn.Linear(2, 2)})
    names = [list(prunable_weights(model, chosen)) for chosen in ([nn.GRU], ["b.*", nn.GRU])]
    assert names[0] == ["a.weight_ih_l0", "a.weight_hh_l0"]
    assert names[1] == [*names[0], "b.weight"]


def test_layers_are_chosen_by_their_own_name():
    model = nn.Sequential(OrderedDict(rnn=nn.GRU(5, 4), head=nn.Linear(4, 3)))
    assert list(prunable_weights(model, ["rnn"])) == ["rnn.weight_ih_l0", "rnn.weight_hh_l0"]
    assert list(prunable_weights(model, ["h*"])) == ["head.weight"]
    with pytest.raises(ArgumentError, match="layers has 'rn'"):
        prunable_weights(model, ["rn"])


def test_a_model_with_nothing_to_prune_is_named(task):
    with pytest.raises(ArgumentError, match="ReLU has no weights"):
        prune(torch.nn.ReLU(), task, "csp", 0.5)
    with pytest.raises(ArgumentError, match="Embedding has no weights .* layers can name weight"):
        prunable_weights(nn.Embedding(3, 2))


def test_layers_can_be_left_out():
    model = Odd()
    model.out = nn.Linear(3, 7)
    everything = set(prunable_weights(model, ["*"]))
    for exclude, gone in [
        (["out"], {"out.weight"}),
        (["att*", nn.Embedding], {n for n in everything if n[:3] in ("att", "emb")}),
        (["*.bias", "scale", nn.Conv2d], set()),  # they hold no weights, but are no mistake
        ([nn.LayerNorm, "list"], {"norm.weight", "list.0"}),
    ]:
        assert set(prunable_weights(model, ["*"], exclude)) == everything - gone
    assert list(prunable_weights(model, ["out", "table"], exclude=["out"])) == ["table"]
    with pytest.raises(ArgumentError, match="exclude has 'ot': expected one of table"):
        prunable_weights(model, exclude=["ot"])
    with pytest.raises(ArgumentError, match="Odd has no weights that can be pruned"):
        prunable_weights(model, exclude=["*"])


def test_a_warning_says_what_the_default_leaves_dense():
    model = nn.ModuleDict({"a": nn.Embedding(100, 10), "b": nn.Linear(50, 30), "c": Odd()})
    message = (
        r"are 1,564 of the model's 2,695 parameters; .*: 'a.weight' \(Embedding, 1,000\), "
        r"'c.table' \(Odd, 30\), .* and 2 more. .*layers=\[\*prunable_weights\(model\), 'a.weight'"
    )
    with pytest.warns(UserWarning, match=message):
        weights = prunable_weights(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "a.weight" in prunable_weights(model, [*weights, "a.weight"])
        assert list(prunable_weights(model, exclude=["a"])) == list(weights)
        assert list(prunable_weights(model, ["b"])) == ["b.weight"]  # the caller's own choice


@pytest.mark.parametrize(("size", "warned"), [(1_111, False), (1_112, True)])
def test_the_warning_begins_below_nine_tenths(size, warned):
    model = nn.ModuleDict({"a": nn.Linear(100, 100, bias=False), "b": nn.Embedding(size, 1)})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        prunable_weights(model)
    assert bool(caught) == warned


def test_neither_the_transducer_nor_a_network_with_large_biases_is_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prunable_weights(Transducer())
        prunable_weights(nn.Linear(2, 100))


# Shared weights


def tied(embedding=True):
    first = nn.Embedding(7, 5) if embedding else nn.Linear(5, 7, bias=False)
    model = nn.Sequential(first, nn.Linear(5, 5), nn.Linear(5, 7))
    model[2].weight = model[0].weight
    return model


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
    with pytest.raises(ArgumentError, match=r"'2.weight' is also '4.weight' \(Linear\)"):
        prunable_weights(model, ["2"])
    advice = r"'4.weight' is also '2.weight' \(Linear\).*name all .*\['2.weight', '4.weight'\]"
    with pytest.raises(ArgumentError, match=advice):
        prunable_weights(model, ["4.weight"])
    assert list(prunable_weights(model, ["4", "2"])) == ["2.weight"]
    assert list(prunable_weights(model, ["2.weight", "4.weight"])) == ["2.weight"]


def test_a_weight_shared_with_an_embedding_is_pruned_if_both_are_named():
    model = tied()
    with pytest.warns(UserWarning, match=r"'2.weight' is also '0.weight' \(Embedding\)"):
        assert list(prunable_weights(model)) == ["1.weight"]
    with pytest.warns(UserWarning, match="'2.weight' is also"):
        assert list(prunable_weights(model, [nn.Linear])) == ["1.weight"]
    for name in ("0", "2", "2.weight"):
        with pytest.raises(ArgumentError, match=r"name all .*\['0.weight', '2.weight'\], or none"):
            prunable_weights(model, ["1", name])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(prunable_weights(model, ["1.weight"])) == ["1.weight"]
        assert list(prunable_weights(model, exclude=["2"])) == ["1.weight"]
        assert list(prunable_weights(model, exclude=["0"])) == ["1.weight"]
        for both in (["0", "2"], ["0.weight", "2.weight"], [nn.Embedding, "2"]):
            (pair,) = prunable_weights(model, both).items()
            assert pair[0] == "0.weight"
            assert pair[1] is model[2].weight


def test_both_places_of_a_pruned_weight_are_sparse():
    class Next(Task):
        def batches(self, split, rng):
            yield torch.from_numpy(rng.integers(7, size=(16, 2)))

        def loss(self, model, batch):
            outputs = model(batch[:, 0])
            return nn.functional.cross_entropy(outputs, batch[:, 1]), outputs

    pruned = prune(tied(), Next(), "gmp", {"[02]": 0.8, "1": 0.2}, steps=9)
    assert pruned.model[0].weight is pruned.model[2].weight
    assert int((pruned.model[0].weight != 0).sum()) == 7
    assert pruned.n_nonzero == 27


def test_a_layer_that_is_registered_twice_has_both_names():
    layer = nn.Linear(3, 3)
    model = nn.ModuleDict({"a": layer, "b": layer, "c": nn.Linear(3, 3)})
    for name in ("a", "b", "b.weight"):
        assert list(prunable_weights(model, [name])) == ["a.weight"]
    assert list(prunable_weights(model)) == ["a.weight", "c.weight"]
    assert list(prunable_weights(model, exclude=["b"])) == ["c.weight"]


# Frozen and computed weights


def test_a_frozen_weight_is_refused_only_if_it_is_named(task):
    model = task.new_model()
    model[2].weight.requires_grad_(False)
    for layers in (None, ["*"], [nn.Linear], ["2*", "0", "4"]):
        with pytest.warns(UserWarning, match="stays dense: '2.weight' is frozen .*exclude"):
            assert list(prunable_weights(model, layers)) == ["0.weight", "4.weight"]
    for layers in (["2"], ["2.weight", "0"]):
        with pytest.raises(ArgumentError, match="layers has '2.*', but '2.weight' is frozen"):
            prunable_weights(model, layers)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(prunable_weights(model, ["0", "4"])) == ["0.weight", "4.weight"]
        assert list(prunable_weights(model, exclude=["2"])) == ["0.weight", "4.weight"]
        assert list(prunable_weights(model, ["2", "0"], exclude=["2"])) == ["0.weight"]
    model[0].weight.requires_grad_(False)
    with pytest.warns(UserWarning, match="2 weights stay dense.*frozen.*: '0.weight', '2.weight'"):
        assert list(prunable_weights(model)) == ["4.weight"]
    model[4].weight.requires_grad_(False)
    with pytest.raises(ArgumentError, match="no weights that can be pruned; 3 weights .* frozen"):
        prunable_weights(model)


def weight_drop(layer):
    """A weight that a hook makes of its raw form, as in AWD-LSTM."""
    raw = layer.weight
    del layer.weight
    layer.weight_raw = raw
    layer.weight = raw * 1.0
    layer.register_forward_pre_hook(lambda module, _: setattr(module, "weight", raw * 1.0))
    return layer


COMPUTED = pytest.mark.parametrize(
    "computed",
    [
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
        lambda layer: random_unstructured(layer, "weight", amount=3),
        weight_drop,
    ],
    ids=["weight_norm", "spectral_norm", "old weight_norm", "old spectral_norm", "prune", "drop"],
)


@COMPUTED
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_computed_weight_is_refused_only_if_it_is_named(dense, computed):
    model = copy.deepcopy(dense)
    model[0] = computed(model[0])
    message = "'0.weight' is not a layer's own weight, but computed anew .*: remove the computation"
    for layers in (None, ["*"], ["0*", "2", "4"], [nn.Linear]):
        with pytest.warns(UserWarning, match=f"stays dense: {message}"):
            assert set(prunable_weights(model, layers)) == {"2.weight", "4.weight"}
    for layers in (["0.weight"], ["0", "2"]):
        with pytest.raises(ArgumentError, match=f"layers has '0.*', but {message}"):
            prunable_weights(model, layers)
    with pytest.raises(ArgumentError, match=f"no weights that can be pruned; .*{message}"):
        prunable_weights(model[0:1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(prunable_weights(model, ["2", "4"])) == {"2.weight", "4.weight"}
        assert set(prunable_weights(model, exclude=["0"])) == {"2.weight", "4.weight"}


@COMPUTED
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_model_with_a_computed_weight_is_pruned_around_it(task, dense, computed):
    model = copy.deepcopy(dense)
    model[0] = computed(model[0])
    task.loss(model, (task.x, task.y))[0].backward()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    with pytest.warns(UserWarning, match="'0.weight' is not a layer's own weight"):
        pruned = prune(model, task, "gmp", 0.9, steps=5)
    assert pruned.n_nonzero == 180
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert pruned.model(task.x).shape == (600, 5)
    with pytest.raises(ArgumentError, match="'0.weight' is not a layer's own weight"):
        prune(model, task, "gmp", 0.9, steps=5, layers=["0", "2"])


def test_to_look_at_a_spectral_norm_does_not_change_it(dense):
    model = copy.deepcopy(dense)
    model[0] = nn.utils.parametrizations.spectral_norm(model[0])
    before = copy.deepcopy(model.state_dict())
    with pytest.warns(UserWarning, match="'0.weight'"):
        prunable_weights(model)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_what_a_computed_weight_is_made_of_cannot_be_pruned():
    model = nn.Sequential(nn.Linear(5, 5), nn.utils.parametrizations.weight_norm(nn.Linear(5, 5)))
    source = "1.parametrizations.weight.original1"
    with pytest.raises(ArgumentError, match=f"layers has '{source}': expected one of 0.weight"):
        prunable_weights(model, [source])
    model[0].weight = model[1].parametrizations.weight.original1
    with pytest.raises(
        ArgumentError, match="'0.weight' is also '1.param.*not pruned: leave it out"
    ):
        prunable_weights(model, ["0"])


def test_a_parameter_that_only_has_such_a_name_and_a_computed_bias_are_no_hindrance(dense):
    model = copy.deepcopy(dense)
    model[0].query_v = nn.Parameter(torch.ones(3))
    random_unstructured(model[2], "bias", amount=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(prunable_weights(model)) == {"0.weight", "2.weight", "4.weight"}
    assert set(prunable_weights(model, (name for name in ("0", "4")))) == {"0.weight", "4.weight"}
