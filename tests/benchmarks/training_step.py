"""Time of a training step, dense and pruned, and of the transducer loss, on one thread.

    python tests/benchmarks/training_step.py

Steps of all kinds take turns on the same batches in one process; a ratio is the median of the
ratios to the dense step of the same turn.
"""

import copy
import time

import numpy as np
import torch

from cspkit.asr import DigitTask, rnnt_loss
from cspkit.pruning import CSP, GMP, prunable_weights
from cspkit.training import train

TURNS = 40


class OneBatch(DigitTask):
    """The task, with the batch that it is told."""

    batch = None

    def batches(self, split, rng):
        while True:
            yield self.batch


def stepper(task, dense, method, mu):
    """A function that makes one step in the middle of a schedule, and returns its seconds."""
    model = copy.deepcopy(dense)
    pruner = None
    if method is not None:
        pruner = method(prunable_weights(model), 0.95, 1000)
        pruner.finish = lambda: None
        for name in ("before_forward", "after_backward", "after_update"):
            hook = getattr(pruner, name)
            setattr(pruner, name, lambda step, hook=hook: hook(300))

    def step():
        start = time.perf_counter()
        train(model, task, 1, pruner=pruner, reference=dense, mu=mu, rng=np.random.default_rng(0))
        return time.perf_counter() - start

    return step


def training_steps():
    task = OneBatch()
    draws = DigitTask(task.corpus).batches("train", np.random.default_rng(0))
    dense = task.new_model(0)
    kinds = {
        "dense": stepper(task, dense, None, 0.0),
        "gmp": stepper(task, dense, GMP, 0.0),
        "csp without D": stepper(task, dense, CSP, 0.0),
        "csp": stepper(task, dense, CSP, 1.0),
    }
    seconds = {name: [] for name in kinds}
    for turn in range(TURNS + 3):
        task.batch = next(draws)
        for name, step in kinds.items():
            took = step()
            if turn >= 3:
                seconds[name].append(took)
    dense_seconds = np.array(seconds["dense"])
    for name, values in seconds.items():
        ratio = np.median(np.array(values) / dense_seconds)
        print(f"{name:15s} {1e3 * np.median(values):6.1f} ms   {ratio:.2f} of a dense step")


def losses():
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
        print(f"rnnt_loss, forward and backward, {shape}: {1e3 * np.median(seconds):.1f} ms")


if __name__ == "__main__":
    training_steps()
    losses()
