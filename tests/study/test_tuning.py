import inspect
import warnings

import numpy as np
import pandas as pd
import pytest
from study_bench import BlobBench, CountedBlobs

from cspkit.arguments import ArgumentError
from cspkit.pruning import PRUNERS, prune
from cspkit.pruning.prune import settings_of
from cspkit.study import (
    compare,
    default_space,
    entry,
    finals,
    missing_finals,
    read_rows,
    tune,
    tuned,
)

CALL = {"steps": 6, "sparsity": 0.9, "metric": "error"}
METHODS = ["dense+", "gmp", "csp+D", "csp"]
TIMES = ["seconds", "processor_seconds"]


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    out = tmp_path_factory.mktemp("tuning") / "whole.csv"
    return out, tune(BlobBench(), METHODS, out=out, trials=7, **CALL)


def test_every_method_has_the_same_number_of_trials(trials):
    _, rows = trials
    assert rows.groupby("method")["trial"].apply(list).to_dict() == {
        method: list(range(7)) for method in METHODS
    }


def test_the_first_trial_is_the_defaults_and_the_others_differ(trials):
    _, rows = trials
    for method, own in rows.groupby("method"):
        first = own[own["trial"] == 0].iloc[0]
        assert first["settings"] == "{}"
        assert first["rate"] == entry(method).rate
        assert first["mu"] == entry(method).mu
        assert own["rate"].nunique() == 7
        assert own["rate"].between(3e-3, 1e-1).all()
        assert own["mu"].between(0.3, 3).all() or set(own["mu"]) == {0}


def test_tuning_does_not_look_at_the_test_part(trials):
    _, rows = trials
    assert not [c for c in rows.columns if "test" in c or c in ("errors", "words")]


def test_a_tuning_that_was_stopped_goes_on_where_it_was(trials, tmp_path):
    whole = trials[0].read_text().splitlines()
    rng = np.random.default_rng(0)
    kept = [whole[0]]
    for first in range(1, len(whole), 7):  # by method and trial
        kept += whole[first : first + rng.integers(0, 7)]
    assert len(kept) < len(whole)
    out = tmp_path / "broken.csv"
    out.write_text("\n".join(kept) + "\n")
    tune(BlobBench(), METHODS, out=out, trials=7, **CALL)
    texts = [read_rows(file).drop(columns=TIMES).to_csv() for file in (out, trials[0])]
    assert texts[0] == texts[1]


def test_later_trials_learn_from_the_earlier(trials, tmp_path):
    """The same rates, but other losses of the past: the model draws another rate."""
    rows = read_rows(trials[0]).query("method == 'csp' and trial < 6")
    out = tmp_path / "other.csv"
    rows.assign(dev_loss=rows["dev_loss"].to_numpy()[::-1]).to_csv(out, index=False)
    drawn = tune(BlobBench(), ["csp"], out=out, trials=7, **CALL)["rate"].iloc[-1]
    assert drawn != trials[1].query("method == 'csp' and trial == 6")["rate"].item()


def test_the_best_on_dev_is_what_a_comparison_runs_with(trials, tmp_path):
    _, rows = trials
    best = tuned(rows)
    assert best == tuned(trials[0])
    assert list(best) == sorted(METHODS)
    loss = {m: rows.loc[rows["method"] == m, "dev_loss"].min() for m in METHODS}
    assert best["csp+D"]["mu"] > 0 == best["csp"]["mu"]
    found = compare(
        BlobBench(), METHODS, [0.9], [0], 6, out=tmp_path / "a.csv", settings=best, metric="error"
    )
    assert dict(zip(found["method"], found["dev_loss"], strict=True)) == loss


