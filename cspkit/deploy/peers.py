"""Other ways to run a recogniser frame by frame, and the time that each of them takes."""

from __future__ import annotations

import copy
import importlib.util
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import threadpoolctl
import torch

from cspkit.arguments import count
from cspkit.asr.transducer import Transducer
from cspkit.deploy.export import to_onnx
from cspkit.deploy.runtime import SparseTransducer

Step = Callable[[np.ndarray], object]
IN_A_ROW = 10  # steps of one program before the next one takes its turn


def peer_steps(model: Transducer) -> tuple[dict[str, Step], list[str]]:
    """Return a step function for each other program, and the names of those not installed.

    A step takes one stack of raw frames (stack, n_features), runs the encoder, and returns the
    logits of the cell before any label. The programs are torch; NumPy; onnxruntime, in float32 and
    with int8 matrices ("dynamic quantisation").
    """
    model = copy.deepcopy(model).cpu().float()
    steps = {"torch": _torch_step(model), "NumPy": _numpy_step(model)}
    names = ["onnxruntime", "onnxruntime int8"]
    if all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime")):
        steps |= {name: _onnx_step(model, "int8" in name) for name in names}
        names = []
    return steps, names


def own_step(recogniser: SparseTransducer) -> Step:
    """The step of a `SparseTransducer`."""

    def step(frames: np.ndarray) -> np.ndarray:
        recogniser.encode(frames)
        return recogniser.logits()

    return step


def step_times(steps: dict[str, Step], frames: np.ndarray, rounds: int = 100) -> pd.DataFrame:
    """Measure the time of each step on one thread, in seconds.

    The programs take turns of ten steps, so that a disturbance of the machine hits all of them.

    Parameters
    ----------
    steps : dict
        Step functions by name.
    frames : ndarray, shape (n_stacks, stack, n_features)
        Each turn uses the first ten stacks. If there are fewer, they are repeated.
    rounds : int
        How many turns each program has.

    Returns
    -------
    DataFrame
        A column for each program, a row for each step; rows of one round stand together.
    """
    count("rounds", rounds)
    times = np.zeros((len(steps), rounds, IN_A_ROW))
    stacks = [np.ascontiguousarray(frames[i % len(frames)]) for i in range(IN_A_ROW)]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with threadpoolctl.threadpool_limits(1):  # for NumPy
            for step in steps.values():
                step(stacks[0])  # compiles, or allocates
            for r in range(rounds):
                for program, step in zip(times, steps.values(), strict=True):
                    for i, stack in enumerate(stacks):
                        start = time.perf_counter()
                        step(stack)
                        program[r, i] = time.perf_counter() - start
    finally:
        torch.set_num_threads(threads)
    return pd.DataFrame(dict(zip(steps, times.reshape(len(steps), -1), strict=True)))


def ratios(times: pd.DataFrame, own: str) -> pd.Series:
    """Return how many times as long as `own` each program takes: the median over the rounds."""
    rounds = times.groupby(np.arange(len(times)) // IN_A_ROW).median()
    return rounds.div(rounds[own], axis=0).median()


@torch.no_grad()
def _start(model: Transducer) -> tuple[torch.Tensor, np.ndarray]:
    """The predictor's output before any label (1, 1, P), and its part of the joiner (J,)."""
    predicted, _ = model.predict(torch.full((1, 1), model.config.blank))
    return predicted, model.joiner_predictor(predicted)[0, 0].numpy()


def _torch_step(model: Transducer) -> Step:
    state = None
    predicted, _ = _start(model)

    @torch.no_grad()
    def step(frames: np.ndarray) -> torch.Tensor:
        nonlocal state
        encoded, state = model.encode(torch.from_numpy(frames)[None], state)
        return model.join(encoded, predicted)[0, 0, 0]

    return step


def _numpy_step(model: Transducer) -> Step:
    array = {name: t.detach().cpu().float().numpy() for name, t in model.state_dict().items()}
    layers = range(model.config.encoder_layers)
    weights = [
        [array[f"encoder.{part}_l{layer}"] for part in ("weight_ih", "weight_hh")]
        + [array[f"encoder.bias_ih_l{layer}"] + array[f"encoder.bias_hh_l{layer}"]]
        for layer in layers
    ]
    H = model.config.encoder_size
    h, c = np.zeros((2, len(layers), H), dtype=np.float32)
    _, history = _start(model)

    def step(frames: np.ndarray) -> np.ndarray:
        x = ((frames - array["feature_mean"]) / array["feature_std"]).reshape(-1)
        for layer, (of_inputs, of_hidden, bias) in enumerate(weights):
            gates = of_inputs @ x + of_hidden @ h[layer] + bias
            i, f, o = (1 / (1 + np.exp(-gates[k * H : (k + 1) * H])) for k in (0, 1, 3))
            c[layer] = f * c[layer] + i * np.tanh(gates[2 * H : 3 * H])
            x = h[layer] = o * np.tanh(c[layer])
        encoded = array["joiner_encoder.weight"] @ x + array["joiner_encoder.bias"]
        return array["output.weight"] @ np.tanh(encoded + history) + array["output.bias"]

    return step


def _onnx_step(model: Transducer, int8: bool) -> Step:
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = []
    with tempfile.TemporaryDirectory() as folder:
        for file in to_onnx(model, folder):
            if int8:
                whole, file = file, Path(folder) / f"{file.stem}.int8.onnx"
                # It recommends a step that these small graphs do not need.
                logging.getLogger().addFilter(_no_recommendation)
                try:
                    quantize_dynamic(whole, file, weight_type=QuantType.QInt8)
                finally:
                    logging.getLogger().removeFilter(_no_recommendation)
            sessions.append(
                onnxruntime.InferenceSession(
                    file.read_bytes(), options, providers=["CPUExecutionProvider"]
                )
            )
    encoder, _, joiner = sessions
    c = model.config
    h, state = np.zeros((2, c.encoder_layers, 1, c.encoder_size), dtype=np.float32)
    predicted = _start(model)[1][None]

    def step(frames: np.ndarray) -> np.ndarray:
        nonlocal h, state
        encoded, h, state = encoder.run(None, {"x": frames[None], "h": h, "c": state})
        return joiner.run(None, {"encoded": encoded[:, 0], "predicted": predicted})[0][0]

    return step


def _no_recommendation(record: logging.LogRecord) -> bool:
    return "pre-processing" not in record.getMessage()
