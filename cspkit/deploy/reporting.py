"""What the zeros of a model are worth: bits for each layer, file sizes, loading, and time."""

from __future__ import annotations

import gzip
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch
import zstandard
from torch import Tensor, nn

from cspkit.arguments import count
from cspkit.asr.decoding import emissions, latencies
from cspkit.asr.features import HOP, SAMPLE_RATE, checked_frames
from cspkit.asr.transducer import Transducer
from cspkit.deploy.container import read_header, records_of
from cspkit.deploy.packing import load, load_with_codes, pack
from cspkit.deploy.peers import own_step, peer_steps, ratios, step_times
from cspkit.deploy.runtime import SparseTransducer, matrices_of
from cspkit.modules import unwrapped

OWN = "cspkit"
LOADS = 7  # of which the median is reported
MB = 1e6


@dataclass(frozen=True)
class Report:
    """The result of `report`.

    Attributes
    ----------
    layers : DataFrame
        A row for each matrix or kernel, and "all". Columns: weights; nonzeros; bits per weight of
        the packed file (`packed`), of zstd of dense int8 values (`zstd_int8`), of a bitmask with
        int8 values (`bitmask`), and the entropy of independent symbols (`bound`).
    sizes : dict of int
        Bytes of the whole model in different forms. If the argument was a packed file, all forms
        hold the values decoded from it. With 8 or 4 bits these are rounded, and so gzip and zstd
        make them smaller than they would make the original values.
    loading : dict of float
        Seconds to load the packed file and the safetensors file, warm and cold; `bandwidth`, the
        bytes per second of a storage from which both take equally long; and `peak_memory`, the
        bytes by which loading the packed file raises the peak memory of a new process.
    steps : DataFrame or None
        Only for recognisers, and only if `rounds` > 0. A row for each program: the median and the
        95th percentile of the time of a step in seconds, the real-time factor, and the ratio to
        `SparseTransducer`.
    facts : dict
        For recognisers: `multiplications` and `multiplications_dense` of a step, the seconds of
        sound of a step, the programs that are not installed (`missing`), and, with utterances, the
        median `latency` in seconds.
    """

    layers: pd.DataFrame
    sizes: dict[str, int]
    loading: dict[str, float]
    steps: pd.DataFrame | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return everything as JSON. Numbers that are not finite become null."""
        steps = None if self.steps is None else self.steps.reset_index().to_dict("records")
        layers = self.layers.reset_index().to_dict("records")
        found = {"layers": layers, "sizes": self.sizes, "loading": self.loading, "steps": steps}
        return json.dumps(_without_nan(found | self.facts), default=float)

    def __str__(self) -> str:
        layers = self.layers.drop(columns=["bitmask"]).rename_axis(None).round(2).to_string()
        dense = self.sizes["safetensors"]
        sizes = pd.DataFrame(
            {"bytes": self.sizes, "smaller": {k: dense / v for k, v in self.sizes.items()}}
        )
        parts = [
            "Bits per weight", layers, "",
            "Size of the model, and how many times smaller than the safetensors file",
            sizes.to_string(formatters={"smaller": "{:.1f}".format}), "",
            self._loading_text(),
        ]  # fmt: skip
        if self.steps is not None:
            parts += ["", *self._steps_text()]
        if self.facts:
            parts += ["", *self._facts_text()]
        return "\n".join(parts)

    def _loading_text(self) -> str:
        found = self.loading
        text = (
            f"Loading the packed file takes {1e3 * found['packed_warm']:.1f} ms "
            f"({1e3 * found['packed_cold']:.1f} ms the first time), "
            f"loading the safetensors file takes {1e3 * found['safetensors_warm']:.1f} ms "
            f"({1e3 * found['safetensors_cold']:.1f} ms the first time)"
        )
        if math.isfinite(found["bandwidth"]):
            text += (
                ".\nReading the packed file is faster from storage below "
                f"{found['bandwidth'] / MB:.0f} MB/s"
            )
        memory = found.get("peak_memory", math.nan)
        if math.isfinite(memory):
            text += f".\nLoading needs at most {memory / MB:.1f} MB of memory beyond the imports"
        return f"{text}."

    def _steps_text(self) -> list[str]:
        table = self.steps.rename_axis(None)
        table[["median", "p95"]] *= 1e6
        ms = 1e3 * self.facts["step_seconds"]
        return [
            f"Time of a step in microseconds ({ms:.0f} ms of sound, one thread)",
            table.round({"median": 1, "p95": 1, "real_time_factor": 6, "ratio": 2}).to_string(),
        ]

    def _facts_text(self) -> list[str]:
        facts = self.facts
        text = [
            f"Multiplications of a step: {facts['multiplications']} of "
            f"{facts['multiplications_dense']}."
        ]
        if facts["missing"]:
            names = ", ".join(facts["missing"])
            text.append(f"Not measured, because onnx or onnxruntime is not installed: {names}.")
        if "latency" in facts:
            text.append(
                f"From the end of a word to its output: {1e3 * facts['latency']:.0f} ms (median)."
            )
        return text


def report(
    model: nn.Module | Mapping[str, Tensor] | str | Path,
    *,
    bits: int = 8,
    utterances: Sequence[tuple[np.ndarray, Sequence[float]]] = (),
    rounds: int = 100,
) -> Report:
    """Measure what the zeros of a model are worth, on this machine.

    Parameters
    ----------
    model : nn.Module, dict of Tensor, str or Path
        A model, a state_dict, or a packed file.
    bits : int
        As for `pack`, if `model` is not a file.
    utterances : sequence of (ndarray, sequence of float)
        For a recogniser that writes words: raw features (T, n_features) and the time at which each
        word ends, in seconds. The latency is that of the utterances with the right number of words.
        The timings use ten stacks of frames of the first utterance; without utterances the frames
        are random.
    rounds : int
        How many times each program takes its turn of ten steps; 0 measures no times of steps.

    Returns
    -------
    Report
        `print` shows it as tables.

    Raises
    ------
    ArgumentError, FileNotFoundError, PackError
        As `pack` and `load`.

    Notes
    -----
    The entropy bound of a tensor of N entries with n nonzeros is N H(n / N) + n H(q), where the
    first H is the binary entropy of the positions, and q the distribution of the stored codes; in
    the row "all", q is that of all tensors together. It holds for independent symbols: a code that
    knows more of the positions than their number can be smaller. Without codes (32 or 16 bits)
    there is no bound.

    "Cold" is the time after the operating system was asked to drop the file from its memory.
    With sizes P (packed) and D (safetensors) and the warm times to load t_P and t_D, both take
    equally long from a storage of (D - P) / (t_P - t_D) bytes per second.
    """
    count("rounds", rounds, least=0)
    with tempfile.TemporaryDirectory() as folder:
        path, loaded = Path(folder) / "model.csp", model
        if isinstance(model, str | Path):
            path = Path(model)
            loaded, codes = load_with_codes(path, max_weights=sys.maxsize)
        else:
            pack(model, path, bits=bits)
            _, codes = load_with_codes(path, max_weights=sys.maxsize)
        loaded = unwrapped(loaded) if isinstance(loaded, nn.Module) else loaded
        state = loaded.state_dict() if isinstance(loaded, nn.Module) else loaded
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        whole = Path(folder) / "model.safetensors"
        whole.write_bytes(safetensors.torch.save(state))
        layers, int8 = _layers(path, state, codes)
        sizes = _sizes(path, whole, int8)
        loading = _loading(path, whole)
        if not isinstance(loaded, Transducer):
            return Report(layers, sizes, loading)
        facts = _facts(loaded, utterances)
        steps = None
        if rounds:
            steps, facts["missing"] = _steps(loaded, path, utterances, rounds)
        return Report(layers, sizes, loading, steps, facts)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _layers(path: Path, state: dict[str, Tensor], codes: dict) -> tuple[pd.DataFrame, bytes]:
    """The table of layers, and the whole model with int8 values and a scale for each row."""
    rows, everything, counted = {}, [], np.zeros(256, dtype=np.int64)
    header, data = read_header(path)
    packed = {r["name"]: sum(r["sizes"]) for r, _ in records_of(path, header, data)}
    for name, tensor in state.items():
        if tensor.dim() < 2 or not tensor.is_floating_point() or tensor.numel() == 0:
            everything.append(_raw(tensor))
            continue
        int8, scales = _int8(tensor)
        everything += [int8.tobytes(), scales.tobytes()]
        N, n = int8.size, int(tensor.count_nonzero())
        positions, values = _entropy([n, N - n]), math.nan
        if name in codes:
            of_name = np.bincount(codes[name][0][codes[name][0] != 0].astype(int) + 128)
            counted[: len(of_name)] += of_name
            values = _entropy(of_name)
        rows[name] = {
            "weights": N,
            "nonzeros": n,
            "packed": 8 * packed[name],
            "zstd_int8": 8 * len(_zstd(int8.tobytes())),
            "bitmask": N + 8 * n,
            "bound": positions + values,
            "positions": positions,
        }
    columns = ["weights", "nonzeros", "packed", "zstd_int8", "bitmask", "bound", "positions"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    total = table.sum(skipna=False)
    if rows and not math.isnan(total["bound"]):
        total["bound"] = total["positions"] + _entropy(counted)
    table.loc["all"] = total
    for column in columns[2:]:
        table[column] = table[column] / table["weights"].where(table["weights"] > 0)
    table = table.drop(columns="positions").astype({"weights": int, "nonzeros": int})
    table.index.name = "name"
    return table, b"".join(everything)


def _raw(tensor: Tensor) -> bytes:
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def _int8(tensor: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Codes from -127 to 127, and a scale for each row. No nonzero becomes zero."""
    rows = tensor.float().reshape(len(tensor), -1).numpy()
    scales = np.abs(rows).max(axis=1, keepdims=True) / 127
    codes = np.rint(rows / np.where(scales > 0, scales, 1))
    codes = np.where((codes == 0) & (rows != 0), np.sign(rows), codes)
    return codes.astype(np.int8), scales.astype(np.float32)


