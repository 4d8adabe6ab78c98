"""The spoken digits as the bench of a study: each seed holds out one fold or one speaker."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from cspkit.arguments import count, one_of
from cspkit.asr import DigitTask, TransducerConfig, checkpoint_facts, load_spoken_digits
from cspkit.asr.corpus import N_FOLDS, data_folder
from cspkit.asr.transducer_config import config_for
from cspkit.teach.recogniser_bench import RecogniserBench, compare_recognisers


@dataclass(frozen=True)
class DigitBench(RecogniserBench):
    """The digits, with a dense recogniser for each fold.

    Seed i has fold i modulo F, with F the number of folds.

    Attributes
    ----------
    models, dense_steps, width, kept
        See `RecogniserBench`.
    units : {"words", "characters"}
    split : {"takes", "speakers"}
        Which recordings a fold holds out for testing: with "takes" those of a fold of the corpus
        (F = 5), with "speakers" those of a speaker (F = 6).
    pool : int, optional
        See `cspkit.asr.DigitTask`. The default is that of the task.
    embedded : bool
        Whether to use the checkpoints that come with the package. A checkpoint is used only if it
        was trained with the same fold, seed and number of steps.
    """

    units: str = "words"
    split: str = "takes"
    pool: int | None = None
    embedded: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("split", self.split, ("takes", "speakers"))
        self.config()

    @property
    def name(self) -> str:
        """Name of the task, in rows and file names."""
        pool = "" if self.pool is None else f"-pool{self.pool}"
        return f"digits-{self.units}-{self.split}-{self.width}-{self.dense_steps}{pool}"

    def config(self, seed: int = 0) -> TransducerConfig:
        """Return the sizes and units of the recognisers."""
        return config_for(self.units, self.width)

    def task(self, seed: int, curriculum: int = 0) -> DigitTask:
        """Return the task of a seed."""
        pool = 0 if curriculum else self.pool
        options = {"config": self.config(), "curriculum": curriculum, "pool": pool}
        return DigitTask(fold=self.fold(seed), **options)

    def checkpoint(self, seed: int) -> Path:
        """Return the file of the dense model of a seed."""
        seed = self.number(seed)
        path = data_folder() / "models" / f"dense_fold{seed}.safetensors"
        usual = (self.config(), self.split) == (TransducerConfig(), "takes")
        if self.embedded and usual and path.is_file():
            command = f"python -m cspkit train --fold {seed} --seed {seed} --steps "
            if checkpoint_facts(path).get("command") == f"{command}{self.dense_steps}":
                return path
        return Path(self.models) / f"{replace(self, pool=None).name}-seed{seed}.safetensors"

    def fold(self, seed: int) -> int | str:
        """Return the fold or the speaker that a seed holds out."""
        return self._folds[self.number(seed)]

    @property
    def _folds(self) -> list[int] | list[str]:
        if self.split == "speakers":
            return load_spoken_digits().speakers()
        return list(range(N_FOLDS))

    def number(self, seed: int) -> int:
        """Return the number of the fold of a seed."""
        return count("an entry of seeds", seed, least=0) % len(self._folds)


def compare_digits(
    *study: Any, dense: Path | None = None, keep: Path | None = None, **options: Any
) -> pd.DataFrame:
    """Compare pruning methods on the embedded corpus. Train dense models that have no file.

    Parameters
    ----------
    *study, **options
        The arguments of `compare_recognisers` after the bench.
    dense : Path, optional
        Folder for dense models, which are then trained in this run. The default is to use the
        dense models that come with the package.
    keep : Path, optional
        Folder for the models of all runs, see `DigitBench`. Runs that are recorded already are not
        repeated, so they leave no model.

    Returns
    -------
    DataFrame

    Raises
    ------
    ArgumentError
        If an argument is wrong, before anything is trained.
    """
    # A worker of a cluster has another working folder: absolute paths.
    bench = DigitBench() if dense is None else DigitBench(str(dense.absolute()), embedded=False)
    bench = replace(bench, kept=None if keep is None else str(keep.absolute()))
    return compare_recognisers(bench, *study, **options)
