"""The transducer loss beside that of torchaudio: time, memory, agreement, precision; CPU.

torchaudio has its own environment, for the newest version with `rnnt_loss` fits an older torch:

    python3 -m venv build/torchaudio
    build/torchaudio/bin/pip install torch==2.9.1 torchaudio==2.9.1 numpy
    PYTHONPATH=. build/torchaudio/bin/python tests/benchmarks/rnnt_loss_torchaudio.py

Both run in one process on one thread, forward and backward, in turn; a ratio is the median of the
ratios of the turns. Memory is the peak of a process of its own less what it held before the
logits were made, as a multiple of the logits: they and their gradient are 2. The float32 error is
that of the cost, relative, beside the cost of the same logits in float64. Rows go to
data/results/rnnt_loss.csv.
"""

import csv
import importlib.util
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
import torchaudio

import cspkit.threads  # noqa: F401
from cspkit.files import replacing

ROOT = Path(__file__).parents[2]
OUT = ROOT / "data" / "results" / "rnnt_loss.csv"
SHAPES = {(8, 150, 40, 29): 25, (16, 100, 25, 256): 25, (1, 1000, 999, 8): 3}  # and turns

# The package needs more than this environment has; the loss needs torch only.
_spec = importlib.util.spec_from_file_location("loss", ROOT / "cspkit" / "asr" / "loss.py")
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
LOSSES = {"cspkit": _module.rnnt_loss, "torchaudio": torchaudio.functional.rnnt_loss}


def problem(N, T, U, K, dtype=torch.float32):
    """Logits and integers of a batch whose utterances all fill the lattice."""
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(N, T, U + 1, K, generator=random, dtype=torch.float64).to(dtype)
    targets = torch.randint(0, K - 1, (N, U), generator=random, dtype=torch.int32)
    lengths = [torch.full((N,), n, dtype=torch.int32) for n in (T, U)]
    return logits.requires_grad_(), targets, *lengths


def run(name, logits, *integers):
    """Cost, summed over the batch, its gradient, and the seconds of both."""
    logits.grad = None
    start = time.perf_counter()
    cost = LOSSES[name](logits, *integers, reduction="sum")
    cost.backward()
    return cost.detach(), logits.grad, time.perf_counter() - start


def peak_memory(name, shape):
    """Peak of this process, as a multiple of the logits."""
    run(name, *problem(1, 5, 3, shape[-1]))
    held = resident("VmRSS")
    N, T, U, K = shape
    logits = torch.zeros(N, T, U + 1, K).normal_().requires_grad_()
    _, *integers = problem(N, 1, U, K)
    integers[1].fill_(T)
    run(name, logits, *integers)
    return (resident("VmHWM") - held) / (logits.numel() * logits.element_size())


def resident(field):
    """Bytes of this process in memory, at present or at most; getrusage counts the parent's."""
    (line,) = (r for r in Path("/proc/self/status").read_text().splitlines() if field in r)
    return 1024 * int(line.split()[1])


def memory_in_child(name, shape):
    call = [sys.executable, __file__, json.dumps([name, shape])]
    return float(subprocess.run(call, capture_output=True, text=True, check=True).stdout)


def measure(shape, turns):
    """The row of one shape."""
    inputs = problem(*shape)
    cost, grad = {}, {}
    seconds = {name: [] for name in LOSSES}
    for turn in range(turns + 1):
        for name in LOSSES:
            cost[name], grad[name], took = run(name, *inputs)
            if turn:
                seconds[name].append(took)
    ratio = np.median(np.array(seconds["cspkit"]) / np.array(seconds["torchaudio"]))
    exact, exact_grad, _ = run("cspkit", *problem(*shape, torch.float64))
    row = dict(zip("NTUK", shape, strict=True)) | {"ratio": round(float(ratio), 3)}
    for name in LOSSES:
        row[f"{name}_ms"] = round(1e3 * float(np.median(seconds[name])), 1)
        row[f"{name}_memory"] = round(memory_in_child(name, shape), 2)
        row[f"{name}_float32_error"] = f"{float(abs(cost[name] - exact) / exact):.1e}"
        row[f"{name}_gradient_error"] = f"{float((grad[name] - exact_grad).abs().max()):.1e}"
    return row | {
        "turns": turns,
        "torch": torch.__version__,
        "torchaudio": torchaudio.__version__,
    }


def main():
    warnings.filterwarnings("ignore", message=".*deprecated.*")
    if len(sys.argv) == 2:
        print(peak_memory(*json.loads(sys.argv[1])))
        return
    rows = []
    for shape, turns in SHAPES.items():
        rows.append(measure(shape, turns))
        print(rows[-1], flush=True)
    with replacing(OUT) as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
