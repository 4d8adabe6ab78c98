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
from cspkit.teach.check import NOTHING, Verdict, as_array, exercise, named

Array = np.ndarray


@exercise("12.position_bits")
def position_bits(function: Callable[[int, int], float]) -> Verdict:
    """Check the entropy of positions."""
    for N, n in ((1000, 50), (8, 4), (1000, 950), (64, 0), (64, 64), (30, 7)):
        answer, wrong = as_array(function(N, n), ())
        if wrong:
            return f"N = {N}, n = {n}: {wrong}"
        p = n / N
        parts = [-x * math.log2(x) if x else 0.0 for x in (p, 1 - p)]
        right = N * sum(parts)
        if np.isclose(answer, right):
            continue
        known = (
            (sum(parts), "this is the entropy of one entry; multiply by N"),
            (N * parts[0], "the zeros carry information, too: add the second term"),
            (-right, "the sign is lost: the logarithm of a probability is negative"),
            (right * math.log(2), "use the logarithm to base 2: bits, not nats"),
            (n * sum(parts), "multiply by N, the number of all entries"),
        )
        return named(answer, known, f"N = {N}, n = {n}: {answer:.4g}, expected {right:.4g}")
    return None


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


@exercise("12.entry_probability")
def entry_probability(function: Callable[[Array, int, int, float], Array]) -> Verdict:
    """Check the probability of an entry from the counts of its row and column."""
    cases = [([0.05, 0.05], 5, 100, 0.05), ([0.1], 10, 100, 0.05), ([0.01, 0.3, 0.6], 40, 64, 0.2)]
    for given, c, R, rho in cases:
        w = np.array(given)
        answer, wrong = as_array(function(w.copy(), c, R, rho), w.shape)
        case = f"w = {given}, c = {c}, R = {R}, p = {rho}"
        if wrong:
            return f"{case}: {wrong}"
        row, column, average = w / (1 - w), c / (R - c), rho / (1 - rho)
        right = row * column / average
        probability = right / (1 + right)
        if np.allclose(answer, probability):
            continue
        both = row * column
        known = (
            (right, "these are odds; the probability is odds / (1 + odds)"),
            (both / (1 + both), "divide by the odds of the average density"),
            (w * c / R / rho, "multiply odds, not probabilities"),
            (both * average / (1 + both * average), "divide by the odds of the average"),
        )
        got, expected = np.round(answer, 4).tolist(), np.round(probability, 4).tolist()
        return named(answer, known, f"{case} gives {got}, expected {expected}")
    return None


@exercise("12.codes_of")
def codes_of(function: Callable[[Array, float, int], Array]) -> Verdict:
    """Check codes of quantised values."""
    rng = np.random.default_rng(0)
    drawn = rng.standard_normal(50) * (rng.random(50) < 0.5)
    for given, delta, L in (
        ([0.0, 0.1, -0.6, 2.0], 0.5, 3),
        ([-0.01, 0.0], 1.0, 7),
        (drawn, 0.3, 7),
    ):
        x = np.array(given)
        answer, wrong = as_array(function(x.copy(), delta, L), x.shape)
        case = f"x = {np.round(x[:4], 2).tolist()}{' ...' if len(x) > 4 else ''}, scale {delta}"
        if wrong:
            return f"{case}: {wrong}"

        def survivors(codes, x=x, L=L):
            cut = np.clip(codes, -L, L)
            return np.where((cut == 0) & (x != 0), np.sign(x), cut)

        exact = np.rint(x / delta)
        cut, right = np.clip(exact, -L, L), survivors(exact)
        if np.array_equal(answer, right):
            continue
        known = (
            (cut, "a survivor became 0: where x is not 0, the code must not be 0"),
            (np.where((cut == 0) & (x != 0), 1, cut), "a small survivor keeps its sign"),
            (np.where(right == 0, 1, right), "a zero stays a zero"),
            (np.where((exact == 0) & (x != 0), np.sign(x), exact), f"no code is beyond L = {L}"),
            (right * delta, "return the whole numbers, without the scale"),
            (np.clip(x / delta, -L, L), "round to whole numbers"),
            (survivors(np.trunc(x / delta)), "round to the nearest whole number: np.rint"),
        )
        i = int(np.flatnonzero(answer != right)[0])
        otherwise = f"x = {x[i]:.4g}, scale {delta}, L = {L}: {answer[i]:g}, expected {right[i]:g}"
        return named(answer, known, otherwise)
    return None


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
