"""Rows of a study on disk: a CSV file that grows run by run."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cspkit.arguments import ArgumentError
from cspkit.files import check_output, locked, replacing

TEXT = ("task", "method", "settings", "dense", "fold", "version", "errors", "words")
SAME = "same_results.csv"
BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"


class Rows:
    """The rows of one file, each under its key. The file is always sorted and complete.

    Several processes may add rows to one file. Each of them takes the lock of the file, reads the
    rows that the others have added, adds its own row, and replaces the file.

    Parameters
    ----------
    path : str or Path
        The file is read if it exists.
    key : sequence of str
        Columns that identify a row. The file is sorted by them. One of them is "dense", the
        checksum of the dense model.
    metric : str, optional
        Metric of the rows. If it is not known yet, call `check_metric` later.

    Raises
    ------
    ArgumentError
        If the file cannot be written; if it holds no rows of a study, rows without the checksum of
        the dense model, or rows of another metric; or if it holds trials of a tuning although
        `key` has no "trial".
    """

    def __init__(self, path: str | Path, key: Sequence[str], metric: str | None = None) -> None:
        check_output(path, "out")
        self.path = Path(path)
        self.key = tuple(key)
        self._same = read_same(self.path.parent / SAME)
        self._rows = self._read()
        if metric is not None:
            self.check_metric(metric)

    @property
    def metric(self) -> str | None:
        """Metric of the recorded rows. None if the loss is their only metric."""
        names = {column.removeprefix("dev_") for column in self._columns("dev_")}
        return next(iter(names - {"loss"}), None)

    def check_metric(self, metric: str) -> None:
        """Raise an ArgumentError if the file holds rows of another metric."""
        expected = {f"dev_{metric}", f"test_{metric}", "dev_loss"}
        others = sorted(self._columns("dev_", "test_") - expected)
        if others:
            raise ArgumentError(
                f"out is {str(self.path)!r}, which has the column {others[0]!r}: expected rows of "
                f"metric {metric!r}; choose another file"
            )

    def get(self, key: Mapping[str, Any], version: str | None = None) -> dict[str, Any] | None:
        """Return the row with this key, or None.

        If a version is given, the row must have it, or a version that gives the same results
        according to `same_results.csv`, see `read_same`.
        """
        row = self._rows.get(self._key_of(key))
        if row is None or version in (None, row["version"]):
            return row
        return row if (row["version"], version) in self._same else None

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row, together with the rows that other processes have added, to the file."""
        with locked(self.path, wait=-1):
            self._rows |= self._read() | {self._key_of(row): dict(row)}
            full = max(self._rows.values(), key=len)  # a run that diverged has fewer columns
            columns = [*self.key, *(column for column in full if column not in self.key)]
            rows = pd.DataFrame(self._rows[key] for key in sorted(self._rows))
            with replacing(self.path) as file:
                rows.to_csv(file, columns=columns, index=False)

    def _read(self) -> dict[tuple, dict[str, Any]]:
        if not self.path.is_file():
            return {}
        rows = read_rows(self.path, [column for column in self.key if column != "dense"])
        if "trial" in rows and "trial" not in self.key:
            raise ArgumentError(
                f"out is {str(self.path)!r}, which holds trials of a tuning: expected a file for "
                "runs; choose another file"
            )
        if "dense" not in rows or (rows["dense"] == "").any():
            raise ArgumentError(
                f"out is {str(self.path)!r}, whose rows do not all name their dense model (column "
                "'dense'), so they may belong to another study: choose another file for out"
            )
        return {self._key_of(row): row for row in rows.to_dict("records")}

    def _key_of(self, row: Mapping[str, Any]) -> tuple:
        return tuple(row[column] for column in self.key)

    def _columns(self, *prefixes: str) -> set[str]:
        return {c for row in self._rows.values() for c in row if c.startswith(prefixes)}


