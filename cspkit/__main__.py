"""The command line: `python -m cspkit doctor | train | prune | compare | transcribe`.

Exit codes: 0 it worked, 1 it did not, 2 the call was wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

# What a stage needs is imported by its command, so that --help and `doctor` start at once
# and `doctor` can say what is missing.


def main(arguments: list[str] | None = None) -> int:
    parser = _parser()
    call = parser.parse_args(arguments)
    try:
        return call.command(call)
    except (ValueError, FileNotFoundError, IsADirectoryError, PermissionError) as error:
        print(f"cspkit {call.name}: {error}", file=sys.stderr)
        return 2
    except (FloatingPointError, OSError) as error:
        print(f"cspkit {call.name}: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        hint = "install what pyproject.toml lists, extras included: pip install '.[study]'"
        print(f"cspkit {call.name}: {error}; {hint}", file=sys.stderr)
        return 1


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
    import numpy as np

    from cspkit.asr import DigitTask, save_transducer
    from cspkit.asr.transducer import config_for
    from cspkit.training import train

    _writable(call.out)
    device = _usable(call.device)
    task = DigitTask(fold=call.fold, config=config_for(call.units), curriculum=call.steps)
    model = task.new_model(call.seed).to(device)
    start = time.perf_counter()
    state_file = call.out.with_name(call.out.name + ".state")
    train(model, task, call.steps, rng=np.random.default_rng(call.seed), state_file=state_file)
    seconds = time.perf_counter() - start
    command = f"python -m cspkit train --fold {call.fold} --seed {call.seed} --steps {call.steps}"
    if call.units != "words":
        command += f" --units {call.units}"
    save_transducer(model, call.out, command=command, fold=call.fold, seed=call.seed)
    _report(call, {"seconds": seconds, **_scores(task, model)})
    return 0


def prune_command(call: argparse.Namespace) -> int:
    import numpy as np

    from cspkit.asr import DigitTask, load_transducer, save_transducer
    from cspkit.asr.checkpoint import checkpoint_facts
    from cspkit.pruning import prune

    _writable(call.out)
    device = _usable(call.device)
    path = call.model or default_model()
    dense = load_transducer(path).to(device)
    fold = call.fold if call.fold is not None else checkpoint_facts(path).get("fold", 0)
    task = DigitTask(fold=fold, config=dense.config)
    start = time.perf_counter()
    pruned = prune(
        dense,
        task,
        call.method,
        call.sparsity,
        steps=call.steps,
        rate=call.rate,
        mu=call.mu,
        rng=np.random.default_rng(call.seed),
        state_file=call.out.with_name(call.out.name + ".state"),
    )
    seconds = time.perf_counter() - start
    save_transducer(
        pruned.model,
        call.out,
        method=call.method,
        sparsity=call.sparsity,
        fold=fold,
        seed=call.seed,
    )
    figures = {"seconds": seconds, "sparsity": pruned.sparsity, "nonzeros": pruned.n_nonzero}
    _report(call, figures | _scores(task, pruned.model))
    return 0


def compare_command(call: argparse.Namespace) -> int:
    from cspkit.study import entry, summary, table
    from cspkit.study.statistics import UNPRUNED
    from cspkit.teach.digit_bench import compare_digits

    _writable(call.out)
    rows = compare_digits(
        call.methods or (["dense", "gmp", "csp"] if call.quick else None),
        call.sparsities or ([0.95] if call.quick else [0.8, 0.9, 0.95, 0.98]),
        call.seeds or ([0] if call.quick else [0, 1, 2, 3, 4]),
        call.steps or (150 if call.quick else 600),
        out=call.out,
        jobs=call.jobs,
        tuning=call.tune,
        dense=call.train_dense,
    )
    asked = [entry(name).name for name in call.methods or ["csp"]]
    against = next((m for m in sorted(asked, key="csp".__ne__) if m not in UNPRUNED), "csp")
    if call.json:
        lines = json.loads(summary(rows, against=against).to_json(orient="records"))
        print(json.dumps({"out": str(call.out), "summary": lines}))
    else:
        print(table(rows, against=against))
        print(f"written: {call.out}")
    return 0


def transcribe_command(call: argparse.Namespace) -> int:
    from cspkit.asr import load_audio, load_transducer, mfcc, transcribe

    device = _usable(call.device)
    model = load_transducer(call.model or default_model()).to(device)
    heard = []
    for file in call.files:
        waveform, sample_rate = load_audio(file)
        try:
            text = transcribe(model, mfcc(waveform, sample_rate), beam=call.beam)
            heard.append({"file": file, "text": text})
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
    if call.json:
        print(json.dumps(heard))
    else:
        for row in heard:
            print(f"{row['file']}: {row['text']}" if len(heard) > 1 else row["text"])
    return 0


def _scores(task, model) -> dict[str, float]:
    return {
        "dev_wer": task.evaluate(model, "dev")["wer"],
        "test_wer": task.evaluate(model, "test")["wer"],
    }


def _report(call: argparse.Namespace, figures: dict[str, float]) -> None:
    """Print figures for a machine, or for a person with WER in per cent."""
    if call.json:
        print(json.dumps({"out": str(call.out)} | figures))
        return
    for name, value in figures.items():
        if name.endswith("wer"):
            print(f"{name.replace('_wer', ' WER')}: {100 * value:.2f} %")
        else:
            print(f"{name}: {value if isinstance(value, int) else round(value, 6)}")
    print(f"written: {call.out}")


def _writable(out: Path) -> None:
    """Refuse an impossible output before minutes are spent on what would go into it."""
    if out.is_dir():
        raise IsADirectoryError(f"--out is {out}, a folder: expected a file name")
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"--out is {out}, but {folder} cannot be written to")


def _usable(device: str) -> str:
    """Return the name of a device; ValueError where torch cannot compute on it here."""
    import torch

    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device is {device!r}, which torch cannot use: {reason}") from None
    return device


def _natural(text: str) -> int:
    """An integer >= 0; argparse names the argument where it is none."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no integer >= 0")
    return int(text)


