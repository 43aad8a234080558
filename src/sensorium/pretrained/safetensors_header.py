"""Safetensors headers: read without the data, and checked against a network."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sensorium.core.learned_buffers import LearnedBuffers
from sensorium.core.safe_json import read_json

LONGEST = 64 << 20
"""Maximum size of a header in bytes."""
TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


class Entry(NamedTuple):
    """Type and shape of one tensor of a file."""

    dtype: torch.dtype
    shape: tuple[int, ...]


class Header(NamedTuple):
    """Tensors of a file by name."""

    tensors: dict[str, Entry]

    @property
    def elements(self) -> int:
        """Total number of elements."""
        return sum(prod(entry.shape) for entry in self.tensors.values())


def header_length(first: bytes) -> int:
    """Return the length of the header in bytes from the ``first`` eight bytes of a file; raise ``ValueError`` if
    invalid.
    """
    if len(first) < 8:
        raise ValueError("it is no safetensors file: it is cut short")
    (length,) = struct.unpack("<Q", first[:8])
    if not 2 <= length <= LONGEST:
        raise ValueError(f"it is no safetensors file: a header of {length:,} bytes")
    return int(length)


def read_header(data: bytes, size: int) -> Header:
    """Parse the header ``data`` of a file of ``size`` bytes; raise ``ValueError`` if they do not agree."""
    document = read_json(data, most=LONGEST)
    if not isinstance(document, dict):
        raise ValueError("its header is not a mapping")
    entries: dict[str, Entry] = {}
    ends = []
    for name, description in document.items():
        if name == "__metadata__":
            continue
        entry, begin, end = _entry(name, description)
        entries[name] = entry
        ends.append((begin, end))
    at = 0
    for begin, end in sorted(ends):
        if begin != at:
            raise ValueError("its tensors overlap, or leave gaps")
        at = end
    if 8 + len(data) + at != size:
        raise ValueError(f"its header accounts for {8 + len(data) + at:,} bytes, and it has {size:,}")
    return Header(entries)


def _entry(name: str, description: Any) -> tuple[Entry, int, int]:
    if not isinstance(description, dict) or description.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {name!r} is not described by a type, a shape and a place")
    dtype = TYPES.get(description["dtype"]) if isinstance(description["dtype"], str) else None
    if dtype is None:
        raise ValueError(f"tensor {name!r} is of a type that is not read: {str(description['dtype'])[:40]}")
    shape, place = description["shape"], description["data_offsets"]
    if not (_counts(shape) and _counts(place) and len(place) == 2 and len(shape) <= 16):
        raise ValueError(f"tensor {name!r} has no shape or no place")
    if place[1] - place[0] != prod(shape) * dtype.itemsize:
        raise ValueError(f"tensor {name!r} of {list(shape)} does not fill its place")
    return Entry(dtype, tuple(shape)), place[0], place[1]


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in value)


def check_fits(header: Header, network: nn.Module) -> None:
    """Raise ``ValueError`` unless ``header`` lists exactly the tensors of ``network``: names, types and shapes.

    The shapes of learned buffers (``LearnedBuffers``) depend on the data; only their types and numbers of axes are checked.
    """
    needed = network.state_dict()
    lacking, foreign = needed.keys() - header.tensors.keys(), header.tensors.keys() - needed.keys()
    for names, what in ((lacking, "lacks"), (foreign, "has, and the recipe has no place for,")):
        if names:
            raise ValueError(f"it {what} {len(names)} tensors, {min(names)!r} among them")
    free = dict(_learnt(network))
    for name, entry in header.tensors.items():
        mine = needed[name]
        if entry.dtype != mine.dtype:
            raise ValueError(f"tensor {name!r} is {entry.dtype}, and the recipe makes it {mine.dtype}")
        if name in free:
            if len(entry.shape) != free[name]:
                raise ValueError(f"tensor {name!r} has {len(entry.shape)} axes, not {free[name]}")
        elif entry.shape != tuple(mine.shape):
            raise ValueError(f"tensor {name!r} is {list(entry.shape)}, and the recipe makes it {list(mine.shape)}")


def _learnt(network: nn.Module) -> Iterable[tuple[str, int]]:
    for prefix, module in network.named_modules():
        if isinstance(module, LearnedBuffers):
            for name, axes in module.declared.items():
                yield f"{prefix}.{name}" if prefix else name, axes


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raise ``ValueError`` if any of ``tensors`` contains NaN or infinity."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"tensor {name!r} has numbers that are not finite")
