"""Time of a training step, dense and pruned, and of the transducer loss, on one thread.

    python tests/benchmarks/training_step.py [OUT]

Steps of all kinds take turns on the same batches in one process; a ratio is the median of the
ratios to the dense step of the same turn. Among them are the matrix products of the LSTMs, alone:
no step can take less than they do. "csp+D" finds the outputs of the dense model stored, as in about
four of five steps of a run; "csp+D, new strings" computes them. Then the dense step by parts, from
torch's profiler, as shares of their sum. The table goes to OUT, data/results/training_step.csv if
nothing else is said.
"""

import copy
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cspkit.asr import DigitTask, rnnt_loss
from cspkit.files import replacing
from cspkit.pruning import CSP, PRUNERS, prunable_weights
from cspkit.training import train

TURNS = 40
METHODS = ("gmp", "dpf", "admm", "narang", "csp")  # csp, and its rivals with the lowest dev loss
OUT = Path(__file__).parents[2] / "data" / "results" / "training_step.csv"
PARTS = {  # of a dense step, by what is in the profiler's names
    "LSTM layers": ("mkldnn_rnn_layer",),
    "transducer loss": ("_TransducerCost", "log_softmax", "logaddexp", "exp_", "logsumexp"),
    "matrix products of joiner and output": ("aten::mm", "aten::addmm"),
    "tanh of the joiner": ("tanh",),
    "Adam and the norm of the gradient": ("adam", "Adam", "norm"),
}


class OneBatch(DigitTask):
    """The task, with the batch that it is told. With `new`, no group of the pool is recognised."""

    batch, new = None, False

    def batches(self, split, rng):
        while True:
            yield self.batch._replace(group=None) if self.new else self.batch


def stepper(task, dense, method, mu):
    """A function that returns the seconds of a step in the middle of a schedule.

    It makes three steps and takes the mean of the last two: the first one also makes the optimizer.
    """
    model = copy.deepcopy(dense)
    pruner = None
    if method is not None:
        pruner = method(prunable_weights(model), 0.95, 1000)
        pruner.finish = lambda: None

    def step():
        if pruner is not None:
            pruner.steps_done = 300
        ends = []
        train(
            model, task, 3, pruner=pruner, reference=dense, mu=mu, rng=np.random.default_rng(0),
            on_step=lambda row: ends.append(time.perf_counter()),
        )  # fmt: skip
        return (ends[-1] - ends[0]) / 2

    return step


def with_new(task, step):
    """The same step with strings that belong to no group of the pool."""

    def new_step():
        task.new = True
        seconds = step()
        task.new = False
        return seconds

    return new_step


def lstm_products(dense, batch):
    """Seconds of the LSTMs' matrix products alone, forward and backward (which is twice that)."""
    lengths = batch.feature_lengths // dense.config.stack
    runs = [(dense.encoder, int(bucket.max()), 8) for bucket in lengths.split(8)]
    runs.append((dense.predictor, batch.targets.shape[1] + 1, len(lengths)))
    operands = []
    for lstm, n_steps, n in runs:
        for layer in range(lstm.num_layers):
            inputs = getattr(lstm, f"weight_ih_l{layer}").detach().t()
            hidden = getattr(lstm, f"weight_hh_l{layer}").detach().t()
            operands.append((1, inputs, torch.randn(n_steps * n, len(inputs))))  # of all steps
            operands.append((n_steps, hidden, torch.randn(n, len(hidden))))
    start = time.perf_counter()
    for times, weight, x in operands:
        for _ in range(3 * times):
            torch.mm(x, weight)
    return time.perf_counter() - start


def parts_of_a_step(step, task, draws):
    """Milliseconds of a dense step by part, means over steps."""
    batches = [next(draws) for _ in range(TURNS)]
    with torch.profiler.profile() as profile:
        for task.batch in batches:
            step()
    took = dict.fromkeys((*PARTS, "all else in torch"), 0.0)
    for event in profile.key_averages():
        part = next((p for p, names in PARTS.items() if any(n in event.key for n in names)), None)
        took[part or "all else in torch"] += event.self_cpu_time_total / 1e3 / TURNS / 3
    return took


def training_steps():
    """Rows of what, milliseconds, and the ratio to a dense step."""
    task = OneBatch()
    draws = DigitTask(task.corpus).batches("train", np.random.default_rng(0))
    dense = task.new_model(0)
    kinds = {
        "dense": stepper(task, dense, None, 0.0),
        **{name: stepper(task, dense, PRUNERS[name], 0.0) for name in METHODS},
        "csp+D": stepper(task, dense, CSP, 1.0),
        "csp+D, new strings": with_new(task, stepper(task, dense, CSP, 1.0)),
        "LSTM products": lambda: lstm_products(dense, task.batch),
    }
    seconds = {name: [] for name in kinds}
    for turn in range(TURNS + 3):
        task.batch = next(draws)
        for name, step in kinds.items():
            took = step()
            if turn >= 3:
                seconds[name].append(took)
    dense_seconds = np.array(seconds["dense"])
    rows = [
        (name, 1e3 * np.median(values), np.median(np.array(values) / dense_seconds))
        for name, values in seconds.items()
    ]
    parts = parts_of_a_step(kinds["dense"], task, draws)
    start = time.perf_counter()
    for _ in range(TURNS):
        next(draws)
    parts["drawing and varying a batch"] = 1e3 * (time.perf_counter() - start) / TURNS
    total = sum(parts.values())
    return rows + [(f"part: {name}", took, took / total) for name, took in parts.items()]


def losses():
    """Rows of the transducer loss, forward and backward, at two shapes."""
    rows = []
    for shape in ((8, 150, 40, 29), (16, 100, 25, 256)):
        N, T, U, K = shape
        logits = torch.randn(N, T, U + 1, K, requires_grad=True)
        targets = torch.randint(0, K - 1, (N, U))
        lengths = torch.full((N,), T), torch.full((N,), U)
        seconds = []
        for _ in range(15):
            logits.grad = None
            start = time.perf_counter()
            rnnt_loss(logits, targets, *lengths).backward()
            seconds.append(time.perf_counter() - start)
        rows.append((f"rnnt_loss {shape}", 1e3 * np.median(seconds), float("nan")))
    return rows


if __name__ == "__main__":
    rows = pd.DataFrame(training_steps() + losses(), columns=["what", "milliseconds", "of_dense"])
    print(rows.round(2).to_string(index=False))
    with replacing(sys.argv[1] if len(sys.argv) > 1 else OUT) as file:
        rows.round(3).to_csv(file, index=False)
