"""One file for a pruned model: zeros cost little, values have 32, 16, 8 or 4 bits.

FORMAT.md in this folder describes the file, so that anybody can write a reader.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from fnmatch import fnmatchcase
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cspkit.arguments import ArgumentError, count
from cspkit.asr.transducer import Transducer
from cspkit.asr.transducer_config import TransducerConfig
from cspkit.deploy.container import (
    DTYPES,
    PackError,
    checksum,
    read_header,
    records_of,
    write_file,
)
from cspkit.deploy.encoding import NAMES, decoded, encoded
from cspkit.modules import unwrapped

BITS = (32, 16, 8, 4)
MAX_WEIGHTS = 200_000_000


def pack(
    model: nn.Module | Mapping[str, Tensor],
    path: str | Path,
    *,
    bits: int | Mapping[str, int] = 32,
) -> None:
    """Write a model, or a state_dict, to one packed file.

    Of each tensor the positions of the nonzeros are coded, and then their values. The positions
    take the smallest of these layouts: "columns", a model of row and column counts; "gaps", the
    distances between nonzeros; "bitmask"; "dense", which has no positions.

    Parameters
    ----------
    model : nn.Module or dict of Tensor
        A `Transducer` comes back as a Transducer, with its configuration; any other model, also a
        Transducer whose encoder or joiner was exchanged, comes back as the tensors of its
        state_dict.
    path : str or Path
    bits : {32, 16, 8, 4} or dict
        Bits per value. A dict maps patterns of names to bits, for example
        `{"output.*": 8, "*": 4}`; the first pattern that fits a name counts.

        - 32: without loss. The tensors that `load` returns are equal, bit for bit. So -0 is
          stored like a nonzero value; with fewer bits it becomes 0.
        - 16: float16.
        - 8 and 4: whole numbers times a scale, with one scale for each row or for each tensor,
          whichever makes the file smaller. With 4 bits the scale is the one with the least sum of
          squared errors, which cuts off the largest values. This is for matrices and kernels.
          A vector whose own name (after the last dot) starts with "bias" has 8 bits; any other
          vector is stored as float16. No nonzero of a matrix becomes zero.

        With any number of bits, these tensors keep their values: tensors that are not
        floating-point; vectors with fewer than 64 entries; vectors that would be float16 and have
        an entry (also 0) with a magnitude below 2^-14; and tensors with a magnitude that is too
        small or too large for the chosen bits.

    Raises
    ------
    ArgumentError
        If `model` has no tensors, or a tensor that cannot be stored; if `bits` is not one of the
        numbers above, or leaves a name out; or if a value is not finite and `bits` is below 32.
    """
    tensors = _tensors(model)
    chosen = {name: _bits_of(name, bits) for name in tensors}
    records, streams = [], []
    for name, tensor in tensors.items():
        record, parts = encoded(name, tensor, chosen[name])
        record["sizes"] = [len(part) for part in parts]
        record["crc"] = checksum(record, parts)
        records.append(record)
        streams += parts
    header: dict[str, Any] = {"tensors": records}
    inner = unwrapped(model) if isinstance(model, nn.Module) else None
    if isinstance(inner, Transducer) and not inner.exchanged:
        header["transducer"] = asdict(inner.config)
    write_file(path, header, streams)


def load(
    path: str | Path, *, into: nn.Module | None = None, max_weights: int = MAX_WEIGHTS
) -> Transducer | dict[str, Tensor] | nn.Module:
    """Read a packed file.

    Parameters
    ----------
    path : str or Path
    into : nn.Module, optional
        A model that gets the tensors. Its names and shapes must be those of the file.
    max_weights : int
        Largest number of entries of all tensors together. It bounds memory and time, whatever the
        file says.

    Returns
    -------
    nn.Module or dict of Tensor
        `into` if it is given; a Transducer in evaluation mode if the file holds one; otherwise the
        tensors by name.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    PackError
        If the file is damaged, was written by a newer version, or has more than `max_weights`
        entries. The message names the part.
    ArgumentError
        If the tensors do not fit `into`.
    """
    if into is not None and not isinstance(into, nn.Module):
        raise ArgumentError(f"into is a {type(into).__name__}: expected a torch.nn.Module")
    return load_with_codes(path, into, max_weights, with_codes=False)[0]


def load_with_codes(
    path: str | Path,
    into: nn.Module | None = None,
    max_weights: int = MAX_WEIGHTS,
    with_codes: bool = True,
) -> tuple[Any, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Read a packed file, as `load` does, and the codes of its matrices.

    Returns
    -------
    model : nn.Module or dict of Tensor
    codes : dict
        By name, for matrices that are whole numbers times scales: codes, int8, with the shape of
        the tensor; and the scale of each index of the first dimension, float32.
    """
    header, tensors, codes = _read(path, max_weights, with_codes)
    model = into
    if into is None and "transducer" in header:
        model = _transducer(path, header["transducer"], tensors)
    if model is None:
        return tensors, codes
    if into is not None:
        found = {name: tuple(t.shape) for name, t in unwrapped(into).state_dict().items()}
        expected = {name: tuple(t.shape) for name, t in tensors.items()}
        if differing := _difference(found, expected):
            raise ArgumentError(f"into does not fit {path}: {differing}")
    unwrapped(model).load_state_dict(tensors)
    return model if into is not None else model.eval(), codes


