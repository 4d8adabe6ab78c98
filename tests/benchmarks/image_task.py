"""Images of handwritten digits and a small multilayer perceptron: a task that is no speech."""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold
from torch import nn

from cspkit.training import Task, train

DENSE_STEPS = 1000


class ImageTask(Task):
    """8 x 8 images of ten digits: fold i of five is tested on, an eighth of the rest is dev."""

    def __init__(self, fold):
        x, y = load_digits(return_X_y=True)
        folds = StratifiedKFold(5, shuffle=True, random_state=0)
        rest, test = list(folds.split(x, y))[fold]
        rest = np.random.default_rng(0).permutation(rest)
        dev, training = np.split(rest, [len(rest) // 8])
        x, y = torch.from_numpy((x / 16).astype(np.float32)), torch.from_numpy(y)
        self.parts = {
            name: (x[rows], y[rows])
            for name, rows in (("train", training), ("dev", dev), ("test", test))
        }

    def new_model(self, seed):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return nn.Sequential(
                nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
            )

    def batches(self, split, rng):
        x, y = self.parts[split]
        while split == "train":
            rows = torch.from_numpy(rng.integers(len(x), size=64))
            yield x[rows], y[rows]
        yield x, y

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

    @torch.no_grad()
    def evaluate(self, model, split):
        loss, _ = self.loss(model, self.parts[split])
        errors, images = self.errors(model, split)
        return {"error": float(errors.sum() / images.sum()), "loss": loss.item()}

    @torch.no_grad()
    def errors(self, model, split):
        x, y = self.parts[split]
        return (model(x).argmax(1) != y).numpy().astype(int), np.ones(len(y), dtype=int)


@dataclass(frozen=True)
class ImageBench:
    """Seed i: fold i and a perceptron trained with seed i; that takes a second."""

    name: str = "images"

    def __call__(self, seed):
        task = ImageTask(seed)
        model = task.new_model(seed)
        train(model, task, DENSE_STEPS, rng=np.random.default_rng(seed))
        return task, model
