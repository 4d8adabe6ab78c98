"""How certain a comparison is: intervals over seeds and utterances, verdicts, costs.

A figure is the mean over seeds of a rate, sum(errors) / sum(words). Differences are taken within a
seed, utterance by utterance, because both models of a seed hear the same test strings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cspkit.arguments import ArgumentError, count
from cspkit.bootstrap import CELLS, utterance_bootstrap
from cspkit.study.rows import unpack_counts

DRAWS = 10_000
LEAST_SEEDS = 3  # fewest seeds for a verdict
LOSSLESS = 0.005  # "no loss against dense": upper end of the interval < half a percentage point
COLUMNS = ["method", "sparsity", "steps"]  # they identify a column of `Resampled`
UNPRUNED = ("dense", "dense+", "small-dense")
EXACT_SEEDS = 20  # with more seeds, `sign_flip_p` draws signs
SIGN_DRAWS = 100_000


@dataclass(frozen=True)
class Resampled:
    """The error rates of a comparison, as measured and as resampled.

    Attributes
    ----------
    columns : list of (method, sparsity, steps)
    seeds : list of int
        The seeds that all columns have.
    rates : ndarray, shape (seeds, columns)
        As measured.
    draws : ndarray, shape (draws, columns)
        Each row is one resampled comparison: the mean rate over seeds of each column. So
        differences between two entries of a row are paired.
    by_utterance : bool
        Whether utterances were resampled, in addition to seeds.
    """

    columns: list[tuple[str, float, int]]
    seeds: list[int]
    rates: np.ndarray
    draws: np.ndarray
    by_utterance: bool

    def mean(self, column: tuple) -> float:
        """Return the mean rate over seeds."""
        return float(self.rates[:, self.columns.index(column)].mean())

    def interval(self, column: tuple, less: tuple | None = None) -> tuple[float, float]:
        """Return the 95 % percentile interval of a rate, or of the rate minus another one.

        With one seed and no counts of utterances, nothing can be resampled. Then both ends are nan.
        """
        if len(self.seeds) == 1 and not self.by_utterance:
            return math.nan, math.nan
        low, high = np.quantile(self._draws(column, less), [0.025, 0.975])
        return float(low), float(high)

    def p_value(self, column: tuple, other: tuple) -> float:
        """Return the two-sided p-value of the hypothesis that two columns have the same rate.

        If utterances were resampled, p is twice the smaller of two shares: that of draws <= 0 and
        that of draws >= 0. A share is (count + 1) / (draws + 1), so p is never zero. Otherwise p
        comes from the sign-flip test over seeds, see `sign_flip_p`; with five seeds it is at least
        1 / 16.
        """
        if self.by_utterance:
            d = self._draws(column, other)
            smaller = min((d <= 0).sum(), (d >= 0).sum())
            return min(1.0, 2 * (smaller + 1) / (len(d) + 1))
        i, j = self.columns.index(column), self.columns.index(other)
        return sign_flip_p(self.rates[:, i] - self.rates[:, j])

    def _draws(self, column: tuple, less: tuple | None) -> np.ndarray:
        drawn = self.draws[:, self.columns.index(column)]
        return drawn if less is None else drawn - self.draws[:, self.columns.index(less)]


def hierarchical_bootstrap(
    errors: Sequence[np.ndarray], words: Sequence[np.ndarray], rng: np.random.Generator, draws: int
) -> np.ndarray:
    """Resample seeds with replacement, then the utterances of each drawn seed.

        mean over drawn seeds of   sum(errors) / sum(words)   over utterances drawn from it

    All columns of one draw have the same seeds and utterances.

    Parameters
    ----------
    errors : sequence of ndarray, shape (n_i, columns)
        For each seed, the number of errors of each model in each utterance.
    words : sequence of ndarray, shape (n_i,)
    rng : np.random.Generator
    draws : int

    Returns
    -------
    ndarray, shape (draws, columns)

    Notes
    -----
    Let F be the number of seeds. The expected rates of the seeds differ (fold, training), with
    variance b^2. The measured rate of a seed varies around its expected rate, because of its
    utterances, with variance w^2. The mean over seeds has the variance (b^2 + w^2) / F. The
    variance of the draws is, in expectation,

        (b^2 + w^2) / F  *  [ (F - 1) / F  +  w^2 / (b^2 + w^2) ]

    So the interval is right if the utterances cause a share w^2 / (b^2 + w^2) = 1 / F of the total
    variance. It is too wide if the share is larger, and too narrow if it is smaller. With test
    parts of a few hundred words the share is about one half, so three to five seeds give intervals
    that are too wide rather than too narrow. The interval of one seed does not show how much the
    result varies between training runs.

    References
    ----------
    Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation",
    ICASSP 2004, doi:10.1109/ICASSP.2004.1326009.
    Efron and Tibshirani, "An introduction to the bootstrap", 1993, doi:10.1201/9780429246593.
    Davison and Hinkley, "Bootstrap methods and their application", 1997, section 3.8,
    doi:10.1017/CBO9780511802843.
    """
    F = len(errors)
    taken = rng.multinomial(F, np.full(F, 1 / F), size=draws)
    means = np.zeros((draws, errors[0].shape[1]))
    for i in range(F):
        drawn = np.repeat(np.arange(draws), taken[:, i])
        if len(drawn):
            parts = utterance_bootstrap(errors[i], words[i], rng, len(drawn))
            np.add.at(means, drawn, np.concatenate(list(parts)) / F)
    return means


def resample(rows: pd.DataFrame, metric: str | None = None, draws: int = DRAWS) -> Resampled:
    """Resample the comparison in the rows: seeds, and utterances too if all rows have counts.

    Parameters
    ----------
    rows : DataFrame
        Rows of one task, as `compare` returns them. A seed that one method lacks is left out for
        all methods.
    metric : str, optional
        The default is the metric that the rows have.
    draws : int

    Returns
    -------
    Resampled
        Equal rows give an equal result, because the generator has a fixed seed.

    Raises
    ------
    ArgumentError
        If there are no rows; if there are rows of two tasks, or two rows with the same method,
        sparsity, length and seed; if no seed has rows of all methods; or if the methods of a seed
        were not tested on the same words.
    """
    metric, draws = metric_of(rows, metric), count("draws", draws)
    if rows["task"].nunique() != 1:
        raise ArgumentError(f"rows are of {sorted(set(rows['task']))}: expected rows of one task")
    double = rows[rows.duplicated([*COLUMNS, "seed"])]
    if len(double):
        place = ", ".join(f"{c} {double.iloc[0][c]}" for c in [*COLUMNS, "seed"])
        raise ArgumentError(
            f"rows has two for {place}: expected one; keep the rows of one choice of settings and "
            "of one dense model"
        )
    table = rows.set_index([*COLUMNS, "seed"])[f"test_{metric}"].unstack("seed").sort_index()
    seeds = list(table.columns[table.notna().all()])
    if not seeds:
        raise ArgumentError("rows has no seed that all methods were measured with")
    rows = rows[rows["seed"].isin(seeds)].sort_values([*COLUMNS, "seed"])
    by_utterance = "errors" in rows and bool((rows["errors"].str.len() > 0).all())
    rng = np.random.default_rng(0)
    rates = table[seeds].to_numpy().T
    if by_utterance:
        errors, words = zip(*(_counts(rows, seed) for seed in seeds), strict=True)
        drawn = hierarchical_bootstrap(errors, words, rng, draws)
    else:
        drawn = rates[rng.integers(len(seeds), size=(draws, len(seeds)))].mean(axis=1)
    columns = [(str(m), float(s), int(t)) for m, s, t in table.index]
    return Resampled(columns, [int(s) for s in seeds], rates, drawn, by_utterance)


def metric_of(rows: pd.DataFrame, metric: str | None = None) -> str:
    """Return the metric of the rows of a comparison.

    Parameters
    ----------
    rows : DataFrame
    metric : str, optional
        Needed if the rows have several metrics.

    Returns
    -------
    str

    Raises
    ------
    ArgumentError
        If the rows do not come from a comparison, or do not have this metric.
    """
    check_rows(rows)
    known = [c.removeprefix("test_") for c in rows.dropna(axis=1, how="all") if c[:5] == "test_"]
    if metric is None and len(known) == 1:
        return known[0]
    if metric not in known:
        expected = f"one of {', '.join(known)}" if known else "rows of `compare`, with test_METRIC"
        raise ArgumentError(f"metric is {metric!r}: expected {expected}")
    return metric


def check_rows(rows: pd.DataFrame) -> None:
    """Check that there are rows, and that they have the columns of a comparison.

    Raises
    ------
    ArgumentError
        If a check fails.
    """
    if not isinstance(rows, pd.DataFrame):
        raise ArgumentError(
            f"rows is a {type(rows).__name__}: expected a DataFrame, as compare and read_rows "
            "return it"
        )
    if len(rows) == 0:
        raise ArgumentError("rows is empty: expected rows of a study")
    for column in ("task", *COLUMNS, "seed"):
        if column not in rows:
            raise ArgumentError(f"rows has no column {column!r}: expected the rows of `compare`")


def _counts(rows: pd.DataFrame, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return errors (n, columns) and words (n,) of one seed."""
    of_seed = rows[rows["seed"] == seed]
    if of_seed["words"].nunique() != 1:
        raise ArgumentError(f"rows of seed {seed}: the methods were not tested on the same words")
    errors = np.stack([unpack_counts(text) for text in of_seed["errors"]], axis=1)
    return errors, unpack_counts(of_seed["words"].iloc[0])


