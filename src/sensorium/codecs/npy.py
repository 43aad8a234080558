"""Arrays out of NPY bytes that may be anything."""

from __future__ import annotations

import math
import re

import numpy as np

from sensorium.core.errors import CellError
from sensorium.core.modality import Array

MAGIC = b"\x93NUMPY"

_HEADER = re.compile(
    r"\{'descr': '(?P<dtype>[<>|=](b1|[iu][1248]|f[248]))', 'fortran_order': (?P<order>True|False), "
    r"'shape': \((?P<shape>[0-9, ]{0,200})\),? ?\}"
)


def npy_array(data: bytes) -> Array:
    """An array of numbers from NPY bytes. Its header is matched, not evaluated, and held against the bytes."""
    wide = data[6:7] != b"\1"  # later versions have four bytes for the length of the header
    start = 12 if wide else 10
    end = start + int.from_bytes(data[8:start], "little")
    found = _HEADER.fullmatch(data[start:end].decode("latin-1").strip())
    if found is None or end > len(data):
        raise CellError("the NPY header is damaged, or the array does not hold plain numbers", fix="save it as float32")
    dtype = np.dtype(found["dtype"])
    shape = tuple(int(side) for side in found["shape"].split(",") if side.strip())
    count, there = math.prod(shape), len(data) - end
    if count * dtype.itemsize > there:
        raise CellError(f"cut short: the header says {count * dtype.itemsize} bytes, {there} are there")
    flat = np.frombuffer(data, dtype=dtype, count=count, offset=end)
    return flat.reshape(shape, order="F" if found["order"] == "True" else "C")
