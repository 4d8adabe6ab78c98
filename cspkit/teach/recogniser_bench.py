"""What the benches of recognisers share: dense models on disk, small models, kept models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import numpy as np
import pandas as pd

from cspkit.arguments import count
from cspkit.asr import SpeechTask, Transducer, TransducerConfig, load_transducer, save_transducer
from cspkit.asr.corpus import data_folder
from cspkit.asr.digits import DENSE_STEPS
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
class RecogniserBench:
    """Base of a `cspkit.study.bench.Bench` with a dense recogniser for each fold.

    The dense recogniser of fold i is trained with seed i. Several processes may use the same
    folder. If two processes need the same dense model, one of them trains it and the other waits
    for the file.

    Attributes
    ----------
    models : str
        Folder of the checkpoints of dense models.
    dense_steps : int
        Steps of the dense training.
    width : int
        Units of each LSTM and of the joiner.
    kept : str, optional
        Folder that gets the model of every run, as a packed file without loss.
    """

    models: str = "build"
    dense_steps: int = DENSE_STEPS
    width: int = 128
    kept: str | None = None

    def __post_init__(self) -> None:
        count("dense_steps", self.dense_steps)
        count("width", self.width)

    # What each bench must have

    @property
    def name(self) -> str:
        """Name of the task, in rows and file names."""
        raise NotImplementedError

    def fold(self, seed: int) -> int | str:
        """Return the fold, or the speaker, that a seed holds out."""
        raise NotImplementedError

    def task(self, seed: int, curriculum: int = 0) -> SpeechTask:
        """Return the task of a seed."""
        raise NotImplementedError

    def number(self, seed: int) -> int:
        """Return the number of the fold of a seed."""
        raise NotImplementedError

    def config(self, seed: int) -> TransducerConfig:
        """Return the sizes and units of the recognisers of a seed."""
        raise NotImplementedError

    def facts(self, seed: int) -> dict[str, object]:
        """Return what the checkpoint of a dense model records."""
        return {"fold": self.fold(seed), "seed": seed, "steps": self.dense_steps}

    # What all of them share

    def __call__(self, seed: int) -> tuple[SpeechTask, Transducer]:
        """Return the task of a seed and its dense model. Train the model if it has no file."""
        self._train(self.number(seed))
        return self.task(seed), load_transducer(self.checkpoint(seed))

    def prepare(self, seeds: Sequence[int], jobs: int | None = None) -> None:
        """Train the dense models that have no file. A run that was interrupted continues."""
        folds = sorted({self.number(seed) for seed in seeds})
        missing = [fold for fold in folds if not self.checkpoint(fold).is_file()]
        joblib.Parallel(n_jobs=jobs)(joblib.delayed(self._train)(fold) for fold in missing)

    def small(self, seed: int, n_weights: int, steps: int) -> Transducer:
        """Train a dense model of about `n_weights` weights, for `dense_steps` + `steps` steps."""
        config, widths = self.config(seed), range(2, self.width + 1)
        sizes = ("encoder_size", "predictor_size", "joiner_size")
        configs = [replace(config, **dict.fromkeys(sizes, width)) for width in widths]
        counts = [sum(p.numel() for p in Transducer(c).parameters()) for c in configs]
        nearest = widths[int(np.argmin(np.abs(np.array(counts) - n_weights)))]
        return replace(self, width=nearest, dense_steps=self.dense_steps + steps)._trained(seed)

    def keep(self, run: Run, model: Transducer) -> None:
        """Write the model of a compared run to the folder of kept models, if there is one."""
        if self.kept is not None and run.trial is None:  # no trial of a tuning
            zeros = f"_{run.sparsity:g}" if run.sparsity else ""
            name = f"{run.entry.name}{zeros}_steps{run.steps}_seed{run.seed}.csp"
            pack(model, Path(self.kept) / name)

    def checkpoint(self, seed: int) -> Path:
        """Return the file of the dense model of a seed."""
        return Path(self.models) / f"{self.name}-seed{self.number(seed)}.safetensors"

    def _trained(self, seed: int, state_file: Path | None = None) -> Transducer:
        task = self.task(seed, curriculum=self.dense_steps)
        model, rng = task.new_model(seed), np.random.default_rng(seed)
        train(model, task, self.dense_steps, rng=rng, state_file=state_file)
        return model

    def _train(self, seed: int) -> None:
        path = self.checkpoint(seed)
        if path.is_file():
            return
        check_output(path, "models")
        with locked(path, wait=-1):
            if not path.is_file():  # otherwise another process has trained the model meanwhile
                model = self._trained(seed, path.with_name(path.name + ".state"))
                save_transducer(model, path, **self.facts(seed))


def compare_recognisers(
    bench: RecogniserBench,
    methods: Sequence[str] | None,
    sparsities: Sequence[float],
    seeds: Sequence[int],
    steps: int | Sequence[int],
    *,
    out: Path,
    jobs: int | None = None,
    tuning: bool = False,
) -> pd.DataFrame:
    """Compare pruning methods on recognisers. Train dense models that have no file.

    Parameters
    ----------
    bench : RecogniserBench
    methods : sequence of str, optional
        Names that `cspkit.study.entry` accepts. The default is all methods.
    sparsities, seeds, steps, out, jobs
        See `cspkit.study.compare`.
    tuning : bool
        Whether to search for settings. The search runs `tune` at the first of the lengths, then
        `finals`, and writes the trials to a file next to `out`. Without a search, the settings are
        those of the recorded tuning on the embedded corpus; a method that was not tuned uses its
        default settings.

    Returns
    -------
    DataFrame

    Raises
    ------
    ArgumentError
        If an argument is wrong, before anything is trained.
    """
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
