"""What the models of a comparison are worth in use: file size, and time of a step."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors.torch

from cspkit.deploy import SparseTransducer, load, pack
from cspkit.deploy.peers import own_step, peer_steps, ratios, step_times

BITS = 8
ROUNDS = 60


def kept_models(folder: str | Path) -> pd.DataFrame:
    """Measure the packed recognisers in a folder, and other programs with a dense one.

    Parameters
    ----------
    folder : str or Path
        Holds packed recognisers of one configuration, named `dense*.csp` if they are dense, see
        `DigitBench.keep`.

    Returns
    -------
    DataFrame
        A row for each model: `float32`, the bytes of its safetensors file; `packed`, the bytes of
        its packed file with 8 bits; `microseconds`, the median time of a step of `SparseTransducer`
        with this packed file; and `ratio`, its time divided by the time of the model with the
        smallest packed file. Then a row for each other program: `microseconds` and `ratio` of a
        step with the first dense model, or with the first model if none is dense.
    """
    rows, steps = {}, {}
    files = sorted(Path(folder).glob("*.csp"), key=lambda f: (not f.stem.startswith("dense"), f))
    for file in files:
        model = load(file)
        with tempfile.TemporaryDirectory() as temporary:
            packed = Path(temporary) / "model.csp"
            pack(model, packed, bits=BITS)
            rows[file.stem] = {
                "float32": len(safetensors.torch.save(model.state_dict())),
                "packed": packed.stat().st_size,
            }
            steps[file.stem] = own_step(SparseTransducer(packed))
    if not rows:
        return pd.DataFrame(columns=["float32", "packed", "microseconds", "ratio"])
    first = load(files[0])
    shape = 10, first.config.stack, first.config.n_features
    frames = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    peers, _ = peer_steps(first)
    times = step_times(steps | peers, frames, ROUNDS)
    table = pd.DataFrame.from_dict(rows, orient="index")
    smallest = table["packed"].idxmin()
    table = table.reindex(times.columns)
    table["microseconds"] = 1e6 * times.median()
    table["ratio"] = ratios(times, smallest)
    return table


def table_of_models(table: pd.DataFrame) -> str:
    """Write the result of `kept_models` as text."""
    if len(table) == 0:
        return "no model was kept: all runs were recorded before"
    shown = pd.DataFrame(index=table.index)
    shown["float32, KB"] = table["float32"] / 1e3
    shown["packed, KB"] = table["packed"] / 1e3
    shown["times smaller"] = table["float32"] / table["packed"]
    shown["step, us"] = table["microseconds"]
    shown["ratio"] = table["ratio"]
    text = shown.to_string(float_format="{:.1f}".format, na_rep="")
    return (
        f"In use: file sizes (packed with {BITS} bits per value), and the time of one streaming "
        f"step on one core\n"
        f"{text}"
    )
