"""Speech that nobody prepared, by command-line calls alone: from wav files to a packed model.

    CSPKIT_YESNO=FOLDER python tests/benchmarks/own_speech.py [FOLD ...]

Takes the yesno recordings (60 recordings of one speaker, eight words in each, resource 1 of
OpenSLR), and for each of five disjoint test parts calls `cspkit manifest`, `train`, `prune` (csp+D)
at .9, `pack` and `transcribe` in new processes with one thread. The settings were chosen on the dev
part of fold 0. Writes a row for each part to data/results/own_speech.csv: word errors and words of
the dense and of the pruned model on the test part, as `transcribe` hears it from the packed file;
bytes of the packed file; and seconds of the processor and of the clock for all calls together.
"""

import csv
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cspkit.asr.manifest import Manifest
from cspkit.asr.scoring import utterance_errors
from cspkit.files import replacing

ROOT = Path(__file__).parents[2]
OUT = ROOT / "data" / "results" / "own_speech.csv"
TRAINING, PRUNING = "2000", "600"  # steps


def cspkit(*arguments):
    """Call the command line in a new process."""
    call = [sys.executable, "-m", "cspkit", *map(str, arguments)]
    environment = os.environ | {"CSPKIT_PROGRESS": "0", "OMP_NUM_THREADS": "1"}
    return subprocess.run(call, env=environment, capture_output=True, text=True, check=True).stdout


def processor_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def recordings(folder):
    """Copy the recordings to a folder, each with its text next to it."""
    for file in sorted(Path(os.environ["CSPKIT_YESNO"]).glob("*.wav")):
        shutil.copy(file, folder)
        words = re.sub("1", "yes ", re.sub("0", "no ", file.stem.replace("_", "")))
        (folder / f"{file.stem}.txt").write_text(words)


def errors(folder, model):
    """Word errors and words of a packed or dense model on the test part."""
    entries = list(Manifest(folder / "test.jsonl"))
    rows = json.loads(
        cspkit("transcribe", "--json", "--model", model, *(entry.audio for entry in entries))
    )
    wrong = utterance_errors([entry.text for entry in entries], [row["text"] for row in rows])
    return int(wrong.sum()), sum(len(entry.text.split()) for entry in entries)


def measured(fold):
    """The row of one test part."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recordings(folder)
        wall, processor = time.perf_counter(), processor_seconds()
        cspkit("manifest", "make", folder, "--out", folder / "all.jsonl")
        cspkit("manifest", "split", folder / "all.jsonl", "--out", folder, "--fold", fold)
        parts = [f"--{n}={folder / f}.jsonl" for n, f in
                 (("manifest", "train"), ("dev", "dev"), ("test", "test"))]  # fmt: skip
        dense, pruned = folder / "dense.safetensors", folder / "pruned.safetensors"
        options = ["--cache", folder / "features", "--seed", fold, "--out", dense]
        cspkit("train", *parts, *options, "--steps", TRAINING)
        cspkit("prune", "--model", dense, "--sparsity", "0.9", "--mu", "1", "--steps", PRUNING,
               "--seed", fold, "--out", pruned)  # fmt: skip
        cspkit("pack", "--model", pruned, "--out", folder / "model.csp")
        pruned_errors, words = errors(folder, folder / "model.csp")
        spent = processor_seconds() - processor, time.perf_counter() - wall
        dense_errors, _ = errors(folder, dense)
        size = (folder / "model.csp").stat().st_size
    return {
        "fold": fold, "words": words, "dense_errors": dense_errors, "csp_errors": pruned_errors,
        "bytes": size, "processor_seconds": round(spent[0], 1), "seconds": round(spent[1], 1),
    }  # fmt: skip


def main():
    rows = {}
    if OUT.is_file():
        with OUT.open() as file:
            rows = {int(row["fold"]): row for row in csv.DictReader(file)}
    for fold in [int(a) for a in sys.argv[1:]] or range(5):
        rows[fold] = measured(fold)
        print(rows[fold], flush=True)
        with replacing(OUT) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[fold])
            writer.writeheader()
            writer.writerows(rows[number] for number in sorted(rows))
    words = sum(int(row["words"]) for row in rows.values())
    for model in ("dense", "csp"):
        wrong = sum(int(row[f"{model}_errors"]) for row in rows.values())
        print(f"{model}: {100 * wrong / words:.2f} % of {words} words")


if __name__ == "__main__":
    main()
