"""Options of the command line, and the checks of their values."""

from __future__ import annotations

import argparse
import sys
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

from cspkit import __version__
from cspkit.arguments import ArgumentError, count, fraction, positive


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse a command line: return its options, its command as `name`, and `prog` for messages."""
    parser, commands = _parser()
    arguments = sys.argv[1:] if arguments is None else arguments
    call = parser.parse_args(arguments)
    call.prog = f"{parser.prog} {call.name}"
    if getattr(call, "config", None) is not None:
        given = _of_file(call.config, call.name, commands)
        call = parser.parse_args([call.name, *given, *arguments[1:]])  # the last option counts
        call.prog = f"{parser.prog} {call.name}"
    return call


def _of_file(path: Path, name: str, commands: dict[str, argparse.ArgumentParser]) -> list[str]:
    """Return the options of a command in a TOML file, as they stand on a command line."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        commands[name].error(f"--config: {path}: {error}")
    known = {n: {o for a in c._actions for o in a.option_strings} for n, c in commands.items()}
    everywhere = {key: value for key, value in values.items() if not isinstance(value, dict)}
    own = values.get(name, {})
    tables = [(None, everywhere), *((n, t) for n, t in values.items() if isinstance(t, dict))]
    for table, entries in tables:
        options = set().union(*known.values()) if table is None else known.get(table, set())
        for key in entries:
            if f"--{key}" not in options or key in ("config", "help"):
                place = f" in [{table}]" if table else ""
                commands[name].error(
                    f"--config: {path} has {key!r}{place}: expected names of options"
                )
    used = {key: value for key, value in everywhere.items() if f"--{key}" in known[name]} | own
    return [word for key, value in used.items() for word in _words(key, value)]


