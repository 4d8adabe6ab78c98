"""Run some recorded rows of the pruning studies again, with the present code.

    python tests/benchmarks/recheck_rows.py [--rows N] [--seed I] [FILE ...]

The rows name the version of the sources that made them, so a later change of the code makes them
old, whether or not it changes a result. This draws N rows at random from the files (5 of
data/results/pruning_methods.csv if none is named), trains their models again, and prints the rates
and the loss that were recorded beside those that come now. They are equal to the last bit on the
same kind of processor. Ends with 1 if a rate differs.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import pandas as pd

from cspkit.study import compare, entry, read_rows
from cspkit.teach.digit_bench import DigitBench

ROOT = Path(__file__).parents[2]
FIGURES = ["dev_wer", "test_wer", "dev_loss", "nonzeros"]


def again(row):
    """The figures of a recorded row, measured with the present code."""
    bench = DigitBench(str(ROOT / "build"))
    if bench.name != row["task"]:
        raise SystemExit(f"task is {row['task']!r}: expected {bench.name!r}")
    settings = json.loads(row["settings"])
    name = row["method"]
    chosen = entry(name, rate=row["rate"], **settings)
    if chosen.mu != row["mu"]:
        chosen = entry(name, rate=row["rate"], mu=row["mu"], **settings)
    with tempfile.TemporaryDirectory() as folder:
        found = compare(
            bench, [chosen], [row["sparsity"]], [row["seed"]], int(row["steps"]),
            out=Path(folder) / "rows.csv", jobs=1,
        )  # fmt: skip
    return found.iloc[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--rows", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    call = parser.parse_args()
    files = call.files or [ROOT / "data" / "results" / "pruning_methods.csv"]
    rows = pd.concat([read_rows(file) for file in files], ignore_index=True)
    pruned = rows[(rows["steps"] > 0) & ~rows["method"].isin(["dense", "dense+", "small-dense"])]
    differ = False
    for _, row in pruned.sample(call.rows, random_state=call.seed).iterrows():
        now = again(row)
        print(f"{row['method']} at {row['sparsity']:g}, seed {row['seed']}, {row['steps']} steps")
        for figure in FIGURES:
            print(f"  {figure:9s} recorded {row[figure]!r:24} now {now[figure].item()!r}")
        differ = differ or any(row[f] != now[f] for f in FIGURES)
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
