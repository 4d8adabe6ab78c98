import pandas as pd
import pytest

from cspkit.teach import headline


def row(method, fold, wer):
    return {"method": method, "fold": fold, "seed": fold, "steps": 1, "sparsity": 0.95,
            "nonzeros": 16563, "dev_wer": wer, "test_wer": wer, "seconds": 1.0,
            "test_low": wer - 0.005, "test_high": wer + 0.005}  # fmt: skip


@pytest.fixture
def measured(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    calls = []

    def measure(method, fold, checkpoint, dense_steps):
        calls.append((method, fold))
        if method == "dense":
            checkpoint.parent.mkdir(exist_ok=True)
            checkpoint.touch()
        return row(method, fold, 0.01 * len(calls))

    monkeypatch.setattr(headline, "measure", measure)
    return calls


def test_every_method_on_every_fold_and_only_once(measured, tmp_path):
    rows = headline.measure_all([0, 1], tmp_path / "out.csv")
    assert measured == [(m, f) for f in (0, 1) for m in headline.METHODS]
    headline.measure_all([0, 1, 2], tmp_path / "out.csv")
    assert measured[8:] == [(m, 2) for m in headline.METHODS]
    assert len(rows) == 8


def test_a_stopped_run_goes_on_where_it_was(measured, tmp_path):
    out = tmp_path / "out.csv"
    headline.measure_all([0], out)
    whole = out.read_text()
    out.write_text("\n".join(whole.splitlines()[:3]) + "\n")
    del measured[:]
    headline.measure_all([0], out)
    assert measured == [("gmp", 0), ("csp", 0)]


def test_the_table_has_means_in_per_cent():
    text = headline.table(pd.DataFrame([row("csp", 0, 0.01), row("csp", 1, 0.02)]))
    assert "csp" in text
    assert "1.50 %" in text
    assert "95.00 %" in text
    assert "16,563" in text
    assert "(1.00 - 2.00)" in text
    assert "folds 0, 1; in brackets: lowest and highest fold" in text
    text = headline.table(pd.DataFrame([row("csp", 0, 0.01)]))
    assert "(0.50 - 1.50)" in text
    assert "95 % interval" in text
