"""Checks of the exercises of notebook 06, from sound to features."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.fft

from cspkit.teach.check import Verdict, as_array, exercise

Matrix = np.ndarray


def _frames(x: Matrix, mode: str = "reflect") -> Matrix:
    padded = np.pad(x, 200, mode=mode)
    return np.lib.stride_tricks.sliding_window_view(padded, 400)[::200]


@exercise("06.cut")
def cut(function: Callable[[Matrix], Matrix]) -> Verdict:
    """Check the frames of recordings of several lengths."""
    for n in (1000, 201, 1600, 1799):
        x = np.random.default_rng(n).standard_normal(n)
        given = x.copy()
        answer = function(given)
        right = _frames(x)
        T = len(right)
        if answer is not None and np.shape(answer) != right.shape:
            told = _wrong_number_of_frames(np.shape(answer), n, T)
            if told:
                return told
        frames, wrong = as_array(answer, right.shape)
        if wrong:
            return wrong
        if not np.array_equal(given, x):
            return "x was modified in place"
        if not np.allclose(frames, right):
            return _wrong_frames(frames, right, x)
    return None


def _wrong_number_of_frames(shape: tuple[int, ...], n: int, T: int) -> Verdict:
    if shape == (400, T):
        return "a frame must be a row, not a column"
    if len(shape) != 2 or shape[1] != 400:
        return None
    if shape[0] == max(0, 1 + (n - 400) // 200):
        return f"{n} samples give {shape[0]} frames, expected {T}: the ends are not padded"
    if shape[0] == n + 1:
        return f"there is a frame for every sample, {shape[0]}; take every 200th"
    if shape[0] == 1 + n // 400:
        return f"{n} samples give {shape[0]} frames, expected {T}: the hop is 200, not 400"
    return f"{n} samples give {shape[0]} frames, expected {T} = 1 + n // 200"


def _wrong_frames(frames: Matrix, right: Matrix, x: Matrix) -> str:
    known = (
        (
            "symmetric",
            'the first sample is doubled (mode "symmetric"); "reflect" mirrors around it',
        ),
        ("constant", 'the ends are padded with zeros; mirror them, mode="reflect"'),
        ("edge", 'the first sample is repeated; mirror the sound, mode="reflect"'),
        ("wrap", 'the ends are padded with the other end; mirror them, mode="reflect"'),
    )
    for mode, sentence in known:
        if np.allclose(frames, _frames(x, mode)):
            return sentence
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    if np.allclose(frames, right * window):
        return "the window is applied already; return the frames as they are"
    if np.allclose(frames[:, 200:], right[:, 200:]):
        return "the mirrored samples before the start are wrong"
    return "the samples are not those of the padded sound, 200 apart from row to row"


@exercise("06.triangle")
def triangle(function: Callable[[float, float, float, Matrix], Matrix]) -> Verdict:
    """Check a triangle that is not symmetric, at its corners, inside and outside."""
    for left, centre, right, n in ((100.0, 200.0, 400.0, 26), (0.0, 30.0, 40.0, 11)):
        hertz = np.linspace(0, 1.25 * right, n)
        given = hertz.copy()
        weights, wrong = as_array(function(left, centre, right, given), (n,))
        if wrong:
            return wrong
        if not np.array_equal(given, hertz):
            return "hertz was modified in place"
        rising, falling = (hertz - left) / (centre - left), (right - hertz) / (right - centre)
        expected = np.maximum(0, np.minimum(rising, falling))
        if not np.allclose(weights, expected):
            return _wrong_triangle(weights, rising, falling, left, centre, right)
    return None


def _wrong_triangle(
    weights: Matrix, rising: Matrix, falling: Matrix, left: float, centre: float, right: float
) -> str:
    expected = np.maximum(0, np.minimum(rising, falling))
    known = (
        (np.minimum(rising, falling), "outside its edges the filter is negative; it must be 0"),
        (np.maximum(rising, falling), "take the smaller of the two lines, not the larger"),
        (np.maximum(0, np.maximum(rising, falling)), "take the smaller of the two lines"),
        (np.maximum(0, rising), "the falling side is missing"),
        (np.clip(rising, 0, 1), "the falling side is missing"),
        (np.maximum(0, falling), "the rising side is missing"),
        (np.clip(falling, 0, 1), "the rising side is missing"),
        (
            expected * 2 / (right - left),
            "the triangle has area 1; here its peak is 1 (not normalised by area)",
        ),
        (
            np.maximum(0, np.minimum(rising * (centre - left), falling * (right - centre))),
            "the lines are in Hz; divide each by the width of its side, so that the peak is 1",
        ),
        (
            np.maximum(
                0, 1 - np.abs(2 * (rising * (centre - left) + left - centre)) / (right - left)
            ),
            "both sides have the same slope; each side has its own width",
        ),
        ((expected > 0).astype(float), "this is a box, 1 between the edges; it must be a triangle"),
    )
    for value, sentence in known:
        if np.allclose(weights, value):
            return sentence
    return "it does not rise from 0 at left to 1 at centre and fall to 0 at right"


def _idct(c: Matrix, **options) -> Matrix:
    return scipy.fft.idct(c, **({"n": 128, "norm": "ortho", "axis": 1} | options))


@exercise("06.bands_of")
def bands_of(function: Callable[[Matrix], Matrix]) -> Verdict:
    """Check the way back from several numbers of coefficients."""
    for T, k in ((7, 13), (128, 128), (3, 40), (5, 1)):
        c = 10 * np.random.default_rng(k).standard_normal((T, k))
        given = c.copy()
        answer = function(given)
        if np.shape(answer) == (T, k) != (T, 128):
            return f"only {k} bands come back; fill up with zeros to 128 coefficients (n=128) first"
        if np.shape(answer) == (128, k) != (T, 128):
            return "the transform runs over time; it must run along each row, axis=1"
        bands, wrong = as_array(answer, (T, 128))
        if wrong:
            return wrong
        if not np.array_equal(given, c):
            return "c was modified in place"
        if not np.allclose(bands, _idct(c)):
            return _wrong_bands(bands, c)
    return None


def _wrong_bands(bands: Matrix, c: Matrix) -> str:
    right = _idct(c)
    known = (
        (_idct(c, norm=None), 'the scaling is wrong: norm="ortho" is missing'),
        (
            scipy.fft.dct(c, n=128, norm="ortho", axis=1),
            "this is the forward transform once more; the way back is idct",
        ),
        (right[:, ::-1], "the bands are in reverse order"),
    )
    for value, sentence in known:
        if np.allclose(bands, value):
            return sentence
    if np.allclose(bands - bands.mean(axis=1, keepdims=True),
                   right - right.mean(axis=1, keepdims=True)):  # fmt: skip
        return "all is right but the mean of each row: coefficient 0 has the weight sqrt(1/128)"
    padded_in_front = np.hstack([np.zeros((len(c), 128 - c.shape[1])), c])
    if np.allclose(bands, _idct(padded_in_front)):
        return "the zeros stand before the coefficients; they belong behind"
    return "it is not the inverse of the orthonormal DCT-II"


def _dct(bands: Matrix, k: int) -> Matrix:
    return scipy.fft.dct(bands, norm="ortho", axis=1)[:, :k]


@exercise("06.hiss")
def hiss(function: Callable[[Matrix, float], Matrix]) -> Verdict:
    """Check the addition of noise, weak and strong."""
    for T, k, level in ((6, 13, -10.0), (4, 13, 5.0), (5, 20, -25.0)):
        rng = np.random.default_rng(T)
        c = 40 * rng.standard_normal((T, k)) / np.sqrt(1 + np.arange(k))
        c[:, 0] = rng.uniform(-300, -100, T)
        given = c.copy()
        answer = function(given, level)
        if np.shape(answer) == (T, 128):
            return "the bands are returned; come forth to the coefficients again"
        if np.shape(answer) == (T, 13) != (T, k):
            return f"c has {k} coefficients, 13 are returned; keep as many as c has"
        noisy, wrong = as_array(answer, (T, k))
        if wrong:
            return wrong
        if not np.array_equal(given, c):
            return "c was modified in place"
        bands = _idct(c)
        right = _dct(10 * np.log10(10 ** (bands / 10) + 10 ** (level / 10)), k)
        if not np.allclose(noisy, right, atol=1e-4):
            return _wrong_hiss(noisy, c, bands, level)
    return None


def _wrong_hiss(noisy: Matrix, c: Matrix, bands: Matrix, level: float) -> str:
    k = c.shape[1]
    shifted = c.copy()
    shifted[:, 0] += level * np.sqrt(128)
    amplitudes = 20 * np.log10(10 ** (bands / 20) + 10 ** (level / 20))
    with np.errstate(divide="ignore", invalid="ignore"):
        natural = _dct(10 * np.log(10 ** (bands / 10) + 10 ** (level / 10)), k)
        raw = _dct(10 * np.log10(np.maximum(10 ** (bands / 10) + level, 1e-10)), k)
    known = (
        (shifted, "the level was added in dB, which only makes the sound louder; add powers"),
        (c + level, "the level was added to the coefficients; go back to bands, and to powers"),
        (c, "nothing has changed"),
        (_dct(np.maximum(bands, level), k), "this is a floor at the level; powers add up"),
        (_dct(amplitudes, k), "amplitudes were added (dB / 20); add powers, 10 ** (dB / 10)"),
        (natural, "the natural logarithm is used; decibels take log10"),
        (raw, "the level is still in dB when it is added; turn it into a power, too"),
        (
            _dct(10 ** (bands / 10) + 10 ** (level / 10), k),
            "the powers are not turned back into dB before the transform",
        ),
        (
            _dct(np.log10(10 ** (bands / 10) + 10 ** (level / 10)), k),
            "10 is missing before log10: decibels are 10 log10",
        ),
    )
    for value, sentence in known:
        if np.all(np.isfinite(value)) and np.allclose(noisy, value, atol=1e-4):
            return sentence
    return "it is not the DCT of 10 log10(power of the bands + power of the hiss)"
