"""Damage packed files in many ways: each must be refused by a PackError that names its part.

    python tests/benchmarks/damaged_files.py [N]

N files are damaged, 2,000 by default: flipped bits, cuts, bytes inserted, overwritten, removed or
exchanged, streams of two tensors exchanged, other versions, and headers that unpack to something
huge. Then N / 4 forgeries, whose checksums are right: random bytes in the streams, and records with
random sizes, counts, shapes, numbers or configurations. A forgery may load, but no file may take
more than SECONDS, or MEMORY in all. The command fails if anything else happens.
"""

import collections
import json
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import zstandard

from cspkit.asr import load_transducer
from cspkit.asr.checkpoint import PACKED
from cspkit.asr.corpus import data_folder
from cspkit.deploy import PackError, load, pack
from cspkit.deploy.container import VERSION, checksum, read_header
from cspkit.deploy.reporting import peak_memory
from cspkit.pruning import prunable_weights
from cspkit.pruning.budget import keep_largest

SECONDS, MEMORY = 10.0, 5e8
PARTS = (
    "tensor ",
    "header",
    "is not a packed file",
    "version",
    "after the last tensor",
    "configuration",
)
KINDS = ("bit", "cut", "insert", "overwrite", "exchange", "remove", "streams", "version", "bomb")
FIELDS = ("streams", "shape", "n", "counts", "codes", "steps", "sizes", "base", "bits", "prior",
          "layout", "zstd", "configuration")  # fmt: skip
NUMBERS = (-1, 0, 1, 3, 255, 2**31, 2**40 - 1, 10**30, 1.5, "7", None, [], [1] * 50, [10**30])


def damaged(content, kind, rng):
    """A damaged copy of a file."""
    content, place = bytearray(content), int(rng.integers(len(content)))
    other = int(rng.integers(len(content)))
    if kind == "bit":
        content[place] ^= 1 << int(rng.integers(8))
    elif kind == "cut":
        del content[place:]
    elif kind == "insert":
        content[place:place] = rng.bytes(int(rng.integers(1, 50)))
    elif kind == "overwrite":
        content[place : place + 16] = bytes(b ^ 255 for b in content[place : place + 16])
    elif kind == "exchange":
        first, second = sorted((place, other))
        content = content[:8] + content[second:] + content[first:second] + content[8:first]
    elif kind == "remove":
        del content[place : place + int(rng.integers(1, 50))]
    elif kind == "version":
        content[8:10] = int(rng.integers(2, 1 << 16)).to_bytes(2, "little")
    elif kind == "bomb":  # a header of up to a thousand times its size
        text = b" " * int(rng.integers(1 << 20, 1 << 28))
        return file_of(text, b"", size=len(text) if place % 2 else 100)
    return bytes(content)


def file_of(text, data, size=None):
    """A file with this text as header, and right checksums of the header."""
    packed = zstandard.compress(text)
    fields = ((VERSION, 2), (len(packed), 4), (len(text) if size is None else size, 4))
    head = b"".join(n.to_bytes(k, "little") for n, k in (*fields, (zlib.crc32(packed), 4)))
    return PACKED + head + packed + data


def forged(header, data, kind, rng, *, right=True):
    """A file with a changed header or streams, and, if asked for, right checksums."""
    header, data = json.loads(json.dumps(header)), bytearray(data)
    records = header["tensors"]
    record = records[int(rng.integers(len(records)))]
    if kind == "configuration":
        fields = [key for key, value in header["transducer"].items() if key != "units"]
        header["transducer"][fields[int(rng.integers(len(fields)))]] = chosen(rng)
    elif kind == "streams" and right:
        place = int(rng.integers(len(data) - 8))
        data[place : place + 8] = rng.bytes(8)
    elif kind == "streams":
        sizes = [sum(r["sizes"]) for r in records]
        streams = [bytes(data[sum(sizes[:i]) : sum(sizes[: i + 1])]) for i in range(len(sizes))]
        big = [i for i, size in enumerate(sizes) if size > 1000]
        i, j = rng.choice(big, 2, replace=False)
        streams[i], streams[j] = streams[j], streams[i]
        records[i]["sizes"], records[j]["sizes"] = records[j]["sizes"], records[i]["sizes"]
        data = bytearray(b"".join(streams))
    elif kind in ("shape", "sizes"):
        record[kind] = [chosen(rng) for _ in range(int(rng.integers(1, 4)))]
    elif kind == "layout":
        record["layout"] = str(rng.choice(["dense", "bitmask", "gaps", "columns", "other"]))
    elif kind == "zstd":
        record["values"], record["zstd"] = "stored", True
    else:
        record[kind] = chosen(rng)
    place = 0
    for record in records:
        sizes = record["sizes"]
        if right and all(type(n) is int and 0 <= n < 1 << 40 for n in sizes):
            record["crc"] = checksum(record, [bytes(data[place : place + sum(sizes)])])
            place += sum(sizes)
    return file_of(json.dumps(header).encode(), bytes(data))


def chosen(rng):
    return NUMBERS[int(rng.integers(len(NUMBERS)))]


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    model = load_transducer(data_folder() / "models" / "dense_fold0.safetensors")
    for weight in prunable_weights(model).values():
        weight.data.mul_(keep_largest(weight.data.abs(), weight.numel() // 20)).add_(0.0)
    rng, found, bad, slowest = np.random.default_rng(0), collections.Counter(), [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f"
        pack(model, path, bits=8)
        whole = path.read_bytes()
        header, data = read_header(path)
        data = bytes(data)
        load(path)
        before = peak_memory()
        cases = [(KINDS[i % len(KINDS)], False) for i in range(n)]
        cases += [(FIELDS[i % len(FIELDS)], True) for i in range(n // 4)]
        for kind, forgery in cases:
            if forgery or kind == "streams":
                content = forged(header, data, kind, rng, right=forgery)
            else:
                content = damaged(whole, kind, rng)
            if content == whole:
                continue
            path.write_bytes(content)
            start = time.perf_counter()
            try:
                load(path)
                outcome = "loaded"
            except PackError as error:
                outcome = "refused"
                if not any(part in str(error) for part in PARTS):
                    outcome = f"refused without a part: {error}"
            except BaseException as error:  # a panic of the coder is no Exception
                outcome = f"{type(error).__name__}: {error}"
            seconds = time.perf_counter() - start
            slowest = max(slowest, seconds)
            name = f"forged {kind}" if forgery else kind
            found[name, outcome[:60]] += 1
            if outcome != "refused" and not (forgery and outcome == "loaded"):
                bad.append(f"{name}: {outcome}")
            if seconds > SECONDS:
                bad.append(f"{name}: {seconds:.1f} s")
        memory = peak_memory() - before
    for (kind, outcome), count in sorted(found.items()):
        print(f"{kind:20s} {outcome:8s} {count:5d}")
    print(f"at most {slowest:.1f} s; {memory / 1e6:.0f} MB beyond the load of the whole file")
    if memory > MEMORY:
        bad.append(f"{memory / 1e6:.0f} MB")
    sys.exit("\n".join(bad) if bad else 0)


if __name__ == "__main__":
    main()
