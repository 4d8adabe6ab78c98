"""One tensor as a record and two streams, positions and values, and back. See FORMAT.md."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import torch
import zstandard
from torch import Tensor

from cspkit.arguments import ArgumentError
from cspkit.deploy.coding import (
    PRIORS,
    RangeDecoder,
    RangeEncoder,
    bucket_counts,
    get_codes,
    get_columns,
    get_naturals,
    magnitude_counts,
    put_codes,
    put_columns,
    put_naturals,
)
from cspkit.deploy.container import DTYPES, PackError, number, unzipped

BIAS_BITS = 8
FEW = 64  # vectors with fewer entries keep their values
LARGE = 1 << 20  # from here on, positions are coded by the faster codes only
# For each largest code (7 with 4 bits), the steps that are tried, relative to the smallest step
# that cuts off no value. If the values were rounded before, their scale is among these steps.
SEARCHED = {7: range(-12, 9)}
# 2^(i/8), rounded to float32: the grid of the scales has eight steps per octave.
OCTAVE = np.array([2.0 ** (i / 8) for i in range(8)], dtype=np.float32)
NAMES = {dtype: name for name, dtype in DTYPES.items()}
# As which integers the values of a dtype are stored, so that no bit changes.
STORED = {1: np.dtype("u1"), 2: np.dtype("<u2"), 4: np.dtype("<u4"), 8: np.dtype("<u8")}


def encoded(name: str, tensor: Tensor, bits: int) -> tuple[dict[str, Any], list[bytes]]:
    """Return the record of a tensor, without sizes and checksum, and its two streams."""
    if bits < 32 and tensor.is_floating_point() and not torch.isfinite(tensor).all():
        raise ArgumentError(f"{name!r} has values that are not finite: expected bits=32")
    record = {"name": name, "shape": list(tensor.shape), "dtype": NAMES[tensor.dtype]}
    kind = _kind(name, tensor, bits)
    stored = np.ascontiguousarray(_bits(tensor)).reshape(-1)
    mask = stored != 0 if kind == "stored" else (tensor.reshape(-1) != 0).numpy()
    n = int(mask.sum())
    positions, layout = _positions(mask.reshape(_matrix(tensor.shape)), n)
    record |= layout | {"n": n}
    if kind == "stored":
        values, facts = _compressed(stored[mask])
        if n < mask.size < LARGE:  # the values may follow a pattern
            every, facts_of_every = _compressed(stored)
            if len(every) < len(positions) + len(values):
                record |= {"layout": "dense", "n": mask.size}
                positions, values, facts = b"", every, facts_of_every
        return record | {"values": "stored"} | facts, [positions, values]
    flat = tensor.float().reshape(-1).numpy()[mask]
    if kind == "float16":
        values, facts = _compressed(flat.astype("<f2"))
        return record | {"values": "float16"} | facts, [positions, values]
    rows = np.flatnonzero(mask) // max(1, math.prod(tensor.shape[1:]))
    values, facts = _quantised(flat, rows, tensor, kind)
    return record | facts, [positions, values]


def _compressed(values: np.ndarray) -> tuple[bytes, dict[str, Any]]:
    """Values as bytes, by zstd if that is smaller, and what the record says of it."""
    raw = values.tobytes()
    smaller = zstandard.ZstdCompressor(level=19).compress(raw)
    return (smaller, {"zstd": True}) if len(smaller) < len(raw) else (raw, {})


def decoded(record: dict[str, Any], parts: list, with_codes: bool = False) -> tuple[Tensor, Any]:
    """Decode one tensor from its record and its two streams: positions and values.

    Returns
    -------
    tensor : Tensor
    codes : tuple of ndarray or None
        Only if asked for, and if the tensor is a matrix (or kernel) of codes: the codes, int8, with
        the shape of the tensor, and the scale of each index of the first dimension, float32.
    """
    shape, dtype = tuple(record["shape"]), DTYPES[record["dtype"]]
    size = math.prod(shape)
    n = number(record, "n", size)
    mask = _mask(record, parts[0], shape, n)
    kept = slice(None) if mask is None else mask
    stored = np.zeros(size, dtype=STORED[dtype.itemsize])
    found = None
    if "codes" in record:
        codes, scales = _codes(record, parts[1], n)
        if with_codes and len(shape) > 1:
            matrix = np.zeros(size, dtype=np.int8)
            matrix[kept] = codes
            found = matrix.reshape(shape), np.broadcast_to(scales, shape[:1])
        if len(scales) > 1:
            places = np.arange(n) if mask is None else np.flatnonzero(mask)
            scales = scales[places // math.prod(shape[1:])]
        stored[kept] = _bits(torch.from_numpy(codes.astype(np.float32) * scales).to(dtype))
    else:
        stored[kept] = _values(record, parts[1], dtype, n)
    tensor = torch.from_numpy(stored.view(_signed(stored.dtype))).view(dtype).reshape(shape)
    return tensor, found


def _kind(name: str, tensor: Tensor, bits: int) -> str | int:
    """How the values of a tensor are stored: as they are, as float16, or with this many bits."""
    if bits == 32 or not tensor.is_floating_point() or tensor.numel() == 0:
        return "stored"
    vector = tensor.dim() < 2
    if vector and tensor.numel() < FEW:
        return "stored"
    magnitudes = tensor.abs()
    least = torch.where(magnitudes > 0, magnitudes, torch.inf).min().item()
    most = magnitudes.max().item()
    scaled = 2.0**-100 < least and most < (2.0**15 if tensor.dtype == torch.float16 else 2.0**100)
    if bits < 16 and not vector and scaled:
        return bits
    if bits < 16 and vector and name.rpartition(".")[2].startswith("bias") and scaled:
        return BIAS_BITS
    if tensor.dtype.itemsize <= 2:
        return "stored"
    # A vector with a zero may hold variances, whose small values must keep their digits.
    small = bool((magnitudes < 2**-14).any()) if vector else least < 2**-24
    return "stored" if small or most >= 65504 else "float16"


def _bits(tensor: Tensor) -> np.ndarray:
    """The entries of a tensor as unsigned integers with the same bits."""
    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    viewed = tensor.contiguous().reshape(-1).view(whole[tensor.dtype.itemsize])
    return viewed.numpy().view(STORED[tensor.dtype.itemsize])


def _signed(dtype: np.dtype) -> np.dtype:
    return dtype if dtype.itemsize == 1 else np.dtype(f"<i{dtype.itemsize}")


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """The shape of a tensor as a matrix: its first dimension, and all others together."""
    if len(shape) < 2 or shape[0] == 0:
        return 1, math.prod(shape)
    return shape[0], math.prod(shape[1:])


def _positions(mask: np.ndarray, n: int) -> tuple[bytes, dict[str, Any]]:
    """Code the positions of n nonzeros in the smallest layout."""
    if n == mask.size:
        return b"", {"layout": "dense"}
    found = [(np.packbits(mask).tobytes(), {"layout": "bitmask"})]
    gaps = np.diff(np.flatnonzero(mask), prepend=-1) - 1
    counts = bucket_counts(gaps)
    encoder = RangeEncoder()
    put_naturals(encoder, gaps, counts)
    found.append((_bytes(encoder), {"layout": "gaps", "counts": counts}))
    if mask.size < LARGE and mask.shape[0] > 1 and n:
        counts = bucket_counts(mask.sum(axis=0))
        for prior in PRIORS:
            encoder = RangeEncoder()
            put_columns(encoder, mask, counts, prior)
            layout = {"layout": "columns", "counts": counts, "prior": prior}
            found.append((_bytes(encoder), layout))
    return min(found, key=lambda coded: len(coded[0]))


def _mask(record: dict[str, Any], part: memoryview, shape: tuple, n: int) -> np.ndarray | None:
    """Decode positions: a mask of all entries, or None for the layout "dense"."""
    layout, size = record.get("layout"), math.prod(shape)
    if layout == "dense":
        if n != size:
            raise PackError(f"{n} values for {size} entries")
        return None
    if layout == "bitmask":
        mask = np.unpackbits(np.frombuffer(part, np.uint8))[:size].astype(bool)
        if len(part) != -(-size // 8):
            raise PackError("the bitmask has the wrong size")
    elif layout == "gaps":
        gaps = get_naturals(_decoder(part), n, record["counts"])
        places = np.cumsum(gaps + 1) - 1
        if n and (places[-1] >= size or (gaps < 0).any()):
            raise PackError("a position lies outside the tensor")
        mask = np.zeros(size, dtype=bool)
        mask[places] = True
    elif layout == "columns":
        if size >= LARGE:
            raise PackError(
                f"the layout is columns for {size} entries: expected fewer than {LARGE}"
            )
        prior = number(record, "prior", 1 << 20, least=1)
        mask = get_columns(_decoder(part), _matrix(shape), record["counts"], prior).reshape(-1)
    else:
        raise PackError(f"the layout is {layout!r}: expected dense, bitmask, gaps or columns")
    if int(mask.sum()) != n:
        raise PackError(f"{int(mask.sum())} positions: expected {n}")
    return mask


def _quantised(
    values: np.ndarray, rows: np.ndarray, tensor: Tensor, bits: int
) -> tuple[bytes, dict[str, Any]]:
    """Code values as whole numbers times scales, one for each row or one for all."""
    largest, found = 2 ** (bits - 1) - 1, []
    n_rows = tensor.shape[0] if tensor.dim() > 1 else 1
    survive = tensor.dim() > 1  # no nonzero of a matrix becomes zero
    for scales, row in (("tensor", np.zeros_like(rows)), ("row", rows)):
        if scales == "row" and tensor.dim() < 2:
            continue
        steps = _best_steps(values, row, n_rows if scales == "row" else 1, largest, survive)
        used = np.zeros(len(steps), dtype=bool)
        used[row] = True
        base = int(steps[used].min()) if used.any() else 0
        steps = np.where(used, steps - base, 0)
        codes = _rounded(values, _scale(base + steps)[row], largest, survive).astype(np.int64)
        record = {"codes": magnitude_counts(codes, largest), "bits": bits, "base": base}
        record |= {"scales": scales, "steps": bucket_counts(steps)}
        encoder = RangeEncoder()
        put_naturals(encoder, steps, record["steps"])
        put_codes(encoder, codes, record["codes"], largest)
        found.append((_bytes(encoder), record))
    return min(found, key=lambda coded: len(coded[0]) + len(json.dumps(coded[1])) // 2)


def _best_steps(
    values: np.ndarray, row: np.ndarray, n_rows: int, largest: int, survive: bool
) -> np.ndarray:
    """Choose the step of the grid of scales for each row.

    With 8 bits it is the smallest step for which no value is cut off. With 4 bits it is the step in
    SEARCHED with the least sum of squared errors. This step may cut off the largest values.
    """
    most = np.zeros(n_rows)
    np.maximum.at(most, row, np.abs(values).astype(np.float64))
    start = np.ceil(8 * np.log2(np.where(most > 0, most, 1) / largest) - 1e-9).astype(np.int64)
    if largest not in SEARCHED:
        return start
    best, least = start, np.full(n_rows, np.inf)
    for steps in (start + change for change in SEARCHED[largest]):
        scales = _scale(steps)[row]
        errors = _rounded(values, scales, largest, survive) * scales - values
        total = np.bincount(row, errors.astype(np.float64) ** 2, n_rows)
        best, least = np.where(total < least, steps, best), np.minimum(total, least)
    return best


def _rounded(values: np.ndarray, scales: np.ndarray, largest: int, survive: bool) -> np.ndarray:
    """Whole numbers from -largest to largest."""
    codes = np.rint(values / scales).clip(-largest, largest)
    return np.where((codes == 0) & (values != 0) & survive, np.copysign(1, values), codes)


def _values(record: dict[str, Any], part: memoryview, dtype: torch.dtype, n: int) -> np.ndarray:
    """Decode n values that are no codes, as unsigned integers with the bits of the dtype."""
    stored = STORED[dtype.itemsize]
    if record["values"] not in ("stored", "float16"):
        raise PackError(f"the values are {record['values']!r}: expected 'stored' or 'float16'")
    kind = np.dtype("<f2") if record["values"] == "float16" else stored
    raw = bytes(part)
    if record.get("zstd"):
        raw = unzipped(raw, n * kind.itemsize)
    if len(raw) != n * kind.itemsize:
        raise PackError("the values have the wrong size")
    values = np.frombuffer(raw, kind)
    if record["values"] == "float16":
        return _bits(torch.from_numpy(values.astype(np.float32)).to(dtype))
    return values


def _codes(record: dict[str, Any], part: memoryview, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Decode n codes, and the scale of each row or the one of all rows."""
    largest = 2 ** (number(record, "bits", 8, least=2) - 1) - 1
    n_rows = record["shape"][0] if record["scales"] == "row" else 1
    decoder = _decoder(part)
    steps = get_naturals(decoder, n_rows, record["steps"])
    codes = get_codes(decoder, n, record["codes"], largest)
    return codes, _scale(number(record, "base", 8 * 512, least=-8 * 512) + steps)


def _scale(steps: np.ndarray) -> np.ndarray:
    """2^(k / 8) as float32, for whole numbers k."""
    return np.ldexp(OCTAVE[steps % 8], (steps // 8).astype(np.int32))


def _bytes(encoder: RangeEncoder) -> bytes:
    return encoder.get_compressed().astype("<u4").tobytes()


def _decoder(part: memoryview) -> RangeDecoder:
    if len(part) % 4:
        raise PackError("a stream has the wrong size")
    return RangeDecoder(np.frombuffer(part, "<u4").astype(np.uint32))
