import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from cspkit.teach.comparison import plot


@pytest.fixture
def axes():
    rates = {
        ("dense", 0.0, 0.0): 2, ("gmp", 0.0, 0.9): 4, ("gmp", 0.0, 0.98): 9,
        ("gmp+D", 1.0, 0.9): 3, ("gmp+D", 1.0, 0.98): 6,
    }  # fmt: skip
    rows = [
        {"task": "t", "method": m, "mu": mu, "sparsity": s, "steps": 0 if m == "dense" else 600,
         "seed": seed, "test_wer": (n + seed - 1) / 100,
         "processor_seconds": 1.0}
        for (m, mu, s), n in rates.items()
        for seed in range(3)
    ]  # fmt: skip
    yield plot(pd.DataFrame(rows))
    plt.close("all")


def test_lines_are_the_rates_of_the_rows_and_bars_their_intervals(axes):
    for container, rates in zip(axes.containers, [[4, 9], [3, 6]], strict=True):
        line, _, (bars,) = container.lines
        assert line.get_ydata() == pytest.approx(rates)
        for (low, high), rate in zip((s[:, 1] for s in bars.get_segments()), rates, strict=True):
            assert low < rate < high
    assert [t.get_text() for t in axes.get_xticklabels()] == ["90", "98"]
    dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert [line.get_ydata()[0] for line in dashed] == [pytest.approx(2)]


def test_the_legend_needs_no_colour(axes):
    without, with_term = (c.lines[0] for c in axes.containers)
    assert without.get_linestyle() != with_term.get_linestyle()
    assert to_rgb(without.get_markerfacecolor()) == (1, 1, 1) != with_term.get_markerfacecolor()
    assert {t.get_text() for t in axes.get_legend().get_texts()} == {"gmp", "gmp+D", "dense"}
    assert "%" in axes.get_xlabel() and "%" in axes.get_ylabel()
