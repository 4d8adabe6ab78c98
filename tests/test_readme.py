"""The figures of the README are those of the recorded rows."""

from pathlib import Path

import pytest

from cspkit.study import read_rows, summary

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Label in the table: file, what its task has in its name, zeros, steps, metric.
PLACES = {
    "600 steps": ("methods", "", (0.8, 0.9, 0.95, 0.98), 600, "wer"),
    "2,000 steps, three folds": ("long", "", (0.95, 0.98, 0.99), 2000, "wer"),
    "256 units a layer, three folds": ("widths", "-256-", (0.95,), 600, "wer"),
    "64 units a layer, three folds": ("widths", "-64-", (0.95,), 600, "wer"),
    "letters as units, three folds": ("second_task", "", (0.95,), 600, "wer"),
    "strangers, six of them": ("speakers", "", (0.9, 0.95), 600, "wer"),
    "images of digits": ("images", "", (0.95, 0.98), 600, "error"),
}


def lines_of(study, of_task="", metric="wer"):
    rows = read_rows(ROOT / "data" / "results" / f"pruning_{study}.csv")
    return summary(rows[rows["task"].str.contains(of_task)], metric)


@pytest.fixture(scope="module")
def methods():
    return lines_of("methods")


@pytest.mark.parametrize("method", ["dense", "dense+", "gmp", "dpf", "csp"])
def test_the_first_table_is_that_of_the_rows(methods, method):
    line = methods[(methods["method"] == method) & methods["sparsity"].isin([0.0, 0.95])].iloc[0]
    rows = read_rows(ROOT / "data" / "results" / "pruning_methods.csv")
    own = rows[(rows["method"] == method) & (rows["sparsity"] == line["sparsity"])]
    expected = (
        f"    {method:10s}{100 * line['rate']:6.2f} %   ({100 * line['low']:.2f} - "
        f"{100 * line['high']:.2f})     {100 * line['sparsity']:5.2f} %  "
        f"{own['nonzeros'].iloc[0]:8,d}"
    )
    assert expected in README


@pytest.mark.parametrize("place", PLACES)
def test_the_second_table_is_that_of_the_rows(place):
    study, of_task, sparsities, steps, metric = PLACES[place]
    lines = lines_of(study, of_task, metric)
    dense = lines[lines["method"] == "dense"].iloc[0]
    for sparsity in sparsities:
        own = lines[(lines["sparsity"] == sparsity) & (lines["steps"] == steps)]
        own = own.set_index("method")
        csp, rivals = own.loc["csp"], own.loc[["dpf", "gmp"]]
        rates = [dense["rate"], csp["rate"], *rivals["rate"]]
        star = " \\*" if csp["lossless"] else ""
        excess = f"{100 * csp['excess_low']:+.2f} to {100 * csp['excess_high']:+.2f}{star}"
        cells = [f"{100 * sparsity:g} %", *(f"{100 * rate:.2f}" for rate in rates), excess]
        expected = f"| {place} | {' | '.join(cells)} | {', '.join(rivals['verdict'])} |"
        assert expected in README


def test_what_is_said_of_images_beside_the_table():
    lines = lines_of("images", metric="error").set_index("method")
    assert f"(Of images `dense+` makes {100 * lines.loc['dense+', 'rate']:.2f} %.)" in README
