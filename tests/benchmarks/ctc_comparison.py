"""CTC beside the Transducer, and as a warm start of its encoder, at equal total steps; fold 0.

    python tests/benchmarks/ctc_comparison.py                        600 steps, seeds 0 to 2
    python tests/benchmarks/ctc_comparison.py --steps 2500

Runs of each seed: `transducer` from scratch, `ctc`, and `warm start`: CTC for a part of the steps,
then the Transducer with that encoder for the rest. Each stage has its own learning rate schedule;
the second one starts with strings of up to seven digits at once, for the encoder knows them.

Rows go to data/results/ctc.csv, each as it is measured; rows that are there are not measured
again, so a study that was stopped goes on where it was.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from cspkit.asr import DigitTask
from cspkit.asr.ctc import CTCTask, warm_start
from cspkit.asr.task import AUGMENTATION
from cspkit.files import check_output, locked, replacing
from cspkit.training import train

OUT = Path(__file__).parents[2] / "data" / "results" / "ctc.csv"
SHARES = (0.25, 0.5)  # of the steps that a warm start spends on CTC


def trained(task, seed, steps, start=None):
    """Train a new model; `start` is a CTC model whose encoder it takes."""
    model = task.new_model(seed)
    if start is not None:
        warm_start(model, start)
    log = train(model, task, steps, rng=np.random.default_rng(seed))
    return model, log


def measure(kind, ctc_steps, steps, seed):
    """Train one model; return its row."""
    start = time.process_time()
    if kind == "transducer":
        task = DigitTask(curriculum=steps)
        model, log = trained(task, seed, steps)
    else:
        task = CTCTask(curriculum=ctc_steps)
        model, log = trained(task, seed, ctc_steps)
    if kind == "warm start":
        task = DigitTask(augmentation=AUGMENTATION)  # as from scratch, without the curriculum
        model, log = trained(task, seed, steps - ctc_steps, start=model)
    seconds = time.process_time() - start
    dev, test = task.evaluate(model, "dev"), task.evaluate(model, "test")
    return {
        "train_loss": np.mean([row["loss"] for row in log[-50:]]),
        "dev_loss": dev["loss"],
        "dev_wer": dev["wer"],
        "test_wer": test["wer"],
        "processor_seconds": round(seconds, 1),
    }


def read(file):
    """Return the rows that are in a file."""
    return pd.read_csv(file).to_dict("records") if file.is_file() else []


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600, help="in all (%(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (%(default)s)")
    parser.add_argument("--out", type=Path, default=OUT)
    call = parser.parse_args()
    kinds = [("transducer", 0), ("ctc", call.steps)]
    kinds += [("warm start", int(share * call.steps)) for share in SHARES]
    check_output(call.out, "--out")
    rows = read(call.out)
    for seed in range(call.seeds):
        for kind, ctc_steps in kinds:
            run = {"kind": kind, "ctc_steps": ctc_steps, "steps": call.steps, "seed": seed}
            if any(all(row[k] == v for k, v in run.items()) for row in rows):
                continue
            row = run | measure(**run)
            with locked(call.out, wait=-1), replacing(call.out) as file:
                rows = [*read(call.out), row]  # other processes add rows too
                pd.DataFrame(rows).to_csv(file, index=False)
            print(row, flush=True)


if __name__ == "__main__":
    main()
