import numpy as np
import pytest
from blobs import Blobs

from cspkit.training import train


@pytest.fixture(scope="session")
def task():
    return Blobs()


@pytest.fixture(scope="session")
def dense(task):
    """A trained classifier of 2,200 prunable weights; tests leave it as it is."""
    model = task.new_model()
    train(model, task, 200, rng=np.random.default_rng(0), rate=1e-2)
    return model
