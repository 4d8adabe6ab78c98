import math

import numpy as np
import pytest

from cspkit.arguments import ArgumentError, count, fraction, one_of, positive


def test_good_values_come_back_as_plain_numbers():
    assert type(count("n", np.int64(3))) is int
    assert type(positive("lam", np.float32(0.5))) is float
    assert positive("mu", 0, zero=True) == 0.0
    assert fraction("end", 1) == 1.0
    assert count("k", 5, most=5) == 5
    assert one_of("kind", "a", ("a", "b")) == "a"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: count("n", 0), "n is 0: expected a whole number >= 1"),
        (lambda: count("n", True), "n is True"),
        (lambda: count("n", 2.0), "n is 2.0"),
        (lambda: count("k", 9, most=5), "k is 9: expected a whole number from 1 to 5"),
        (lambda: positive("lam", 0), "lam is 0: expected a finite number > 0"),
        (lambda: positive("mu", -1, zero=True), "mu is -1: expected a finite number >= 0"),
        (lambda: positive("lam", math.nan), "lam is nan"),
        (lambda: positive("lam", math.inf), "lam is inf"),
        (lambda: positive("lam", 10**400), "lam is 1000.*: expected a finite number > 0"),
        (lambda: positive("lam", "1"), "lam is '1'"),
        (lambda: positive("lam", True), "lam is True"),
        (lambda: fraction("end", 1.1), r"end is 1.1: expected a fraction in \[0, 1\]"),
        (lambda: one_of("kind", "c", ("a", "b")), "kind is 'c': expected one of 'a', 'b'"),
        (lambda: one_of("kind", np.array(["a", "b"]), ("a", "b")), "kind is array"),
        (lambda: one_of("kind", None, ("a", "b")), "kind is None"),
    ],
)
def test_the_message_names_argument_value_and_expectation(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()
