"""joblib's Dask backend, with the changes that a study needs. Needs the package distributed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from typing import Any

from distributed import Client
from joblib._dask import DaskDistributedBackend

from cspkit.study.clusters import on_worker


class ClusterBackend(DaskDistributedBackend):
    """Sends every call to the scheduler at once, and reports calls that Dask itself gives up.

    Parameters
    ----------
    client : distributed.Client
    expected : mapping
        Versions of software that a worker must have, see `cspkit.study.clusters.software`.
    """

    def __init__(self, client: Client, expected: Mapping[str, str]) -> None:
        super().__init__(client=client)
        self._expected = expected

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Return a number that is larger than any cluster, so that joblib holds no call back.

        With the true number, a cluster of one worker would be left out, because joblib then calls
        in this process; and workers that join later would get nothing.
        """
        return 10_000

    def start_call(self) -> None:
        """Begin a list of calls, unless the connection is lost already."""
        if self.client.status == "closed":
            raise CancelledError
        super().start_call()

    def submit(self, func: Any, callback: Callable) -> Future:
        """Send a batch of calls. `callback` gets the results, or a Future that has failed."""
        func.items = [(on_worker, (self._expected, *item), {}) for item in func.items]
        future = super().submit(func, callback)
        # joblib calls back only after a success, and would wait for ever after KilledWorker.
        future.add_done_callback(lambda done: callback(done) if done.exception() else None)
        return future

    def retrieve_result_callback(self, out: Any) -> list:
        """Return the results of a batch, or raise its error."""
        return out.result() if isinstance(out, Future) else super().retrieve_result_callback(out)
