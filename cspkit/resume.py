"""The state of a training run on disk, so that a run that was killed goes on to the bit.

One safetensors file holds the model, the moments of Adam, what the pruner and the watchers of
the steps remember, and the log.
The batches need no storing: a resumed run draws those it has seen again from the same generator.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cspkit.tensors import read_tensors

FORMAT = "cspkit.training/2"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def save_state(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Adam,
    parts: dict[str, object],
    log: list[dict[str, float]],
    run: dict[str, object],
) -> None:
    """Write the state after the last step of `log`; the file appears whole or not at all.

    Parameters
    ----------
    path : Path
    model : nn.Module
    optimizer : torch.optim.Adam
    parts : dict
        What else remembers something between steps, by name: the pruner, watchers of the steps.
        Their `state` is stored.
    log : list of dict
    run : dict
        What makes this run what it is; `load_state` compares it.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for i, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{i}.{name}": moments[name] for name in MOMENTS}
    for name, part in parts.items():
        tensors |= {f"{name}.{key}": tensor for key, tensor in part.state().items()}
    tensors["torch_generator"] = torch.get_rng_state()  # dropout draws from it
    metadata = {"format": FORMAT, "log": json.dumps(log), "run": json.dumps(run)}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    apart = {n: t.detach().clone().contiguous() for n, t in tensors.items()}  # tied weights too
    save_file(apart, beside, metadata=metadata)
    beside.replace(path)


def load_state(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Adam,
    parts: dict[str, object],
    run: dict[str, object],
) -> list[dict[str, float]]:
    """Put a stored state back into model, optimizer and the other parts; return the log.

    Raises
    ------
    ValueError
        If the file is damaged, or belongs to another run: other steps, rate, generator, ...
    """
    tensors, metadata = _read(path)
    stored = json.loads(metadata["run"])
    for name, value in json.loads(json.dumps(run)).items():
        if stored.get(name) != value:
            raise ValueError(
                f"{path} belongs to another run: its {name} is {stored.get(name)!r}, "
                f"this one's is {value!r}"
            )
    device = next(model.parameters()).device
    model.load_state_dict(_part(tensors, "model."))
    state = optimizer.state_dict()
    for name, tensor in _part(tensors, "adam.").items():
        i, moment = name.split(".")
        state["state"].setdefault(int(i), {})[moment] = tensor
    optimizer.load_state_dict(state)
    for weight, own in optimizer.state.items():
        for name in MOMENTS[1:]:  # fused Adam wants them to lie in memory as the weight does
            own[name] = torch.empty_like(weight).copy_(own[name])
    torch.set_rng_state(tensors["torch_generator"])
    for name, part in parts.items():
        state = _part(tensors, f"{name}.")
        part.load_state({key: tensor.to(device) for key, tensor in state.items()})
    return json.loads(metadata["log"])


def stored_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of the last good step that a run wrote, as `state_dict` has them.

    They are those between two steps: of a pruner that keeps dense weights, the dense ones.

    Parameters
    ----------
    path : str or Path
        The `state_file` of a run that was killed or diverged.

    Returns
    -------
    dict of Tensor
        By name, for `load_state_dict`.

    Raises
    ------
    ValueError
        If the file holds no training state.
    """
    return _part(_read(Path(path))[0], "model.")


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT or not {"run", "log"} <= set(metadata):
        raise ValueError(
            f"{path} holds no training state: its format is {metadata.get('format')!r}, "
            f"expected {FORMAT!r} with run and log"
        )
    return tensors, metadata


def fingerprint(
    model: nn.Module,
    reference: nn.Module | None,
    task: object,
    parts: dict[str, object],
    rng: np.random.Generator,
) -> dict:
    """What tells one run from another: weights, task, methods and settings, generator.

    Raises
    ------
    ValueError
        If a part cannot say what it remembers, so that no resumed run could be right.
    """
    for name, part in parts.items():
        if not all(hasattr(part, n) for n in ("state", "settings")):
            raise ValueError(
                f"{name} is a {type(part).__name__} without `state` and `settings`: "
                "expected both where state_file is given"
            )
    return {
        "weights": _hash(model),
        "reference": None if reference is None else _hash(reference),
        "task": [type(task).__name__, getattr(task, "settings", None)],
        "method": {name: [type(part).__name__, part.settings] for name, part in parts.items()},
        "generator": json.dumps(rng.bit_generator.state, default=lambda array: array.tolist()),
    }


def _hash(model: nn.Module) -> str:
    weights = hashlib.sha256()
    for tensor in model.state_dict().values():
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        weights.update(flat.view(torch.uint8).numpy().tobytes())  # numpy has no bfloat16
    return weights.hexdigest()


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
