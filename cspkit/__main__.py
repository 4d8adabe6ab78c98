"""The command line of cspkit.

doctor | train | prune | compare | pack | report | manifest | transcribe

Several processes train or prune together: torchrun --nproc-per-node 2 -m cspkit train ...

Exit codes: 0 success; 1 failure; 2 the call was wrong, or a file that it names is unusable;
130 interrupted with Ctrl-C.
"""

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
from cspkit.options import check, parse, with_option

# Each command imports what it needs, so that --help starts at once and `doctor` can say what is
# missing.


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # print an escape if encoding fails
            stream.reconfigure(errors="backslashreplace")
    call = parse(arguments)
    try:
        with _together(call):
            check(call)
            code = COMMANDS[call.name](call)
        sys.stdout.flush()
        return code
    except ArgumentError as error:
        code, message = 2, with_option(call, str(error))
    except KeyboardInterrupt as error:
        code, message = 130, str(error) or "interrupted"
    except ModuleNotFoundError as error:
        code, message = 1, f"{error}; pip install 'cspkit[teach]' installs what every command needs"
    except BrokenPipeError:  # the reader of the output has ended, for example `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (FloatingPointError, OSError) as error:
        code, message = 1, str(error)
    print(f"{call.prog}: {message}", file=sys.stderr)
    return code


def doctor(call: argparse.Namespace) -> int:
    from cspkit.doctor import examine

    findings = examine()
    if call.json:
        print(json.dumps([f._asdict() for f in findings]))
    else:
        for finding in findings:
            print(f"[{'OK' if finding.ok else 'FAIL'}] {finding.requirement}: {finding.found}")
    return 0 if all(f.ok for f in findings) else 1


def train_command(call: argparse.Namespace) -> int:
    target = _target(call)

    import numpy as np

    from cspkit.asr import DigitTask, load_spoken_digits, save_transducer
    from cspkit.asr.transducer import config_for
    from cspkit.training import train

    device = _usable(call.device)
    corpus = _of_project(load_spoken_digits)
    config = config_for(call.units)
    task = DigitTask(corpus, fold=call.fold, config=config, curriculum=call.steps)
    model = task.new_model(call.seed).to(device)
    command = f"python -m cspkit train --fold {call.fold} --seed {call.seed} --steps {call.steps}"
    if call.units != "words":
        command += f" --units {call.units}"
    if call.autocast is not None:
        command += f" --autocast {call.autocast}"
    with _resumable(call, target) as options:
        train(model, task, call.steps, rng=np.random.default_rng(call.seed), **options)
        if _follows():
            return 0
        save_transducer(model, target, command=command, fold=call.fold, seed=call.seed)
    _report(call, task, model, {"seconds": options["on_step"].seconds})
    return 0


def prune_command(call: argparse.Namespace) -> int:
    target = _target(call)

    import numpy as np

    from cspkit.asr import DigitTask, load_spoken_digits, save_transducer
    from cspkit.asr.checkpoint import checkpoint_facts, is_packed
    from cspkit.pruning import PRUNERS, prune

    one_of("--method", call.method, tuple(PRUNERS))
    device = _usable(call.device)
    dense = _model(call).to(device)
    packed = call.model is not None and is_packed(call.model)  # such a file has no facts
    facts = {} if packed else checkpoint_facts(call.model or default_model())
    fold = facts.get("fold", 0) if call.fold is None else call.fold
    task = DigitTask(_of_project(load_spoken_digits), fold=fold, config=dense.config)
    recipe = {"method": call.method, "sparsity": call.sparsity}
    training = {"steps": call.steps, "rate": call.rate, "mu": call.mu}
    with _resumable(call, target) as options:
        rng = np.random.default_rng(call.seed)
        pruned = prune(dense, task, **recipe, **training, rng=rng, **options)
        if _follows():
            return 0
        save_transducer(pruned.model, target, **recipe, fold=fold, seed=call.seed)
    figures = {"sparsity": pruned.sparsity, "nonzeros": pruned.n_nonzero}
    _report(call, task, pruned.model, {"seconds": options["on_step"].seconds, **figures})
    return 0


