import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from blobs import Blobs

from cspkit.early_stopping import EarlyStopping
from cspkit.pruning import prune
from cspkit.teach.live import LivePlot
from cspkit.training import train

STEPS = 25


@pytest.fixture
def screen(monkeypatch):
    """A notebook whose outputs are recorded: a list of the figures that each has shown."""
    outputs = []

    class Handle:
        def update(self, figure):
            outputs[-1].append(figure)

    def display(figure, display_id):
        assert display_id
        outputs.append([figure])
        return Handle()

    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.delenv("CSPKIT_PROGRESS", raising=False)
    return outputs


def run(*watchers):
    task = Blobs()
    return train(task.new_model(), task, STEPS, rng=np.random.default_rng(0), on_step=watchers)


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.get_lines()}


def test_in_a_notebook_one_output_is_drawn_anew_every_n_steps(screen):
    run(LivePlot(every=10))
    assert len(screen) == 1  # one output
    ends = [figure.axes[0].get_lines()[0].get_xdata()[-1] for figure in screen[0]]
    assert ends == [10, 20, 25]
    assert not plt.get_fignums()  # none is left open to be shown twice


def test_without_progress_it_is_drawn_once_at_the_end(screen, monkeypatch, capsys):
    monkeypatch.setenv("CSPKIT_PROGRESS", "0")
    run(LivePlot(every=10))
    assert [len(output) for output in screen] == [1]
    assert screen[0][0].axes[0].get_lines()[0].get_xdata()[-1] == STEPS
    assert capsys.readouterr().err == ""


def test_outside_a_notebook_nothing_is_shown(screen, monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel")
    plot = LivePlot(every=10)
    run(plot)
    assert screen == []
    assert plot.figure is not None


def test_it_shows_the_log_and_its_means():
    plot = LivePlot(every=10, reference=0.7, title="the loss falls")
    log = run(plot)
    assert plot.figure.get_suptitle() == "the loss falls"
    (axes,) = plot.figure.axes
    loss = np.array([row["loss"] for row in log])
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), loss)
    means = lines(axes)["mean of 10 steps"]
    np.testing.assert_array_equal(means[:, 0], [10, 20, 25])
    np.testing.assert_allclose(
        means[:, 1], [loss[:10].mean(), loss[10:20].mean(), loss[15:].mean()]
    )
    assert set(lines(axes)["reference"][:, 1]) == {0.7}
    assert "divergence D" not in lines(axes)


def test_a_pruned_run_has_a_panel_of_sparsity_and_the_divergence():
    plot, task = LivePlot(every=10), Blobs()
    log = prune(task.new_model(), task, "csp", 0.9, steps=STEPS, mu=1.0, on_step=plot).log
    loss, sparsity = plot.figure.axes
    assert "divergence D" in lines(loss)
    expected = [100 * row["sparsity"] for row in log]
    np.testing.assert_allclose(sparsity.get_lines()[0].get_ydata(), expected)


def test_figures_of_the_dev_part_come_from_early_stopping():
    task = Blobs()
    model = task.new_model()
    stopping = EarlyStopping(task, model, every=10, metric="error")
    plot = LivePlot(every=5, stopping=stopping)
    train(model, task, STEPS, rng=np.random.default_rng(0), on_step=[stopping, plot])
    seen = lines(plot.figure.axes[0])["dev error"]
    np.testing.assert_array_equal(seen[:, 0], [10, 20, 25])
    np.testing.assert_allclose(seen[:, 1], [row["error"] for row in stopping.rows])


def test_the_plot_of_a_resumed_run_is_whole(tmp_path):
    class Killed(LivePlot):
        def __call__(self, row):
            super().__call__(row)
            if row["step"] == 17:
                raise KeyboardInterrupt

    task, file = Blobs(), tmp_path / "state"

    def one(plot):
        rng = np.random.default_rng(0)
        call = {"on_step": plot, "state_file": file, "state_every": 5}
        return train(task.new_model(), task, STEPS, rng=rng, **call)

    with pytest.raises(KeyboardInterrupt):
        one(Killed(every=10))
    plot = LivePlot(every=10)
    assert one(plot) == plot.rows
    assert len(plot.rows) == STEPS


def test_it_never_ends_a_run_and_needs_steps():
    plot = LivePlot()
    assert plot({"step": 0, "loss": 1.0, "divergence": 0.0, "sparsity": 0.0}) is None
    LivePlot().finish()
    with pytest.raises(ValueError, match="every is 0"):
        LivePlot(every=0)
