"""The checks of notebook 12 accept the right answer and name each typical mistake."""

import json
import math

import numpy as np
import pytest
import zstandard
from answers import answer_tests

from cspkit.teach.check import verdict


def entropy(N, n, base=2, both=True, count=True, sign=1):
    p = n / N
    parts = [x * math.log(x, base) if x else 0.0 for x in (p, 1 - p)]
    return -sign * (N if count else 1) * (sum(parts) if both else parts[0])


def rice(g, b, one="1", zero="0", stop=True, digits=None, first=True):
    quotient, rest = divmod(g, 2**b)
    unary = one * quotient + (zero if stop else "")
    binary = f"{rest:0{b if digits is None else digits}b}" if b else ""
    return unary + binary if first else binary + unary


def probability(w, c, R, rho, average=True, odds=False):
    found = w / (1 - w) * c / (R - c)
    if average:
        found = found * (1 - rho) / rho
    return found if odds else found / (1 + found)


def codes(x, delta, L, cut=True, survive=np.sign, scale=1):
    q = np.rint(x / delta)
    q = np.clip(q, -L, L) if cut else q
    if survive is not None:
        q = np.where((q == 0) & (x != 0), survive(x), q)
    return q * (delta if scale != 1 else 1)


def truncated(x, delta, L):
    q = np.clip(np.trunc(x / delta), -L, L)
    return np.where((q == 0) & (x != 0), np.sign(x), q)


def unpacked(content):
    size = int.from_bytes(content[10:14], "little")
    return zstandard.ZstdDecompressor().decompress(content[22 : 22 + size])


