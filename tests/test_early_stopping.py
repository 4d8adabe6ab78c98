import numpy as np
import pytest
import torch
from blobs import Blobs
from torch import nn

from cspkit.early_stopping import EarlyStopping
from cspkit.pruning import CSP, GMP, PRUNERS, prunable_weights
from cspkit.training import train

STEPS = 60


class Scripted(Blobs):
    """Blobs whose figure of merit is read from a list."""

    def __init__(self, figures):
        super().__init__()
        self.figures = iter(figures)

    def evaluate(self, model, split):
        assert not model.training
        return {"loss": next(self.figures), "other": 0.0}


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def run(figures, steps=STEPS, every=10, **options):
    """Train with scripted figures; return stopper, log, final weights, and those at each step."""
    task = Scripted(figures)
    model = task.new_model()
    stopper = EarlyStopping(task, model, every=every, **options)
    seen = []

    def watch(row):
        seen.append(weights(model).clone())

    log = train(model, task, steps, rng=np.random.default_rng(0), on_step=[watch, stopper])
    return stopper, log, weights(model), seen


def test_the_run_ends_after_patience_without_a_new_best_and_goes_back_to_it():
    stopper, log, final, seen = run([5, 3, 4, 3, 9, 1], patience=3)
    assert len(log) == 50  # the best at step 19, then three more evaluations
    assert [row["step"] for row in stopper.rows] == [9, 19, 29, 39, 49]
    assert stopper.best == {"step": 19, "loss": 3, "other": 0.0}
    assert torch.equal(final, seen[19])
    assert not torch.equal(final, seen[-1])


def test_a_run_that_improves_to_its_end_keeps_its_last_weights():
    stopper, log, final, seen = run([6, 5, 4, 3, 2, 1], patience=1)
    assert len(log) == STEPS
    assert torch.equal(final, seen[-1])
    assert len(stopper.rows) == 6


def test_the_last_weights_are_evaluated_even_between_two_evaluations():
    stopper, _, final, seen = run([6, 5, 1], steps=25)
    assert [row["step"] for row in stopper.rows] == [9, 19, 24]
    assert torch.equal(final, seen[24])
    stopper, _, final, seen = run([6, 5, 7], steps=25)
    assert torch.equal(final, seen[19])


def test_figures_that_are_not_finite_are_never_the_best():
    stopper, log, final, seen = run([np.nan, 4, np.nan, np.inf, 5], patience=3)
    assert torch.equal(final, seen[19]) and len(log) == 50
    stopper, log, final, seen = run([np.nan] * 6, patience=2)
    assert stopper.best is None and len(log) == 20
    assert torch.equal(final, seen[-1])


def test_nothing_is_evaluated_before_first():
    stopper, *_ = run([1, 2, 3], first=35)
    assert [row["step"] for row in stopper.rows] == [39, 49, 59]


def test_evaluation_leaves_training_as_it_was():
    _, log, final, seen = run([6, 5, 4, 3, 2, 1])
    task = Blobs()
    model = task.new_model()
    plain = train(model, task, STEPS, rng=np.random.default_rng(0))
    assert plain == log
    assert torch.equal(weights(model), final)

    class Dropout(Scripted):
        def new_model(self, seed=0):
            return nn.Sequential(nn.Dropout(0.5), super().new_model(seed))

    task = Dropout([1, 2])
    model = task.new_model().train()
    EarlyStopping(task, model, every=1)({"step": 0, "sparsity": 0.0, "frozen": 1.0})
    assert model.training


@pytest.mark.parametrize("method", [GMP, CSP])
def test_a_pruned_model_has_its_final_sparsity_and_the_best_weights(method):
    task = Scripted([4, 1, 3, 2])
    model = task.new_model()
    pruner = method(prunable_weights(model), 0.9, STEPS)
    stopper = EarlyStopping(task, model, every=5)
    seen = {}

    def watch(row):
        seen[row["step"]] = weights(model).clone()

    watchers = [stopper, watch]
    train(model, task, STEPS, pruner=pruner, rng=np.random.default_rng(0), on_step=watchers)
    assert stopper.best["step"] == 49
    assert torch.equal(weights(model), seen[49])
    nonzero = sum(int((w != 0).sum()) for w in pruner.weights.values())
    assert nonzero == sum(int(m.sum()) for m in pruner.masks.values())
    assert pruner.sparsity == pytest.approx(0.9, abs=1e-3)


