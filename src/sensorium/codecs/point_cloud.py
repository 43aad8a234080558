"""Point cloud decoder for untrusted bytes: NPY, PLY, PCD and KITTI scans."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np

from sensorium.codecs.npy import MAGIC, npy_array
from sensorium.core.errors import CellError, reason
from sensorium.core.modality import Array, Blob

MOST = 50_000_000
"""Maximum number of points of a cloud, by its header."""
KEPT = 2**17
"""Number of points read from larger clouds: a fixed random sample."""
CHANNELS = 64

_HEADER = 64 * 2**10  # maximum bytes of a header
_PLY = (
    {"char": "i1", "int8": "i1", "short": "i2", "int16": "i2", "int": "i4", "int32": "i4"}
    | {"uchar": "u1", "uint8": "u1", "ushort": "u2", "uint16": "u2", "uint": "u4", "uint32": "u4"}
    | {"float": "f4", "float32": "f4", "double": "f8", "float64": "f8"}
)
_PLY_ORDER = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_PCD = {("F", 4): "<f4", ("F", 8): "<f8", **{(t, n): f"<{t.lower()}{n}" for t in "IU" for n in (1, 2, 4, 8)}}


def read_cloud(blob: Blob) -> Array:
    """Decode the point cloud ``blob`` to ``[N, C]`` float64, positions first; points without a position are dropped.

    Memory and time are bounded: see ``KEPT``.

    Raises:
        CellError: The file is not a point cloud, or is damaged.
    """
    data, name = blob
    if not data:
        raise CellError("the file is empty", file=name)
    try:
        if data.startswith(MAGIC):
            return to_cloud(npy_array(data))
        if data.startswith(b"ply"):
            return to_cloud(_ply(data))
        if data.startswith((b"#", b"VERSION", b"FIELDS")):
            return to_cloud(_pcd(data))
        if name.lower().endswith(".bin"):
            return to_cloud(_kitti(data))
        raise CellError(
            "not a point cloud of a known format (NPY, PLY, PCD, KITTI)", fix="save it as .npy, [points, channels]"
        )
    except CellError as error:
        raise CellError(error.problem, file=name, fix=error.fix) from None
    except (ValueError, UnicodeDecodeError, OverflowError) as error:
        raise CellError(f"the cloud is damaged ({reason(error)})", file=name) from None


def to_cloud(cell: Any) -> Array:
    """Return the array or nested list ``cell`` (``[N, C]``, C ≥ 3) as float64, without points at infinite positions."""
    try:
        array = np.asarray(cell)
    except (ValueError, TypeError, OverflowError):
        raise CellError("the points have different numbers of values") from None
    if array.dtype.kind not in "iuf" or array.ndim != 2 or not 3 <= array.shape[1] <= CHANNELS:
        raise CellError(
            f"an array of shape {array.shape} and type {array.dtype} is not a point cloud",
            fix="use [points, channels], with the position in the first three channels",
        )
    if len(array) > KEPT:
        array = array[random_indices(len(array), KEPT)]
    with np.errstate(invalid="ignore"):  # invalid bit patterns become NaN and are dropped below
        points = array.astype(np.float64)
    valid = np.isfinite(points[:, :3]).all(axis=1) & (np.abs(points[:, :3]) < 1e30).all(axis=1)
    if not valid.any():
        raise CellError("the cloud is empty" if not len(points) else "no point of the cloud has a finite position")
    return points[valid]


def random_indices(count: int, most: int) -> Array:
    """Return ``most`` of ``count`` indices, sorted: a fixed random sample, since a regular one could alias scan lines."""
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False, shuffle=False))


def farthest_point_sample(points: Array, count: int) -> Array:
    """Return the indices of ``count`` of the ``points`` by farthest point sampling, starting farthest from the centre.

    Source: https://arxiv.org/abs/1706.02413, § 3.2.
    """
    position = points[:, :3]
    at = int(((position - position.mean(axis=0)) ** 2).sum(axis=1).argmax())
    indices = np.empty(count, np.int64)
    gap = np.full(len(points), np.inf)
    for i in range(count):
        indices[i] = at
        np.minimum(gap, ((position - position[at]) ** 2).sum(axis=1), out=gap)
        at = int(gap.argmax())
    return indices


def _kitti(data: bytes) -> Array:
    if len(data) % 16:
        raise CellError(f"{len(data)} bytes are not a multiple of four float32 values (KITTI)")
    return np.frombuffer(data, "<f4").reshape(-1, 4)


def _ply(data: bytes) -> Array:
    """Decode the vertices of a PLY file. Source of the format: http://paulbourke.net/dataformats/ply/."""
    end = data.find(b"end_header", 0, _HEADER)
    if end < 0:
        raise CellError("the PLY header does not end")
    start = data.find(b"\n", end, end + 20) + 1
    if not start:
        raise CellError("cut short: nothing follows the PLY header")
    order: str | None = None
    elements: list[tuple[str, int, list[tuple[str, str]]]] = []
    for line in data[:end].decode("latin-1").splitlines()[1:]:
        match line.split():
            case ["format", kind, *_]:
                order = _PLY_ORDER.get(kind)
            case ["element", name, number]:
                elements.append((name, _count(number), []))
            case ["property", kind, name] if elements and kind in _PLY:
                elements[-1][2].append((name, _PLY[kind]))
            case ["property", "list", _, _, name] if elements:
                elements[-1][2].append((name, ""))
            case ["property", *_]:
                raise CellError(f"the PLY header has an unknown property: {line[:60]!r}")
    if order is None:
        raise CellError("the PLY header has no known format")
    for name, count, properties in elements:
        plain = all(kind for _, kind in properties)
        if not plain and (name == "vertex" or order):
            problem = f"the PLY file has lists in or before its vertices ({name})"
            raise CellError(problem, fix="write vertices first, as numbers")
        if name == "vertex":
            names = [name for name, _ in properties]
            if order == "":
                return _columns(_lines(data, start, count, len(names)), names)
            kinds = np.dtype([(f"{i}", order + kind) for i, (_, kind) in enumerate(properties)])
            return _columns(_records(data, start, count, kinds), names)
        start = (
            _skip(data, start, count) if order == "" else start + count * sum(np.dtype(k).itemsize for _, k in properties)
        )
    raise CellError("the PLY file has no vertices")


