"""The copy of a tuning in a storage of optuna."""

import math

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from study_bench import BlobBench

from cspkit.arguments import ArgumentError
from cspkit.study import tune

CALL = {"steps": 4, "sparsity": 0.9, "metric": "error"}


def test_a_journal_has_the_trials_of_the_rows_each_once(tmp_path):
    journal = tmp_path / "new" / "trials.log"
    for trials in (2, 3):  # the second call continues
        rows = tune(
            BlobBench(), ["gmp", "csp"], out=tmp_path / "rows.csv", trials=trials, storage=journal,
            **CALL,
        )  # fmt: skip
    kept = JournalStorage(JournalFileBackend(str(journal)))
    names = optuna.get_all_study_names(kept)
    assert len(names) == 2
    for name in names:
        own = rows[rows["method"] == name.split()[1]]
        copied = optuna.load_study(study_name=name, storage=kept).trials
        assert [trial.value for trial in copied] == list(own["dev_loss"])
        assert [trial.params["rate"] for trial in copied] == list(own["rate"])


def test_a_trial_that_diverged_is_in_the_journal_as_infinite(tmp_path):
    class Diverging(BlobBench):
        def __call__(self, seed):
            task, model = super().__call__(seed)
            task.loss = lambda model, batch: (model(batch[0]).sum() * math.nan, None)
            return task, model

    journal = tmp_path / "trials.log"
    call = CALL | {"objective": "dev_error", "trials": 1, "storage": journal}
    tune(Diverging(), ["gmp"], out=tmp_path / "rows.csv", **call)
    kept = JournalStorage(JournalFileBackend(str(journal)))
    (name,) = optuna.get_all_study_names(kept)
    assert optuna.load_study(study_name=name, storage=kept).trials[0].value == math.inf


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("sqlite:///trials.db", "storage is 'sqlite:///trials.db': expected the path of a journal"),
        ("SQLite+pysqlite:///trials.db", "SQLite loses trials"),
        (3, "storage is '3': expected the path"),
        ("none://user:secret@host/trials", r"storage is 'none://user:\.\.\.@host/trials', which"),
        ("postgresql://127.0.0.1:1/trials", "which optuna cannot use"),
        (__file__, "which optuna cannot use"),
    ],
)
def test_other_storages_are_refused_before_anything_is_measured(storage, message, tmp_path):
    out = tmp_path / "rows.csv"
    with pytest.raises(ArgumentError, match=message):
        tune(BlobBench(), ["gmp"], out=out, storage=storage, **CALL)
    assert not out.exists()
