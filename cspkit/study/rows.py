"""Rows of a study on disk: a CSV file that grows run by run and survives a kill."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

TEXT = ("task", "method", "settings", "version", "errors", "words")
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Rows:
    """The rows of one file, each under its key; the file is always sorted and whole.

    A row is written beside the file, which is then replaced in one move. Only one process may
    write a file.

    Parameters
    ----------
    path : str or Path
        Read where it exists.
    key : sequence of str
        Columns that tell a row from all others; they order the file too.
    metric : str
        Of the rows.

    Raises
    ------
    ValueError
        If the path is a folder, or the file is no record of such rows: has another metric, or
        trials of a tuning where none are asked for.
    """

    def __init__(self, path: str | Path, key: Sequence[str], metric: str) -> None:
        self.path = Path(path)
        self.key = tuple(key)
        self._rows: dict[tuple, dict[str, Any]] = {}
        if self.path.is_dir():
            raise ValueError(f"out is {path}, a folder: expected a CSV file")
        if self.path.is_file():
            recorded = read_rows(self.path, self.key)
            self._refuse_others(recorded.columns, metric)
            for row in recorded.to_dict("records"):
                self._rows[self._key_of(row)] = row

    def _refuse_others(self, columns: Sequence[str], metric: str) -> None:
        if "trial" in columns and "trial" not in self.key:
            raise ValueError(f"{self.path} holds trials of a tuning: expected a file for runs")
        own = {f"dev_{metric}", f"test_{metric}", "dev_loss"}
        for column in columns:
            if column.startswith(("dev_", "test_")) and column not in own:
                raise ValueError(f"{self.path} has {column!r}: expected rows of metric {metric!r}")

    def _key_of(self, row: Mapping[str, Any]) -> tuple:
        return tuple(row[column] for column in self.key)

    def get(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """The row with this key, or None."""
        return self._rows.get(self._key_of(key))

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row and write the file."""
        self._rows[self._key_of(row)] = dict(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(self.path.name + ".part")
        full = max(self._rows.values(), key=len)  # a run that diverged has fewer columns
        columns = [*self.key, *(column for column in full if column not in self.key)]
        rows = pd.DataFrame(self._rows[key] for key in sorted(self._rows))
        rows.to_csv(beside, columns=columns, index=False)
        beside.replace(self.path)


def read_rows(path: str | Path, key: Sequence[str] = ("task", "method", "seed")) -> pd.DataFrame:
    """Read the rows of a study, floats to the last bit and counts as text.

    Parameters
    ----------
    path : str or Path
    key : sequence of str
        Columns that must be there.

    Returns
    -------
    DataFrame

    Raises
    ------
    FileNotFoundError
    ValueError
        If the file is no CSV file, or lacks a column.
    """
    # Not read by pandas, whose versions differ in what they do to the last bit.
    try:
        with Path(path).open(newline="") as file:
            records = list(csv.DictReader(file, strict=True))
        rows = pd.DataFrame(
            {name: text if name in TEXT else _number(text) for name, text in record.items()}
            for record in records
        )
    except (csv.Error, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no rows of a study: {error}") from None
    missing = [column for column in key if column not in rows]
    if missing:
        raise ValueError(f"{path} holds no rows of a study: it lacks the column {missing[0]!r}")
    return rows


def _number(text: str) -> int | float:
    return int(text) if text.isdecimal() else float(text or "nan")


def pack_counts(counts: np.ndarray) -> str:
    """Write small counts as text.

    Up to 35, ":" and one base-36 digit for each: [0, 2, 11] is ":02b". If a count is larger, ","
    and decimals between commas: [0, 40] is ",0,40". The first character keeps a table reader
    from taking the text for a number.

    Parameters
    ----------
    counts : ndarray of int, shape (n,)
        All >= 0.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If these are no counts.
    """
    counts = np.asarray(counts)
    if counts.ndim != 1 or not np.issubdtype(counts.dtype, np.integer) or (counts < 0).any():
        raise ValueError(
            f"counts have dtype {counts.dtype} and shape {counts.shape}: expected integers >= 0, "
            "shape (n,)"
        )
    if counts.max(initial=0) < len(DIGITS):
        return ":" + "".join(DIGITS[c] for c in counts)
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
    ValueError
        If the text is none of that kind.
    """
    try:
        if text.startswith(":"):
            return np.array([DIGITS.index(c) for c in text[1:]], dtype=np.int64)
        if text.startswith(","):
            return np.array([int(c) for c in text[1:].split(",")], dtype=np.int64)
    except ValueError:
        pass
    raise ValueError(f"counts are {text[:40]!r}: expected what pack_counts writes, such as ':02b'")
