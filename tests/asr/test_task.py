from dataclasses import replace

import numpy as np
import pytest
import torch

from cspkit.arguments import ArgumentError
from cspkit.asr import DigitTask, TransducerConfig, deltas, load_spoken_digits
from cspkit.asr.augmentation import Augmentation
from cspkit.asr.corpus import Corpus
from cspkit.asr.transducer_config import CHARACTERS
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


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TransducerConfig(stack=2), "config.stack of the model is 2: expected 3"),
        (TransducerConfig(units=CHARACTERS), "config.units of the model is"),
        (TransducerConfig(n_features=26), "config.n_features of the model is 26: expected 13"),
    ],
)
def test_a_model_of_another_task_is_refused(config, message):
    task = DigitTask(batch_size=4)
    stranger = DigitTask._model(config)
    batch = next(task.batches("train", np.random.default_rng(0)))
    with pytest.raises(ArgumentError, match=message):
        task.loss(stranger, batch)


def test_a_corpus_with_deltas_and_a_constant_column_is_learned_from():
    def widened(recording):
        slopes = deltas(recording.features)
        slopes[:, 0] = 0.0
        return replace(recording, features=np.hstack([recording.features, slopes]).astype(float))

    corpus = Corpus(tuple(widened(r) for r in load_spoken_digits().recordings))
    config = TransducerConfig(n_features=26)
    with pytest.raises(ArgumentError, match="config.n_features is 13: expected 26"):
        DigitTask(corpus)
    with pytest.raises(ArgumentError, match="augmentation is the default, which is for 13 cepstra"):
        DigitTask(corpus, config=config)
    augmentation = Augmentation(speed=0.2, warp=0.1, deltas=1)
    task = DigitTask(corpus, config=config, batch_size=4, augmentation=augmentation)
    batch = next(task.batches("train", np.random.default_rng(0)))
    loss, _ = task.loss(task.new_model(0), batch)
    assert torch.isfinite(loss) and loss.dtype == torch.float32


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"units": ()}, "units is .*expected one or more strings"),
        ({"units": ("one", "one")}, "units is "),
        ({"stack": 0}, "stack is 0"),
        ({"encoder_size": 1.5}, "encoder_size is 1.5"),
    ],
)
def test_a_configuration_that_makes_no_model_is_named(option, message):
    with pytest.raises(ArgumentError, match=message):
        TransducerConfig(**option)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"curriculum": "a"}, "curriculum is 'a'"),
        ({"augmentation": "none"}, "augmentation is 'none'"),
    ],
)
def test_bad_options_are_named(option, message):
    with pytest.raises(ArgumentError, match=message):
        DigitTask(**option)