def compare_command(call: argparse.Namespace) -> int:
    from cspkit.files import check_output

    check_output(call.out, "--out")
    if call.tune:
        check_output(call.out.with_name(f"{call.out.stem}_tuning.csv"), "--out with --tune")
    if call.train_dense is not None:
        check_output(call.train_dense / "model", "a file in --train-dense")
    if call.keep is not None:
        check_output(call.keep / "model", "a file in --keep")

    from cspkit.asr import load_spoken_digits
    from cspkit.study import entry, summary, table
    from cspkit.study.entries import UNPRUNED
    from cspkit.teach.digit_bench import compare_digits
    from cspkit.teach.kept_models import kept_models, table_of_models

    _of_project(load_spoken_digits)
    finished = f"interrupted; finished runs are in {call.out}: repeat the call to continue"
    with _interrupt_says(finished):
        rows = compare_digits(
            call.methods or (["dense", "gmp", "csp"] if call.quick else None),
            call.sparsities or ([0.95] if call.quick else [0.8, 0.9, 0.95, 0.98]),
            call.seeds or ([0] if call.quick else [0, 1, 2, 3, 4]),
            call.steps or (150 if call.quick else 600),
            out=call.out,
            jobs=call.jobs,
            tuning=call.tune,
            dense=call.train_dense,
            keep=call.keep,
        )
    asked = [entry(name).name for name in call.methods or ["csp"]]
    against = next((m for m in sorted(asked, key="csp".__ne__) if m not in UNPRUNED), "csp")
    if call.json:
        lines = json.loads(summary(rows, against=against).to_json(orient="records"))
        kept = [] if call.keep is None else kept_models(call.keep).reset_index(names="model")
        files = [] if call.keep is None else json.loads(kept.to_json(orient="records"))
        print(json.dumps({"out": str(call.out), "summary": lines, "models": files}))
    else:
        print(table(rows, against=against))
        if call.keep is not None:
            print(f"\n{table_of_models(kept_models(call.keep))}")
        print(f"written: {call.out}")
    return 0


def pack_command(call: argparse.Namespace) -> int:
    from cspkit.deploy import pack
    from cspkit.files import check_output

    target = check_output(call.out, "--out")
    model = _model(call)
    pack(model, target, bits=call.bits)
    parameters = sum(tensor.numel() for tensor in model.parameters())
    facts = {"out": str(target), "bytes": target.stat().st_size, "parameters": parameters}
    print(json.dumps(facts) if call.json else f"written: {target}, {facts['bytes']} bytes")
    return 0


def report_command(call: argparse.Namespace) -> int:
    from cspkit.asr import Transducer, load_spoken_digits
    from cspkit.asr.checkpoint import is_packed
    from cspkit.asr.corpus import DIGITS
    from cspkit.deploy import report

    corpus = _of_project(load_spoken_digits)
    packed = call.model is not None and Path(call.model).is_file() and is_packed(call.model)
    model = _packed(call.model) if packed else _model(call)
    strings = []
    if isinstance(model, Transducer) and set(model.config.units) <= set(DIGITS):
        strings = corpus.strings("dev", 0)[:50]
    utterances = [(string.features, corpus.word_ends(string)) for string in strings]
    found = report(call.model if packed else model, bits=call.bits, utterances=utterances)
    print(found.to_json() if call.json else found)
    return 0


def manifest_command(call: argparse.Namespace) -> int:
    from cspkit.asr.manifest import check_manifest
    from cspkit.files import check_output

    names = [file.name for file in call.files]
    if call.out is not None and len(set(names)) < len(names):
        raise ArgumentError(f"FILE is {', '.join(names)}: expected different names with --out")
    outs = {f: None if call.out is None else call.out / f.name for f in call.files}
    for out in outs.values():
        if out is not None:
            check_output(out, "a file in --out")
    results = []
    for i, (file, out) in enumerate(outs.items()):
        try:  # a speaker stays in the first file that has them
            found = check_manifest(file, others=call.files[:i], out=out)
        except FileNotFoundError as error:
            raise ArgumentError(str(error)) from None
        results.append({
            "file": str(file), "good": found.n_good, "seconds": round(found.seconds, 3),
            "words": sum(found.units.values()), "faults": [f._asdict() for f in found.faults],
        })  # fmt: skip
        if not call.json:
            for fault in found.faults:
                print(f"{file}:{fault.line}: {fault.reason}")
            print(
                f"{file}: {found.n_good} good lines, {len(found.faults)} others; "
                f"{found.seconds / 60:.1f} minutes, {sum(found.units.values())} words"
            )
    if call.json:
        print(json.dumps(results))
    return 1 if any(result["faults"] for result in results) else 0