def test_trials_that_are_near_the_best_meet_on_other_seeds(trials, tmp_path):
    out = tmp_path / "rows.csv"
    rows = trials[1].copy()
    for method, own in rows.groupby("method"):  # two near trials of each; of csp+D only one
        far = 9.0 if method == "csp+D" else 1.05
        rows.loc[own.index, "dev_loss"] = [5.0, far, 1.0, 5.0, 5.0, 5.0, 5.0]
    rows.to_csv(out, index=False)
    missing = missing_finals(BlobBench(), out=out)
    found = finals(BlobBench(), out=out, metric="error")
    assert missing_finals(BlobBench(), out=out) == []
    again = found[found["seed"] > 0]
    met = {m: set(zip(g["trial"], g["seed"], strict=True)) for m, g in again.groupby("method")}
    assert met == {m: {(1, 1), (1, 2), (2, 1), (2, 2)} for m in METHODS if m != "csp+D"}
    assert len(missing) == len(again)
    assert {(r.entry.name, r.trial, r.seed) for r in missing} == set(
        zip(again["method"], again["trial"], again["seed"], strict=True)
    )
    best = tuned(out)
    for method, own in found.groupby("method"):
        means = own.assign(log=np.log(own["dev_loss"])).groupby("trial")["log"].mean()
        winner = 2 if method == "csp+D" else means[[1, 2]].idxmin()
        assert best[method]["rate"] == own[own["trial"] == winner]["rate"].iloc[0]

    half = tmp_path / "half.csv"  # killed in the middle, and called again
    found.drop(again.index[::2]).to_csv(half, index=False)
    whole = finals(BlobBench(), out=half, metric="error").drop(columns=TIMES)
    pd.testing.assert_frame_equal(whole, found.drop(columns=TIMES))


def test_finals_and_their_rows_are_checked(trials, tmp_path):
    out = tmp_path / "rows.csv"
    trials[1].to_csv(out, index=False)
    for change, message in (
        ({"seeds": [0]}, "seeds is \\[0\\]: besides these, .* has trials of 0 seeds; expected"),
        ({"seeds": 1}, "seeds is 1: expected a sequence"),
        ({"seeds": ["1"]}, "an entry of seeds is '1'"),
        ({"within": -1}, "within is -1"),
        ({"jobs": 0}, "jobs is 0"),
        ({"objective": "loss"}, "objective is 'loss': expected one of 'dev_loss', 'dev_METRIC'"),
        ({"objective": "dev_wer"}, "has the column 'dev_error': expected rows of metric 'wer'"),
    ):
        with pytest.raises(ArgumentError, match=message):
            finals(BlobBench(), out=out, **change)
    other = trials[1].assign(seed=1, rate=0.5)
    with pytest.raises(ArgumentError, match="trials of csp whose settings differ between seeds"):
        tuned(pd.concat([trials[1], other]))
    with pytest.raises(ArgumentError, match="several dense models of one seed"):
        tuned(pd.concat([trials[1], trials[1].assign(dense="0")]))
    with pytest.raises(ArgumentError, match="rows has no column 'dev_wer'"):
        tuned(trials[1], "dev_wer")


def test_trials_of_other_dense_models_are_not_those_of_this_tuning(trials, tmp_path):
    out, call = tmp_path / "rows.csv", CALL | {"trials": 2}
    trials[1].assign(dense="0", dev_loss=0.5).to_csv(out, index=False)
    rows = tune(BlobBench(), ["gmp"], out=out, **call)
    expected = trials[1].query("method == 'gmp' and trial < 2")
    pd.testing.assert_frame_equal(
        rows.drop(columns=TIMES),
        expected.drop(columns=TIMES).reset_index(drop=True),
        check_like=True,
    )
    found = finals(BlobBench(), out=out, within=1e9, metric="error")
    assert set(found["method"]) == {"gmp"} and len(found) == 2 + 2 * 2
    assert set(tuned(found)) == {"gmp"}
    other = trials[1].assign(dense="0")
    other.to_csv(out, index=False)
    with pytest.raises(ArgumentError, match="no trials of the dense model of seed 0, whose check"):
        finals(BlobBench(), out=out)


def test_trials_without_checksums_can_be_read_but_not_continued(trials, tmp_path):
    out = tmp_path / "rows.csv"
    trials[1].drop(columns="dense").to_csv(out, index=False)
    before = out.read_bytes()
    assert tuned(out) == tuned(trials[1])
    with pytest.raises(ArgumentError, match="whose rows do not all name their dense model"):
        tune(BlobBench(), METHODS, out=out, trials=7, **CALL)
    with pytest.raises(ArgumentError, match="whose rows do not all name their dense model"):
        finals(BlobBench(), out=out)
    assert out.read_bytes() == before


