"""torch.export keeps batch sizes and lengths dynamic."""

import pytest
import torch
from torch import nn
from torch.export import Dim, export

from cspkit.asr import CTCModel, Transducer, TransducerConfig, load_transducer
from cspkit.asr.corpus import data_folder

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns about its own LSTM and oneDNN


class Method(nn.Module):
    """A module whose forward is one method of a model."""

    def __init__(self, model, name):
        super().__init__()
        self.model, self.name = model, name

    def forward(self, first, second):
        return getattr(self.model, self.name)(first, second)


@pytest.fixture(scope="module")
def model():
    return load_transducer(data_folder() / "models" / "dense_fold0.safetensors")


def same(method, given, shapes, others):
    """Export a method with dynamic shapes, and compare both at other sizes."""
    exported = export(method, given, dynamic_shapes=shapes)
    program = exported.module()
    for other in others:
        found, expected = (torch.utils._pytree.tree_leaves(m(*other)) for m in (program, method))
        for one, two in zip(found, expected, strict=True):
            assert one.shape == two.shape
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def features(N, T):
    return 50 * torch.randn(N, T, 13, generator=torch.Generator().manual_seed(N + T))


def labels(N, U):
    return torch.randint(0, 10, (N, U), generator=torch.Generator().manual_seed(N + U))


def states(layers, N):
    return tuple(torch.randn(2, layers, N, 128, generator=torch.Generator().manual_seed(N)))


SIZES = [(1, 6), (1, 31), (3, 30), (5, 100), (2, 301)]
DIMS = {
    "named": (Dim("batch"), Dim("time", min=6), Dim("labels")),
    "dynamic": (Dim.DYNAMIC,) * 3,
}


@pytest.mark.parametrize("dims", DIMS)
def test_encode_is_exported(model, dims):
    N, T, _ = DIMS[dims]
    method = Method(model, "encode")
    same(
        method, (features(2, 30), None), ({0: N, 1: T}, None), [(features(*s), None) for s in SIZES]
    )
    with_state = [(features(n, t), states(2, n)) for n, t in SIZES]
    shapes = ({0: N, 1: T}, ({1: N}, {1: N}))
    same(method, (features(2, 30), states(2, 2)), shapes, with_state)


@pytest.mark.parametrize("dims", DIMS)
def test_predict_is_exported(model, dims):
    N, _, U = DIMS[dims]
    method, sizes = Method(model, "predict"), [(1, 1), (1, 2), (4, 9), (3, 40)]
    same(method, (labels(2, 4), None), ({0: N, 1: U}, None), [(labels(*s), None) for s in sizes])
    with_state = [(labels(n, u), states(1, n)) for n, u in sizes]
    shapes = ({0: N, 1: U}, ({1: N}, {1: N}))
    same(method, (labels(2, 4), states(1, 2)), shapes, with_state)


@pytest.mark.parametrize("dims", DIMS)
def test_join_is_exported(model, dims):
    N, S, U = DIMS[dims]
    given = [
        (torch.randn(n, s, 128), torch.randn(n, u, 128)) for n, s, u in [(2, 10, 4), (5, 6, 2)]
    ]
    given += [(torch.randn(1, 33, 128), torch.randn(1, 1, 128))]
    same(Method(model, "join"), given[0], ({0: N, 1: S}, {0: N, 1: U}), given)


def test_the_whole_model_is_exported(model):
    N, T, U = DIMS["named"]
    others = [
        (features(n, t), labels(n, u)) for (n, t), u in zip(SIZES, (1, 2, 3, 9, 5), strict=True)
    ]
    given = features(2, 30), labels(2, 4)
    same(Method(model, "forward"), given, ({0: N, 1: T}, {0: N, 1: U}), others)


@pytest.mark.parametrize("stack", [1, 2, 4])
def test_stacks_of_other_sizes_are_exported(stack):
    torch.manual_seed(0)
    model = Transducer(TransducerConfig(stack=stack, encoder_size=128)).eval()
    dims = ({0: Dim("batch"), 1: Dim("time", min=2 * stack)}, None)
    others = [(features(n, 2 * stack + t), None) for n, t in ((1, 0), (3, 1), (2, 17))]
    same(Method(model, "encode"), (features(2, 5 * stack), None), dims, others)


def test_a_ctc_model_is_exported():
    torch.manual_seed(0)
    model = CTCModel().eval()
    program = export(model, (features(2, 30),), dynamic_shapes=({0: Dim("N"), 1: Dim("T", min=6)},))
    for size in SIZES:
        torch.testing.assert_close(program.module()(features(*size)), model(features(*size)))


@pytest.mark.parametrize("stack", [1, 2, 3])
@pytest.mark.parametrize("T", [3, 4, 5, 6, 7, 31])
def test_frames_are_stacked_in_order_and_the_rest_is_dropped(stack, T):
    model = Transducer(TransducerConfig(stack=stack))
    model.set_normalisation(torch.linspace(-1, 1, 13), torch.linspace(1, 2, 13))
    S = T // stack
    normalised = (features(2, T) - model.feature_mean) / model.feature_std
    expected, _ = model.encoder(normalised[:, : S * stack].reshape(2, S, 13 * stack))
    assert torch.equal(model.encode(features(2, T))[0], expected)