def transcribe_command(call: argparse.Namespace) -> int:
    from cspkit.asr import load_audio, mfcc, transcribe

    model = _model(call).to(_usable(call.device))
    rows: list[dict[str, str]] = []
    try:
        for file in call.files:
            try:
                text = transcribe(model, mfcc(*load_audio(file)), beam=call.beam)
            except (ArgumentError, OSError) as error:
                message = str(error) if file in str(error) else f"{file}: {error}"
                rows.append({"file": file, "error": message})
                message = message.replace(file, _printable(file))
                print(f"{call.prog}: {message}", file=sys.stderr)
                continue
            rows.append({"file": file, "text": text})
            if not call.json:  # print it now, in case a later file stops the program
                several = len(call.files) > 1
                print(f"{_printable(file)}: {text}" if several else text, flush=True)
    finally:
        if call.json:
            print(json.dumps(rows))
    return 2 if any("error" in row for row in rows) else 0


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
def _together(call: argparse.Namespace) -> Iterator[None]:
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


@contextmanager
def _interrupt_says(message: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(message) from None


def _report(call: argparse.Namespace, task, model, figures: dict[str, float]) -> None:
    """Measure the error rates; print all figures, as JSON with --json, otherwise as text."""
    with _interrupt_says(
        f"interrupted; {call.out} is written, but its error rates were not measured"
    ):
        for part in ("dev", "test"):
            figures[f"{part}_wer"] = task.evaluate(model, part)["wer"]
    if call.json:
        print(json.dumps({"out": str(call.out)} | figures))
        return
    for name, value in figures.items():
        if name.endswith("wer"):
            print(f"{name.replace('_wer', ' WER')}: {100 * value:.2f} %")
        else:
            print(f"{name}: {value if isinstance(value, int) else round(value, 6)}")
    print(f"written: {call.out}")


def _model(call: argparse.Namespace):
    """Load the checkpoint or packed file of --model, or the default one."""
    from cspkit.asr import Transducer, load_transducer
    from cspkit.asr.checkpoint import is_packed

    if call.model is None:
        return _of_project(load_transducer, default_model())
    try:
        packed = Path(call.model).is_file() and is_packed(call.model)
        model = None if packed else load_transducer(call.model)
    except (ArgumentError, OSError) as error:
        raise ArgumentError(f"--model: {error}") from None
    if packed and not isinstance(model := _packed(call.model), Transducer):
        raise ArgumentError(
            f"--model: {call.model} holds tensors without a configuration: expected a recogniser"
        )
    return model


def _packed(path: Path):
    """Load a packed file: a recogniser, or tensors by name."""
    from cspkit.deploy import PackError, load

    try:
        return load(path)
    except PackError as error:
        raise ArgumentError(f"--model: {error}") from None


def _of_project(load, *arguments):
    """Load data that come with the project. Damaged data raise OSError, not ArgumentError."""
    try:
        return load(*arguments)
    except ArgumentError as error:
        raise OSError(str(error)) from None


def default_model() -> Path:
    """Path of the dense checkpoint that comes with the project."""
    from cspkit.asr.corpus import data_folder

    return data_folder() / "models" / "dense_fold0.safetensors"


def _usable(device: str) -> str:
    """Return the name of a device; raise ArgumentError if torch cannot compute on it here."""
    import torch

    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise ArgumentError(f"--device is {device!r}, which torch cannot use: {reason}") from None
    return device


def _printable(name: str) -> str:
    """A file name on one line, with escapes for characters that a terminal cannot show."""
    return name if name.isprintable() else ascii(name)[1:-1]


COMMANDS = {
    "doctor": doctor,
    "train": train_command,
    "prune": prune_command,
    "compare": compare_command,
    "manifest": manifest_command,
    "pack": pack_command,
    "report": report_command,
    "transcribe": transcribe_command,
}

if __name__ == "__main__":
    sys.exit(main())
