"""One file for a pruned model: zeros cost little, values have 32, 16, 8 or 4 bits.

FORMAT.md in this folder describes the file, so that anybody can write a reader.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from fnmatch import fnmatchcase
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zstandard
from torch import Tensor, nn

from cspkit.arguments import ArgumentError, count
from cspkit.asr.transducer import Transducer, TransducerConfig
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
from cspkit.files import replacing
from cspkit.modules import unwrapped

MAGIC = b"\x93CSPK\r\n\x1a"
VERSION = 1
BITS = (32, 16, 8, 4)
BIAS_BITS = 8
FEW = 64  # vectors with fewer entries keep their values
LARGE = 1 << 20  # from here on, positions are coded by the faster codes only
MAX_HEADER = 1 << 26
MAX_WEIGHTS = 200_000_000
# 2^(i/8), rounded to float32: the grid of the scales has eight steps per octave.
OCTAVE = np.array([2.0 ** (i / 8) for i in range(8)], dtype=np.float32)
DTYPES = {
    "float64": torch.float64, "float32": torch.float32, "float16": torch.float16,
    "bfloat16": torch.bfloat16, "int64": torch.int64, "int32": torch.int32, "int16": torch.int16,
    "int8": torch.int8, "uint8": torch.uint8, "bool": torch.bool,
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}
# As which integers the values of a dtype are stored, so that no bit changes.
STORED = {1: np.dtype("u1"), 2: np.dtype("<u2"), 4: np.dtype("<u4"), 8: np.dtype("<u8")}


class PackError(ValueError):
    """A packed file is damaged, or is not a packed file."""


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
        A `Transducer` comes back as a Transducer, with its configuration; any other model comes
        back as the tensors of its state_dict.
    path : str or Path
    bits : {32, 16, 8, 4} or dict
        Bits per value. A dict maps patterns of names to bits, for example
        `{"output.*": 8, "*": 4}`; the first pattern that fits a name counts.

        - 32: without loss. The tensors that `load` returns are equal, bit for bit. So -0 is
          stored like a nonzero value; with fewer bits it becomes 0.
        - 16: float16.
        - 8 and 4: whole numbers times a scale, with one scale for each row or for each tensor,
          whichever makes the file smaller. This is for matrices and kernels. Vectors whose name
          starts with "bias" have 8 bits, and other vectors float16; vectors with fewer than 64
          entries, and vectors with an entry below 2^-14, keep their values. No nonzero of a
          matrix becomes zero.

        Tensors that are not floating-point are never changed.

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
        record, parts = _encoded(name, tensor, chosen[name])
        record["sizes"] = [len(part) for part in parts]
        record["crc"] = _checksum(record, parts)
        records.append(record)
        streams += parts
    header: dict[str, Any] = {"tensors": records}
    inner = unwrapped(model) if isinstance(model, nn.Module) else None
    if isinstance(inner, Transducer):
        header["transducer"] = asdict(inner.config)
    text = json.dumps(header, separators=(",", ":")).encode()
    packed = zstandard.ZstdCompressor(level=19).compress(text)
    with replacing(path) as new, new.open("wb") as file:
        file.write(MAGIC)
        for number, size in ((VERSION, 2), (len(packed), 4), (len(text), 4)):
            file.write(number.to_bytes(size, "little"))
        file.write(zlib.crc32(packed).to_bytes(4, "little"))
        file.write(packed)
        for part in streams:
            file.write(part)


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
    header, tensors = _read(path, max_weights, decoded)
    model = into
    if into is None and "transducer" in header:
        model = _transducer(path, header["transducer"])
    if model is None:
        return tensors
    try:
        unwrapped(model).load_state_dict(tensors)
    except RuntimeError as error:
        text = " ".join(str(error).split())
        if into is None:
            raise PackError(f"{path}: the tensors do not fit the configuration: {text}") from None
        raise ArgumentError(f"into does not fit {path}: {text}") from None
    return model if into is not None else model.eval()


def load_codes(
    path: str | Path, max_weights: int = MAX_WEIGHTS
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read the matrices of a packed file that are whole numbers times scales.

    Returns
    -------
    dict
        By name: codes, int8, with the shape of the tensor; and the scale of each index of the first
        dimension, float32.
    """
    _, found = _read(path, max_weights, _decoded_codes)
    return {name: codes for name, codes in found.items() if codes is not None}