def _words(key: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{key}"] if value else []
    values = value if isinstance(value, list) else [value]
    return [f"--{key}", *map(str, values)]


def _sparsity(name: str, value: float) -> None:
    if fraction(name, value) == 1:
        raise ArgumentError(f"{name} is {value!r}: expected less than 1, so that weights remain")


_seed = partial(count, least=0, most=2**63 - 1)
CHECKS = {
    "steps": count,
    "state_every": count,
    "seed": _seed,
    "seeds": _seed,
    "sparsity": _sparsity,
    "sparsities": _sparsity,
    "rate": positive,
    "mu": partial(positive, zero=True),
    "jobs": count,
    "accumulate": count,
    "beam": count,
    "width": count,
    "pieces": count,
    "batch_size": count,
    "most_frames": count,
}


def check(call: argparse.Namespace) -> None:
    """Check all numbers of a call before any work.

    Raises
    ------
    ArgumentError
        The message names the option.
    """
    for name, value in vars(call).items():
        if name in CHECKS and value is not None:
            for number in value if isinstance(value, list) else [value]:
                CHECKS[name](f"--{name.replace('_', '-')}", number)


def with_option(call: argparse.Namespace, message: str) -> str:
    """Replace an argument at the start of a message by its option, for example fold by --fold."""
    argument, _, rest = message.partition(" ")
    is_option = argument in vars(call) and rest.startswith(("is ", "has "))
    return f"--{argument.replace('_', '-')} {rest}" if is_option else message


def _add_bits(option, unless: str = "") -> None:
    text = f"bits of each value; 32 loses nothing{unless} (%(default)s)"
    option("--bits", type=int, choices=(32, 16, 8, 4), default=8, help=text)


def _fold(text: str) -> int | str:
    """A fold, or the name of a speaker."""
    return int(text) if text.isdecimal() else text


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    as_module = Path(sys.argv[0]).name == "__main__.py"
    parser = argparse.ArgumentParser(
        prog="python -m cspkit" if as_module else "cspkit",
        description="Train, prune and compare compact speech recognisers.",
    )
    parser.add_argument("--version", action="version", version=f"cspkit {__version__}")
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")

    by_name = {}

    def add(name: str, help_text: str):
        by_name[name] = sub = commands.add_parser(name, help=help_text, description=help_text)
        sub.add_argument("--json", action="store_true", help="print JSON for machines")
        return sub.add_argument

    def add_corpus(option) -> None:
        text = "manifest of the training part, or of all parts (default: the embedded corpus)"
        option("--manifest", type=Path, metavar="FILE", help=text)
        option("--dev", type=Path, metavar="FILE", help="manifest of the dev part")
        option("--test", type=Path, metavar="FILE", help="manifest of the test part")
        text = "split of one manifest: speaker, random, or the name of a field"
        option("--by", metavar="NAME", help=f"{text} (default: speaker, if known)")
        text = "how texts are normalised (%(default)s); recorded beside every error rate"
        option("--text", choices=("as-is-1", "plain-1"), default="as-is-1", help=text)
        text = "folder that keeps the features of a manifest (%(default)s)"
        option("--cache", type=Path, default=Path("build/features"), metavar="FOLDER", help=text)
        text = "utterances of a training batch (32; 16 with --manifest)"
        option("--batch-size", type=int, metavar="N", help=text)
        text = "with --manifest: similar lengths in a batch, and at most N frames of 25 ms"
        option("--most-frames", type=int, metavar="N", help=text)
        text = "TOML file with values for these options; one in [train] is only for train, ..."
        option("--config", type=Path, metavar="FILE", help=text)

    def add_units(option) -> None:
        kinds = ("words", "characters", "pieces")
        option("--units", choices=kinds, default="words", help="what it writes (%(default)s)")
        text = "number of pieces of words, with --units pieces (%(default)s)"
        option("--pieces", type=int, default=500, metavar="K", help=text)
        text = "units of each LSTM and of the joiner (%(default)s)"
        option("--width", type=int, default=128, metavar="H", help=text)

    def add_device(option) -> None:
        option("--device", default="cpu", help="cpu, cuda, cuda:1, ... (%(default)s)")

    def add_run(option, steps: int, out: str) -> None:
        option("--steps", type=int, default=steps, help="training steps (%(default)s)")
        option("--seed", type=int, default=0, help="seed of weights and batches (%(default)s)")
        option("--out", type=Path, default=Path(out), help="file to write (%(default)s)")
        text = (
            "save the state of the run in OUT.state every N steps; after an interruption, repeat "
            "the call to continue from there (%(default)s)"
        )
        option("--state-every", type=int, default=50, metavar="N", help=text)
        option("--fresh", action="store_true", help="delete OUT.state and start at step 0")
        text = "split each batch into N parts, which takes less memory (%(default)s)"
        option("--accumulate", type=int, default=1, metavar="N", help=text)
        text = "precision of the forward passes (default: that of the weights)"
        option("--autocast", choices=("bf16",), help=text)
        add_device(option)

    add("doctor", "Examine this machine and this installation.")

    fold = "test part: fold 0 to 4, or the name of a speaker of the embedded corpus"
    option = add("train", "Train a dense recogniser, on the embedded corpus or your own.")
    add_run(option, 7200, "build/dense.safetensors")  # cspkit.asr.digits.DENSE_STEPS
    add_corpus(option)
    option("--fold", type=_fold, default=0, help=f"{fold} (%(default)s)")
    add_units(option)

    option = add("prune", "Prune a trained recogniser.")
    add_run(option, 600, "build/pruned.safetensors")
    option("--method", default="csp", help="csp, gmp, dpf, ... (%(default)s)")
    option("--sparsity", type=float, default=0.95, help="zeros / weights (%(default)s)")
    option("--rate", type=float, default=1e-2, help="peak learning rate (%(default)s)")
    option("--mu", type=float, default=0.0, help="weight of the error term D (%(default)s)")
    option("--model", type=Path, help="dense checkpoint (default: that of the project)")
    add_corpus(option)
    option("--fold", type=_fold, help=f"{fold} (default: that of the model)")

    option = add("compare", "Compare pruning methods, on the embedded corpus or your own.")
    add_corpus(option)
    add_units(option)
    text = "training steps of dense models, with --manifest (%(default)s)"
    option("--dense-steps", type=int, default=7200, metavar="N", help=text)
    text = "dense, dense+, small-dense or a method; M+D: the method M with the error term D (all)"
    option("--methods", nargs="+", metavar="NAME", help=text)
    option(
        "--sparsities", nargs="+", type=float, metavar="S", help="zeros / weights (.8 .9 .95 .98)"
    )
    option(
        "--seeds", nargs="+", type=int, metavar="I", help="seed i uses fold i modulo 5 (0 1 2 3 4)"
    )
    option("--steps", nargs="+", type=int, metavar="N", help="training steps of each run (600)")
    option("--jobs", type=int, default=2, help="runs at the same time (%(default)s)")
    text = "who computes the runs: JOBS processes, or all workers of --scheduler (%(default)s)"
    option("--backend", choices=("processes", "dask"), default="processes", help=text)
    text = "address that `dask scheduler` prints, such as tcp://10.0.0.5:8786"
    option("--scheduler", metavar="ADDRESS", help=text)
    text = "file of results; runs that are in it are not repeated (%(default)s)"
    option("--out", type=Path, default=Path("build/compare.csv"), help=text)
    text = "first try ten settings of each method, instead of using the recorded settings"
    option("--tune", action="store_true", help=text)
    text = "train dense models and keep them in FOLDER, instead of using those of the project"
    option("--train-dense", type=Path, metavar="FOLDER", help=text)
    text = "keep the model of every new run in FOLDER, as a packed file; print sizes and times"
    option("--keep", type=Path, metavar="FOLDER", help=text)
    text = "dense, gmp and csp at .95 on fold 0, 150 steps, unless other options are given"
    option("--quick", action="store_true", help=text)

    model = "checkpoint or packed file (default: the dense checkpoint of the project)"
    option = add("pack", "Write a trained recogniser to a packed file, in which zeros cost little.")
    option("--model", type=Path, help=model)
    option("--out", type=Path, default=Path("build/model.csp"), help="file (%(default)s)")
    _add_bits(option)

    option = add("report", "Report what the zeros of a recogniser are worth: bytes and time.")
    option("--model", type=Path, help=model)
    _add_bits(option, ", unless the model is a packed file")

    option = add("manifest", "Make, check or split manifests: recordings as JSON lines.")
    text = (
        "check: report each line of FILEs that cannot be used; make: list the recordings of the "
        "folder FILE that have a text, NAME.wav with NAME.txt, or of a LibriSpeech folder; split: "
        "write train.jsonl, dev.jsonl and test.jsonl"
    )
    option("action", choices=("check", "make", "split"), help=text)
    text = "manifest as NeMo writes it; a speaker of an earlier FILE may not speak in a later one"
    option("files", nargs="+", type=Path, metavar="FILE", help=text)
    text = "check: folder for the good lines; make: the new file; split: folder of the parts"
    option("--out", type=Path, metavar="PATH", help=text)
    text = "split: speaker, random, or the name of a field (default: speaker, if known)"
    option("--by", metavar="NAME", help=text)
    option("--fold", type=int, default=0, help="split: number of the test part (%(default)s)")
    option("--model", type=Path, help="check: texts must consist of the units of this recogniser")
    text = "how texts are normalised (%(default)s)"
    option("--text", choices=("as-is-1", "plain-1"), default="as-is-1", help=text)

    option = add("transcribe", "Print the words spoken in audio files.")
    option("files", nargs="*", metavar="FILE", help="wav, flac or ogg, any sample rate")
    text = "transcribe the utterances of a manifest, and print the word error rate"
    option("--manifest", type=Path, metavar="FILE", help=text)
    text = "how the texts of the manifest are normalised (%(default)s)"
    option("--text", choices=("as-is-1", "plain-1"), default="as-is-1", help=text)
    option("--model", type=Path, help=model)
    option("--beam", type=int, default=1, help="beam width; 1 is greedy (%(default)s)")
    add_device(option)
    return parser, by_name
