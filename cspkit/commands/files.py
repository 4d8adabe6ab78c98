"""`cspkit doctor`, `pack`, `report`, `manifest` and `transcribe`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from cspkit.arguments import ArgumentError
from cspkit.commands.models import model_of, of_project, packed_model, usable_device


def doctor(call: argparse.Namespace) -> int:
    from cspkit.doctor import examine

    findings = examine()
    if call.json:
        print(json.dumps([f._asdict() for f in findings]))
    else:
        for finding in findings:
            print(f"[{'OK' if finding.ok else 'FAIL'}] {finding.requirement}: {finding.found}")
    return 0 if all(f.ok for f in findings) else 1


def pack_command(call: argparse.Namespace) -> int:
    from cspkit.deploy import pack
    from cspkit.files import check_output

    target = check_output(call.out, "--out")
    model = model_of(call)
    pack(model, target, bits=call.bits)
    parameters = sum(tensor.numel() for tensor in model.parameters())
    facts = {"out": str(target), "bytes": target.stat().st_size, "parameters": parameters}
    print(json.dumps(facts) if call.json else f"written: {target}, {facts['bytes']} bytes")
    return 0


def report_command(call: argparse.Namespace) -> int:
    from cspkit.asr import Transducer, load_spoken_digits
    from cspkit.asr.checkpoint import is_packed
    from cspkit.asr.corpus import DIGITS
    from cspkit.deploy import report

    corpus = of_project(load_spoken_digits)
    packed = call.model is not None and Path(call.model).is_file() and is_packed(call.model)
    model = packed_model(call.model) if packed else model_of(call)
    strings = []
    if isinstance(model, Transducer) and set(model.config.units) <= set(DIGITS):
        strings = corpus.strings("dev", 0)[:50]
    utterances = [(string.features, corpus.word_ends(string)) for string in strings]
    found = report(call.model if packed else model, bits=call.bits, utterances=utterances)
    print(found.to_json() if call.json else found)
    return 0


def manifest_command(call: argparse.Namespace) -> int:
    from cspkit.asr.corpus import PARTS
    from cspkit.asr.manifest import folder_entries, write_manifest
    from cspkit.asr.manifest_corpus import read_manifests
    from cspkit.files import check_output

    if call.action == "check":
        return _check_manifests(call)
    if len(call.files) != 1 or call.out is None:
        raise ArgumentError(f"{call.action} has {len(call.files)} FILEs: expected 1, and --out")
    check_output(call.out if call.action == "make" else call.out / "train.jsonl", "--out")
    try:
        if call.action == "make":
            written = {str(call.out): write_manifest(call.out, folder_entries(call.files[0]))}
        else:
            corpus = read_manifests(call.files[0], None, None, call.by, None, "as-is-1")
            written = {}
            for part in PARTS:
                recordings = corpus.split(part, call.fold)
                entries = (recordings.manifest[int(line)] for line in recordings.lines)
                file = call.out / f"{part}.jsonl"
                written[str(file)] = write_manifest(file, entries)
    except FileNotFoundError as error:
        raise ArgumentError(str(error)) from None
    if call.json:
        print(json.dumps(written))
    else:
        for file, n in written.items():
            print(f"written: {file}, {n} lines")
    return 0


def _check_manifests(call: argparse.Namespace) -> int:
    from cspkit.asr.manifest import check_manifest
    from cspkit.files import check_output

    names = [file.name for file in call.files]
    if call.out is not None and len(set(names)) < len(names):
        raise ArgumentError(f"FILE is {', '.join(names)}: expected different names with --out")
    outs = {f: None if call.out is None else call.out / f.name for f in call.files}
    for out in outs.values():
        if out is not None:
            check_output(out, "a file in --out")
    results = []
    for i, (file, out) in enumerate(outs.items()):
        try:  # a speaker stays in the first file that has them
            found = check_manifest(file, others=call.files[:i], out=out)
        except FileNotFoundError as error:
            raise ArgumentError(str(error)) from None
        results.append({
            "file": str(file), "good": found.n_good, "seconds": round(found.seconds, 3),
            "words": sum(found.units.values()), "faults": [f._asdict() for f in found.faults],
        })  # fmt: skip
        if not call.json:
            for fault in found.faults:
                print(f"{file}:{fault.line}: {fault.reason}")
            print(
                f"{file}: {found.n_good} good lines, {len(found.faults)} others; "
                f"{found.seconds / 60:.1f} minutes, {sum(found.units.values())} words"
            )
    if call.json:
        print(json.dumps(results))
    return 1 if any(result["faults"] for result in results) else 0


def transcribe_command(call: argparse.Namespace) -> int:
    from cspkit.asr import transcribe

    if bool(call.files) == (call.manifest is not None):
        raise ArgumentError("transcribe has FILEs and --manifest, or neither: expected one of them")
    recordings = _recordings(call)
    model = model_of(call).to(usable_device(call.device))
    rows: list[dict[str, str]] = []
    try:
        for file, reference, features in recordings:
            try:
                text = transcribe(model, features(), beam=call.beam)
            except (ArgumentError, OSError) as error:
                message = str(error) if file in str(error) else f"{file}: {error}"
                rows.append({"file": file, "error": message})
                message = message.replace(file, _printable(file))
                print(f"{call.prog}: {message}", file=sys.stderr)
                continue
            row = {"file": file, "text": text}
            rows.append(row if reference is None else row | {"reference": reference})
            if not call.json:  # print it now, in case a later file stops the program
                several = len(recordings) > 1
                print(f"{_printable(file)}: {text}" if several else text, flush=True)
    finally:
        if call.json:
            print(json.dumps(rows))
    heard = [row for row in rows if "reference" in row]
    if heard and not call.json:
        from cspkit.asr import score

        found = score([row["reference"] for row in heard], [row["text"] for row in heard])
        print(f"WER: {100 * found.wer:.2f} % of {found.words} words (text: {call.text})")
    return 2 if any("error" in row for row in rows) else 0


def _recordings(call: argparse.Namespace):
    """List name, text (None if it is not known) and a function that computes the features."""
    from functools import partial

    from cspkit.asr import load_audio, mfcc
    from cspkit.asr.manifest import Manifest
    from cspkit.asr.recordings import Recordings

    if call.manifest is None:
        return [(file, None, lambda file=file: mfcc(*load_audio(file))) for file in call.files]
    try:
        recordings = Recordings(Manifest(call.manifest, rules=call.text))
    except FileNotFoundError as error:
        raise ArgumentError(f"--manifest: {error}") from None
    return [
        (str(entry.audio), entry.text, partial(_features, recordings, i))
        for i, entry in enumerate(recordings.manifest)
    ]


def _features(recordings, i: int):
    return recordings[i].features


def _printable(name: str) -> str:
    """A file name on one line, with escapes for characters that a terminal cannot show."""
    return name if name.isprintable() else ascii(name)[1:-1]
