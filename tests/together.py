"""Two processes that are connected by gloo over loopback, and run functions together."""

import os
from contextlib import contextmanager

import torch


def _serve(rank, world, store, inbox, outbox):
    import cspkit.threads  # noqa: F401

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.FileStore(store, world), rank=rank, world_size=world
    )
    while (call := inbox.get()) is not None:
        function, arguments = call
        try:
            outbox.put(function(rank, *arguments))
        except BaseException as error:  # Interrupted is a KeyboardInterrupt
            outbox.put(error)
    torch.distributed.destroy_process_group()


@contextmanager
def processes(folder, world=2, patience=240):
    """Yield `together(function, *arguments)`, which calls `function(rank, *arguments)` everywhere.

    It returns the list of the results of all processes. A result may be an exception. If a process
    gives no result for `patience` seconds, it raises `queue.Empty`.
    """
    spawn = torch.multiprocessing.get_context("spawn")
    boxes = [(spawn.Queue(), spawn.Queue()) for _ in range(world)]
    started = [
        spawn.Process(target=_serve, args=(rank, world, f"{folder}/store", *pair), daemon=True)
        for rank, pair in enumerate(boxes)
    ]
    for process in started:
        process.start()

    def together(function, *arguments):
        for inbox, _ in boxes:
            inbox.put((function, arguments))
        return [outbox.get(timeout=patience) for _, outbox in boxes]

    try:
        yield together
    finally:
        for inbox, _ in boxes:
            inbox.put(None)
        for process in started:
            process.join(timeout=20)
            process.terminate()  # one that waits for the other
