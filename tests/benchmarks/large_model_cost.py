"""What a recogniser of 30 million weights would cost on the CPU, from measured pieces.

    PYTHONPATH=. python tests/benchmarks/large_model_cost.py [OUT]

The pieces are timed on one thread, forward and backward: a frame in the encoder, a label in the
predictor, a cell of the joint in chunks with its loss, a cell of the divergence, and a weight in
the update (CSP, clipping, Adam). A step on paper is the sum

    frames (encoder + half a forward pass of the reference) + labels (the same)
    + cells (loss + half a divergence) + weights (update)

since the divergence uses every second utterance. Memory on paper, in bytes:

    weights 4, gradients 4, Adam 8, V 4, masks 1, reference 4: 25 for each weight
    + the larger of  ranking: 12 for each weight
                     activations: 32 for each unit, layer and frame of the LSTMs, and the joint, see
                     `cspkit.asr.joint`

For two small models the same sums stand beside steps of `cspkit.training.train` that were really
run, CSP with mu = 1, on random features and labels. All seconds are processor time of one thread,
since the machine may do other work. The steps and the pieces take turns in one process;
`time_ratio` is the median over the turns of measured / paper. `mib` is the peak of a fresh process,
less what it held before, with the thresholds that the C library has by itself, and `kept_mib` as
cspkit sets them: the library then keeps freed blocks. `memory_ratio` is `mib` / paper.

The large model is `large_config` with 1,000 units, on utterances of 12.5 s with 4 units a second,
which is an assumption about LibriSpeech. Hours are for one pass over 100 h. `hours_8_cores` is for
8 processes of one thread, each with this batch, and 1 GB/s for the gradients, which a ring moves
2 (8 - 1) / 8 times. Rows go to OUT, data/results/large_transducer.csv if nothing else is said.
Takes about ten minutes, and 3 GiB.
"""

import ctypes
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cspkit.asr import Transducer, TransducerConfig
from cspkit.asr.joint import LARGEST, Joint, chunked_costs, chunked_divergence, joint_of
from cspkit.asr.transducer_config import large_config
from cspkit.deploy.reporting import peak_memory
from cspkit.files import replacing
from cspkit.pruning import CSP, prunable_weights
from cspkit.training import Task, train

OUT = Path(__file__).parents[2] / "data" / "results" / "large_transducer.csv"
TURNS = 5
PIECES = tuple(f"piece{i}" for i in range(1000))
LARGE = large_config(PIECES)
MIDDLE = replace(
    LARGE, encoder_layers=3, encoder_size=288, embedding_size=128, predictor_size=288,
    joiner_size=288,
)  # fmt: skip
# Configuration; utterances of a batch, frames and labels of an utterance
MODELS = {
    "digits": (TransducerConfig(), (32, 32, 4)),
    "middle": (MIDDLE, (8, 100, 16)),
    "large": (LARGE, (8, 312, 50)),
}


class RandomSpeech(Task):
    """The same batch of random features and labels again and again."""

    def __init__(self, config, N, S, U):
        random = torch.Generator().manual_seed(0)
        shape = (N, S * config.stack, config.n_features)
        self.features = torch.randn(shape, generator=random)
        self.targets = torch.randint(0, config.blank, (N, U), generator=random)
        self.frames, self.labels = torch.full((N,), S), torch.full((N,), U)
        self.feature_lengths = self.frames * config.stack

    def batches(self, split, rng):
        while True:
            yield slice(None)

    def loss(self, model, batch):
        joint = joint_of(model, self.features, self.feature_lengths, self.targets)
        costs = chunked_costs(*joint, self.targets, self.frames, self.labels)
        return (costs / self.labels).mean(), joint

    def reference_outputs(self, model, batch):
        return joint_of(model, self.features[::2], self.feature_lengths[::2], self.targets[::2])

    def divergence(self, reference_outputs, outputs, batch):
        lengths = self.frames[::2], self.labels[::2]
        return chunked_divergence(reference_outputs, outputs.pick(slice(None, None, 2)), *lengths)


class Pieces:
    """The parts of a step, each timed alone at the size N, S, U."""

    def __init__(self, config, N, S, U):
        self.N, self.S, self.U = N, S, U
        torch.manual_seed(1)
        self.model, self.reference = Transducer(config), Transducer(config)
        self.task = RandomSpeech(config, N, S, U)
        self.pruner = CSP(prunable_weights(self.model), 0.9, 1000)
        parameters = list(self.model.parameters())
        self.optimizer = torch.optim.Adam(parameters, lr=1e-9, fused=True)
        encoded, predicted = (
            torch.randn(N, steps, size, requires_grad=True)
            for steps, size in ((S, config.encoder_size), (U + 1, config.predictor_size))
        )
        self.joint = Joint(self.model, encoded, predicted)
        self.expected = Joint(self.reference, encoded.detach(), predicted.detach())

    def seconds(self):
        """Seconds a frame, a label, a cell and a weight, each of all that a step does with it."""
        frames, labels, cells = self.N * self.S, self.N * self.U, self.N * self.S * (self.U + 1)
        task, model, lengths = self.task, self.model, (self.task.frames, self.task.labels)
        with torch.no_grad():
            features, targets = task.features[::2], task.targets[::2]
            frame = timed(lambda: self.reference.encode(features))
            label = timed(lambda: self.reference.predict(self.reference.start(targets)))
        frame += timed(lambda: model.encode(task.features)[0].sum().backward())
        label += timed(lambda: model.predict(model.start(task.targets))[0].sum().backward())
        cell = timed(lambda: chunked_costs(*self.joint, task.targets, *lengths).sum().backward())
        used = slice(None, None, 2)
        joints = self.expected.pick(used), self.joint.pick(used)
        halves = [length[used] for length in lengths]
        cell += timed(lambda: chunked_divergence(*joints, *halves).backward())
        found = {"frame": frame / frames, "label": label / labels, "cell": cell / cells}
        return found | {"weight": timed(self.update) / n_weights(model)}

    def update(self):
        self.model.zero_grad()
        with self.pruner.sparse():
            sum(p.sum() for p in self.model.parameters()).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.pruner.step(self.optimizer)


