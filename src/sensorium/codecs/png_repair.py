"""PNG files with damaged metadata: the picture in them is whole, and a decoder that reads all chunks refuses it."""

from __future__ import annotations

import struct
import zlib

MAGIC = b"\x89PNG\r\n\x1a\n"
_NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_KEPT = (b"tRNS", b"eXIf")  # what stays of the rest where it is sound: what is transparent, and which way is up


def without_metadata(data: bytes) -> bytes | None:
    """The same picture with only those chunks that its pixels need; None where it is no PNG file, or has no others."""
    if not data.startswith(MAGIC):
        return None
    kept, at = [MAGIC], len(MAGIC)
    dropped = False
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        chunk = data[at : at + 12 + length]
        whole = len(chunk) == 12 + length
        sound = whole and zlib.crc32(chunk[4:-4]) == struct.unpack(">I", chunk[-4:])[0]
        if name in _NEEDED or not whole or (name in _KEPT and sound):
            kept.append(chunk)
        else:
            dropped = True
        at += 12 + length
    return b"".join(kept) if dropped else None
