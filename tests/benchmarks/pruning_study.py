"""Pruning methods compared on the spoken digits, as fairly as two cores allow.

    python tests/benchmarks/pruning_study.py tune          ten trials for each method, fold 0; five
                                                           more in a wider space for some; the
                                                           best of them on folds 1 and 2
    python tests/benchmarks/pruning_study.py methods       all of them, four sparsities, five folds
    python tests/benchmarks/pruning_study.py equal-time    the best on dev for as long as csp takes
    python tests/benchmarks/pruning_study.py long          the best on dev, 2,000 steps, to .99
    python tests/benchmarks/pruning_study.py error-term    the same with and without D
    python tests/benchmarks/pruning_study.py whole-batch   csp with D over all of a batch, not half
    python tests/benchmarks/pruning_study.py ablation      csp, one choice changed at a time
    python tests/benchmarks/pruning_study.py memory        csp where V remembers what is cut
    python tests/benchmarks/pruning_study.py speakers      six speakers, each held out once
    python tests/benchmarks/pruning_study.py widths        64 and 256 units a layer; 128 is above
    python tests/benchmarks/pruning_study.py small-dense   small models trained from scratch
    python tests/benchmarks/pruning_study.py second-task   characters; images of digits

Rows go to data/results/pruning_STUDY.csv, each as it is measured, and a study that was stopped
goes on where it was. `tune` comes first: the others take their settings from it; `methods` comes
before `equal-time`, `long` and `error-term`, which ask it for the best on dev. Dense models are
trained where they are missing, into build/. Equal time: the cheaper methods make as many more
steps as the recorded processor seconds of the dearer ones allow.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from image_task import ImageBench
from optuna.distributions import CategoricalDistribution, FloatDistribution

from cspkit.asr.task import DENSE_STEPS
from cspkit.pruning import PRUNERS
from cspkit.study import (
    compare,
    cost_ratio,
    default_space,
    entry,
    finals,
    read_rows,
    table,
    tune,
    tuned,
)  # fmt: skip
from cspkit.study.statistics import resample, verdicts
from cspkit.teach.digit_bench import DigitBench

ROOT = Path(__file__).parents[2]
STUDIES = (
    "tune", "methods", "equal-time", "long", "error-term", "whole-batch", "ablation", "memory",
    "speakers", "widths", "small-dense", "second-task",
)  # fmt: skip
REFERENCES = ["dense", "dense+"]
FEW = ["gmp", "dpf", "csp"]  # where time does not allow all
BOTH = [0.95, 0.98]
STEPS, LONG_STEPS, TRIALS, MORE_TRIALS = 600, 2000, 10, 5
CHARACTER_STEPS = 2000  # of dense training; each is about twice as long as with words
# Where ten trials were best at the edge of their space, or lacked a choice that a method has.
HIGH = {"rate": FloatDistribution(3e-3, 1e-1, log=True)}
EARLY = {"end": FloatDistribution(0.2, 0.8)}
WIDER = {
    "gmp": HIGH | {"keep_values": CategoricalDistribution([True, False])},
    "oneshot": HIGH,
    "l1-prox": HIGH | EARLY,
    "narang": HIGH | EARLY | {"reach": FloatDistribution(1.0, 4.0, log=True)},
    "acdc": HIGH | EARLY,
}
# One choice of csp at a time, away from the shipped one.
CHANGES = (
    {"rho": 0.0},  # V remembers all that is cut
    {"rho": 0.1},
    {"mu": 0.0},
    {"measurement": "identity"},
    {"mu": 0.0, "measurement": "identity"},  # what is left: magnitude, and what is cut is zero
    {"mu": 0.0, "measurement": "identity", "rho": 0.0},  # what dpf does
    {"budget": "uniform"},
    {"measurement": "identity", "budget": "sensitivity"},
    {"power": 1.0},
    {"measurement": "activations"},
    {"measurement": "activations", "updates": 3},
    {"measurement": "sketch", "updates": 3},
    {"measurement": "identity", "threshold": "firm"},
    {"measurement": "identity", "threshold": "soft"},
)


class WholeBatch(DigitBench):
    """The digits, where D looks at every utterance of a batch."""

    @property
    def name(self):
        return super().name + "-whole-batch"

    def __call__(self, seed):
        task, dense = super().__call__(seed)
        task.divergence_every = 1
        return task, dense


class Study:
    """What the studies share: where rows go, how many runs at a time, how long they are."""

    def __init__(self, call):
        self.call = call
        self.bench = DigitBench(str(ROOT / "build"), dense_steps=call.dense_steps)

    def file(self, name):
        return self.call.results / f"pruning_{name.replace('-', '_')}.csv"

    def tune(self, methods):
        self.bench.prepare([0, 1, 2], self.call.jobs)
        common = {"steps": self.call.steps or STEPS, "jobs": self.call.jobs}
        common["out"] = self.file("tuning")
        tune(self.bench, methods, trials=self.call.trials, **common)
        spaces = {name: default_space(entry(name)) | wider for name, wider in WIDER.items()}
        trials = self.call.trials + MORE_TRIALS
        tune(self.bench, list(WIDER), spaces=spaces, trials=trials, **common)
        finals(self.bench, out=self.file("tuning"), jobs=self.call.jobs)

    def compare(self, study, methods, sparsities, seeds, *, steps=STEPS, bench=None, metric="wer"):
        bench = bench or self.bench
        seeds = seeds[: self.call.seeds]
        if isinstance(bench, DigitBench):
            bench.prepare(seeds, self.call.jobs)
        rows = compare(
            bench, methods, sparsities, seeds, self.call.steps or steps, out=self.file(study),
            settings=tuned(self.file("tuning")), jobs=self.call.jobs, metric=metric,
        )  # fmt: skip
        print(table(rows, metric), flush=True)
        return rows

    def strongest(self, count=4):
        """The baselines with the smallest loss on dev, from .95 on: the mean of its logarithm."""
        rows = read_rows(self.file("methods"))
        rows = rows[rows["method"].isin(list(PRUNERS)) & (rows["sparsity"] >= 0.95)]
        losses = rows.assign(log=np.log(rows["dev_loss"])).groupby("method")["log"].mean()
        return [*losses.drop("csp").nsmallest(count).index, "csp"]

    def equal_time(self, count=4):
        """The strongest others, each for as many steps as fit into the time of csp."""
        recorded = read_rows(self.file("methods"))
        self.as_long_as("equal-time", self.strongest(count)[:-1], "csp", recorded)

    def error_term(self):
        """D added where a method has none, and taken from csp, with the settings that it has."""
        settings, recorded = tuned(self.file("tuning")), read_rows(self.file("methods"))
        for method in self.strongest():
            name = f"{method}-D" if PRUNERS[method].mu else f"{method}+D"
            other = entry(name, **(settings[method] | {"mu": None}))
            rows = self.compare("error-term", [other], BOTH, [0, 1, 2, 3, 4])
            if name.endswith("-D"):
                self.as_long_as("error-term", [other], method, pd.concat([rows, recorded]))

    def as_long_as(self, study, cheaper, dear, rows):
        """Run methods for as long as a dearer one took; print how that one fares against them."""
        rows = rows[rows["sparsity"].isin(BOTH)]
        found = [rows[rows["method"] == dear]]
        length = found[0]["steps"].iloc[0]
        for cheap in cheaper:
            steps = round(length * cost_ratio(rows, dear, getattr(cheap, "name", cheap)))
            found.append(self.compare(study, [cheap], BOTH, [0, 1, 2, 3, 4], steps=steps))
        drawn = resample(pd.concat(found))
        pairs = {column: (dear, column[1], length) for column in drawn.columns if column[0] != dear}
        for column, (verdict, p) in verdicts(drawn, dear, pairs=pairs).items():
            ends = drawn.interval(pairs[column], less=column)
            low, high = (f"{100 * end:+.2f}" for end in ends)
            name, sparsity, steps = column
            print(f"{dear} less {name} at {sparsity}, {steps} steps: {low} to {high}", end="")
            print(f", a {verdict}, p {p:.4f} (Holm)")

    def ablation(self, sparsities=BOTH):
        settings = tuned(self.file("tuning"))["csp"]
        entries = [entry("csp", **settings)]
        for change in CHANGES:
            name = "csp-D" if change.get("mu") == 0 else "csp"
            entries.append(entry(name, **(settings | change)))
        self.bench.prepare([0, 1, 2], self.call.jobs)
        rows = compare(
            self.bench, entries, sparsities, [0, 1, 2], self.call.steps or STEPS,
            out=self.file("ablation"), jobs=self.call.jobs,
        )  # fmt: skip
        means = rows.groupby(["sparsity", "mu", "settings"])[["dev_loss", "test_wer"]].mean()
        print(means.to_string(), flush=True)

    def memory(self):
        """The other way: csp that remembers what it cuts, and gmp that sets it to zero."""
        settings = tuned(self.file("tuning"))
        for name, change in (("csp", {"rho": 0.0}), ("gmp", {"keep_values": False})):
            one = entry(name, **(settings[name] | change))
            self.compare("memory", [one], BOTH, [0, 1, 2, 3, 4])

    def run(self, study):
        if study == "tune":
            self.tune(["dense+", *PRUNERS])
        elif study == "methods":
            self.compare(study, [*REFERENCES, *PRUNERS], [0.8, 0.9, 0.95, 0.98], [0, 1, 2, 3, 4])
        elif study == "long":
            methods = [*REFERENCES, *self.strongest()]
            self.compare(study, methods, [0.95, 0.98, 0.99], [0, 1, 2], steps=LONG_STEPS)
        elif study == "equal-time":
            self.equal_time()
        elif study == "error-term":
            self.error_term()
        elif study == "whole-batch":
            bench = WholeBatch(self.bench.models, self.call.dense_steps)
            self.compare(study, ["csp"], BOTH, [0, 1, 2, 3, 4], bench=bench)
        elif study == "ablation":
            self.ablation()
        elif study == "memory":
            self.memory()
        elif study == "speakers":
            bench = DigitBench(self.bench.models, self.call.dense_steps, split="speakers")
            methods = [*REFERENCES, *FEW]
            self.compare(study, methods, [0.9, 0.95], [0, 1, 2, 3, 4, 5], bench=bench)
        elif study == "widths":
            for width in (64, 256):
                bench = DigitBench(self.bench.models, self.call.dense_steps, width=width)
                self.compare(study, ["dense", *FEW], [0.95], [0, 1, 2], bench=bench)
        elif study == "small-dense":
            self.compare(study, [study], [0.8, 0.9, 0.95, 0.98], [0, 1, 2, 3, 4])
        else:
            bench = DigitBench(self.bench.models, CHARACTER_STEPS, units="characters")
            self.compare(study, [*REFERENCES, *FEW], [0.9, 0.95], [0, 1, 2], bench=bench)
            self.compare(
                "images", [*REFERENCES, *PRUNERS], [0.9, 0.95, 0.98], [0, 1, 2, 3, 4],
                bench=ImageBench(), metric="error",
            )  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (%(default)s)")
    parser.add_argument("--results", type=Path, default=ROOT / "data" / "results")
    parser.add_argument("--dense-steps", type=int, default=DENSE_STEPS)
    parser.add_argument("--steps", type=int, help="in place of the study's own, to try it out")
    parser.add_argument("--seeds", type=int, help="only so many, to try it out")
    parser.add_argument("--trials", type=int, default=TRIALS, help="of tuning (%(default)s)")
    call = parser.parse_args()
    Study(call).run(call.study)


if __name__ == "__main__":
    main()