def sign_flip_p(differences: np.ndarray) -> float:
    """Return the two-sided p-value of the hypothesis that differences are symmetric around zero.

    There are 2^F choices of signs. The p-value is the share of choices whose mean is at least as
    far from zero as the measured mean. For up to 20 differences all choices are counted, in at most
    25 MB. For more, 100,000 choices are drawn from a generator with seed 0, and the measured one is
    added to them: the standard error of a p-value of 0.05 is then 0.0007, and no p-value is below
    1e-5.

    Parameters
    ----------
    differences : ndarray, shape (F,)
        One difference per seed.

    Returns
    -------
    float
        At least 2^(1 - F).

    Raises
    ------
    ArgumentError
        If the differences are not finite numbers in one dimension.

    References
    ----------
    Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 15.
    """
    d = np.asarray(differences, dtype=float)
    if d.ndim != 1 or not np.isfinite(d).all():
        raise ArgumentError(
            f"differences have shape {d.shape} and {int((~np.isfinite(d)).sum())} values that are "
            "not finite: expected finite numbers, shape (F,)"
        )
    least = abs(d.sum()) * (1 - 1e-12)
    if len(d) <= EXACT_SEEDS:
        sums = np.zeros(1)
        for x in d:
            sums = np.concatenate([sums + x, sums - x])
        return float((np.abs(sums) >= least).mean())
    rng, n_far = np.random.default_rng(0), 1
    for part in np.array_split(np.arange(SIGN_DRAWS), 1 + SIGN_DRAWS * len(d) // CELLS):
        signs = 2.0 * rng.integers(2, size=(len(part), len(d)), dtype=np.int8) - 1.0
        n_far += int((np.abs(signs @ d) >= least).sum())
    return n_far / (SIGN_DRAWS + 1)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Adjust p-values for a family of tests, so that P(any false finding) stays below the level.

        p'_(i) = max over j <= i of min(1, (m - j + 1) p_(j)),      p_(1) <= ... <= p_(m)

    Parameters
    ----------
    p_values : sequence of float

    Returns
    -------
    ndarray
        In the order of `p_values`.

    References
    ----------
    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6 (1979), 65-70.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    factors = np.arange(len(p), 0, -1)
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, factors * p[order]))
    return adjusted


