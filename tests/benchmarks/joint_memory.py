"""Memory and time of the joint and the transducer loss, all logits at once and in chunks; CPU.

    PYTHONPATH=. python tests/benchmarks/joint_memory.py [OUT]

Joiner of size 640 as in `large_config`, forward and backward, float32, one thread, utterances that
all fill the lattice. Memory is the peak of a fresh process less what it held before the first
logits, in MiB: `kept_mib` as cspkit sets the C library, which then keeps freed blocks, and `mib`
with the thresholds that the library has by itself. `estimated_mib` is the estimate in the docstring
of `chunked_costs`. In time, all ways take turns in one process; `ratio` is the median of the
ratios chunked / full of the turns. The rows go to OUT, data/results/joint_memory.csv if nothing
else is said. Takes about ten minutes.
"""

import ctypes
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cspkit.asr import Transducer, rnnt_loss
from cspkit.asr.joint import LARGEST, chunked_costs
from cspkit.asr.transducer_config import large_config
from cspkit.deploy.reporting import peak_memory
from cspkit.files import replacing

OUT = Path(__file__).parents[2] / "data" / "results" / "joint_memory.csv"
SHAPES = ((8, 100, 40, 11), (8, 100, 40, 100), (8, 100, 40, 1001), (4, 200, 80, 1001))
CHUNKS = (LARGEST, 2**22)  # bounds on the numbers in a tensor
TURNS = 5


def model_for(K):
    """A model with the joiner of `large_config`, and a small encoder, which is not used."""
    config = large_config([f"piece{i}" for i in range(K - 1)], n_features=1, stack=1)
    return Transducer(replace(config, encoder_layers=1))


def problem(model, N, S, U, K):
    """The arguments of `chunked_costs`."""
    torch.manual_seed(0)
    encoded = torch.randn(N, S, model.config.encoder_size, requires_grad=True)
    predicted = torch.randn(N, U + 1, model.config.predictor_size, requires_grad=True)
    targets = torch.randint(0, K - 1, (N, U))
    return model, encoded, predicted, targets, torch.full((N,), S), torch.full((N,), U)


def run(largest, model, encoded, predicted, *integers):
    """Seconds of the loss and its gradient; all logits at once if `largest` is None."""
    model.zero_grad()
    start = time.perf_counter()
    if largest is None:
        loss = rnnt_loss(model.join(encoded, predicted), *integers)
    else:
        loss = chunked_costs(model, encoded, predicted, *integers, largest=largest).mean()
    loss.backward()
    return time.perf_counter() - start


def resident():
    """Bytes of this process in memory at present."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGESIZE")


def memory(largest, shape, keep):
    """MiB of this process above what it holds before the loss."""
    library = ctypes.CDLL("libc.so.6")
    if not keep:
        for option in (-3, -1):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
            library.mallopt(option, 2**17)
    model = model_for(shape[-1])
    run(largest, *problem(model, 1, 4, 3, shape[-1]))  # makes the libraries' own buffers
    inputs = problem(model, *shape)
    library.malloc_trim(0)
    before = resident()
    run(largest, *inputs)
    return (peak_memory() - before) / 2**20


def memory_in_child(*arguments):
    call = [sys.executable, __file__, json.dumps(arguments)]
    printed = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    return round(float(printed), 1)


def estimate(largest, N, S, U, K, J=640):
    if largest is None:
        return 4 * N * S * (U + 1) * max(2 * K + J, 3 * J) / 2**20
    return (N * (S + U) * (100 * (U + 1) + 8 * J) + 16 * largest) / 2**20


def measure(shape):
    """The rows of one shape."""
    inputs = problem(model_for(shape[-1]), *shape)
    kinds = (None, *CHUNKS)
    seconds = {kind: [] for kind in kinds}
    for turn in range(TURNS + 1):
        for kind in kinds:
            took = run(kind, *inputs)
            if turn:
                seconds[kind].append(took)
    for kind in kinds:
        yield dict(zip("NSUK", shape, strict=True)) | {
            "largest": "all" if kind is None else kind,
            "mib": memory_in_child(kind, shape, False),
            "kept_mib": memory_in_child(kind, shape, True),
            "estimated_mib": round(estimate(kind, *shape), 1),
            "seconds": round(float(np.median(seconds[kind])), 3),
            "ratio": round(float(np.median(np.divide(seconds[kind], seconds[None]))), 2),
            "turns": TURNS,
        }


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("["):
        print(memory(*json.loads(sys.argv[1])))
        sys.exit()
    rows = []
    for shape in SHAPES:
        rows += measure(shape)
        print(pd.DataFrame(rows).tail(len(CHUNKS) + 1).to_string(index=False), flush=True)
    with replacing(sys.argv[1] if len(sys.argv) > 1 else OUT) as file:
        pd.DataFrame(rows).to_csv(file, index=False)
