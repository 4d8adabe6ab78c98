"""Checkpoints of a Transducer: one complete safetensors file, which needs no pickle."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from cspkit.arguments import ArgumentError
from cspkit.asr.corpus import data_folder, verify_checksums
from cspkit.asr.transducer import Transducer, non_finite
from cspkit.asr.transducer_config import TransducerConfig
from cspkit.files import existing_file, replacing
from cspkit.modules import unwrapped
from cspkit.tensors import read_tensors

FORMAT = "cspkit.transducer/1"
PACKED = b"\x93CSPK\r\n\x1a"  # the first bytes of a packed file


def is_packed(path: str | Path) -> bool:
    """Whether a file starts like a packed file, which `cspkit.deploy.load` reads."""
    with Path(path).open("rb") as file:
        return file.read(len(PACKED)) == PACKED


def save_transducer(model: Transducer, path: str | Path, **facts: object) -> None:
    """Write a model: its weights, normalisation, configuration, and facts about its training.

    The file is written completely or not at all.

    Parameters
    ----------
    model : Transducer
        If its encoder or joiner was exchanged, the file has the weights and the class name of this
        part. To load the file, give the part again.
    path : str or Path
        Folders that do not exist are created.
    **facts
        Facts that are stored with the model (command, fold, seed, ...). JSON must be able to
        represent them.

    Raises
    ------
    ArgumentError
        If the path cannot be written to, if `model` is not a Transducer, or if JSON cannot
        represent a fact.
    """
    model = unwrapped(model)
    if not isinstance(model, Transducer):
        raise ArgumentError(f"model is a {type(model).__name__}: expected a Transducer")
    try:
        metadata = {"config": json.dumps(asdict(model.config)), "facts": json.dumps(facts)}
        if model.exchanged:
            metadata["exchanged"] = json.dumps(model.exchanged)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"facts are {facts!r}: expected JSON values; {error}") from None
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"format": FORMAT} | metadata)


def load_transducer(
    path: str | Path, *, encoder: nn.Module | None = None, joiner: nn.Module | None = None
) -> Transducer:
    """Read a model that `save_transducer` wrote.

    Parameters
    ----------
    path : str or Path
    encoder, joiner : nn.Module, optional
        The parts that were exchanged in the saved model, see `Transducer`, with any weights. They
        become part of the model and get the weights of the file.

    Returns
    -------
    Transducer
        In evaluation mode.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ArgumentError
        If the file is truncated, damaged, or not a checkpoint of a Transducer, or if its weights
        contain NaN or infinity; or if a part that was exchanged is not given, or does not fit the
        tensors of the file.
    """
    config, _, tensors, exchanged = _read(path)
    parts = {"encoder": encoder, "joiner": joiner}
    for name, kind in exchanged.items():
        if parts.get(name) is None:
            raise ArgumentError(
                f"{path} was saved with the {name} {kind}: expected this part too; call "
                f"load_transducer(path, {name}=...) with a module of this class"
            )
    model = Transducer(config, **parts)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        given = "".join(f" with the {name} {kind}" for name, kind in model.exchanged.items())
        raise ArgumentError(
            f"{path}: its tensors do not fit its configuration{given}: {error}"
        ) from None
    if (bad := non_finite(model.state_dict())) is not None:
        raise ArgumentError(
            f"{path} has NaN or infinity in {bad}: expected finite weights; save the model again"
        )
    return model.eval()


def checkpoint_facts(path: str | Path) -> dict[str, object]:
    """Read the facts about the training of a checkpoint.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    dict

    Raises
    ------
    FileNotFoundError, ArgumentError
        If the file does not exist, is damaged, or is not a checkpoint of a Transducer.
    """
    return _read(path)[1]


def _read(path: str | Path) -> tuple[TransducerConfig, dict, dict[str, Tensor], dict[str, str]]:
    folder = data_folder() / "models"
    embedded = isinstance(path, str | Path) and Path(path).parent == folder
    if embedded and (folder / "SHA256SUMS").is_file():
        verify_checksums(folder)
    tensors, metadata = read_tensors(existing_file(path))
    if metadata.get("format") != FORMAT:
        raise ArgumentError(
            f"{path} is not a checkpoint of a Transducer: its format is "
            f"{metadata.get('format')!r}, expected {FORMAT!r}"
        )
    try:
        config = json.loads(metadata["config"])
        config["units"] = tuple(config["units"])
        exchanged = dict(json.loads(metadata.get("exchanged", "{}")))
        return TransducerConfig(**config), json.loads(metadata["facts"]), tensors, exchanged
    except (KeyError, TypeError, ValueError) as error:
        raise ArgumentError(f"{path}: its metadata is damaged: {error!r}") from None
