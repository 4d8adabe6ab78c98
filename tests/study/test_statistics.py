import tracemalloc
from functools import partial
from itertools import product

import numpy as np
import pandas as pd
import pytest

from cspkit.arguments import ArgumentError
from cspkit.study import cost_ratio, pack_counts, statistics, table
from cspkit.study.statistics import (
    hierarchical_bootstrap,
    holm,
    sign_flip_p,
    verdicts,
)


def counts(rng, rates, n=300):
    """Errors (n, models) and words (n,) of strings, a few of which are hard for every model."""
    words = rng.integers(1, 8, n)
    hard = rng.gamma(0.5, 2.0, n)
    return np.stack([rng.poisson(r * words * hard) for r in rates], axis=1), words


def study(rates, seeds=5, counted=True, rng=None):
    """Rows of a comparison whose expected rates are known: {(method, sparsity, steps): rate}."""
    rng = rng or np.random.default_rng(0)
    rows = []
    for seed in range(seeds):
        errors, words = counts(rng, rates.values())
        for (method, sparsity, steps), e in zip(rates, errors.T, strict=True):
            rows.append(
                {
                    "task": "synthetic", "method": method, "mu": 0.0, "sparsity": sparsity,
                    "steps": steps, "seed": seed, "test_wer": e.sum() / words.sum(),
                    "processor_seconds": 30.0 + seed + (20 if method == "csp" else 0),
                    "errors": pack_counts(e) if counted else "", "words": pack_counts(words),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


resample, summary, table = (
    partial(function, draws=1000) for function in (statistics.resample, statistics.summary, table)
)
DENSE, GMP, CSP = ("dense", 0.0, 0), ("gmp", 0.95, 600), ("csp", 0.95, 600)


def coverage(seeds, scatter, planted, n=50, rng=None):
    """How often the interval covers a planted difference, and how often it leaves zero out."""
    rng, covered, found = rng or np.random.default_rng(0), 0, 0
    for _ in range(n):
        pairs = [
            counts(rng, np.maximum(0, [0.02, 0.02 + planted] + scatter * rng.normal(size=2)))
            for _ in range(seeds)
        ]
        drawn = hierarchical_bootstrap(*zip(*pairs, strict=True), rng, 300)
        low, high = np.quantile(drawn[:, 1] - drawn[:, 0], [0.025, 0.975])
        covered += low <= planted <= high
        found += not low <= 0 <= high
    return covered / n, found / n


@pytest.mark.parametrize("scatter", [0.0, 0.003])
def test_the_interval_of_a_difference_covers_it(scatter):
    covered, false = coverage(5, scatter, 0.0)
    assert covered >= 0.88
    assert false <= 0.12


def test_a_planted_difference_is_found():
    covered, found = coverage(5, 0.002, 0.015, n=30)
    assert covered >= 0.85
    assert found >= 0.8


def test_the_variance_of_the_draws_is_the_one_of_the_docstring():
    rng, F, b, w2 = np.random.default_rng(1), 4, 0.01, []
    measured, drawn = [], []
    for _ in range(120):
        rates = np.maximum(0, 0.05 + b * rng.normal(size=F))
        data = [counts(rng, [r]) for r in rates]
        means = [float(e.sum() / n.sum()) for e, n in data]
        measured.append(np.mean(means))
        w2.append(np.mean([(m - r) ** 2 for m, r in zip(means, rates, strict=True)]))
        drawn.append(hierarchical_bootstrap(*zip(*data, strict=True), rng, 150).var())
    total = b**2 + np.mean(w2)
    expected = total / F * ((F - 1) / F + np.mean(w2) / total)
    assert np.mean(drawn) == pytest.approx(expected, rel=0.15)
    assert np.var(measured) == pytest.approx(total / F, rel=0.35)


def test_utterances_are_drawn_whole():
    """Ten errors in one utterance say less than ten errors in ten: clusters widen the interval."""
    words = [np.full(100, 5)] * 3
    spread, clustered = np.zeros((100, 1), int), np.zeros((100, 1), int)
    spread[:10], clustered[0] = 1, 10
    widths = []
    for errors in (spread, clustered):
        drawn = hierarchical_bootstrap([errors] * 3, words, np.random.default_rng(0), 2000)
        widths.append(np.subtract(*np.quantile(drawn, [0.975, 0.025])))
    assert widths[1] > 2 * widths[0]


def test_seeds_are_drawn_whole():
    """Seeds that differ widen the interval, though every utterance of a seed is like the other."""
    words = [np.ones(50, int)] * 4
    drawn = hierarchical_bootstrap(
        [np.full((50, 1), e) for e in (0, 0, 1, 1)], words, np.random.default_rng(0), 4000
    )
    values, shares = np.unique(drawn.round(9), return_counts=True)
    assert values.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert shares / 4000 == pytest.approx(np.array([1, 4, 6, 4, 1]) / 16, abs=0.03)


def test_identical_methods_tie_and_differ_by_exactly_nothing():
    rows = study({DENSE: 0.02, GMP: 0.02})
    twin = rows[rows["method"] == "gmp"].assign(method="csp")
    r = resample(pd.concat([rows, twin]))
    assert r.interval(CSP, less=GMP) == (0.0, 0.0)
    assert r.p_value(CSP, GMP) == 1.0
    assert verdicts(r) == {GMP: ("tie", 1.0)}


def test_verdicts_are_those_of_the_method_and_at_equal_sparsity_and_steps():
    rates = {DENSE: 0.01, CSP: 0.02, GMP: 0.06, ("acdc", 0.95, 600): 0.02}
    rates |= {("gmp", 0.95, 900): 0.05, ("csp", 0.98, 600): 0.06, ("gmp", 0.98, 600): 0.02}
    found = verdicts(resample(study(rates)))
    assert {column: v for column, (v, _) in found.items()} == {
        GMP: "win",
        ("acdc", 0.95, 600): "tie",
        ("gmp", 0.98, 600): "loss",
    }
    mirrored = verdicts(resample(study(rates)), "gmp")
    assert mirrored[CSP][0] == "loss"
    longer = verdicts(resample(study(rates)), pairs={("gmp", 0.95, 900): CSP})
    assert {column: v for column, (v, _) in longer.items()} == {("gmp", 0.95, 900): "win"}


def test_fewer_than_three_seeds_give_no_verdict():
    rates = {DENSE: 0.01, CSP: 0.02, GMP: 0.06}
    assert verdicts(resample(study(rates, seeds=3)))
    assert verdicts(resample(study(rates, seeds=2))) == {}
    assert set(summary(study(rates, seeds=2))["verdict"]) == {""}
    assert "no verdicts: no rival of csp, or too few seeds" in table(study(rates, seeds=2))
    assert "csp has a" not in table(study(rates, seeds=2))
    assert "csp has a" in table(study(rates, seeds=3))


def test_holm_as_computed_by_hand():
    # sorted .005 .01 .03 .04; times 4 3 2 1: .02 .03 .06 .04; running maximum: .02 .03 .06 .06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]).shape == (0,)


def test_the_correction_reaches_the_verdict():
    rng = np.random.default_rng(0)
    rates = {CSP: 0.02} | {(f"m{i}", 0.95, 600): 0.03 for i in range(12)}
    r = resample(study(rates, rng=rng))
    raw = [r.p_value(CSP, column) < 0.05 for column in r.columns[1:]]
    wins = [v == "win" for v, _ in verdicts(r).values()]
    assert sum(wins) < sum(raw)


def test_sign_flips_as_counted_by_hand():
    assert sign_flip_p(np.array([1.0, 2.0, 3.0])) == 2 / 8
    assert sign_flip_p(np.array([1.0, -1.0])) == 1.0
    assert sign_flip_p(np.array([3.0, 2.0, -1.0])) == 4 / 8  # sums 6 and 4, and their negatives
    assert sign_flip_p(np.zeros(4)) == 1.0


def traced(function, *arguments):
    """The result of a call, and the most bytes that it held."""
    tracemalloc.start()
    result = function(*arguments)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return result, peak


def exact_sign_flip_p(d):
    """From the sums of two halves, each under all of its signs."""
    halves = [np.array(list(product([1, -1], repeat=len(d) // 2))) @ d[i::2] for i in (0, 1)]
    return (np.abs(np.add.outer(*halves)) >= abs(d.sum()) * (1 - 1e-12)).mean()


@pytest.mark.parametrize("F", [18, 20])
def test_sign_flips_are_all_counted_in_little_memory(F):
    d = np.random.default_rng(0).normal(0.3, 1.0, F)
    p, peak = traced(sign_flip_p, d)
    assert p == exact_sign_flip_p(d)
    assert peak < 25e6


def test_sign_flips_of_many_seeds_are_drawn():
    d = np.random.default_rng(0).normal(0.3, 1.0, 22)
    p, exact = sign_flip_p(d), exact_sign_flip_p(d)
    assert abs(p - exact) < 4 * np.sqrt(exact * (1 - exact) / 100_000)
    assert p == sign_flip_p(d) != exact
    p, peak = traced(sign_flip_p, np.ones(3000))
    assert p == 1 / 100_001
    assert peak < 100e6
    for bad in ([1.0, np.nan], [[1.0]]):
        with pytest.raises(ArgumentError, match="differences have shape"):
            sign_flip_p(bad)


def test_draws_in_parts_are_the_same_draws(monkeypatch):
    data = [counts(np.random.default_rng(seed), [0.02, 0.05]) for seed in range(3)]
    errors, words = zip(*data, strict=True)
    drawn = hierarchical_bootstrap(errors, words, np.random.default_rng(0), 500)
    monkeypatch.setattr("cspkit.bootstrap.CELLS", 7000)
    again, peak = traced(hierarchical_bootstrap, errors, words, np.random.default_rng(0), 500)
    assert np.array_equal(drawn, again)
    assert peak < 1e6  # in one part 500 draws of 300 utterances take more than 2 MB


def test_without_counts_only_seeds_are_drawn_and_five_prove_nothing():
    r = resample(study({GMP: 0.06, CSP: 0.02}, counted=False))
    assert not r.by_utterance
    low, high = r.interval(CSP)
    assert r.rates[:, 0].min() <= low < r.mean(CSP) < high <= r.rates[:, 0].max()
    assert r.p_value(CSP, GMP) == 1 / 16
    assert verdicts(r) == {}


@pytest.mark.parametrize(("n_seeds", "decided"), [(5, 0), (6, 1), (7, 1)])
def test_without_counts_there_are_verdicts_where_a_win_is_possible(n_seeds, decided):
    r = resample(study({GMP: 0.06, CSP: 0.02}, seeds=n_seeds, counted=False))
    assert [v for v, _ in verdicts(r).values()] == ["win"] * decided


def test_one_seed_without_counts_has_no_interval_and_no_star():
    rows = study({DENSE: 0.02, CSP: 0.02, GMP: 0.06}, seeds=1, counted=False)
    lines = summary(rows)
    assert lines[["low", "high", "excess_low", "excess_high"]].isna().all(axis=None)
    assert not lines["lossless"].any()
    text = table(rows)
    assert "nothing to resample" in text
    assert "nan" not in text
    assert "*" not in text.split("intervals")[0]


def test_the_same_rows_give_the_same_draws_in_whatever_order():
    rows = study({GMP: 0.06, CSP: 0.02})
    shuffled = rows.sample(frac=1, random_state=0)
    assert np.array_equal(resample(rows).draws, resample(shuffled).draws)


def test_the_summary_says_what_it_says():
    rates = {DENSE: 0.02, CSP: 0.02, GMP: 0.06}
    rows = study(rates)
    lines = summary(rows).set_index("method")
    means = rows.groupby("method")["test_wer"].mean()
    assert lines["rate"].to_dict() == pytest.approx(means.to_dict())
    excess = means["gmp"] - means["dense"]
    assert lines.loc["gmp", "excess"] == pytest.approx(excess)
    assert lines.loc["gmp", "degradation"] == pytest.approx(excess / means["dense"])
    assert (lines["low"] < lines["rate"]).all() and (lines["rate"] < lines["high"]).all()
    r = resample(rows)
    ends = lines.loc["gmp", ["excess_low", "excess_high"]]
    assert tuple(ends) == r.interval(GMP, less=DENSE)
    assert (lines["lossless"] == (lines["excess_high"] < 0.005)).all()
    assert lines.loc["dense", "lossless"] and not lines.loc["gmp", "lossless"]
    assert lines["verdict"].to_dict() == {"dense": "", "csp": "", "gmp": "win"}
    assert lines.loc["gmp", "cost"] == 32 / 52  # the median pair is that of seed 2
    assert lines.loc["gmp", "difference"] == pytest.approx(means["gmp"] - means["csp"])
    ends = lines.loc["gmp", ["difference_low", "difference_high"]]
    assert tuple(ends) == r.interval(GMP, less=CSP)
    assert lines.loc[["csp", "dense"], "difference"].isna().all()


def test_the_cost_of_a_sparsity_is_its_own():
    rates = {GMP: 0.06, CSP: 0.02, ("gmp", 0.98, 600): 0.06, ("csp", 0.98, 600): 0.02}
    rows = study(rates | {("dense+", 0.0, 600): 0.02})
    rows.loc[(rows["sparsity"] == 0.98) & (rows["method"] == "gmp"), "processor_seconds"] = 104.0
    costs = summary(rows).set_index(["method", "sparsity"])["cost"]
    assert costs[("gmp", 0.95)] == 32 / 52 and costs[("gmp", 0.98)] == 2
    costs = summary(rows, against="dense+").set_index(["method", "sparsity"])["cost"]
    assert costs[("csp", 0.95)] == costs[("csp", 0.98)] == 52 / 32


def test_the_cost_is_paired_by_seed_and_steps():
    rows = study({GMP: 0.02, ("gmp", 0.95, 900): 0.02, CSP: 0.02, ("dense+", 0.0, 600): 0.02})
    rows.loc[rows["steps"] == 900, "processor_seconds"] = 1e6
    assert cost_ratio(rows, "csp", "gmp") == np.median([(50 + i) / (30 + i) for i in range(5)])
    assert cost_ratio(rows, "csp", "dense+") == cost_ratio(rows, "csp", "gmp")
    assert np.isnan(cost_ratio(rows, "csp", "admm"))


def test_a_seed_that_a_method_lacks_is_left_out_for_all():
    rows = study({GMP: 0.06, CSP: 0.02})
    part = rows[~((rows["method"] == "csp") & (rows["seed"] > 2))]
    r = resample(part)
    assert r.seeds == [0, 1, 2]
    assert np.array_equal(r.draws, resample(rows[rows["seed"] < 3]).draws)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:0], "rows is empty"),
        (lambda rows: rows.to_dict("records"), "rows is a list: expected a DataFrame"),
        (lambda rows: rows.drop(columns="seed"), "rows has no column 'seed': expected the rows"),
        (lambda rows: rows.drop(columns="test_wer"), "metric is None: expected rows of `compare`"),
        (lambda rows: rows.assign(test_error=0.5), "metric is None: expected one of wer, error"),
        (lambda rows: rows.assign(task=[f"t{i % 2}" for i in range(len(rows))]), "one task"),
        (lambda rows: pd.concat([rows, rows[:1]]), "two for method csp, sparsity 0.95"),
        (lambda rows: rows[(rows["method"] == "csp") == (rows["seed"] > 2)], "no seed that all"),
        (
            lambda rows: rows.assign(words=[":1" if m == "csp" else ":2" for m in rows["method"]]),
            "not tested on the same words",
        ),
    ],
)
def test_rows_that_are_no_comparison_are_refused(change, message):
    rows = study({CSP: 0.02, GMP: 0.06})
    with pytest.raises(ArgumentError, match=message):
        resample(change(rows))


def test_the_metric_and_the_number_of_draws_are_checked():
    rows = study({CSP: 0.02, GMP: 0.06})
    assert np.array_equal(resample(rows).draws, resample(rows, "wer").draws)
    both = pd.concat([rows, rows.assign(task="t", test_error=0.5).drop(columns="test_wer")])
    assert "test wer in per cent" in table(both) and "test error in per cent" in table(both)
    with pytest.raises(ArgumentError, match="metric is 'cer': expected one of wer"):
        resample(rows, "cer")
    with pytest.raises(ArgumentError, match="draws is 0"):
        statistics.resample(rows, draws=0)
    with pytest.raises(ArgumentError, match="rows is empty"):
        cost_ratio(rows[:0], "csp", "gmp")


def test_the_table_shows_rates_in_per_cent_by_sparsity():
    rates = {DENSE: 0.02, ("dense+", 0.0, 600): 0.02, CSP: 0.02, GMP: 0.06}
    rows = study(rates | {("csp", 0.98, 600): 0.03, ("gmp", 0.98, 600): 0.08})
    text = table(rows)
    lines = [line.split() for line in text.splitlines()]
    assert lines[0][:4] == ["synthetic,", "test", "wer", "in"]
    means = 100 * rows.groupby(["method", "sparsity"])["test_wer"].mean()
    shown = {(li[0], float(li[1]) / 100): li[4] for li in lines[2:8]}
    assert shown == {key: f"{mean:.2f}" for key, mean in means.items()}
    assert [float(li[1]) for li in lines[2:8]] == [0, 0, 95, 95, 98, 98]
    assert [li[-1] for li in lines[2:8] if li[0] == "gmp"] == ["win", "win"]
    assert "* no loss" in text


def test_the_table_has_a_part_for_each_task():
    rows = study({CSP: 0.02, GMP: 0.06})
    text = table(pd.concat([rows.assign(task="first"), rows.assign(task="second")]))
    assert text.count("test wer in per cent") == 2
    assert "+" not in text  # no dense model, no excess


def test_the_table_of_one_seed_says_what_it_leaves_out():
    rows = study({CSP: 0.02, GMP: 0.06}, seeds=2)
    assert "seeds and utterances resampled" in table(rows)
    assert "one seed cannot show" in table(rows[rows["seed"] == 0])


def test_the_table_lists_the_seeds_that_it_rests_on():
    rows = study({CSP: 0.02, GMP: 0.06}, seeds=3)
    short = rows[(rows["method"] != "csp") | (rows["seed"] < 2)]
    assert "seeds 0, 1\n" in table(short)
    assert "seeds 0, 1, 2\n" in table(rows)
    uncounted = rows.assign(errors="", words="")
    assert "seeds resampled" in table(uncounted)
