"""The checks of notebook 06 accept the right answer and name each typical mistake."""

import numpy as np
import scipy.fft
from answers import answer_tests

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


RIGHT = {
    "06.cut": frames(),
    "06.triangle": triangle,
    "06.bands_of": back(),
    "06.hiss": hiss,
}
CUT, TRI, BACK, HISS = RIGHT

WRONG = [
    (CUT, without_padding, "the ends are not padded"),
    (CUT, frames("symmetric"), "is doubled"),
    (CUT, frames("constant"), "padded with zeros"),
    (CUT, frames("edge"), "is repeated"),
    (CUT, frames("wrap"), "the other end"),
    (CUT, frames(hop=1), "a frame for every sample"),
    (CUT, frames(hop=400), "the hop is 200"),
    (CUT, frames(pad=400), "= 1 + n // 200"),
    (CUT, lambda x: frames()(x).T, "must be a row"),
    (CUT, lambda x: frames()(x) * WINDOW, "the window is applied already"),
    (CUT, lambda x: frames()(x)[:, :399], "expected (6, 400)"),
    (CUT, spoiled(slice(0, 10)), "mirrored samples"),
    (CUT, spoiled(slice(300, 310)), "200 apart"),
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
    (TRI, lambda *e: triangle(*e) > 0, "this is a box"),
    (TRI, lambda *e: triangle(*e) ** 2, "does not rise"),
    (TRI, overwrites_hertz, "in place"),
    (BACK, back(n=None), "fill up with zeros"),
    (BACK, back(norm=None), 'norm="ortho" is missing'),
    (BACK, back(axis=0), "axis=1"),
    (BACK, back(type=3), "the way back is idct"),
    (BACK, lambda c: back()(c)[:, ::-1], "reverse order"),
    (BACK, lambda c: back()(c) * 2, "not the inverse"),
    (BACK, lambda c: "bands", "returns a str"),
    (BACK, wrong_mean, "coefficient 0"),
    (BACK, zeros_in_front, "they belong behind"),
    (BACK, overwrites_c, "in place"),
    (HISS, lambda c, level: c + np.eye(1, c.shape[1]) * level * np.sqrt(128), "add powers"),
    (HISS, lambda c, level: c + level, "added to the coefficients"),
    (HISS, lambda c, level: c.copy(), "nothing has changed"),
    (HISS, lambda c, level: forth(np.maximum(back()(c), level), c.shape[1]), "a floor"),
    (HISS, amplitudes, "amplitudes were added"),
    (HISS, lambda c, level: forth(10 * np.log(power(c, level)), c.shape[1]), "log10"),
    (HISS, level_in_decibels, "still in dB"),
    (HISS, lambda c, level: forth(power(c, level), c.shape[1]), "not turned back into dB"),
    (HISS, lambda c, level: forth(np.log10(power(c, level)), c.shape[1]), "10 is missing"),
    (HISS, lambda c, level: 10 * np.log10(power(c, level)), "the bands are returned"),
    (HISS, lambda c, level: hiss(c, level)[:, :13], "as many as c has"),
    (HISS, lambda c, level: 2 * hiss(c, level), "it is not the DCT"),
    (HISS, overwrites_coefficients, "in place"),
]


test_right, test_wrong, test_unsolved, test_nothing = answer_tests(RIGHT, WRONG)
