"""Damage packed files in many ways: each must be refused by a PackError that names its part.

    python tests/benchmarks/damaged_files.py [N]

N files, 2,000 by default: flipped bits, cuts, bytes inserted, overwritten or swapped. Then the same
in files whose checksums were made right again: these may load, but only in bounded time and memory.
"""

import collections
import json
import sys
import tempfile
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import zstandard

from cspkit.asr import load_transducer
from cspkit.asr.corpus import data_folder
from cspkit.deploy import PackError, load, pack
from cspkit.deploy.container import checksum, read_header, records_of
from cspkit.pruning import prunable_weights
from cspkit.pruning.budget import keep_largest


def damaged(content, rng):
    """A damaged copy, and what was done to it."""
    content, place = bytearray(content), int(rng.integers(len(content)))
    kind = rng.choice(["bit", "cut", "insert", "overwrite", "swap", "remove"])
    if kind == "bit":
        content[place] ^= 1 << int(rng.integers(8))
    elif kind == "cut":
        del content[place:]
    elif kind == "insert":
        content[place:place] = rng.bytes(int(rng.integers(1, 50)))
    elif kind == "overwrite":
        content[place : place + 16] = bytes(b ^ 255 for b in content[place : place + 16])
    elif kind == "swap":
        other = int(rng.integers(len(content)))
        first, second = sorted((place, other))
        content = content[second:] + content[first:second] + content[:first]
    else:
        del content[place : place + int(rng.integers(1, 50))]
    return bytes(content), kind


def repaired(path):
    """Make the checksums of damaged streams right; the header was not touched."""
    header, data = read_header(path)
    for record, parts in records_of(path, header, data):
        record["crc"] = checksum(record, parts)
    text = json.dumps(header, separators=(",", ":")).encode()
    packed = zstandard.compress(text)
    numbers = ((1, 2), (len(packed), 4), (len(text), 4), (zlib.crc32(packed), 4))
    head = b"".join(n.to_bytes(size, "little") for n, size in numbers)
    path.write_bytes(path.read_bytes()[:8] + head + packed + bytes(data))


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    model = load_transducer(data_folder() / "models" / "dense_fold0.safetensors")
    for weight in prunable_weights(model).values():
        weight.data.mul_(keep_largest(weight.data.abs(), weight.numel() // 20)).add_(0.0)
    rng, found = np.random.default_rng(0), collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.csp"
        pack(model, path, bits=8)
        whole = path.read_bytes()
        for _ in range(n):
            content, kind = damaged(whole, rng)
            if content == whole:
                continue
            path.write_bytes(content)
            try:
                load(path)
            except PackError as error:
                named = "model.csp" in str(error)
                found[kind, "refused" if named else "NOT NAMED"] += 1
            else:
                found[kind, "LOADED"] += 1
        start = len(whole) - sum(sum(r["sizes"]) for r in read_back(path, whole)["tensors"])
        slowest = most = 0
        for _ in range(n // 10):
            content, place = bytearray(whole), int(rng.integers(start, len(whole) - 8))
            content[place : place + 8] = rng.bytes(8)
            path.write_bytes(bytes(content))
            repaired(path)
            tracemalloc.start()
            began = time.perf_counter()
            try:
                load(path)
                found["forged", "loaded"] += 1
            except PackError:
                found["forged", "refused"] += 1
            slowest = max(slowest, time.perf_counter() - began)
            most = max(most, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    for (kind, outcome), count in sorted(found.items()):
        print(f"{kind:10s} {outcome:8s} {count:5d}")
    print(f"forged: at most {slowest:.1f} s and {most / 1e6:.0f} MB")


def read_back(path, whole):
    path.write_bytes(whole)
    return read_header(path)[0]


if __name__ == "__main__":
    main()
