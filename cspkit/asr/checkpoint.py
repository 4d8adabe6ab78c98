"""Checkpoints of a Transducer in safetensors, complete in one file and readable without pickle."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from cspkit.asr.corpus import data_folder, verify_checksums
from cspkit.asr.transducer import Transducer, TransducerConfig
from cspkit.tensors import read_tensors

FORMAT = "cspkit.transducer/1"


def save_transducer(model: Transducer, path: str | Path, **facts: object) -> None:
    """Write a model: weights, normalisation, configuration, and facts about how it was made.

    The file appears whole or not at all.

    Parameters
    ----------
    model : Transducer
    path : str or Path
    **facts
        What a reader should know (command, fold, seed, ...); anything that JSON holds.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {
        "format": FORMAT,
        "config": json.dumps(asdict(model.config)),
        "facts": json.dumps(facts),
    }
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    beside = path.with_name(path.name + ".part")
    save_file(tensors, beside, metadata=metadata)
    beside.replace(path)


def load_transducer(path: str | Path) -> Transducer:
    """Read a model that `save_transducer` wrote.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    Transducer
        In evaluation mode.

    Raises
    ------
    FileNotFoundError
    ValueError
        If the file is truncated, damaged, or no checkpoint of a Transducer.
    """
    config, _, tensors = _read(path)
    model = Transducer(config)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"{path}: its tensors do not fit its configuration: {error}") from None
    return model.eval()


def checkpoint_facts(path: str | Path) -> dict[str, object]:
    """Read the facts about how a checkpoint was made.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    dict

    Raises
    ------
    FileNotFoundError, ValueError
        As `load_transducer` does.
    """
    return _read(path)[1]


def _read(path: str | Path) -> tuple[TransducerConfig, dict, dict[str, torch.Tensor]]:
    path = Path(path)
    if (path.parent / "SHA256SUMS").is_file() and path.parent == data_folder() / "models":
        verify_checksums(path.parent)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path} is no checkpoint of this program: its format is "
            f"{metadata.get('format')!r}, expected {FORMAT!r}"
        )
    try:
        config = json.loads(metadata["config"])
        config["units"] = tuple(config["units"])
        return TransducerConfig(**config), json.loads(metadata["facts"]), tensors
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: its metadata is damaged: {error!r}") from None
