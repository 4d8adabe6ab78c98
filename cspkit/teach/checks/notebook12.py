"""The check of the header of a packed file, for notebook 12."""

import json
import struct
import zlib

import zstandard

from cspkit.asr.corpus import data_folder
from cspkit.teach.check import NOTHING


def packed_file(header, streams):
    text = json.dumps(header).encode()
    packed = zstandard.compress(text)
    fields = struct.pack("<HIII", 1, len(packed), len(text), zlib.crc32(packed))
    return b"\x93CSPK\r\n\x1a" + fields + packed + streams


def header_of(function, compare):
    """Check the header of two made files and of the pruned model."""
    long = {"tensors": [{"name": f"{i * 7919}"} for i in range(500)]}
    model = data_folder() / "models" / "csp95_fold0.csp"
    made = packed_file({"tensors": []}, b""), packed_file(long, b"\x01" * 300)
    for content in (*made, model.read_bytes()):
        stop = 22 + int.from_bytes(content[10:14], "little")
        packed, text = content[22:stop], zstandard.decompress(content[22:stop])
        header, where = json.loads(text), f"a file with its packed header in content[22:{stop}]"
        try:
            answer = function(content)
        except NotImplementedError:
            raise
        except Exception as error:
            return f"for {where}, it fails with {type(error).__name__}: {error}"
        if answer is None:
            return NOTHING
        if answer in (text, text.decode()):
            return "this is the text; json.loads makes an object of it"
        if answer == packed:
            return "this is still compressed: unpack the zstd frame"
        if answer != header:
            return f"for {where}, the answer is {answer!r:.60}, expected {header!r:.60}"
    return None