def _read(path: str | Path, max_weights: int, with_codes: bool) -> tuple[dict, dict, dict]:
    """Return the header, the tensors, and the codes."""
    count("max_weights", max_weights)
    header, data = read_header(path)
    shapes = [record["shape"] for record in header["tensors"]]
    total = sum(max([math.prod(shape), *shape]) for shape in shapes)
    if total > max_weights:
        raise PackError(
            f"{path}: the header declares {total} entries: expected at most max_weights = "
            f"{max_weights}"
        )
    tensors, codes = {}, {}
    for record, parts in records_of(path, header, data):
        where = f"{path}: tensor {record['name']!r}"
        try:
            tensors[record["name"]], found = decoded(record, parts, with_codes)
            if found is not None:
                codes[record["name"]] = found
        except PackError as error:
            raise PackError(f"{where}: {error}") from None
        except Exception as error:  # the coder raises errors of many kinds
            raise PackError(f"{where} cannot be decoded: {error}") from None
    return header, tensors, codes


def _difference(found: dict[str, tuple], expected: dict[str, tuple]) -> str | None:
    """Say where names and shapes differ from those of a file, or return None."""
    for name in sorted({*found, *expected}):
        if found.get(name) != expected.get(name):
            where = "has no" if name not in found else f"has the shape {found[name]} for"
            in_file = expected.get(name, "no such tensor")
            return f"it {where} {name!r}, the file has {in_file}"
    return None


def _tensors(model: nn.Module | Mapping[str, Tensor]) -> dict[str, Tensor]:
    is_model = isinstance(model, nn.Module)
    if not is_model and not isinstance(model, Mapping):
        raise ArgumentError(
            f"model is a {type(model).__name__}: expected a torch.nn.Module or a state_dict"
        )
    tensors = dict(unwrapped(model).state_dict() if is_model else model)
    if not tensors:
        raise ArgumentError("model has no tensors: expected at least one")
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ArgumentError(
                f"model has {name!r}, a {type(tensor).__name__}: expected tensors by name"
            )
        if tensor.dtype not in NAMES or tensor.layout != torch.strided:
            raise ArgumentError(
                f"model has {name!r} of {tensor.dtype}, {tensor.layout}: expected torch.strided "
                f"and one of {', '.join(DTYPES)}"
            )
    return {name: tensor.detach().cpu() for name, tensor in tensors.items()}


def _bits_of(name: str, bits: int | Mapping[str, int]) -> int:
    chosen = bits
    if isinstance(bits, Mapping):
        fitting = [n for pattern, n in bits.items() if fnmatchcase(name, pattern)]
        if not fitting:
            raise ArgumentError(f"bits has no pattern for {name!r}: add '*'")
        chosen = fitting[0]
    if not isinstance(chosen, Integral) or isinstance(chosen, bool) or chosen not in BITS:
        raise ArgumentError(f"bits is {chosen!r}: expected one of {', '.join(map(str, BITS))}")
    return int(chosen)


def _transducer(path: str | Path, config: Any, tensors: dict[str, Tensor]) -> Transducer:
    """Make the recogniser of a configuration, if it has exactly these tensors."""
    try:
        config = TransducerConfig(**{**config, "units": tuple(config["units"])})
        most = sum(tensor.numel() for tensor in tensors.values())
        sizes = {name: value for name, value in vars(config).items() if name != "units"}
        if config.encoder_layers > len(tensors) or max(sizes.values()) > most:
            raise ArgumentError(f"{sizes} is too much for {len(tensors)} tensors, {most} entries")
        with torch.device("meta"):  # without memory, whatever the configuration says
            shapes = {n: tuple(t.shape) for n, t in Transducer(config).state_dict().items()}
    except (ArgumentError, KeyError, TypeError, RuntimeError) as error:
        raise PackError(f"{path}: the configuration is wrong: {error}") from None
    if differing := _difference(shapes, {n: tuple(t.shape) for n, t in tensors.items()}):
        raise PackError(f"{path}: the tensors do not fit the configuration: {differing}")
    model = Transducer(config)
    kinds = {tensor.dtype for tensor in tensors.values()}
    return model.to(kinds.pop()) if len(kinds) == 1 else model