def _fold(text: str) -> int | str:
    """A fold, or the name of the speaker who is held out."""
    return int(text) if text.isdecimal() else text


def _positive(text: str) -> int:
    """An integer >= 1."""
    if _natural(text) == 0:
        raise argparse.ArgumentTypeError("0 is no integer >= 1")
    return int(text)


def default_model() -> Path:
    """The dense checkpoint that comes with the project."""
    from cspkit.asr.corpus import data_folder

    return data_folder() / "models" / "dense_fold0.safetensors"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cspkit", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")

    def add(name: str, function, help_text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_text, description=help_text)
        sub.add_argument("--json", action="store_true", help="print JSON for machines")
        sub.set_defaults(command=function)
        return sub

    def add_device(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (%(default)s)")

    def add_run(sub: argparse.ArgumentParser, steps: int, out: str) -> None:
        sub.add_argument("--steps", type=int, default=steps, help="training steps (%(default)s)")
        sub.add_argument(
            "--seed", type=_natural, default=0, help="of weights and batches (%(default)s)"
        )
        sub.add_argument("--out", type=Path, default=Path(out), help="file to write (%(default)s)")
        add_device(sub)

    add("doctor", doctor, "Examine this machine and this installation.")

    sub = add("train", train_command, "Train a dense recogniser on the embedded corpus.")
    add_run(sub, 3400, "build/dense.safetensors")  # cspkit.asr.task.DENSE_STEPS
    sub.add_argument(
        "--fold", type=_fold, default=0, help="0 to 4, or a speaker, tested on (%(default)s)"
    )
    sub.add_argument(
        "--units", choices=("words", "characters"), default="words", help="written (%(default)s)"
    )

    sub = add("prune", prune_command, "Prune a trained recogniser.")
    add_run(sub, 600, "build/pruned.safetensors")
    sub.add_argument("--method", default="csp", help="csp, gmp, dpf, ... (%(default)s)")
    sub.add_argument("--sparsity", type=float, default=0.95, help="zeros / weights (%(default)s)")
    sub.add_argument("--rate", type=float, default=1e-2, help="peak learning rate (%(default)s)")
    sub.add_argument("--mu", type=float, help="weight of D (the method's own)")
    sub.add_argument("--fold", type=_fold, help="0 to 4, or a speaker (that of the model)")
    sub.add_argument("--model", type=Path, help="dense checkpoint (the project's own)")

    sub = add("compare", compare_command, "Compare pruning methods on the embedded corpus.")
    names = "dense, dense+, small-dense and methods, with +D or -D (all methods)"
    sub.add_argument("--methods", nargs="+", metavar="NAME", help=names)
    sub.add_argument("--sparsities", nargs="+", type=float, metavar="S", help="(.8 .9 .95 .98)")
    sub.add_argument(
        "--seeds", nargs="+", type=_natural, metavar="I", help="seed i is on fold i (0 1 2 3 4)"
    )
    sub.add_argument("--steps", nargs="+", type=int, metavar="N", help="of each run (600)")
    sub.add_argument("--jobs", type=_positive, default=2, help="runs at a time (%(default)s)")
    sub.add_argument(
        "--out", type=Path, default=Path("build/compare.csv"),
        help="rows; those that are there are kept (%(default)s)",
    )  # fmt: skip
    sub.add_argument(
        "--tune", action="store_true",
        help="first try ten settings of each method, the best on three folds, in place of "
        "those recorded",
    )  # fmt: skip
    sub.add_argument(
        "--train-dense", type=Path, metavar="FOLDER",
        help="train the dense models, into this folder, in place of those that come along",
    )  # fmt: skip
    sub.add_argument(
        "--quick", action="store_true",
        help="dense, gmp and csp at .95 on fold 0, 150 steps, where nothing else is said",
    )  # fmt: skip

    sub = add("transcribe", transcribe_command, "Print the digits spoken in audio files.")
    sub.add_argument("files", nargs="+", metavar="FILE", help="wav, flac or ogg, any sample rate")
    sub.add_argument("--model", type=Path, help="checkpoint to use (the project's own)")
    sub.add_argument("--beam", type=_positive, default=1, help="width; 1 is greedy (%(default)s)")
    add_device(sub)
    return parser


if __name__ == "__main__":
    sys.exit(main())
