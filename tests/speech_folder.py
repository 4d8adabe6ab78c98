"""Made-up speech for tests: each word is a chord of its own, with pauses between the words."""

import json

import numpy as np
import soundfile

RATE = 8000
TONES = {"red": (300, 1200), "green": (500, 1500), "blue": (700, 2200), "black": (400, 2800)}


def spoken(words, rng, rate=RATE):
    """The sound of some words."""
    parts = [np.zeros(rate // 5)]
    for word in words:
        t = np.arange(int(rate * rng.uniform(0.25, 0.35))) / rate
        sound = sum(np.sin(2 * np.pi * f * rng.uniform(0.97, 1.03) * t) for f in TONES[word])
        parts += [0.2 * np.hanning(len(t)) * sound, np.zeros(int(rate * rng.uniform(0.08, 0.15)))]
    return np.concatenate(parts) + 0.001 * rng.standard_normal(sum(map(len, parts)))


def write_manifest_of(folder, n, *, speakers=("",), seed=0, n_words=(2, 4), name="all.jsonl"):
    """Write n utterances and their manifest; return its path."""
    rng, lines = np.random.default_rng(seed), []
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        words = rng.choice(list(TONES), size=rng.integers(n_words[0], n_words[1] + 1)).tolist()
        soundfile.write(folder / f"{seed}_{i}.wav", spoken(words, rng), RATE)
        line = {"audio_filepath": f"{seed}_{i}.wav", "text": " ".join(words)}
        if speakers[i % len(speakers)]:
            line["speaker"] = speakers[i % len(speakers)]
        lines.append(line)
    (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / name
