"""Checks and copies of any `nn.Module`."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim.swa_utils import AveragedModel

from cspkit.arguments import ArgumentError


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside `DataParallel`, `DistributedDataParallel` and `torch.compile`.

    The inner model has the same parameters as the wrapper, but their names have no prefix, and the
    methods of its class can be called. A wrapper inside a wrapper is removed too, and so is
    `torch.optim.swa_utils.AveragedModel`.

    Parameters
    ----------
    model : nn.Module

    Returns
    -------
    nn.Module
        The model itself if nothing wraps it.
    """
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def check_loaded(model: nn.Module) -> None:
    """Refuse a model whose parameters have no shape or no values yet.

    The names in the messages are those of the unwrapped model.

    Parameters
    ----------
    model : nn.Module

    Raises
    ------
    ArgumentError
        If `model` is not a module; if a layer is lazy and was not called yet; or if a parameter or
        buffer is on the meta device.
    """
    if not isinstance(model, nn.Module):
        found = f"the class {model.__name__}" if isinstance(model, type) else repr(model)
        raise ArgumentError(f"model is {found}: expected an nn.Module")
    for name, tensor in _tensors(unwrapped(model)):
        if is_lazy(tensor):
            raise ArgumentError(
                f"model has {name!r}, whose shape is not known yet (a lazy layer): first call the "
                "model once with a batch"
            )
        if tensor.is_meta:
            raise ArgumentError(
                f"model has {name!r} on the meta device, without values: first load its weights"
            )


def check_trainable(model: nn.Module) -> None:
    """Refuse a model that the training loop cannot train.

    The names in the messages are those of the unwrapped model.

    Parameters
    ----------
    model : nn.Module

    Raises
    ------
    ArgumentError
        As for `check_loaded`; if a trainable parameter is complex, is stored as a sparse tensor,
        was made in `torch.inference_mode`, or belongs to an embedding with `sparse=True`; or if no
        parameter is trainable.
    """
    check_loaded(model)
    model = unwrapped(model)
    for name, tensor in model.named_parameters():
        if not tensor.requires_grad:
            continue
        if tensor.is_complex():
            raise ArgumentError(
                f"model has {name!r}, which is complex: expected real parameters; store the real "
                "and the imaginary part as two parameters, or freeze it"
            )
        if tensor.layout != torch.strided:
            raise ArgumentError(
                f"model has {name!r} with layout {tensor.layout}: expected torch.strided; convert "
                "it with to_dense()"
            )
        if tensor.is_inference():
            raise ArgumentError(
                f"model has {name!r}, which was made in torch.inference_mode and cannot be "
                "trained: make or load the model outside this mode"
            )
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.sparse:
            if weight.requires_grad:
                raise ArgumentError(
                    f"model has {name!r}, an {type(module).__name__} with sparse=True: expected "
                    "sparse=False, since the loop can clip and mask only dense gradients"
                )
    if not any(p.requires_grad for p in model.parameters()):
        raise ArgumentError(
            f"model {type(model).__name__} has no weights that can be trained: expected at least "
            "one parameter with requires_grad=True"
        )


def check_finite(model: nn.Module) -> None:
    """Refuse a model with parameters that are NaN or infinite, or with buffers that have NaN.

    A buffer may hold infinite values, as the mask of an attention layer does.

    Parameters
    ----------
    model : nn.Module

    Raises
    ------
    ArgumentError
        The message names the first such tensor, and counts its NaN and infinite values.
    """
    for name, tensor in _tensors(unwrapped(model)):
        if not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        n_nan = int(tensor.isnan().sum())
        n_inf = int(tensor.isinf().sum()) if isinstance(tensor, nn.Parameter) else 0
        if n_nan or n_inf:
            raise ArgumentError(
                f"model has {name!r} with {n_nan} NaN and {n_inf} infinite values of "
                f"{tensor.numel()}: expected finite values"
            )


def copied(model: nn.Module) -> nn.Module:
    """Copy a model, as `copy.deepcopy` does, or say why it cannot be copied.

    `copy.deepcopy` refuses tensors that were computed from other tensors: the weights of the older
    `weight_norm` and `spectral_norm` and of `torch.nn.utils.prune`, or outputs that a layer keeps
    as attributes. Here the copy gets the values of these tensors, without their autograd history.

    Parameters
    ----------
    model : nn.Module

    Returns
    -------
    nn.Module

    Raises
    ------
    ArgumentError
        If an attribute of the model cannot be copied.
    """
    memo = {}
    for module in model.modules():
        for tensor in _held(vars(module)):
            if not tensor.is_leaf:
                memo[id(tensor)] = tensor.detach().clone()
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:  # an attribute of the model may raise any exception
        raise ArgumentError(
            f"model cannot be copied ({type(error).__name__}: {error}): expected a model that "
            "copy.deepcopy can copy; remove the attribute that cannot be copied, or give its class "
            "a method __deepcopy__"
        ) from error


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _held(values: object, depth: int = 3) -> Iterator[Tensor]:
    """Yield the tensors in nested dicts, lists and tuples, but not those of modules in them."""
    if isinstance(values, Tensor):
        yield values
    elif depth and isinstance(values, (dict, list, tuple)):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _held(value, depth - 1)
