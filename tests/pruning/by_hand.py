"""Drive a pruner by hand, from any step of its schedule."""

from contextlib import contextmanager

import torch


@contextmanager
def at(pruner, step):
    """The forward and backward passes of one step: the model holds Z."""
    pruner.steps_done, pruner._chosen = step, False
    with pruner.sparse():
        yield


def one_layer(method, values, sparsity, steps, **settings):
    """A pruner of a single matrix with these values."""
    weight = torch.nn.Parameter(values.clone())
    return weight, method({"w": weight}, sparsity, steps, **settings)


class Moves(torch.optim.Optimizer):
    """An optimizer that sets a weight to given values, as momentum might."""

    def __init__(self, weight, values):
        super().__init__([weight], {})
        self.weight, self.values = weight, values

    def step(self, closure=None):
        self.weight.data.copy_(self.values)
