"""Image decoder for untrusted bytes: PNG, JPEG, WebP, BMP, TIFF, GIF and DICOM."""

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
from sensorium.signal.bit_depth import Scale, alone, is_wide, thinned_pixels, to_uint8

if TYPE_CHECKING:
    from PIL.Image import Image

PIXELS = 64 * 2**20
"""Maximum number of pixels; larger images are refused before they are decoded."""

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".dcm")
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
_ORIENTATION = 0x0112
_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_WIDE = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_GREY = ("1", "L")
_BAND = 2**20
"""Number of pixels of a large image that are converted to another mode at a time."""
_LIBRARIES = r"(PIL|pydicom)\."


def open_picture(cell: Any, side: int, scale: Scale | None = None) -> tuple[Array, tuple[int, int]]:
    """Decode an image cell.

    Args:
        cell: An encoded image or an array.
        side: The wanted longer side; larger images are reduced to a longer side of about twice that (8-bit DICOM: not).
        scale: The values of black and white in images of more than 8 bits; None: the range of the image.

    Returns:
        Pixels ``[H, W, 1 or 3]`` uint8, and the original height and width.

    Raises:
        CellError: The cell is not an image.
    """
    if isinstance(cell, bytes):
        cell = Blob(cell, "<bytes>")
    if isinstance(cell, Blob):
        return read_picture(cell, side, scale)
    pixels = to_pixels(cell, scale)
    return pixels, (pixels.shape[0], pixels.shape[1])


def open_raw_picture(cell: Any, side: int) -> tuple[Array, tuple[int, int]]:
    """Decode ``cell`` like ``open_picture``, but keep the values of images of more than 8 bits, thinned to ``2 * side``."""
    if isinstance(cell, bytes):
        cell = Blob(cell, "<bytes>")
    if isinstance(cell, Blob):
        return read_picture(cell, side, raw=True)
    pixels = to_pixels(cell, raw=True)
    size = (pixels.shape[0], pixels.shape[1])
    return thinned_pixels(pixels, 2 * side) if is_wide(pixels) else pixels, size


def read_picture(blob: Blob, side: int, scale: Scale | None = None, *, raw: bool = False) -> tuple[Array, tuple[int, int]]:
    """Decode the first frame of a PNG, JPEG, WebP, BMP, TIFF, GIF or (with ``sensorium[dicom]``) DICOM file.

    The image is upright, with transparency on white. Damaged metadata are ignored.

    Args:
        blob: The file.
        side: Images of more than twice this longer side are reduced to about that (8-bit DICOM: not).
        scale: The values of black and white in images of more than 8 bits; None: the range of the image.
        raw: Whether to keep the values of such images, thinned to twice ``side``.

    Returns:
        Pixels ``[H, W, 1 or 3]`` uint8, and the original height and width.

    Raises:
        CellError: The file is not an image, is damaged or too large.
    """
    if not blob.data:
        raise CellError("the file is empty", file=blob.name)
    silence_decoders()
    try:
        return _decode_dicom(blob.data, side, scale, raw) if is_dicom(blob.data) else _decode(blob.data, side, scale, raw)
    except ConfigError:
        raise
    except CellError as error:
        raise CellError(error.problem, file=blob.name, fix=error.fix) from None
    except Exception as error:  # a hostile file can raise any error in a decoder, but must only affect its cell
        raise CellError(describe_damage(blob.data, error), file=blob.name) from None


def size_of_picture(cell: Any) -> tuple[int, int] | None:
    """Return the height and width that ``open_picture`` returns for ``cell``, from the header; None if it would fail."""
    blob = Blob(cell, "<bytes>") if isinstance(cell, bytes) else cell
    try:
        if not isinstance(blob, Blob):
            pixels = to_pixels(blob)
            return pixels.shape[0], pixels.shape[1]
        silence_decoders()
        if is_dicom(blob.data):
            return size_of(blob.data)
        from PIL import Image as Pillow

        with Pillow.open(io.BytesIO(blob.data), formats=_FORMATS) as picture:
            wide, high = picture.size
            if wide * high > PIXELS:
                return None
            # Pillow decodes all of a PNG to find an orientation after the pixels: do that only if there may be one.
            plain = picture.format == "PNG" and not any(name in blob.data for name in _EXIF_CHUNKS)
            orientation = 1 if plain else picture.getexif().get(_ORIENTATION, 1)
            return (wide, high) if orientation in (5, 6, 7, 8) else (high, wide)
    except Exception:  # decoding raises the same error and reports it
        return None


_EXIF_CHUNKS = (b"eXIf", b"exif", b"adobe")  # an EXIF chunk, a text chunk, a text chunk with XMP


