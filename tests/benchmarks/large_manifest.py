"""Read a manifest of a million lines: time to start, memory, and time per utterance.

    python tests/benchmarks/large_manifest.py [N]

Writes twenty short wav files and manifests of 1,000 and N lines (1,000,000 by default) that name
them in turns. Prints for each, measured in a process of its own: the seconds until `Recordings` is
there, and the processor time of this; the processor time for the order of an epoch (`shuffled`) in
seconds, and per utterance of the first 2,000 of this order in milliseconds (without a cache, after
200 others); the megabytes of memory that were added; the load of the machine. Processor time does
not depend on what else runs. Fails if N lines take more than SECONDS of it to start or MEMORY, or
if an utterance takes more than GROWTH times as long as with 1,000 lines.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

SECONDS, MEMORY, GROWTH = 10.0, 1e9, 1.5
READ, FIRST = 2000, 200


def make(folder, n):
    """Write a manifest of n lines as other programs write them, and its recordings."""
    rng = np.random.default_rng(0)
    for i in range(20):
        samples = 0.1 * rng.standard_normal(int(rng.integers(3000, 6000)))
        soundfile.write(folder / f"{i}.wav", samples, 8000)
    words = [" ".join(rng.choice(["zero", "one", "two", "seven"], 5)) for _ in range(100)]
    with (folder / "m.jsonl").open("w") as file:
        for i in range(n):
            line = {
                "audio_filepath": f"{i % 20}.wav",
                "duration": 0.375,
                "text": words[i % len(words)],
                "speaker": f"speaker{i % 251}",
            }
            file.write(json.dumps(line) + "\n")


def measure(path):
    from cspkit.asr.recordings import Recordings, shuffled
    from cspkit.deploy.reporting import peak_memory

    before = peak_memory()
    start, worked = time.perf_counter(), time.process_time()
    recordings = Recordings(path)
    started, worked = time.perf_counter() - start, time.process_time() - worked
    start = time.process_time()
    order = shuffled(len(recordings), seed=0, epoch=0)
    ordered = time.process_time() - start
    rounds = np.resize(order, FIRST + READ)
    for _ in recordings.usable(rounds[READ:]):
        pass
    start = time.process_time()
    n = sum(1 for _ in recordings.usable(rounds[:READ]))
    each = (time.process_time() - start) / READ
    assert n == READ, recordings.faults[:3]
    memory = peak_memory() - before
    return {
        "n": len(recordings),
        "start": started,
        "cpu": worked,
        "order": ordered,
        "each": each,
        "memory": memory,
    }


def main():
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(sys.argv[2])))
        return
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    rows = []
    print("    lines  start s  cpu s  order s  cpu ms each  MB  load")
    for n in (1000, most):
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), n)
            call = [sys.executable, __file__, "--measure", f"{folder}/m.jsonl"]
            result = subprocess.run(call, stdout=subprocess.PIPE, text=True, check=True)
        row = json.loads(result.stdout)
        rows.append(row)
        print(
            f"{row['n']:9d} {row['start']:8.2f} {row['cpu']:6.2f} {row['order']:8.2f} "
            f"{1e3 * row['each']:11.2f} {row['memory'] / 1e6:4.0f} {os.getloadavg()[0]:5.1f}"
        )
    small, large = rows
    bad = [
        f"{name} is {value:.3g}: expected at most {most:.3g}"
        for name, value, most in (
            ("processor time", large["cpu"], SECONDS),
            ("memory", large["memory"], MEMORY),
            ("time per utterance", large["each"], GROWTH * small["each"]),
        )
        if value > most
    ]
    sys.exit("\n".join(bad) if bad else 0)


if __name__ == "__main__":
    main()
