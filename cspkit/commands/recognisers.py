"""`cspkit train` and `cspkit prune`, on one process or several."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from cspkit.arguments import ArgumentError, one_of
from cspkit.commands.models import (
    default_model,
    interrupt_says,
    model_of,
    of_project,
    usable_device,
)


def train_command(call: argparse.Namespace) -> int:
    target = _target(call)

    import numpy as np

    from cspkit.asr import save_transducer
    from cspkit.training import train

    device = usable_device(call.device)
    task, facts = _task(call, data_of(call), call.fold, curriculum=call.steps)
    model = task.new_model(call.seed).to(device)
    command = f"python -m cspkit train --fold {call.fold} --seed {call.seed} --steps {call.steps}"
    if call.units != "words":
        command += f" --units {call.units}"
    if call.autocast is not None:
        command += f" --autocast {call.autocast}"
    facts |= {"command": command, "fold": call.fold, "seed": call.seed}
    with _resumable(call, target) as options:
        train(model, task, call.steps, rng=np.random.default_rng(call.seed), **options)
        if _follows():
            return 0
        save_transducer(model, target, **facts)
    _report(call, task, model, {"seconds": options["on_step"].seconds})
    return 0


def prune_command(call: argparse.Namespace) -> int:
    target = _target(call)

    import numpy as np

    from cspkit.asr import save_transducer
    from cspkit.asr.checkpoint import checkpoint_facts, is_packed
    from cspkit.asr.speech_data import SpeechData
    from cspkit.pruning import PRUNERS, prune

    one_of("--method", call.method, tuple(PRUNERS))
    device = usable_device(call.device)
    dense = model_of(call).to(device)
    packed = call.model is not None and is_packed(call.model)  # such a file has no facts
    facts = {} if packed else checkpoint_facts(call.model or default_model())
    fold = facts.get("fold", 0) if call.fold is None else call.fold
    data = data_of(call)
    if data is None and "data" in facts:  # that of the dense model
        data = _read(SpeechData(**facts["data"]))
    task, facts = _task(call, data, fold, config=dense.config)
    recipe = {"method": call.method, "sparsity": call.sparsity}
    training = {"steps": call.steps, "rate": call.rate, "mu": call.mu}
    with _resumable(call, target) as options:
        rng = np.random.default_rng(call.seed)
        pruned = prune(dense, task, **recipe, **training, rng=rng, **options)
        if _follows():
            return 0
        save_transducer(pruned.model, target, **facts, **recipe, fold=fold, seed=call.seed)
    figures = {"sparsity": pruned.sparsity, "nonzeros": pruned.n_nonzero}
    _report(call, task, pruned.model, {"seconds": options["on_step"].seconds, **figures})
    return 0


def data_of(call: argparse.Namespace):
    """Return the SpeechData of --manifest; None for the embedded corpus."""
    from cspkit.asr.speech_data import SpeechData

    if call.manifest is None:
        for name in ("dev", "test", "by", "most_frames"):
            if getattr(call, name) is not None:
                option = f"--{name.replace('_', '-')}"
                raise ArgumentError(f"{option} is given without --manifest: expected both")
        if getattr(call, "units", None) == "pieces":
            raise ArgumentError("--units is 'pieces': expected --manifest with it")
        return None
    paths = {n: getattr(call, n) for n in ("manifest", "dev", "test", "cache")}
    found = {name: None if path is None else str(path.absolute()) for name, path in paths.items()}
    if hasattr(call, "units"):
        found |= {"units": call.units, "n_pieces": call.pieces, "width": call.width}
    options = {"by": call.by, "rules": call.text, "batch_size": call.batch_size or 16}
    options["most_frames"] = call.most_frames
    return _read(SpeechData(**found, **options))


def _read(data):
    """Read the manifests of SpeechData now, so that a wrong one is found before any work."""
    try:
        _ = data.corpus
    except FileNotFoundError as error:
        raise ArgumentError(f"--manifest: {error}") from None
    return data


def _task(call: argparse.Namespace, data, fold: int | str, *, config=None, curriculum: int = 0):
    """Return the task of a training, and the facts about its data for the checkpoint."""
    from cspkit.asr import DigitTask, load_spoken_digits
    from cspkit.asr.transducer_config import config_for

    if data is not None:
        return data.task(fold, config, curriculum), {"data": data.facts}
    config = config or config_for(call.units, call.width)
    options = {"fold": fold, "config": config, "batch_size": call.batch_size or 32}
    return DigitTask(of_project(load_spoken_digits), curriculum=curriculum, **options), {}


class _Stopwatch:
    """A watcher that adds up the training time of a run that may be interrupted and resumed."""

    def __init__(self, call: argparse.Namespace) -> None:
        self.settings: dict[str, object] = {}
        self._call, self._before, self._start = call, 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        """Time of training so far, without the time between an interruption and its resumption."""
        return self._before + time.perf_counter() - self._start

    def __call__(self, row: dict[str, float]) -> None:
        """Return None, so that the run continues."""

    def state(self) -> dict:
        import torch

        return {"seconds": torch.tensor(self.seconds)}

    def load_state(self, state: dict) -> None:
        self._before, self._start = float(state["seconds"]), time.perf_counter()

    def resume(self, rows: list[dict[str, float]]) -> None:
        if _follows():
            return
        steps = f"{len(rows)} of {self._call.steps}"
        print(f"{self._call.prog}: resumed at step {steps}", file=sys.stderr)


@contextmanager
def together(call: argparse.Namespace) -> Iterator[None]:
    """Connect the processes that torchrun started for `train` or `prune`."""
    if call.name not in ("train", "prune") or "RANK" not in os.environ:
        yield
        return
    from cspkit.distributed import session

    follows = os.environ["RANK"] != "0"
    try:
        with session(call.device) as call.device, warnings.catch_warnings():
            if follows:
                warnings.simplefilter("ignore")
            yield
    except KeyboardInterrupt:
        if follows:
            sys.exit(130)
        raise
    except Exception as error:
        # When one process ends, torchrun ends the others. So the message of the process that failed
        # first appears, and not the same message from all, nor that the connection to it is lost.
        time.sleep(2 * follows + 4 * isinstance(error, RuntimeError))
        raise


def _follows() -> bool:
    """Whether another process prints and writes for this one."""
    from cspkit.distributed import rank

    return rank() > 0


@contextmanager
def _resumable(call: argparse.Namespace, target: Path) -> Iterator[dict]:
    """Lock --out for this process; yield the arguments of a training that can be resumed."""
    from cspkit.distributed import barrier
    from cspkit.files import locked

    state_file = _state_file(target)
    with nullcontext() if _follows() else locked(target):
        if call.fresh and not _follows():
            state_file.unlink(missing_ok=True)
        barrier()
        try:
            yield {
                "accumulate": call.accumulate,
                "autocast": call.autocast,
                "state_file": state_file,
                "state_every": call.state_every,
                "on_step": _Stopwatch(call),
            }
        except KeyboardInterrupt as error:
            if str(error) or not state_file.is_file():
                raise
            raise KeyboardInterrupt(
                f"interrupted; the last saved state is in {state_file}: repeat the call to continue"
            ) from None
        except ArgumentError as error:
            fact, _, _ = str(error).partition("; delete")
            if str(state_file) not in fact:
                raise
            raise ArgumentError(
                f"{fact}; delete {state_file}, choose another --out, or start again with --fresh"
            ) from None


def _target(call: argparse.Namespace) -> Path:
    """Check --out and the state file next to it; return the file that is written."""
    from cspkit.files import check_output

    target = check_output(call.out, "--out")
    check_output(_state_file(target), "the state file of --out")
    return target


def _state_file(target: Path) -> Path:
    return target.with_name(f"{target.name}.state")


def _report(call: argparse.Namespace, task, model, figures: dict[str, float]) -> None:
    """Measure the error rates; print all figures, as JSON with --json, otherwise as text."""
    with interrupt_says(
        f"interrupted; {call.out} is written, but its error rates were not measured"
    ):
        for part in ("dev", "test"):
            figures[f"{part}_wer"] = task.evaluate(model, part)["wer"]
    if hasattr(task.corpus, "rules"):
        figures |= {"text": task.corpus.rules, "left_out": len(task.faults)}
    if call.json:
        print(json.dumps({"out": str(call.out)} | figures))
        return
    for name, value in figures.items():
        if name.endswith("wer"):
            print(f"{name.replace('_wer', ' WER')}: {100 * value:.2f} %")
        else:
            print(f"{name}: {round(value, 6) if isinstance(value, float) else value}")
    print(f"written: {call.out}")
