"""Conversion of media cells to plain types: tensors and pictures of other libraries, text that encodes bytes or numbers."""

from __future__ import annotations

import array
import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np

from sensorium.core.errors import CellError
from sensorium.core.modality import Array, Blob

NUMBERS = 8
"""Least count of blank-separated numbers that are read as an array without brackets."""

_DATA_URL = re.compile(r"data:[\w.+\-/]*(;[\w.+\-]+=[^;,]*)*(?P<base64>;base64)?,", re.IGNORECASE)
_STRUCT = re.compile(r"\{'bytes': b(?P<mark>['\"])(?P<body>.*)(?P=mark), 'path': (None|'[^']*'|\"[^\"]*\")\}", re.DOTALL)
_NUMBER = r"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|nan|inf)"
_FLAT = re.compile(rf"\s*{_NUMBER}(?:\s+{_NUMBER})*\s*", re.IGNORECASE)
_ROW = re.compile(r"\[([^\[\]]*)\]")
_FILE_NAME = re.compile(r"[^\x00-\x1f]{1,1000}\.[A-Za-z0-9]{1,7}")
_MAGIC = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"OggS", b"fLaC", b"ID3", b"II*\0", b"MM\0*", b"\x93NUMPY")
_MORE_MAGIC = (b"PAR1", b"\x1aE\xdf\xa3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"ply\n", b"ply\r", b"FORM")


def plain(cell: Any, most: int) -> Any:
    """Convert a media cell to bytes, text, an array, a list or a mapping; other types are returned unchanged.

    Text may be a data URL, base64 of a known file type, or a printed Hugging Face struct or numpy array; other text is
    returned unchanged. Bytes that are a file name become text.

    Args:
        cell: The cell.
        most: Most bytes that text may encode.

    Raises:
        CellError: The text encodes more, or its content is damaged.
    """
    if isinstance(cell, str):
        return _from_text(cell, most)
    if isinstance(cell, (bytes, bytearray, memoryview)):
        return _file_name(bytes(cell[:1001])) or bytes(cell)
    if cell is None or isinstance(cell, (bool, int, float, list, tuple, Mapping, Blob)):
        return cell
    if isinstance(cell, np.ndarray):
        # How Parquet and pandas give lists.
        return cell.tolist() if cell.dtype == object and cell.ndim == 1 else cell
    return _from_foreign_type(cell)


def recognisable(cell: Any) -> Any:
    """Return ``cell`` in the form that type inference recognises: plain, and a struct of bytes and path as its content."""
    if isinstance(cell, Mapping) and ("bytes" in cell or "path" in cell):
        cell = cell.get("path") if cell.get("bytes") is None else cell["bytes"]
    if isinstance(cell, list) and cell and not isinstance(cell[0], (int, float)):
        return [recognisable(part) for part in cell]
    try:
        return plain(cell, 2**26)
    except CellError:
        return cell


def _from_text(cell: str, most: int) -> Any:
    head = cell[:300].lstrip()
    if head[:5].lower() == "data:":
        match = _DATA_URL.match(cell.lstrip())
        if match is None:
            return cell
        content = cell.lstrip()[match.end() :]
        _check_size(len(content), most)
        return Blob(_decode_base64(content) if match["base64"] else unquote_to_bytes(content), "<data URL>")
    if head.startswith("{'bytes': b") and (struct := _STRUCT.fullmatch(cell.strip())):
        _check_size(len(cell), most)
        return Blob(_unescape(struct["body"]), "<bytes>")
    if head[:1] == "[" or head[:1] in "+-.0123456789nN":
        return _numbers(cell)
    if len(cell) >= 80 and _has_file_magic(cell):
        _check_size(len(cell), most)
        return Blob(_decode_base64(cell), "<base64>")
    return cell


def _check_size(characters: int, most: int) -> None:
    if characters > 4 * most:
        raise CellError(f"encodes more than the {most / 2**20:.0f} MiB allowed", fix="make it a file, and name that")


def _has_file_magic(text: str) -> bool:
    try:
        head = base64.b64decode("".join(text[:240].split())[:176].replace("-", "+").replace("_", "/"))
    except (binascii.Error, ValueError):
        return False
    bitmap = head[:2] == b"BM" and int.from_bytes(head[2:6], "little") <= len(text)
    return bitmap or head.startswith(_MAGIC + _MORE_MAGIC) or head[4:8] == b"ftyp" or head[128:132] == b"DICM"


def _decode_base64(text: str) -> bytes:
    text = "".join(text.split()).replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise CellError("the base64 in it is damaged", fix="write it again, or make it a file and name that") from None


def _unescape(body: str) -> bytes:
    """The bytes that Python's printed form represents."""
    try:
        return body.encode("ascii").decode("unicode_escape").encode("latin-1")
    except UnicodeError:
        raise CellError("the printed bytes in it are damaged", fix="save the table as Parquet") from None


def _numbers(cell: str) -> Any:
    """Blank-separated numbers, alone or in brackets as numpy prints them, as lists; other text unchanged."""
    text = cell.strip()
    if text[:1] != "[":
        if len(text) < 2 * NUMBERS - 1 or not _FLAT.fullmatch(text):
            return cell
        numbers = [float(part) for part in text.split()]
        return numbers if len(numbers) >= NUMBERS else cell
    if "," in text or text[-1:] != "]":
        return cell  # JSON, or a file name
    rows = _ROW.findall(text)
    if not rows or not all(_FLAT.fullmatch(row) for row in rows):
        return cell
    values = [[float(part) for part in row.split()] for row in rows]
    layout = re.sub(r"\s+", "", _ROW.sub("*", text))
    if layout == "*":
        return values[0]
    return values if layout == f"[{'*' * len(rows)}]" else cell


def _file_name(data: bytes) -> str | None:
    if len(data) > 1000:
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if _FILE_NAME.fullmatch(text) else None


def _from_foreign_type(cell: Any) -> Any:
    """A tensor, picture, series or array of another library as an array; other types unchanged."""
    library = type(cell).__module__.partition(".")[0]
    if library == "torch" and hasattr(cell, "detach"):
        cell = cell.detach().cpu()
        return (cell.float() if str(cell.dtype) == "torch.bfloat16" else cell).numpy()
    if library == "PIL" and hasattr(cell, "getbands"):
        return _picture(cell)
    if isinstance(cell, array.array):
        return np.asarray(cell)
    if hasattr(cell, "as_py"):  # a scalar of Arrow
        return cell.as_py()
    if hasattr(cell, "__array__") and not isinstance(cell, np.generic):
        try:
            converted = np.asarray(cell)
        except (ValueError, TypeError, RuntimeError):
            return cell
        if converted.ndim:
            return converted.tolist() if converted.dtype == object else converted
    return cell


def _picture(picture: Any) -> Array:
    """The pixels of a Pillow picture, with transparent ones on white."""
    from PIL import Image as Pillow

    try:
        if picture.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in picture.info:
            rgba = picture.convert("RGBA")
            picture = Pillow.alpha_composite(Pillow.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba).convert("RGB")
        elif picture.mode not in ("1", "L", "RGB", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"):
            picture = picture.convert("RGB")
        return np.asarray(picture)
    except Exception as error:  # Pillow decodes lazily: a damaged file can raise anything here
        raise CellError(f"the picture cannot be read ({type(error).__name__})") from None
