"""The dense recogniser, measured: over folds, without a speaker, by width.

    python tests/benchmarks/recogniser_study.py folds        seed i on fold i, and their curves
    python tests/benchmarks/recogniser_study.py further      these models, 2,000 steps more
    python tests/benchmarks/recogniser_study.py speakers     leave one out, augmented or not
    python tests/benchmarks/recogniser_study.py widths       16 to 128 units a layer, folds 0 to 2

Rows go to data/results/recogniser_STUDY.csv, each as it is measured; rows that are there are not
measured again, so a study that was stopped goes on where it was. The models of the folds are the
checkpoints in data/models. Times are those of training alone.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from cspkit.asr import DigitTask, load_spoken_digits, load_transducer, save_transducer
from cspkit.asr.digits import DENSE_STEPS
from cspkit.asr.task import AUGMENTATION
from cspkit.asr.transducer_config import config_for
from cspkit.files import locked, replacing
from cspkit.training import evaluating, train

DATA = Path(__file__).parents[2] / "data"
SHORT = 1500
CURVE_EVERY = 250
FURTHER_STEPS, FURTHER_RATES = (
    2000,
    (3e-4, 1e-3),
)  # the tuned one of `dense+`, and more


def runs(study):
    """The runs of a study: dicts of what varies."""
    if study == "folds":
        return [{"fold": f, "seed": f, "steps": DENSE_STEPS} for f in range(5)]
    if study == "further":
        return [
            {"fold": f, "seed": f, "steps": FURTHER_STEPS, "rate": rate}
            for rate in FURTHER_RATES
            for f in range(5)
        ]
    if study == "speakers":
        return [
            {"fold": s, "seed": i, "steps": SHORT, "augmented": augmented}
            for i, s in enumerate(load_spoken_digits().speakers())
            for augmented in (True, False)
        ]
    return [
        {"fold": f, "seed": f, "steps": SHORT, "width": w}
        for w in (16, 32, 64, 128)
        for f in range(3)
    ]


class Curve:
    """Rows of a learning curve, and the seconds that measuring them took."""

    def __init__(self, task, model, every):
        self.task, self.model, self.every = task, model, every
        self.rows, self.losses = [], []
        self.seconds = self.processor = 0.0

    def __call__(self, row):
        self.losses.append(row["loss"])
        step = int(row["step"]) + 1
        if step % self.every:
            return
        start, processor = time.perf_counter(), time.process_time()
        with evaluating(self.model):
            dev = self.task.evaluate(self.model, "dev")
        loss = float(np.mean(self.losses[-self.every :]))
        self.rows.append(
            {"step": step, "loss": loss, "dev_loss": dev["loss"], "dev_wer": dev["wer"]}
        )
        self.seconds += time.perf_counter() - start
        self.processor += time.process_time() - processor


def measure(study, fold, seed, steps, augmented=True, width=128):
    """Train one model; return its row, and its learning curve."""
    task = DigitTask(
        fold=fold,
        config=config_for("words", width),
        curriculum=steps,
        augmentation=AUGMENTATION if augmented else None,
    )
    model = task.new_model(seed)
    curve = Curve(task, model, CURVE_EVERY if study == "folds" else steps + 1)
    start, processor = time.perf_counter(), time.process_time()
    train(model, task, steps, rng=np.random.default_rng(seed), on_step=curve)
    seconds = time.perf_counter() - start - curve.seconds
    processor = time.process_time() - processor - curve.processor
    if study == "folds":
        command = f"python -m cspkit train --fold {fold} --seed {seed} --steps {steps}"
        path = DATA / "models" / f"dense_fold{fold}.safetensors"
        save_transducer(model, path, command=command, fold=fold, seed=seed)
    dev, test = task.evaluate(model, "dev"), task.evaluate(model, "test")
    row = {
        "weights": sum(p.numel() for p in model.parameters()),
        "dev_wer": dev["wer"],
        "test_wer": test["wer"],
        "test_loss": test["loss"],
        "seconds": round(seconds, 1),
        "processor_seconds": round(processor, 1),
    }
    return row, [{"fold": fold, "seed": seed} | point for point in curve.rows]


def measure_further(fold, seed, steps, rate):
    """Train the model of a fold further; return its row. The learning curve is not recorded."""
    task = DigitTask(fold=fold)
    model = load_transducer(DATA / "models" / f"dense_fold{fold}.safetensors")
    row = {}
    for when in ("before", "after"):
        if when == "after":
            rng = np.random.default_rng(100 + seed)
            train(model, task, steps, rng=rng, rate=rate, schedule="cosine")
        for split in ("dev", "test"):
            found = task.evaluate(model, split)
            row |= {f"{split}_{name}_{when}": value for name, value in found.items()}
    return row, []


def read(file):
    """Return the rows that are in a file."""
    return pd.read_csv(file).to_dict("records") if file.is_file() else []


def write(rows, out):
    """Write the rows to a file, which appears whole or not at all."""
    with replacing(out) as file:
        pd.DataFrame(rows).to_csv(file, index=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=["folds", "further", "speakers", "widths"])
    parser.add_argument("--part", default="0/1", help="I/N: run every N-th only, from the I-th")
    call = parser.parse_args()
    first, every = map(int, call.part.split("/"))
    out = DATA / "results" / f"recogniser_{call.study}.csv"
    curves = DATA / "results" / "recogniser_curves.csv"
    for run in runs(call.study)[first::every]:
        if any(all(str(row[k]) == str(v) for k, v in run.items()) for row in read(out)):
            continue
        further = call.study == "further"
        row, curve = measure_further(**run) if further else measure(call.study, **run)
        with locked(out, wait=-1):  # other processes add rows too
            rows = [*read(out), run | row]
            write(sorted(rows, key=lambda r: [str(r[k]) for k in run]), out)
            if curve:
                points = [p for p in read(curves) if p["fold"] != run["fold"]] + curve
                write(sorted(points, key=lambda p: (p["fold"], p["step"])), curves)
        print(run | row, flush=True)


if __name__ == "__main__":
    main()