def test_the_metric_may_come_from_the_objective_or_from_the_task(trials, tmp_path):
    call = {"trials": 1, "steps": 6, "sparsity": 0.9, "methods": ["gmp"]}
    bench, out = BlobBench(counted=False), tmp_path / "rows.csv"  # without a loss
    rows = tune(bench, out=out, **call, objective="dev_error")
    assert list(rows.columns[rows.columns.str.startswith("dev_")]) == ["dev_error", "dev_loss"]
    rows = tune(BlobBench(), out=tmp_path / "others.csv", **call)
    row = trials[1].query("method == 'gmp' and trial == 0").drop(columns=TIMES)
    row = row.reset_index(drop=True)
    pd.testing.assert_frame_equal(rows.drop(columns=TIMES), row, check_like=True)


@pytest.mark.parametrize("method", sorted(PRUNERS))
@pytest.mark.parametrize("suffix", ["+D", ""])
def test_a_space_holds_what_the_class_takes_and_its_defaults(method, suffix):
    one = entry(method + suffix)
    space = default_space(one)
    assert ("mu" in space) == (suffix == "+D")
    values = settings_of(method) | {"rate": one.rate, "mu": one.mu}
    assert set(space) <= set(values)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, distribution in space.items():
            assert distribution._contains(distribution.to_internal_repr(values[name])), name
    assert settings_of(method).keys().isdisjoint({"self", "weights", "sparsity", "steps"})
    assert space["rate"].low == 3e-3 and space["rate"].high == 1e-1 and space["rate"].log
    assert one.rate == inspect.signature(prune).parameters["rate"].default


def test_settings_of_a_base_class_count_where_keywords_are_handed_on(monkeypatch):
    class Own(PRUNERS["gmp"]):
        def __init__(self, weights, sparsity, steps, *, rho=0.01, **settings):
            super().__init__(weights, sparsity, steps, **settings)

    class Closed(PRUNERS["gmp"]):
        def __init__(self, weights, sparsity, steps, *, rho=0.5):
            super().__init__(weights, sparsity, steps)

    monkeypatch.setitem(PRUNERS, "own", Own)
    monkeypatch.setitem(PRUNERS, "closed", Closed)
    expected = {"rate", "rho", "exponent", "end", "budget", "keep_values"}
    assert set(default_space(entry("own"))) == expected
    space = default_space(entry("closed"))
    assert set(space) == {"rate", "rho"}
    assert space["rho"].high == 0.5  # widened, so that the default is in it
    assert "rho" not in default_space(entry("closed", rho=0.0))  # switched off


def test_a_trial_that_diverges_is_recorded_and_never_best(tmp_path):
    from optuna.distributions import FloatDistribution

    spaces = {"gmp": {"rate": FloatDistribution(1e-2, 1e38, log=True)}}
    out = tmp_path / "rows.csv"
    call = CALL | {"trials": 4, "spaces": spaces}
    rows = tune(BlobBench(), ["gmp"], out=out, **call)
    assert np.isinf(rows["dev_loss"]).any()
    assert tuned(out) == tuned(rows) and tuned(rows)["gmp"]["rate"] < 1e6
    again = tune(BlobBench(), ["gmp"], out=out, **call)
    pd.testing.assert_frame_equal(again, rows, check_like=True)
    with pytest.raises(ArgumentError, match="every trial of gmp diverged"):
        tuned(rows[np.isinf(rows["dev_loss"])])


def test_a_trial_whose_loss_is_nan_has_diverged_and_stops_no_tuning(tmp_path):
    class Nan(CountedBlobs):
        def evaluate(self, model, split):
            changed = any((p == 0).any() for p in model.parameters() if p.ndim == 2)
            return super().evaluate(model, split) | ({"loss": np.nan} if changed else {})

    class Bench(BlobBench):
        def __call__(self, seed):
            return Nan(), super().__call__(seed)[1]

    rows = tune(Bench(), ["gmp"], out=tmp_path / "rows.csv", **CALL | {"trials": 6})
    assert list(rows["dev_loss"]) == [np.inf] * 6
    assert rows["dev_error"].notna().all()


