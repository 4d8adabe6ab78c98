"""Entropy coding of positions and of small integers.

All probabilities come from integers by +, -, * and /, which IEEE 754 rounds exactly. So every
machine computes the same probabilities, bit for bit, and can decode what another one has encoded.
The range coder itself is that of the library constriction.
"""

from __future__ import annotations

from typing import Any

import constriction
import numpy as np

RangeDecoder = constriction.stream.queue.RangeDecoder
RangeEncoder = constriction.stream.queue.RangeEncoder
Bernoulli = constriction.stream.model.Bernoulli
Categorical = constriction.stream.model.Categorical
Uniform = constriction.stream.model.Uniform

LEAST = 2.0**-20  # smallest probability of a column's entry
PRIORS = (4, 16, 64)  # values of `prior` that are tried, see `put_columns`
BUCKETS = 31  # of natural numbers: bucket b holds 2^b - 1 to 2^(b + 1) - 2


def bucket_counts(values: np.ndarray) -> list[int]:
    """Count natural numbers (n,) in each bucket, see `put_naturals`."""
    return np.bincount(_buckets(values), minlength=1).tolist() if len(values) else []


def put_naturals(encoder: RangeEncoder, values: np.ndarray, counts: list[int]) -> None:
    """Encode natural numbers: for each its bucket b, then its place among the 2^b of the bucket.

    Parameters
    ----------
    encoder : RangeEncoder
    values : ndarray of int, shape (n,)
    counts : list of int
        The result of `bucket_counts`, which the decoder must know too.
    """
    if len(values) == 0:
        return
    buckets = _buckets(values)
    encoder.encode(buckets, _categorical(counts))
    rest = values - ((1 << buckets) - 1)
    some = buckets > 0
    if some.any():
        sizes = (1 << buckets[some]).astype(np.int32)
        encoder.encode(rest[some].astype(np.int32), Uniform(), sizes)


def get_naturals(decoder: RangeDecoder, n: int, counts: list[int]) -> np.ndarray:
    """Decode n natural numbers that `put_naturals` encoded, as int64."""
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    if len(counts) > BUCKETS:
        raise ValueError(f"{len(counts)} buckets: expected at most {BUCKETS}")
    buckets = decoder.decode(_categorical(counts), n).astype(np.int64)
    values = (1 << buckets) - 1
    some = buckets > 0
    if some.any():
        sizes = (1 << buckets[some]).astype(np.int32)
        values[some] += decoder.decode(Uniform(), sizes)
    return values


def put_columns(encoder: RangeEncoder, mask: np.ndarray, counts: list[int], prior: int) -> None:
    """Encode a mask (R, C) column by column, by the counts of its columns and of its rows so far.

    Let n be the number of True entries, rho = n / (R C), c_j the count of column j, and s_i the
    count of row i in the columns before j. An entry of column j is True with the odds

        w_i / (1 - w_i)  *  c_j / (R - c_j)  *  (1 - rho) / rho,
        w_i = (s_i + prior rho) / (j + prior)

    The result is clipped to probabilities from 2^-20 to 1 - 2^-20. A column without a True entry,
    or without a False one, costs only its count.

    Parameters
    ----------
    encoder : RangeEncoder
    mask : ndarray of bool, shape (R, C)
    counts : list of int
        `bucket_counts` of the counts of the columns.
    prior : int
        Weight of rho in w_i: the first guess rho counts as much as this many columns.
    """
    totals = mask.sum(axis=0)
    put_naturals(encoder, totals, counts)
    model = _Columns(mask.shape, totals, prior)
    for j in range(mask.shape[1]):
        p = model.probabilities(j)
        if p is not None:
            encoder.encode(mask[:, j].astype(np.int32), Bernoulli(perfect=False), p)
        model.seen += mask[:, j]


