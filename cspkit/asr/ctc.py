"""Connectionist temporal classification (CTC) with the encoder of the Transducer.

A CTC model has no predictor and no joiner. It is used as a comparison with the Transducer. The
training of a Transducer can also start from the trained encoder of a CTC model. On the digits this
does not help (data/results/ctc.csv).

Shapes are written as in `cspkit.asr.transducer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from cspkit.arguments import ArgumentError
from cspkit.asr.batch import Batch
from cspkit.asr.decoding import in_batches
from cspkit.asr.digits import DigitTask
from cspkit.asr.transducer import Transducer, checked_model
from cspkit.asr.transducer_config import TransducerConfig
from cspkit.modules import unwrapped
from cspkit.task import kl_divergence


class CTCModel(nn.Module):
    """The encoder LSTM of a Transducer, and a linear layer to the units and the blank.

    Parameters
    ----------
    config : TransducerConfig, optional
        The sizes of the predictor and of the joiner have no effect.

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

    # These are the same as in the Transducer.
    device = Transducer.device
    prunable = Transducer.prunable
    set_normalisation = Transducer.set_normalisation
    encode = Transducer.encode

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (N, T // stack, K) of raw features (N, T, n_features)."""
        return self.output(self.encode(features)[0])


def ctc_transcribe(
    model: CTCModel, features: np.ndarray | Sequence[np.ndarray], batch_size: int = 128
) -> str | list[str]:
    """Recognise one utterance, or many, by greedy decoding.

    Parameters
    ----------
    model : CTCModel
    features : ndarray, shape (T, n_features), or a sequence of such arrays
        Raw features.
    batch_size : int
        How many utterances to decode together.

    Returns
    -------
    str or list of str
        The words; a list for a sequence of utterances.

    Raises
    ------
    ArgumentError
        If the features contain NaN or infinity, have another shape, or fill no stacked frame; if
        the weights of the model contain NaN or infinity; or if `batch_size` is not a positive
        integer.
    """
    if isinstance(features, np.ndarray) and features.ndim == 2:
        return ctc_transcribe(model, [features], batch_size)[0]
    model = checked_model(model, CTCModel)
    labels = in_batches(model, features, batch_size, partial(_best_path, model))
    return [model.config.text(found) for found in labels]


def ctc_greedy(model: CTCModel, features: Tensor, lengths: Tensor) -> list[list[int]]:
    """Decode the best path: take the best unit of each frame, merge repeats, remove blanks.

    Many paths give the same labels. So the labels of the most probable path are not always the most
    probable labels.

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

    Raises
    ------
    ArgumentError
        If the weights of the model contain NaN or infinity.
    """
    return _best_path(checked_model(model, nn.Module), features, lengths)


@torch.no_grad()
def _best_path(model: CTCModel, features: Tensor, lengths: Tensor) -> list[list[int]]:
    best = model(features).argmax(dim=-1)
    found = []
    for path, length in zip(best, (lengths // model.config.stack).tolist(), strict=True):
        merged = torch.unique_consecutive(path[:length]).tolist()
        found.append([label for label in merged if label != model.config.blank])
    return found


class CTCTask(DigitTask):
    """Strings of spoken digits for a `CTCModel`. Corpus and batches are those of `DigitTask`.

    The cost of an utterance is -log P(labels). A path has one unit for each frame. It gives the
    labels if its repeats are merged and its blanks are removed. P(labels) is the sum of the
    probabilities of all paths that give the labels. Equal neighbouring labels need a blank between
    them, so an utterance may have too few frames for any path. Its cost would then be infinite. It
    is replaced by zero, with a zero gradient (`zero_infinity` of torch).

    Parameters
    ----------
    corpus, fold, config, batch_size, curriculum, augmentation
        See `DigitTask`.
    divergence_every
        Has no effect on the divergence, which uses all utterances.
    pool
        See `DigitTask`. The outputs of the reference are computed anew for each batch.
    """

    _model = CTCModel
    _transcribe = staticmethod(ctc_transcribe)

    def outputs(self, model: CTCModel, batch: Batch) -> Tensor:
        """Return the logits (N, S, K)."""
        return model(batch.features)

    reference_outputs = outputs

    def loss(self, model: CTCModel, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the mean over utterances of cost / target length, and the logits (N, S, K)."""
        self._check(model)
        logits = self.outputs(model, batch)
        # Padding gets finite logits, because the gradient of log_softmax is NaN otherwise.
        valid = logits.masked_fill(~self._valid_frames(logits, batch)[..., None], 0.0)
        costs = nn.functional.ctc_loss(
            valid.log_softmax(
                dim=-1, dtype=torch.promote_types(valid.dtype, torch.float32)
            ).transpose(0, 1),
            batch.targets.clamp(min=0),
            batch.feature_lengths // self.config.stack,
            batch.target_lengths,
            blank=self.config.blank,
            reduction="none",
            zero_infinity=True,
        )
        return (costs / batch.target_lengths).mean(), logits

    def divergence(self, reference_outputs: Tensor, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the mean over all frames, without padding, of KL(p_reference || p)."""
        valid = self._valid_frames(outputs, batch)
        return kl_divergence(reference_outputs[valid], outputs[valid])

    def terms(self, batch: Batch) -> tuple[int, int]:
        """Return how many utterances and how many frames a batch has."""
        return len(batch.targets), int((batch.feature_lengths // self.config.stack).sum())

    def _valid_frames(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return a mask (N, S), which is True for the frames that are not padding."""
        frame = torch.arange(logits.shape[1], device=logits.device)
        return frame < (batch.feature_lengths // self.config.stack)[:, None]


def warm_start(transducer: Transducer, ctc_model: CTCModel) -> None:
    """Copy the encoder and the normalisation of a trained CTC model into a Transducer.

    Parameters
    ----------
    transducer : Transducer
        Changed in place: encoder, `feature_mean` and `feature_std`.
    ctc_model : CTCModel

    Raises
    ------
    ArgumentError
        If the encoders differ in their sizes or in the number of features.

    References
    ----------
    Rao, Sak and Prabhavalkar, "Exploring architectures, data and units for streaming end-to-end
    speech recognition with RNN-transducer", ASRU 2017, arXiv:1801.00841.
    """
    transducer, ctc_model = unwrapped(transducer), unwrapped(ctc_model)
    if "encoder" in transducer.exchanged:
        raise ArgumentError(
            f"transducer has the encoder {transducer.exchanged['encoder']}: expected the default "
            "LSTM, as in ctc_model"
        )
    for name in ("n_features", "stack", "encoder_layers", "encoder_size"):
        found, expected = (getattr(m.config, name) for m in (ctc_model, transducer))
        if found != expected:
            raise ArgumentError(
                f"ctc_model has {name} {found}: expected {expected}, as in the transducer"
            )
    transducer.encoder.load_state_dict(ctc_model.encoder.state_dict())
    transducer.set_normalisation(ctc_model.feature_mean, ctc_model.feature_std)
