"""Checks of the exercises of notebook 12, zero-weight compression."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable

import numpy as np
import zstandard

from cspkit.asr.corpus import data_folder
from cspkit.deploy.container import read_header
from cspkit.teach.cases import Case, table
from cspkit.teach.check import NOTHING, Verdict, exercise

Array = np.ndarray


def _entropy(N: int, n: int, both: bool = True) -> float:
    """Entropy of one entry; without `both` only the part of the nonzeros."""
    parts = [-x * math.log2(x) if x else 0.0 for x in (n / N, 1 - n / N)]
    return sum(parts) if both else parts[0]


table(
    "12.position_bits",
    lambda N, n: N * _entropy(N, n),
    [
        Case(f"N = {N}, n = {n}", (N, n))
        for N, n in ((1000, 50), (8, 4), (64, 64), (1000, 950), (64, 0), (30, 7))
    ],
    [
        (_entropy, "this is the entropy of one entry; multiply by N"),
        (
            lambda N, n: N * _entropy(N, n, both=False),
            "the zeros carry information, too: add the second term",
        ),
        (
            lambda N, n: -N * _entropy(N, n),
            "the sign is lost: the logarithm of a probability is negative",
        ),
        (
            lambda N, n: N * _entropy(N, n) * math.log(2),
            "use the logarithm to base 2: bits, not nats",
        ),
        (lambda N, n: n * _entropy(N, n), "multiply by N, the number of all entries"),
    ],
)


@exercise("12.rice_code")
def rice_code(function: Callable[[int, int], str]) -> Verdict:
    """Check Rice codes of gaps."""
    for g, b in ((17, 3), (0, 3), (5, 0), (0, 0), (9, 2), (7, 3), (100, 4)):
        answer = function(g, b)
        if answer is None:
            return NOTHING
        if not isinstance(answer, str) or set(answer) - {"0", "1"}:
            return f"g = {g}, b = {b}: expected a str of the digits 0 and 1, but got {answer!r}"
        quotient, rest = divmod(g, 2**b)
        digits = f"{rest:0{b}b}" if b else ""
        right = "1" * quotient + "0" + digits
        if answer == right:
            continue
        known = {
            "0" * quotient + "1" + digits: "the quotient is written in ones, and ends with a zero",
            "1" * quotient + digits: "the zero after the ones is missing",
            "1" * quotient + "0" + f"{rest:b}": f"the remainder has exactly {b} digits",
            digits + "1" * quotient + "0": "the quotient comes first",
        }
        if b == 0 and answer == right + "0":
            return "with b = 0 there is no remainder to write"
        return known.get(answer, f"g = {g}, b = {b} gives {answer}, expected {right}")
    return None


def _probability(combine: Callable, from_odds: Callable = lambda odds: odds / (1 + odds)):
    """The probability from the odds of row, column and average; the options make mistakes."""

    def answer(w: Array, c: int, R: int, p: float) -> Array:
        return from_odds(combine(w / (1 - w), c / (R - c), p / (1 - p)))

    return answer


_AVERAGE = "divide by the odds of the average density"

table(
    "12.entry_probability",
    _probability(lambda row, column, average: row * column / average),
    [
        Case(f"w = {w}, c = {c}, R = {R}, p = {p}", (np.array(w), c, R, p))
        for w, c, R, p in (
            ([0.05, 0.05], 5, 100, 0.05),
            ([0.1], 10, 100, 0.05),
            ([0.01, 0.3, 0.6], 40, 64, 0.2),
        )
    ],
    [
        (
            _probability(lambda row, column, average: row * column / average, lambda odds: odds),
            "these are odds; the probability is odds / (1 + odds)",
        ),
        (_probability(lambda row, column, average: row * column), _AVERAGE),
        (_probability(lambda row, column, average: row * column * average), _AVERAGE),
        (lambda w, c, R, p: w * c / R / p, "multiply odds, not probabilities"),
    ],
)


def _codes(
    whole: Callable = np.rint,
    cut: Callable = lambda q, L: np.clip(q, -L, L),
    survive: Callable = np.sign,
):
    """Codes of values; the options make typical mistakes."""

    def answer(x: Array, delta: float, L: int) -> Array:
        q = cut(whole(x / delta), L)
        return np.where((q == 0) & (x != 0), survive(x), q)

    return answer


def _wrong_codes(answer: object, right: Array, inputs: tuple) -> str:
    i = int(np.flatnonzero(answer != right)[0])
    return f"x = {inputs[0][i]:.4g} becomes {np.asarray(answer)[i]:g}, expected {right[i]:g}"


def _codes_cases() -> list[Case]:
    rng = np.random.default_rng(0)
    drawn = rng.standard_normal(50) * (rng.random(50) < 0.5)
    made = "rng = default_rng(0), x = rng.standard_normal(50) * (rng.random(50) < 0.5)"
    return [
        Case(f"x = {x}, delta = {delta}, L = {L}", (np.array(x), delta, L))
        for x, delta, L in (
            ([0, 0.1, -0.6, 2.0], 0.5, 3),
            ([-0.01, 0.0], 1.0, 7),
            ([0, 1, -5, 9], 3, 2),
        )
    ] + [Case(f"{made}, delta = 0.3, L = 7", (drawn, 0.3, 7))]


table(
    "12.codes_of",
    _codes(),
    _codes_cases(),
    [
        (
            _codes(survive=np.zeros_like),
            "a survivor became 0: where x is not 0, the code must not be 0",
        ),
        (_codes(survive=np.ones_like), "a small survivor keeps its sign"),
        (
            lambda *a: np.where(_codes()(*a) == 0, 1, _codes()(*a)),
            "a zero stays a zero",
        ),
        (_codes(cut=lambda q, L: q), "no code is beyond L"),
        (
            lambda x, delta, L: _codes()(x, delta, L) * delta,
            "return the whole numbers, without delta",
        ),
        (lambda x, delta, L: np.clip(x / delta, -L, L), "round to whole numbers"),
        (_codes(np.trunc), "round to the nearest whole number: np.rint"),
    ],
    _wrong_codes,
)


@exercise("12.header_of")
def header_of(function: Callable[[bytes], dict]) -> Verdict:
    """Check the header of a packed file."""
    path = data_folder() / "models" / "csp95_fold0.csp"
    example = read_header(path)[0]
    if function(path.read_bytes()) != example:
        found = function(path.read_bytes())
        names = found.get("tensors") if isinstance(found, dict) else None
        if names is not None:
            return f"the pruned model has {len(example['tensors'])} tensors, but not {names!r:.60}"
    long = {"tensors": [{"name": f"{i * 7919}"} for i in range(500)]}
    for header, streams in (({"tensors": []}, b""), (long, b"\x01" * 300)):
        text = json.dumps(header).encode()
        packed = zstandard.ZstdCompressor().compress(text)
        fields = ((1, 2), (len(packed), 4), (len(text), 4), (zlib.crc32(packed), 4))
        start = b"\x93CSPK\r\n\x1a" + b"".join(n.to_bytes(k, "little") for n, k in fields)
        answer = function(start + packed + streams)
        if answer == header:
            continue
        if answer is None:
            return NOTHING
        if answer in (text, text.decode()):
            return "this is the text; json.loads makes an object of it"
        if answer == packed:
            return "this is still compressed: unpack the zstd frame"
        return f"a file with the header {header!r:.60} gives {answer!r:.60}"
    return None
