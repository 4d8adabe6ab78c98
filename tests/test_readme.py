"""The figures of the README are those of the recorded rows, and its code runs."""

import copy
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from blobs import Blobs

from cspkit.study import compare, read_rows, summary
from cspkit.training import train

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Label in the table: file, what its task has in its name, zeros, steps, metric.
PLACES = {
    "600 steps": ("methods", "", (0.8, 0.9, 0.95, 0.98), 600, "wer"),
    "2,000 steps, three folds": ("long", "", (0.95, 0.98, 0.99), 2000, "wer"),
    "256 units a layer, three folds": ("widths", "-256-", (0.95,), 600, "wer"),
    "64 units a layer, three folds": ("widths", "-64-", (0.95,), 600, "wer"),
    "letters as units, three folds": ("second_task", "", (0.95,), 600, "wer"),
    "strangers, six of them": ("speakers", "", (0.9, 0.95), 600, "wer"),
    "images of digits": ("images", "", (0.95, 0.98), 600, "error"),
}


def lines_of(study, of_task="", metric="wer"):
    rows = read_rows(ROOT / "data" / "results" / f"pruning_{study}.csv")
    return summary(rows[rows["task"].str.contains(of_task)], metric)


@pytest.fixture(scope="module")
def methods():
    return lines_of("methods")


@pytest.mark.parametrize("method", ["dense", "dense+", "gmp", "dpf", "csp"])
def test_the_first_table_is_that_of_the_rows(methods, method):
    line = methods[(methods["method"] == method) & methods["sparsity"].isin([0.0, 0.95])].iloc[0]
    rows = read_rows(ROOT / "data" / "results" / "pruning_methods.csv")
    own = rows[(rows["method"] == method) & (rows["sparsity"] == line["sparsity"])]
    expected = (
        f"    {method:10s}{100 * line['rate']:6.2f} %   ({100 * line['low']:.2f} - "
        f"{100 * line['high']:.2f})     {100 * line['sparsity']:5.2f} %  "
        f"{own['nonzeros'].iloc[0]:8,d}"
    )
    assert expected in README


@pytest.mark.parametrize("place", PLACES)
def test_the_second_table_is_that_of_the_rows(place):
    study, of_task, sparsities, steps, metric = PLACES[place]
    lines = lines_of(study, of_task, metric)
    dense = lines[lines["method"] == "dense"].iloc[0]
    for sparsity in sparsities:
        own = lines[(lines["sparsity"] == sparsity) & (lines["steps"] == steps)]
        own = own.set_index("method")
        csp, rivals = own.loc["csp"], own.loc[["dpf", "gmp"]]
        rates = [dense["rate"], csp["rate"], *rivals["rate"]]
        star = " \\*" if csp["lossless"] else ""
        excess = f"{100 * csp['excess_low']:+.2f} to {100 * csp['excess_high']:+.2f}{star}"
        cells = [f"{100 * sparsity:g} %", *(f"{100 * rate:.2f}" for rate in rates), excess]
        expected = f"| {place} | {' | '.join(cells)} | {', '.join(rivals['verdict'])} |"
        assert expected in README


def test_what_is_said_of_images_beside_the_table():
    lines = lines_of("images", metric="error").set_index("method")
    assert f"(Of images `dense+` makes {100 * lines.loc['dense+', 'rate']:.2f} %.)" in README


def test_what_is_said_of_the_time_of_a_step():
    text = " ".join(README.split())
    for name, version in (("training_step", "0.1.0"), ("training_step_avx512", "0.2.0")):
        rows = pd.read_csv(ROOT / "data" / "results" / f"{name}.csv").set_index("what")
        of_dense, dense = rows["of_dense"], rows["milliseconds"]["dense"]
        assert f"takes {dense:.0f} ms" in text, version
        assert f"{of_dense['csp']:.2f} times as long" in text, version
        assert f"{of_dense['csp without D']:.2f} times" in text, version
    assert f"{of_dense['gmp']:.2f} times with `gmp`" in text


CODE = re.findall(r"```python\n(.*?)```", README, flags=re.S)


@pytest.fixture
def own():
    """A reader's own model, data and loop."""
    blobs = Blobs()
    model = blobs.new_model()
    train(model, blobs, 150, rng=np.random.default_rng(0), rate=1e-2)
    rows = torch.randperm(400, generator=torch.Generator().manual_seed(0)).split(32)
    batches = [(blobs.x[r], blobs.y[r]) for r in rows]
    held_out = [(blobs.x[400:], blobs.y[400:])]
    return {
        "torch": torch,
        "train": train,
        "rng": np.random.default_rng(0),
        "model": copy.deepcopy(model),
        "reference": model,
        "optimizer": None,
        "loss_of": torch.nn.functional.cross_entropy,
        "batches": [batch for _ in range(47) for batch in batches],
        "loaders": {"train": batches, "dev": held_out, "test": held_out},
    }


def zeros(model):
    return sum(int((w == 0).sum()) for w in model.parameters())


def test_the_loop_of_the_readme_runs_as_it_stands(own):
    own["optimizer"] = torch.optim.AdamW(own["model"].parameters(), lr=3e-3)
    exec(CODE[0], own)
    assert zeros(own["model"]) == round(0.95 * 2200)
    assert own["pruner"].steps_done == len(own["batches"]) > 600
    x, y = own["loaders"]["test"][0]
    assert (own["model"](x).argmax(1) != y).float().mean() < 0.2


@pytest.mark.filterwarnings("ignore:.*no divergence")
def test_the_task_of_the_readme_runs_as_it_stands(own, tmp_path):
    exec(CODE[1], own)
    assert zeros(own["pruned"].model) == round(0.9 * 2200)
    task = own["MyTask"]()
    assert task.evaluate(own["pruned"].model, "test")["error"] < 0.2
    rows = compare(
        Bench(task, own["reference"]), ["dense", "gmp", "csp-D"], [0.9], [0], 30,
        out=tmp_path / "rows.csv",
    )  # fmt: skip
    assert set(rows["method"]) == {"dense", "gmp", "csp-D"}
    assert {"dev_error", "test_error"} <= set(rows.columns)


def test_the_readme_has_no_other_code():
    assert len(CODE) == 2


class Bench:
    name = "blobs"

    def __init__(self, task, dense):
        self.task, self.dense = task, dense

    def __call__(self, seed):
        return self.task, self.dense
