"""Packed files of pruned and quantised recognisers: size and test WER, five folds.

    python tests/benchmarks/packing_study.py [--models FOLDER]

Models of these kinds, each packed with 32, 8 and 4 bits: "dense"; "csp+D", pruned by it to 95 %
zeros in 600 steps; "int8 first" and "int4 first", the same, but pruned from a dense model whose
weights were rounded to 8 or 4 bits before; and "2:4", in which of four neighbours in a row two are
zero (the first matrix stays dense, because its rows have 39 weights). Rows go to
data/results/packing.csv, each as it is measured; a study that was stopped continues. The pruned
models go to FOLDER (build/packing), as packed files without loss.

Sizes are in bytes. `codes` are the streams of positions and values of all matrices, and `bound` is
the entropy of independent symbols: of the positions of each tensor, and of all codes under one
histogram. `zstd_int8` is the whole model with dense int8 matrices and a float32 scale for each row,
compressed by zstd, level 19.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from cspkit.deploy import load, pack, report
from cspkit.deploy.container import read_header, records_of
from cspkit.files import replacing
from cspkit.pruning import prune
from cspkit.study import tuned
from cspkit.teach.digit_bench import DigitBench

ROOT = Path(__file__).parents[2]
OUT = ROOT / "data" / "results" / "packing.csv"
TUNING = ROOT / "data" / "results" / "pruning_tuning.csv"
KINDS = ("dense", "csp+D", "int8 first", "int4 first", "2:4")
KEY = ["fold", "model", "bits"]


def rounded(model, bits):
    """A model whose weights went through a packed file with few bits."""
    with tempfile.TemporaryDirectory() as folder:
        pack(model, Path(folder) / "model.csp", bits=bits)
        return load(Path(folder) / "model.csp")


def model_of(kind, fold, dense, task, folder):
    """A model of a kind; a pruned one comes from its file, if it has one."""
    if kind == "dense":
        return dense
    path = folder / f"{kind.replace(' ', '_').replace(':', '_')}_fold{fold}.csp"
    if not path.is_file():
        start = rounded(dense, int(kind[3])) if "first" in kind else dense
        sparsity, settings = 0.95, tuned(TUNING)["csp+D"]
        if kind == "2:4":
            sparsity = 0.5
            settings |= {"block": kind, "exclude": ["encoder.weight_ih_l0"]}
        rng = np.random.default_rng(fold)
        pack(prune(start, task, "csp", sparsity, steps=600, rng=rng, **settings).model, path)
    return load(path)


def row_of(model, task, bits):
    """Sizes and WER of a model with so many bits."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.csp"
        pack(model, path, bits=bits)
        found = report(path, rounds=0)
        header, data = read_header(path)
        codes = sum(
            sum(map(len, streams))
            for record, streams in records_of(path, header, data)
            if len(record["shape"]) > 1
        )
        wer = task.evaluate(load(path), "test")["wer"]
    total = found.layers.loc["all"]
    return {
        "bytes": found.sizes["packed"],
        "codes": codes,
        "bound": round(total["bound"] * total["weights"] / 8, 1),
        "safetensors": found.sizes["safetensors"],
        "zstd_int8": found.sizes["int8, zstd"],
        "test_wer": wer,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=ROOT / "build" / "packing")
    folder = parser.parse_args().models
    rows = pd.read_csv(OUT).to_dict("records") if OUT.is_file() else []
    done = {tuple(row[k] for k in KEY) for row in rows}
    bench = DigitBench(str(ROOT / "build"))
    for fold in range(5):
        task, dense = bench(fold)
        for kind in KINDS:
            model = None
            for bits in (32, 8, 4):
                if (fold, kind, bits) in done:
                    continue
                model = model or model_of(kind, fold, dense, task, folder)
                found = row_of(model, task, bits)
                rows.append({"fold": fold, "model": kind, "bits": bits} | found)
                with replacing(OUT) as new:
                    pd.DataFrame(rows).sort_values(KEY).to_csv(new, index=False)
                print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
