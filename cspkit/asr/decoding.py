"""Decoding of a Transducer: greedy and beam search, and when each unit is emitted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from cspkit.arguments import count
from cspkit.asr.features import HOP, SAMPLE_RATE
from cspkit.asr.search import MAX_SYMBOLS, Path, beam_paths, greedy_paths
from cspkit.asr.transducer import Transducer

__all__ = [
    "MAX_SYMBOLS",
    "Emission",
    "beam_search",
    "emissions",
    "greedy",
    "latencies",
    "transcribe",
]

T = TypeVar("T")


class Emission(NamedTuple):
    """A unit that was recognised, and when.

    Attributes
    ----------
    label : int
    unit : str
        What the label stands for.
    time : float
        Seconds from the start of the utterance to the end of the stacked frame that emits the
        unit: before then no recogniser can have it.
    """

    label: int
    unit: str
    time: float


def transcribe(
    model: Transducer,
    features: np.ndarray | Sequence[np.ndarray],
    batch_size: int = 128,
    *,
    beam: int = 1,
) -> str | list[str]:
    """Recognise one utterance, or many.

    Parameters
    ----------
    model : Transducer
    features : ndarray, shape (T, n_features), or a sequence of such
        Raw features.
    batch_size : int
        Utterances that are decoded together.
    beam : int
        Width of the beam search; 1 is greedy decoding.

    Returns
    -------
    str or list of str
        The words; a list for a sequence of utterances. Models that were trained on speech alone
        make words up of what holds none: the recorded ones hear nothing in silence, and digits
        in noise that is loud enough.

    Raises
    ------
    ValueError
        If features contain NaN or infinity, have another shape, or fill no stacked frame; or if
        `beam` is not a positive integer.
    """
    if isinstance(features, np.ndarray) and features.ndim == 2:
        return transcribe(model, [features], beam=beam)[0]
    paths = _decode(model, features, batch_size, beam)
    return [model.config.text(_labels(path)) for path in paths]


def emissions(
    model: Transducer,
    features: np.ndarray | Sequence[np.ndarray],
    batch_size: int = 128,
    *,
    beam: int = 1,
) -> list[Emission] | list[list[Emission]]:
    """Recognise one utterance, or many, and tell when each unit was emitted.

    The stacked frame s is complete at the time (s + 1) * stack * 25 ms. The latency of a word is
    this time less the time at which the word ends in the sound.

    Parameters
    ----------
    model : Transducer
    features : ndarray, shape (T, n_features), or a sequence of such
        Raw features.
    batch_size : int
        Utterances that are decoded together.
    beam : int
        Width of the beam search; 1 is greedy decoding. A unit of the best hypothesis of a beam
        search has the time of its most probable alignment among those that were merged.

    Returns
    -------
    list of Emission
        In the order of time; a list of such lists for a sequence of utterances.

    Raises
    ------
    ValueError
        As `transcribe` does.
    """
    if isinstance(features, np.ndarray) and features.ndim == 2:
        return emissions(model, [features], beam=beam)[0]
    seconds = model.config.stack * HOP / SAMPLE_RATE
    return [
        [Emission(label, model.config.units[label], (s + 1) * seconds) for label, s in path]
        for path in _decode(model, features, batch_size, beam)
    ]


def latencies(emitted: Sequence[Emission], word_ends: Sequence[float]) -> np.ndarray:
    """How long after the end of each word a recogniser has it.

    Parameters
    ----------
    emitted : sequence of Emission
        Of one utterance, by a model that writes words.
    word_ends : sequence of float
        When the words end in the sound, in seconds, see `Corpus.word_ends`.

    Returns
    -------
    ndarray, shape (n_words,)
        Seconds; negative where a word is recognised before it ends.

    Raises
    ------
    ValueError
        If there are not as many units as words: then none belongs to a word for certain.
    """
    if len(emitted) != len(word_ends):
        raise ValueError(
            f"emitted has {len(emitted)} units and word_ends {len(word_ends)} words: "
            "expected as many of both"
        )
    return np.array([e.time - end for e, end in zip(emitted, word_ends, strict=True)])


def greedy(model: Transducer, features: Tensor, lengths: Tensor) -> list[list[int]]:
    """Greedy time-synchronous decoding: the best unit of each cell, until it is the blank.

    Parameters
    ----------
    model : Transducer
    features : Tensor, shape (N, T, n_features)
    lengths : Tensor, shape (N,)
        Feature frames of each utterance.

    Returns
    -------
    list of list of int
        Labels of each utterance.
    """
    return [_labels(path) for path in greedy_paths(model, features, lengths)]


def beam_search(
    model: Transducer, features: Tensor, lengths: Tensor, width: int = 5
) -> list[list[int]]:
    """Time-synchronous beam search: the most probable labels, summed over their alignments.

    After each stacked frame the `width` most probable label sequences are kept, with

        P(y, s) = sum over alignments of y to frames 0..s of  prod over arcs of  p(arc)

    restricted to alignments that emit at most MAX_SYMBOLS labels a frame and that the search did
    not give up: labels that bring a hypothesis 8 nats under the best one are not tried.
    Hypotheses with equal labels are merged, their probabilities added.

    Parameters
    ----------
    model : Transducer
    features : Tensor, shape (N, T, n_features)
    lengths : Tensor, shape (N,)
        Feature frames of each utterance.
    width : int
        Hypotheses that are kept for each utterance.

    Returns
    -------
    list of list of int
        Labels of each utterance.

    Raises
    ------
    ValueError
        If `width` is not a positive integer.

    References
    ----------
    Graves, "Sequence transduction with recurrent neural networks", arXiv:1211.3711, section 2.5.
    """
    count("width", width)
    return [_labels(path) for path in beam_paths(model, features, lengths, width)[0]]


def _decode(
    model: Transducer, features: Sequence[np.ndarray], batch_size: int, beam: int
) -> list[Path]:
    count("beam", beam)

    def search(padded: Tensor, lengths: Tensor) -> list[Path]:
        if beam == 1:
            return greedy_paths(model, padded, lengths)
        return beam_paths(model, padded, lengths, beam)[0]

    return in_batches(model, features, batch_size, search)


def in_batches(
    model: nn.Module,
    features: Sequence[np.ndarray],
    batch_size: int,
    search: Callable[[Tensor, Tensor], list[T]],
) -> list[T]:
    """Run a search over utterances in padded batches of similar length, on the model's device.

    Parameters
    ----------
    model : Transducer or CTCModel
    features : sequence of ndarray, shape (T, n_features)
    batch_size : int
    search : callable
        Features (N, T, n_features) and lengths (N,) to a list of N results.

    Returns
    -------
    list
        The result of each utterance, in the order of `features`.
    """
    batch_size = count("batch_size", batch_size)
    tensors = [checked_features(model, f) for f in features]
    by_length = sorted(range(len(tensors)), key=lambda i: len(tensors[i]))
    results: dict[int, T] = {}
    for first in range(0, len(by_length), batch_size):
        chosen = by_length[first : first + batch_size]
        padded = pad_sequence([tensors[i] for i in chosen], batch_first=True).to(model.device)
        lengths = torch.tensor([len(tensors[i]) for i in chosen], device=model.device)
        results |= zip(chosen, search(padded, lengths), strict=True)
    return [results[i] for i in range(len(tensors))]


def _labels(path: Path) -> list[int]:
    return [label for label, _ in path]


def checked_features(model: Transducer, features: np.ndarray) -> Tensor:
    """Features of one utterance as a tensor (T, n_features); ValueError if they are none."""
    features = np.asarray(features, dtype=np.float32)
    C, stack = model.config.n_features, model.config.stack
    if features.ndim != 2 or features.shape[1] != C or len(features) < stack:
        raise ValueError(
            f"features have shape {features.shape}: expected (T, {C}) with T >= {stack}"
        )
    if not np.isfinite(features).all():
        raise ValueError("features contain NaN or infinity")
    return torch.from_numpy(features)
