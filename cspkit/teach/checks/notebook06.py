"""Checks of the exercises of notebook 06, from sound to features."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.fft

from cspkit.teach.cases import Case, table

Matrix = np.ndarray


def _frames(mode: str = "reflect", pad: int = 200, hop: int = 200):
    """Frames of the padded sound; the options make typical mistakes."""

    def answer(x: Matrix) -> Matrix:
        padded = np.pad(x, pad, mode=mode) if pad else x
        starts = range(0, len(padded) - 399, hop)
        return np.array([padded[s : s + 400] for s in starts]).reshape(-1, 400)

    return answer


def _wrong_frames(answer: object, right: Matrix, inputs: tuple) -> str:
    if np.allclose(np.asarray(answer)[:, 200:], right[:, 200:]):
        return "the mirrored samples before the start are wrong"
    return "the samples are not those of the padded sound, 200 apart from row to row"


table(
    "06.cut",
    _frames(),
    [Case("the example, x = np.arange(1000)", (np.arange(1000),))]
    + [
        Case(
            f"x = default_rng({n}).standard_normal({n})",
            (np.random.default_rng(n).standard_normal(n),),
        )
        for n in (201, 1600, 1799)
    ],
    [
        (lambda x: _frames()(x).T, "a frame must be a row, not a column"),
        (_frames(pad=0), "the ends are not padded, so frames are missing"),
        (_frames(hop=1), "there is a frame for every sample; take every 200th"),
        (_frames(hop=400), "the hop is 200, not 400"),
        (_frames(pad=400), "400 samples are mirrored at each end, expected 200"),
        (
            _frames("symmetric"),
            'the first sample is doubled (mode "symmetric"); "reflect" mirrors around it',
        ),
        (_frames("constant"), 'the ends are padded with zeros; mirror them, mode="reflect"'),
        (_frames("edge"), 'the first sample is repeated; mirror the sound, mode="reflect"'),
        (_frames("wrap"), 'the ends are padded with the other end; mirror them, mode="reflect"'),
        (
            lambda x: _frames()(x) * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)),
            "the window is already applied; return the frames as they are",
        ),
    ],
    _wrong_frames,
)


def _cut_at_0(lines: Matrix, width: float) -> Matrix:
    return np.maximum(0, lines)


def _triangle(join=np.minimum, up="rise", down="fall", from_edges=True, end=_cut_at_0):
    """A triangle; the options make typical mistakes. `up` and `down` divide the two lines."""

    def answer(left: float, centre: float, right: float, hertz: Matrix) -> Matrix:
        widths = {"rise": centre - left, "fall": right - centre, "half": (right - left) / 2, "1": 1}
        if from_edges:
            lines = (hertz - left) / widths[up], (right - hertz) / widths[down]
        else:
            lines = 1 + (hertz - centre) / widths[up], 1 - (hertz - centre) / widths[down]
        return end(join(*lines), right - left)

    return answer


_FALLING = "the falling line has the width of the rising side; divide by right - centre"
_RISING = "the rising line has the width of the falling side; divide by centre - left"
_ONE_SIDE = "the {} side is missing"

table(
    "06.triangle",
    _triangle(),
    [
        Case("the example", (100, 200, 400, np.array([50, 150, 200, 300, 500]))),
        Case(
            "edges 0, 30, 40, hertz = np.linspace(0, 50, 11)", (0, 30, 40, np.linspace(0, 50, 11))
        ),
        Case(
            "edges 8, 12, 30, hertz = np.linspace(5, 35, 13)", (8, 12, 30, np.linspace(5, 35, 13))
        ),
    ],
    [
        (_triangle(end=lambda y, w: y), "outside its edges the filter is negative; it must be 0"),
        (_triangle(np.maximum), "take the smaller of the two lines, not the larger"),
        (_triangle(lambda up, down: up), _ONE_SIDE.format("falling")),
        (_triangle(lambda up, down: np.minimum(up, 1)), _ONE_SIDE.format("falling")),
        (_triangle(lambda up, down: down), _ONE_SIDE.format("rising")),
        (_triangle(lambda up, down: np.minimum(down, 1)), _ONE_SIDE.format("rising")),
        (
            _triangle(end=lambda y, w: np.maximum(0, y) * 2 / w),
            "the triangle has area 1; here its peak is 1 (not normalised by area)",
        ),
        (
            _triangle(up="1", down="1"),
            "the lines are in Hz; divide each by the width of its side, so that the peak is 1",
        ),
        (
            _triangle(up="half", down="half", from_edges=False),
            "both sides have the same slope; each side has its own width",
        ),
        (_triangle(down="rise", from_edges=False), _FALLING),
        (_triangle(up="fall", from_edges=False), _RISING),
        (_triangle(down="rise"), _FALLING),
        (_triangle(up="fall"), _RISING),
        (_triangle(up="fall", down="rise"), "each line is divided by the width of the other side"),
        (_triangle(end=lambda y, w: y > 0), "this is a box, 1 between the edges, not a triangle"),
    ],
    "it does not rise from 0 at left to 1 at centre and fall to 0 at right",
)


def _idct(c: Matrix, **options) -> Matrix:
    return scipy.fft.idct(c, **({"n": 128, "norm": "ortho", "axis": 1} | options))


def _random(T: int, k: int) -> Case:
    c = 10 * np.random.default_rng(k).standard_normal((T, k))
    return Case(f"c = 10 * default_rng({k}).standard_normal(({T}, {k}))", (c,))


table(
    "06.bands_of",
    _idct,
    [
        Case("the example, c = [[np.sqrt(128)]]", (np.array([[np.sqrt(128)]]),)),
        *(_random(T, k) for T, k in ((7, 13), (128, 128), (3, 40), (5, 1))),
    ],
    [
        (
            lambda c: _idct(c, n=None),
            "the bands are as many as the coefficients; fill up with zeros to 128 (n=128)",
        ),
        (
            lambda c: _idct(c, axis=0),
            "the transform runs over time; it must run along each row, axis=1",
        ),
        (
            lambda c: _idct(c, n=None, axis=0),
            "the transform runs over time; it must run along each row, axis=1",
        ),
        (lambda c: _idct(c, norm=None), 'the scaling is wrong: norm="ortho" is missing'),
        (
            lambda c: scipy.fft.dct(c, n=128, norm="ortho", axis=1),
            "this is the forward transform once more; the way back is idct",
        ),
        (lambda c: _idct(c)[:, ::-1], "the bands are in reverse order"),
        (
            lambda c: _idct(c) + (np.sqrt(2) - 1) * _idct(c[:, :1]),
            "only the mean of each row is wrong: coefficient 0 has the weight sqrt(1/128)",
        ),
        (
            lambda c: _idct(np.hstack([np.zeros((len(c), 128 - c.shape[1])), c])),
            "the zeros stand before the coefficients; they belong behind",
        ),
    ],
    "it is not the inverse of the orthonormal DCT-II",
)


def _powers(bands: Matrix, level: float) -> Matrix:
    return 10 ** (bands / 10) + 10 ** (level / 10)


def _hiss(
    noisy: Callable[[Matrix, float], Matrix] = lambda b, level: 10 * np.log10(_powers(b, level)),
    back: str | None = "ortho",
    forth: str | None = "ortho",
    keep: int | None = None,
):
    """Noise added to MFCC; the options make typical mistakes."""

    def answer(C: Matrix, level: float) -> Matrix:
        bands = noisy(_idct(C, norm=back), level)
        return scipy.fft.dct(bands, norm=forth, axis=1)[:, : keep or C.shape[1]]

    return answer


def _in_db(C: Matrix, level: float) -> Matrix:
    return C + level * np.sqrt(128) * np.eye(1, C.shape[1])


def _hiss_cases() -> list[Case]:
    silence = np.zeros((1, 13))
    silence[0, 0] = -80 * np.sqrt(128)
    cases = [
        Case(
            "C = [[-300, 40, -20, 5]], which a hiss of -200 dB does not change",
            (np.array([[-300, 40, -20, 5]]), -200),
        ),
        Case("the example of silence, with a hiss of 0 dB", (silence, 0)),
    ]
    for T, k, level in ((6, 13, -10.0), (4, 13, 5.0), (5, 20, -25.0)):
        C = 40 * np.random.default_rng(T).standard_normal((T, k)) / np.sqrt(1 + np.arange(k))
        C[:, 0] -= 200
        made = (
            f"C = 40 * default_rng({T}).standard_normal(({T}, {k})) / np.sqrt(1 + np.arange({k})); "
            f"C[:, 0] -= 200; level {level:g}"
        )
        cases.append(Case(made, (C, level)))
    return cases


table(
    "06.hiss",
    _hiss(),
    _hiss_cases(),
    [
        (
            lambda C, level: 10 * np.log10(_powers(_idct(C), level)),
            "the bands are returned; come forward to the coefficients again",
        ),
        (_hiss(keep=13), "13 coefficients are returned; return as many as C has"),
        (_hiss(keep=128), "all 128 coefficients are returned; return as many as C has"),
        (_in_db, "the level was added in dB, which only makes the sound louder; add powers"),
        (
            lambda C, level: C + level,
            "the level was added to the coefficients; go back to bands, and to powers",
        ),
        (lambda C, level: C, "nothing has changed"),
        (_hiss(np.maximum), "this is a floor at the level; powers add up"),
        (
            _hiss(lambda b, level: 20 * np.log10(10 ** (b / 20) + 10 ** (level / 20))),
            "amplitudes were added (dB / 20); add powers, 10 ** (dB / 10)",
        ),
        (
            _hiss(lambda b, level: 10 * np.log(_powers(b, level))),
            "the natural logarithm is used; decibels take log10",
        ),
        (
            _hiss(lambda b, level: 10 * np.log10(np.maximum(10 ** (b / 10) + level, 1e-10))),
            "the level is still in dB when it is added; turn it into a power, too",
        ),
        (_hiss(_powers), "the powers are not turned back into dB before the transform"),
        (
            _hiss(lambda b, level: np.log10(_powers(b, level))),
            "10 is missing before log10: decibels are 10 log10",
        ),
        (_hiss(forth=None), 'norm="ortho" is missing on the way forward'),
        (_hiss(back=None), 'norm="ortho" is missing on the way back to bands'),
        (_hiss(back=None, forth=None), 'norm="ortho" is missing, on the way back and forward'),
    ],
    "it is not the DCT of 10 log10(power of the bands + power of the hiss)",
)