def _read(path: str | Path, max_weights: int, decode: Any) -> tuple[dict, dict]:
    """Return the header, and what `decode` makes of the record and the streams of each tensor."""
    count("max_weights", max_weights)
    header, data = read_header(path)
    total, found = 0, {}
    for record, _ in records_of(path, header, data):
        total += math.prod(record["shape"])
    if total > max_weights:
        raise PackError(f"{path}: {total} entries, expected at most max_weights = {max_weights}")
    for record, parts in records_of(path, header, data):
        where = f"{path}: tensor {record['name']!r}"
        if _checksum(record, parts) != record["crc"]:
            raise PackError(f"{where} is damaged (its checksum is not the recorded one)")
        try:
            found[record["name"]] = decode(record, parts)
        except PackError as error:
            raise PackError(f"{where}: {error}") from None
        except Exception as error:  # the coder raises errors of many kinds
            raise PackError(f"{where} cannot be decoded: {error}") from None
    return header, found


def read_header(path: str | Path) -> tuple[dict[str, Any], memoryview]:
    """Read the header of a packed file, and return it with the streams, which are not decoded."""
    content = Path(path).read_bytes()
    if content[: len(MAGIC)] != MAGIC:
        raise PackError(f"{path} is not a packed file: it does not start with {MAGIC!r}")
    places, fields = (8, 10, 14, 18, 22), []
    for first, end in zip(places[:-1], places[1:], strict=True):
        fields.append(int.from_bytes(content[first:end], "little"))
    version, size, full_size, crc = fields
    if len(content) < places[-1]:
        raise PackError(f"{path}: the header is cut off")
    if version != VERSION:
        raise PackError(f"{path} has version {version} of the format: expected {VERSION}")
    packed = content[places[-1] : places[-1] + size]
    if len(packed) < size or full_size > MAX_HEADER or zlib.crc32(packed) != crc:
        raise PackError(f"{path}: the header is damaged")
    try:
        header = json.loads(_unzipped(packed, full_size))
        if not isinstance(header, dict) or not isinstance(header["tensors"], list):
            raise TypeError("it has no list of tensors")
    except (ValueError, TypeError, KeyError, RecursionError, zstandard.ZstdError) as error:
        raise PackError(f"{path}: the header cannot be read: {error}") from None
    return header, memoryview(content)[places[-1] + size :]


def records_of(path: str | Path, header: dict[str, Any], data: memoryview):
    """Yield the record of each tensor, checked, and its streams."""
    place, seen = 0, set()
    for i, record in enumerate(header["tensors"]):
        try:
            name, shape, sizes = record["name"], record["shape"], record["sizes"]
            whole = all(type(n) is int and n >= 0 for n in (*shape, *sizes, record["crc"]))
            good = type(name) is str and name not in seen and whole and len(sizes) == 2
            if not good or record["dtype"] not in DTYPES:
                raise ValueError("name, shape, sizes or dtype")
        except (KeyError, TypeError, ValueError) as error:
            raise PackError(f"{path}: the record of tensor {i} is wrong: {error}") from None
        seen.add(name)
        end = place + sum(sizes)
        if end > len(data):
            raise PackError(f"{path}: tensor {name!r} is cut off")
        yield record, [data[place : place + sizes[0]], data[place + sizes[0] : end]]
        place = end
    if place != len(data):
        raise PackError(f"{path}: {len(data) - place} bytes after the last tensor")


def decoded(record: dict[str, Any], parts: list) -> Tensor:
    """Decode one tensor from its record and its two streams: positions and values."""
    shape, dtype = tuple(record["shape"]), DTYPES[record["dtype"]]
    size = math.prod(shape)
    n = _number(record, "n", size)
    mask = _mask(record, parts[0], shape, n)
    stored = np.zeros(size, dtype=STORED[dtype.itemsize])
    values = _values(record, parts[1], shape, dtype, n, mask)
    if mask is None:
        stored[:] = values
    else:
        stored[mask] = values
    return torch.from_numpy(stored.view(_signed(stored.dtype))).view(dtype).reshape(shape)


