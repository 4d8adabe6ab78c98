"""What measures the error of a cut: the matrix A of 1/2 ||A (Z - V)^T||^2, in Gram form A^T A / m.

A row of weights has n entries, and a frame of the layer's input measures it once: y = a^T v. What
m frames say of an error d = z - v is d^T G d / 2 with G = A^T A / m, so that A itself, which grows
with the speech, need not be kept.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

RECURRENT = {nn.LSTM: torch.lstm, nn.GRU: torch.gru}
RECURRENT_TANH, RECURRENT_RELU = torch.rnn_tanh, torch.rnn_relu
Rows = dict[str, Tensor]  # what enters a weight, (m, n), by the parameter's name in its module


class ActivationGram:
    """Keeps Gram matrices of what enters each weight while a model computes.

        G <- decay G + (1 - decay) A^T A / tr(A^T A) n        after each forward pass

    with A (m, n) the inputs of that pass, scaled to a mean diagonal of one. The inputs of a
    recurrent weight are the hidden states; those of the upper layers are computed anew, since a
    fused layer does not show them.

    Parameters
    ----------
    model : nn.Module
        Forward hooks are put on the layers that own the weights, until `remove`.
    weights : dict of nn.Parameter
        By their name in the model: (out, n), or (out, channels, width) of a convolution with
        n = channels * width.
    gram : dict of Tensor
        (n, n) by name; changed in place.
    decay : float
        Of the running average, per forward pass.

    Attributes
    ----------
    active : bool
        Whether forward passes count at present.

    Raises
    ------
    ValueError
        If a weight belongs to no layer whose inputs are known.
    """

    def __init__(
        self,
        model: nn.Module,
        weights: dict[str, nn.Parameter],
        gram: dict[str, Tensor],
        decay: float = 0.9,
    ) -> None:
        self.gram, self.decay, self.active = gram, decay, True
        self._hooks = []
        unseen = {id(weight): name for name, weight in weights.items()}
        for module in model.modules():
            names = {
                local: unseen.pop(id(weight))
                for local, weight in module.named_parameters(recurse=False)
                if id(weight) in unseen and rows_of(module) is not None
            }
            if names:
                hook = self._hook(names)
                self._hooks.append(module.register_forward_hook(hook, with_kwargs=True))
        if unseen:
            raise ValueError(
                f"weights has {next(iter(unseen.values()))!r}: expected weights of layers whose "
                "inputs can be watched, no subclasses: Linear, LSTM without proj_size, GRU, RNN, "
                "or Conv1d without groups, with zeros around, their number given"
            )

    def remove(self) -> None:
        """Take the hooks off."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _hook(self, names: dict[str, str]):
        @torch.no_grad()
        def watch(module: nn.Module, inputs: tuple, named: dict, output: object) -> None:
            if not self.active:
                return
            x = inputs[0] if inputs else named["input"]
            for local, rows in rows_of(module)(module, x).items():
                if local in names and len(rows):
                    new = rows.T @ rows
                    new /= new.diagonal().mean().clamp_min(torch.finfo(new.dtype).tiny)
                    self.gram[names[local]].lerp_(new, 1 - self.decay)

        return watch


def rows_of(module: nn.Module):
    """The function that tells the rows of A for the weights of a layer; None where none does."""
    if type(module) is nn.Linear:
        return _linear_rows
    if type(module) is nn.Conv1d and module.groups == 1 and module.padding_mode == "zeros":
        return None if isinstance(module.padding, str) else _convolution_rows
    if type(module) in (nn.LSTM, nn.GRU, nn.RNN) and not module.proj_size:
        return _recurrent_rows
    return None


def gaussian_gram(n: int, m: int, generator: torch.Generator) -> Tensor:
    """Gram matrix A^T A / m of a Gaussian sketch A (m, n): I in the mean, of rank m."""
    sketch = torch.randn(m, n, generator=generator)
    return sketch.T @ sketch / m


def regularised(gram: Tensor, ridge: float) -> Tensor:
    """(G + ridge I) / (1 + ridge): beside A, a share of the weights themselves is measured."""
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return (gram + ridge * eye) / (1 + ridge)


def _linear_rows(module: nn.Linear, x: Tensor) -> Rows:
    return {"weight": x.reshape(-1, module.in_features)}


def _convolution_rows(module: nn.Conv1d, x: Tensor) -> Rows:
    windows = F.unfold(
        x[..., None, :],
        (1, module.kernel_size[0]),
        dilation=(1, module.dilation[0]),
        padding=(0, module.padding[0]),
        stride=(1, module.stride[0]),
    )
    return {"weight": windows.transpose(-1, -2).reshape(-1, windows.shape[-2])}


def _recurrent_rows(module: nn.RNNBase, x: Tensor | PackedSequence) -> Rows:
    if isinstance(x, PackedSequence):
        x, _ = pad_packed_sequence(x, batch_first=module.batch_first)
    x = x if x.dim() == 3 else x[None] if module.batch_first else x[:, None]
    time, rows = (1 if module.batch_first else 0), {}
    H, last = module.hidden_size, x.shape[1 if module.batch_first else 0] - 1
    for layer in range(module.num_layers):
        hidden = _layer(module, layer, x)
        for i, direction in enumerate(("", "_reverse")[: 1 + module.bidirectional]):
            entering = hidden.narrow(time, i, last)[..., i * H : (i + 1) * H]
            rows[f"weight_ih_l{layer}{direction}"] = x.reshape(-1, x.shape[-1])
            rows[f"weight_hh_l{layer}{direction}"] = entering.reshape(-1, H)
        x = hidden
    return rows


def _layer(module: nn.RNNBase, layer: int, x: Tensor) -> Tensor:
    """Outputs of one layer alone."""
    n_directions = 1 + module.bidirectional
    weights = [
        getattr(module, f"{kind}_l{layer}{direction}")
        for direction in ("", "_reverse")[:n_directions]
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: 4 if module.bias else 2]
    ]
    N = x.shape[0 if module.batch_first else 1]
    state = x.new_zeros(n_directions, N, module.hidden_size)
    state = (state, state) if isinstance(module, nn.LSTM) else state
    run = RECURRENT.get(type(module))
    if run is None:
        run = RECURRENT_TANH if module.nonlinearity == "tanh" else RECURRENT_RELU
    options = (module.bias, 1, 0.0, False, module.bidirectional, module.batch_first)
    return run(x, state, weights, *options)[0]
