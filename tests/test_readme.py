"""The figures of the README are those of the recorded rows, and its code runs."""

import copy
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from blobs import Blobs

from cspkit.study import compare
from cspkit.training import train

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_what_the_readme_says_of_the_rows_is_what_the_rows_say():
    sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))
    from readme_results import FIGURE, parts

    for name, part in parts().items():
        written = re.search(rf"<!-- {name}: [^>]*-->\n(.*?)\n<!-- end -->", README, flags=re.S)
        assert written[1] == part, f"{name}: run python tests/benchmarks/readme_results.py"
    assert FIGURE.is_file() and str(FIGURE.relative_to(ROOT)) in README


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


def test_the_task_of_the_readme_runs_as_it_stands(own, tmp_path):
    exec(CODE[1], own)
    assert zeros(own["pruned"].model) == round(0.9 * 2200)
    task = own["MyTask"]()
    assert task.evaluate(own["pruned"].model, "test")["error"] < 0.2
    rows = compare(
        Bench(task, own["reference"]), ["dense", "gmp", "csp"], [0.9], [0], 30,
        out=tmp_path / "rows.csv",
    )  # fmt: skip
    assert set(rows["method"]) == {"dense", "gmp", "csp"}
    assert {"dev_error", "test_error"} <= set(rows.columns)


def test_the_readme_has_no_other_code():
    assert len(CODE) == 2


class Bench:
    name = "blobs"

    def __init__(self, task, dense):
        self.task, self.dense = task, dense

    def __call__(self, seed):
        return self.task, self.dense
