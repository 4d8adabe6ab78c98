"""How sure a comparison is: intervals over seeds and utterances, verdicts, costs.

Figures are means over seeds of a rate, sum(errors) / sum(words), and differences are taken within
a seed, utterance by utterance: both models of a seed hear the same test strings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cspkit.study.rows import unpack_counts

DRAWS = 10_000
LEAST_SEEDS = 3  # of a verdict
LOSSLESS = 0.005  # "no loss against dense": the upper end of the interval is under half a point
COLUMNS = ["method", "sparsity", "steps"]  # tell one column of a Resampled from another
UNPRUNED = ("dense", "dense+", "small-dense")


@dataclass(frozen=True)
class Resampled:
    """The error rates of a comparison, and what they could have been.

    Attributes
    ----------
    columns : list of (method, sparsity, steps)
    seeds : list of int
        Those that all columns have.
    rates : ndarray, shape (seeds, columns)
        As measured.
    draws : ndarray, shape (draws, columns)
        Means over seeds of resampled comparisons; a row is one comparison, so differences of
        its entries are paired.
    by_utterance : bool
        Whether utterances were resampled too.
    """

    columns: list[tuple[str, float, int]]
    seeds: list[int]
    rates: np.ndarray
    draws: np.ndarray
    by_utterance: bool

    def mean(self, column: tuple) -> float:
        """Mean rate over seeds."""
        return float(self.rates[:, self.columns.index(column)].mean())

    def interval(self, column: tuple, less: tuple | None = None) -> tuple[float, float]:
        """95 % percentile interval of a rate, or of what it exceeds another by.

        (nan, nan) of one seed without counts of utterances, where nothing can be resampled.
        """
        if len(self.seeds) == 1 and not self.by_utterance:
            return math.nan, math.nan
        low, high = np.quantile(self._draws(column, less), [0.025, 0.975])
        return float(low), float(high)

    def p_value(self, column: tuple, other: tuple) -> float:
        """Two-sided p-value of the hypothesis that two columns have the same expected rate.

        Where utterances were resampled: twice the smaller share of draws on either side of zero,
        each with one added, since a share of no draws proves no zero. Else the exact sign-flip
        test over seeds, which five seeds cannot bring under 1 / 16.
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
    """Resample seeds with replacement, then the utterances of each that was drawn.

        mean over drawn seeds of   sum(errors) / sum(words)   over utterances drawn from it

    The columns of one draw share seeds and utterances.

    Parameters
    ----------
    errors : sequence of ndarray, shape (n_i, columns)
        For each seed, the errors of all models in each utterance.
    words : sequence of ndarray, shape (n_i,)
    rng : np.random.Generator
    draws : int

    Returns
    -------
    ndarray, shape (draws, columns)

    Notes
    -----
    Let b^2 be the variance of a seed's expected rate (its fold, its training), w^2 that of its
    measured rate around it, over F seeds. The mean has the variance (b^2 + w^2) / F, and the
    draws have, in expectation,

        (b^2 + w^2) / F  *  [ (F - 1) / F  +  w^2 / (b^2 + w^2) ]

    So the interval is right where 1 / F of the scatter between seeds comes from their utterances,
    too wide where that share is larger, too narrow where it is smaller. With strings of a few
    hundred words the share is a half or so: three to five seeds give cautious intervals. One
    seed gives one that leaves out the chance of training.

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
        times, n = taken[:, i], len(words[i])
        draw = np.repeat(np.arange(draws), times)
        counts = rng.multinomial(n, np.full(n, 1 / n), size=len(draw)).astype(float)
        rates = (counts @ errors[i]) / (counts @ words[i])[:, None]
        np.add.at(means, draw, rates / F)
    return means


def resample(rows: pd.DataFrame, metric: str = "wer", draws: int = DRAWS) -> Resampled:
    """Resample the comparison that rows hold, by utterance where all rows have counts.

    Parameters
    ----------
    rows : DataFrame
        Of one task, as `compare` returns them. Seeds that a method lacks are left out for all.
    metric : str
    draws : int

    Returns
    -------
    Resampled
        The same for the same rows: the generator has a fixed seed.

    Raises
    ------
    ValueError
        If there are no rows, rows of two tasks, two rows for one place, no seed that all methods
        have, or the methods of a seed were not tested on the same words.
    """
    if len(rows) == 0:
        raise ValueError("rows is empty: expected those of a study")
    if f"test_{metric}" not in rows:
        known = [c.removeprefix("test_") for c in rows if c.startswith("test_")]
        raise ValueError(f"metric is {metric!r}: expected one of {', '.join(known) or 'none'}")
    if rows["task"].nunique() != 1:
        raise ValueError(f"rows are of {sorted(set(rows['task']))}: expected those of one task")
    double = rows[rows.duplicated([*COLUMNS, "seed"])]
    if len(double):
        place = ", ".join(f"{c} {double.iloc[0][c]}" for c in [*COLUMNS, "seed"])
        raise ValueError(f"rows has two for {place}: expected one, choose their settings")
    table = rows.set_index([*COLUMNS, "seed"])[f"test_{metric}"].unstack("seed").sort_index()
    seeds = list(table.columns[table.notna().all()])
    if not seeds:
        raise ValueError("rows has no seed that all methods were measured with")
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


def _counts(rows: pd.DataFrame, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Errors (n, columns) and words (n,) of one seed."""
    of_seed = rows[rows["seed"] == seed]
    if of_seed["words"].nunique() != 1:
        raise ValueError(f"the methods of seed {seed} were not tested on the same words")
    errors = np.stack([unpack_counts(text) for text in of_seed["errors"]], axis=1)
    return errors, unpack_counts(of_seed["words"].iloc[0])