def _tensors(model: nn.Module | Mapping[str, Tensor]) -> dict[str, Tensor]:
    is_model = isinstance(model, nn.Module)
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
                f"model has {name!r} of {tensor.dtype}: expected one of {', '.join(DTYPES)}"
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


def _encoded(name: str, tensor: Tensor, bits: int) -> tuple[dict[str, Any], list[bytes]]:
    """Return the record of a tensor, without sizes and checksum, and its two streams."""
    record = {"name": name, "shape": list(tensor.shape), "dtype": NAMES[tensor.dtype]}
    kind = _kind(name, tensor, bits)
    stored = np.ascontiguousarray(_bits(tensor)).reshape(-1)
    mask = stored != 0 if kind == "stored" else (tensor.reshape(-1) != 0).numpy()
    n = int(mask.sum())
    positions, layout = _positions(mask.reshape(_matrix(tensor.shape)), n)
    if layout["layout"] == "dense":
        mask[:] = True
        n = mask.size
    record |= layout | {"n": n}
    if kind == "stored":
        values, of_values = stored[mask].tobytes(), {"values": "stored"}
    else:
        flat = tensor.float().reshape(-1).numpy()[mask]
        if not np.isfinite(flat).all():
            raise ArgumentError(f"{name!r} has values that are not finite: expected bits=32")
        if kind == "float16":
            half = flat.astype("<f2")
            tiny = np.copysign(np.float16(2.0**-24), flat).astype("<f2")
            half = np.where((half == 0) & (flat != 0), tiny, half)
            values, of_values = half.tobytes(), {"values": "float16"}
        else:
            rows = np.flatnonzero(mask) // max(1, math.prod(tensor.shape[1:]))
            values, of_values = _quantised(flat, rows, tensor, kind)
    if "codes" not in of_values:
        smaller = zstandard.ZstdCompressor(level=19).compress(values)
        if len(smaller) < len(values):
            values, of_values["zstd"] = smaller, True
    return record | of_values, [positions, values]


