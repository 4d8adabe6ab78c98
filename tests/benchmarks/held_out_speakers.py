"""What helps on a speaker who was never heard: augmentation and normalisation, leave one out.

    python tests/benchmarks/held_out_speakers.py                       1,000 steps, all six speakers
    python tests/benchmarks/held_out_speakers.py --speakers george nicolas --kinds plain default
    python tests/benchmarks/held_out_speakers.py --ctc                 a quick look: CTC models

Seed i holds out speaker i. `speaker` gives every speaker the same mean and deviation, the one held
out by their own recordings, without the words (transductive); `recording` takes its mean from every
recording. Rows go to data/results/held_out_speakers.csv, each as it is measured; rows that are
there are not measured again. At the end the mean over speakers is printed for each kind.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from cspkit.asr import (
    Augmentation,
    CTCTask,
    DigitTask,
    load_spoken_digits,
    normalise_by_recording,
    normalise_by_speaker,
)
from cspkit.asr.task import AUGMENTATION, LIGHT
from cspkit.files import check_output, locked, replacing
from cspkit.training import train

OUT = Path(__file__).parents[2] / "data" / "results" / "held_out_speakers.csv"
WEAK = asdict(LIGHT)
STRONG = {"speed": 0.2, "channel": 0.5, "noise": 0.2, "warp": 0.15}
KINDS = {  # name: augmentation, normalisation
    "plain": (None, None),
    "default": (AUGMENTATION, None),
    "weak": (Augmentation(**WEAK), None),
    "weak, warp .15": (Augmentation(**WEAK | {"warp": 0.15}), None),
    "weak, channel .5": (Augmentation(**WEAK | {"channel": 0.5}), None),
    "weak, gain 12": (Augmentation(**WEAK | {"gain": 12.0}), None),
    "strong": (Augmentation(**STRONG), None),
    "strong, channel .8": (Augmentation(**STRONG | {"channel": 0.8}), None),
    "strong, snr 5-40": (Augmentation(**STRONG, snr=(5.0, 40.0)), None),
    "strong, masks": (Augmentation(**STRONG, frequency_masks=(1, 20), time_masks=(2, 6)), None),
    "plain, speaker": (None, "speaker"),
    "plain, recording": (None, "recording"),
    "default, speaker": (AUGMENTATION, "speaker"),
    "default, recording": (AUGMENTATION, "recording"),
}


def measure(kind, speaker, seed, steps, task_type):
    """Train one model without a speaker; return its WERs."""
    augmentation, normalisation = KINDS[kind]
    corpus = load_spoken_digits()
    if normalisation == "speaker":
        corpus = normalise_by_speaker(corpus, speaker)
    elif normalisation == "recording":
        corpus = normalise_by_recording(corpus)
    task = task_type(corpus, speaker, curriculum=steps, augmentation=augmentation)
    model = task.new_model(seed)
    train(model, task, steps, rng=np.random.default_rng(seed))
    return {f"{part}_wer": task.evaluate(model, part)["wer"] for part in ("dev", "test")}


def read(file):
    """Return the rows that are in a file."""
    return pd.read_csv(file).to_dict("records") if file.is_file() else []


def main():
    speakers = load_spoken_digits().speakers()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000, help="of each training (%(default)s)")
    parser.add_argument("--speakers", nargs="+", choices=speakers, default=speakers)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--ctc", action="store_true", help="CTC models in place of transducers")
    parser.add_argument("--out", type=Path, default=OUT)
    call = parser.parse_args()
    check_output(call.out, "--out")
    rows = read(call.out)
    model = "ctc" if call.ctc else "transducer"
    for kind in call.kinds:
        for speaker in call.speakers:
            run = {"kind": kind, "speaker": speaker, "seed": speakers.index(speaker)}
            run |= {"model": model, "steps": call.steps}
            if any(all(row[k] == v for k, v in run.items()) for row in rows):
                continue
            task_type = CTCTask if call.ctc else DigitTask
            row = run | measure(kind, speaker, run["seed"], call.steps, task_type)
            with locked(call.out, wait=-1), replacing(call.out) as file:
                rows = [*read(call.out), row]  # other processes add rows too
                pd.DataFrame(rows).to_csv(file, index=False)
            print(row, flush=True)
    table = pd.DataFrame(rows).groupby(["model", "steps", "kind"], sort=False)
    print((100 * table[["dev_wer", "test_wer"]].mean()).round(1))


if __name__ == "__main__":
    main()
