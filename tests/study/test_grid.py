import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from blobs import Blobs
from study_bench import BlobBench, CountedBlobs

from cspkit.pruning import PRUNERS, prune
from cspkit.study import compare, entry, pack_counts, read_rows, tune, unpack_counts
from cspkit.study.grid import KEY, grid
from cspkit.study.runs import weights_left
from cspkit.training import train

TOTAL = 10 * 40 + 40 * 40 + 40 * 5


class Silent(CountedBlobs):
    divergence = None


class Wrong(CountedBlobs):
    def evaluate(self, model, split):
        return {"error": float("nan"), "loss": 1.0}


@dataclass(frozen=True)
class TaskBench:
    task: object
    model: object = None
    name: str = "blobs"

    def __call__(self, seed):
        return self.task, self.model or Blobs().new_model(seed)


METHODS = ["dense", "dense+", "gmp", "gmp+D", "csp", "csp-D"]
TIMES = ["seconds", "processor_seconds"]
CALL = {"sparsities": [0.8, 0.95], "seeds": [0, 1], "steps": 6, "metric": "error"}


def text_without_times(path):
    return read_rows(path).drop(columns=TIMES).to_csv(index=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A study that nothing broke."""
    out = tmp_path_factory.mktemp("study") / "whole.csv"
    return out, compare(BlobBench(), METHODS, out=out, **CALL)


def test_every_method_sparsity_and_seed_has_one_row(whole):
    _, rows = whole
    pruned = rows[rows["method"].isin(["gmp", "gmp+D", "csp", "csp-D"])]
    assert len(rows) == 2 * 2 + 4 * 2 * 2
    assert not pruned.duplicated(["method", "sparsity", "seed"]).any()
    assert list(pruned["nonzeros"]) == [TOTAL - round(s * TOTAL) for s in pruned["sparsity"]]
    assert set(rows.loc[rows["method"] == "dense", "steps"]) == {0}
    assert set(rows.loc[rows["method"] != "dense", "steps"]) == {6}
    assert dict(rows[["method", "mu"]].to_records(index=False)) == {
        "dense": 0, "dense+": 0, "gmp": 0, "gmp+D": 1, "csp": 1, "csp-D": 0,
    }  # fmt: skip


def test_a_row_is_what_prune_gives(whole):
    task, dense = BlobBench()(1)
    model = prune(dense, task, "gmp", 0.95, steps=6, mu=1.0, rng=np.random.default_rng(1)).model
    _, rows = whole
    row = rows.query("method == 'gmp+D' and sparsity == 0.95 and seed == 1").iloc[0]
    assert row["test_error"] == task.errors(model, "test")[0].mean()
    assert row["dev_loss"] == task.evaluate(model, "dev")["loss"]
    assert row["parameters"] == sum(int((p != 0).sum()) for p in model.parameters())
    assert np.array_equal(unpack_counts(row["errors"]), task.errors(model, "test")[0])
    assert unpack_counts(row["words"]).sum() == 200


def test_dense_rows_are_the_checkpoint_and_its_further_training(whole):
    task, dense = BlobBench()(0)
    _, rows = whole
    losses = rows[rows["seed"] == 0].set_index("method")["dev_loss"]
    assert losses["dense"] == task.evaluate(dense, "dev")["loss"]
    train(dense, task, 6, rng=np.random.default_rng(0), schedule="cosine")
    assert losses["dense+"] == task.evaluate(dense, "dev")["loss"]


def test_rows_that_are_there_are_not_measured_again(whole, tmp_path):
    class Counting(BlobBench):
        def __call__(self, seed):
            calls.append(seed)
            return super().__call__(seed)

    calls = []
    out = tmp_path / "rows.csv"
    out.write_text(whole[0].read_text())
    again = compare(Counting(), METHODS, out=out, **CALL)
    assert calls == []
    assert out.read_text() == whole[0].read_text()
    pd.testing.assert_frame_equal(again, whole[1])
    settings = {"gmp": {"exponent": 2.0}}
    more = compare(Counting(), ["gmp"], out=out, settings=settings, **CALL)
    assert calls == [0, 0, 0, 1, 1]  # other settings are another run; the first tries them
    assert set(more["settings"]) == {'{"exponent": 2.0}'}
    assert len(read_rows(out)) == len(whole[1]) + 4
    keys = list(read_rows(out)[list(KEY)].itertuples(index=False))
    assert keys == sorted(keys)  # not in the order of their coming
    compare(Counting("other"), ["dense"], out=out, **CALL)
    assert calls[5:] == [0, 0, 1]  # and so is another task


def test_two_processes_give_the_same_file_as_one(whole, tmp_path):
    out = tmp_path / "rows.csv"
    with joblib.parallel_config(n_jobs=2):  # `jobs` is left to the context
        compare(BlobBench(), METHODS, out=out, **CALL)
    assert text_without_times(out) == text_without_times(whole[0])


def test_the_global_generator_of_torch_is_neither_used_nor_moved(whole, tmp_path):
    torch.manual_seed(17)
    before = torch.get_rng_state()
    call = CALL | {"sparsities": [0.95], "seeds": [1]}
    row = compare(BlobBench(), ["csp"], out=tmp_path / "rows.csv", **call).iloc[0]
    bench_moves = torch.get_rng_state()
    torch.set_rng_state(before)
    BlobBench()(1)
    assert torch.equal(bench_moves, torch.get_rng_state())
    expected = whole[1].query("method == 'csp' and sparsity == 0.95 and seed == 1").iloc[0]
    assert row.drop(TIMES).equals(expected.drop(TIMES))


KILLED = textwrap.dedent(
    """
    # Each life of the study is a fork, so that torch is imported once.
    import os, random, signal, sys, time
    from cspkit.study import compare
    from study_bench import BlobBench

    class Slow(BlobBench):
        def __call__(self, seed):
            time.sleep(0.05)
            return super().__call__(seed)

    out, chance, kills = sys.argv[1], random.Random(int(sys.argv[2])), 0
    while True:
        child = os.fork()
        if child == 0:
            compare(Slow(), {methods}, out=out, **{call})
            os._exit(0)
        if kills < 5:
            time.sleep(chance.uniform(0.1, 0.5))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            break
        kills += 1
    print(kills, os.WEXITSTATUS(status))
    """
).format(methods=METHODS, call=CALL)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_study_that_is_killed_five_times_ends_as_if_nothing_had_been(whole, tmp_path):
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    paths = os.pathsep.join([*folders, *sys.path])
    result = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "rows.csv"), "0"],
        capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": paths},
    )  # fmt: skip
    assert result.stdout.split() == ["5", "0"]
    assert text_without_times(tmp_path / "rows.csv") == text_without_times(whole[0])


def test_a_run_whose_metric_is_not_finite_does_not_stop_the_others(tmp_path):
    class Breaks(CountedBlobs):
        def evaluate(self, model, split):
            broken = float((model[0].weight == 0).float().mean()) > 0.85
            return super().evaluate(model, split) | ({"error": float("nan")} if broken else {})

    call = CALL | {"sparsities": [0.9, 0.5], "seeds": [0]}
    with pytest.raises(FloatingPointError, match="gmp at sparsity 0.9, .*: error on dev is nan$"):
        compare(TaskBench(Breaks()), ["gmp"], out=tmp_path / "rows.csv",
                settings={"gmp": {"budget": "uniform"}}, **call)  # fmt: skip
    assert list(read_rows(tmp_path / "rows.csv")["sparsity"]) == [0.5]


def test_a_diverging_run_is_named_after_the_others_are_done(tmp_path):
    out = tmp_path / "rows.csv"
    settings = {"gmp": {"rate": 1e30}}
    with pytest.raises(FloatingPointError, match="gmp at sparsity 0.8, seed 0, 6 steps: the loss"):
        compare(BlobBench(), ["gmp", "csp"], out=out, settings=settings, **CALL)
    assert set(read_rows(out)["method"]) == {"csp"}


def test_a_task_that_counts_no_errors_is_measured_by_its_metric(tmp_path):
    call = CALL | {"sparsities": [0.8], "seeds": [0]}
    row = compare(BlobBench(counted=False), ["gmp"], out=tmp_path / "a.csv", **call).iloc[0]
    counted = compare(BlobBench(), ["gmp"], out=tmp_path / "b.csv", **call).iloc[0]
    assert row["test_error"] == pytest.approx(counted["test_error"], abs=1e-6)
    assert row["errors"] == row["words"] == ""
    assert np.isnan(row["dev_loss"])


def test_a_small_dense_model_has_the_weights_that_pruning_leaves(tmp_path):
    rows = compare(BlobBench(), ["small-dense", "gmp"], out=tmp_path / "a.csv", **CALL)
    sizes = rows.groupby(["sparsity", "method"])["parameters"].mean().unstack()
    assert (abs(sizes["small-dense"] - sizes["gmp"]) <= 8).all()
    assert weights_left(CountedBlobs().new_model(), 0.8) == TOTAL + 85 - round(0.8 * TOTAL)

    def without_small(seed):
        raise AssertionError("nothing may run")

    without_small.name = "none"
    with pytest.raises(ValueError, match="bench has no method `small`"):
        compare(without_small, ["small-dense"], out=tmp_path / "c.csv", **CALL)


def test_names_say_whether_the_error_term_is_there():
    named = {n: (entry(n).name, entry(n).mu) for n in ("gmp", "gmp-D", "gmp+D", "csp", "csp+D")}
    assert named == {
        "gmp": ("gmp", 0), "gmp-D": ("gmp", 0), "gmp+D": ("gmp+D", 1),
        "csp": ("csp", 1), "csp+D": ("csp", 1),
    }  # fmt: skip
    assert entry("csp-D").name == "csp-D" and entry("csp-D").mu == 0
    assert entry("gmp+D", mu=0.5).mu == 0.5
    for method in PRUNERS:
        assert entry(f"{method}+D").mu > 0 == entry(f"{method}-D").mu


def test_every_length_is_measured(tmp_path):
    call = CALL | {"sparsities": [0.9], "seeds": [0], "steps": [4, 6]}
    rows = compare(BlobBench(), ["dense", "gmp"], out=tmp_path / "rows.csv", **call)
    assert rows[["method", "steps"]].to_numpy().tolist() == [["dense", 0], ["gmp", 4], ["gmp", 6]]


def test_with_and_without_d_a_method_has_its_own_settings():
    settings = {"gmp": {"rate": 0.02, "mu": 0.0, "exponent": 2.0}, "csp-D": {"rate": 0.05}}
    settings["csp"] = {"rate": 0.03, "mu": 2.0, "end": 0.5}
    names = ["gmp", "gmp+D", "csp", "csp-D", "dpf+D"]
    found = [r.entry for r in grid(names, [0.9], [0], 6, settings)]
    assert [(e.name, e.rate, e.mu, dict(e.settings)) for e in found] == [
        ("gmp", 0.02, 0.0, {"exponent": 2.0}),
        ("gmp+D", 0.02, 1.0, {"exponent": 2.0}),
        ("csp", 0.03, 2.0, {"end": 0.5}),
        ("csp-D", 0.05, 0.0, {}),
        ("dpf+D", 0.01, 1.0, {}),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["magic"]}, "method is 'magic': expected one of dense, dense\\+, .*csp"),
        ({"methods": ["dense++D"]}, "method is 'dense\\+\\+D'"),
        ({"methods": []}, "methods is \\[\\]"),
        ({"methods": "csp"}, "methods is 'csp'"),
        ({"sparsities": [1.0]}, "sparsities has 1.0"),
        ({"sparsities": []}, "sparsities is \\[\\]"),
        ({"seeds": [-1]}, "an entry of seeds is -1"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": []}, "steps is \\[\\]"),
        ({"steps": [6, 2.5]}, "steps is 2.5"),
        ({"settings": {"csp": {"speed": 3}}}, "csp has no setting 'speed': expected .*exponent"),
        ({"settings": {"csp": {"mu": 0}}}, "mu is 0 for csp: expected > 0"),
        ({"settings": {"csp": {"rate": -1}}}, "rate is -1"),
        ({"settings": {"csp": {"mu": float("inf")}}}, "mu is inf"),
        ({"settings": {"cps": {}}}, "method is 'cps'"),
        ({"settings": {"csp": {"end": 1.5}}}, "csp at sparsity .*: end is 1.5"),
        ({"settings": {"csp": {"measurement": "magic"}}}, "measurement is 'magic'"),
        ({"methods": ["gmp", "csp"], "settings": {"csp": {"floor": 0.5}}}, "csp at .*floor"),
        ({"metric": "wer"}, "metric is 'wer': expected one of error, loss"),
        ({"seeds": 3}, "seeds is 3: expected a sequence"),
        ({"sparsities": 0.9}, "sparsities is 0.9: expected a sequence"),
        ({"bench": lambda seed: None}, "bench is .*: expected an object with a name"),
        ({"bench": TaskBench(object(), 1)}, "bench returned object and int: expected a task"),
        ({"bench": TaskBench(Silent())}, "csp asks for D, and Silent has no .*method 'csp-D'"),
        ({"bench": TaskBench(Silent()), "methods": ["gmp+D"]}, "the method 'gmp'"),
        ({"bench": TaskBench(Wrong())}, "evaluate returned nan as error"),
    ],
)
def test_bad_arguments_are_named(tmp_path, change, message):
    call = {"methods": ["csp"], "out": tmp_path / "rows.csv"} | CALL | change
    bench = call.pop("bench", BlobBench())
    with pytest.raises(ValueError, match=message):
        compare(bench, **call)
    assert not list(tmp_path.iterdir())


def test_what_a_task_returns_is_written_as_numbers_or_refused(tmp_path):
    class Tensors(CountedBlobs):
        def evaluate(self, model, split):
            figures = {n: torch.tensor(v) for n, v in super().evaluate(model, split).items()}
            return figures | {"confusions": np.eye(5)}

    class Uneven(CountedBlobs):
        def errors(self, model, split):
            errors, words = super().errors(model, split)
            return errors[:-1], words

    call = CALL | {"seeds": [0], "sparsities": [0.9]}

    class Lists(Tensors):
        def errors(self, model, split):
            return [counts.tolist() for counts in super().errors(model, split)]

    rows = compare(TaskBench(Lists()), ["dense"], out=tmp_path / "rows.csv", **call)
    assert read_rows(tmp_path / "rows.csv")["dev_error"][0] == rows["dev_error"][0]
    with pytest.raises(ValueError, match=r"shapes \(199,\) and \(200,\), with 200 words"):
        compare(TaskBench(Uneven()), ["dense"], out=tmp_path / "others.csv", **call)


def test_a_file_of_trials_or_of_another_metric_is_left_as_it_is(tmp_path):
    trials, runs = tmp_path / "trials.csv", tmp_path / "runs.csv"
    call = CALL | {"seeds": [0], "sparsities": [0.9]}
    tune(BlobBench(), ["gmp"], out=trials, trials=1, steps=5, metric="error")
    compare(BlobBench(), ["dense"], out=runs, **call)
    before = trials.read_bytes(), runs.read_bytes()
    with pytest.raises(ValueError, match="holds trials of a tuning: expected a file for runs"):
        compare(BlobBench(), ["csp"], out=trials, **call)
    with pytest.raises(ValueError, match="'dev_error': expected rows of metric 'loss'"):
        compare(BlobBench(), ["csp"], out=runs, **call | {"metric": "loss"})
    with pytest.raises(ValueError, match="a folder: expected a CSV file"):
        compare(BlobBench(), ["csp"], out=tmp_path, **call)
    assert (trials.read_bytes(), runs.read_bytes()) == before


def test_a_file_of_another_kind_is_named(tmp_path):
    for text in ("a,b\n1,2\n", "", '"', "\x00\xff"):
        (tmp_path / "rows.csv").write_text(text)
        with pytest.raises(ValueError, match="rows.csv holds no rows of a study"):
            compare(BlobBench(), ["csp"], out=tmp_path / "rows.csv", **CALL)


@pytest.mark.parametrize("counts", [[0, 0, 12, 35], [0, 36], [100], [7], []])
def test_counts_survive_text_and_no_reader_takes_them_for_numbers(tmp_path, counts):
    text = pack_counts(np.array(counts, dtype=int))
    assert unpack_counts(text).tolist() == counts
    pd.DataFrame({"counts": [text]}).to_csv(tmp_path / "counts.csv", index=False)
    assert pd.read_csv(tmp_path / "counts.csv")["counts"][0] == text


def test_packed_counts_are_one_character_each_where_they_fit():
    assert pack_counts(np.array([0, 2, 11])) == ":02b"
    assert pack_counts(np.array([0, 40])) == ",0,40"
    for bad in (np.array([-1]), np.array([0.5]), np.zeros((1, 1), int)):
        with pytest.raises(ValueError, match="counts have dtype"):
            pack_counts(bad)
    for bad in ("012", ":A", ",1,x"):
        with pytest.raises(ValueError, match="expected what pack_counts writes"):
            unpack_counts(bad)
