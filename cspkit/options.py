"""Options of the command line, and the checks of their values."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from cspkit import __version__
from cspkit.arguments import ArgumentError, count, fraction, positive


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse a command line: return its options, its command as `name`, and `prog` for messages."""
    parser = _parser()
    call = parser.parse_args(arguments)
    call.prog = f"{parser.prog} {call.name}"
    return call


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


def _parser() -> argparse.ArgumentParser:
    as_module = Path(sys.argv[0]).name == "__main__.py"
    parser = argparse.ArgumentParser(
        prog="python -m cspkit" if as_module else "cspkit",
        description="Train, prune and compare compact speech recognisers.",
    )
    parser.add_argument("--version", action="version", version=f"cspkit {__version__}")
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")

    def add(name: str, help_text: str):
        sub = commands.add_parser(name, help=help_text, description=help_text)
        sub.add_argument("--json", action="store_true", help="print JSON for machines")
        return sub.add_argument

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

    option = add("train", "Train a dense recogniser on the embedded corpus.")
    add_run(option, 7200, "build/dense.safetensors")  # cspkit.asr.digits.DENSE_STEPS
    text = "test part: fold 0 to 4, or the name of a speaker"
    option("--fold", type=_fold, default=0, help=f"{text} (%(default)s)")
    units = ("words", "characters")
    option("--units", choices=units, default="words", help="what the model emits (%(default)s)")

    option = add("prune", "Prune a trained recogniser.")
    add_run(option, 600, "build/pruned.safetensors")
    option("--method", default="csp", help="csp, gmp, dpf, ... (%(default)s)")
    option("--sparsity", type=float, default=0.95, help="zeros / weights (%(default)s)")
    option("--rate", type=float, default=1e-2, help="peak learning rate (%(default)s)")
    option("--mu", type=float, help="weight of the error term D (default: that of the method)")
    option("--fold", type=_fold, help=f"{text} (default: that of the model)")
    option("--model", type=Path, help="dense checkpoint (default: that of the project)")

    option = add("compare", "Compare pruning methods on the embedded corpus.")
    text = "dense, dense+, small-dense or a method; M+D and M-D: method M with or without D (all)"
    option("--methods", nargs="+", metavar="NAME", help=text)
    option(
        "--sparsities", nargs="+", type=float, metavar="S", help="zeros / weights (.8 .9 .95 .98)"
    )
    option(
        "--seeds", nargs="+", type=int, metavar="I", help="seed i uses fold i modulo 5 (0 1 2 3 4)"
    )
    option("--steps", nargs="+", type=int, metavar="N", help="training steps of each run (600)")
    option("--jobs", type=int, default=2, help="runs at the same time (%(default)s)")
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

    option = add("manifest", "Check manifests: recordings and their texts as JSON lines.")
    option("action", choices=("check",), help="check: report each line that cannot be used")
    text = "manifest as NeMo writes it; a speaker of an earlier FILE may not speak in a later one"
    option("files", nargs="+", type=Path, metavar="FILE", help=text)
    option("--out", type=Path, metavar="FOLDER", help="write the good lines of each FILE to FOLDER")

    option = add("transcribe", "Print the digits spoken in audio files.")
    option("files", nargs="+", metavar="FILE", help="wav, flac or ogg, any sample rate")
    option("--model", type=Path, help=model)
    option("--beam", type=int, default=1, help="beam width; 1 is greedy (%(default)s)")
    add_device(option)
    return parser
