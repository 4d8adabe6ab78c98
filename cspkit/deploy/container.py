"""The container of packed files: header, records of tensors, and checksums. See FORMAT.md."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import zstandard

from cspkit.asr.checkpoint import PACKED
from cspkit.files import replacing

VERSION = 1
MAX_HEADER = 1 << 22
MAX_DIMENSIONS = 16
DTYPES = {
    "float64": torch.float64, "float32": torch.float32, "float16": torch.float16,
    "bfloat16": torch.bfloat16, "int64": torch.int64, "int32": torch.int32, "int16": torch.int16,
    "int8": torch.int8, "uint8": torch.uint8, "bool": torch.bool,
}  # fmt: skip


class PackError(ValueError):
    """A packed file is damaged, or is not a packed file."""


def write_file(path: str | Path, header: dict[str, Any], streams: list[bytes]) -> None:
    """Write a header and the streams of all tensors."""
    text = json.dumps(header, separators=(",", ":")).encode()
    packed = zstandard.ZstdCompressor(level=19).compress(text)
    with replacing(path) as new, new.open("wb") as file:
        file.write(PACKED)
        for field, size in ((VERSION, 2), (len(packed), 4), (len(text), 4)):
            file.write(field.to_bytes(size, "little"))
        file.write(zlib.crc32(packed).to_bytes(4, "little"))
        file.write(packed)
        for part in streams:
            file.write(part)


def read_header(path: str | Path) -> tuple[dict[str, Any], memoryview]:
    """Read the header of a packed file, and return it with the streams, which are not decoded."""
    content = Path(path).read_bytes()
    if content[: len(PACKED)] != PACKED:
        raise PackError(f"{path} is not a packed file: it does not start with {PACKED!r}")
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
        header = json.loads(unzipped(packed, full_size))
        if not isinstance(header, dict) or not isinstance(header["tensors"], list):
            raise TypeError("it has no list of tensors")
    except (ValueError, TypeError, KeyError, RecursionError, zstandard.ZstdError) as error:
        raise PackError(f"{path}: the header cannot be read: {error}") from None
    names: set[str] = set()
    for i, record in enumerate(header["tensors"]):
        try:
            _check_record(record, names)
        except (KeyError, TypeError, ValueError) as error:
            raise PackError(f"{path}: the record of tensor {i} is wrong: {error}") from None
    return header, memoryview(content)[places[-1] + size :]


def _check_record(record: Any, names: set[str]) -> None:
    """Check what every record has. `names` holds the names of the records before."""
    name, shape, sizes = record["name"], record["shape"], record["sizes"]
    numbers = (*shape, *sizes, record["crc"])
    good = all(type(n) is int and 0 <= n < 1 << 40 for n in numbers)
    good = good and len(shape) <= MAX_DIMENSIONS and len(sizes) == 2
    if not good or type(name) is not str or name in names or record["dtype"] not in DTYPES:
        raise ValueError("name, shape, sizes, crc or dtype")
    names.add(name)


def records_of(
    path: str | Path, header: dict[str, Any], data: memoryview
) -> Iterator[tuple[dict[str, Any], list[memoryview]]]:
    """Yield the record of each tensor and its streams, whose checksum is right."""
    place = 0
    for record in header["tensors"]:
        where, sizes = f"{path}: tensor {record['name']!r}", record["sizes"]
        end = place + sum(sizes)
        parts = [data[place : place + sizes[0]], data[place + sizes[0] : end]]
        if checksum(record, parts) != record["crc"]:
            cut = ", or cut off" if end > len(data) else ""
            raise PackError(f"{where} is damaged{cut}: its checksum is not the recorded one")
        if end > len(data):
            raise PackError(f"{where} is cut off")
        yield record, parts
        place = end
    if place != len(data):
        raise PackError(f"{path}: {len(data) - place} bytes after the last tensor")


def checksum(record: dict[str, Any], parts: list) -> int:
    """CRC-32 of everything in the record except sizes and checksum, and of the streams."""
    facts = {key: value for key, value in record.items() if key not in ("sizes", "crc")}
    crc = zlib.crc32(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode())
    for part in parts:
        crc = zlib.crc32(part, crc)
    return crc


def unzipped(packed: bytes, size: int) -> bytes:
    """Unpack a zstd frame that must hold `size` bytes."""
    if zstandard.frame_content_size(packed) != size:
        raise PackError("a compressed part has the wrong size")
    return zstandard.ZstdDecompressor().decompress(packed, max_output_size=size)


def number(record: dict[str, Any], key: str, most: int, least: int = 0) -> int:
    """Return a whole number of a record, which must lie in a range."""
    value = record[key]
    if type(value) is not int or not least <= value <= most:
        raise PackError(f"{key} is {value!r}: expected {least} to {most}")
    return value
