"""A reader of packed files that was written from cspkit/deploy/FORMAT.md alone."""

import json
import zlib

import constriction
import numpy as np
import zstandard

model, queue = constriction.stream.model, constriction.stream.queue
KINDS = {"float64": "<f8", "float32": "<f4", "float16": "<f2", "int64": "<i8", "int32": "<i4"}
KINDS |= {"int16": "<i2", "int8": "i1", "uint8": "u1", "bool": "?", "bfloat16": "<u2"}


def distribution(weights):
    w = np.array(list(weights) + [0] * (len(weights) == 1), dtype=float)
    return model.Categorical(w / w.max(), perfect=False)


def naturals(decoder, n, counts):
    if n == 0:
        return np.zeros(0, int)
    b = decoder.decode(distribution(counts), n).astype(int)
    v, some = 2**b - 1, b > 0
    if some.any():
        v[some] += decoder.decode(model.Uniform(), (2 ** b[some]).astype(np.int32))
    return v


def positions(record, stream):
    shape, n = record["shape"], record["n"]
    size = int(np.prod(shape))
    if record["layout"] == "dense":
        return np.arange(size)
    if record["layout"] == "bitmask":
        return np.flatnonzero(np.unpackbits(np.frombuffer(stream, np.uint8))[:size])
    decoder = queue.RangeDecoder(np.frombuffer(stream, "<u4").astype(np.uint32))
    if record["layout"] == "gaps":
        return np.cumsum(naturals(decoder, n, record["counts"]) + 1) - 1
    R, C, prior = shape[0], size // shape[0], record["prior"]
    c = naturals(decoder, C, record["counts"])
    mask, s, rho = np.zeros((R, C), bool), np.zeros(R), c.sum() / (R * C)
    for j in range(C):
        if c[j] in (0, R):
            mask[:, j] = c[j] == R
        else:
            w = (s + prior * rho) / (j + prior)
            o = w / (1 - w) * (c[j] / (R - c[j])) * ((1 - rho) / rho)
            p = np.clip(o / (1 + o), 2.0**-20, 1 - 2.0**-20)
            mask[:, j] = decoder.decode(model.Bernoulli(perfect=False), p)
        s += mask[:, j]
    return np.flatnonzero(mask)


def values(record, stream, places):
    if "codes" not in record:
        raw = zstandard.decompress(stream) if record.get("zstd") else stream
        half = record["values"] == "float16"
        return np.frombuffer(raw, "<f2" if half else KINDS[record["dtype"]])
    L = 2 ** (record["bits"] - 1) - 1
    m = min(16, L)
    firsts = [0, *(1 + i * L // m for i in range(m)), L + 1]
    weight = np.zeros(2 * L + 1)
    for first, end, count in zip(firsts[:-1], firsts[1:], record["codes"], strict=True):
        for magnitude in range(first, end):
            share = count if magnitude == 0 else count / (2 * (end - first))
            weight[[L - magnitude, L + magnitude]] = share
    decoder = queue.RangeDecoder(np.frombuffer(stream, "<u4").astype(np.uint32))
    rows = record["shape"][0] if record["scales"] == "row" else 1
    e = record["base"] + naturals(decoder, rows, record["steps"])
    codes = decoder.decode(distribution(weight), len(places)) - L if len(places) else np.zeros(0)
    scale = np.float32(2.0 ** (e % 8 / 8)) * np.float32(2.0) ** (e // 8)
    row = places * rows // max(1, int(np.prod(record["shape"])))
    return codes.astype(np.float32) * scale.astype(np.float32)[row]


def read(path):
    content = open(path, "rb").read()
    assert content[:10] == bytes.fromhex("93 43 53 50 4B 0D 0A 1A 01 00")
    h = int.from_bytes(content[10:14], "little")
    header, place, tensors = json.loads(zstandard.decompress(content[22 : 22 + h])), 22 + h, {}
    for record in header["tensors"]:
        first, second = record["sizes"]
        streams = content[place : place + first], content[place + first : place + first + second]
        facts = {k: v for k, v in record.items() if k not in ("sizes", "crc")}
        text = json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()
        assert record["crc"] == zlib.crc32(text + streams[0] + streams[1]), record["name"]
        places, kind = positions(record, streams[0]), KINDS[record["dtype"]]
        flat = np.zeros(int(np.prod(record["shape"])), kind)
        flat[places] = values(record, streams[1], places).astype(kind)
        tensors[record["name"]] = flat.reshape(record["shape"])
        place += first + second
    return header, tensors
