"""DICOM decoder: window, rescaling, compression and damaged files."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, SecondaryCaptureImageStorage, generate_uid

from sensorium.codecs.dicom import is_dicom, read_dicom
from sensorium.codecs.image import read_picture
from sensorium.core.errors import CellError, ConfigError
from sensorium.core.modality import Blob
from sensorium.modalities.image import Image


def dicom_file(pixels: np.ndarray, *, compress: bool = False, **tags: object) -> bytes:
    """A DICOM file of pixels ``[H, W]`` or ``[H, W, 3]``."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    dataset.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    bits = 8 * pixels.dtype.itemsize
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.PixelData = pixels.tobytes()
    if compress:
        dataset.compress(RLELossless)
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


RAMP = np.arange(-1000, 1000, 100, dtype=np.int16).reshape(4, 5)


def test_without_a_window_the_full_range_is_used() -> None:
    data = dicom_file(RAMP)
    assert is_dicom(data)
    shown = read_dicom(data, 10**6)
    assert shown.shape == (4, 5, 1)
    np.testing.assert_allclose(shown.ravel(), np.linspace(0, 255, 20), atol=0.5)


def test_window_follows_the_standard() -> None:
    shown = read_dicom(dicom_file(RAMP, WindowCenter=50, WindowWidth=400, RescaleSlope=2, RescaleIntercept=-24), 10**6)
    value = RAMP.astype(np.float64) * 2 - 24
    expected = ((value - (50 - 0.5)) / (400 - 1) + 0.5).clip(0, 1) * 255  # PS3.3 C.11.2.1.2
    np.testing.assert_allclose(shown[..., 0], expected, atol=0.51)


def test_monochrome1_is_inverted() -> None:
    plain = read_dicom(dicom_file(RAMP), 10**6)
    assert (read_dicom(dicom_file(RAMP, PhotometricInterpretation="MONOCHROME1"), 10**6) == 255 - plain).all()


@pytest.mark.parametrize("compress", [False, True])
def test_colour_and_compression(compress: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    assert (read_dicom(dicom_file(pixels, compress=compress), 10**6) == pixels).all()
    assert (read_picture(Blob(dicom_file(pixels), "a.dcm"), 64)[0] == pixels).all()


def test_image_modality_reads_dicom() -> None:
    cells = [Blob(dicom_file(RAMP + shift), f"{shift}.dcm") for shift in range(3)]
    assert Image.sniff(["a.dcm", "b.DCM"], "scan").score > 0.9
    assert Image.sniff([cell.data for cell in cells], "scan").score > 0.9
    image = Image(size=8)
    image.fit(cells)
    assert image.encode(cells[0]).shape == (1, 8, 8)


@pytest.mark.parametrize("cut", [140, 300, -20])
def test_damaged_files_raise_cell_errors(cut: int) -> None:
    with pytest.raises(CellError, match="scan"):
        read_picture(Blob(dicom_file(RAMP)[:cut], "scan.dcm"), 64)


def test_too_many_pixels_are_refused_before_decoding() -> None:
    with pytest.raises(CellError, match="more than"):
        read_dicom(dicom_file(RAMP, Rows=60000, Columns=60000), 2**20)


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ConfigError, match="dicom"):
        read_picture(Blob(DATA, "a.dcm"), 64)


DATA = dicom_file(RAMP)
