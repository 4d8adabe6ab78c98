import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cspkit.arguments import ArgumentError
from cspkit.study import cost_ratio, pack_counts, summary, table
from cspkit.study.statistics import fold_rates, holm, t_interval, t_test, verdicts


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


DENSE, GMP, CSP = ("dense", 0.0, 0), ("gmp", 0.95, 600), ("csp", 0.95, 600)
SHARES = (0.0, 0.2, 0.33, 0.5, 0.8)  # of the utterances in the variance of a fold's rate


def simulated(folds, share, rates, studies=10_000, words=1000):
    """Measured rates of many studies, shape (studies, folds, methods).

    The expected rate of a method varies between folds (gamma distribution), and the errors in the
    words of a fold are binomial. The utterances cause the given share of the variance of a measured
    rate. With share 0 the expected rates are measured exactly.
    """
    rng, measured = np.random.default_rng(0), []
    for rate in rates:
        of_utterances = rate * (1 - rate) / words
        of_folds = of_utterances * (1 / share - 1) if share else rate**2 / 4
        expected = rng.gamma(rate**2 / of_folds, of_folds / rate, size=(studies, folds))
        measured.append(rng.binomial(words, expected.clip(max=1)) / words if share else expected)
    return np.stack(measured, axis=-1)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("folds", [3, 5, 10])
def test_the_error_rate_of_the_test_is_at_most_its_level(folds, share):
    measured = simulated(folds, share, (0.05, 0.05))
    p = t_test(measured[..., 0] - measured[..., 1])
    assert (p < 0.05).mean() <= 0.06


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("folds", [3, 5, 10])
def test_the_interval_covers_the_mean(folds, share):
    measured = simulated(folds, share, (0.05, 0.07))
    for mean, values in (
        (0.02, measured[..., 1] - measured[..., 0]),
        (0.05, measured[..., 0]),
    ):
        low, high = t_interval(values)
        assert ((low <= mean) & (mean <= high)).mean() >= 0.93


def test_the_test_and_the_interval_are_those_of_scipy():
    d = np.random.default_rng(0).normal(0.3, 1.0, size=(20, 5))
    for row, p, low, high in zip(d, t_test(d), *t_interval(d, 0.9), strict=True):
        found = stats.ttest_1samp(row, 0.0)
        assert p == pytest.approx(found.pvalue, rel=1e-12)
        assert (low, high) == pytest.approx(found.confidence_interval(0.9), rel=1e-12)
    low, high = t_interval(d)
    assert np.array_equal(t_test(d) < 0.05, (low > 0) | (high < 0))


def test_differences_that_do_not_vary():
    assert t_test([0.0, 0.0, 0.0]) == 1.0
    assert t_test([0.25, 0.25, 0.25]) == 0.0
    assert np.isnan(t_test([0.1])) and np.isnan(t_interval([0.1])).all()
    assert [float(end) for end in t_interval([0.25, 0.25])] == [0.25, 0.25]


def test_identical_methods_tie_and_differ_by_exactly_nothing():
    rows = study({DENSE: 0.02, GMP: 0.02})
    twin = rows[rows["method"] == "gmp"].assign(method="csp")
    r = fold_rates(pd.concat([rows, twin]))
    assert r.interval(CSP, less=GMP) == (0.0, 0.0)
    assert r.p_value(CSP, GMP) == 1.0
    assert verdicts(r) == {GMP: ("tie", 1.0)}


def test_verdicts_are_those_of_the_method_and_at_equal_sparsity_and_steps():
    rates = {DENSE: 0.01, CSP: 0.02, GMP: 0.06, ("acdc", 0.95, 600): 0.02}
    rates |= {("gmp", 0.95, 900): 0.05, ("csp", 0.98, 600): 0.06, ("gmp", 0.98, 600): 0.02}
    found = verdicts(fold_rates(study(rates)))
    assert {column: v for column, (v, _) in found.items()} == {
        GMP: "win",
        ("acdc", 0.95, 600): "tie",
        ("gmp", 0.98, 600): "loss",
    }
    mirrored = verdicts(fold_rates(study(rates)), "gmp")
    assert mirrored[CSP][0] == "loss"
    longer = verdicts(fold_rates(study(rates)), pairs={("gmp", 0.95, 900): CSP})
    assert {column: v for column, (v, _) in longer.items()} == {("gmp", 0.95, 900): "win"}


