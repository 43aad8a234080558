"""DICOM decoder for untrusted bytes. Needs ``sensorium[dicom]``."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from sensorium.core.errors import CellError, ConfigError, reason
from sensorium.core.modality import Array
from sensorium.signal.bit_depth import Scale, to_uint8


def is_dicom(data: bytes) -> bool:
    """Return whether ``data`` begin like a DICOM file: a preamble of 128 bytes, then ``DICM``."""
    return data[128:132] == b"DICM"


def read_dicom(data: bytes, most: int, scale: Scale | None = None, *, raw: bool = False) -> Array:
    """Decode the first frame to ``[H, W, 1 or 3]`` uint8, as a viewer shows it: rescaled and windowed.

    The window is the first one in the file, else ``scale``, else the range of the values.
    Source: DICOM PS3.3, C.11.2.1.2 (linear window) and C.7.6.3.1.2 (photometric interpretation).

    Args:
        data: The file.
        most: Maximum number of pixels; larger images are refused before they are decoded.
        scale: The values of black and white, for files without a window.
        raw: Whether to return the rescaled values as float32 if the file has no window.

    Raises:
        CellError: The file has no image that can be decoded.
    """
    try:
        from pydicom import dcmread
        from pydicom.errors import InvalidDicomError
        from pydicom.pixels import apply_rescale, pixel_array
    except ImportError:
        raise ConfigError("DICOM images need pydicom", fix="pip install 'sensorium[dicom]'") from None

    try:
        dataset = dcmread(io.BytesIO(data))
    except (InvalidDicomError, EOFError) as error:
        raise CellError(f"the DICOM file is damaged or cut short ({reason(error, 80)})") from None
    high, wide = int(dataset.get("Rows", 0)), int(dataset.get("Columns", 0))
    if high < 1 or wide < 1 or "PixelData" not in dataset:
        raise CellError("the DICOM file has no image")
    if high * wide > most:
        raise CellError(
            f"{wide} × {high} pixels are more than the {most / 2**20:.0f} million allowed", fix="reduce its size"
        )
    try:
        values = pixel_array(dataset, index=0)
    except (RuntimeError, NotImplementedError) as error:  # pydicom raises these if a compression needs another package
        raise CellError(f"the compression of the DICOM image is not supported ({reason(error, 80)})") from None
    if values.ndim == 3:
        return np.asarray(values[..., :3] if values.dtype == np.uint8 else _apply_window(values.astype(np.float64), None))
    window, bright_is_low = _window(dataset), dataset.get("PhotometricInterpretation") == "MONOCHROME1"
    if window is None and (raw or scale is not None):
        if bright_is_low:  # inverted before it is rescaled, so that the scale of the column applies
            bits = int(dataset.get("BitsStored", 8 * values.dtype.itemsize))
            values = (-1 if values.dtype.kind == "i" else 2**bits - 1) - values.astype(np.int64)
        real = np.asarray(apply_rescale(values, dataset), np.float32)[..., None]
        return real if scale is None else to_uint8(real, scale)
    grey = _apply_window(np.asarray(apply_rescale(values, dataset), np.float64), window)
    return (255 - grey if bright_is_low else grey)[..., None]


def read_slices(files: Sequence[bytes], most: int) -> Array:
    """Decode the slices of a scan to ``[D, H, W]`` float32, rescaled (CT: Hounsfield units) and sorted by position.

    Of several series the largest is used. Source: DICOM PS3.3, C.7.6.2.1.1 (position and orientation of an image plane).

    Args:
        files: The slices, or a single file of several frames.
        most: Maximum number of pixels of all slices; more are refused before decoding.

    Raises:
        CellError: There are no grey slices, or too many.
    """
    try:
        from pydicom import dcmread
        from pydicom.pixels import apply_rescale, pixel_array
    except ImportError:
        raise ConfigError("DICOM volumes need pydicom", fix="pip install 'sensorium[dicom]'") from None
    groups: dict[Any, list[tuple[tuple[float, float], Any]]] = {}
    for at, data in enumerate(files):
        dataset = dcmread(io.BytesIO(data))
        high, wide = int(dataset.get("Rows", 0)), int(dataset.get("Columns", 0))
        if high > 0 and wide > 0 and "PixelData" in dataset and int(dataset.get("SamplesPerPixel", 1)) == 1:
            key = (str(dataset.get("SeriesInstanceUID", "")), high, wide)
            groups.setdefault(key, []).append((_slice_position(dataset, at), dataset))
    if not groups:
        raise CellError("the files have no grey slices")
    (_, high, wide), group = max(groups.items(), key=lambda item: len(item[1]))
    depth = sum(max(1, int(dataset.get("NumberOfFrames", 1) or 1)) for _, dataset in group)
    if depth * high * wide > most:
        problem = f"{depth} × {high} × {wide} voxels are more than the {most / 2**20:.0f} million allowed"
        raise CellError(problem, fix="reduce its size")
    group.sort(key=lambda item: item[0])
    slices = [np.asarray(apply_rescale(pixel_array(dataset), dataset), np.float32) for _, dataset in group]
    return np.concatenate([part.reshape(-1, high, wide) for part in slices])


def _slice_position(dataset: Any, at: int) -> tuple[float, float]:
    """Return the sort key of a slice: its position along the normal of its plane, else its number, else its index."""
    position, plane = dataset.get("ImagePositionPatient"), dataset.get("ImageOrientationPatient")
    number = dataset.get("InstanceNumber")
    last = float(number) if number is not None else float(at)
    if position is None or plane is None or len(position) != 3 or len(plane) != 6:
        return 0.0, last
    axes = np.array([float(value) for value in plane])
    return float(np.cross(axes[:3], axes[3:]) @ np.array([float(value) for value in position])), last


def size_of(data: bytes) -> tuple[int, int]:
    """Return the height and width from the header of ``data``; invalid files raise errors of pydicom."""
    from pydicom import dcmread

    dataset = dcmread(io.BytesIO(data), stop_before_pixels=True, specific_tags=["Rows", "Columns"])
    return int(dataset.get("Rows", 0)), int(dataset.get("Columns", 0))


def _window(dataset: Any) -> tuple[float, float] | None:
    """Return the centre and width of the first window of the file."""
    centre, width = dataset.get("WindowCenter"), dataset.get("WindowWidth")
    if centre is None or width is None:
        return None
    first = [float(value if isinstance(value, (int, float, str)) else value[0]) for value in (centre, width)]
    return (first[0], first[1]) if first[1] >= 1 else None


def _apply_window(values: Array, window: tuple[float, float] | None) -> Array:
    """Return values as uint8, with the window from black to white."""
    if window is None:
        low, high = float(values.min()), float(values.max())
    else:
        centre, width = window
        low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    share = (values - low) / (high - low) if high > low else (values > low).astype(np.float64)
    return (share.clip(0, 1) * 255).round().astype(np.uint8)
