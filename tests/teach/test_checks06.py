"""The checks of notebook 06 accept the right answer and name each typical mistake."""

import numpy as np
import pytest
import scipy.fft
from answers import answer_tests

from cspkit.teach.check import verdict

WINDOW = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)


def frames(mode="reflect", pad=200, hop=200):
    def answer(x):
        padded = np.pad(x, pad, mode=mode)
        return np.lib.stride_tricks.sliding_window_view(padded, 400)[::hop]

    return answer


def without_padding(x):
    if len(x) < 400:
        return np.zeros((0, 400))
    return np.lib.stride_tricks.sliding_window_view(x, 400)[::200]


def overwrites_x(x):
    result = frames()(x).copy()
    x[:] = 0
    return result


def spoiled(part):
    def answer(x):
        result = frames()(x).copy()
        result[0, part] += 1
        return result

    return answer


def sides(left, centre, right, hertz):
    return (hertz - left) / (centre - left), (right - hertz) / (right - centre)


def triangle(*edges):
    return np.maximum(0, np.minimum(*sides(*edges)))


def same_slopes(left, centre, right, hertz):
    return np.maximum(0, 1 - np.abs(hertz - centre) / ((right - left) / 2))


def other_widths(rising, falling):
    def answer(left, centre, right, hertz):
        rise, fall = centre - left, right - centre
        lines = (
            (hertz - left) / (fall if rising else rise),
            (right - hertz) / (rise if falling else fall),
        )
        return np.maximum(0, np.minimum(*lines))

    return answer


def falls_the_wrong_way(left, centre, right, hertz):
    rise, fall = sides(left, centre, right, hertz)
    return np.maximum(0, np.minimum(rise, -fall))


def in_hertz(left, centre, right, hertz):
    return np.maximum(0, np.minimum(hertz - left, right - hertz))


def overwrites_hertz(left, centre, right, hertz):
    result = triangle(left, centre, right, hertz)
    hertz[:] = 0
    return result


def back(**options):
    return lambda c: scipy.fft.idct(c, **({"n": 128, "norm": "ortho", "axis": 1} | options))


def wrong_mean(c):
    bands = back()(c)
    return bands + (np.sqrt(2) - 1) * bands.mean(axis=1, keepdims=True)


def zeros_in_front(c):
    return back()(np.hstack([np.zeros((len(c), 128 - c.shape[1])), c]))


def overwrites_c(c):
    result = back()(c)
    c[:] = 0
    return result


def forth(bands, k):
    return scipy.fft.dct(bands, norm="ortho", axis=1)[:, :k]


def power(c, level):
    return 10 ** (back()(c) / 10) + 10 ** (level / 10)


def hiss(c, level):
    return forth(10 * np.log10(power(c, level)), c.shape[1])


def overwrites_coefficients(c, level):
    result = hiss(c, level)
    c[:] = 0
    return result


def amplitudes(c, level):
    return forth(20 * np.log10(10 ** (back()(c) / 20) + 10 ** (level / 20)), c.shape[1])


def level_in_decibels(c, level):
    return forth(10 * np.log10(np.maximum(10 ** (back()(c) / 10) + level, 1e-10)), c.shape[1])


def without_norm(on_the_way_back, on_the_way_forth):
    def answer(c, level):
        bands = back(norm=None if on_the_way_back else "ortho")(c)
        noisy = 10 * np.log10(10 ** (bands / 10) + 10 ** (level / 10))
        norm = None if on_the_way_forth else "ortho"
        return scipy.fft.dct(noisy, norm=norm, axis=1)[:, : c.shape[1]]

    return answer


def forward(transform=scipy.fft.dct, axis=1):
    def answer(c, level):
        return transform(10 * np.log10(power(c, level)), norm="ortho", axis=axis)[:, : c.shape[1]]

    return answer


RIGHT = {
    "06.cut": frames(),
    "06.triangle": triangle,
    "06.bands_of": back(),
    "06.hiss": hiss,
}
CUT, TRI, BACK, HISS = RIGHT

