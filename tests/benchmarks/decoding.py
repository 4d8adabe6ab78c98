"""Greedy against beam search: word error rates on all folds, and the ratio of their times.

    python tests/benchmarks/decoding.py

The models are the dense checkpoints; rows go to data/results/decoding.csv. Both searches take
turns on the same strings; the ratio is the median over turns.
"""

import time
from pathlib import Path

import numpy as np
import pandas as pd

from cspkit.asr import DigitTask, load_transducer, transcribe, word_error_rate
from cspkit.files import replacing

DATA = Path(__file__).parents[2] / "data"
WIDTHS, TURNS = (1, 5), 3


def measure(fold):
    """A row for one fold."""
    model = load_transducer(DATA / "models" / f"dense_fold{fold}.safetensors")
    strings = DigitTask(fold=fold).corpus.strings("test", fold)
    features, texts = [s.features for s in strings], [s.text for s in strings]
    seconds, rates = {w: [] for w in WIDTHS}, {}
    for _ in range(TURNS):
        for width in WIDTHS:
            start = time.process_time()
            rates[width] = word_error_rate(texts, transcribe(model, features, beam=width))
            seconds[width].append(time.process_time() - start)
    ratio = float(np.median(np.divide(seconds[5], seconds[1])))
    return {"fold": fold, "greedy_wer": rates[1], "beam5_wer": rates[5], "time_ratio": ratio}


if __name__ == "__main__":
    rows = pd.DataFrame([measure(fold) for fold in range(5)])
    with replacing(DATA / "results" / "decoding.csv") as file:
        rows.round(6).to_csv(file, index=False)
    print(rows.to_string(index=False))
    print(rows.mean().to_string())
