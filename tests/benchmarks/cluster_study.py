"""A study on a cluster, one of whose workers is killed, against the same study in processes.

    python tests/benchmarks/cluster_study.py [--out build/cluster_study]

Runs `cspkit compare --quick` with two processes; then with `--backend dask` on a scheduler and two
workers of this machine, of which one is killed with SIGKILL as soon as the first row is written.
Prints the time of both studies and the columns in which their rows differ, which are those of
times. The exit code is 1 if other columns differ. It records nothing; the rows of both studies stay
in the folder OUT, until the next call.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from distributed import Client, LocalCluster

from cspkit.study import read_rows

TIMES = {"seconds", "processor_seconds"}


def compare(out: Path, *options: str) -> subprocess.Popen:
    call = [sys.executable, "-m", "cspkit", "compare", "--quick", "--out", str(out), *options]
    return subprocess.Popen(call, stdout=subprocess.DEVNULL)


def finished(study: subprocess.Popen, out: Path, start: float) -> float:
    if study.wait() != 0:
        sys.exit(f"the study of {out} ended with exit code {study.returncode}")
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/cluster_study"))
    call = parser.parse_args()
    outs = [call.out / "processes.csv", call.out / "cluster.csv"]
    for out in outs:
        out.unlink(missing_ok=True)

    start = time.perf_counter()
    seconds = finished(compare(outs[0], "--jobs", "2"), outs[0], start)
    print(f"two processes: {seconds:.0f} s", flush=True)

    with ExitStack() as stack:
        machine = stack.enter_context(
            LocalCluster(
                n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
            )
        )
        address = machine.scheduler_address
        client = stack.enter_context(Client(address, set_as_default=False))
        workers = client.run(os.getpid)
        start = time.perf_counter()
        study = compare(outs[1], "--backend", "dask", "--scheduler", address)
        stack.callback(study.kill)
        while not outs[1].is_file() and study.poll() is None:
            time.sleep(0.05)
        busy = next(worker for worker, tasks in client.processing().items() if tasks)
        os.kill(workers[busy], signal.SIGKILL)
        print(f"killed worker {busy} with {len(read_rows(outs[1]))} rows written", flush=True)
        seconds = finished(study, outs[1], start)
    print(f"two workers, of which one is killed: {seconds:.0f} s")

    here, there = (read_rows(out) for out in outs)
    if list(here) != list(there) or len(here) != len(there):
        sys.exit(f"the files have {here.shape} and {there.shape} rows and columns, or other names")
    differ = [column for column in here if not here[column].equals(there[column])]
    print(f"{len(here)} rows; columns that differ: {', '.join(differ) or 'none'}")
    return 0 if set(differ) <= TIMES else 1


if __name__ == "__main__":
    sys.exit(main())
