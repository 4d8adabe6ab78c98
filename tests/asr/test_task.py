import numpy as np
import pytest
import torch

from cspkit.asr import DigitTask
from cspkit.training import train


class KilledError(Exception):
    pass


def run(state_file, kill_after=None):
    task = DigitTask(batch_size=4, curriculum=12)
    model = task.new_model(0)

    def on_step(row):
        if row["step"] == kill_after:
            raise KilledError

    log = train(
        model, task, 12, rng=np.random.default_rng(0), on_step=on_step,
        state_file=state_file, state_every=4,
    )  # fmt: skip
    return log, torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("kill_after", [3, 6, 11])
def test_a_recogniser_whose_training_was_killed_ends_with_the_same_weights(tmp_path, kill_after):
    with pytest.raises(KilledError):
        run(tmp_path / "state", kill_after)
    log, weights = run(tmp_path / "state")
    unbroken_log, unbroken = run(None)
    assert log == unbroken_log
    assert torch.equal(weights, unbroken)
