"""Mask decoder for untrusted cells: pictures of class numbers or of colours, arrays, and regions written as JSON."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from sensorium.codecs.image import PIXELS, describe_damage, silence_decoders, size_of_picture, upright
from sensorium.codecs.npy import MAGIC, npy_array
from sensorium.codecs.regions import draw_regions
from sensorium.core.errors import CellError
from sensorium.core.modality import Array, Blob

_FORMATS = ("PNG", "TIFF", "BMP", "GIF", "WEBP", "JPEG")
_NUMBERED = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N")


def read_mask(cell: Any, *, palette: bool = False, names: Mapping[str, int] | None = None) -> Array:
    """Decode a mask.

    Args:
        cell: The bytes of a picture or of an NPY file, an array ``[H, W]`` of numbers or ``[H, W, 3]`` of colours, or
            regions (``codecs/regions.py``).
        palette: Whether pictures with a palette are read as colours, not as the numbers of the palette's entries.
        names: The number of each class that regions name; None: they have numbers.

    Returns:
        One number for each pixel, ``[H, W]`` int32: a class number, or a colour as ``0xRRGGBB``; see ``is_coloured``.

    Raises:
        CellError: The cell is no mask.
    """
    pixels = _pixels(cell, palette, names)
    if pixels.ndim == 2:
        return pixels.astype(np.int32)
    red, green, blue = (pixels[..., i].astype(np.int32) for i in range(3))
    return red << 16 | green << 8 | blue


def is_coloured(cell: Any, *, palette: bool = False) -> bool:
    """Return whether ``read_mask`` reads ``cell`` as colours; with ``palette`` as there."""
    if isinstance(cell, np.ndarray):
        return cell.ndim == 3
    if not isinstance(cell, Blob) or cell.data.startswith(MAGIC):
        return False
    from PIL import Image

    silence_decoders()
    try:
        with Image.open(io.BytesIO(cell.data), formats=_FORMATS) as picture:
            return (picture.mode == "P" and palette) or picture.mode not in (*_NUMBERED, "LA", "La", "PA")
    except Exception:  # read_mask raises the same error and reports it
        return False


def mask_size(cell: Any) -> tuple[int, int] | None:
    """Return the height and width of the mask in ``cell``, from the header of a file; None if it cannot be read."""
    try:
        if isinstance(cell, Blob) and not cell.data.startswith(MAGIC):
            from PIL import Image

            silence_decoders()
            with Image.open(io.BytesIO(cell.data), formats=_FORMATS) as picture:
                if picture.width * picture.height > PIXELS:
                    return None
            return size_of_picture(cell)
        if isinstance(cell, dict):
            high, wide = cell["size"]  # without drawing its regions
            return int(high), int(wide)
        shape = _pixels(cell, False).shape
        return int(shape[0]), int(shape[1])
    except Exception:  # read_mask raises the same error and reports it
        return None


def _pixels(cell: Any, palette: bool, names: Mapping[str, int] | None = None) -> Array:
    """The numbers ``[H, W]`` or colours ``[H, W, 3]`` of a mask."""
    if isinstance(cell, Blob):
        if not cell.data:
            raise CellError("the file is empty", file=cell.name)
        try:
            return _array(npy_array(cell.data)) if cell.data.startswith(MAGIC) else _picture(cell.data, palette)
        except CellError as error:
            raise CellError(error.problem, file=cell.name, fix=error.fix) from None
        except Exception as error:  # a hostile file can raise any error in a decoder, but must only affect its cell
            raise CellError(describe_damage(cell.data, error), file=cell.name) from None
    if isinstance(cell, np.ndarray):
        return _array(cell)
    if isinstance(cell, (list, dict)):
        return draw_regions(cell, PIXELS, names) if isinstance(cell, dict) else _array(_listed(cell))
    raise CellError(f"a {type(cell).__name__} is no mask", fix="give a picture file of class numbers or colours")


def _listed(rows: list[Any]) -> Array:
    try:
        return np.array(rows)
    except (ValueError, TypeError, OverflowError):
        raise CellError("the rows of a list differ in length: it is no mask") from None


def _array(values: Array) -> Array:
    shape = values.shape
    if values.ndim not in (2, 3) or (values.ndim == 3 and shape[2] != 3) or not all(shape) or shape[0] * shape[1] > PIXELS:
        raise CellError(f"an array {list(shape)} is no mask", fix="give numbers [H, W] or colours [H, W, 3]")
    if values.dtype.kind not in "bui" or (values.ndim == 3 and values.dtype != np.uint8):
        raise CellError(f"an array of {values.dtype} is no mask", fix="give whole numbers [H, W] or uint8 [H, W, 3]")
    if values.dtype.kind != "b" and (int(values.min()) < 0 or int(values.max()) > 0xFFFF):
        raise CellError("class numbers are from 0 to 65535")
    return values


def _picture(data: bytes, palette: bool) -> Array:
    from PIL import Image

    silence_decoders()
    with Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
        if opened.width * opened.height > PIXELS:
            size = f"{opened.width} × {opened.height} pixels"
            raise CellError(f"{size} are more than the {PIXELS / 2**20:.0f} million allowed", fix="reduce its size")
        opened.load()
        picture = upright(opened)
    if picture.mode in ("LA", "La", "PA"):
        picture = picture.getchannel(0)  # what is transparent counts all the same
    if picture.mode in _NUMBERED and not (picture.mode == "P" and palette):
        return _array(np.array(picture))
    return np.array(picture.convert("RGB"), np.uint8)
