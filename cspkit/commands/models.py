"""Models and data that a command names, and errors that name the option."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cspkit.arguments import ArgumentError


def model_of(call: argparse.Namespace):
    """Load the checkpoint or packed file of --model, or the default one."""
    from cspkit.asr import Transducer, load_transducer
    from cspkit.asr.checkpoint import is_packed

    if call.model is None:
        return of_project(load_transducer, default_model())
    try:
        packed = Path(call.model).is_file() and is_packed(call.model)
        model = None if packed else load_transducer(call.model)
    except (ArgumentError, OSError) as error:
        raise ArgumentError(f"--model: {error}") from None
    if packed and not isinstance(model := packed_model(call.model), Transducer):
        raise ArgumentError(
            f"--model: {call.model} holds tensors without a configuration: expected a recogniser"
        )
    return model


def packed_model(path: Path):
    """Load a packed file: a recogniser, or tensors by name."""
    from cspkit.deploy import PackError, load

    try:
        return load(path)
    except PackError as error:
        raise ArgumentError(f"--model: {error}") from None


def of_project(load, *arguments):
    """Load data that come with the project. Damaged data raise OSError, not ArgumentError."""
    try:
        return load(*arguments)
    except ArgumentError as error:
        raise OSError(str(error)) from None


def default_model() -> Path:
    """Path of the dense checkpoint that comes with the project."""
    from cspkit.asr.corpus import data_folder

    return data_folder() / "models" / "dense_fold0.safetensors"


def usable_device(device: str) -> str:
    """Return the name of a device; raise ArgumentError if torch cannot compute on it here."""
    import torch

    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise ArgumentError(f"--device is {device!r}, which torch cannot use: {reason}") from None
    return device


@contextmanager
def interrupt_says(message: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(message) from None