def verdicts(
    resampled: Resampled,
    method: str = "csp",
    level: float = 0.05,
    pairs: Mapping[tuple, tuple] | None = None,
) -> dict[tuple, tuple[str, float]]:
    """Judge whether a method wins or loses against each of the other pruning methods.

    Parameters
    ----------
    resampled : Resampled
    method : str
    level : float
        Bound on the probability of any false win or loss among all verdicts.
    pairs : mapping, optional
        From the column of another method to the column of `method` to compare it with. The default
        is the column of equal sparsity and steps.

    Returns
    -------
    dict
        For each column of another method: "win" (of `method`), "tie" or "loss", and the p-value
        after `holm` over all of them. It is empty with fewer than three seeds, which cannot show
        how much the result varies between training runs. Without counts of utterances it is also
        empty if there are too few seeds for any win.

    Notes
    -----
    If the task counts errors in each utterance, the p-values are those of the hierarchical
    bootstrap. With three to five seeds alone, no hypothesis can be rejected. With hundreds
    of utterances this is possible. Because seeds are resampled too, the p-values include the
    variation between training runs. Without such counts the p-values come from the sign-flip test
    over seeds. They are at least 2^(1 - F). Holm's correction over m rivals multiplies the smallest
    of them by m, so with two rivals a win needs seven seeds. The strings of a test part are not
    quite independent, because a recording may be part of several strings.
    """
    if len(resampled.seeds) < LEAST_SEEDS:
        return {}
    if pairs is None:
        pairs = {
            other: (method, *other[1:])
            for other in resampled.columns
            if other[0] not in (method, *UNPRUNED) and (method, *other[1:]) in resampled.columns
        }
    if not resampled.by_utterance and len(pairs) * 2.0 ** (1 - len(resampled.seeds)) >= level:
        return {}
    adjusted = holm([resampled.p_value(mine, other) for other, mine in pairs.items()])
    found = {}
    for (other, mine), p in zip(pairs.items(), adjusted, strict=True):
        better = resampled.mean(mine) < resampled.mean(other)
        found[other] = ("tie" if p >= level else "win" if better else "loss", float(p))
    return found


