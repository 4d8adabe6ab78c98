"""Run some recorded rows of the pruning studies again, with the present code.

    python tests/benchmarks/recheck_rows.py [--rows N] [--seed I] [FILE ...]

Each row names the version of the sources that made it, so a later change of the code makes the rows
old, whether or not it changes a result. From the rows of each version in the files
(data/results/pruning_methods.csv if none is named) this draws N at random, trains their models
again, and prints the rates and the loss that were recorded beside those that come now. If all of a
version are equal to the last bit, data/results/same_results.csv says so from then on, and the
studies take these rows for rows of the present code; if one differs, it no longer says so. They
can be equal only on the same kind of processor. Ends with 1 if something differs.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import pandas as pd

from cspkit.files import locked, replacing
from cspkit.study import compare, entry, read_rows
from cspkit.study.rows import SAME, read_same
from cspkit.teach.digit_bench import DigitBench

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "data" / "results"
FIGURES = ["dev_wer", "test_wer", "dev_loss", "nonzeros"]


def again(row):
    """The figures of a recorded row, measured with the present code."""
    bench = DigitBench(str(ROOT / "build"))
    if bench.name != row["task"]:
        raise SystemExit(f"task is {row['task']!r}: expected {bench.name!r}")
    settings = json.loads(row["settings"])
    chosen = entry(row["method"], rate=row["rate"], mu=row["mu"], **settings)
    with tempfile.TemporaryDirectory() as folder:
        found = compare(
            bench, [chosen], [row["sparsity"]], [row["seed"]], int(row["steps"]),
            out=Path(folder) / "rows.csv", jobs=1,
        )  # fmt: skip
    return found.iloc[0]


def record(recorded, now, rows, path=RESULTS / SAME):
    """Note that rows of two versions were the same, in place of what the older one equalled.

    With 0 rows the versions differ, and nothing is said of the older one.
    """
    with locked(path, wait=-1):
        known = {pair: n for pair, n in read_same(path).items() if pair[0] != recorded}
        lines = sorted([*pair, n] for pair, n in (known | {(recorded, now): rows}).items() if n)
        with replacing(path) as file:
            pd.DataFrame(lines, columns=["recorded", "now", "rows"]).to_csv(file, index=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--rows", type=int, default=1, help="of each version (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    call = parser.parse_args()
    rows = pd.concat([read_rows(f) for f in call.files or [RESULTS / "pruning_methods.csv"]])
    trained = rows[(rows["steps"] > 0) & (rows["method"] != "small-dense")]
    differ = False
    for version, of_version in trained.groupby("version"):
        chosen = of_version.sample(min(call.rows, len(of_version)), random_state=call.seed)
        same, now = True, None
        for _, row in chosen.iterrows():
            now = again(row)
            place = f"at {row['sparsity']:g}, seed {row['seed']}, {row['steps']} steps"
            print(row["method"], place, flush=True)
            for figure in FIGURES:
                print(f"  {figure:9s} recorded {row[figure]!r:24} now {now[figure].item()!r}")
                same = same and row[figure] == now[figure]
        if now["version"] != version:
            record(version, now["version"], len(chosen) if same else 0)
        differ = differ or not same
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
