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
from torch import nn
from torch.nn.utils import spectral_norm, weight_norm
from torch.nn.utils.prune import random_unstructured

from cspkit.arguments import ArgumentError
from cspkit.pruning import PRUNERS, prune
from cspkit.resume import weights_hash
from cspkit.study import (
    compare,
    entry,
    pack_counts,
    read_rows,
    summary,
    table,
    tune,
    unpack_counts,
)
from cspkit.study.grid import KEY, grid
from cspkit.study.rows import Rows
from cspkit.study.runs import weights_left
from cspkit.training import Task, train

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


@dataclass(frozen=True)
class SameName(BlobBench):
    """Other dense models under the same name of the task."""

    shift: int = 0

    def __call__(self, seed):
        return super().__call__(seed + self.shift)


class Nothing(CountedBlobs):
    def evaluate(self, model, split):
        return None


METHODS = ["dense", "dense+", "gmp", "gmp+D", "csp", "csp+D"]
TIMES = ["seconds", "processor_seconds"]
CALL = {"sparsities": [0.8, 0.95], "seeds": [0, 1], "steps": 6, "metric": "error"}


def text_without_times(path):
    return read_rows(path).drop(columns=TIMES).to_csv(index=False)


def run_script(script, *arguments):
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*folders, *sys.path])},
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A study that nothing broke."""
    out = tmp_path_factory.mktemp("study") / "whole.csv"
    return out, compare(BlobBench(), METHODS, out=out, **CALL)


def test_every_method_sparsity_and_seed_has_one_row(whole):
    _, rows = whole
    pruned = rows[rows["method"].isin(["gmp", "gmp+D", "csp", "csp+D"])]
    assert len(rows) == 2 * 2 + 4 * 2 * 2
    assert not pruned.duplicated(["method", "sparsity", "seed"]).any()
    assert list(pruned["nonzeros"]) == [TOTAL - round(s * TOTAL) for s in pruned["sparsity"]]
    assert set(rows.loc[rows["method"] == "dense", "steps"]) == {0}
    assert set(rows.loc[rows["method"] != "dense", "steps"]) == {6}
    assert dict(rows[["method", "mu"]].to_records(index=False)) == {
        "dense": 0, "dense+": 0, "gmp": 0, "gmp+D": 1, "csp": 0, "csp+D": 1,
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
    assert calls == [0, 1]  # for the checksums of the dense models
    assert out.read_text() == whole[0].read_text()
    pd.testing.assert_frame_equal(again, whole[1])
    settings = {"gmp": {"exponent": 2.0}}
    more = compare(Counting(), ["gmp"], out=out, settings=settings, **CALL)
    # Other settings are another run: checksums, one try, and four runs.
    assert calls[2:] == [0, 1, 0, 0, 0, 1, 1]
    assert set(more["settings"]) == {'{"exponent": 2.0}'}
    assert len(read_rows(out)) == len(whole[1]) + 4
    keys = list(read_rows(out)[list(KEY)].itertuples(index=False))
    assert keys == sorted(keys)  # not in the order of their coming
    compare(Counting("other"), ["dense"], out=out, **CALL)
    assert calls[9:] == [0, 1, 0, 0, 1]  # and so is another task


def test_rows_of_other_dense_models_are_not_those_of_this_study(tmp_path):
    out, call = tmp_path / "rows.csv", CALL | {"sparsities": [0.9]}
    first = compare(SameName(), ["dense", "gmp"], out=out, **call)
    other = compare(SameName(shift=5), ["dense", "gmp"], out=out, **call)
    alone = tmp_path / "alone.csv"
    pd.testing.assert_frame_equal(
        other.drop(columns=TIMES),
        compare(SameName(shift=5), ["dense", "gmp"], out=alone, **call).drop(columns=TIMES),
    )
    assert set(first["dense"]).isdisjoint(other["dense"]) and first["dense"].nunique() == 2
    assert list(first["dense"]) == [weights_hash(SameName()(s)[1])[:12] for s in (0, 1, 0, 1)]
    assert len(read_rows(out)) == len(first) + len(other)
    with pytest.raises(ArgumentError, match="rows has two for .*of one dense model"):
        summary(read_rows(out))


def test_a_file_without_checksums_is_refused_before_anything_is_trained(whole, tmp_path):
    def nothing(seed):
        raise AssertionError("nothing may run")

    nothing.name = "blobs"
    recorded = read_rows(whole[0])
    for i, rows in enumerate((recorded.drop(columns="dense"), recorded.replace({"dense": {
        recorded["dense"][0]: ""
    }}))):  # fmt: skip
        out = tmp_path / f"{i}.csv"
        rows.to_csv(out, index=False)
        before = out.read_bytes()
        with pytest.raises(ArgumentError, match=f"{i}.csv', whose rows do not all .*another file"):
            compare(nothing, ["gmp"], out=out, **CALL)
        assert out.read_bytes() == before
        assert len(summary(read_rows(out))) == 10  # it can be read


def test_a_bench_that_returns_another_model_each_time_is_refused(tmp_path):
    class Unseeded(BlobBench):
        def __call__(self, seed):
            return super().__call__(next(seeds))

    seeds = iter(range(9))
    with pytest.raises(ArgumentError, match="another dense model for seed 0 than before"):
        compare(Unseeded(), ["dense"], out=tmp_path / "rows.csv", **CALL | {"seeds": [0]})


def test_checksums_of_digits_alone_are_read_as_text(tmp_path):
    text = "task,method,seed,dense\nt,gmp,0,012345678901\nt,gmp,1,12e456789012\n"
    (tmp_path / "rows.csv").write_text(text)
    assert list(read_rows(tmp_path / "rows.csv")["dense"]) == ["012345678901", "12e456789012"]


def test_rows_that_others_add_are_kept(tmp_path):
    key, row = ("task", "seed", "dense"), {"task": "t", "dense": "d"}
    first, second = (Rows(tmp_path / "rows.csv", key) for _ in range(2))
    for seed in range(3):
        first.add(row | {"seed": 2 * seed})
        second.add(row | {"seed": 2 * seed + 1})
    first.add(row | {"seed": 5})
    assert list(read_rows(tmp_path / "rows.csv", key)["seed"]) == list(range(6))


SHARED = textwrap.dedent(
    """
    import os, sys
    from cspkit.study import compare
    from study_bench import BlobBench

    children = []
    for methods in {parts}:
        children.append(os.fork())
        if children[-1] == 0:
            compare(BlobBench(), methods, out=sys.argv[1], **{call})
            os._exit(0)
    print(*(os.waitpid(child, 0)[1] for child in children))
    """
).format(parts=[METHODS[:4], METHODS[2:]], call=CALL)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_two_studies_that_share_a_file_lose_and_double_no_row(whole, tmp_path):
    result = run_script(SHARED, str(tmp_path / "rows.csv"))
    assert result.stdout.split() == ["0", "0"]
    assert text_without_times(tmp_path / "rows.csv") == text_without_times(whole[0])


@pytest.mark.parametrize("kind", ["folder", "device", "dangling link", "long name"])
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_trained(tmp_path, kind):
    def nothing(seed):
        raise AssertionError("nothing may run")

    nothing.name = "none"
    (tmp_path / "link.csv").symlink_to(tmp_path / "missing" / "rows.csv")
    out = {
        "folder": tmp_path, "device": "/dev/null", "dangling link": tmp_path / "link.csv",
        "long name": tmp_path / ("x" * 300),
    }[kind]  # fmt: skip
    with pytest.raises(ArgumentError, match="^out is "):
        compare(nothing, ["gmp"], out=out, **CALL)
    with pytest.raises(ArgumentError, match="^out is "):
        tune(nothing, ["gmp"], out=out, trials=1)


def test_a_link_is_followed(tmp_path):
    (tmp_path / "link.csv").symlink_to(tmp_path / "rows.csv")
    call = CALL | {"seeds": [0], "sparsities": [0.9]}
    compare(BlobBench(), ["dense"], out=tmp_path / "link.csv", **call)
    assert (tmp_path / "link.csv").is_symlink()
    assert len(read_rows(tmp_path / "rows.csv")) == 1


def test_figures_are_those_of_the_evaluation_mode(tmp_path):
    class Training(BlobBench):
        def __call__(self, seed):
            task, model = super().__call__(seed)
            return task, nn.Sequential(*model, nn.Dropout(0.9)).train()

    task, model = Training()(0)
    call = CALL | {"seeds": [0], "sparsities": [0.9]}
    row = compare(Training(), ["dense"], out=tmp_path / "rows.csv", **call).iloc[0]
    assert row["dev_loss"] == task.evaluate(model.eval(), "dev")["loss"]
    assert row["dev_error"] == task.evaluate(model, "dev")["error"]
    assert np.array_equal(unpack_counts(row["errors"]), task.errors(model, "test")[0])

    class Uncounted(Training):
        def __call__(self, seed):
            return Blobs(), super().__call__(seed)[1]

    row = compare(Uncounted("uncounted"), ["dense"], out=tmp_path / "rows.csv", **call).iloc[0]
    assert row["test_error"] == Blobs().evaluate(model, "test")["error"]


def old_weight_norm(model):
    for layer in model[::2]:
        weight_norm(layer)


def old_spectral_norm(model):
    for layer in model[::2]:
        spectral_norm(layer)
    model(torch.zeros(1, 10))


def torch_prune(model):
    for layer in model[::2]:
        random_unstructured(layer, "weight", 0.5)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("computes", [torch_prune, old_weight_norm, old_spectral_norm])
@pytest.mark.parametrize("method", ["gmp", "dense+"])
def test_weights_that_are_computed_are_named(tmp_path, computes, method):
    class WithGradients(Blobs):
        def evaluate(self, model, split):  # so that the computed weights are no leaves
            x, y = next(self.batches(split, np.random.default_rng(0)))
            return {"error": float((model(x).argmax(1) != y).float().mean())}

    model = Blobs().new_model()
    computes(model)
    with pytest.raises(ArgumentError, match="weight.*remove_parametrizations, remove_weight_norm"):
        compare(TaskBench(WithGradients(), model), [method], out=tmp_path / "rows.csv", **CALL)
    assert not list(tmp_path.iterdir())


class AsWritten(Task):
    """The least that a task must have."""

    def __init__(self, figures=("error",)):
        self.blobs, self.figures = CountedBlobs(), figures

    def batches(self, split, rng):
        return self.blobs.batches(split, rng)

    def loss(self, model, batch):
        return self.blobs.loss(model, batch)

    def evaluate(self, model, split):
        return {name: self.blobs.evaluate(model, split)[name] for name in self.figures}


@pytest.mark.parametrize("figures", [("error",), ("loss", "error"), ("loss",)])
def test_the_metric_is_the_first_figure_that_is_no_loss(tmp_path, figures):
    call = {"out": tmp_path / "rows.csv", "seeds": [0, 1], "sparsities": [0.9], "steps": 6}
    bench, metric = TaskBench(AsWritten(figures)), figures[-1]
    rows = compare(bench, ["dense", "gmp", "csp"], **call)
    expected = bench.task.evaluate(bench(0)[1], "test")[metric]
    assert rows.loc[rows["method"] == "dense", f"test_{metric}"].iloc[0] == expected
    again = compare(bench, ["dense", "gmp", "csp"], **call)
    pd.testing.assert_frame_equal(rows, again)
    assert f"test {metric} in per cent" in table(rows)
    assert len(summary(rows)) == 3
    if metric == "error":
        with pytest.raises(ArgumentError, match="'dev_error': expected rows of metric 'loss'"):
            compare(bench, ["rigl"], **call, metric="loss")


def test_without_a_divergence_methods_run_without_d(tmp_path):
    bench = TaskBench(AsWritten())
    call = {"seeds": [0], "sparsities": [0.9], "steps": 6, "out": tmp_path / "rows.csv"}
    assert set(compare(bench, ["csp", "gmp"], **call)["mu"]) == {0}
    with pytest.raises(ArgumentError, match=r"'csp\+D', which needs D.*or the method 'csp'"):
        tune(bench, ["csp+D"], out=tmp_path / "trials.csv", objective="dev_error")


def test_weights_that_stay_dense_are_told_once(tmp_path):
    model = Blobs().new_model()
    model[2].weight.requires_grad = False
    call = CALL | {"out": tmp_path / "rows.csv", "sparsities": [0.9]}
    with pytest.warns(UserWarning, match="dense") as caught:
        rows = compare(TaskBench(CountedBlobs(), model), ["dense", "gmp"], **call)
    assert len([w for w in caught if "2.weight" in str(w.message)]) == 1
    left = 10 * 40 + 40 * 5
    assert list(rows["nonzeros"]) == [left, left, left // 10, left // 10]


def test_settings_from_numpy_are_written_as_numbers(tmp_path):
    settings = {"acdc": {"cycles": np.int64(2), "end": np.float32(0.5)}}
    (run,) = grid(["acdc"], [0.9], [np.int64(3)], np.int64(6), settings)
    assert run.key("t")["settings"] == '{"cycles": 2, "end": 0.5}'
    assert (type(run.seed), type(run.steps)) == (int, int)


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
    result = run_script(KILLED, str(tmp_path / "rows.csv"), "0")
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
    with pytest.raises(ArgumentError, match="bench has no method `small`"):
        compare(without_small, ["small-dense"], out=tmp_path / "c.csv", **CALL)


def test_names_say_whether_the_error_term_is_there():
    for method in PRUNERS:
        assert (entry(method).name, entry(method).mu) == (method, 0)
        assert (entry(f"{method}+D").name, entry(f"{method}+D").mu) == (f"{method}+D", 1)
    assert entry("gmp+D", mu=0.5).mu == 0.5
    with pytest.raises(ArgumentError, match="mu is 0 for csp\\+D: expected > 0, or the name csp$"):
        entry("csp+D", mu=0)


def test_every_length_is_measured_and_every_run_once(tmp_path):
    call = CALL | {"sparsities": [0.9, 0.9], "seeds": [0, 0], "steps": [4, 6]}
    rows = compare(BlobBench(), ["dense", "gmp", "gmp"], out=tmp_path / "rows.csv", **call)
    assert rows[["method", "steps"]].to_numpy().tolist() == [["dense", 0], ["gmp", 4], ["gmp", 6]]


def test_with_and_without_d_a_method_has_its_own_settings():
    settings = {"gmp": {"rate": 0.02, "mu": 0.0, "exponent": 2.0}, "csp": {"rate": 0.05}}
    settings |= {"csp+D": {"rate": 0.03, "mu": 2.0, "end": 0.5}, "rigl+D": {"mu": 2.0, "end": 0.3}}
    names = ["gmp", "gmp+D", "csp+D", "csp", "rigl", "dpf+D"]
    found = [r.entry for r in grid(names, [0.9], [0], 6, settings)]
    assert [(e.name, e.rate, e.mu, dict(e.settings)) for e in found] == [
        ("gmp", 0.02, 0.0, {"exponent": 2.0}),
        ("gmp+D", 0.02, 1.0, {"exponent": 2.0}),
        ("csp+D", 0.03, 2.0, {"end": 0.5}),
        ("csp", 0.05, 0.0, {}),
        ("rigl", 0.01, 0.0, {"end": 0.3}),
        ("dpf+D", 0.01, 1.0, {}),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["magic"]}, "method is 'magic': expected one of dense, dense\\+, .*csp"),
        ({"methods": ["dense++D"]}, "method is 'dense\\+\\+D'"),
        ({"methods": []}, "methods is \\[\\]"),
        ({"methods": "csp"}, "methods is 'csp'"),
        ({"sparsities": [1.0]}, "an entry of sparsities is 1.0: expected less than 1"),
        ({"sparsities": [-0.1]}, "an entry of sparsities is -0.1"),
        ({"sparsities": ["0.9"]}, "an entry of sparsities is '0.9'"),
        ({"sparsities": []}, "sparsities is \\[\\]"),
        ({"seeds": [-1]}, "an entry of seeds is -1"),
        ({"steps": 0}, "steps is 0"),
        ({"seeds": [0.5]}, "an entry of seeds is 0.5"),
        ({"methods": [3]}, "method is 3: expected a name, such as 'csp', or an Entry"),
        ({"jobs": 0}, "jobs is 0: expected a whole number >= 1, -1 .*or None"),
        ({"jobs": "two"}, "jobs is 'two'"),
        ({"jobs": -2}, "jobs is -2"),
        ({"settings": {"csp": 0.01}}, "settings has 0.01 for 'csp': expected a dict"),
        ({"settings": {"csp": {"end": object()}}}, "csp has settings .*expected numbers, strings"),
        ({"steps": "6"}, "steps is '6'"),
        ({"steps": []}, "steps is \\[\\]"),
        ({"steps": [6, 2.5]}, "steps is 2.5"),
        ({"settings": {"csp": {"speed": 3}}}, "csp has no setting 'speed': expected .*exponent"),
        ({"settings": {"csp": {"mu": 2.0}}}, "mu is 2 for csp: expected 0, or the name csp\\+D"),
        ({"settings": {"csp": {"rate": -1}}}, "rate is -1"),
        ({"settings": {"csp": {"mu": float("inf")}}}, "mu is inf"),
        ({"methods": ["csp-D"]}, "method is 'csp-D'"),
        ({"settings": {"cps": {}}}, "method is 'cps'"),
        ({"settings": {"csp": {"end": 1.5}}}, "csp at sparsity .*: end is 1.5"),
        ({"settings": {"csp": {"measurement": "magic"}}}, "measurement is 'magic'"),
        ({"methods": ["gmp", "csp"], "settings": {"csp": {"floor": 0.5}}}, "csp at .*floor"),
        ({"metric": "wer"}, "metric is 'wer': expected one of error, loss"),
        ({"seeds": 3}, "seeds is 3: expected a sequence"),
        ({"sparsities": 0.9}, "sparsities is 0.9: expected a sequence"),
        ({"bench": lambda seed: None}, "bench is .*: expected an object that has a name"),
        ({"bench": TaskBench([], nn.Linear(2, 2))}, "task is a list: expected an object of"),
        ({"bench": TaskBench(CountedBlobs(), nn.LazyLinear(2))}, "'weight', whose shape is not"),
        ({"bench": TaskBench(object(), 1)}, "bench returned object and int: expected a task"),
        (
            {"bench": TaskBench(Silent()), "methods": ["gmp+D"]},
            "'gmp\\+D', which needs D, but Silent has no .* or the method 'gmp'",
        ),
        (
            {"bench": TaskBench(Wrong())},
            "evaluate of Wrong returned nan as 'error': expected a finite",
        ),
        ({"bench": TaskBench(Nothing())}, "evaluate of Nothing returned None: expected a dict"),
    ],
)
def test_bad_arguments_are_named(tmp_path, change, message):
    call = {"methods": ["csp"], "out": tmp_path / "rows.csv"} | CALL | change
    bench = call.pop("bench", BlobBench())
    with pytest.raises(ArgumentError, match=message):
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

    class Shares(CountedBlobs):
        def errors(self, model, split):
            errors, words = super().errors(model, split)
            return errors / 2, words

    class Confused(CountedBlobs):
        def evaluate(self, model, split):
            return {"error": np.eye(5)}

    class Forgetful(CountedBlobs):
        def errors(self, model, split):
            return None

    call = CALL | {"seeds": [0], "sparsities": [0.9]}

    class Lists(Tensors):
        def errors(self, model, split):
            errors, words = super().errors(model, split)
            return errors.astype(bool), words.tolist()

    rows = compare(TaskBench(Lists()), ["dense"], out=tmp_path / "rows.csv", **call)
    assert read_rows(tmp_path / "rows.csv")["dev_error"][0] == rows["dev_error"][0]
    for task, message in (
        (Uneven(), r"of Uneven returned int64 \(199,\) and int64 \(200,\): expected two arrays"),
        (Shares(), "errors of Shares returned float64 .* and int64 .*whole numbers"),
        (Confused(), "evaluate of Confused returned a ndarray as 'error': expected a number"),
        (Forgetful(), "errors of Forgetful returned object .*expected two arrays"),
    ):
        with pytest.raises(ArgumentError, match=message):
            compare(TaskBench(task), ["dense"], out=tmp_path / "others.csv", **call)


def test_a_file_of_trials_or_of_another_metric_is_left_as_it_is(tmp_path):
    trials, runs = tmp_path / "trials.csv", tmp_path / "runs.csv"
    call = CALL | {"seeds": [0], "sparsities": [0.9]}
    tune(BlobBench(), ["gmp"], out=trials, trials=1, steps=5, metric="error")
    compare(BlobBench(), ["dense"], out=runs, **call)
    before = trials.read_bytes(), runs.read_bytes()
    with pytest.raises(ArgumentError, match="holds trials of a tuning: expected a file for runs"):
        compare(BlobBench(), ["csp"], out=trials, **call)
    with pytest.raises(ArgumentError, match="'dev_error': expected rows of metric 'loss'"):
        compare(BlobBench(), ["csp"], out=runs, **call | {"metric": "loss"})
    with pytest.raises(ArgumentError, match="out is .*, a folder: expected a file name"):
        compare(BlobBench(), ["csp"], out=tmp_path, **call)
    assert (trials.read_bytes(), runs.read_bytes()) == before


def test_a_file_of_another_kind_is_named(tmp_path):
    for text in ("a,b\n1,2\n", "", '"', "\x00\xff"):
        (tmp_path / "rows.csv").write_text(text)
        with pytest.raises(ArgumentError, match="rows.csv holds no rows of a study"):
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
        with pytest.raises(ArgumentError, match="counts have dtype"):
            pack_counts(bad)
    for bad in ("012", ":A", ",1,x", None):
        with pytest.raises(ArgumentError, match="expected counts as pack_counts writes them"):
            unpack_counts(bad)