@pytest.mark.parametrize("method", PRUNERS)
def test_nothing_is_evaluated_before_the_support_is_frozen(method):
    task = Blobs()
    model = task.new_model()
    pruner = PRUNERS[method](prunable_weights(model), 0.9, STEPS)
    stopper = EarlyStopping(task, model, every=5, patience=STEPS, metric="error")
    supports = {}

    def watch(row):
        supports[row["step"]] = [w != 0 for w in pruner.weights.values()]

    watchers = [stopper, watch]
    log = train(model, task, STEPS, pruner=pruner, rng=np.random.default_rng(0), on_step=watchers)
    assert [row["frozen"] for row in log] == [0.0] * pruner.end + [1.0] * (STEPS - pruner.end)
    assert [row["step"] for row in stopper.rows] == [
        s for s in range(4, STEPS, 5) if s >= pruner.end
    ]
    final = supports[STEPS - 1]
    for row in stopper.rows:
        assert all(map(torch.equal, supports[row["step"]], final))


def test_weights_of_a_support_that_moved_to_the_end_are_not_the_best():
    task = Blobs()
    model = task.new_model()
    pruner = GMP(prunable_weights(model), 0.9, STEPS, end=1.0)
    stopper = EarlyStopping(task, model, every=5, metric="error")
    train(model, task, STEPS, pruner=pruner, rng=np.random.default_rng(0), on_step=stopper)
    assert stopper.rows == [] and stopper.best is None
    assert pruner.sparsity == pytest.approx(0.9, abs=1e-3)


def resumable(state_file, kill_after=None, patience=3, figures="error"):
    task = Blobs()
    model = task.new_model()

    class Killed(EarlyStopping):
        def __call__(self, row):
            if row["step"] == kill_after:
                raise KeyboardInterrupt
            return super().__call__(row)

    Killed.__name__ = "EarlyStopping"
    stopper = Killed(task, model, every=7, patience=patience, metric=figures)
    log = train(
        model, task, 300, rng=np.random.default_rng(0), rate=1e-2, on_step=stopper,
        state_file=state_file, state_every=14,
    )  # fmt: skip
    return weights(model), log, stopper.rows


@pytest.mark.parametrize("kill_after", [3, 13, 14, 20, 27, 28, 40])
def test_a_killed_run_ends_as_one_that_was_not(tmp_path, kill_after):
    unbroken = resumable(None)
    assert len(unbroken[1]) < 300
    with pytest.raises(KeyboardInterrupt):
        resumable(tmp_path / "state", kill_after)
    resumed = resumable(tmp_path / "state")
    assert torch.equal(resumed[0], unbroken[0])
    assert resumed[1:] == unbroken[1:]
    assert not list(tmp_path.iterdir())


def test_a_state_of_a_run_with_other_stopping_is_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        resumable(tmp_path / "state", kill_after=20)
    with pytest.raises(ValueError, match="its method is"):
        resumable(tmp_path / "state", patience=4)
    task = Blobs()
    model, rng = task.new_model(), np.random.default_rng(0)
    with pytest.raises(ValueError, match="its method is"):
        train(model, task, 300, rng=rng, rate=1e-2, state_file=tmp_path / "state")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"every": 0}, "every is 0"),
        ({"patience": 0}, "patience is 0"),
        ({"patience": 1.5}, "patience is 1.5"),
        ({"first": -1}, "first is -1"),
    ],
)
def test_bad_options_are_named(option, message):
    with pytest.raises(ValueError, match=message):
        EarlyStopping(Blobs(), Blobs().new_model(), **option)


def test_an_unknown_figure_is_named():
    task = Blobs()
    model = task.new_model()
    stopper = EarlyStopping(task, model, every=2, metric="wer")
    with pytest.raises(ValueError, match="metric is 'wer': expected one of error"):
        train(model, task, 5, rng=np.random.default_rng(0), on_step=stopper)
