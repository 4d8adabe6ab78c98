"""Checks of an encoder or a joiner that takes the place of the default one of a Transducer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cspkit.arguments import ArgumentError
from cspkit.task import evaluating


def exchanged_parts(**parts: nn.Module | None) -> dict[str, str]:
    """Return the class name of each part that is given.

    Raises
    ------
    ArgumentError
        If a part is not a module.
    """
    given = {name: part for name, part in parts.items() if part is not None}
    for name, part in given.items():
        if not isinstance(part, nn.Module):
            raise ArgumentError(f"{name} is {part!r}: expected an nn.Module")
    return {name: type(part).__name__ for name, part in given.items()}


@torch.no_grad()
def check_parts(model: nn.Module) -> None:
    """Call the encoder and the joiner of a Transducer once with zeros, and check the results.

    Raises
    ------
    ArgumentError
        If a part fails, or returns something else than `cspkit.asr.Transducer` describes.
    """
    c, encoder = model.config, model.encoder
    if isinstance(encoder, nn.RNNBase) and not encoder.batch_first:
        raise ArgumentError("encoder has batch_first=False: expected batch_first=True")
    with evaluating(model):
        inputs = torch.zeros(2, 4, c.n_features * c.stack, device=_device(encoder))
        results = _called("encoder", encoder, inputs, None)
        pair = isinstance(results, tuple) and len(results) == 2
        encoded = results[0] if pair else results
        size = None if "joiner" in model.exchanged else c.encoder_size
        if not pair or not _fits(encoded, 2, 4, size):
            raise ArgumentError(
                f"encoder returned {_found(results)}: expected a pair of outputs "
                f"(2, 4, {size or 'any size'}) and a state, for inputs {tuple(inputs.shape)}"
            )
        if "joiner" not in model.exchanged:
            return
        place = _device(model.joiner)
        predicted = torch.zeros(2, 3, c.predictor_size, device=place)
        logits = _called("joiner", model.joiner, encoded.to(place), predicted)
        if not _fits(logits, 2, 4, 3, c.blank + 1):
            raise ArgumentError(
                f"joiner returned {_found(logits)}: expected logits {(2, 4, 3, c.blank + 1)} for "
                f"inputs {tuple(encoded.shape)} and {tuple(predicted.shape)}"
            )


def _called(name: str, module: nn.Module, *inputs: Tensor | None) -> object:
    try:
        return module(*inputs)
    except Exception as error:  # a module of the caller may raise any exception
        raise ArgumentError(
            f"{name} {type(module).__name__} failed with inputs {_found(inputs)}: {error}"
        ) from error


def _device(module: nn.Module) -> torch.device:
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def _fits(value: object, *shape: int | None) -> bool:
    return (
        isinstance(value, Tensor)
        and value.dim() == len(shape)
        and all(e in (None, n) for n, e in zip(value.shape, shape, strict=True))
    )


def _found(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_found, value))})"
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