def test_an_objective_of_zero_is_the_best(tmp_path):
    rows = tune(BlobBench(), ["gmp"], out=tmp_path / "rows.csv", **CALL | {"trials": 3})
    rows["dev_error"] = [0.1, 0.0, 0.2]
    assert tuned(rows, "dev_error")["gmp"]["rate"] == rows["rate"][1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["dense"]}, "methods has 'dense', which has nothing to tune"),
        ({"methods": ["magic"]}, "method is 'magic'"),
        ({"methods": []}, "methods is \\[\\]"),
        ({"trials": 0}, "trials is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"sparsity": 2.0}, "sparsity is 2.0"),
        ({"objective": "dev_wer"}, "objective is 'dev_wer': expected one of .*dev_error"),
        (
            {"bench": BlobBench(counted=False)},
            "objective is 'dev_loss', but evaluate returned no finite 'loss': .*'dev_error'",
        ),
        ({"seed": -1}, "seed is -1"),
        ({"sparsity": "high"}, "sparsity is 'high'"),
        ({"jobs": 0}, "jobs is 0"),
        ({"objective": None}, "objective is None: expected one of 'dev_loss', 'dev_error'"),
        ({"metric": "wer"}, "metric is 'wer': expected one of error, loss"),
        ({"spaces": {"cps": {}}}, "an entry of spaces is 'cps': expected one of 'gmp'"),
        ({"spaces": {"gmp": 0.1}}, "spaces has 0.1 for gmp: expected a dict"),
        ({"spaces": {"gmp": {"rate": 0.1}}}, "spaces has 0.1 for 'rate' of gmp: expected a distr"),
        (
            {"spaces": {"gmp": {"foo": None}}},
            "gmp in spaces has no setting 'foo': expected .*end",
        ),
    ],
)
def test_bad_arguments_are_named(tmp_path, change, message):
    call = {"bench": BlobBench(), "methods": ["gmp"], "trials": 1} | CALL | change
    bench, methods = call.pop("bench"), call.pop("methods")
    with pytest.raises(ArgumentError, match=message):
        tune(bench, methods, out=tmp_path / "rows.csv", **call)
    assert not list(tmp_path.iterdir())


def test_trials_from_another_space_are_refused(trials, tmp_path):
    from optuna.distributions import FloatDistribution

    out = tmp_path / "rows.csv"
    out.write_text(trials[0].read_text())
    spaces = {"gmp": {"rate": FloatDistribution(1.0, 2.0)}}
    with pytest.raises(ArgumentError, match="trial 0 of gmp lies outside its space"):
        tune(BlobBench(), ["gmp"], out=out, spaces=spaces, trials=8, **CALL)


def test_a_space_without_the_default_is_refused_before_anything_is_trained(tmp_path):
    from optuna.distributions import FloatDistribution

    call = {"bench": BlobBench(), "methods": ["gmp"], "out": tmp_path / "rows.csv"} | CALL
    spaces = {"gmp": {"rate": FloatDistribution(0.5, 1.0)}}
    with pytest.raises(ArgumentError, match="trial 0 of gmp lies outside its space"):
        tune(**call, trials=1, spaces=spaces)
    assert not list(tmp_path.iterdir())


def test_another_space_is_refused_where_no_trial_is_left_to_make(tmp_path):
    from optuna.distributions import FloatDistribution

    call = {"bench": BlobBench(), "methods": ["gmp"], "out": tmp_path / "rows.csv"} | CALL
    tune(**call, trials=3)
    narrow = {"gmp": {"rate": FloatDistribution(0.0099, 0.0101)}}
    with pytest.raises(ArgumentError, match="trial [12] of gmp lies outside its space"):
        tune(**call, trials=3, spaces=narrow)