def test_fewer_than_five_folds_give_an_interval_and_no_verdict():
    rows = study({CSP: 0.02, GMP: 0.06}, seeds=5)
    few = rows[rows["seed"] < 4]
    assert verdicts(fold_rates(rows)) and verdicts(fold_rates(few)) == {}
    lines = summary(few)
    assert set(lines["verdict"]) == {""} and lines[["low", "high"]].notna().all(axis=None)
    assert "no verdicts: no rival of csp, or fewer than 5 folds" in table(few)
    assert "csp has a" not in table(few) and "csp has a" in table(rows)


def test_holm_as_computed_by_hand():
    # sorted .005 .01 .03 .04; times 4 3 2 1: .02 .03 .06 .04; running maximum: .02 .03 .06 .06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]).shape == (0,)


def test_the_correction_reaches_the_verdict():
    rng = np.random.default_rng(0)
    rates = {CSP: 0.02} | {(f"m{i}", 0.95, 600): 0.03 for i in range(12)}
    r = fold_rates(study(rates, rng=rng))
    raw = [r.p_value(CSP, column) < 0.05 for column in r.columns[1:]]
    wins = [v == "win" for v, _ in verdicts(r).values()]
    assert sum(wins) < sum(raw)


def test_seeds_of_one_fold_are_averaged_first():
    rows = study({GMP: 0.06, CSP: 0.02}, seeds=4)
    rows = rows.assign(fold=[f"fold {seed % 2}" for seed in rows["seed"]], words=":1")
    r = fold_rates(rows)
    assert r.folds == ["fold 0", "fold 1"] and r.rates.shape == (2, 2)
    of_csp = rows[rows["method"] == "csp"].set_index("seed")["test_wer"]
    assert r.of(CSP) == pytest.approx([of_csp[[0, 2]].mean(), of_csp[[1, 3]].mean()])
    assert r.of(GMP, less=CSP) == pytest.approx(r.of(GMP) - r.of(CSP))
    once = rows[(rows["method"] == "csp") | (rows["seed"] < 2)]  # one seed a fold for gmp
    assert fold_rates(once).of(CSP) == pytest.approx(r.of(CSP))


def test_one_fold_has_no_interval_and_no_star():
    rows = study({DENSE: 0.02, CSP: 0.02, GMP: 0.06}, seeds=1)
    lines = summary(rows)
    assert lines[["low", "high", "excess_low", "excess_high"]].isna().all(axis=None)
    assert not lines["lossless"].any()
    text = table(rows)
    assert "intervals: none, one fold" in text
    assert "nan" not in text
    assert "*" not in text.split("intervals")[0]


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
    r = fold_rates(rows)
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
    r = fold_rates(part)
    assert r.folds == ["0", "1", "2"]
    assert np.array_equal(r.rates, fold_rates(rows[rows["seed"] < 3]).rates)


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
        (lambda rows: rows[(rows["method"] == "csp") == (rows["seed"] > 2)], "no fold that all"),
        (
            lambda rows: rows.assign(words=[":1" if m == "csp" else ":2" for m in rows["method"]]),
            "not tested on the same words",
        ),
    ],
)
def test_rows_that_are_no_comparison_are_refused(change, message):
    rows = study({CSP: 0.02, GMP: 0.06})
    with pytest.raises(ArgumentError, match=message):
        fold_rates(change(rows))


def test_the_metric_is_checked():
    rows = study({CSP: 0.02, GMP: 0.06})
    assert np.array_equal(fold_rates(rows).rates, fold_rates(rows, "wer").rates)
    both = pd.concat([rows, rows.assign(task="t", test_error=0.5).drop(columns="test_wer")])
    assert "test wer in per cent" in table(both) and "test error in per cent" in table(both)
    with pytest.raises(ArgumentError, match="metric is 'cer': expected one of wer"):
        fold_rates(rows, "cer")
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


def test_the_table_lists_the_folds_that_it_rests_on():
    rows = study({CSP: 0.02, GMP: 0.06}, seeds=3)
    short = rows[(rows["method"] != "csp") | (rows["seed"] < 2)]
    assert "folds 0, 1\n" in table(short)
    assert "folds 0, 1, 2\n" in table(rows)
    assert "intervals: 95 %, Student's t over folds" in table(rows)
