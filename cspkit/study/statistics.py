"""How certain a comparison is: intervals and verdicts over folds, costs.

A fold is a test part with its training part and its dense model. The folds are the unit: runs of
one fold share its recordings, so they are averaged first. What is compared is one number per fold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import t as student

from cspkit.arguments import ArgumentError
from cspkit.study.entries import UNPRUNED

LEAST_FOLDS = 5  # fewest folds for a verdict
LOSSLESS = 0.005  # "no loss against dense": upper end of the interval < half a percentage point
COLUMNS = ["method", "sparsity", "steps"]  # they identify a column of `FoldRates`


def t_interval(values: ArrayLike, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Return Student's interval of a mean over folds.

        mean -+ t s / sqrt(F)

    where s^2 = sum (x - mean)^2 / (F - 1), and t is the quantile (1 + level) / 2 of Student's
    distribution with F - 1 degrees of freedom.

    Parameters
    ----------
    values : array_like, shape (..., F)
        One value per fold, for example the difference between two methods.
    level : float
        Probability that the interval covers the mean.

    Returns
    -------
    low, high : ndarray, shape (...)
        nan for one fold.

    References
    ----------
    Student, "The probable error of a mean", Biometrika 6 (1908).
    """
    values = np.asarray(values, dtype=float)
    F = values.shape[-1]
    mean = values.mean(axis=-1)
    if F < 2:
        return mean * math.nan, mean * math.nan
    half = student.ppf((1 + level) / 2, F - 1) * values.std(axis=-1, ddof=1) / math.sqrt(F)
    return mean - half, mean + half


def t_test(differences: ArrayLike) -> np.ndarray:
    """Return the two-sided p-value of the hypothesis that the mean difference is zero.

    This is the paired t-test over folds: p < 0.05 exactly when `t_interval` does not contain zero.

    Parameters
    ----------
    differences : array_like, shape (..., F)
        One difference per fold.

    Returns
    -------
    ndarray, shape (...)
        nan for one fold, 1 if all differences are zero.
    """
    d = np.asarray(differences, dtype=float)
    F = d.shape[-1]
    if F < 2:
        return d.mean(axis=-1) * math.nan
    mean, error = d.mean(axis=-1), d.std(axis=-1, ddof=1) / math.sqrt(F)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * student.sf(np.abs(mean) / error, F - 1)
    return np.where(mean == 0, 1.0, p)


@dataclass(frozen=True)
class FoldRates:
    """The error rates of a comparison, fold by fold.

    Attributes
    ----------
    columns : list of (method, sparsity, steps)
    folds : list of str
        The folds that all columns have.
    rates : ndarray, shape (folds, columns)
        Means over the runs of a fold.
    """

    columns: list[tuple[str, float, int]]
    folds: list[str]
    rates: np.ndarray

    def of(self, column: tuple, less: tuple | None = None) -> np.ndarray:
        """Return the rates of a column, or those minus the rates of another one. Shape (folds,)."""
        rates = self.rates[:, self.columns.index(column)]
        return rates if less is None else rates - self.rates[:, self.columns.index(less)]

    def mean(self, column: tuple, less: tuple | None = None) -> float:
        """Return the mean over folds of a rate, or of the rate minus another one."""
        return float(self.of(column, less).mean())

    def interval(self, column: tuple, less: tuple | None = None) -> tuple[float, float]:
        """Return the 95 % interval of a mean, see `t_interval`. It is nan for one fold."""
        low, high = t_interval(self.of(column, less))
        return float(low), float(high)

    def p_value(self, column: tuple, other: tuple) -> float:
        """Return the p-value of the hypothesis that two columns have equal rates, see `t_test`."""
        return float(t_test(self.of(column, other)))


