"""Pictures out of bytes that may be anything."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.core.errors import CellError, ConfigError
from sensorium.core.modality import Array, Blob
from sensorium.signal.dicom import is_dicom, read_dicom, size_of
from sensorium.signal.frame import to_pixels

if TYPE_CHECKING:
    from PIL.Image import Image

PIXELS = 64 * 2**20
"""Pictures with more pixels than this are refused before they are decoded."""

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".dcm")
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
_ORIENTATION = 0x0112
_WIDE = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_GREY = ("1", "L")
_LIBRARIES = r"(PIL|pydicom)\."


def open_picture(cell: Any, side: int) -> tuple[Array, tuple[int, int]]:
    """Pixels ``[H, W, 1 or 3]`` uint8 of an opened cell, near ``side`` where that is cheap, and its height and width."""
    if isinstance(cell, bytes):
        cell = Blob(cell, "<bytes>")
    if isinstance(cell, Blob):
        return read_picture(cell, side)
    pixels = to_pixels(cell)
    return pixels, (pixels.shape[0], pixels.shape[1])


def read_picture(blob: Blob, side: int) -> tuple[Array, tuple[int, int]]:
    """Pixels ``[H, W, 1 or 3]`` uint8 of an encoded picture, and the height and width it had.

    PNG, JPEG, WebP, BMP, TIFF, GIF, and DICOM with ``sensorium[dicom]``: the first frame, upright, on white where
    transparent. Where that saves work a larger picture comes smaller, but its longer side not below twice ``side``.
    Raises ``CellError`` on whatever is no whole picture.
    """
    if not blob.data:
        raise CellError("the file is empty", file=blob.name)
    _hush()
    try:
        return _medical(blob.data) if is_dicom(blob.data) else _read(blob.data, side)
    except ConfigError:
        raise
    except CellError as error:
        raise CellError(error.problem, file=blob.name, fix=error.fix) from None
    except Exception as error:  # a hostile file can raise anything in a decoder, and must cost one cell only
        raise CellError(_why(blob.data, error), file=blob.name) from None


def size_of_picture(cell: Any) -> tuple[int, int] | None:
    """The height and width that ``open_picture`` would tell of a cell, by a file's header; None where it would fail."""
    blob = Blob(cell, "<bytes>") if isinstance(cell, bytes) else cell
    try:
        if not isinstance(blob, Blob):
            pixels = to_pixels(blob)
            return pixels.shape[0], pixels.shape[1]
        _hush()
        if is_dicom(blob.data):
            return size_of(blob.data)
        from PIL import Image as Pillow

        with Pillow.open(io.BytesIO(blob.data), formats=_FORMATS) as picture:
            wide, high = picture.size
            if wide * high > PIXELS:
                return None
            # Pillow decodes a whole PNG to look for what may stand behind its pixels: only where something may be there.
            plain = picture.format == "PNG" and not any(mark in blob.data for mark in _MARKS)
            turn = 1 if plain else picture.getexif().get(_ORIENTATION, 1)
            return (wide, high) if turn in (5, 6, 7, 8) else (high, wide)
    except Exception:  # whoever reads it meets the same, and says what it is
        return None


_MARKS = (b"eXIf", b"exif", b"adobe")  # a chunk of its own, a text chunk, a text chunk with XMP


