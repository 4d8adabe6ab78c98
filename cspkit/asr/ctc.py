"""Connectionist temporal classification on the encoder of the Transducer.

A comparison, since it is what a Transducer is without a predictor; and a start for its encoder,
which does not help on the digits (data/results/ctc.csv). Shapes as in `transducer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from cspkit.asr.decoding import in_batches
from cspkit.asr.task import Batch, DigitTask, mean_divergence
from cspkit.asr.transducer import Transducer, TransducerConfig


class CTCModel(nn.Module):
    """The encoder LSTM of a Transducer, and a linear layer to the units and the blank.

    Parameters
    ----------
    config : TransducerConfig
        Its predictor and joiner are not used.

    References
    ----------
    Graves, Fernandez, Gomez and Schmidhuber, "Connectionist temporal classification: labelling
    unsegmented sequence data with recurrent neural networks", ICML 2006,
    doi:10.1145/1143844.1143891.
    """

    def __init__(self, config: TransducerConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or TransducerConfig()
        self.encoder = nn.LSTM(
            c.n_features * c.stack, c.encoder_size, c.encoder_layers, batch_first=True
        )
        self.output = nn.Linear(c.encoder_size, len(c.units) + 1)
        self.register_buffer("feature_mean", torch.zeros(c.n_features))
        self.register_buffer("feature_std", torch.ones(c.n_features))

    # Normalisation, stacking and what may be pruned are those of the Transducer.
    device = Transducer.device
    prunable = Transducer.prunable
    set_normalisation = Transducer.set_normalisation
    encode = Transducer.encode

    def forward(self, features: Tensor) -> Tensor:
        """Logits (N, T // stack, K) of raw features (N, T, n_features)."""
        return self.output(self.encode(features)[0])


def ctc_transcribe(
    model: CTCModel, features: np.ndarray | Sequence[np.ndarray], batch_size: int = 128
) -> str | list[str]:
    """Recognise one utterance, or many, by greedy decoding.

    Parameters
    ----------
    model : CTCModel
    features : ndarray, shape (T, n_features), or a sequence of such
        Raw features.
    batch_size : int
        Utterances that are decoded together.

    Returns
    -------
    str or list of str
        The words; a list for a sequence of utterances.

    Raises
    ------
    ValueError
        If features contain NaN or infinity, have another shape, or fill no stacked frame.
    """
    if isinstance(features, np.ndarray) and features.ndim == 2:
        return ctc_transcribe(model, [features])[0]
    labels = in_batches(model, features, batch_size, partial(ctc_greedy, model))
    return [model.config.text(found) for found in labels]


@torch.no_grad()
def ctc_greedy(model: CTCModel, features: Tensor, lengths: Tensor) -> list[list[int]]:
    """Best path decoding: the best unit of each frame, repeats merged, blanks left out.

    It gives the labels of the most probable path, which need not be the most probable labels.

    Parameters
    ----------
    model : CTCModel
    features : Tensor, shape (N, T, n_features)
    lengths : Tensor, shape (N,)
        Feature frames of each utterance.

    Returns
    -------
    list of list of int
        Labels of each utterance.
    """
    best = model(features).argmax(dim=-1)
    found = []
    for path, length in zip(best, (lengths // model.config.stack).tolist(), strict=True):
        merged = torch.unique_consecutive(path[:length]).tolist()
        found.append([label for label in merged if label != model.config.blank])
    return found


class CTCTask(DigitTask):
    """Strings of spoken digits for a `CTCModel`: batches and corpus as in `DigitTask`.

    The cost of an utterance is -log P(labels), summed over all sequences of units, one a frame,
    that give the labels when repeats are merged and blanks are left out. An utterance with fewer
    frames than labels and blanks between equal ones has no such sequence: its infinite cost and
    its gradient count as zero (`zero_infinity` of torch).

    Parameters
    ----------
    corpus, fold, config, batch_size, curriculum, augmentation
        See `DigitTask`.
    divergence_every
        Without effect: the divergence looks at all utterances.
    """

    _model = CTCModel
    _transcribe = staticmethod(ctc_transcribe)

    def outputs(self, model: CTCModel, batch: Batch) -> Tensor:
        """Logits (N, S, K)."""
        return model(batch.features)

    reference_outputs = outputs  # of all frames: they cost little

    def loss(self, model: CTCModel, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean over utterances of cost / target length, and the logits (N, S, K)."""
        logits = self.outputs(model, batch)
        costs = nn.functional.ctc_loss(
            logits.log_softmax(dim=-1).transpose(0, 1),
            batch.targets,
            batch.feature_lengths // self.config.stack,
            batch.target_lengths,
            blank=self.config.blank,
            reduction="none",
            zero_infinity=True,
        )
        return (costs / batch.target_lengths).mean(), logits

    def divergence(self, reference_outputs: Tensor, outputs: Tensor, batch: Batch) -> Tensor:
        """Mean over all valid frames of KL(p_reference || p)."""
        frame = torch.arange(outputs.shape[1], device=outputs.device)
        valid = frame < (batch.feature_lengths // self.config.stack)[:, None]
        return mean_divergence(reference_outputs[valid], outputs[valid])


def warm_start(transducer: Transducer, ctc_model: CTCModel) -> None:
    """Copy the encoder of a trained CTC model into a Transducer, and the normalisation.

    Parameters
    ----------
    transducer : Transducer
        Changed in place: encoder, `feature_mean` and `feature_std`.
    ctc_model : CTCModel

    Raises
    ------
    ValueError
        If the encoders differ in size, or in what they take.

    References
    ----------
    Rao, Sak and Prabhavalkar, "Exploring architectures, data and units for streaming end-to-end
    speech recognition with RNN-transducer", ASRU 2017, arXiv:1801.00841.
    """
    for name in ("n_features", "stack", "encoder_layers", "encoder_size"):
        found, expected = (getattr(m.config, name) for m in (ctc_model, transducer))
        if found != expected:
            raise ValueError(
                f"ctc_model has {name} {found}: expected {expected}, that of the transducer"
            )
    transducer.encoder.load_state_dict(ctc_model.encoder.state_dict())
    transducer.set_normalisation(ctc_model.feature_mean, ctc_model.feature_std)
