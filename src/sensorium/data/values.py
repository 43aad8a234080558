"""Arrays written one after the other."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from sensorium.core.modality import Array

WRITE_BYTES = 1 << 20


def append(file: io.FileIO, arrays: Sequence[Array]) -> None:
    """Arrays one after the other, many in a call: a call for each costs more than its bytes where they are small."""
    block: list[Any] = []
    size = 0
    for array in arrays:
        block.append(array.data if array.size else b"")
        size += array.nbytes
        if size > WRITE_BYTES:
            _whole(file, b"".join(block))
            block, size = [], 0
    _whole(file, b"".join(block))


def _whole(file: io.FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while len(rest):
        rest = rest[file.write(rest) :]
