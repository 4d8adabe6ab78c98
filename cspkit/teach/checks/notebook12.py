"""Checks of the exercises of notebook 12, zero-weight compression."""

import json
import math
import zlib

import numpy as np
import zstandard

from cspkit.asr.corpus import data_folder
from cspkit.teach.cases import table
from cspkit.teach.check import NOTHING, exercise


def position_bits(N, n):
    ones, zeros = (-x * math.log2(x) if x else 0.0 for x in (n / N, 1 - n / N))
    return N * (ones + zeros)


table("12.position_bits", position_bits, [
    (1000, 50), (8, 4), (64, 64), (1000, 950), (64, 0), (30, 7),
], [
    ("N * =>", "this is the entropy of one entry; multiply by N"),
    ("N * ones", "the zeros carry information, too: add the second term"),
    ("return => return -", "the sign is lost: the logarithm of a probability is negative"),
    ("log2 => log", "use the logarithm to base 2: bits, not nats"),
    ("N * => n *", "multiply by N, the number of all entries"),
], right="With s = 0.95 it is 0.286 bits per entry; a bitmask takes 1 bit.")  # fmt: skip


def rice_code(g, b):
    quotient, rest = divmod(g, 2**b)
    digits = f"{rest:0{b}b}" if b else ""
    return "1" * quotient + "0" + digits


table("12.rice_code", rice_code, [(17, 3), (0, 3), (5, 0), (0, 0), (9, 2), (7, 3), (100, 4)], [
    ('"0" * quotient + "1" + digits', "the quotient is written in ones, and ends with a zero"),
    ('"1" * quotient + digits', "the zero after the ones is missing"),
    ("rest:0{b}b => rest:b", "the remainder has exactly b digits"),
    ('digits + "1" * quotient + "0"', "the quotient comes first"),
    ('if b else "" =>', "with b = 0 there is no remainder to write"),
], right="A larger b shortens the codes of long gaps, but none has fewer than b + 1 digits."
)  # fmt: skip


def entry_probability(w, c, R, p):
    odds = w / (1 - w) * (c / (R - c)) / (p / (1 - p))
    return odds / (1 + odds)


table("12.entry_probability", entry_probability, [
    (np.array([0.05, 0.05]), 5, 100, 0.05), (np.array([0.1]), 10, 100, 0.05),
    (np.array([0.01, 0.3, 0.6]), 40, 64, 0.2),
], [
    ("odds", "these are odds; the probability is odds / (1 + odds)"),
    ("/ (p / (1 - p)) =>", "divide by the odds of the average density"),
    ("/ (p => * (p", "divide by the odds of the average density"),
    ("w * c / R / p", "multiply odds, not probabilities"),
], right="odds / (1 + odds) is always below 1; the product w c / (R p) may be above 1."
)  # fmt: skip


def codes_of(x, delta, L):
    q = np.clip(np.rint(x / delta), -L, L)
    return np.where((q == 0) & (x != 0), np.sign(x), q)


def wrong_codes(answer, right, inputs):
    i = np.flatnonzero(answer != right)[0]
    return f"x = {inputs[0][i]:.4g} becomes {answer[i]:g}, expected {right[i]:g}"


table("12.codes_of", codes_of, [
    *(f"x = np.array({x}); delta = {delta}; L = {L}" for x, delta, L in (
        ([0, 0.1, -0.6, 2.0], 0.5, 3), ([-0.01, 0.0], 1.0, 7), ([0, 1, -5, 9], 3, 2))),
    "rng = default_rng(0); x = rng.standard_normal(50) * (rng.random(50) < 0.5); "
    "delta = 0.3; L = 7",
], [
    ("q", "a survivor became 0: where x is not 0, the code must not be 0"),
    ("np.sign(x) => 1", "a small survivor keeps its sign"),
    (", q) => , np.where(x == 0, 1, q))", "a zero stays a zero"),
    ("np.clip(np.rint(x / delta), -L, L) => np.rint(x / delta)", "no code is beyond L"),
    ("return => return delta *", "return the whole numbers, without delta"),
    ("np.clip(x / delta, -L, L)", "round to whole numbers"),
    ("rint => trunc", "round to the nearest whole number: np.rint"),
], wrong_codes,
    right="A survivor below delta / 2 is stored as delta: a larger error, but it stays.",
)  # fmt: skip


def packed_file(header, streams):
    text = json.dumps(header).encode()
    packed = zstandard.ZstdCompressor().compress(text)
    fields = ((1, 2), (len(packed), 4), (len(text), 4), (zlib.crc32(packed), 4))
    numbers = b"".join(number.to_bytes(size, "little") for number, size in fields)
    return b"\x93CSPK\r\n\x1a" + numbers + packed + streams


@exercise("12.header_of", right="By the checksum the package notices a damaged header.")
def header_of(function):
    """Check the header of two made files and of the pruned model."""
    long = {"tensors": [{"name": f"{i * 7919}"} for i in range(500)]}
    model = data_folder() / "models" / "csp95_fold0.csp"
    made = packed_file({"tensors": []}, b""), packed_file(long, b"\x01" * 300)
    for content in (*made, model.read_bytes()):
        packed = content[22 : 22 + int.from_bytes(content[10:14], "little")]
        text = zstandard.ZstdDecompressor().decompress(packed)
        header, answer = json.loads(text), function(content)
        if answer is None:
            return NOTHING
        if answer in (text, text.decode()):
            return "this is the text; json.loads makes an object of it"
        if answer == packed:
            return "this is still compressed: unpack the zstd frame"
        if answer != header:
            return f"a file with the header {header!r:.60} gives {answer!r:.60}"
    return None