def read_rows(path: str | Path, key: Sequence[str] = ("task", "method", "seed")) -> pd.DataFrame:
    """Read the rows of a study: floats exactly, counts of errors and of words as text.

    Parameters
    ----------
    path : str or Path
    key : sequence of str
        Columns that the file must have.

    Returns
    -------
    DataFrame

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ArgumentError
        If the file is not a CSV file, or lacks a column of `key`.
    """
    # pandas.read_csv is not used, because its versions differ in the last bit of a float.
    try:
        with Path(path).open(newline="") as file:
            records = list(csv.DictReader(file, strict=True))
        rows = pd.DataFrame(
            {name: text if name in TEXT else _number(text) for name, text in record.items()}
            for record in records
        )
    except (csv.Error, AttributeError, TypeError, ValueError) as error:
        raise ArgumentError(
            f"{path} holds no rows of a study: expected a CSV file that compare or tune wrote "
            f"({error})"
        ) from None
    missing = [column for column in key if column not in rows]
    if missing:
        raise ArgumentError(f"{path} holds no rows of a study: it lacks the column {missing[0]!r}")
    return rows


def read_same(path: str | Path) -> dict[tuple[str, str], int]:
    """Read which versions of the sources give the same results.

    Parameters
    ----------
    path : str or Path
        A CSV file with the columns "recorded" and "now", two versions, and "rows": how many rows
        of the first one were measured again with the second one, with results equal to the last
        bit. Without the file there are no such versions.

    Returns
    -------
    dict
        From (recorded, now) to the number of rows.

    Raises
    ------
    ArgumentError
        If the file does not have this form.
    """
    if not Path(path).is_file():
        return {}
    with Path(path).open(newline="") as file:
        records = list(csv.DictReader(file))
    try:
        return {(r["recorded"], r["now"]): int(r["rows"]) for r in records}
    except (KeyError, TypeError, ValueError) as error:
        raise ArgumentError(
            f"{path} does not say which versions give the same results: expected the columns "
            f"recorded, now and rows ({error})"
        ) from None


def _number(text: str) -> int | float:
    return int(text) if text.isdecimal() else float(text or "nan")


def pack_counts(counts: np.ndarray) -> str:
    """Write small counts as text.

    If all counts are at most 35, the text is ":" and one base-36 digit for each count: [0, 2, 11]
    is ":02b". If one count is larger, each count is written in decimals after a comma: [0, 40] is
    ",0,40". Because of the first character, pandas does not read the text as a number.

    Parameters
    ----------
    counts : ndarray of int, shape (n,)
        All >= 0.

    Returns
    -------
    str

    Raises
    ------
    ArgumentError
        If the counts are not integers >= 0 in one dimension.
    """
    counts = np.asarray(counts)
    if counts.ndim != 1 or not np.issubdtype(counts.dtype, np.integer) or (counts < 0).any():
        raise ArgumentError(
            f"counts have dtype {counts.dtype} and shape {counts.shape}: expected integers >= 0, "
            "shape (n,)"
        )
    if counts.max(initial=0) < len(BASE36):
        return ":" + "".join(BASE36[c] for c in counts)
    return "".join(f",{c}" for c in counts)


def unpack_counts(text: str) -> np.ndarray:
    """Read what `pack_counts` wrote.

    Parameters
    ----------
    text : str

    Returns
    -------
    ndarray of int, shape (n,)

    Raises
    ------
    ArgumentError
        If the text does not have the form that `pack_counts` writes.
    """
    try:
        if text.startswith(":"):
            return np.array([BASE36.index(c) for c in text[1:]], dtype=np.int64)
        if text.startswith(","):
            return np.array([int(c) for c in text[1:].split(",")], dtype=np.int64)
    except (AttributeError, ValueError):
        pass
    shown = repr(text[:40]) if isinstance(text, str) else repr(text)
    raise ArgumentError(
        f"text is {shown}: expected counts as pack_counts writes them, such as ':02b'"
    )