def decoded_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return the height and width that ``read_picture`` decodes an image of ``size`` to, for ``side``.

    For a JPEG the result is exact to within a pixel.
    """
    if max(size) <= 2 * side:
        return size
    ratio = 2 * side / max(size)
    return max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))


def pixel_count(blob: Blob) -> int:
    """Return the number of pixels of ``blob`` from its header, without decoding; 0 if it is unknown."""
    silence_decoders()
    try:
        if is_dicom(blob.data):
            high, wide = size_of(blob.data)
            return wide * high
        try:
            return _pixels(blob.data)
        except Exception:
            plain = without_metadata(blob.data)
            return 0 if plain is None else _pixels(plain)
    except Exception:  # decoding raises the same error and reports it
        return 0


def _pixels(data: bytes) -> int:
    from PIL import Image as Pillow

    if (
        data.startswith(_PNG) and len(data) >= 24
    ):  # the size comes first; opening the file would decompress all its text chunks
        wide, high = struct.unpack_from(">II", data, 16)
        return int(wide * high)
    with Pillow.open(io.BytesIO(data), formats=_FORMATS) as picture:
        return int(picture.width * picture.height)


def _decode_dicom(data: bytes, side: int, scale: Scale | None, raw: bool) -> tuple[Array, tuple[int, int]]:
    pixels = read_dicom(data, PIXELS, scale, raw=raw)
    size = (pixels.shape[0], pixels.shape[1])
    return thinned_pixels(pixels, 2 * side) if is_wide(pixels) else pixels, size


def _decode(data: bytes, side: int, scale: Scale | None, raw: bool) -> tuple[Array, tuple[int, int]]:
    try:
        return _read(data, side, scale, raw)
    except CellError:
        raise
    except Exception:
        plain = without_metadata(data)
        if plain is None:
            raise
        return _read(plain, side, scale, raw)


def silence_decoders() -> None:
    """Ignore warnings of decoders about metadata, and about large files, which are refused here.

    The filter is permanent, since ``catch_warnings`` is not thread-safe and a lock would serialise decoding.
    """
    if not any(getattr(module, "pattern", None) == _LIBRARIES for _, _, _, module, _ in warnings.filters):
        warnings.filterwarnings("ignore", module=_LIBRARIES)


def _read(data: bytes, side: int, scale: Scale | None, raw: bool) -> tuple[Array, tuple[int, int]]:
    from PIL import Image as Pillow

    with Pillow.open(io.BytesIO(data), formats=_FORMATS) as picture:
        wide, high = picture.size
        if wide * high > PIXELS:
            raise CellError(
                f"{wide} × {high} pixels are more than the {PIXELS / 2**20:.0f} million allowed", fix="reduce its size"
            )
        orientation = _orientation(picture)
        if orientation in (5, 6, 7, 8):
            wide, high = high, wide
        longer = max(wide, high)
        if picture.format == "JPEG" and longer > 2 * side:
            # Decode at 1/2, 1/4 or 1/8 of its size, but not below twice the wanted side.
            ratio = 2 * side / longer
            picture.draft(None, (max(1, int(picture.width * ratio)), max(1, int(picture.height * ratio))))
        picture.load()
        if raw and picture.mode in _WIDE:
            return thinned_pixels(np.asarray(picture)[..., None], 2 * side), (high, wide)
        plain = _plain(picture, scale)
    if max(plain.size) > 2 * side:
        ratio = 2 * side / max(plain.size)
        size = (max(1, round(plain.width * ratio)), max(1, round(plain.height * ratio)))
        plain = plain.resize(size, Pillow.Resampling.BILINEAR, reducing_gap=3.0)
    if orientation in _TRANSPOSES:
        plain = plain.transpose(Pillow.Transpose(_TRANSPOSES[orientation]))
    pixels = np.asarray(plain)
    return pixels.reshape(*pixels.shape[:2], -1), (high, wide)


# EXIF orientation to the number of Pillow's Transpose that undoes it: flips 0, 1; rotations 2, 3, 4; transposes 5, 6.
_TRANSPOSES = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}


def upright(picture: Image) -> Image:
    """Return ``picture`` turned as its EXIF orientation says."""
    from PIL import Image as Pillow

    turn = _TRANSPOSES.get(_orientation(picture))
    return picture if turn is None else picture.transpose(Pillow.Transpose(turn))


def _orientation(picture: Image) -> Any:
    """Return the EXIF orientation; 1 (upright) if it is damaged."""
    try:
        return picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged metadata may raise any error, but the pixels are fine
        return 1


def _plain(picture: Image, scale: Scale | None) -> Image:
    """Return the image in mode L or RGB."""
    from PIL import Image as Pillow

    if picture.mode in _WIDE:
        values = np.asarray(picture)
        return Pillow.fromarray(alone(values) if scale is None else to_uint8(values, scale))
    transparent = picture.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in picture.info
    mode = "L" if picture.mode in (("LA", "La", "L", "1") if transparent else _GREY) else "RGB"
    if picture.mode == mode and not transparent:
        return picture
    if picture.width * picture.height <= _BAND:
        return _opaque(picture, mode, transparent)
    # Band by band: a copy of a large image needs much memory, and Pillow blocks other threads meanwhile.
    converted = Pillow.new(mode, picture.size)
    rows = max(1, _BAND // picture.width)
    for top in range(0, picture.height, rows):
        band = picture.crop((0, top, picture.width, min(top + rows, picture.height)))
        converted.paste(_opaque(band, mode, transparent), (0, top))
    return converted


def _opaque(picture: Image, mode: str, transparent: bool) -> Image:
    """Return the image in a mode, with transparency on white."""
    from PIL import Image as Pillow

    if not transparent:
        return picture.convert(mode)
    over = picture.convert("RGBA")
    return Pillow.alpha_composite(Pillow.new("RGBA", over.size, (255, 255, 255, 255)), over).convert(mode)


def describe_damage(data: bytes, error: Exception) -> str:
    """Return in words why the bytes ``data`` are no picture, from the ``error`` of its decoder."""
    head = data[:200].lstrip().lower()
    if head.startswith((b"<svg", b"<?xml")):
        return "an SVG drawing is not a pixel image: convert it to PNG"
    if head.startswith((b"<!doctype", b"<html")):
        return "this is a web page, not a picture"
    if type(error).__name__ == "UnidentifiedImageError":
        return f"not a picture of a known format ({', '.join(_FORMATS)})"
    if type(error).__name__ == "DecompressionBombError":
        return f"more pixels than the {PIXELS / 2**20:.0f} million allowed: refused before it was decoded"
    return f"the picture is damaged or cut short ({reason(error)})"
