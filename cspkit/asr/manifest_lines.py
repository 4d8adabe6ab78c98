"""The lines of a manifest: read, parsed and checked, with a reason for each that is left out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cspkit.arguments import ArgumentError
from cspkit.asr.text import normalised
from cspkit.asr.transducer_config import TransducerConfig

LONGEST_LINE = 1 << 20  # bytes
LONGEST_REASON = 300  # characters
MOST_SECONDS = 1e6
BOM = b"\xef\xbb\xbf"
DEEPEST = 100  # lists and objects inside each other
SPACE = " \t\r\n"  # what JSON allows around a value
DECODER = json.JSONDecoder()
SURROGATE = re.compile("[\ud800-\udfff]")


class Fault(NamedTuple):
    """A line that cannot be used."""

    line: int
    reason: str


def fault(line: int, error: Exception) -> Fault:
    """Make a fault of an error: one line of at most 300 characters that can be printed."""
    reason = " ".join(str(error).encode("utf-8", "backslashreplace").decode().split())
    return Fault(line, reason[:LONGEST_REASON])


def read_lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield place, number and content of each line that is not empty."""
    with path.open("rb") as file:
        place = number = 0
        while line := file.readline(LONGEST_LINE):
            start, number, rest = place, number + 1, line
            place += len(line)
            while not rest.endswith(b"\n") and (rest := file.readline(LONGEST_LINE)):
                line = line[:LONGEST_LINE] + b" "  # too long; what follows is not kept
                place += len(rest)
            if not line.isspace():
                yield start, number, line


def parsed(
    line: bytes, config: TransducerConfig | None, rules: str
) -> tuple[str, str, float, float | None, str, dict[str, Any]]:
    """Parse and check one line: audio, text, offset, duration, speaker, and all fields."""
    if len(line) > LONGEST_LINE:
        raise ArgumentError(f"the line is longer than {LONGEST_LINE} bytes")
    try:
        content = line.removeprefix(BOM).decode().strip(SPACE)
        fields, end = DECODER.raw_decode(content)  # json.loads takes twice as long
        if end < len(content):
            raise ValueError(f"there is more after character {end}")
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"the line is no JSON: {error}") from None
    if line.count(b"[") + line.count(b"{") > DEEPEST and _is_deep(fields):
        raise ArgumentError(f"the line has more than {DEEPEST} lists or objects inside each other")
    if not isinstance(fields, dict):
        raise ArgumentError(f"the line is a {type(fields).__name__}: expected a JSON object")
    audio, text = _text(fields, "audio_filepath"), _text(fields, "text")
    if not audio or "\0" in audio:
        raise ArgumentError(f"audio_filepath is {audio!r}: expected the name of a file")
    text = normalised(text, rules)
    if not text:
        raise ArgumentError("text has no word")
    offset = _seconds(fields, "offset", least=0.0) or 0.0
    duration = _seconds(fields, "duration", least=1e-6)
    speaker = fields.get("speaker", "")
    if type(speaker) not in (str, int):
        raise ArgumentError(f"speaker is {speaker!r}: expected a string")
    if b"\\u" in line and SURROGATE.search(f"{text}{speaker}"):
        raise ArgumentError("text or speaker is no Unicode text: it has half of a surrogate pair")
    if config is not None:
        config.labels(text)
    return audio, text, offset, duration, str(speaker), fields


def _is_deep(value: Any, most: int = DEEPEST) -> bool:
    """Whether more than `most` lists and objects are inside each other."""
    inner = value.values() if isinstance(value, dict) else value
    return isinstance(value, dict | list) and (
        most == 0 or any(_is_deep(child, most - 1) for child in inner)
    )


def _text(fields: dict, name: str) -> str:
    if name not in fields:
        raise ArgumentError(f"the field {name} is missing")
    if not isinstance(fields[name], str):
        raise ArgumentError(f"{name} is {fields[name]!r}: expected a string")
    return fields[name]


def _seconds(fields: dict, name: str, least: float) -> float | None:
    """A number of seconds, or None if the line has none."""
    value = fields.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not least <= value <= MOST_SECONDS:
        raise ArgumentError(
            f"{name} is {value!r}: expected seconds from {least:g} to {MOST_SECONDS:g}"
        )
    return float(value)
