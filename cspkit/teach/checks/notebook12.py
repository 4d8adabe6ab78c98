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
    ("+ zeros => - zeros", "the second term has a minus, too: close the bracket after both"),
    ("return => return -", "the sign is lost: the logarithm of a probability is negative"),
    *((f"log2 => {log}", "use the logarithm to base 2: bits") for log in ("log", "log10")),
    ("math.log2(math.comb(N, n))",
     "this is for masks with exactly n nonzeros, a little less; use the formula"),
    ("N * => n *", "multiply by N, the number of all entries"),
], right="With s = 0.95 it is 0.286 bits per entry; a bitmask takes 1 bit.")  # fmt: skip


def rice_code(g, b):
    quotient, rest = divmod(g, 2**b)
    digits = f"{rest:0{b}b}" if b else ""
    return "1" * quotient + "0" + digits


DIGITS = "the remainder has exactly b digits"
table("12.rice_code", rice_code, [(17, 3), (0, 3), (5, 0), (0, 0), (9, 2), (7, 3), (100, 4)], [
    ('"0" * quotient + "1" + digits', "the quotient is written in ones, and ends with a zero"),
    ('"1" * quotient + digits', "the zero after the ones is missing"),
    ('"1" * (quotient + 1) + digits', "after as many ones as the quotient comes a zero"),
    ('f"{quotient:b}0" + digits', "the quotient is written in unary: 2 is 110"),
    ("2**b => (b or 1)", "divide by 2**b, not by b"),
    ("rest:0{b}b => rest:b", DIGITS),
    ("rest:0{b}b => rest:03b", DIGITS),
    ('"1" * quotient + "0" + f"{rest:03b}"', DIGITS),
    ('"1" * quotient + "0" + digits[::-1]', "the remainder begins with its highest digit"),
    ('digits + "1" * quotient + "0"', "the quotient comes first"),
    ('if b else "" =>', "with b = 0 there is no remainder to write"),
], right="A larger b shortens the codes of long gaps, but none has fewer than b + 1 digits."
)  # fmt: skip


def entry_probability(w, c, R, p):
    odds = w / (1 - w) * (c / (R - c)) / (p / (1 - p))
    return odds / (1 + odds)


BACK = "from odds back to a probability: odds / (1 + odds)"
AVERAGE = "divide by the odds of the average density, p / (1 - p)"
COLUMN = "the odds of the column are c / (R - c)"
table("12.entry_probability", entry_probability, [
    (np.array([0.05, 0.05]), 5, 100, 0.05), (np.array([0.1]), 10, 100, 0.05),
    (np.array([0.01, 0.3, 0.6]), 40, 64, 0.2),
], [
    ("odds", "these are odds; the probability is odds / (1 + odds)"),
    ("1 + odds => 1 - odds", BACK),
    ("1 / (1 + odds)", f"this is the probability of a zero; {BACK}"),
    *((f"/ (p / (1 - p)) => {other}", AVERAGE) for other in ("", "* (p / (1 - p))", "/ p")),
    ("w / (1 - w) => w", "the odds of the row are w / (1 - w)"),
    *((f"(c / (R - c)) => {other}", COLUMN) for other in ("c / R", "(R - c) / c")),
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
    ("np.rint(np.clip(x, -L, L) / delta)", "clip the codes, not x"),
    ("np.clip(np.rint(x / delta), -L, L) => np.rint(np.clip(x, -L, L) / delta)",
     "clip the codes, not x"),
    ("q == 0 => x / delta < 0.5", "negative values are not small: compare abs(x)"),
    ("np.clip(x / delta, -L, L)", "round to whole numbers"),
    *((f"np.rint(x / delta) => {other}", "round to the nearest whole number: np.rint") for other in
      ("np.trunc(x / delta)", "x // delta", "np.sign(x) * np.ceil(abs(x) / delta)")),
], wrong_codes,
    right="A survivor below delta / 2 is stored as delta: a larger error, but it stays.",
)  # fmt: skip


def packed_file(header, streams):
    text = json.dumps(header).encode()
    packed = zstandard.ZstdCompressor().compress(text)
    fields = ((1, 2), (len(packed), 4), (len(text), 4), (zlib.crc32(packed), 4))
    numbers = b"".join(number.to_bytes(size, "little") for number, size in fields)
    return b"\x93CSPK\r\n\x1a" + numbers + packed + streams


@exercise(
    "12.header_of",
    right="zstd finds the end of its own frame, so a size that is too large may pass here.",
)
def header_of(function):
    """Check the header of two made files and of the pruned model."""
    long = {"tensors": [{"name": f"{i * 7919}"} for i in range(500)]}
    model = data_folder() / "models" / "csp95_fold0.csp"
    made = packed_file({"tensors": []}, b""), packed_file(long, b"\x01" * 300)
    for content in (*made, model.read_bytes()):
        stop = 22 + int.from_bytes(content[10:14], "little")
        packed = content[22:stop]
        text = zstandard.ZstdDecompressor().decompress(packed)
        header, where = json.loads(text), f"a file with its packed header in content[22:{stop}]"
        try:
            answer = function(content)
        except NotImplementedError:
            raise
        except Exception as error:
            return f"for {where}, it fails with {type(error).__name__}: {error}"
        if answer is None:
            return NOTHING
        if answer in (text, text.decode()):
            return "this is the text; json.loads makes an object of it"
        if answer == packed:
            return "this is still compressed: unpack the zstd frame"
        if answer != header:
            return f"{where}, the header {header!r:.60}, gives {answer!r:.60}"
    return None