def _pcd(data: bytes) -> Array:
    """Decode the points of a PCD file. Format: https://pointclouds.org/documentation/tutorials/pcd_file_format.html."""
    header: dict[str, list[str]] = {}
    at = 0
    while "DATA" not in header:
        end = data.find(b"\n", at, _HEADER)
        if end < 0:
            raise CellError("the PCD header does not end")
        words = data[at:end].decode("latin-1").split()
        at = end + 1
        if words and not words[0].startswith("#"):
            header[words[0].upper()] = words[1:]
    names = header.get("FIELDS", [])
    sizes, types = header.get("SIZE", []), header.get("TYPE", [])
    counts = [int(n) for n in header.get("COUNT", ["1"] * len(names))]
    if not names or not len(names) == len(sizes) == len(types) == len(counts) or not all(1 <= n <= 4096 for n in counts):
        raise CellError("FIELDS, SIZE, TYPE and COUNT of the PCD header are missing or of different lengths")
    width, height = (_count((header.get(word) or ["1"])[0]) for word in ("WIDTH", "HEIGHT"))
    count = _count(header["POINTS"][0]) if header.get("POINTS") else _count(str(width * height))
    kinds = [_PCD.get((t.upper(), int(n))) for t, n in zip(types, sizes, strict=True)]
    if None in kinds:
        raise CellError("the PCD file has a field of unknown type")
    # Fields of several numbers (descriptors) and padding (_) are skipped.
    plain = [n == 1 and name != "_" for name, n in zip(names, counts, strict=True)]
    kept = [name for name, scalar in zip(names, plain, strict=True) if scalar]
    encoding = header["DATA"][0].lower() if header["DATA"] else ""
    if encoding == "ascii":
        rows = _lines(data, at, count, sum(counts))
        first = np.cumsum([0, *counts])[:-1]
        return _columns([rows[int(i)] for i, scalar in zip(first, plain, strict=True) if scalar], kept)
    if encoding == "binary":
        record = np.dtype([(f"{i}", kind, (n,)) for i, (kind, n) in enumerate(zip(kinds, counts, strict=True))])
        rows = _records(data, at, count, record)
        return _columns([column[:, 0] for column, scalar in zip(rows, plain, strict=True) if scalar], kept)
    raise CellError(f"PCD data of type {encoding or 'unknown'} cannot be read", fix="save it as binary or ascii")


def _count(text: str) -> int:
    count = int(text) if text.isdecimal() and len(text) < 20 else -1
    if not 0 <= count <= MOST:
        raise CellError(f"the header says {text[:30]} points, not a number up to the {MOST:,} allowed")
    if count == 0:
        raise CellError("the cloud is empty: its header says 0 points")
    return count


def _columns(columns: Sequence[Array], names: Sequence[str]) -> Array:
    """Return columns as ``[N, C]`` float64, x, y and z first."""
    lower = [name.lower() for name in names]
    if not {"x", "y", "z"} <= set(lower) or len(names) > CHANNELS:
        raise CellError(f"the points have no x, y and z, or too many fields: {', '.join(names)[:80]}")
    order = [lower.index(axis) for axis in "xyz"]
    order += [i for i in range(len(names)) if i not in order]
    # Widening a signalling NaN warns; values that are not finite are handled by the caller.
    with np.errstate(invalid="ignore"):
        return np.stack([columns[i].astype(np.float64) for i in order], axis=1)


def _records(data: bytes, start: int, count: int, kinds: np.dtype[Any]) -> list[Array]:
    """Return the columns of binary records, at most ``KEPT`` of them."""
    available = len(data) - start
    if count * kinds.itemsize > available:
        raise CellError(f"cut short: {available} of {count * kinds.itemsize} bytes of points are present")
    rows = np.frombuffer(data, kinds, count, start)
    if count > KEPT:
        rows = rows[random_indices(count, KEPT)]
    return [rows[name] for name in kinds.names or ()]


def _lines(data: bytes, start: int, count: int, width: int) -> list[Array]:
    """Return the columns of lines of numbers, at most ``KEPT`` of them."""
    if count * 2 * width - 1 > len(data) - start:
        raise CellError(f"cut short: the file is too small for {count} points of {width} numbers")
    wanted = random_indices(count, KEPT) if count > KEPT else np.arange(count)
    rows = np.empty((len(wanted), width))
    lines = io.BytesIO(data)
    lines.seek(start)
    last = -1
    for i, at in enumerate(wanted.tolist()):
        line = next(islice(lines, at - last - 1, None), b"")
        last = at
        numbers = line.split()
        if len(numbers) != width:
            raise CellError(f"point {at + 1} has {len(numbers)} numbers, the header says {width}; or the file is cut short")
        rows[i] = [float(number) for number in numbers]
    return list(rows.T)


def _skip(data: bytes, start: int, count: int) -> int:
    """Return the position after ``count`` lines."""
    for _ in range(count):
        start = data.find(b"\n", start) + 1
        if not start:
            raise CellError("cut short before its points")
    return start
