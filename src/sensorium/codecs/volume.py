"""Volume decoder for untrusted NIfTI, DICOM and NPY files. Needs ``sensorium[nifti]`` or ``sensorium[dicom]``."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np

from sensorium.codecs.dicom import is_dicom, read_slices
from sensorium.codecs.npy import MAGIC, npy_array
from sensorium.core.errors import CellError, ConfigError, reason
from sensorium.core.modality import Array, Blob, Folder

VOXELS = 2**27
"""Maximum number of voxels (512³); larger volumes are refused before they are decoded."""
ENDINGS = (".nii", ".nii.gz")

_GZIP = b"\x1f\x8b"
_HEADER = 352
_NIFTI = ((344, (b"n+1\0", b"ni1\0")), (4, (b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n")))
_BYTES = 16  # maximum bytes per voxel


def is_nifti(data: bytes) -> bool:
    """Return whether ``data`` begin like a NIfTI file, compressed or not."""
    head = _head(data)
    return any(head[at : at + len(marks[0])] in marks for at, marks in _NIFTI)


def read_volume(cell: Any) -> Array:
    """Decode a volume to voxels ``[D, H, W]``: slices from below, rows, columns.

    NIfTI volumes are reoriented by their affine, DICOM slices are sorted by position; both are float32. Arrays and NPY
    files keep their data type and order.

    Args:
        cell: A NIfTI file (the first volume is used), a folder with a DICOM series, a multi-frame DICOM file, an NPY file
            or an array.

    Raises:
        CellError: The cell is not a volume, is damaged or too large.
    """
    if isinstance(cell, bytes):
        cell = Blob(cell, "<bytes>")
    name = cell.name if isinstance(cell, (Blob, Folder)) else None
    try:
        array = _read(cell)
    except ConfigError:
        raise
    except CellError as error:
        raise CellError(error.problem, file=name, fix=error.fix) from None
    except Exception as error:  # a hostile file can raise any error in a decoder, but must only affect its cell
        raise CellError(f"the volume is damaged or cut short ({reason(error)})", file=name) from None
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 3 or 0 in array.shape or array.dtype.kind not in "buif":
        problem = f"an array of shape {array.shape} and type {array.dtype} is not a volume"
        raise CellError(problem, file=name, fix="use [depth, height, width]")
    return array


def voxel_count(cell: Any) -> int:
    """Return the number of voxels of the NIfTI file ``cell`` from its header; 0 if it is unknown."""
    return int(np.prod(_shape(_head(cell.data)), dtype=np.float64)) if isinstance(cell, Blob) and is_nifti(cell.data) else 0


def _read(cell: Any) -> Array:
    if isinstance(cell, Folder):
        return read_slices([part.data for part in cell.files], VOXELS)
    if not isinstance(cell, Blob):
        try:
            return np.asarray(cell)
        except (ValueError, TypeError):
            raise CellError(f"a {type(cell).__name__} is not a volume") from None
    if not cell.data:
        raise CellError("the file is empty")
    if cell.data.startswith(MAGIC):
        return npy_array(cell.data)
    if is_dicom(cell.data):
        return read_slices([cell.data], VOXELS)
    if is_nifti(cell.data):
        return _nifti(cell.data)
    raise CellError("not a volume of a known format (NIfTI, DICOM, NPY)")


def _nifti(data: bytes) -> Array:
    try:
        import nibabel
        from nibabel.orientations import apply_orientation, io_orientation
    except ImportError:
        raise ConfigError("NIfTI volumes need nibabel", fix="pip install 'sensorium[nifti]'") from None
    shape = _shape(_head(data))
    if np.prod(shape[:3], dtype=np.float64) > VOXELS:
        sides = " × ".join(map(str, shape[:3]))
        raise CellError(f"{sides} voxels are more than the {VOXELS / 2**20:.0f} million allowed", fix="reduce its size")
    if data.startswith(_GZIP):
        expander = zlib.decompressobj(wbits=31)
        # Of several volumes only the first is needed; they follow each other.
        data = expander.decompress(data, _HEADER + 2**20 + _BYTES * int(np.prod(shape[:3])))
    kind = nibabel.Nifti2Image if _head(data)[4:7] in (b"n+2", b"ni2") else nibabel.Nifti1Image
    header = kind.header_class.from_fileobj(io.BytesIO(data))
    header.set_data_shape(shape[:3])
    values = np.asarray(nibabel.arrayproxy.ArrayProxy(io.BytesIO(data), header))
    upright = apply_orientation(values, io_orientation(header.get_best_affine()))
    return np.ascontiguousarray(upright.transpose(2, 1, 0)[:, ::-1], np.float32)


def _head(data: bytes) -> bytes:
    if not data.startswith(_GZIP):
        return data[:540]
    try:
        return zlib.decompressobj(wbits=31).decompress(data[:4096], 540)
    except zlib.error:
        return b""


def _shape(head: bytes) -> tuple[int, ...]:
    """Return the sides from the header of a NIfTI file, at least three; zeros if they are invalid."""
    wide = head[4:7] in (b"n+2", b"ni2")
    at, form, size = (16, "8q", 64) if wide else (40, "8h", 16)
    if len(head) < at + size:
        return 0, 0, 0
    for order in "<>":
        count, *sides = struct.unpack_from(order + form, head, at)
        if 1 <= count <= 7 and all(side > 0 for side in sides[:count]):
            return tuple([*sides[:count], 1, 1][: max(count, 3)])
    return 0, 0, 0
