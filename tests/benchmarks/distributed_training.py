"""Two processes against one: equal runs, and utterances a second.

    python tests/benchmarks/distributed_training.py equality [STEPS]
    python tests/benchmarks/distributed_training.py speed [OUT]

Two processes are connected by gloo over loopback, with one thread each.

"equality" prunes the dense recogniser of the project with csp, gmp and rigl, 200 steps unless STEPS
is given, in one process and in two with the same batches. It prints a row for each method and
precision: the largest difference of the loss and of D in any step, the share of the weights whose
masks agree, whether the two processes end with equal weights, and whether one process that
accumulates the gradients of the same halves (`accumulate=2`) ends with these weights too, both to
the last bit. The rows "csp, continued" are of two processes that were stopped half way and
continued by one. In float32 csp and gmp amplify rounding, so masks differ as soon as the gradient
is a sum of two parts, in one process as in two; the last column shows that two processes add
nothing to this.

The exit code is 1 if a float64 loss differs by more than 1e-8, if float64 masks differ, if the two
processes differ, or if float32 masks agree in less than 99.9 % of the weights and one process that
accumulates has other weights. It records nothing.

"speed" needs two free cores. Runs of one process with 32 strings a step and of two processes with
64 strings a step take turns. It prints the median of the paired ratios of utterances a second, and
writes a row for each method to OUT, data/results/distributed_training.csv unless it is given. The
exit code is 1 if a ratio is below 1.6.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from together import processes

from cspkit.__main__ import default_model
from cspkit.asr import DigitTask, load_transducer
from cspkit.files import replacing
from cspkit.pruning import prune

METHODS = ("csp", "gmp", "rigl")
SPARSITY = 0.9
OUT = Path(__file__).parents[2] / "data" / "results" / "distributed_training.csv"
PAIRS, WARM, TIMED = 15, 5, 20  # pairs of runs, and steps of a run


class StoppedError(Exception):
    pass


def flat(tensors):
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def pruned(rank, method, dtype, steps, state_file=None, stop=None, accumulate=1):
    """Return the curves of loss and D, all weights and all masks of a run."""

    def watch(row):
        if row["step"] == stop:
            raise StoppedError

    result = prune(
        load_transducer(default_model()).to(dtype), DigitTask(), method, SPARSITY, steps=steps,
        mu=1.0, rng=np.random.default_rng(0), on_step=watch, state_file=state_file,
        state_every=max(1, steps // 4), accumulate=accumulate,
    )  # fmt: skip
    curves = np.array([[row["loss"], row["divergence"]] for row in result.log])
    return curves, flat(result.model.parameters()), flat(result.masks.values())


def equality(steps):
    rows = []
    with tempfile.TemporaryDirectory() as folder, processes(folder, patience=3600) as together:
        for dtype in (torch.float64, torch.float32):
            for method in METHODS:
                curves, _, masks = pruned(0, method, dtype, steps)
                halves = pruned(0, method, dtype, steps, accumulate=2)[1]
                runs = {method: together(pruned, method, dtype, steps)}
                if method == "csp":
                    state = Path(folder) / "state"
                    stopped = together(pruned, method, dtype, steps, state, steps // 2 + 1)
                    assert [type(error) for error in stopped] == [StoppedError] * 2, stopped
                    runs["csp, continued"] = [pruned(0, method, dtype, steps, state)]
                for name, results in runs.items():
                    differences = np.abs(results[0][0] - curves).max(axis=0)
                    agree = (results[0][2] == masks).double().mean().item()
                    equal = all(torch.equal(results[0][1], other[1]) for other in results)
                    parts = torch.equal(results[0][1], halves)
                    rows.append((str(dtype)[6:], name, steps, *differences, agree, equal, parts))
                    print(*rows[-1], flush=True)
    columns = ["precision", "run", "steps", "loss", "divergence", "masks"]
    table = pd.DataFrame(rows, columns=[*columns, "equal_processes", "accumulated"])
    double = table.precision == "float64"
    good = table.equal_processes.all() and ((table.masks >= 0.999) | table.accumulated).all()
    good &= (table.masks[double] == 1).all() and (table.loss[double] <= 1e-8).all()
    print(table.to_string(index=False))
    return 0 if good else 1


def seconds(rank, batch_size, method):
    """Return the seconds of the timed steps of a run."""
    ends = []
    prune(
        load_transducer(default_model()), DigitTask(batch_size=batch_size), method, SPARSITY,
        steps=WARM + TIMED, rng=np.random.default_rng(0), mu=float(method == "csp"),
        on_step=lambda row: ends.append(time.perf_counter()),
    )  # fmt: skip
    return ends[-1] - ends[WARM - 1]


def speed(out):
    rows = []
    with tempfile.TemporaryDirectory() as folder, processes(folder, patience=3600) as together:
        for method in ("gmp", "csp"):
            alone, two = [], []
            for _ in range(PAIRS):
                alone.append(32 * TIMED / seconds(0, 32, method))
                two.append(64 * TIMED / max(together(seconds, 64, method)))
            ratio = np.median(np.array(two) / alone)
            name = "csp+D" if method == "csp" else method
            rows.append((name, np.median(alone), np.median(two), ratio))
            print(
                f"{name}: {rows[-1][1]:.0f} and {rows[-1][2]:.0f} utterances/s, {ratio:.2f} times"
            )
    with replacing(out) as file:
        columns = ["method", "one_process", "two_processes", "ratio"]
        pd.DataFrame(rows, columns=columns).round(3).to_csv(file, index=False)
    return 0 if all(row[-1] >= 1.6 for row in rows) else 1


if __name__ == "__main__":
    kind, *rest = sys.argv[1:] or ["equality"]
    if kind == "speed":
        sys.exit(speed(rest[0] if rest else OUT))
    sys.exit(equality(int(rest[0]) if rest else 200))
