"""Pictures out of bytes that may be anything."""

from __future__ import annotations

import io
import struct
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.codecs.dicom import is_dicom, read_dicom, size_of
from sensorium.codecs.image_arrays import to_pixels
from sensorium.codecs.png_repair import without_metadata
from sensorium.core.errors import CellError, ConfigError, reason
from sensorium.core.modality import Array, Blob
from sensorium.signal.bit_depth import Scale, alone, is_wide, narrowed, thinned_pixels

if TYPE_CHECKING:
    from PIL.Image import Image

PIXELS = 64 * 2**20
"""Pictures with more pixels than this are refused before they are decoded."""

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".dcm")
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
_ORIENTATION = 0x0112
_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_WIDE = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_GREY = ("1", "L")
_BAND = 2**20
"""Pixels of a large picture that are brought to another mode at a time."""
_LIBRARIES = r"(PIL|pydicom)\."


def open_picture(cell: Any, side: int, scale: Scale | None = None) -> tuple[Array, tuple[int, int]]:
    """Pixels ``[H, W, 1 or 3]`` uint8 of an opened cell, near ``side`` where that is cheap, and its height and width.

    ``scale``: what is black and what is white in a picture of more than 8 bits; None: as the picture itself looks.
    """
    if isinstance(cell, bytes):
        cell = Blob(cell, "<bytes>")
    if isinstance(cell, Blob):
        return read_picture(cell, side, scale)
    pixels = to_pixels(cell, scale)
    return pixels, (pixels.shape[0], pixels.shape[1])


def glance(cell: Any, side: int) -> tuple[Array, tuple[int, int]]:
    """Like ``open_picture``, to learn from: a picture of more than 8 bits comes as it is, thinned to ``2 * side``."""
    if isinstance(cell, bytes):
        cell = Blob(cell, "<bytes>")
    if isinstance(cell, Blob):
        return read_picture(cell, side, raw=True)
    pixels = to_pixels(cell, raw=True)
    size = (pixels.shape[0], pixels.shape[1])
    return thinned_pixels(pixels, 2 * side) if is_wide(pixels) else pixels, size


def read_picture(blob: Blob, side: int, scale: Scale | None = None, *, raw: bool = False) -> tuple[Array, tuple[int, int]]:
    """Pixels ``[H, W, 1 or 3]`` uint8 of an encoded picture, and the height and width it had.

    PNG, JPEG, WebP, BMP, TIFF, GIF, and DICOM with ``sensorium[dicom]``: the first frame, upright, on white where
    transparent. Where that saves work a larger picture comes smaller, but its longer side not below twice ``side``.
    Damaged metadata cost nothing but themselves. Raises ``CellError`` on whatever is no whole picture.

    Args:
        scale: What is black and what is white in a picture of more than 8 bits.
        raw: Such a picture comes as it is, thinned to twice ``side``.
    """
    if not blob.data:
        raise CellError("the file is empty", file=blob.name)
    _hush()
    try:
        return _medical(blob.data, side, scale, raw) if is_dicom(blob.data) else _whole(blob.data, side, scale, raw)
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
            return wide * high
        try:
            return _pixels(blob.data)
        except Exception:
            plain = without_metadata(blob.data)
            return 0 if plain is None else _pixels(plain)
    except Exception:  # whoever reads it meets the same, and says what it is
        return 0


def _pixels(data: bytes) -> int:
    from PIL import Image as Pillow

    if data.startswith(_PNG) and len(data) >= 24:  # its size stands first; to open it would unpack all texts in it
        wide, high = struct.unpack_from(">II", data, 16)
        return int(wide * high)
    with Pillow.open(io.BytesIO(data), formats=_FORMATS) as picture:
        return int(picture.width * picture.height)


def _medical(data: bytes, side: int, scale: Scale | None, raw: bool) -> tuple[Array, tuple[int, int]]:
    pixels = read_dicom(data, PIXELS, scale, raw=raw)
    size = (pixels.shape[0], pixels.shape[1])
    return thinned_pixels(pixels, 2 * side) if is_wide(pixels) else pixels, size


def _whole(data: bytes, side: int, scale: Scale | None, raw: bool) -> tuple[Array, tuple[int, int]]:
    try:
        return _read(data, side, scale, raw)
    except CellError:
        raise
    except Exception:
        plain = without_metadata(data)
        if plain is None:
            raise
        return _read(plain, side, scale, raw)


def _hush() -> None:
    """Decoders warn about odd metadata of files that they read well, and of large ones that are refused here anyway.

    Their warnings are filtered for good: ``catch_warnings`` is not thread-safe, and a lock would decode one at a time.
    """
    if not any(getattr(module, "pattern", None) == _LIBRARIES for _, _, _, module, _ in warnings.filters):
        warnings.filterwarnings("ignore", module=_LIBRARIES)


def _read(data: bytes, side: int, scale: Scale | None, raw: bool) -> tuple[Array, tuple[int, int]]:
    from PIL import Image as Pillow

    with Pillow.open(io.BytesIO(data), formats=_FORMATS) as picture:
        wide, high = picture.size
        if wide * high > PIXELS:
            raise CellError(
                f"{wide} × {high} pixels are more than the {PIXELS / 2**20:.0f} million allowed", fix="make it smaller"
            )
        turn = _turn(picture)
        if turn in (5, 6, 7, 8):
            wide, high = high, wide
        longer = max(wide, high)
        if picture.format == "JPEG" and longer > 2 * side:
            # Decoded at 1/2, 1/4 or 1/8 of its size, though never below twice what is wanted.
            part = 2 * side / longer
            picture.draft(None, (max(1, int(picture.width * part)), max(1, int(picture.height * part))))
        picture.load()
        if raw and picture.mode in _WIDE:
            return thinned_pixels(np.asarray(picture)[..., None], 2 * side), (high, wide)
        plain = _plain(picture, scale)
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


def _turn(picture: Image) -> Any:
    """Which way is up, as EXIF has it; upright where that is damaged."""
    try:
        return picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # of metadata a decoder may raise anything, and the picture is none the worse for it
        return 1


def _plain(picture: Image, scale: Scale | None) -> Image:
    """The picture in mode L or RGB."""
    from PIL import Image as Pillow

    if picture.mode in _WIDE:
        values = np.asarray(picture)
        return Pillow.fromarray(alone(values) if scale is None else narrowed(values, scale))
    clear = picture.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in picture.info
    mode = "L" if picture.mode in (("LA", "La", "L", "1") if clear else _GREY) else "RGB"
    if picture.mode == mode and not clear:
        return picture
    if picture.width * picture.height <= _BAND:
        return _opaque(picture, mode, clear)
    # Band by band: a copy of a whole large picture takes much memory, and Pillow lets no other thread go on meanwhile.
    found = Pillow.new(mode, picture.size)
    rows = max(1, _BAND // picture.width)
    for top in range(0, picture.height, rows):
        band = picture.crop((0, top, picture.width, min(top + rows, picture.height)))
        found.paste(_opaque(band, mode, clear), (0, top))
    return found


def _opaque(picture: Image, mode: str, clear: bool) -> Image:
    """The picture in a mode, on white where it is transparent."""
    from PIL import Image as Pillow

    if not clear:
        return picture.convert(mode)
    over = picture.convert("RGBA")
    return Pillow.alpha_composite(Pillow.new("RGBA", over.size, (255, 255, 255, 255)), over).convert(mode)


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
    return f"the picture is damaged or cut short ({reason(error)})"
