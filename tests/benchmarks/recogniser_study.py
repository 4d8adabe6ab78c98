"""The dense recogniser, measured: over folds, without a speaker, by width, by unit.

    python tests/benchmarks/recogniser_study.py folds        seed i on fold i, 4,000 steps
    python tests/benchmarks/recogniser_study.py speakers     leave one out, augmented or not
    python tests/benchmarks/recogniser_study.py widths       fold 0, 32 to 192 units a layer
    python tests/benchmarks/recogniser_study.py characters   character units, folds 0 to 2

Rows go to data/results/recogniser_STUDY.csv, each as it is measured; rows that are there are not
measured again, so a study that was stopped goes on where it was.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from cspkit.asr import DigitTask, TransducerConfig, load_spoken_digits, save_transducer
from cspkit.asr.task import AUGMENTATION
from cspkit.asr.transducer import CHARACTERS
from cspkit.training import train

RESULTS = Path(__file__).parents[2] / "data" / "results"
MODELS = Path(__file__).parents[2] / "build"
STEPS, SHORT = 4000, 2500


def runs(study):
    """The runs of a study: dicts of what varies."""
    if study == "folds":
        return [{"fold": f, "seed": f, "steps": STEPS} for f in range(5)]
    if study == "speakers":
        return [
            {"fold": s, "seed": i, "steps": SHORT, "augmented": augmented}
            for i, s in enumerate(load_spoken_digits().speakers())
            for augmented in (True, False)
        ]
    if study == "widths":
        return [{"fold": 0, "seed": 0, "steps": SHORT, "width": w} for w in (16, 32, 64, 96, 192)]
    return [{"fold": f, "seed": f, "steps": SHORT, "units": "characters"} for f in range(3)]


def measure(fold, seed, steps, augmented=True, width=128, units="words"):
    """Train one model; return its row."""
    sizes = {"encoder_size": width, "predictor_size": width, "joiner_size": width}
    if units == "characters":
        sizes |= {"units": CHARACTERS, "stack": 2}
    task = DigitTask(
        fold=fold,
        config=TransducerConfig(**sizes),
        curriculum=steps,
        augmentation=AUGMENTATION if augmented else None,
    )
    model = task.new_model(seed)
    start, processor = time.perf_counter(), time.process_time()
    train(model, task, steps, rng=np.random.default_rng(seed))
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    if width == 128 and units == "words" and augmented and steps == STEPS:
        save_transducer(model, MODELS / f"dense_fold{fold}.safetensors", fold=fold, seed=seed)
    dev, test = task.evaluate(model, "dev"), task.evaluate(model, "test")
    return {
        "weights": sum(p.numel() for p in model.parameters()),
        "dev_wer": dev["wer"],
        "test_wer": test["wer"],
        "test_loss": test["loss"],
        "seconds": round(seconds, 1),
        "processor_seconds": round(processor, 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=["folds", "speakers", "widths", "characters"])
    study = parser.parse_args().study
    out = RESULTS / f"recogniser_{study}.csv"
    rows = pd.read_csv(out).to_dict("records") if out.is_file() else []
    for run in runs(study):
        if any(all(str(row[k]) == str(v) for k, v in run.items()) for row in rows):
            continue
        rows.append(run | measure(**run))
        beside = out.with_name(out.name + ".part")
        pd.DataFrame(rows).to_csv(beside, index=False)
        beside.replace(out)
        print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