def _entropy(counts: Sequence[int] | np.ndarray) -> float:
    """The bits of all symbols with these counts, each coded with -log2 of its frequency."""
    counts = np.asarray(counts, dtype=float)
    counts = counts[counts > 0]
    return float(-(counts * np.log2(counts / counts.sum())).sum())


def _zstd(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=19).compress(content)


def _sizes(path: Path, whole: Path, int8: bytes) -> dict[str, int]:
    content = whole.read_bytes()
    return {
        "safetensors": len(content),
        "safetensors, gzip": len(gzip.compress(content, 9)),
        "safetensors, zstd": len(_zstd(content)),
        "int8": len(int8),
        "int8, zstd": len(_zstd(int8)),
        "packed": path.stat().st_size,
    }


def _loading(path: Path, whole: Path) -> dict[str, float]:
    found = {}
    loads = {
        "packed": lambda: load(path, max_weights=sys.maxsize),
        "safetensors": lambda: safetensors.torch.load(whole.read_bytes()),
    }
    for name, file in (("packed", path), ("safetensors", whole)):
        _drop_from_memory(file)
        found[f"{name}_cold"], *warm = [_seconds(loads[name]) for _ in range(1 + LOADS)]
        found[f"{name}_warm"] = median(warm)
    saved = whole.stat().st_size - path.stat().st_size
    longer = found["packed_warm"] - found["safetensors_warm"]
    found["bandwidth"] = max(saved, 0) / longer if longer > 0 else math.inf
    found["peak_memory"] = _memory_to_load(path)
    return found


