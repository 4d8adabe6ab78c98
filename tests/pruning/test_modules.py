"""What is told of a model before anything is trained."""

import copy
import threading

import numpy as np
import pytest
import torch
from blobs import Blobs
from torch import nn
from torch.nn.utils.prune import random_unstructured

from cspkit.arguments import ArgumentError
from cspkit.modules import check_finite, check_trainable, copied, unwrapped
from cspkit.pruning import prunable_weights, prune
from cspkit.training import train


def meta():
    with torch.device("meta"):
        return nn.Linear(3, 2)


def inference():
    with torch.inference_mode():
        return nn.Linear(3, 2)


def sparse_layout():
    layer = nn.Linear(3, 2)
    layer.weight = nn.Parameter(torch.eye(2, 3).to_sparse())
    return layer


def lazy_statistics():
    return nn.LazyBatchNorm1d(affine=False)


UNTRAINABLE = {
    "lazy": (lambda: nn.LazyLinear(4), "'1.weight', whose shape is not known yet"),
    "lazy buffer": (lazy_statistics, "'1.running_mean', whose shape is not known yet"),
    "meta": (meta, "'1.weight' on the meta device"),
    "complex": (lambda: nn.Linear(3, 2, dtype=torch.complex64), "'1.weight', which is complex"),
    "sparse embedding": (
        lambda: nn.Embedding(7, 3, sparse=True),
        "'1', an Embedding with sparse=True",
    ),
    "sparse bag": (
        lambda: nn.EmbeddingBag(7, 3, sparse=True),
        "'1', an EmbeddingBag with sparse=True",
    ),
    "sparse layout": (sparse_layout, "'1.weight' with layout torch.sparse_coo"),
    "inference": (inference, r"'1.weight', which was made in torch.inference_mode"),
}


@pytest.mark.parametrize("kind", sorted(UNTRAINABLE))
@pytest.mark.parametrize("wrapper", [nn.Sequential, nn.DataParallel])
def test_what_the_loop_cannot_train_is_named_before_training(task, kind, wrapper):
    make, message = UNTRAINABLE[kind]
    model = nn.Sequential(nn.Linear(3, 3), make())
    if wrapper is nn.DataParallel:
        model = wrapper(model)
    if kind in ("lazy", "lazy buffer", "meta"):
        with pytest.raises(ArgumentError, match=f"model has {message}"):
            prunable_weights(model)
    else:  # another loop may be able to train it
        assert "0.weight" in prunable_weights(model, ["0"])
    for call in (
        lambda: check_trainable(model),
        lambda: prune(model, task, "gmp", 0.5, steps=3),
        lambda: train(model, task, 3, rng=np.random.default_rng(0)),
    ):
        with pytest.raises(ArgumentError, match=f"model has {message}"):
            call()


def test_a_model_without_trained_parameters_and_no_model_are_named(task):
    for frozen in (nn.Linear(3, 2).requires_grad_(False), nn.ReLU()):
        name = type(frozen).__name__
        with pytest.raises(ArgumentError, match=f"{name} has no weights that can be trained"):
            train(frozen, task, 3, rng=np.random.default_rng(0))
    with pytest.raises(ArgumentError, match="model is the class Linear: expected an nn.Module"):
        check_trainable(nn.Linear)
    with pytest.raises(ArgumentError, match="model is 3: expected an nn.Module"):
        check_trainable(3)


def test_what_is_frozen_may_be_anything(task):
    model = task.new_model()
    model.table = nn.Embedding(7, 3, sparse=True).requires_grad_(False)
    model.phase = nn.Parameter(torch.ones(2, 2, dtype=torch.complex64), requires_grad=False)
    model.index = nn.Parameter(torch.arange(4).view(2, 2), requires_grad=False)
    check_trainable(model)
    assert list(prunable_weights(model, ["[024]"])) == ["0.weight", "2.weight", "4.weight"]


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("2.weight", [np.nan, np.inf, -np.inf], "'2.weight' with 1 NaN and 2 infinite values of"),
        ("4.bias", [np.nan], "'4.bias' with 1 NaN and 0 infinite values of 5"),
        ("0.weight", [np.inf], "'0.weight' with 0 NaN and 1 infinite values of 400"),
    ],
)
def test_weights_that_are_not_finite_are_named_before_pruning(task, dense, name, values, message):
    model = copy.deepcopy(dense)
    parameter = dict(model.named_parameters())[name]
    parameter.data.view(-1)[: len(values)] = torch.tensor(values, dtype=torch.float32)
    steps = []
    with pytest.raises(ArgumentError, match=f"model has {message}"):
        # Also where the weight itself is not among those that are pruned.
        prune(model, task, "gmp", 0.5, steps=3, layers=["0"], on_step=steps.append)
    assert not steps
    with pytest.raises(ArgumentError, match=message):
        check_finite(nn.DataParallel(model))


def test_a_buffer_may_be_infinite_but_not_nan(task):
    model = task.new_model()
    model.register_buffer("mask", torch.full((3, 3), -np.inf).triu(1))
    model.register_buffer("index", torch.arange(3))
    check_finite(model)
    model.mask[0, 0] = np.nan
    with pytest.raises(ArgumentError, match="'mask' with 1 NaN"):
        prune(model, task, "gmp", 0.5, steps=3)


def test_wrappers_come_off():
    model = nn.Linear(3, 2)
    compiled = torch.compile(model, backend="eager")
    for wrapped in (
        model,
        nn.DataParallel(model),
        compiled,
        nn.DataParallel(compiled),
        torch.compile(nn.DataParallel(model), backend="eager"),
    ):
        assert unwrapped(wrapped) is model
    averaged = torch.optim.swa_utils.AveragedModel(model)
    assert unwrapped(averaged) is averaged.module


class Keeping(nn.Module):
    """Keeps its last outputs, as some models do."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(10, 5)
        self.kept = {"all": []}

    def forward(self, x):
        self.last = self.layer(x)
        self.kept["all"].append(self.last)
        return self.last


@pytest.mark.parametrize(
    "computed",
    [
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
        lambda layer: random_unstructured(layer, "weight", amount=30),
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_copy_has_the_values_of_tensors_with_a_history(dense, computed):
    x = torch.randn(3, 10)
    model = nn.Sequential(computed(copy.deepcopy(dense[0])), nn.LSTM(40, 5))
    model(x)
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(model)
    twin = copied(model).eval()
    assert torch.equal(twin(x)[0], model.eval()(x)[0])
    twin(x)[0].sum().backward()
    assert all(p.grad is not None for p in twin.parameters())
    assert all(p.grad is None for p in model.parameters())
    assert not {id(p) for p in twin.parameters()} & {id(p) for p in model.parameters()}


def test_a_model_that_keeps_its_outputs_is_pruned():
    model = Keeping()
    model(torch.ones(2, 10))
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(model)
    pruned = prune(model, Blobs(), "gmp", 0.5, steps=3)
    assert pruned.n_nonzero == 25
    assert len(model.kept["all"]) == 1
    assert torch.equal(pruned.model.kept["all"][0], model.kept["all"][0])


def test_a_model_that_cannot_be_copied_is_named(task, dense):
    model = copy.deepcopy(dense)
    model.lock = threading.Lock()
    with pytest.raises(ArgumentError, match=r"model cannot be copied \(TypeError: .*lock.*__deep"):
        prune(model, task, "gmp", 0.5, steps=3)
