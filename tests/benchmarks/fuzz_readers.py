"""Fuzz the readers of foreign files: manifests, audio files, LibriSpeech transcripts.

    python tests/benchmarks/fuzz_readers.py [SECONDS] [FOLDER]

Needs `pip install "cspkit[bench]"` for atheris, which has wheels for Linux and macOS. For SECONDS,
60 by default, it changes small files at random, guided by the lines of `cspkit.asr` that they
reach. A reader may read a file or refuse it with an ArgumentError, a FileNotFoundError or an
OSError with a message. Everything else is a finding: another exception, a reason that is longer
than one line or cannot be printed, a written manifest that differs when it is read again. Each
kind of finding is printed once, with the file, which is kept in FOLDER (the current folder by
default). A crash of libsndfile, a file that takes over 20 s, or over 4 GB, ends the run. Prints how
many files were read, and fails if there are findings.
"""

import io
import os
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["cspkit.asr"]):
    from cspkit.arguments import ArgumentError
    from cspkit.asr.audio import load_audio
    from cspkit.asr.features import mfcc
    from cspkit.asr.manifest import Manifest, check_manifest, librispeech_entries, write_manifest
    from cspkit.asr.recordings import Recordings

import numpy as np
import soundfile

SECONDS = 60
LONGEST_REASON = 300
WORDS = (
    *("audio_filepath", "text", "duration", "offset", "speaker", "a.wav", "one two", "anna"),
    *("NaN", "-Infinity", "1e400", "1e308", "-1", "0.1", "null", "true", "[[", "{}", "\\ud800"),
    *("\\u0000", "\\udcff", "\ufeff", "\r\n", "RIFF", "WAVE", "fmt ", "data", "fact", "fLaC"),
    *("OggS", "vorbis", "FORM", "AIFF", "COMM", "SSND", ".snd", "caff", "Opus"),
)
GOOD = b"""{"audio_filepath": "a.wav", "duration": 0.1, "text": "one two", "speaker": "anna"}
{"audio_filepath": "a.wav", "offset": 0.05, "text": "three", "lang": {"code": ["en"]}}
"""


def read_manifest(folder, content):
    (folder / "m.jsonl").write_bytes(content)
    manifest = Manifest(folder / "m.jsonl")
    assert len(list(manifest)) == len(manifest) == len(manifest.durations)
    recordings = Recordings(manifest, folder / "cache")
    assert len(list(recordings.usable(range(len(manifest))))) + recordings.n_faults == len(manifest)
    checked = check_manifest(folder / "m.jsonl", out=folder / "good.jsonl")
    again = check_manifest(folder / "good.jsonl")
    assert (again.n_good, again.units, again.faults) == (checked.n_good, checked.units, [])
    for fault in (*manifest.faults, *recordings.faults, *checked.faults):
        fault.reason.encode()
        assert len(fault.reason) <= LONGEST_REASON and len(fault.reason.splitlines()) == 1


def read_audio(folder, content):
    (folder / "f").write_bytes(content)
    (folder / "f.jsonl").write_text('{"audio_filepath": "f", "text": "one"}\n')
    checked = check_manifest(folder / "f.jsonl")
    try:
        waveform, rate = load_audio(folder / "f")
    except ArgumentError:
        assert not list(Recordings(folder / "f.jsonl", folder / "cache").usable([0]))
        raise
    assert waveform.ndim == 1 and np.isfinite(waveform).all()
    assert checked.n_good == 1, checked.faults
    if len(waveform) * 8000 / rate > 200:
        assert np.isfinite(mfcc(waveform[:100_000], rate)).all()


def read_transcripts(folder, content):
    (folder / "speech").mkdir(exist_ok=True)
    (folder / "speech" / "1-2.trans.txt").write_bytes(content)
    n = write_manifest(folder / "speech" / "m.jsonl", librispeech_entries(folder / "speech"))
    assert len(Manifest(folder / "speech" / "m.jsonl")) == n


def read_changed_audio(folder, content):
    """Read a good audio file after a few changes: the fuzzer cannot see into the codecs."""
    choices = atheris.FuzzedDataProvider(content)
    good = bytearray(AUDIO[choices.ConsumeIntInRange(0, len(AUDIO) - 1)])
    for _ in range(choices.ConsumeIntInRange(1, 6)):
        most = 80 if choices.ConsumeBool() else len(good)  # half of the changes are in the header
        place = choices.ConsumeIntInRange(0, max(0, min(most, len(good)) - 1))
        size = choices.ConsumeIntInRange(0, 8)
        good[place : place + (size if choices.ConsumeBool() else 0)] = choices.ConsumeBytes(size)
    read_audio(folder, bytes(good))


