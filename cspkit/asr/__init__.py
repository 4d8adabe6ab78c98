"""A compact RNN-Transducer on real speech: corpus, features, model, loss, decoding, scoring."""

from cspkit.asr.augmentation import Augmentation
from cspkit.asr.checkpoint import checkpoint_facts, load_transducer, save_transducer
from cspkit.asr.corpus import Corpus, Utterance, load_spoken_digits
from cspkit.asr.decoding import greedy, transcribe
from cspkit.asr.features import load_audio, mfcc
from cspkit.asr.loss import rnnt_loss
from cspkit.asr.scoring import word_error_rate
from cspkit.asr.task import DigitTask
from cspkit.asr.transducer import Transducer, TransducerConfig

__all__ = [
    "Augmentation",
    "Corpus",
    "DigitTask",
    "Transducer",
    "TransducerConfig",
    "Utterance",
    "checkpoint_facts",
    "greedy",
    "load_audio",
    "load_spoken_digits",
    "load_transducer",
    "mfcc",
    "rnnt_loss",
    "save_transducer",
    "transcribe",
    "word_error_rate",
]
