"""Repair of PNG files with damaged metadata, which decoders refuse although the pixels are intact."""

from __future__ import annotations

import struct
import zlib

MAGIC = b"\x89PNG\r\n\x1a\n"
_NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_KEPT = (b"tRNS", b"eXIf")  # kept if their checksum is correct: transparency and orientation


def without_metadata(data: bytes) -> bytes | None:
    """Return the PNG file ``data`` with only the chunks its pixels need; None if it is not a PNG or has no other chunks."""
    if not data.startswith(MAGIC):
        return None
    kept, at = [MAGIC], len(MAGIC)
    dropped = False
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        chunk = data[at : at + 12 + length]
        complete = len(chunk) == 12 + length
        valid = complete and zlib.crc32(chunk[4:-4]) == struct.unpack(">I", chunk[-4:])[0]
        if name in _NEEDED or not complete or (name in _KEPT and valid):
            kept.append(chunk)
        else:
            dropped = True
        at += 12 + length
    return b"".join(kept) if dropped else None
