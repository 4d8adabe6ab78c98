"""Pruning methods compared on the spoken digits.

    python tests/benchmarks/pruning_study.py all           everything below, in this order
    python tests/benchmarks/pruning_study.py tune          ten trials for each method on fold 0, the
                                                           best of them again on folds 1 and 2
    python tests/benchmarks/pruning_study.py methods       all methods, four sparsities, five folds;
                                                           csp, csp+D, dpf and gmp with two seeds a
                                                           fold at .95 and .98
    python tests/benchmarks/pruning_study.py long          2,000 steps, .95 to .99
    python tests/benchmarks/pruning_study.py tune-equal-time    as tune, for csp and the strongest,
                                                           as long as csp+D takes
    python tests/benchmarks/pruning_study.py tune-98       the same at .98, and csp+D
    python tests/benchmarks/pruning_study.py equal-time    csp+D, and these methods as long;
                                                           two seeds a fold as in methods
    python tests/benchmarks/pruning_study.py error-term    the strongest with D
    python tests/benchmarks/pruning_study.py small-dense   small models trained from scratch
    python tests/benchmarks/pruning_study.py speakers      six speakers, each held out once
    python tests/benchmarks/pruning_study.py ablation      csp+D, one choice changed at a time
    python tests/benchmarks/pruning_study.py blocks        csp+D with blocks of 1x8 and 8x1
    python tests/benchmarks/pruning_study.py pool          csp, dpf and gmp, all strings new

First it prints what is done, what is left, and how long that will take. Rows go to
data/results/pruning_STUDY.csv, each as it is measured. A study that was stopped continues. The
other studies take their settings from `tune`; but `equal-time` takes those of `tune-equal-time` at
.95 (csp+D those of `tune`), and of `tune-98` at .98. `long`, `error-term` and the studies at equal
time take the strongest methods from `methods`: those with the smallest loss on dev. Dense models
that are missing are trained into build/. At equal time a cheaper method makes as many more steps as
the recorded processor seconds of the dearer one allow.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from optuna.distributions import FloatDistribution

from cspkit.asr.digits import DENSE_STEPS
from cspkit.pruning import PRUNERS
from cspkit.study import (
    compare,
    cost_ratio,
    default_space,
    entry,
    finals,
    missing_finals,
    missing_runs,
    read_rows,
    table,
    tune,
    tuned,
)
from cspkit.study.grid import KEY, grid
from cspkit.teach.digit_bench import DigitBench

ROOT = Path(__file__).parents[2]
REFERENCES = ["dense", "dense+"]
BOTH = [0.95, 0.98]
FOLDS, SECOND_SEEDS = [0, 1, 2, 3, 4], [5, 6, 7, 8, 9]
TWICE = ["csp", "csp+D", "dpf", "gmp"]  # these run with two seeds a fold at .95 and .98
STEPS, LONG_STEPS, TRIALS = 600, 2000, 10
WITHIN = 0.25  # of the best trial: these trials of tuning are repeated on other folds
SECONDS_PER_STEP = 0.05  # until rows are recorded
# Where the search starts: the best settings of an earlier search with other dense models.
START = {
    "dense+": {"rate": 1e-3},
    "acdc": {"cycles": 4, "end": 0.25},
    "admm": {"end": 0.5, "rho": 2e-3},
    "csp": {},
    "csp+D": {},
    "dpf": {},
    "gmp": {"rate": 0.03, "end": 0.73, "exponent": 8.0},
    "l1-prox": {"rate": 0.03, "exponent": 2.5},
    "narang": {"rate": 0.04, "budget": "uniform", "end": 0.27, "ratio": 2.0, "reach": 2.7},
    "oneshot": {"rate": 0.06},
    "rigl": {"rate": 0.02, "alpha": 0.2, "end": 0.5},
}
# Changes of one choice of csp+D at a time.
CHANGES = (
    {"rho": 0.0},  # V never forgets
    {"rho": 0.1},
    {"mu": 0.0},
    {"measurement": "identity"},
    {"mu": 0.0, "measurement": "identity"},  # rank by magnitude, and set cut weights to zero
    {"mu": 0.0, "measurement": "identity", "rho": 0.0},  # as dpf
    {"budget": "uniform"},
    {"measurement": "identity", "budget": "sensitivity"},
    {"power": 1.0},
    {"measurement": "activations"},
    {"measurement": "activations", "updates": 3},
    {"measurement": "sketch", "updates": 3},
    {"measurement": "identity", "threshold": "firm"},
    {"measurement": "identity", "threshold": "soft"},
)


def key_of(row):
    """What a row is known by, apart from its dense model."""
    return tuple(row[column] for column in KEY if column != "dense")


class WaitingError(Exception):
    """The study needs the rows of another one."""


class Studies:
    """All studies. A study is a list of calls of `compare`, or, of `tunings`, of `tune`."""

    tunings = {"tune": 0.95, "tune-equal-time": 0.95, "tune-98": 0.98}
    names = ("tune", "methods", "long", "tune-equal-time", "tune-98", "equal-time", "error-term",
             "small-dense", "speakers", "ablation", "blocks", "pool")  # fmt: skip

    def __init__(self, call):
        self.call = call
        self.bench = DigitBench(str(ROOT / "build"), dense_steps=call.dense_steps)

    def file(self, study):
        name = study.replace("-", "_").replace("tune", "tuning")
        return self.call.results / f"pruning_{name}.csv"

    def rows(self, name):
        if not self.file(name).is_file():
            raise WaitingError(name)
        rows = read_rows(self.file(name))
        return rows[rows["task"] == self.bench.name]

    def settings(self, study="tune"):
        """The best settings of each method that a tuning tried."""
        rows, best = self.rows(study), {}
        for start, steps in self.searches(study):  # each method has its own number of steps
            best |= tuned(rows[(rows["method"] == start.name) & (rows["steps"] == steps)])
        return best

    def searches(self, study):
        """The entries that a tuning starts from, and their numbers of steps."""
        times = [(m, STEPS) for m in START] if study == "tune" else self.steps_in_equal_time()
        if study == "tune-98":
            times = [("csp+D", STEPS), *times]
        return [(entry(m, **START.get(m, {})), self.call.steps or steps) for m, steps in times]

    def calls(self, study):
        """The calls of `compare` that make up a study."""
        every = [0.8, 0.9, 0.95, 0.98]
        if study == "methods":
            return [
                {"methods": [*REFERENCES, *PRUNERS, "csp+D"], "sparsities": every},
                {"methods": TWICE, "sparsities": BOTH, "seeds": SECOND_SEEDS},
            ]
        if study == "long":
            others = [m for m in self.strongest() if m not in ("dpf", "gmp")]
            methods = [*REFERENCES, "csp", "csp+D", "dpf", "gmp", others[0]]
            return [{"methods": methods, "sparsities": [*BOTH, 0.99], "steps": LONG_STEPS}]
        if study == "equal-time":
            calls = []
            for tuning in ("tune-equal-time", "tune-98"):
                if self.left(tuning)[0]:
                    raise WaitingError(tuning)
                settings = self.settings("tune") | self.settings(tuning)
                for method, steps in [("csp+D", STEPS), *self.steps_in_equal_time()]:
                    call = {"methods": [method], "sparsities": [self.tunings[tuning]]}
                    call |= {"steps": steps, "settings": settings}
                    calls += [call, call | {"seeds": SECOND_SEEDS}][: 1 + (method in TWICE)]
            return calls
        if study == "error-term":
            return [{"methods": [f"{m}+D" for m in self.strongest()], "sparsities": BOTH}]
        if study == "small-dense":
            return [{"methods": [study], "sparsities": every}]
        if study == "speakers":
            bench = DigitBench(self.bench.models, self.call.dense_steps, split="speakers")
            methods = [*REFERENCES, "csp", "csp+D", "dpf", "gmp"]
            seeds = [0, 1, 2, 3, 4, 5]
            return [{"bench": bench, "methods": methods, "sparsities": [0.9, 0.95], "seeds": seeds}]
        if study == "pool":
            bench = DigitBench(self.bench.models, self.call.dense_steps, pool=0)
            return [{"bench": bench, "methods": ["csp", "dpf", "gmp"], "sparsities": BOTH}]
        csp = self.settings()["csp+D"]
        if study == "blocks":
            entries = [entry("csp+D", **csp, block=block) for block in ("1x8", "8x1")]
            return [{"methods": entries, "sparsities": [0.8, 0.9, 0.95]}]
        entries = [entry("csp+D", **csp)]
        for change in CHANGES:
            name = "csp" if change.get("mu") == 0 else "csp+D"
            entries.append(entry(name, **(csp | change)))
        return [{"methods": entries, "sparsities": BOTH, "seeds": FOLDS[:3]}]

    def strongest(self, count=4):
        """The rivals of csp with the smallest loss on dev at .95 and .98: mean of its logarithm."""
        rows = self.rows("methods")
        rows = rows[rows["method"].isin([m for m in PRUNERS if m != "csp"])]
        rows = rows[rows["sparsity"].isin(BOTH)]
        if rows["method"].nunique() < len(PRUNERS) - 1:
            raise WaitingError("methods")
        losses = rows.assign(log=np.log(rows["dev_loss"])).groupby("method")["log"].mean()
        return list(losses.nsmallest(count).index)

    def steps_in_equal_time(self):
        """csp and the strongest, each with its steps in the time of csp+D, in tens.

        The steps of a tuning that has begun stay, even if the times of rows change.
        """
        found = {}
        if self.file("tune-equal-time").is_file():
            found = self.rows("tune-equal-time").groupby("method")["steps"].first().to_dict()
        methods = ("csp", *self.strongest())
        for method in [m for m in methods if m not in found]:
            ratio = cost_ratio(self.rows("methods").query("sparsity in @BOTH"), "csp+D", method)
            if np.isnan(ratio):
                raise WaitingError("methods")
            found[method] = 10 * round(STEPS * ratio / 10)
        return [(method, found[method]) for method in methods]

    def complete(self, study, call):
        """A call of `compare` with all of its arguments."""
        seeds = call.get("seeds", FOLDS)[: self.call.seeds]
        given = {"bench": self.bench, "steps": STEPS, "settings": self.settings()}
        given |= call | {"seeds": seeds, "out": self.file(study), "jobs": self.call.jobs}
        if self.call.steps:
            given["steps"] = self.call.steps
        return given

    def left(self, study):
        """How many runs a study lacks, and how many steps these are."""
        if study in self.tunings:
            return self.left_of_tuning(study)
        runs = []
        for call in self.calls(study):
            given = self.complete(study, call)
            if all(given["bench"].checkpoint(seed).is_file() for seed in given["seeds"]):
                runs += missing_runs(**given)
            else:  # without the dense models, rows of any dense model count
                names = ("methods", "sparsities", "seeds", "steps", "settings")
                asked = grid(*(given[name] for name in names))
                known = self.known(study, given["bench"].name)
                runs += [run for run in asked if key_of(run.key(given["bench"].name)) not in known]
        longer = self.call.dense_steps if study == "small-dense" else 0
        return len(runs), sum(run.steps + longer for run in runs)

    def left_of_tuning(self, study):
        columns = ["method", "steps", "seed"]
        rows = self.rows(study) if self.file(study).is_file() else pd.DataFrame(columns=columns)
        runs = []  # the steps of each
        for start, steps in self.searches(study):
            own = rows[(rows["method"] == start.name) & (rows["steps"] == steps)]
            runs += (self.call.trials - int((own["seed"] == 0).sum())) * [steps]
        if not runs:
            left = missing_finals(self.bench, out=self.file(study), within=WITHIN)
            runs = [run.steps for run in left]
        return len(runs), sum(runs)

    def known(self, study, task):
        """The keys of the rows of a task in the file of a study, without their dense models."""
        if not self.file(study).is_file():
            return set()
        rows = read_rows(self.file(study)).query("task == @task")
        return {key_of(row) for row in rows.to_dict("records")}

    def status(self, studies):
        """Print what is left of each study, and how long it will take. Return the runs left."""
        recorded = [self.rows(s) for s in self.names if self.file(s).is_file()]
        rate = SECONDS_PER_STEP
        if recorded:
            trained = pd.concat(recorded).query("steps > 0 and method != 'small-dense'")
            rate = float((trained["processor_seconds"] / trained["steps"]).median())
        total = 0
        for study in studies:
            try:
                runs, steps = self.left(study)
                total += runs
                print(
                    f"{study:12} {runs:4} runs left, {steps * rate / 3600:5.1f} hours of one core"
                )
            except WaitingError as other:
                total += 1
                print(f"{study:12} waits for {other}")
        return total

    def run(self, study):
        if study in self.tunings:
            self.run_tuning(study)
            return
        found = []
        for call in self.calls(study):
            given = self.complete(study, call)
            given["bench"].prepare(given["seeds"], self.call.jobs)
            found.append(compare(**given))
        print(table(pd.concat(found).drop_duplicates()) if study != "ablation" else study)

    def run_tuning(self, study):
        self.bench.prepare([0, 1, 2], self.call.jobs)
        searches = self.searches(study)
        lower = {"rate": FloatDistribution(1e-4, 1e-2, log=True)}
        spaces = {e.name: default_space(e) | lower for e, _ in searches if e.name == "dense+"}
        common = {"out": self.file(study), "jobs": self.call.jobs}
        for steps in sorted({steps for _, steps in searches}):
            tune(
                self.bench,
                [start for start, of_start in searches if of_start == steps],
                spaces=spaces,
                trials=self.call.trials,
                steps=steps,
                sparsity=self.tunings[study],
                **common,
            )
        finals(self.bench, within=WITHIN, **common)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=("all", *Studies.names))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (%(default)s)")
    parser.add_argument("--results", type=Path, default=ROOT / "data" / "results")
    parser.add_argument("--dense-steps", type=int, default=DENSE_STEPS)
    parser.add_argument("--steps", type=int, help="in place of the study's own, to try it out")
    parser.add_argument("--seeds", type=int, help="only so many, to try it out")
    parser.add_argument("--trials", type=int, default=TRIALS, help="of tuning (%(default)s)")
    parser.add_argument("--status", action="store_true", help="only print what is left")
    call = parser.parse_args()
    studies, asked = Studies(call), Studies.names if call.study == "all" else (call.study,)
    if not studies.status(asked):
        print("nothing left to do")
    elif not call.status:
        for study in asked:
            studies.run(study)


if __name__ == "__main__":
    main()
