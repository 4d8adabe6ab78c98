"""Read safetensors files: tensors with metadata."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from cspkit.arguments import ArgumentError


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file: its tensors by name, and its metadata.

    Raises
    ------
    ArgumentError
        If the file is truncated, or is not a safetensors file.
    """
    content = Path(path).read_bytes()  # safetensors cannot open a name that is not UTF-8
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise ArgumentError(f"{path} is truncated or is not a safetensors file: {error}") from None
    header_size = int.from_bytes(content[:8], "little")
    return tensors, json.loads(content[8 : 8 + header_size]).get("__metadata__", {})


def bytes_of(tensor: Tensor) -> bytes:
    """Return the values of a tensor as bytes."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()  # numpy has no bfloat16