READERS = (read_manifest, read_audio, read_changed_audio, read_transcripts)


def audio_examples():
    """Short files of many formats."""
    rng = np.random.default_rng(0)
    kinds = {
        "WAV": ("PCM_16", "FLOAT", "DOUBLE", "IMA_ADPCM", "GSM610", "ULAW"),
        "WAVEX": ("PCM_24",),
        "FLAC": ("PCM_16",),
        "OGG": ("VORBIS", "OPUS"),
        "MP3": ("MPEG_LAYER_III",),
        "AIFF": ("PCM_16",),
        "AU": ("PCM_16",),
        "CAF": ("ALAC_16",),
        "RF64": ("PCM_16",),
        "W64": ("PCM_16",),
        "VOC": ("PCM_U8",),
        "NIST": ("PCM_16",),
        "PVF": ("PCM_16",),
        "SVX": ("PCM_16",),
        "XI": ("DPCM_16",),
        "HTK": ("PCM_16",),
        "MAT5": ("PCM_16",),
    }
    for name, subtypes in kinds.items():
        for subtype in subtypes:
            file = io.BytesIO()
            try:
                samples = 0.1 * rng.standard_normal(300 if name != "MP3" else 1200)
                soundfile.write(file, samples, 8000, subtype=subtype, format=name)
            except (soundfile.LibsndfileError, ValueError) as error:
                print(f"no example of {name} {subtype}: {error}")
                continue
            yield file.getvalue()


AUDIO = list(audio_examples())
EXAMPLES = [
    b"\0" + GOOD,
    *(b"\1" + content for content in AUDIO),
    *(bytes([2, *np.random.default_rng(i).bytes(60)]) for i in range(30)),
    b"\3" + b"1-2-0 MISTER BROWN\n1-2-1 IT'S LATE\n",
]


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    kept = Path(sys.argv[2] if len(sys.argv) > 2 else ".").absolute()
    kept.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("error", RuntimeWarning)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        soundfile.write(folder / "a.wav", np.sin(np.arange(2000.0)), 8000)
        corpus = folder / "corpus"
        corpus.mkdir()
        for i, example in enumerate(EXAMPLES):
            (corpus / str(i)).write_bytes(example)
        words = ("".join(f"\\x{byte:02x}" for byte in word.encode()) for word in WORDS)
        (folder / "words").write_text("".join(f'"{word}"\n' for word in words))
        executions, outcomes = dict.fromkeys(READERS, 0), dict.fromkeys(READERS, 0)
        found, end = {}, time.monotonic() + seconds

        def one(content):
            if time.monotonic() > end:
                for reader in READERS:
                    print(f"{reader.__name__}: {executions[reader]} files, {outcomes[reader]} read")
                print(f"{len(found)} kinds of findings in {seconds:g} s")
                sys.stdout.flush()
                os._exit(bool(found))  # libFuzzer has no other way to end without an error
            if not content:
                return
            reader = READERS[content[0] % len(READERS)]
            executions[reader] += 1
            try:
                reader(folder, content[1:])
                outcomes[reader] += 1
            except (ArgumentError, FileNotFoundError) as error:
                str(error)
            except Exception as error:
                if isinstance(error, OSError) and error.strerror:
                    return
                place = traceback.extract_tb(error.__traceback__)[-1]
                kind = (type(error).__name__, place.filename, place.lineno)
                if kind not in found:
                    found[kind] = kept / f"finding-{len(found)}-{reader.__name__}"
                    found[kind].write_bytes(content[1:])
                    print(f"FINDING {found[kind]}:", flush=True)
                    traceback.print_exception(error, limit=-4, file=sys.stdout)
                    sys.stdout.flush()

        options = (
            f"-dict={folder / 'words'}",
            "-timeout=20",
            "-rss_limit_mb=4096",
            "-max_len=4096",
            "-len_control=0",
            "-verbosity=0",
        )
        artifacts = f"-artifact_prefix={kept}/"
        atheris.Setup([sys.argv[0], *options, artifacts, str(corpus)], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
