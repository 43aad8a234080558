"""Media cells made plain: tensors and pictures of other libraries, text that spells out bytes or numbers."""

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
"""So many numbers with blanks between them, and nothing else, are an array and no text; in brackets any count is."""

_DATA_URL = re.compile(r"data:[\w.+\-/]*(;[\w.+\-]+=[^;,]*)*(?P<base64>;base64)?,", re.IGNORECASE)
_STRUCT = re.compile(r"\{'bytes': b(?P<mark>['\"])(?P<body>.*)(?P=mark), 'path': (None|'[^']*'|\"[^\"]*\")\}", re.DOTALL)
_NUMBER = r"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|nan|inf)"
_FLAT = re.compile(rf"\s*{_NUMBER}(?:\s+{_NUMBER})*\s*", re.IGNORECASE)
_ROW = re.compile(r"\[([^\[\]]*)\]")
_FILE_NAME = re.compile(r"[^\x00-\x1f]{1,1000}\.[A-Za-z0-9]{1,7}")
_MAGIC = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"OggS", b"fLaC", b"ID3", b"II*\0", b"MM\0*", b"\x93NUMPY")
_MORE_MAGIC = (b"PAR1", b"\x1aE\xdf\xa3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"ply\n", b"ply\r", b"FORM")


def plain(cell: Any, most: int) -> Any:
    """A media cell as bytes, text, an array, a list or a mapping; whatever is none of them comes as it is.

    Text is a data URL, base64 of a known kind of file, the printed form of a Hugging Face struct or of a numpy array, or
    left as it is; bytes that spell a file name become text. Raises ``CellError`` where more than ``most`` bytes are spelt.
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
    return _from_library(cell)


def recognisable(cell: Any) -> Any:
    """A cell as a kind of cell recognises it: plain, and a struct of bytes and path as what it holds."""
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
        found = _DATA_URL.match(cell.lstrip())
        if found is None:
            return cell
        content = cell.lstrip()[found.end() :]
        _bounded(len(content), most)
        return Blob(_decoded(content) if found["base64"] else unquote_to_bytes(content), "<data URL>")
    if head.startswith("{'bytes': b") and (struct := _STRUCT.fullmatch(cell.strip())):
        _bounded(len(cell), most)
        return Blob(_unescaped(struct["body"]), "<bytes>")
    if head[:1] == "[" or head[:1] in "+-.0123456789nN":
        return _numbers(cell)
    if len(cell) >= 80 and _begins_as_file(cell):
        _bounded(len(cell), most)
        return Blob(_decoded(cell), "<base64>")
    return cell


def _bounded(characters: int, most: int) -> None:
    if characters > 4 * most:
        raise CellError(f"spells out more than the {most / 2**20:.0f} MiB allowed", fix="make it a file, and name that")


def _begins_as_file(text: str) -> bool:
    try:
        head = base64.b64decode("".join(text[:240].split())[:176].replace("-", "+").replace("_", "/"))
    except (binascii.Error, ValueError):
        return False
    bitmap = head[:2] == b"BM" and int.from_bytes(head[2:6], "little") <= len(text)
    return bitmap or head.startswith(_MAGIC + _MORE_MAGIC) or head[4:8] == b"ftyp" or head[128:132] == b"DICM"


def _decoded(text: str) -> bytes:
    text = "".join(text.split()).replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise CellError("the base64 in it is damaged", fix="write it again, or make it a file and name that") from None


def _unescaped(body: str) -> bytes:
    """The bytes that Python's printed form of them tells."""
    try:
        return body.encode("ascii").decode("unicode_escape").encode("latin-1")
    except UnicodeError:
        raise CellError("the printed bytes in it are damaged", fix="save the table as Parquet") from None


def _numbers(cell: str) -> Any:
    """Numbers with blanks between them, alone or in brackets as numpy prints them; any other text as it is."""
    text = cell.strip()
    if text[:1] != "[":
        if len(text) < 2 * NUMBERS - 1 or not _FLAT.fullmatch(text):
            return cell
        found = [float(part) for part in text.split()]
        return found if len(found) >= NUMBERS else cell
    if "," in text or text[-1:] != "]":
        return cell  # JSON, or a file name
    rows = _ROW.findall(text)
    if not rows or not all(_FLAT.fullmatch(row) for row in rows):
        return cell
    values = [[float(part) for part in row.split()] for row in rows]
    frame = re.sub(r"\s+", "", _ROW.sub("*", text))
    if frame == "*":
        return values[0]
    return values if frame == f"[{'*' * len(rows)}]" else cell


def _file_name(data: bytes) -> str | None:
    if len(data) > 1000:
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if _FILE_NAME.fullmatch(text) else None


def _from_library(cell: Any) -> Any:
    """A tensor, picture, series or array of another library as an array; anything else as it is."""
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
            found = np.asarray(cell)
        except (ValueError, TypeError, RuntimeError):
            return cell
        if found.ndim:
            return found.tolist() if found.dtype == object else found
    return cell


def _picture(picture: Any) -> Array:
    """The pixels of a Pillow picture, on white where it is transparent."""
    from PIL import Image as Pillow

    try:
        if picture.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in picture.info:
            clear = picture.convert("RGBA")
            picture = Pillow.alpha_composite(Pillow.new("RGBA", clear.size, (255, 255, 255, 255)), clear).convert("RGB")
        elif picture.mode not in ("1", "L", "RGB", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"):
            picture = picture.convert("RGB")
        return np.asarray(picture)
    except Exception as error:  # a file that is decoded only now can raise anything
        raise CellError(f"the picture cannot be read ({type(error).__name__})") from None