def timed(call):
    start = time.process_time()
    call()
    return time.process_time() - start


def n_weights(model):
    return sum(p.numel() for p in model.parameters())


def step_seconds(pieces, config, N, S, U, weights):
    """Seconds of a step on paper."""
    counts = {"frame": N * S, "label": N * U, "cell": N * S * (U + 1), "weight": weights}
    return sum(pieces[name] * n for name, n in counts.items())


def memory(config, N, S, U, model):
    """MiB of a step on paper, by part."""
    weights = n_weights(model)
    pruned = sum(w.numel() for w in prunable_weights(model).values())
    units = (
        N * S * config.encoder_layers * config.encoder_size + N * (U + 1) * config.predictor_size
    )
    joint = 100 * N * (S + U) * (U + 1) + 16 * min(LARGEST, S * (U + 1) * (config.blank + 1))
    parts = {
        "weights_and_gradients": 8 * weights,
        "adam": 8 * weights,
        "v_and_masks": 5 * pruned,
        "reference": 4 * weights,
        "activations_or_ranking": max(32 * units + joint, 12 * pruned),
    }
    return {name: n_bytes / 2**20 for name, n_bytes in parts.items()}


def training(name, steps, on_step):
    """Train a model of this name with CSP and D."""
    config, sizes = MODELS[name]
    torch.manual_seed(0)
    model, reference = Transducer(config), Transducer(config)
    pruner = CSP(prunable_weights(model), 0.9, 1000)
    pruner.finish = lambda: None
    train(
        model, RandomSpeech(config, *sizes), steps, pruner=pruner, reference=reference, mu=1.0,
        rng=np.random.default_rng(0), on_step=on_step,
    )  # fmt: skip


def peak_of_training(name, keep):
    """MiB by which a few steps raise the memory of this process."""
    library = ctypes.CDLL("libc.so.6")
    if not keep:
        for option in (-3, -1):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
            library.mallopt(option, 2**17)
    training("digits", 1, lambda row: None)  # makes the libraries' own buffers
    library.malloc_trim(0)
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    training(name, 3, lambda row: None)
    return (peak_memory() - resident) / 2**20


def measured_turns(name):
    """Seconds of steps that were run, and pieces timed between them."""
    config, sizes = MODELS[name]
    pieces, steps, found = Pieces(config, *sizes), [], []
    last = None

    def on_step(row):
        nonlocal last
        if last is not None:
            steps.append(time.process_time() - last)
        found.append(pieces.seconds())
        last = time.process_time()

    training(name, TURNS + 2, on_step)
    return steps[1:], found[2:]


def row_of(name):
    """The row of one model."""
    config, (N, S, U) = MODELS[name]
    model = Transducer(config)
    on_paper = partial(step_seconds, config=config, N=N, S=S, U=U, weights=n_weights(model))
    parts = memory(config, N, S, U, model)
    row = {"model": name, "weights": n_weights(model), "utterances": N, "frames": S, "labels": U}
    if name == "large":
        small = Pieces(config, N, 60, 20)
        found = [small.seconds() for _ in range(4)][1:]
    else:
        steps, found = measured_turns(name)
    for piece, unit in (("frame", "us"), ("label", "us"), ("cell", "us"), ("weight", "ns")):
        median = float(np.median([turn[piece] for turn in found]))
        row[f"{unit}_per_{piece}"] = round(median * (1e9 if unit == "ns" else 1e6), 2)
    paper = [on_paper(turn) for turn in found]
    row["step_seconds_paper"] = seconds = round(float(np.median(paper)), 3)
    if name != "large":
        row["step_seconds"] = round(float(np.median(steps)), 3)
        row["time_ratio"] = round(float(np.median(np.divide(steps, paper))), 2)
    row |= {f"mib_{part}": round(mib, 1) for part, mib in parts.items()}
    row["mib_paper"] = round(sum(parts.values()), 1)
    if name != "large":
        for column, keep in (("mib", False), ("kept_mib", True)):
            call = [sys.executable, __file__, json.dumps([name, keep])]
            printed = subprocess.run(call, capture_output=True, text=True, check=True).stdout
            row[column] = round(float(printed), 1)
        return row | {"memory_ratio": round(row["mib"] / row["mib_paper"], 2)}
    gradient = 4 * row["weights"]
    steps_of_an_epoch = 100 * 3600 / (N * S * 0.04)
    row["batch_seconds"] = round(N * S * 0.04, 1)
    row["mib_all_reduced"] = round(gradient / 2**20, 1)
    row["hours_1_core"] = round(steps_of_an_epoch * seconds / 3600, 1)
    exchanged = 2 * 7 / 8 * gradient / 1e9
    row["hours_8_cores"] = round(steps_of_an_epoch / 8 * (seconds + exchanged) / 3600, 1)
    return row


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("["):
        print(peak_of_training(*json.loads(sys.argv[1])))
        sys.exit()
    rows = []
    for name in MODELS:
        rows.append(row_of(name))
        print(pd.Series(rows[-1]).to_string(), end="\n\n", flush=True)
    with replacing(sys.argv[1] if len(sys.argv) > 1 else OUT) as file:
        pd.DataFrame(rows).to_csv(file, index=False)
