"""NPY decoder for untrusted bytes."""

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
    """Decode the NPY file ``data`` to an array of numbers. The header is matched, not evaluated.

    Raises:
        CellError: The header is damaged, the array is not numeric, or data are missing.
    """
    wide = data[6:7] != b"\1"  # since version 2 the length of the header has four bytes
    start = 12 if wide else 10
    end = start + int.from_bytes(data[8:start], "little")
    header = _HEADER.fullmatch(data[start:end].decode("latin-1").strip())
    if header is None or end > len(data):
        raise CellError("the NPY header is damaged, or the array does not hold plain numbers", fix="save it as float32")
    dtype = np.dtype(header["dtype"])
    shape = tuple(int(side) for side in header["shape"].split(",") if side.strip())
    count, available = math.prod(shape), len(data) - end
    if count * dtype.itemsize > available:
        raise CellError(f"cut short: {available} of {count * dtype.itemsize} bytes are present")
    flat = np.frombuffer(data, dtype=dtype, count=count, offset=end)
    return flat.reshape(shape, order="F" if header["order"] == "True" else "C")
