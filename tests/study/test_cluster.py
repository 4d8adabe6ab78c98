"""Studies on a Dask cluster of this machine: the same rows as with processes, whatever dies."""

import importlib
import os
import re
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import dask
import joblib
import pytest
import torch
from distributed import LocalCluster
from study_bench import BlobBench

from cspkit.__main__ import main
from cspkit.arguments import ArgumentError
from cspkit.study import cluster, clusters, compare, read_rows, tune
from cspkit.study.version import sources_version

CALL = {"sparsities": [0.5, 0.9], "seeds": [0, 1], "steps": 6, "metric": "error"}
METHODS = ["dense", "gmp", "csp"]
N_ROWS = 2 * (1 + 2 * 2)


@dataclass(frozen=True)
class WatchedBench(BlobBench):
    """Notes in a folder which process measured which run. Workers die as often as `deaths` says."""

    folder: str = ""
    deaths: int = 0
    rows: str = ""  # if it is given, the run of `gmp` at .9 on seed 0 waits for the other rows

    def keep(self, run, model):
        notes = Path(self.folder)
        with (notes / str(run)).open("a") as note:
            note.write(f"{os.getpid()}\n")
        died = len(list(notes.glob("death*")))
        if run.entry.method == "gmp" and died < self.deaths:
            (notes / f"death{died}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.rows and (run.entry.method, run.sparsity, run.seed) == ("gmp", 0.9, 0):
            end = time.monotonic() + 300
            while not Path(self.rows).is_file() or len(read_rows(self.rows)) < N_ROWS - 1:
                assert time.monotonic() < end, "the other rows are not written yet"
                time.sleep(0.05)

    def measured(self):
        """Return the processes that measured each run."""
        notes = Path(self.folder).glob("* at *")
        return {note.name: [int(line) for line in note.read_text().split()] for note in notes}


def local(n, threads=1):
    return LocalCluster(
        n_workers=n, threads_per_worker=threads, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    )


@pytest.fixture(scope="module")
def pair():
    with local(2) as machine:
        yield machine.scheduler_address


@pytest.fixture(scope="module")
def single():
    """One worker, and a scheduler that gives up a run when its first worker has died."""
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), local(1) as machine:
        yield machine


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The rows of the study in this process; those of `jobs` processes are equal to them."""
    out = tmp_path_factory.mktemp("processes") / "rows.csv"
    compare(BlobBench(), METHODS, out=out, **CALL)
    return without_times(out)


@pytest.fixture
def bench(tmp_path):
    (tmp_path / "notes").mkdir()
    return WatchedBench(folder=str(tmp_path / "notes"))


def without_times(path):
    return read_rows(path).drop(columns=["seconds", "processor_seconds"]).to_csv(index=False)


def test_a_cluster_writes_the_rows_of_processes_each_when_it_is_there(
    pair, expected, bench, tmp_path
):
    out = tmp_path / "rows.csv"
    bench = WatchedBench(folder=bench.folder, rows=str(out))
    with cluster(pair):
        compare(bench, METHODS, out=out, **CALL)
    assert without_times(out) == expected
    measured = bench.measured()
    processes = {process for by in measured.values() for process in by}
    assert len(measured) == N_ROWS and all(len(by) == 1 for by in measured.values())
    assert len(processes) == 2 and os.getpid() not in processes


def test_a_tuning_on_a_cluster_has_the_trials_of_a_tuning_without(pair, tmp_path):
    call = {"steps": 4, "sparsity": 0.9, "metric": "error", "trials": 6}
    tune(BlobBench(), ["gmp", "csp"], out=tmp_path / "here.csv", **call)
    with cluster(pair):
        tune(BlobBench(), ["gmp", "csp"], out=tmp_path / "there.csv", **call)
    assert without_times(tmp_path / "there.csv") == without_times(tmp_path / "here.csv")


class Drifting(WatchedBench):
    def __call__(self, seed):
        task, model = super().__call__(seed)
        with torch.no_grad():
            model[0].bias += time.time() % 1
        return task, model


def test_an_error_on_a_worker_is_raised_and_the_connection_serves_the_next_study(
    pair, bench, tmp_path
):
    with cluster(pair):
        with pytest.raises(ArgumentError, match="bench returned another dense model"):
            compare(Drifting(folder=bench.folder), ["gmp"], out=tmp_path / "1.csv", **CALL)
        compare(bench, ["gmp"], out=tmp_path / "2.csv", **CALL)
    assert len(read_rows(tmp_path / "2.csv")) == len(bench.measured()) == 4


def test_a_worker_that_is_killed_changes_no_row(pair, expected, bench, tmp_path):
    bench = WatchedBench(folder=bench.folder, deaths=1)
    with cluster(pair):
        compare(bench, METHODS, out=tmp_path / "rows.csv", **CALL)
    assert without_times(tmp_path / "rows.csv") == expected
    repeated = [run for run, by in bench.measured().items() if len(by) > 1]
    assert len(bench.measured()) == N_ROWS
    assert any(run.startswith("gmp") for run in repeated)


def threads_before(n):
    """Return the number of torch threads, and leave another number behind."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    return before


