"""Keep the state of a training run on disk.

A stopped run continues from this state, with exactly the same result, to the last bit. One
safetensors file holds the model, the states of the optimizer, of the pruner and of the watchers,
and the log. The batches are not stored: a resumed run draws them again from the same generator, and
skips the batches of the steps that are done.
"""

from __future__ import annotations

import hashlib
import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cspkit import distributed
from cspkit.arguments import ArgumentError
from cspkit.files import check_output, locked, replacing
from cspkit.tensors import bytes_of, read_tensors

FORMAT = "cspkit.training/3"


class OtherRun(ArgumentError):  # noqa: N818
    """A state file belongs to a run with other settings."""


class Interrupted(KeyboardInterrupt):
    """A run was stopped by Ctrl-C; the message says what was saved and how to continue."""


class RunState:
    """The state file of one run. If `path` is None, no file is written.

    If several processes train together, process 0 writes the file, and all processes read it.

    Parameters
    ----------
    path : str or Path, optional
        The file.
    every : int
        Steps between two writes.
    model : nn.Module
    optimizer : torch.optim.Optimizer
    parts : dict
        Everything else that remembers something between steps, by name: the pruner and watchers.
        Each has `state`, `load_state` and `settings`.
    run : dict
        The settings of the run. A file with other settings is refused.

    Raises
    ------
    ArgumentError
        If the file cannot be written, if a part lacks `state` or `settings`, or if the
        `state_dict` of the model holds anything but tensors.
    """

    def __init__(
        self,
        path: str | Path | None,
        every: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        parts: dict[str, Any],
        run: dict[str, object],
    ) -> None:
        self.path = None if path is None else check_output(path, "state_file")
        self.every, self.model, self.optimizer, self.parts = every, model, optimizer, parts
        self.run = run
        self.interrupted: Callable[[], bool] = lambda: False  # whether Ctrl-C was pressed
        if self.path is None:
            return
        for name, part in parts.items():
            if not all(hasattr(part, n) for n in ("state", "settings")):
                raise ArgumentError(
                    f"{name} is a {type(part).__name__} without `state` and `settings`: "
                    "expected both, since state_file is given"
                )
        for name, tensor in model.state_dict().items():
            if not isinstance(tensor, Tensor):
                raise ArgumentError(
                    f"state_file cannot keep {name!r} of the model, a {type(tensor).__name__}: "
                    "expected tensors; leave state_file out"
                )
        groups = [
            {n: v for n, v in group.items() if n not in ("params", "lr", "initial_lr")}
            for group in optimizer.param_groups
        ]
        method = {name: [type(part).__name__, part.settings] for name, part in parts.items()}
        start = {"weights": weights_hash(model), "optimizer": [type(optimizer).__name__, groups]}
        self.run = json.loads(json.dumps(run | start | {"method": method}, default=repr))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the file for this process, and let a step end before Ctrl-C stops the run."""
        if self.path is None:
            yield
            return
        lock = locked(self.path) if distributed.rank() == 0 else nullcontext()
        with lock, _interrupts_noted() as self.interrupted:
            yield

    def load(self) -> list[dict[str, float]]:
        """Put a stored state back into model, optimizer and parts; return the rows of its log.

        Raises
        ------
        OtherRun
            If the file belongs to a run with other settings: steps, rate, generator, ...
        ArgumentError
            If the file is damaged.
        """
        if self.path is None or not self.path.is_file():
            return []
        tensors, facts = _read(self.path)
        for name, value in self.run.items():
            if facts["run"].get(name) != value:
                pair = _differing(facts["run"].get(name), value)
                stored, current = (_shortened(v) for v in pair)
                raise OtherRun(
                    f"{self.path} belongs to another run: its {name} is {stored}, that of "
                    f"this run is {current}; delete the file, or choose another state_file"
                )
        device = next(self.model.parameters()).device
        self.model.load_state_dict(_part(tensors, "model."))
        state = self.optimizer.state_dict()
        for name, value in _part(tensors | facts["numbers"], "optimizer.").items():
            i, _, key = name.partition(".")
            state["state"].setdefault(int(i), {})[key] = value
        self.optimizer.load_state_dict(state)
        for weight, kept in self.optimizer.state.items():
            for name, value in kept.items():  # fused optimizers need the memory layout of weight
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    kept[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)
        torch.set_rng_state(tensors["torch_generator"])
        for name, part in self.parts.items():
            state = _part(tensors, f"{name}.")
            part.load_state({key: tensor.to(device) for key, tensor in state.items()})
        return facts["log"]

    def after_step(self, log: list[dict[str, float]], stop: bool) -> None:
        """Write the file if it is due; stop the run if Ctrl-C was pressed in any process.

        Raises
        ------
        Interrupted
            If `stop` is true.
        """
        done = len(log)
        if self.path is not None and (stop or done % self.every == 0) and distributed.rank() == 0:
            self._save(log)
        if stop:
            distributed.barrier()  # no process ends before the file is written
            raise Interrupted(
                f"stopped after {done} of {self.run['steps']} steps; the state of the run is in "
                f"{self.path}: repeat the call to continue"
            )

    def last_good(self) -> str:
        """Say where the last good state of the run is."""
        if self.path is None:
            return "no state of the run was kept"
        if self.path.is_file():
            return f"the last good state is in {self.path}"
        return f"no state was written to {self.path} yet"

    def delete(self) -> None:
        """Delete the file of a run that has ended."""
        if self.path is not None and distributed.rank() == 0:
            self.path.unlink(missing_ok=True)

    def _save(self, log: list[dict[str, float]]) -> None:
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        numbers: dict[str, object] = {}
        for i, values in self.optimizer.state_dict()["state"].items():
            for name, value in values.items():
                where = tensors if isinstance(value, Tensor) else numbers
                where[f"optimizer.{i}.{name}"] = value
        for name, part in self.parts.items():
            tensors |= {f"{name}.{key}": tensor for key, tensor in part.state().items()}
        tensors["torch_generator"] = torch.get_rng_state()  # dropout draws from it
        facts = {"log": log, "run": self.run, "numbers": numbers}
        metadata = {"format": FORMAT} | {name: json.dumps(value) for name, value in facts.items()}
        # A copy of each tensor: the file format does not allow tied weights to share memory.
        copies = {n: t.detach().clone().contiguous() for n, t in tensors.items()}
        with replacing(self.path) as temporary:
            save_file(copies, temporary, metadata=metadata)


def stored_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the last good weights that a run wrote, in the form of `state_dict`.

    These are the weights that the model holds between two steps. If a pruner was still
    choosing its support, they are the dense weights.

    Parameters
    ----------
    path : str or Path
        The `state_file` of a run that was stopped or diverged.

    Returns
    -------
    dict of Tensor
        By name, for `load_state_dict`.

    Raises
    ------
    ArgumentError
        If the file holds no training state.
    """
    return _part(_read(Path(path))[0], "model.")