def opened_at(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The height and width at which ``read_picture`` hands out a file of ``size``; for a JPEG to within a pixel."""
    if max(size) <= 2 * side:
        return size
    part = 2 * side / max(size)
    return max(1, round(size[0] * part)), max(1, round(size[1] * part))


def pixels_of(blob: Blob) -> int:
    """Pixels of an encoded picture as its header tells, nothing decoded; 0 where it does not."""
    _hush()
    try:
        if is_dicom(blob.data):
            high, wide = size_of(blob.data)
        else:
            from PIL import Image as Pillow

            with Pillow.open(io.BytesIO(blob.data), formats=_FORMATS) as picture:
                wide, high = picture.size
    except Exception:  # whoever reads it meets the same, and says what it is
        return 0
    return wide * high


def _medical(data: bytes) -> tuple[Array, tuple[int, int]]:
    pixels = read_dicom(data, PIXELS)
    return pixels, (pixels.shape[0], pixels.shape[1])


def _hush() -> None:
    """Decoders warn about odd metadata of files that they read well, and of large ones that are refused here anyway.

    Their warnings are filtered for good: ``catch_warnings`` is not thread-safe, and a lock would decode one at a time.
    """
    if not any(getattr(module, "pattern", None) == _LIBRARIES for _, _, _, module, _ in warnings.filters):
        warnings.filterwarnings("ignore", module=_LIBRARIES)


def _read(data: bytes, side: int) -> tuple[Array, tuple[int, int]]:
    from PIL import Image as Pillow

    with Pillow.open(io.BytesIO(data), formats=_FORMATS) as picture:
        wide, high = picture.size
        if wide * high > PIXELS:
            raise CellError(
                f"{wide} × {high} pixels are more than the {PIXELS / 2**20:.0f} million allowed", fix="make it smaller"
            )
        turn = picture.getexif().get(_ORIENTATION, 1)
        if turn in (5, 6, 7, 8):
            wide, high = high, wide
        longer = max(wide, high)
        if picture.format == "JPEG" and longer > 2 * side:
            # Decoded at 1/2, 1/4 or 1/8 of its size, though never below twice what is wanted.
            part = 2 * side / longer
            picture.draft(None, (max(1, int(picture.width * part)), max(1, int(picture.height * part))))
        picture.load()
        plain = _plain(picture)
    if max(plain.size) > 2 * side:
        part = 2 * side / max(plain.size)
        size = (max(1, round(plain.width * part)), max(1, round(plain.height * part)))
        plain = plain.resize(size, Pillow.Resampling.BILINEAR, reducing_gap=3.0)
    if turn in _TURNS:
        plain = plain.transpose(Pillow.Transpose(_TURNS[turn]))
    pixels = np.asarray(plain)
    return pixels.reshape(*pixels.shape[:2], -1), (high, wide)


# EXIF orientation to the number of Pillow's Transpose that undoes it: flips 0, 1; turns 2, 3, 4; transposes 5, 6.
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}


def _plain(picture: Image) -> Image:
    """The picture in mode L or RGB."""
    from PIL import Image as Pillow

    if picture.mode in _WIDE:
        return Pillow.fromarray(_narrow(np.asarray(picture)))
    if picture.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in picture.info:
        grey = picture.mode in ("LA", "La", "L", "1")
        clear = picture.convert("RGBA")
        white = Pillow.new("RGBA", clear.size, (255, 255, 255, 255))
        flat = Pillow.alpha_composite(white, clear)
        return flat.convert("L" if grey else "RGB")
    mode = "L" if picture.mode in _GREY else "RGB"
    return picture if picture.mode == mode else picture.convert(mode)


def _narrow(values: Array) -> Array:
    """Grey values of more than 8 bits as uint8."""
    if values.dtype.kind == "f":
        values = np.nan_to_num(values, nan=0.0, posinf=255.0, neginf=0.0)
        return (values * (255 if values.max(initial=0) <= 1 else 1)).clip(0, 255).round().astype(np.uint8)
    # Pillow opens 16-bit files in several modes; only one with a value beyond 16 bits has 32.
    top = int(values.max(initial=0))
    shift = 65535 if top <= 65535 else 2**31 - 1
    return (values.clip(0).astype(np.float64) * (255 / shift)).round().astype(np.uint8)


def _why(data: bytes, error: Exception) -> str:
    head = data[:200].lstrip().lower()
    if head.startswith((b"<svg", b"<?xml")):
        return "an SVG drawing is no picture of pixels: convert it to PNG"
    if head.startswith((b"<!doctype", b"<html")):
        return "this is a web page, not a picture"
    if type(error).__name__ == "UnidentifiedImageError":
        return f"not a picture of a known format ({', '.join(_FORMATS)})"
    if type(error).__name__ == "DecompressionBombError":
        return f"more pixels than the {PIXELS / 2**20:.0f} million allowed: refused before it was decoded"
    return f"the picture is damaged or cut short ({str(error)[:100] or type(error).__name__})"