def test_a_cluster_of_one_worker_is_used_with_one_torch_thread(single, bench, tmp_path):
    with cluster(single.scheduler_address):
        compare(bench, ["gmp"], out=tmp_path / "rows.csv", **CALL)
        threads = joblib.Parallel()(joblib.delayed(threads_before)(n) for n in (3, 3))
    processes = {process for by in bench.measured().values() for process in by}
    assert len(processes) == 1 and os.getpid() not in processes
    assert threads == [1, 1]


def pretend(module, name, value):
    setattr(importlib.import_module(module), name, value)


def other_sources(*modules):
    return "0" * 12


def test_a_worker_with_other_versions_or_sources_is_named(single, tmp_path):
    call = CALL | {"methods": ["gmp"], "out": tmp_path / "rows.csv"}
    sources = "cspkit.study.bench", "sources_version"
    with cluster(single.scheduler_address) as client:
        (worker,) = client.nthreads()
        client.run(pretend, *sources, other_sources)
        with pytest.raises(ArgumentError, match="sources that CountedBlobs and gmp .*are not"):
            compare(BlobBench(), **call)
        client.run(pretend, *sources, sources_version)
        for package, version in (("torch", "1.0.0"), ("cspkit", "0.0.1")):
            own = importlib.import_module(package).__version__
            client.run(pretend, package, "__version__", version)
            message = f"worker {worker} with {package} {version}: expected {own.split('+')[0]}"
            with pytest.raises(ArgumentError, match=re.escape(message)):
                compare(BlobBench(), **call)
            with pytest.raises(ArgumentError, match=re.escape(message)):
                with cluster(single.scheduler_address):
                    pass
            client.run(pretend, package, "__version__", own)
        compare(BlobBench(), **call)
    assert len(read_rows(call["out"])) == 4


def test_a_run_that_kills_its_workers_is_given_up(single, bench, tmp_path):
    bench = WatchedBench(folder=bench.folder, deaths=9)
    with pytest.raises(OSError, match="given up, because 1 of its workers died"):
        with cluster(single.scheduler_address):
            compare(bench, ["dense", "gmp"], out=tmp_path / "rows.csv", **CALL)
    rows = read_rows(tmp_path / "rows.csv")
    assert list(rows["method"].unique()) == ["dense"]


def compare_after_the_end_of(machine, out):
    with cluster(machine.scheduler_address) as client:
        machine.close()
        while client.status != "closed":
            time.sleep(0.05)
        compare(BlobBench(), ["gmp"], out=out, **CALL)


def test_a_scheduler_that_goes_away_ends_the_study(single, tmp_path):
    single.wait_for_workers(1)
    with pytest.raises(OSError, match="connection to the Dask scheduler .* is lost"):
        compare_after_the_end_of(single, tmp_path / "rows.csv")


def test_workers_with_several_threads_and_a_cluster_without_workers_are_refused():
    with local(0) as machine:
        with pytest.raises(OSError, match="has no worker: start workers with `dask worker tcp:"):
            with cluster(machine.scheduler_address):
                pass
    with local(1, threads=2) as machine, pytest.raises(ArgumentError, match="with 2 threads"):
        with cluster(machine.scheduler_address):
            pass


@pytest.fixture
def nobody():
    """An address of this machine at which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{listener.getsockname()[1]}"


def test_a_scheduler_that_is_not_there_is_one_line_and_exit_code_1(
    nobody, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(clusters, "PATIENCE", 1)
    out = tmp_path / "rows.csv"
    call = ["compare", "--quick", "--backend", "dask", "--scheduler", nobody, "--out", str(out)]
    assert main(call) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and f"no Dask scheduler answers at {nobody}: start" in message
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backend", "dask"], "--backend is 'dask' and --scheduler is None: expected both"),
        (["--scheduler", "a:1"], "--backend is 'processes' and --scheduler is 'a:1': expected"),
        (["--backend", "dask", "--scheduler", "a"], "--scheduler is 'a': expected the address"),
        (["--backend", "dask", "--scheduler", "ftp://a:1"], "--scheduler is 'ftp://a:1': exp"),
        (["--backend", "dask", "--scheduler", ""], "--scheduler is '': expected the address"),
    ],
)
def test_wrong_options_are_named(options, message, tmp_path, capsys):
    assert main(["compare", "--quick", *options, "--out", str(tmp_path / "rows.csv")]) == 2
    assert message in capsys.readouterr().err
