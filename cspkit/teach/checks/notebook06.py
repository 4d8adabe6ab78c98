"""Checks of the exercises of notebook 06, from sound to features."""

import numpy as np
from scipy.fft import dct, idct

from cspkit.teach.cases import table


def cut(x):
    padded = np.pad(x, 200, "reflect")
    starts = range(0, len(padded) - 399, 200)
    return np.array([padded[s : s + 400] for s in starts]).reshape(-1, 400)


def wrong_frames(answer, right, inputs):
    if np.allclose(np.asarray(answer)[:, 200:], right[:, 200:]):
        return "the mirrored samples before the start are wrong"
    return "the samples are not those of the padded sound, 200 apart from row to row"


LAST = "the last frame is missing; there are 1 + n // 200"
table("06.cut", cut, [
    "x = np.arange(1000)",
    *(f"x = default_rng({n}).standard_normal({n})" for n in (201, 1600, 1799)),
], [
    ("reshape(-1, 400) => reshape(-1, 400).T", "a frame must be a row, not a column"),
    ('np.pad(x, 200, "reflect") => x', "the ends are not padded, so frames are missing"),
    ("399, 200 => 399, 1", "there is a frame for every sample; take every 200th"),
    ("399, 200 => 399, 400", "the hop is 200, not 400"),
    ("reshape(-1, 400) => reshape(-1, 400)[:-1]", LAST),
    ("399, 200 => 400, 200", LAST),
    ("x, 200 => x, 400", "400 samples are mirrored at each end, expected 200"),
    ("reflect => symmetric",
     'the first sample is doubled (mode "symmetric"); "reflect" mirrors around it'),
    ("reflect => constant", 'the ends are padded with zeros; mirror them, mode="reflect"'),
    ("reflect => edge", 'the first sample is repeated; mirror the sound, mode="reflect"'),
    ("reflect => wrap", 'the ends are padded with the other end; mirror them, mode="reflect"'),
    ("return => return np.hanning(401)[:400] *",
     "the window is already applied; return the frames as they are"),
], wrong_frames,
    right="Nearly every sample is in two frames, whose Hann windows add up to 1 there.",
)  # fmt: skip


def triangle(left, centre, right, hertz):
    rise, fall = centre - left, right - centre
    up, down = (hertz - left) / rise, (right - hertz) / fall
    return np.maximum(0, np.minimum(up, down))


SLOPES = "both sides have the same slope; each side has its own width"
NO_FALL, NO_RISE = "the falling side is missing", "the rising side is missing"
FALL = "the falling line has the width of the rising side; divide by right - centre"
RISE = "the rising line has the width of the falling side; divide by centre - left"
table("06.triangle", triangle, [
    (100, 200, 400, np.array([50, 150, 200, 300, 500])), (0, 30, 40, np.linspace(0, 50, 11)),
    (8, 12, 30, np.linspace(5, 35, 13)),
], [
    ("np.minimum(up, down)", "outside its edges the filter is negative; it must be 0"),
    ("minimum => maximum", "take the smaller of the two lines, not the larger"),
    ("np.maximum(0, up)", NO_FALL),
    ("np.clip(up, 0, 1)", NO_FALL),
    ("np.maximum(0, down)", NO_RISE),
    ("np.clip(down, 0, 1)", NO_RISE),
    ("return => return 2 / (right - left) *",
     "the triangle has area 1; here its peak is 1 (not normalised by area)"),
    ("/ rise => && / fall =>",
     "the lines are in Hz; divide each by the width of its side, so that the peak is 1"),
    ("np.maximum(0, 1 - np.abs(hertz - centre) / ((right - left) / 2))", SLOPES),
    ("np.maximum(0, 1 - np.abs(hertz - centre) / (right - left))", SLOPES),
    ("right - hertz => hertz - right",
     "the falling line rises: it is right - hertz, divided by its width"),
    ("np.maximum(0 => np.minimum(0", "np.minimum(0, ...) keeps what is negative; make it 0"),
    ("np.floor(np.maximum(0, np.minimum(up, down)))",
     "the weights are cut off to whole numbers: np.zeros_like(hertz) is an array of integers if "
     "hertz is"),
    ("np.maximum(0, 1 - np.abs(hertz - centre) / rise)", FALL),
    ("np.maximum(0, 1 - np.abs(hertz - centre) / fall)", RISE),
    ("/ fall => / rise", FALL),
    ("/ rise => / fall", RISE),
    ("rise, fall => fall, rise", "each line is divided by the width of the other side"),
    ("np.minimum(up, down) > 0", "this is a box, 1 between the edges, not a triangle"),
], "it does not rise from 0 at left to 1 at centre and fall to 0 at right",
    right="Each filter ends at the next one's centre: where two overlap, they sum to 1.",
)  # fmt: skip


