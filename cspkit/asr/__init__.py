"""A compact RNN-Transducer for real speech: corpus, features, model, loss, decoding, scoring."""

import cspkit.threads  # noqa: F401
from cspkit.asr.alignment import Lattice, align, lattice_posteriors
from cspkit.asr.audio import load_audio
from cspkit.asr.augmentation import Augmentation, add_noise
from cspkit.asr.checkpoint import checkpoint_facts, load_transducer, save_transducer
from cspkit.asr.corpus import Corpus, Utterance, load_spoken_digits
from cspkit.asr.ctc import CTCModel, CTCTask, ctc_transcribe, warm_start
from cspkit.asr.decoding import Emission, beam_search, emissions, greedy, latencies, transcribe
from cspkit.asr.digits import DigitTask
from cspkit.asr.download import fetch_fsdd
from cspkit.asr.features import deltas, log_mel, mfcc
from cspkit.asr.loss import rnnt_loss
from cspkit.asr.normalisation import mean_normalised, normalise_by_recording, normalise_by_speaker
from cspkit.asr.scoring import (
    Score,
    bootstrap_interval,
    confusions,
    relative_degradation,
    score,
    scores_by_group,
    scores_by_word,
    word_error_rate,
)
from cspkit.asr.streaming import StreamingMFCC, StreamingRecogniser
from cspkit.asr.task import SpeechTask
from cspkit.asr.transducer import Transducer
from cspkit.asr.transducer_config import TransducerConfig

__all__ = [
    "Augmentation",
    "CTCModel",
    "CTCTask",
    "Corpus",
    "DigitTask",
    "Emission",
    "Lattice",
    "Score",
    "SpeechTask",
    "StreamingMFCC",
    "StreamingRecogniser",
    "Transducer",
    "TransducerConfig",
    "Utterance",
    "add_noise",
    "align",
    "beam_search",
    "bootstrap_interval",
    "checkpoint_facts",
    "confusions",
    "ctc_transcribe",
    "deltas",
    "emissions",
    "fetch_fsdd",
    "greedy",
    "latencies",
    "lattice_posteriors",
    "load_audio",
    "load_spoken_digits",
    "load_transducer",
    "log_mel",
    "mean_normalised",
    "mfcc",
    "normalise_by_recording",
    "normalise_by_speaker",
    "relative_degradation",
    "rnnt_loss",
    "save_transducer",
    "score",
    "scores_by_group",
    "scores_by_word",
    "transcribe",
    "warm_start",
    "word_error_rate",
]
