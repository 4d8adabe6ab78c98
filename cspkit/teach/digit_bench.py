"""The spoken digits as the bench of a study: each seed holds out one fold or one speaker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import numpy as np
import pandas as pd

from cspkit.arguments import count, one_of
from cspkit.asr import (
    DigitTask,
    Transducer,
    TransducerConfig,
    checkpoint_facts,
    load_spoken_digits,
    load_transducer,
    save_transducer,
)
from cspkit.asr.corpus import N_FOLDS, data_folder
from cspkit.asr.digits import DENSE_STEPS
from cspkit.asr.transducer import config_for
from cspkit.deploy import pack
from cspkit.files import check_output, locked
from cspkit.pruning import PRUNERS
from cspkit.study import compare, finals, tune, tuned
from cspkit.study.entries import Run
from cspkit.study.grid import KEY, grid
from cspkit.study.rows import Rows
from cspkit.study.tuning import KEY as TUNING_KEY
from cspkit.training import train


@dataclass(frozen=True)
class DigitBench:
    """A `cspkit.study.bench.Bench`: the digits, with a dense recogniser for each fold.

    Seed i has fold i modulo F, with F the number of folds. The dense recogniser of fold i is
    trained with seed i.

    Several processes may use the same folder. If two processes need the same dense model, one of
    them trains it and the other waits for the file.

    Attributes
    ----------
    models : str
        Folder of the checkpoints of dense models.
    dense_steps : int
        Steps of the dense training.
    width : int
        Units of each LSTM and of the joiner.
    units : {"words", "characters"}
    split : {"takes", "speakers"}
        Which recordings a fold holds out for testing: with "takes" those of a fold of the corpus
        (F = 5), with "speakers" those of a speaker (F = 6).
    pool : int, optional
        See `cspkit.asr.DigitTask`. The default is that of the task.
    embedded : bool
        Whether to use the checkpoints that come with the package. A checkpoint is used only if it
        was trained with the same fold, seed and number of steps.
    kept : str, optional
        Folder that gets the model of every run, as a packed file without loss.
    """

    models: str = "build"
    dense_steps: int = DENSE_STEPS
    width: int = 128
    units: str = "words"
    split: str = "takes"
    pool: int | None = None
    embedded: bool = True
    kept: str | None = None

    def __post_init__(self) -> None:
        config_for(self.units, self.width)
        count("dense_steps", self.dense_steps)
        one_of("split", self.split, ("takes", "speakers"))

    @property
    def name(self) -> str:
        """Name of the task, in rows and file names."""
        pool = "" if self.pool is None else f"-pool{self.pool}"
        return f"digits-{self.units}-{self.split}-{self.width}-{self.dense_steps}{pool}"

    @property
    def config(self) -> TransducerConfig:
        """Sizes and units of the recognisers."""
        return config_for(self.units, self.width)

    def __call__(self, seed: int) -> tuple[DigitTask, Transducer]:
        """Return the task of a seed and its dense model. Train the model if it has no file."""
        self._train(self._number(seed))
        task = DigitTask(fold=self.fold(seed), config=self.config, pool=self.pool)
        return task, load_transducer(self.checkpoint(seed))

    def prepare(self, seeds: Sequence[int], jobs: int | None = None) -> None:
        """Train the dense models that have no file. A run that was interrupted continues."""
        folds = sorted({self._number(seed) for seed in seeds})
        missing = [fold for fold in folds if not self.checkpoint(fold).is_file()]
        joblib.Parallel(n_jobs=jobs)(joblib.delayed(self._train)(fold) for fold in missing)

    def small(self, seed: int, n_weights: int, steps: int) -> Transducer:
        """Train a dense model of about `n_weights` weights, for `dense_steps` + `steps` steps."""
        narrower = [replace(self, width=width) for width in range(2, self.width + 1)]
        counts = [sum(p.numel() for p in Transducer(b.config).parameters()) for b in narrower]
        nearest = int(np.argmin(np.abs(np.array(counts) - n_weights)))
        bench = replace(narrower[nearest], dense_steps=self.dense_steps + steps)
        return bench._trained(seed)

    def keep(self, run: Run, model: Transducer) -> None:
        """Write the model of a compared run to the folder of kept models, if there is one."""
        if self.kept is not None and run.trial is None:  # no trial of a tuning
            zeros = f"_{run.sparsity:g}" if run.sparsity else ""
            name = f"{run.entry.name}{zeros}_steps{run.steps}_seed{run.seed}.csp"
            pack(model, Path(self.kept) / name)

    def checkpoint(self, seed: int) -> Path:
        """Return the file of the dense model of a seed."""
        seed = self._number(seed)
        path = data_folder() / "models" / f"dense_fold{seed}.safetensors"
        usual = (self.config, self.split) == (TransducerConfig(), "takes")
        if self.embedded and usual and path.is_file():
            command = f"python -m cspkit train --fold {seed} --seed {seed} --steps "
            if checkpoint_facts(path).get("command") == f"{command}{self.dense_steps}":
                return path
        return Path(self.models) / f"{replace(self, pool=None).name}-seed{seed}.safetensors"

    def fold(self, seed: int) -> int | str:
        """Return the fold or the speaker that a seed holds out."""
        return self._folds[self._number(seed)]

    @property
    def _folds(self) -> list[int] | list[str]:
        if self.split == "speakers":
            return load_spoken_digits().speakers()
        return list(range(N_FOLDS))

    def _number(self, seed: int) -> int:
        """Return the number of the fold of a seed."""
        return count("an entry of seeds", seed, least=0) % len(self._folds)

    def _trained(self, seed: int, state_file: Path | None = None) -> Transducer:
        task = DigitTask(fold=self.fold(seed), config=self.config, curriculum=self.dense_steps)
        model = task.new_model(seed)
        rng = np.random.default_rng(seed)
        train(model, task, self.dense_steps, rng=rng, state_file=state_file)
        return model

    def _train(self, seed: int) -> None:
        path, fold = self.checkpoint(seed), self.fold(seed)
        if path.is_file():
            return
        check_output(path, "models")
        with locked(path, wait=-1):
            if not path.is_file():  # otherwise another process has trained the model meanwhile
                model = self._trained(seed, path.with_name(path.name + ".state"))
                save_transducer(model, path, fold=fold, seed=seed, steps=self.dense_steps)


def compare_digits(
    methods: Sequence[str] | None,
    sparsities: Sequence[float],
    seeds: Sequence[int],
    steps: int | Sequence[int],
    *,
    out: Path,
    jobs: int | None = None,
    tuning: bool = False,
    dense: Path | None = None,
    keep: Path | None = None,
) -> pd.DataFrame:
    """Compare pruning methods on the embedded corpus. Train dense models that have no file.

    Parameters
    ----------
    methods : sequence of str, optional
        Names that `cspkit.study.entry` accepts. The default is all methods.
    sparsities, seeds, steps, out, jobs
        See `cspkit.study.compare`.
    tuning : bool
        Whether to search for settings. The search runs `tune` at the first of the lengths, then
        `finals`, and writes the trials to a file next to `out`. Without a search, the settings are
        those of the recorded tuning; a method that was not tuned uses its default settings.
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
    bench = DigitBench() if dense is None else DigitBench(str(dense), embedded=False)
    bench = replace(bench, kept=None if keep is None else str(keep))
    methods = methods or ["dense", "dense+", *PRUNERS]
    runs = grid(methods, sparsities, seeds, steps, {})
    for run in runs:
        bench.fold(run.seed)
    out = Path(out)
    trials = out.with_name(f"{out.stem}_tuning.csv")
    Rows(out, KEY, "wer")  # refuses a file that the study cannot continue
    names = {run.entry.name: None for run in runs if run.steps and run.entry.rate}
    tuning = tuning and bool(names)
    if tuning:
        Rows(trials, TUNING_KEY, "wer")
    bench.prepare(sorted({run.seed for run in runs} | ({0, 1, 2} if tuning else set())), jobs)
    recorded = data_folder() / "results" / "pruning_tuning.csv"
    if tuning:
        length = next(run.steps for run in runs if run.steps)
        tune(bench, list(names), out=trials, steps=length, jobs=jobs)
        settings = tuned(finals(bench, out=trials, jobs=jobs))
    else:
        settings = tuned(recorded) if recorded.is_file() else {}
    return compare(bench, methods, sparsities, seeds, steps, out=out, settings=settings, jobs=jobs)