def cost_ratio(rows: pd.DataFrame, method: str, other: str) -> float:
    """Return the processor time of a method divided by that of another method.

    Parameters
    ----------
    rows : DataFrame
    method, other : str

    Returns
    -------
    float
        The median over pairs of runs of equal task, seed and steps, and of equal sparsity if both
        methods prune. It is nan if there is no pair.

    Raises
    ------
    ArgumentError
        If the rows do not come from a comparison.
    """
    on = ["task", "seed", "steps"]
    if method not in UNPRUNED[:2] and other not in UNPRUNED[:2]:
        on.append("sparsity")
    check_rows(rows)
    pairs = rows[rows["method"] == method].merge(rows[rows["method"] == other], on=on)
    if len(pairs) == 0:
        return math.nan
    return float(np.median(pairs["processor_seconds_x"] / pairs["processor_seconds_y"]))


def summary(
    rows: pd.DataFrame, metric: str | None = None, against: str = "csp", draws: int = DRAWS
) -> pd.DataFrame:
    """Return a row for each method, sparsity and length of one task: rates, intervals, verdict.

    Parameters
    ----------
    rows : DataFrame
        Rows of one task, as `compare` returns them.
    metric : str, optional
        The default is the metric that the rows have.
    against : str
        The method that the verdicts are about. Its processor time is 1.
    draws : int
        Number of bootstrap draws.

    Returns
    -------
    DataFrame
        - method, sparsity, steps;
        - seeds, as text: those that all methods have;
        - by_utterance: whether utterances were resampled, in addition to seeds;
        - rate, low, high;
        - if there is a "dense" row, excess: the rate minus that of "dense", with excess_low and
          excess_high, lossless (excess_high < 0.005) and degradation (excess / rate of "dense");
        - difference: the rate minus that of `against` at equal sparsity and steps, with
          difference_low and difference_high;
        - the verdict of `against`, and its p;
        - cost: the processor time divided by that of `against`.

    Raises
    ------
    ArgumentError
        For the reasons that `resample` lists.
    """
    resampled = resample(rows, metric, draws)
    judged = verdicts(resampled, against)
    dense = ("dense", 0.0, 0)
    lines = []
    for column in resampled.columns:
        rate, (low, high) = resampled.mean(column), resampled.interval(column)
        line = dict(zip(COLUMNS, column, strict=True)) | {
            "seeds": ", ".join(map(str, resampled.seeds)),
            "by_utterance": resampled.by_utterance,
            "rate": rate, "low": low, "high": high,
        }  # fmt: skip
        if dense in resampled.columns:
            base = resampled.mean(dense)
            low, high = resampled.interval(column, less=dense)
            line |= {"excess": rate - base, "excess_low": low, "excess_high": high}
            line["lossless"] = high < LOSSLESS
            line["degradation"] = (rate - base) / base if base else math.nan
        other = (against, *column[1:])
        if column != other and other in resampled.columns:
            low, high = resampled.interval(column, less=other)
            line |= {"difference": rate - resampled.mean(other)}
            line |= {"difference_low": low, "difference_high": high}
        verdict, p = judged.get(column, ("", math.nan))
        alike = rows["steps"] == column[2]
        if not {column[0], against} & set(UNPRUNED[:2]):
            alike &= rows["sparsity"] == column[1]
        cost = cost_ratio(rows[alike], column[0], against)
        lines.append(line | {"verdict": verdict, "p": p, "cost": cost})
    return pd.DataFrame(lines)
