"""Time of a step on one core, and packing of a large model.

    python tests/benchmarks/deploy_study.py steps     writes data/results/step_times.csv
    python tests/benchmarks/deploy_study.py large     writes data/results/large_model.csv

`steps` times one step of streaming recognition (75 ms of sound: the encoder, and the logits of one
cell), for `SparseTransducer` and for other programs. They take turns in one process, with one
thread each; `ratio` is the time of a program over that of `SparseTransducer`, the median over
turns. "cspkit, dense" is the same code with dense float32 matrices. The models have random weights,
cut by magnitude; the time depends on their sizes and zeros only. Blocks are 8x1 or 1x8.

`large` packs and loads 30 million random weights with about 95 % zeros and 8 bits in a process of
their own: in matrices of 2048 x 1832, whose positions are gap codes, and of 1000 x 1000, whose
positions are coded by rows and columns. `peak` is the peak memory beyond the imports, over the size
of the model in memory; packing holds the model, too.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

# NumPy's library reads these variables when it is loaded. Here it shall use its own choices.
CHOICES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
if any(name in os.environ for name in CHOICES):
    rest = {name: value for name, value in os.environ.items() if name not in CHOICES}
    os.execve(sys.executable, [sys.executable, *sys.argv], rest)

# ruff: noqa: E402
import numpy as np
import pandas as pd
import torch

from cspkit.asr import Transducer, TransducerConfig
from cspkit.deploy import SparseTransducer, pack
from cspkit.deploy.peers import own_step, peer_steps, ratios, step_times
from cspkit.files import replacing
from cspkit.pruning.budget import keep_largest

RESULTS = Path(__file__).parents[2] / "data" / "results"
CASES = (
    (128, 0.8, (1, 1)), (128, 0.9, (1, 1)), (128, 0.95, (1, 1)), (128, 0.98, (1, 1)),
    (128, 0.9, (8, 1)), (128, 0.9, (1, 8)),
    (512, 0.8, (1, 1)), (512, 0.9, (1, 1)), (512, 0.95, (1, 1)), (512, 0.98, (1, 1)),
    (512, 0.9, (8, 1)), (512, 0.9, (1, 8)),
)  # fmt: skip
ROUNDS = 150
LARGE = {"gaps": [(2048, 1832)] * 8, "columns": [(1000, 1000)] * 30}
CHILD = """
import sys, time
import torch
from cspkit.deploy import load, pack
from cspkit.deploy.reporting import peak_memory as peak
imports = peak()
start = time.perf_counter()
tensors = load(sys.argv[1])
seconds, loaded = time.perf_counter() - start, peak()
start = time.perf_counter()
pack(tensors, sys.argv[1] + ".again", bits=8)
print(seconds, loaded - imports, time.perf_counter() - start, peak() - imports)
"""


def cut(model, sparsity, block):
    """Set the blocks with the least norms to zero."""
    r, c = block
    with torch.no_grad():
        for name, weight in model.named_parameters():
            R, C = weight.shape if name in model.prunable else (1, 1)
            if name in model.prunable and R % r == C % c == 0:
                norms = weight.abs().view(R // r, r, C // c, c).sum(dim=(1, 3))
                kept = keep_largest(norms, round((1 - sparsity) * norms.numel()))
                weight.mul_(kept.repeat_interleave(r, 0).repeat_interleave(c, 1))
    return model


def steps():
    rows = []
    frames = np.random.default_rng(0).standard_normal((10, 3, 13)).astype(np.float32)
    for width, sparsity, block in CASES:
        torch.manual_seed(0)
        sizes = dict.fromkeys(("encoder_size", "predictor_size", "joiner_size"), width)
        model = cut(Transducer(TransducerConfig(**sizes)).eval(), sparsity, block)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.csp"
            pack(model, path, bits=8)
            own = SparseTransducer(path)
        dense = SparseTransducer(model, layouts=dict.fromkeys(own.layouts, "dense"))
        programs, missing = peer_steps(model)
        if missing:
            sys.exit(f"not installed: {', '.join(missing)}")
        programs = {"cspkit": own_step(own), "cspkit, dense": own_step(dense)} | programs
        times = step_times(programs, frames, ROUNDS)
        over_own = ratios(times, "cspkit")
        for program in times:
            rows.append({
                "model": f"2 x {width}", "sparsity": sparsity, "block": "x".join(map(str, block)),
                "program": program,
                "microseconds": round(1e6 * times[program].median(), 1),
                "p95": round(1e6 * times[program].quantile(0.95), 1),
                "ratio": round(over_own[program], 2),
            })  # fmt: skip
        print(pd.DataFrame(rows[-len(programs) :]).to_string(), flush=True)
    return pd.DataFrame(rows)


def density(shape, generator):
    """The probability of each entry: some rows and columns have more nonzeros than others."""
    rows, columns = (torch.randn(n, generator=generator).exp() for n in shape)
    found = rows[:, None] * columns
    return 0.05 * found / found.mean()


def large():
    rows = []
    for layout, shapes in LARGE.items():
        generator = torch.Generator().manual_seed(0)
        tensors = {}
        for i, shape in enumerate(shapes):
            kept = torch.rand(shape, generator=generator) < density(shape, generator)
            tensors[f"{i}.weight"] = torch.randn(shape, generator=generator) * kept
        weights = sum(tensor.numel() for tensor in tensors.values())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "large.csp"
            pack(tensors, path, bits=8)
            done = subprocess.run(
                [sys.executable, "-c", CHILD, path], capture_output=True, text=True, check=True
            )
            size = path.stat().st_size
        load_seconds, load_peak, pack_seconds, pack_peak = map(float, done.stdout.split())
        for what, seconds, peak in (
            ("load", load_seconds, load_peak),
            ("pack", pack_seconds, pack_peak),
        ):
            rows.append({
                "positions": layout, "what": what, "weights": weights, "bytes": size,
                "million_weights_a_second": round(weights / seconds / 1e6, 1),
                "peak": round(peak / (4 * weights), 2),
            })  # fmt: skip
        print(pd.DataFrame(rows).to_string(), flush=True)
    return pd.DataFrame(rows)


def main():
    studies = {"steps": (steps, "step_times.csv"), "large": (large, "large_model.csv")}
    if len(sys.argv) != 2 or sys.argv[1] not in studies:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    study, name = studies[sys.argv[1]]
    rows = study()
    with replacing(RESULTS / name) as new:
        rows.to_csv(new, index=False)


if __name__ == "__main__":
    main()