def sign_flip_p(differences: np.ndarray) -> float:
    """Exact two-sided p-value of the hypothesis that differences are symmetric around zero.

    The share of all 2^F choices of signs with a mean at least as far from zero.

    Parameters
    ----------
    differences : ndarray, shape (F,)
        One per seed, F <= 20.

    Returns
    -------
    float
        At least 2^(1 - F).

    References
    ----------
    Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 15.
    """
    d = np.asarray(differences, dtype=float)
    signs = 1 - 2 * ((np.arange(2 ** len(d))[:, None] >> np.arange(len(d))) & 1)
    sums = np.abs(signs @ d)
    return float((sums >= abs(d.sum()) * (1 - 1e-12)).mean())


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Adjust p-values for a family of tests, so that P(any false finding) stays under the level.

        p'_(i) = max over j <= i of min(1, (m - j + 1) p_(j)),      p_(1) <= ... <= p_(m)

    Parameters
    ----------
    p_values : sequence of float

    Returns
    -------
    ndarray
        In the order given.

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
    """Does a method win or lose against each other pruning method?

    Parameters
    ----------
    resampled : Resampled
    method : str
    level : float
        Bound on the probability of any false win or loss among all verdicts.
    pairs : mapping, optional
        By column of another method, that of `method` which it is compared with; the one of equal
        sparsity and steps where this is not given.

    Returns
    -------
    dict
        By column of the other method: "win" of `method`, "tie" or "loss", and the p-value
        after `holm` over the family of all of them. Empty with fewer seeds than three, which
        cannot tell the chance of training, and where without counts of utterances the seeds are
        too few for any win.

    Notes
    -----
    The p-values are those of the hierarchical bootstrap where the task counts errors in each
    utterance: three to five seeds alone can reject nothing, while utterances, which are hundreds,
    carry power, and resampled seeds keep the chance of training in. Without such counts they are
    those of the sign-flip test over seeds, which ends at 2^(1 - F), and after Holm at m times
    that: with two rivals a win needs seven seeds. A recording may be heard in
    several strings of a test part, whose errors are then not quite independent.
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
    """How many times the processor time of another method a method takes.

    Parameters
    ----------
    rows : DataFrame
    method, other : str

    Returns
    -------
    float
        The median over pairs of runs of equal task, seed and steps, and equal sparsity where
        both prune; nan where there is no pair.
    """
    on = ["task", "seed", "steps"]
    if method not in UNPRUNED[:2] and other not in UNPRUNED[:2]:
        on.append("sparsity")
    pairs = rows[rows["method"] == method].merge(rows[rows["method"] == other], on=on)
    if len(pairs) == 0:
        return math.nan
    return float(np.median(pairs["processor_seconds_x"] / pairs["processor_seconds_y"]))


def summary(
    rows: pd.DataFrame, metric: str = "wer", against: str = "csp", draws: int = DRAWS
) -> pd.DataFrame:
    """A row for each method, sparsity and length of one task: figures, intervals, verdict.

    Parameters
    ----------
    rows : DataFrame
        Of one task, as `compare` returns them.
    metric : str
    against : str
        The method whose verdicts are asked for, and whose processor time is 1.
    draws : int

    Returns
    -------
    DataFrame
        method, sparsity, steps; seeds (those that all have, as text) and `by_utterance`, whether
        utterances were resampled too; rate, low, high; where there is a "dense"
        row, `excess` over it with `excess_low`, `excess_high`, `lossless` (excess_high <
        0.005) and `degradation`, excess / dense; `difference`, what the rate exceeds that of
        `against` by at equal sparsity and steps, with `difference_low` and `difference_high`;
        `verdict` of `against` and its `p`; `cost`.

    Raises
    ------
    ValueError
        As `resample` does.
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
