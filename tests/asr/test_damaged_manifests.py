"""Damaged manifests and audio files: the damaged line is left out, with its number and reason."""

import numpy as np
from benchmarks.damaged_manifests import Damage

from cspkit.asr import features


def test_a_hundred_damaged_manifests(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "MOST_SAMPLES", 2**20)
    damage = Damage(tmp_path)
    assert len(damage.kinds) < 100
    for i in range(100):
        damage.examine(damage.kinds[i % len(damage.kinds)], np.random.default_rng(1000 + i))
    assert damage.bad == []
    assert all(damage.found[kind, ""] for kind in damage.kinds)
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("a.wav", "b.flac")] == []
