"""A bench of a study: Gaussian blobs, with errors counted for each point of the test part."""

from dataclasses import dataclass

import numpy as np
import torch
from blobs import Blobs

from cspkit.training import train


class CountedBlobs(Blobs):
    def errors(self, model, split):
        x, y = next(self.batches(split, np.random.default_rng(0)))
        with torch.no_grad():
            return (model(x).argmax(1) != y).numpy().astype(int), np.ones(len(y), dtype=int)

    def evaluate(self, model, split):
        batch = next(self.batches(split, np.random.default_rng(0)))
        with torch.no_grad():
            loss, _ = self.loss(model, batch)
        return super().evaluate(model, split) | {"loss": loss.item()}


@dataclass(frozen=True)
class BlobBench:
    name: str = "blobs"
    counted: bool = True

    def __call__(self, seed):
        task = CountedBlobs() if self.counted else Blobs()
        model = task.new_model(seed)
        train(model, task, 20, rng=np.random.default_rng(seed), rate=1e-2)
        return task, model

    def small(self, seed, n_weights, steps):
        torch.manual_seed(seed)
        width = round((n_weights - 5) / 16)
        model = torch.nn.Sequential(
            torch.nn.Linear(10, width), torch.nn.ReLU(), torch.nn.Linear(width, 5)
        )
        train(model, CountedBlobs(), 20 + steps, rng=np.random.default_rng(seed), rate=1e-2)
        return model