def _read(path: Path) -> tuple[dict[str, Tensor], dict]:
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT or not {"run", "log", "numbers"} <= set(metadata):
        raise ArgumentError(
            f"{path} holds no training state of this version: its format is "
            f"{metadata.get('format')!r}, expected {FORMAT!r}; delete the file, or choose another"
        )
    return tensors, {name: json.loads(metadata[name]) for name in ("run", "log", "numbers")}


def weights_hash(model: nn.Module) -> str:
    """SHA-256 of the weights and buffers of a model, with their names, as hex digits."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, Tensor):  # extra state of a module
            digest.update(repr((name, tensor)).encode())
            continue
        digest.update(name.encode())
        digest.update(bytes_of(tensor))
    return digest.hexdigest()


@contextmanager
def _interrupts_noted() -> Iterator[Callable[[], bool]]:
    """Let a step end before Ctrl-C stops the run; a second Ctrl-C stops it at once.

    Yields a function that says whether Ctrl-C was pressed. Outside the main thread Python allows
    no signal handler, and Ctrl-C works as usual.
    """
    pressed = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def note(number: int, frame: object) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    previous = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, previous)


def _differing(stored: object, own: object) -> tuple[object, object]:
    """Return the parts in which two dicts or lists differ."""
    if isinstance(stored, dict) and isinstance(own, dict):
        for key in {**stored, **own}:
            if stored.get(key) != own.get(key):
                parts = _differing(stored.get(key), own.get(key))
                return {key: parts[0]}, {key: parts[1]}
    if isinstance(stored, list) and isinstance(own, list) and len(stored) == len(own):
        for pair in zip(stored, own, strict=True):
            if pair[0] != pair[1]:
                return _differing(*pair)
    return stored, own


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _part(values: dict, prefix: str) -> dict:
    return {n.removeprefix(prefix): v for n, v in values.items() if n.startswith(prefix)}
