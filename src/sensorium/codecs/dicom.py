"""Medical pictures (DICOM) out of bytes that may be anything. Needs ``sensorium[dicom]``."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from sensorium.core.errors import CellError, ConfigError, reason
from sensorium.core.modality import Array
from sensorium.signal.bit_depth import Scale, narrowed


def is_dicom(data: bytes) -> bool:
    """Whether bytes begin as a DICOM file does: a preamble of 128 bytes, then ``DICM``."""
    return data[128:132] == b"DICM"


def read_dicom(data: bytes, most: int, scale: Scale | None = None, *, raw: bool = False) -> Array:
    """The first frame ``[H, W, 1 or 3]`` uint8, as a viewer shows it: rescaled, windowed, dark where nothing is.

    The window is the file's own (the first, where there are several), else ``scale``, else from the smallest to the largest
    value; without a window and with ``raw`` the values come as they are, rescaled, float32. Pictures of more than ``most``
    pixels are refused before they are decoded. Raises ``CellError`` where there is no picture.
    Source: DICOM PS3.3, C.11.2.1.2 (linear window) and C.7.6.3.1.2 (photometric interpretation).
    """
    try:
        from pydicom import dcmread
        from pydicom.errors import InvalidDicomError
        from pydicom.pixels import apply_rescale, pixel_array
    except ImportError:
        raise ConfigError("DICOM pictures need pydicom", fix="pip install 'sensorium[dicom]'") from None

    try:
        found = dcmread(io.BytesIO(data))
    except (InvalidDicomError, EOFError) as error:
        raise CellError(f"not a whole DICOM file ({reason(error, 80)})") from None
    high, wide = int(found.get("Rows", 0)), int(found.get("Columns", 0))
    if high < 1 or wide < 1 or "PixelData" not in found:
        raise CellError("the DICOM file holds no picture")
    if high * wide > most:
        raise CellError(
            f"{wide} × {high} pixels are more than the {most / 2**20:.0f} million allowed", fix="make it smaller"
        )
    try:
        values = pixel_array(found, index=0)
    except (RuntimeError, NotImplementedError) as error:  # what pydicom raises where a compression needs a further library
        raise CellError(f"the DICOM picture is compressed in a way that cannot be read ({reason(error, 80)})") from None
    if values.ndim == 3:
        return np.asarray(values[..., :3] if values.dtype == np.uint8 else _shown(values.astype(np.float64), None))
    window, bright_is_low = _window(found), found.get("PhotometricInterpretation") == "MONOCHROME1"
    if window is None and (raw or scale is not None):
        if bright_is_low:  # turned over before it is rescaled, so that it stands on the column's scale as the others do
            bits = int(found.get("BitsStored", 8 * values.dtype.itemsize))
            values = (-1 if values.dtype.kind == "i" else 2**bits - 1) - values.astype(np.int64)
        real = np.asarray(apply_rescale(values, found), np.float32)[..., None]
        return real if scale is None else narrowed(real, scale)
    grey = _shown(np.asarray(apply_rescale(values, found), np.float64), window)
    return (255 - grey if bright_is_low else grey)[..., None]


def read_slices(files: Sequence[bytes], most: int) -> Array:
    """The slices of a scan ``[D, H, W]`` float32, rescaled (CT: Hounsfield units), in the order of their positions.

    Of a folder with several series the largest is taken; of a single file its frames. More than ``most`` pixels together
    are refused before any is decoded. Source: DICOM PS3.3, C.7.6.2.1.1 (position and orientation of an image plane).
    """
    try:
        from pydicom import dcmread
        from pydicom.pixels import apply_rescale, pixel_array
    except ImportError:
        raise ConfigError("DICOM volumes need pydicom", fix="pip install 'sensorium[dicom]'") from None
    groups: dict[Any, list[tuple[tuple[float, float], Any]]] = {}
    for at, data in enumerate(files):
        found = dcmread(io.BytesIO(data))
        high, wide = int(found.get("Rows", 0)), int(found.get("Columns", 0))
        if high > 0 and wide > 0 and "PixelData" in found and int(found.get("SamplesPerPixel", 1)) == 1:
            key = (str(found.get("SeriesInstanceUID", "")), high, wide)
            groups.setdefault(key, []).append((_place(found, at), found))
    if not groups:
        raise CellError("no slice of grey values is in it")
    (_, high, wide), group = max(groups.items(), key=lambda item: len(item[1]))
    depth = sum(max(1, int(found.get("NumberOfFrames", 1) or 1)) for _, found in group)
    if depth * high * wide > most:
        problem = f"{depth} × {high} × {wide} voxels are more than the {most / 2**20:.0f} million allowed"
        raise CellError(problem, fix="make it smaller")
    group.sort(key=lambda item: item[0])
    slices = [np.asarray(apply_rescale(pixel_array(found), found), np.float32) for _, found in group]
    return np.concatenate([part.reshape(-1, high, wide) for part in slices])


def _place(found: Any, at: int) -> tuple[float, float]:
    """Where a slice lies: along the normal of its plane, else by its number, else as its file was found."""
    position, plane = found.get("ImagePositionPatient"), found.get("ImageOrientationPatient")
    number = found.get("InstanceNumber")
    last = float(number) if number is not None else float(at)
    if position is None or plane is None or len(position) != 3 or len(plane) != 6:
        return 0.0, last
    axes = np.array([float(value) for value in plane])
    return float(np.cross(axes[:3], axes[3:]) @ np.array([float(value) for value in position])), last


def size_of(data: bytes) -> tuple[int, int]:
    """Height and width as the header tells; whatever pydicom raises where it tells nothing."""
    from pydicom import dcmread

    found = dcmread(io.BytesIO(data), stop_before_pixels=True, specific_tags=["Rows", "Columns"])
    return int(found.get("Rows", 0)), int(found.get("Columns", 0))


def _window(found: Any) -> tuple[float, float] | None:
    """Centre and width of the first window that the file names."""
    centre, width = found.get("WindowCenter"), found.get("WindowWidth")
    if centre is None or width is None:
        return None
    first = [float(value if isinstance(value, (int, float, str)) else value[0]) for value in (centre, width)]
    return (first[0], first[1]) if first[1] >= 1 else None


def _shown(values: Array, window: tuple[float, float] | None) -> Array:
    """Values as uint8: what the window shows from black to white."""
    if window is None:
        low, high = float(values.min()), float(values.max())
    else:
        centre, width = window
        low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    part = (values - low) / (high - low) if high > low else (values > low).astype(np.float64)
    return (part.clip(0, 1) * 255).round().astype(np.uint8)
