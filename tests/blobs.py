"""A small classification task: shows that loop and pruners know nothing of speech."""

import numpy as np
import torch
from sklearn.datasets import make_blobs
from torch import nn

from cspkit.training import Task


class Blobs(Task):
    """Five Gaussian blobs in ten dimensions, a task with a divergence."""

    def __init__(self):
        x, y = make_blobs(600, n_features=10, centers=5, cluster_std=2.0, random_state=0)
        self.x = torch.from_numpy(x.astype(np.float32))
        self.y = torch.from_numpy(y)

    def new_model(self, seed=0):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(10, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 5)
        )

    def batches(self, split, rng):
        while split == "train":
            chosen = torch.from_numpy(rng.integers(400, size=32))
            yield self.x[chosen], self.y[chosen]
        yield self.x[400:], self.y[400:]

    def loss(self, model, batch):
        outputs = model(batch[0])
        return nn.functional.cross_entropy(outputs, batch[1]), outputs

    def divergence(self, reference_outputs, outputs, batch):
        return nn.functional.kl_div(
            outputs.log_softmax(1),
            reference_outputs.log_softmax(1),
            reduction="batchmean",
            log_target=True,
        )

    def evaluate(self, model, split):
        x, y = next(self.batches(split, np.random.default_rng(0)))
        with torch.no_grad():
            return {"error": float((model(x).argmax(1) != y).float().mean())}