def _seconds(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _drop_from_memory(file: Path) -> None:
    """Ask the operating system to read the file from its storage next time."""
    if hasattr(os, "posix_fadvise"):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def peak_memory() -> float:
    """The peak memory of this process in bytes, or nan on systems that do not show it in /proc."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return math.nan
    peaks = [line for line in lines if line.startswith("VmHWM")]
    return 1024.0 * int(peaks[0].split()[1]) if peaks else math.nan


def _memory_to_load(path: Path) -> float:
    """By how much loading raises the peak memory of a new process over that of its imports."""
    program = (
        "import sys\n"
        "from cspkit.deploy import load\n"
        "from cspkit.deploy.reporting import peak_memory\n"
        "before = peak_memory()\n"
        "load(sys.argv[1], max_weights=sys.maxsize)\n"
        "print(peak_memory() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def _facts(model: Transducer, utterances: Sequence) -> dict[str, Any]:
    per_step = [
        matrix.values
        for name, matrix in matrices_of(model).items()
        if not name.startswith(("predictor.", "joiner_predictor."))
    ]
    facts: dict[str, Any] = {
        "multiplications": sum(int(np.count_nonzero(values)) for values in per_step),
        "multiplications_dense": sum(values.size for values in per_step),
        "step_seconds": model.config.stack * HOP / SAMPLE_RATE,
        "missing": [],
    }
    if utterances:
        raw = [checked_frames(f, "features") for f, _ in utterances]
        emitted = emissions(model, raw)
        found = [
            latencies(of_string, ends)
            for of_string, (_, ends) in zip(emitted, utterances, strict=True)
            if len(of_string) == len(ends)
        ]
        if found:
            facts["latency"] = float(np.median(np.concatenate(found)))
    return facts


def _steps(
    model: Transducer, path: Path, utterances: Sequence, rounds: int
) -> tuple[pd.DataFrame, list[str]]:
    c = model.config
    shape = (-1, c.stack, c.n_features)
    if utterances:
        features = checked_frames(utterances[0][0], "features", n_features=c.n_features)
        frames = features[: len(features) // c.stack * c.stack].reshape(shape)
    else:
        random = np.random.default_rng(0).standard_normal((10 * c.stack, c.n_features))
        frames = random.astype(np.float32).reshape(shape)
    peers, missing = peer_steps(model)
    times = step_times({OWN: own_step(SparseTransducer(path))} | peers, frames, rounds)
    table = pd.DataFrame({"median": times.median(), "p95": times.quantile(0.95)})
    table["real_time_factor"] = table["median"] / (c.stack * HOP / SAMPLE_RATE)
    table["ratio"] = ratios(times, OWN)
    table.index.name = "program"
    return table, missing
