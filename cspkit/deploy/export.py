"""Pruned models for other programs: ONNX graphs, and sparse matrices of SciPy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import scipy.sparse
import torch
from torch import Tensor, nn

from cspkit.arguments import ArgumentError
from cspkit.asr.transducer import Transducer, standard_model
from cspkit.files import replacing
from cspkit.modules import unwrapped

OPSET = 17
# ONNX orders the gates of an LSTM as input, output, forget, cell; torch as input, forget, cell,
# output.
GATES = (0, 3, 1, 2)


def to_csr(
    model: nn.Module | Mapping[str, Tensor],
) -> dict[str, scipy.sparse.csr_array]:
    """Return the matrices of a model, or of a state_dict, by name, in compressed sparse rows.

    Only tensors with two dimensions are returned, as float32, or as float64 if they are float64.

    Raises
    ------
    ArgumentError
        If there is no matrix.
    """
    tensors = unwrapped(model).state_dict() if isinstance(model, nn.Module) else model
    matrices = {n: t.detach().cpu() for n, t in tensors.items() if t.dim() == 2}
    if not matrices:
        raise ArgumentError("model has no matrix: expected at least one tensor of two dimensions")
    return {
        name: scipy.sparse.csr_array((t if t.dtype == torch.float64 else t.float()).numpy())
        for name, t in matrices.items()
    }


def to_onnx(model: Transducer, folder: str | Path) -> list[Path]:
    """Write a recogniser as three ONNX graphs, as programs for streaming recognition expect it.

    With N utterances, S stacked frames, U labels, L encoder layers, the hidden sizes H of the
    encoder and P of the predictor, the joiner size J, and K units with the blank:

    ==============  ==========================================  ===================================
    graph           inputs                                      outputs
    ==============  ==========================================  ===================================
    encoder.onnx    x (N, S*stack, n_features), h, c (L, N, H)  encoded (N, S, J), next_h, next_c
    predictor.onnx  y (N, U) int64, h, c (1, N, P)              predicted (N, U, J), next_h, next_c
    joiner.onnx     encoded (N, J), predicted (N, J)            logits (N, K)
    ==============  ==========================================  ===================================

    The features are raw; the encoder normalises them. Its states are zero at first. The predictor
    starts with the blank and zero states. The two projections of the joiner are in the other
    graphs, because they need to run only once for each frame and each label.

    The metadata of each graph has `model_type` ("lstm transducer"), `units` (JSON list of str),
    `blank`, `stack`, `n_features`, `encoder_layers`, `encoder_size` and `predictor_size`.

    Parameters
    ----------
    model : Transducer
    folder : str or Path
        Folders that do not exist are created.

    Returns
    -------
    list of Path
        The three files.

    Raises
    ------
    ArgumentError
        If the model is not a Transducer, has weights that are not finite, or the folder cannot be
        written to.
    ModuleNotFoundError
        If the package onnx is not installed.
    """
    model = standard_model(model)
    c = model.config
    facts = {"units": json.dumps(c.units), "blank": c.blank, "model_type": "lstm transducer"}
    sizes = ("stack", "n_features", "encoder_layers", "encoder_size", "predictor_size")
    facts |= {name: getattr(c, name) for name in sizes}
    files = []
    for name, graph in zip(
        ("encoder", "predictor", "joiner"), (_encoder(model), _predictor(model), _joiner(model)),
        strict=True,
    ):  # fmt: skip
        files.append(graph.write(Path(folder) / f"{name}.onnx", facts))
    return files


class _Graph:
    """An ONNX graph in the making: nodes and constants are added in order."""

    def __init__(self, model: Transducer, name: str) -> None:
        import onnx

        self.onnx, self.helper, self.name = onnx, onnx.helper, name
        self.nodes, self.constants = [], []
        self.ports: dict[str, list] = {"inputs": [], "outputs": []}
        self.tensors = {n: t.detach().cpu().float() for n, t in model.state_dict().items()}

    def port(self, side: str, name: str, shape: list, kind: str = "FLOAT") -> str:
        """Declare an input or output; a dimension that is a string may have any size."""
        kind = getattr(self.onnx.TensorProto, kind)
        self.ports[side].append(self.helper.make_tensor_value_info(name, kind, shape))
        return name

    def constant(self, name: str, value: np.ndarray | Tensor) -> str:
        array = np.ascontiguousarray(value)
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def add(self, kind: str, inputs: list[str], outputs: str | list[str], **attributes) -> str:
        outputs = [outputs] if isinstance(outputs, str) else outputs
        self.nodes.append(self.helper.make_node(kind, inputs, outputs, **attributes))
        return outputs[0]

    def linear(self, x: str, layer: str, output: str) -> str:
        """x W^T + b for the torch layer of this name."""
        weight = self.constant(f"{layer}.weight", self.tensors[f"{layer}.weight"].T)
        bias = self.tensors.get(f"{layer}.bias")
        if bias is None:
            return self.add("MatMul", [x, weight], output)
        product = self.add("MatMul", [x, weight], f"{layer}.product")
        return self.add("Add", [product, self.constant(f"{layer}.bias", bias)], output)

    def lstm(self, x: str, module: str, layers: int, size: int, output: str) -> str:
        """The layers of a torch LSTM over x (N, S, C), with the states as inputs and outputs."""
        for side, names in (("inputs", "hc"), ("outputs", ("next_h", "next_c"))):
            for name in names:
                self.port(side, name, [layers, "N", size])
        for part in "hc":
            self.add("Split", [part], [f"{part}{layer}" for layer in range(layers)], axis=0)
        x = self.add("Transpose", [x], f"{module}.time_first", perm=[1, 0, 2])
        for layer in range(layers):
            weights = [
                self.constant(f"{module}.{kind}{layer}", self._gates(module, kind, layer)[None])
                for kind in ("W", "R", "B")
            ]
            y, h, c = f"{module}.y{layer}", f"next_h{layer}", f"next_c{layer}"
            inputs = [x, *weights, "", f"h{layer}", f"c{layer}"]
            self.add("LSTM", inputs, [y, h, c], hidden_size=size)
            x = self.add("Squeeze", [y, self._axis(1)], f"{module}.x{layer}")
        for part in "hc":
            names = [f"next_{part}{layer}" for layer in range(layers)]
            self.add("Concat", names, f"next_{part}", axis=0)
        return self.add("Transpose", [x], output, perm=[1, 0, 2])

    def _axis(self, axis: int) -> str:
        name = f"axis{axis}"
        if all(c.name != name for c in self.constants):
            self.constant(name, np.array([axis]))
        return name

    def _gates(self, module: str, kind: str, layer: int) -> np.ndarray:
        """The weights W, R or the biases B of a layer, with the gates in the order of ONNX."""
        parts = {"W": ["weight_ih"], "R": ["weight_hh"], "B": ["bias_ih", "bias_hh"]}[kind]
        found = []
        for part in parts:
            of_gates = np.split(self.tensors[f"{module}.{part}_l{layer}"].numpy(), 4)
            found += [of_gates[gate] for gate in GATES]
        return np.concatenate(found)

    def write(self, path: Path, facts: Mapping[str, object]) -> Path:
        graph = self.helper.make_graph(
            self.nodes, self.name, **self.ports, initializer=self.constants
        )
        model = self.helper.make_model(
            graph, opset_imports=[self.helper.make_opsetid("", OPSET)], producer_name="cspkit",
            ir_version=8,
        )  # fmt: skip
        self.helper.set_model_props(model, {key: str(value) for key, value in facts.items()})
        self.onnx.checker.check_model(model, full_check=True)
        with replacing(path) as new:
            new.write_bytes(model.SerializeToString())
        return path


def _encoder(model: Transducer) -> _Graph:
    c, graph = model.config, _Graph(model, "encoder")
    x = graph.port("inputs", "x", ["N", "T", c.n_features])
    for kind, part in (("Sub", "feature_mean"), ("Div", "feature_std")):
        x = graph.add(kind, [x, graph.constant(part, graph.tensors[part])], f"{kind}.{part}")
    shape = graph.constant("stacked_shape", np.array([0, -1, c.stack * c.n_features]))
    x = graph.add("Reshape", [x, shape], "stacked")
    graph.port("outputs", "encoded", ["N", "S", c.joiner_size])
    x = graph.lstm(x, "encoder", c.encoder_layers, c.encoder_size, "encoder.frames")
    graph.linear(x, "joiner_encoder", "encoded")
    return graph


def _predictor(model: Transducer) -> _Graph:
    c, graph = model.config, _Graph(model, "predictor")
    labels = graph.port("inputs", "y", ["N", "U"], "INT64")
    weight = graph.constant("embedding.weight", graph.tensors["embedding.weight"])
    x = graph.add("Gather", [weight, labels], "embedded")
    graph.port("outputs", "predicted", ["N", "U", c.joiner_size])
    x = graph.lstm(x, "predictor", 1, c.predictor_size, "predictor.history")
    graph.linear(x, "joiner_predictor", "predicted")
    return graph


def _joiner(model: Transducer) -> _Graph:
    c, graph = model.config, _Graph(model, "joiner")
    both = [graph.port("inputs", n, ["N", c.joiner_size]) for n in ("encoded", "predicted")]
    graph.port("outputs", "logits", ["N", c.blank + 1])
    hidden = graph.add("Tanh", [graph.add("Add", both, "sum")], "hidden")
    graph.linear(hidden, "output", "logits")
    return graph