def _kind(name: str, tensor: Tensor, bits: int) -> str | int:
    """How the values of a tensor are stored: as they are, as float16, or with this many bits."""
    if bits == 32 or not tensor.is_floating_point() or tensor.numel() == 0:
        return "stored"
    vector = tensor.dim() < 2
    if vector and tensor.numel() < FEW:
        return "stored"
    if bits < 16 and not vector:
        return bits
    if bits < 16 and name.rpartition(".")[2].startswith("bias"):
        return BIAS_BITS
    if tensor.dtype.itemsize <= 2:
        return "stored"
    magnitudes = tensor.float().abs()
    fits = magnitudes.max() < 65504 and (not vector or not (magnitudes < 2**-14).any())
    return "float16" if fits else "stored"  # a vector of variances may hold small numbers


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
        prior = _number(record, "prior", 1 << 20)
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
    for scales, row in (("tensor", np.zeros_like(rows)), ("row", rows)):
        if scales == "row" and tensor.dim() < 2:
            continue
        most = np.zeros(n_rows if scales == "row" else 1)
        np.maximum.at(most, row, np.abs(values).astype(np.float64))
        steps = np.full(len(most), np.iinfo(np.int32).max)
        used = most > 0
        steps[used] = np.ceil(8 * np.log2(most[used] / largest) - 1e-9).astype(np.int64)
        base = int(steps.min()) if used.any() else 0
        steps = np.where(used, steps - base, 0)
        codes = np.rint(values / _scale(base + steps)[row]).clip(-largest, largest).astype(np.int64)
        if tensor.dim() > 1:  # no nonzero of a matrix becomes zero
            codes = np.where((codes == 0) & (values != 0), np.copysign(1, values), codes)
            codes = codes.astype(np.int64)
        record = {"codes": magnitude_counts(codes, largest), "bits": bits, "base": base}
        record |= {"scales": scales, "steps": bucket_counts(steps)}
        encoder = RangeEncoder()
        put_naturals(encoder, steps, record["steps"])
        put_codes(encoder, codes, record["codes"], largest)
        found.append((_bytes(encoder), record))
    return min(found, key=lambda coded: len(coded[0]) + len(json.dumps(coded[1])) // 2)


def _values(record, part, shape, dtype, n, mask) -> np.ndarray:
    """Decode n values, as unsigned integers with the bits of the dtype."""
    stored = STORED[dtype.itemsize]
    if "codes" in record:
        codes, scales = _codes(record, part, n)
        if len(scales) > 1:
            places = np.arange(n) if mask is None else np.flatnonzero(mask)
            scales = scales[places // math.prod(shape[1:])]
        values = torch.from_numpy(codes.astype(np.float32) * scales).to(dtype)
        return _bits(values)
    if record["values"] not in ("stored", "float16"):
        raise PackError(f"the values are {record['values']!r}: expected 'stored' or 'float16'")
    kind = np.dtype("<f2") if record["values"] == "float16" else stored
    raw = bytes(part)
    if record.get("zstd"):
        raw = _unzipped(raw, n * kind.itemsize)
    if len(raw) != n * kind.itemsize:
        raise PackError("the values have the wrong size")
    values = np.frombuffer(raw, kind)
    if record["values"] == "float16":
        return _bits(torch.from_numpy(values.astype(np.float32)).to(dtype))
    return values


def _codes(record: dict[str, Any], part: memoryview, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Decode n codes, and the scale of each row or the one of all rows."""
    largest = 2 ** (_number(record, "bits", 8, least=2) - 1) - 1
    n_rows = record["shape"][0] if record["scales"] == "row" else 1
    decoder = _decoder(part)
    steps = get_naturals(decoder, n_rows, record["steps"])
    codes = get_codes(decoder, n, record["codes"], largest)
    return codes, _scale(_number(record, "base", 8 * 512, least=-8 * 512) + steps)


def _decoded_codes(record: dict[str, Any], parts: list) -> tuple[np.ndarray, np.ndarray] | None:
    """The codes and the scales of a matrix, or None if it is stored in another way."""
    shape = tuple(record["shape"])
    if "codes" not in record or len(shape) < 2:
        return None
    n = _number(record, "n", math.prod(shape))
    mask = _mask(record, parts[0], shape, n)
    codes, scales = _codes(record, parts[1], n)
    matrix = np.zeros(math.prod(shape), dtype=np.int8)
    matrix[slice(None) if mask is None else mask] = codes
    return matrix.reshape(shape), np.broadcast_to(scales, shape[:1])


def _scale(steps: np.ndarray) -> np.ndarray:
    """2^(k / 8) as float32, for whole numbers k."""
    return np.ldexp(OCTAVE[steps % 8], (steps // 8).astype(np.int32))


def _bytes(encoder: RangeEncoder) -> bytes:
    return encoder.get_compressed().astype("<u4").tobytes()


def _decoder(part: memoryview) -> RangeDecoder:
    if len(part) % 4:
        raise PackError("a stream has the wrong size")
    return RangeDecoder(np.frombuffer(part, "<u4").astype(np.uint32))


def _unzipped(packed: bytes, size: int) -> bytes:
    """Unpack a zstd frame that must hold `size` bytes."""
    if zstandard.frame_content_size(packed) != size:
        raise PackError("a compressed part has the wrong size")
    return zstandard.ZstdDecompressor().decompress(packed, max_output_size=size)


def _number(record: dict[str, Any], key: str, most: int, least: int = 0) -> int:
    value = record[key]
    if type(value) is not int or not least <= value <= most:
        raise PackError(f"{key} is {value!r}: expected {least} to {most}")
    return value


def _checksum(record: dict[str, Any], parts: list) -> int:
    """CRC-32 of everything in the record except sizes and checksum, and of the streams."""
    facts = {key: value for key, value in record.items() if key not in ("sizes", "crc")}
    crc = zlib.crc32(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode())
    for part in parts:
        crc = zlib.crc32(part, crc)
    return crc


def _transducer(path: str | Path, config: Any) -> Transducer:
    try:
        return Transducer(TransducerConfig(**{**config, "units": tuple(config["units"])}))
    except (ArgumentError, KeyError, TypeError) as error:
        raise PackError(f"{path}: the configuration is wrong: {error}") from None