RIGHT = {
    "12.position_bits": entropy,
    "12.rice_code": rice,
    "12.entry_probability": probability,
    "12.codes_of": codes,
    "12.header_of": lambda content: json.loads(unpacked(content)),
}
WRONG = [
    ("12.position_bits", lambda N, n: entropy(N, n, count=False), "multiply by N"),
    ("12.position_bits", lambda N, n: entropy(N, n, both=False), "second term"),
    ("12.position_bits", lambda N, n: entropy(N, n, sign=-1), "the minus is missing"),
    ("12.position_bits", lambda N, n: entropy(N, n, base=math.e), "base 2"),
    ("12.position_bits", lambda N, n: entropy(N, n) * n / N, "number of all entries"),
    ("12.position_bits", lambda N, n: 7.0, "N = 1000, n = 50"),
    ("12.position_bits", lambda N, n: n / N * np.log2(n / N) if n else math.nan, "N = "),
    ("12.position_bits", lambda N, n: math.log2(math.comb(N, n)), "exactly n nonzeros"),
    ("12.position_bits", lambda N, n: entropy(N, n, base=10), "base 2"),
    ("12.position_bits", lambda N, n: 2 * entropy(N, n, both=False) - entropy(N, n), "minus, too"),
    ("12.rice_code", lambda g, b: rice(g, b, "0", "1"), "written in ones"),
    ("12.rice_code", lambda g, b: "1" * (g >> b) + f"0{g % 2**b:03b}", "exactly b digits"),
    ("12.rice_code", lambda g, b: rice(g, b, digits=3), "exactly b digits; tried with g = 9"),
    ("12.rice_code", lambda g, b: "1" + rice(g, b, stop=False), "not one more 1"),
    ("12.rice_code", lambda g, b: f"{g >> b:b}" + rice(g % 2**b, b), "in unary: 2 is 110"),
    ("12.rice_code", lambda g, b: "1" * (g // b) + f"0{g % b:0{b}b}", "not by b"),
    (
        "12.rice_code",
        lambda g, b: rice(g, b, digits=0)[: (g >> b) + 1] + f"{g % 2**b + 2**b:b}"[:0:-1],
        "its highest digit",
    ),
    ("12.rice_code", lambda g, b: rice(g, b, stop=False), "after the ones is missing"),
    (
        "12.rice_code",
        lambda g, b: rice(g, b, digits=1),
        "exactly b digits; tried with the example, g = 17, b = 3",
    ),
    ("12.rice_code", lambda g, b: rice(g, b, first=False), "quotient comes first"),
    ("12.rice_code", lambda g, b: g, "expected a str"),
    ("12.rice_code", lambda g, b: "1", "g = 17, b = 3"),
    ("12.rice_code", lambda g, b: rice(g, b) + "0" * (b == 0), "no remainder"),
    ("12.entry_probability", lambda *a: probability(*a, odds=True), "these are odds"),
    ("12.entry_probability", lambda *a: probability(*a, average=False), "average density"),
    ("12.entry_probability", lambda w, c, R, p: probability(w, c, R, 1 - p), "average density"),
    ("12.entry_probability", lambda *a: (o := probability(*a, odds=True)) / (1 - o), "1 + odds"),
    ("12.entry_probability", lambda *a: 1 - probability(*a), "of a zero"),
    ("12.entry_probability", lambda w, c, R, p: probability(w / (1 + w), c, R, p), "of the row"),
    ("12.entry_probability", lambda w, c, R, p: probability(w, c, R + c, p), "of the column"),
    ("12.entry_probability", lambda w, c, R, p: probability(w, R - c, R, p), "of the column"),
    ("12.entry_probability", lambda w, c, R, p: probability(w, c, R, p / (1 + p)), "p / (1 - p)"),
    ("12.entry_probability", lambda w, c, R, rho: w * c / R / rho, "multiply odds"),
    ("12.entry_probability", lambda w, c, R, rho: w, "expected"),
    ("12.entry_probability", lambda w, c, R, rho: 0.05, "shape"),
    ("12.codes_of", lambda *a: codes(*a, survive=None), "a survivor became 0"),
    ("12.codes_of", lambda *a: codes(*a, survive=np.ones_like), "must keep its sign"),
    ("12.codes_of", lambda *a: codes(*a, cut=False), "beyond L"),
    ("12.codes_of", lambda *a: codes(*a, scale=0), "without delta"),
    ("12.codes_of", lambda x, delta, L: np.clip(x / delta, -L, L), "round to whole"),
    ("12.codes_of", lambda x, d, L: np.where(codes(x, d, L) == 0, 1, codes(x, d, L)), "must stay"),
    ("12.codes_of", lambda x, delta, L: x * 0 + 5, "expected"),
    ("12.codes_of", truncated, "np.rint"),
    ("12.codes_of", lambda x, d, L: np.where(x // d, codes(x // d, 1, L), np.sign(x)), "np.rint"),
    ("12.codes_of", lambda x, d, L: np.sign(x) * np.clip(np.ceil(abs(x) / d), 1, L), "np.rint"),
    ("12.codes_of", lambda x, d, L: codes(np.clip(x, -L, L), d, L, cut=False), "not x"),
    ("12.codes_of", lambda x, d, L: np.where(x < d / 2, np.sign(x), codes(x, d, L)), "abs(x)"),
    ("12.header_of", unpacked, "json.loads"),
    ("12.header_of", lambda content: unpacked(content).decode(), "json.loads"),
    ("12.header_of", lambda c: c[22 : 22 + int.from_bytes(c[10:14], "little")], "compressed"),
    ("12.header_of", lambda content: {}, "answer is {}"),
    ("12.header_of", lambda c: json.loads(c[18:]), "its packed header in content[22:"),
    ("12.header_of", lambda content: {"tensors": []}, "tensors"),
]
test_right, test_wrong, test_unsolved, test_nothing = answer_tests(RIGHT, WRONG)


def test_codes_of_may_be_integers():
    assert verdict("12.codes_of", lambda *a: codes(*a).astype(int)).startswith("right: 12.codes_of")


def test_values_of_the_type_of_an_integer_input_are_tried():
    def in_place(x, delta, L):
        q = np.zeros_like(x)
        q[:] = x / delta  # an array of integers cuts the fractions off
        return codes(q, 1.0, L) + np.where(codes(q, 1.0, L) == 0, np.sign(x), 0)

    assert "x = np.array([0, 1, -5, 9])" in verdict("12.codes_of", in_place)


@pytest.mark.parametrize("name", ["12.position_bits", "12.entry_probability", "12.codes_of"])
def test_the_input_is_shown(name):
    assert "for " in verdict(name, lambda *_: 1 / 0)
    assert "ZeroDivisionError" in verdict(name, lambda *_: 1 / 0)
