"""Studies on a cluster: the runs go to the workers of a Dask scheduler."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import joblib
import torch

import cspkit
from cspkit.arguments import ArgumentError
from cspkit.threads import use_threads

if TYPE_CHECKING:
    from distributed import Client

PATIENCE = 5  # seconds to wait for the scheduler, and then for a worker


@contextmanager
def cluster(scheduler: str) -> Iterator[Client]:
    """Let the studies inside this context train and measure on the workers of a Dask scheduler.

    `compare`, `tune` and `finals` send one run at a time to each worker, whatever their `jobs` is.
    This process writes the rows, each as soon as it arrives. If a worker dies, its run is repeated
    by another worker. If all workers are gone, the study waits for the next one; workers may join
    at any time. The runs are those of a study on one machine. Their rows are equal, except for the
    times, if all processors compute alike.

    Parameters
    ----------
    scheduler : str
        Address that `dask scheduler` prints, such as "tcp://10.0.0.5:8786". Start the workers with
        `dask worker ADDRESS --nthreads 1`. On every machine, the same versions of Python, cspkit
        and torch must be installed, and the module of the bench must be importable. If the bench
        reads or writes files, all machines must have the same folder. The scheduler and its workers
        execute what they are sent, so use them only in a network that you trust.

    Yields
    ------
    distributed.Client
        The connection. It is closed at the end; the cluster goes on.

    Raises
    ------
    ArgumentError
        If the address is malformed, or if a worker has other versions or several threads. A worker
        that joins later is checked when it gets a run.
    OSError
        If the scheduler or its workers do not answer, or if the connection is lost; also if a run
        has killed as many workers as the scheduler allows (four). Rows that are written stay.
    """
    from distributed import Client, KilledWorker
    from distributed.comm import get_address_host_port

    from cspkit.study.dask_backend import ClusterBackend

    try:
        get_address_host_port(scheduler)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"scheduler is {scheduler!r}: expected the address of a Dask scheduler, such as "
            f"'tcp://10.0.0.5:8786' ({error})"
        ) from None
    try:
        client = Client(scheduler, timeout=PATIENCE, set_as_default=False)
    except OSError:
        raise OSError(
            f"no Dask scheduler answers at {scheduler}: start it with `dask scheduler`, and use "
            "the address that it prints"
        ) from None
    with client:
        _check_workers(client, scheduler)
        try:
            with joblib.parallel_config(ClusterBackend(client, software())):
                yield client
        except KilledWorker as error:
            raise OSError(
                f"a run was given up, because {error.allowed_failures + 1} of its workers died: "
                "see their output, for example whether memory ran out; finished rows are written"
            ) from error
        except CancelledError as error:
            raise OSError(
                f"the connection to the Dask scheduler at {scheduler} is lost; finished rows are "
                "written: repeat the call to continue"
            ) from error


def software() -> dict[str, str]:
    """Return the versions that a worker must share with the process that runs the study."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    torch_version, _, _ = torch.__version__.partition("+")  # after "+" is the kind of build
    return {"Python": python, "cspkit": cspkit.__version__, "torch": torch_version}


def _check_workers(client: Client, scheduler: str) -> None:
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError:
        raise OSError(
            f"the Dask scheduler at {scheduler} has no worker: start workers with `dask worker "
            f"{scheduler} --nthreads 1`"
        ) from None
    for address, threads in client.nthreads().items():
        _check_threads(address, threads)
    for address, found in client.run(software, on_error="return").items():
        if isinstance(found, BaseException):
            raise ArgumentError(
                f"scheduler is {scheduler!r}, whose worker {address} cannot run this cspkit "
                f"({found}): expected cspkit {cspkit.__version__} on every machine"
            )
        _check_software(address, software(), found)


def _check_threads(worker: str, threads: int) -> None:
    if threads != 1:  # the runs of one process share its random generators
        raise ArgumentError(
            f"scheduler has the worker {worker} with {threads} threads: expected 1; start it with "
            "--nthreads 1, and one worker for each core"
        )


def _check_software(worker: str, expected: Mapping[str, str], found: Mapping[str, str]) -> None:
    for package, version in expected.items():
        if found[package] != version:
            raise ArgumentError(
                f"scheduler has the worker {worker} with {package} {found[package]}: expected "
                f"{version}, as in the process that started the study"
            )


def on_worker(
    expected: Mapping[str, str], function: Callable, arguments: tuple, named: Mapping[str, Any]
) -> Any:
    """Call a function on a worker, as a process of a study on one machine would call it."""
    from distributed import get_worker

    worker = get_worker()
    _check_threads(worker.address, worker.state.nthreads)
    _check_software(worker.address, expected, software())
    use_threads(1)
    with joblib.parallel_config("sequential"):  # not again through Dask
        return function(*arguments, **named)