def get_columns(
    decoder: RangeDecoder, shape: tuple[int, int], counts: list[int], prior: int
) -> np.ndarray:
    """Decode a mask that `put_columns` encoded."""
    R, C = shape
    totals = get_naturals(decoder, C, counts)
    if (totals > R).any():
        raise ValueError("a column has more entries than rows")
    mask = np.zeros(shape, dtype=bool)
    model = _Columns(shape, totals, prior)
    for j in range(C):
        p = model.probabilities(j)
        if p is None:
            mask[:, j] = totals[j] > 0
        else:
            mask[:, j] = decoder.decode(Bernoulli(perfect=False), p)
        model.seen += mask[:, j]
    return mask


class _Columns:
    """The probabilities of a column's entries, given the columns before it."""

    def __init__(self, shape: tuple[int, int], totals: np.ndarray, prior: int) -> None:
        self.R, self.totals, self.prior = shape[0], totals, prior
        self.seen = np.zeros(shape[0])
        self.rho = float(totals.sum()) / (shape[0] * shape[1])

    def probabilities(self, j: int) -> np.ndarray | None:
        c = float(self.totals[j])
        if c in (0.0, float(self.R)):
            return None
        w = (self.seen + self.prior * self.rho) / (j + self.prior)
        odds = w / (1.0 - w) * (c / (self.R - c)) * ((1.0 - self.rho) / self.rho)
        return np.clip(odds / (1.0 + odds), LEAST, 1.0 - LEAST)


def magnitude_counts(codes: np.ndarray, largest: int) -> list[int]:
    """Count the magnitudes of codes in each bucket, see `put_codes`."""
    counted = np.bincount(np.abs(codes), minlength=largest + 1)
    return [int(part.sum()) for part in np.split(counted, _edges(largest)[1:-1])]


def put_codes(encoder: RangeEncoder, codes: np.ndarray, counts: list[int], largest: int) -> None:
    """Encode codes -largest to largest; all codes of a bucket of magnitudes are equally probable.

    The buckets are the magnitude 0, and 16 ranges of the magnitudes from 1 (or fewer).

    Parameters
    ----------
    encoder : RangeEncoder
    codes : ndarray of int, shape (n,)
    counts : list of int
        `magnitude_counts` of the codes.
    largest : int
    """
    if len(codes):
        encoder.encode((codes + largest).astype(np.int32), _of_codes(counts, largest))


def get_codes(decoder: RangeDecoder, n: int, counts: list[int], largest: int) -> np.ndarray:
    """Decode n codes that `put_codes` encoded, as int64."""
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    return decoder.decode(_of_codes(counts, largest), n).astype(np.int64) - largest


def _edges(largest: int) -> list[int]:
    """First magnitude of each bucket, and largest + 1."""
    n = min(16, largest)
    return [0, *(1 + i * largest // n for i in range(n)), largest + 1]


def _of_codes(counts: list[int], largest: int) -> Any:
    edges = _edges(largest)
    if len(counts) != len(edges) - 1:
        raise ValueError("the counts do not fit the codes")
    p = np.zeros(2 * largest + 1)
    for first, end, count in zip(edges[:-1], edges[1:], counts, strict=True):
        signs = 1 if first == 0 else 2
        p[largest + first : largest + end] = count / (signs * (end - first))
    p[:largest] = p[:largest:-1]
    return _categorical(p)


def _categorical(weights: Any) -> Any:
    """A model of symbols with probabilities proportional to weights; none is impossible."""
    p = np.asarray(weights, dtype=np.float64)
    if p.ndim != 1 or len(p) == 0 or not np.isfinite(p).all() or (p < 0).any() or not p.any():
        raise ValueError("the counts do not describe a distribution")
    if len(p) == 1:
        p = np.append(p, 0.0)  # a model needs two symbols
    return Categorical(p / p.max(), perfect=False)


def _buckets(values: np.ndarray) -> np.ndarray:
    """floor(log2(v + 1)) of each value, exactly."""
    return (np.frexp((values + 1).astype(np.float64))[1] - 1).astype(np.int32)
