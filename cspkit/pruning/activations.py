"""The inputs of layers, collected as Gram matrices while a model computes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from cspkit.arguments import ArgumentError

RECURRENT = {nn.LSTM: torch.lstm, nn.GRU: torch.gru}
RECURRENT_TANH, RECURRENT_RELU = torch.rnn_tanh, torch.rnn_relu
Rows = dict[str, Tensor]  # inputs of a weight, (m, n), by the parameter's name in its module


class ActivationGram:
    """Collect the Gram matrices of the inputs of each weight while a model computes.

        G <- decay G + (1 - decay) n A^T A / tr(A^T A)        for each forward pass with gradients

    A (m, n) holds the inputs in that pass, padding included. The factor n / tr(A^T A) gives each
    new Gram matrix a mean diagonal of one. The inputs of `weight_hh` of a recurrent layer are its
    hidden states. They are computed again, layer by layer, because a recurrent module returns only
    the hidden states of its last layer.

    Parameters
    ----------
    model : nn.Module
        Gets forward hooks on the layers that own the weights, until `remove`.
    weights : dict of nn.Parameter
        By their name in the model: (out, n), or (out, channels, width) of a convolution with
        n = channels * width.
    gram : dict of Tensor
        (n, n), by name. `commit` changes it in place.
    decay : float
        Decay of the running average in each forward pass.

    Attributes
    ----------
    active : bool
        Whether the inputs of forward passes are collected at present.

    Raises
    ------
    ArgumentError
        If the inputs of a weight cannot be collected; the message says why.
    """

    def __init__(
        self,
        model: nn.Module,
        weights: dict[str, nn.Parameter],
        gram: dict[str, Tensor],
        decay: float = 0.9,
    ) -> None:
        self.gram, self.decay, self.active = gram, decay, True
        self._pending: list[tuple[str, Tensor]] = []
        self._hooks = []
        unseen = {id(weight): name for name, weight in weights.items()}
        reason = "no layer of the model owns it"
        for module in model.modules():
            local = {n: w for n, w in module.named_parameters(recurse=False) if id(w) in unseen}
            if local and rows_of(module) is None:
                unseen = {id(w): unseen[id(w)] for w in local.values()}
                reason = _reason(module)
                break
            names = {n: unseen.pop(id(weight)) for n, weight in local.items()}
            if names:
                hook = self._hook(names)
                self._hooks.append(module.register_forward_hook(hook, with_kwargs=True))
        if unseen:
            self.remove()
            raise ArgumentError(
                f"measurement is 'activations', but the inputs of {next(iter(unseen.values()))!r} "
                f"cannot be collected: {reason}; choose another measurement, or exclude the layer"
            )

    def commit(self) -> None:
        """Add the collected Gram matrices to the running averages, if they are finite."""
        for name, new in self._pending:
            if new.isfinite().all():
                self.gram[name].lerp_(new, 1 - self.decay)
        self._pending = []

    def discard(self) -> None:
        """Forget the collected forward passes."""
        self._pending = []

    def remove(self) -> None:
        """Remove the hooks from the model."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _hook(self, names: dict[str, str]):
        def collect(module: nn.Module, inputs: tuple, named: dict, output: object) -> None:
            if not self.active or not torch.is_grad_enabled():  # an evaluation, not a training step
                return
            x = inputs[0] if inputs else named["input"]
            with torch.no_grad():
                for local, rows in rows_of(module)(module, x).items():
                    if local in names and len(rows):
                        rows = rows.to(self.gram[names[local]].dtype)
                        with torch.autocast(rows.device.type, enabled=False):
                            new = rows.T @ rows
                        new /= new.diagonal().mean().clamp_min(torch.finfo(new.dtype).tiny)
                        self._pending.append((names[local], new))

        return collect


def _reason(module: nn.Module) -> str:
    kind = type(module).__name__
    if isinstance(module, nn.Conv1d):
        return f"a {kind} must have groups=1, padding_mode='zeros' and padding as a number"
    if isinstance(module, nn.RNNBase):
        return f"a {kind} must have proj_size=0"
    return (
        f"it belongs to a {kind}; inputs are collected for Linear, LSTM, GRU, RNN and Conv1d, not "
        "for their subclasses"
    )


def rows_of(module: nn.Module):
    """Return the function that gives the rows of A for a layer, or None if there is none."""
    if type(module) is nn.Linear:
        return _linear_rows
    if type(module) is nn.Conv1d and module.groups == 1 and module.padding_mode == "zeros":
        return None if isinstance(module.padding, str) else _convolution_rows
    if type(module) in (nn.LSTM, nn.GRU, nn.RNN) and not module.proj_size:
        return _recurrent_rows
    return None


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
    """Return the outputs of a single layer of a recurrent module."""
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