def fold_rates(rows: pd.DataFrame, metric: str | None = None) -> FoldRates:
    """Return the error rates of the comparison in the rows, fold by fold.

    Parameters
    ----------
    rows : DataFrame
        Rows of one task, as `compare` returns them. A fold that one method lacks is left out for
        all methods. Without a column "fold", each seed is a fold.
    metric : str, optional
        The default is the metric that the rows have.

    Returns
    -------
    FoldRates

    Raises
    ------
    ArgumentError
        If there are no rows; if there are rows of two tasks, or two rows with the same method,
        sparsity, length and seed; if no fold has rows of all methods; or if the methods of a fold
        were not tested on the same words.
    """
    metric = metric_of(rows, metric)
    if rows["task"].nunique() != 1:
        raise ArgumentError(f"rows are of {sorted(set(rows['task']))}: expected rows of one task")
    double = rows[rows.duplicated([*COLUMNS, "seed"])]
    if len(double):
        place = ", ".join(f"{c} {double.iloc[0][c]}" for c in [*COLUMNS, "seed"])
        raise ArgumentError(
            f"rows has two for {place}: expected one; keep the rows of one choice of settings and "
            "of one dense model"
        )
    rows = rows.assign(fold=rows["fold" if "fold" in rows else "seed"].astype(str))
    if "words" in rows and (rows.groupby("fold")["words"].nunique() > 1).any():
        raise ArgumentError("rows of one fold were not tested on the same words")
    table = rows.groupby([*COLUMNS, "fold"])[f"test_{metric}"].mean().unstack("fold").sort_index()
    table = table.loc[:, table.notna().all()]
    if table.shape[1] == 0:
        raise ArgumentError("rows has no fold that all methods were measured on")
    columns = [(str(m), float(s), int(t)) for m, s, t in table.index]
    return FoldRates(columns, list(table.columns), table.to_numpy().T)


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
    rates: FoldRates,
    method: str = "csp",
    level: float = 0.05,
    pairs: Mapping[tuple, tuple] | None = None,
) -> dict[tuple, tuple[str, float]]:
    """Judge whether a method wins or loses against each of the other pruning methods.

    Parameters
    ----------
    rates : FoldRates
    method : str
    level : float
        Bound on the probability of any false win or loss among the verdicts of one family. A family
        is all verdicts against the same column of `method`: one sparsity and one length.
    pairs : mapping, optional
        From the column of another method to the column of `method` to compare it with. The default
        is the column of equal sparsity and steps.

    Returns
    -------
    dict
        For each column of another method: "win" (of `method`), "tie" or "loss", and the p-value of
        `t_test` after `holm` over its family. It is empty with fewer than five folds: they give an
        interval, but too little is known about their spread for a verdict.
    """
    if len(rates.folds) < LEAST_FOLDS:
        return {}
    if pairs is None:
        pairs = {
            other: (method, *other[1:])
            for other in rates.columns
            if other[0] not in (method, *UNPRUNED) and (method, *other[1:]) in rates.columns
        }
    found = {}
    for mine in dict.fromkeys(pairs.values()):
        others = [other for other, compared in pairs.items() if compared == mine]
        adjusted = holm([rates.p_value(mine, other) for other in others])
        for other, p in zip(others, adjusted, strict=True):
            better = rates.mean(mine, less=other) < 0
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


def summary(rows: pd.DataFrame, metric: str | None = None, against: str = "csp") -> pd.DataFrame:
    """Return a row for each method, sparsity and length of one task: rates, intervals, verdict.

    Parameters
    ----------
    rows : DataFrame
        Rows of one task, as `compare` returns them.
    metric : str, optional
        The default is the metric that the rows have.
    against : str
        The method that the verdicts are about. Its processor time is 1.

    Returns
    -------
    DataFrame
        - method, sparsity, steps;
        - folds, as text: those that all methods have;
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
        For the reasons that `fold_rates` lists.
    """
    rates = fold_rates(rows, metric)
    judged = verdicts(rates, against)
    dense = ("dense", 0.0, 0)
    lines = []
    for column in rates.columns:
        rate, (low, high) = rates.mean(column), rates.interval(column)
        line = dict(zip(COLUMNS, column, strict=True)) | {
            "folds": ", ".join(rates.folds), "rate": rate, "low": max(low, 0.0), "high": high,
        }  # fmt: skip
        if dense in rates.columns:
            low, high = rates.interval(column, less=dense)
            excess, base = rates.mean(column, less=dense), rates.mean(dense)
            line |= {"excess": excess, "excess_low": low, "excess_high": high}
            line["lossless"] = high < LOSSLESS
            line["degradation"] = excess / base if base else math.nan
        other = (against, *column[1:])
        if column != other and other in rates.columns:
            low, high = rates.interval(column, less=other)
            line |= {"difference": rates.mean(column, less=other)}
            line |= {"difference_low": low, "difference_high": high}
        verdict, p = judged.get(column, ("", math.nan))
        alike = rows["steps"] == column[2]
        if not {column[0], against} & set(UNPRUNED[:2]):
            alike &= rows["sparsity"] == column[1]
        cost = cost_ratio(rows[alike], column[0], against)
        lines.append(line | {"verdict": verdict, "p": p, "cost": cost})
    return pd.DataFrame(lines)