WRONG = [
    (CUT, without_padding, "the ends are not padded"),
    (CUT, lambda x: frames(hop=100)(x), "expected (6, 400)"),
    (CUT, frames("symmetric"), "is doubled"),
    (CUT, frames("constant"), "padded with zeros"),
    (CUT, frames("edge"), "is repeated"),
    (CUT, frames("wrap"), "the other end"),
    (CUT, frames(hop=1), "a frame for every sample"),
    (CUT, frames(hop=400), "the hop is 200"),
    (CUT, frames(pad=400), "mirrored at each end, expected 200"),
    (CUT, lambda x: frames()(x).T, "must be a row"),
    (CUT, lambda x: frames()(x) * WINDOW, "the window is already applied"),
    (CUT, lambda x: frames()(x)[:, :399], "expected (6, 400)"),
    (CUT, spoiled(slice(0, 10)), "mirrored samples"),
    (CUT, spoiled(slice(300, 310)), "200 apart"),
    (CUT, lambda x: frames()(x)[:-1], "the last frame is missing"),
    (CUT, lambda x: frames()(x)[: -(-len(x) // 200)], "the last frame is missing"),
    (CUT, overwrites_x, "in place"),
    (TRI, lambda *e: np.minimum(*sides(*e)), "it must be 0"),
    (TRI, lambda *e: np.maximum(*sides(*e)), "not the larger"),
    (TRI, lambda *e: np.maximum(0, np.maximum(*sides(*e))), "the smaller of the two"),
    (TRI, lambda *e: np.maximum(0, sides(*e)[0]), "falling side is missing"),
    (TRI, lambda *e: np.clip(sides(*e)[0], 0, 1), "falling side is missing"),
    (TRI, lambda *e: np.maximum(0, sides(*e)[1]), "rising side is missing"),
    (TRI, lambda *e: np.clip(sides(*e)[1], 0, 1), "rising side is missing"),
    (TRI, lambda *e: triangle(*e) * 2 / (e[2] - e[0]), "not normalised by area"),
    (TRI, in_hertz, "the lines are in Hz"),
    (TRI, same_slopes, "the same slope"),
    (
        TRI,
        lambda a, b, c, h: np.maximum(0, 1 - np.abs(h - b) / (b - a)),
        "divide by right - centre",
    ),
    (TRI, lambda a, b, c, h: np.maximum(0, 1 - np.abs(h - b) / (c - b)), "divide by centre - left"),
    (TRI, other_widths(True, False), "divide by centre - left"),
    (TRI, other_widths(False, True), "divide by right - centre"),
    (TRI, other_widths(True, True), "the width of the other side"),
    (TRI, lambda *e: triangle(*e) > 0, "this is a box"),
    (TRI, lambda *e: triangle(*e) ** 2, "does not rise"),
    (TRI, lambda a, b, c, h: np.maximum(0, 1 - np.abs(h - b) / (c - a)), "the same slope"),
    (TRI, falls_the_wrong_way, "the falling line rises"),
    (TRI, lambda *e: np.minimum(0, np.minimum(*sides(*e))), "keeps what is negative"),
    (TRI, lambda *e: triangle(*e).astype(e[3].dtype), "whole numbers"),
    (TRI, overwrites_hertz, "in place"),
    (BACK, back(n=None), "fill up with zeros"),
    (BACK, back(norm=None), 'norm="ortho" is missing'),
    (BACK, back(axis=0), "axis=1"),
    (BACK, back(n=None, axis=0), "axis=1"),
    (BACK, back(type=3), "the way back is idct"),
    (BACK, lambda c: back()(c)[:, ::-1], "reverse order"),
    (BACK, lambda c: back()(c) * 2, "not the inverse"),
    (BACK, lambda c: "bands", "returns a str"),
    (BACK, wrong_mean, "coefficient 0"),
    (BACK, zeros_in_front, "they belong behind"),
    (BACK, lambda c: np.maximum(back()(c), back()(c).max() - 80), "not the inverse"),
    (BACK, overwrites_c, "in place"),
    (HISS, lambda c, level: c + np.eye(1, c.shape[1]) * level * np.sqrt(128), "add powers"),
    (HISS, lambda c, level: c + level, "added to the coefficients"),
    (HISS, lambda c, level: c.copy(), "nothing has changed"),
    (HISS, lambda c, level: forth(np.maximum(back()(c), level), c.shape[1]), "a floor"),
    (HISS, amplitudes, "amplitudes were added"),
    (HISS, lambda c, level: forth(10 * np.log(power(c, level)), c.shape[1]), "natural logarithm"),
    (HISS, level_in_decibels, "still in dB"),
    (HISS, lambda c, level: forth(power(c, level), c.shape[1]), "not turned back into dB"),
    (HISS, lambda c, level: forth(np.log10(power(c, level)), c.shape[1]), "10 is missing"),
    (HISS, lambda c, level: 10 * np.log10(power(c, level)), "the bands are returned"),
    (HISS, lambda c, level: hiss(np.pad(c, ((0, 0), (0, 20))), level)[:, :13], "as many as C has"),
    (HISS, lambda c, level: forth(10 * np.log10(power(c, level)), 128), "all 128 coefficients"),
    (HISS, without_norm(True, False), "way back to bands"),
    (HISS, without_norm(False, True), "way forward"),
    (HISS, without_norm(True, True), "back and forward"),
    (HISS, lambda c, level: 3 * hiss(c, level), "it is not the DCT"),
    (HISS, lambda c, level: hiss(c, 10 * level), "divided by 10"),
    (HISS, lambda c, level: hiss(10 * c, 10 * level), "divided by 10"),
    (HISS, lambda c, level: 2 * hiss(c, level), "belongs to amplitudes"),
    (HISS, lambda c, level: 10 * np.log10(10 ** (c / 10) + 10 ** (level / 10)), "of coefficients"),
    (HISS, forward(scipy.fft.idct), "is dct, not idct"),
    (HISS, forward(axis=0), "runs over time"),
    (HISS, overwrites_coefficients, "in place"),
]


test_right, test_wrong, test_unsolved, test_nothing = answer_tests(RIGHT, WRONG)


@pytest.mark.parametrize("name", RIGHT)
def test_the_example_is_tried_first_and_shown(name):
    assert "[[-300, 40" in verdict(name, lambda *_: 0.1) or "the example" in verdict(
        name, lambda *_: 0.1
    )


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        (CUT, lambda x: np.array([np.pad(x, 200, "reflect")[200 * t : 200 * t + 400]
                                  for t in range(1 + len(x) // 200)]).tolist()),
        (TRI, lambda *e: np.interp(e[3], e[:3], [0, 1, 0])),
        (BACK, lambda c: c @ scipy.fft.dct(np.eye(128), norm="ortho", axis=0)[: c.shape[1]]),
    ],
)  # fmt: skip
def test_a_right_answer_in_another_form(name, answer):
    assert verdict(name, answer).startswith(f"right: {name}")


def test_an_error_with_a_hidden_input_shows_the_input():
    def long_sounds(x):
        if len(x) < 400:
            raise ValueError("too short")
        return frames()(x)

    told = verdict(CUT, long_sounds)
    assert "standard_normal(201)" in told
    assert "ValueError: too short" in told
