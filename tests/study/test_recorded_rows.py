"""The recorded studies are complete: each has the rows that its command asks for, and no others."""

import argparse
import sys
from pathlib import Path

import pytest

from cspkit.asr.digits import DENSE_STEPS
from cspkit.study.grid import grid

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))
from pruning_study import TRIALS, Studies, key_of  # noqa: E402

CALL = argparse.Namespace(
    results=ROOT / "data" / "results", dense_steps=DENSE_STEPS, steps=None, seeds=None,
    trials=TRIALS, jobs=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def studies():
    studies = Studies(CALL)
    studies.left = lambda study: (0, 0)  # whether the code has changed since is not asked here
    return studies


@pytest.mark.parametrize("study", [s for s in Studies.names if s not in Studies.tunings])
def test_a_study_has_the_rows_that_its_command_asks_for(studies, study):
    asked, recorded = set(), set()
    for call in studies.calls(study):
        given = studies.complete(study, call)
        names = ("methods", "sparsities", "seeds", "steps", "settings")
        task = given["bench"].name
        runs = grid(*(given[name] for name in names))
        asked |= {key_of(run.key(task)) for run in runs}
        recorded |= studies.known(study, task)
    assert recorded == asked


@pytest.mark.parametrize("study", Studies.tunings)
def test_a_tuning_has_its_trials_of_each_method(studies, study):
    rows = studies.rows(study).query("seed == 0")
    searches = studies.searches(study)
    for start, steps in searches:
        of_method = rows[(rows["method"] == start.name) & (rows["steps"] == steps)]
        assert sorted(of_method["trial"]) == list(range(TRIALS)), start.name
    assert len(rows) == TRIALS * len(searches)