def bands_of(c):
    return idct(c, n=128, norm="ortho", axis=1)


OVER_TIME = "the transform runs over time; it must run along each row, axis=1"
table("06.bands_of", bands_of, [
    "c = np.array([[np.sqrt(128)]])",
    *(f"c = 30 * default_rng({k}).standard_normal(({T}, {k}))"
      for T, k in ((7, 13), (128, 128), (3, 40), (5, 1))),
], [
    ("n=128, =>", "the bands are as many as the coefficients; fill up with zeros to 128 (n=128)"),
    ("axis=1 => axis=0", OVER_TIME),
    ("axis=1 => axis=0 && n=128, =>", OVER_TIME),
    ('norm="ortho", =>', 'the scaling is wrong: norm="ortho" is missing'),
    ("idct => dct", "this is the forward transform once more; the way back is idct"),
    ("axis=1) => axis=1)[:, ::-1]", "the bands are in reverse order"),
    ('return => return (np.sqrt(2) - 1) * c[:, :1] / np.sqrt(128) +',
     "only the mean of each row is wrong: coefficient 0 has the weight sqrt(1/128)"),
    ("(c, => (np.pad(c, ((0, 0), (128 - c.shape[1], 0))),",
     "the zeros stand before the coefficients; they belong behind"),
], "it is not the inverse of the orthonormal DCT-II",
    right="No other weights of these k cosines come closer to B: they are orthonormal.",
)  # fmt: skip


def hiss(C, level):
    bands = idct(C, n=128, norm="ortho", axis=1)
    power = 10 ** (bands / 10) + 10 ** (level / 10)
    noisy = 10 * np.log10(power)
    return dct(noisy, norm="ortho", axis=1)[:, : C.shape[1]]


TENTH = "a level in dB must be divided by 10: its power is 10 ** (dB / 10)"
table("06.hiss", hiss, [
    "C = np.array([[-300, 40, -20, 5]]); level = -200",
    "C = -80 * np.sqrt(128) * np.eye(1, 13); level = 0",
    *(f"C = 40 * default_rng({T}).standard_normal(({T}, {k})) / np.sqrt(1 + np.arange({k})); "
      f"C[:, 0] -= 200; level = {level}"
      for T, k, level in ((6, 13, -10), (4, 13, 5), (5, 20, -25))),
], [
    ("noisy", "the bands are returned; come forward to the coefficients again"),
    ("C.shape[1] => 13", "13 coefficients are returned; return as many as C has"),
    ("C.shape[1] => 128", "all 128 coefficients are returned; return as many as C has"),
    ("C + level * np.sqrt(128) * np.eye(1, C.shape[1])",
     "the level was added in dB, which only makes the sound louder; add powers"),
    ("C + level", "the level was added to the coefficients; go back to bands, and to powers"),
    ("C", "nothing has changed"),
    ("10 * np.log10(power) => np.maximum(bands, level)",
     "this is a floor at the level; powers add up"),
    ("bands / 10 => bands / 20 && level / 10 => level / 20 && 10 * np => 20 * np",
     "amplitudes were added (dB / 20); add powers, 10 ** (dB / 10)"),
    ("log10 => log", "the natural logarithm is used; decibels take log10"),
    ("10 ** (level / 10) => level && (power) => (np.maximum(power, 1e-10))",
     "the level is still in dB when it is added; turn it into a power, too"),
    ("10 * np.log10(power) => power",
     "the powers are not turned back into dB before the transform"),
    ("level / 10 => level", TENTH),
    ("bands / 10 => bands && level / 10 => level", TENTH),
    ("10 * np.log10 => 20 * np.log10",
     "20 log10 belongs to amplitudes; these are powers, 10 log10"),
    ("10 * np.log10(10 ** (C / 10) + 10 ** (level / 10))",
     "the powers are those of coefficients; only bands are in dB, so go back to bands first"),
    ("dct(noisy => idct(noisy", "the way forward, from bands to coefficients, is dct, not idct"),
    ("axis=1)[:, => axis=0)[:,", OVER_TIME),
    ("10 * np => np", "10 is missing before log10: decibels are 10 log10"),
    ('noisy, norm="ortho", => noisy,', 'norm="ortho" is missing on the way forward'),
    ('n=128, norm="ortho", => n=128,', 'norm="ortho" is missing on the way back to bands'),
    ('norm="ortho", =>', 'norm="ortho" is missing, on the way back and forward'),
], "it is not the DCT of 10 log10(power of the bands + power of the hiss)",
    right="A band far above the level hardly changes; a band far below ends at the level.",
)  # fmt: skip
