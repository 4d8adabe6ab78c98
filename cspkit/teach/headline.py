"""The main job, live: train the dense recogniser, prune it, and print what that does.

    python -m cspkit.teach.headline --out build/headline.csv
    python -m cspkit.teach.headline --out build/headline.csv --folds 0 1 2

Seed i trains and prunes on fold i. A row is written as soon as it is measured; rows that are
there already are kept, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from cspkit import __version__
from cspkit.asr import DigitTask, load_transducer, save_transducer, transcribe, word_error_rate
from cspkit.asr.scoring import bootstrap_interval
from cspkit.asr.task import DENSE_STEPS
from cspkit.pruning import prunable_weights, prune
from cspkit.training import train

SPARSITY = 0.95
PRUNING_STEPS = 600
METHODS = ("dense", "dense+", "gmp", "csp")


def measure(method: str, fold: int, checkpoint: Path, dense_steps: int) -> dict[str, object]:
    """Make one model and measure it.

    Parameters
    ----------
    method : {"dense", "dense+", "gmp", "csp"}
        "dense" trains from scratch and writes `checkpoint`; the others start from it, see the
        same batches, and take the same number of steps.
    fold : int
        Fold and seed.
    checkpoint : Path
    dense_steps : int
        Steps of the dense training.

    Returns
    -------
    dict
        A row: WER as a fraction, with its bootstrap interval over utterances; seconds of training.
    """
    rng = np.random.default_rng(fold)
    start = time.perf_counter()
    if method == "dense":
        task = DigitTask(fold=fold, curriculum=dense_steps)
        model = task.new_model(fold)
        train(model, task, dense_steps, rng=rng)
        seconds = time.perf_counter() - start
        save_transducer(model, checkpoint, fold=fold, seed=fold)
    else:
        task, dense = DigitTask(fold=fold), load_transducer(checkpoint)
        if method == "dense+":
            model = copy.deepcopy(dense)
            train(model, task, PRUNING_STEPS, rng=rng, schedule="cosine")
        else:
            model = prune(dense, task, method, SPARSITY, steps=PRUNING_STEPS, rng=rng).model
        seconds = time.perf_counter() - start
    weights = prunable_weights(model).values()
    nonzeros = sum(int((w != 0).sum()) for w in weights)
    strings = task.corpus.strings("test", fold)
    spoken, heard = [s.text for s in strings], transcribe(model, [s.features for s in strings])
    low, high = bootstrap_interval(spoken, heard, np.random.default_rng(0))
    return {
        "method": method,
        "fold": fold,
        "seed": fold,
        "steps": dense_steps if method == "dense" else PRUNING_STEPS,
        "sparsity": 1 - nonzeros / sum(w.numel() for w in weights),
        "nonzeros": nonzeros,
        "dev_wer": task.evaluate(model, "dev")["wer"],
        "test_wer": word_error_rate(spoken, heard),
        "test_low": low,
        "test_high": high,
        "seconds": round(seconds, 1),
        "version": __version__,
    }


def measure_all(folds: list[int], out: Path, dense_steps: int = DENSE_STEPS) -> pd.DataFrame:
    """Measure all methods on some folds, going on from what `out` holds; return the rows."""
    rows = pd.read_csv(out).to_dict("records") if out.is_file() else []
    done = {(row["method"], row["fold"]) for row in rows}
    out.parent.mkdir(parents=True, exist_ok=True)
    for fold in folds:
        checkpoint = Path("build") / f"headline_{dense_steps}_fold{fold}.safetensors"
        for method in METHODS:
            if (method, fold) in done and (method != "dense" or checkpoint.is_file()):
                continue
            rows = [r for r in rows if (r["method"], r["fold"]) != (method, fold)]
            rows.append(measure(method, fold, checkpoint, dense_steps))
            beside = out.with_name(out.name + ".part")
            pd.DataFrame(rows).to_csv(beside, index=False)
            beside.replace(out)
    return pd.DataFrame(rows)


def table(rows: pd.DataFrame) -> str:
    """The table that people read: a line per method, means over folds, WER in per cent."""
    folds = sorted(set(rows["fold"]))
    lines = [f"{'':8}{'test WER':>10}{'':16}{'sparsity':>10}{'nonzeros':>10}{'seconds':>9}"]
    for method in METHODS:
        of_method = rows[rows["method"] == method]
        if len(of_method) == 0:
            continue
        mean = of_method[["test_wer", "sparsity", "nonzeros", "seconds"]].mean()
        low, high = of_method[["test_low", "test_high"]].mean()
        if len(folds) > 1:
            low, high = of_method["test_wer"].min(), of_method["test_wer"].max()
        wer, sparsity = f"{100 * mean['test_wer']:.2f} %", f"{100 * mean['sparsity']:.2f} %"
        interval = f"({100 * low:.2f} - {100 * high:.2f})"
        lines.append(
            f"{method:8}{wer:>10}{interval:>16}{sparsity:>10}"
            f"{mean['nonzeros']:>10,.0f}{mean['seconds']:>9.0f}"
        )
    what = "95 % interval over utterances" if len(folds) == 1 else "lowest and highest fold"
    lines.append(f"seed i on fold i, folds {', '.join(map(str, folds))}; in brackets: {what}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="CSV file with a row per run")
    parser.add_argument("--folds", type=int, nargs="+", default=[0], help="0 to 4 (%(default)s)")
    parser.add_argument(
        "--dense-steps", type=int, default=DENSE_STEPS, help="of the dense training (%(default)s)"
    )
    parser.add_argument("--show", action="store_true", help="print what is there, run nothing")
    call = parser.parse_args()
    rows = (
        pd.read_csv(call.out) if call.show else measure_all(call.folds, call.out, call.dense_steps)
    )
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
