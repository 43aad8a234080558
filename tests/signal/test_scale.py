"""Pictures of more than 8 bits: one scale for all of a column, so that their order and their levels are kept."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as Pillow

from sensorium.core.modality import Blob
from sensorium.core.registry import build
from sensorium.modalities.image import Image
from sensorium.modalities.images import Images
from sensorium.modalities.video import Video
from sensorium.signal.bit_depth import column_scale, to_uint8


def encoded(values: np.ndarray, form: str = "PNG") -> Blob:
    file = io.BytesIO()
    Pillow.fromarray(values).save(file, form)
    return Blob(file.getvalue(), f"a.{form.lower()}")


def fitted(cells: list[Any], **options: Any) -> Image:
    image = Image(size=16, **options)
    image.fit(cells)
    json.dumps(image.state, allow_nan=False)
    return image


def dicom(pixels: np.ndarray, **tags: object) -> Blob:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    results = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    results.SOPClassUID, results.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    results.Rows, results.Columns = pixels.shape
    results.SamplesPerPixel, results.PhotometricInterpretation = 1, "MONOCHROME2"
    results.BitsAllocated, results.BitsStored, results.HighBit = 16, 16, 15
    results.PixelRepresentation = int(pixels.dtype.kind == "i")
    for name, value in tags.items():
        setattr(results, name, value)
    results.PixelData = pixels.tobytes()
    out = io.BytesIO()
    results.save_as(out, enforce_file_format=True)
    return Blob(out.getvalue(), "a.dcm")


def ramp(low: float, high: float, kind: Any) -> np.ndarray:
    return np.linspace(low, high, 1024).reshape(32, 32).astype(kind)


@pytest.mark.parametrize("as_file", [True, False])
def test_order_between_pictures_is_kept(as_file: bool) -> None:
    flats = [np.full((16, 16), value, np.uint16) for value in (200, 500, 1000, 2000)]
    cells: list[Any] = [encoded(flat) for flat in flats] if as_file else list(flats)
    image = fitted(cells)
    levels = [int(image.encode(cell).mean()) for cell in cells]
    assert levels[0] < levels[1] < levels[2] < levels[3]
    np.testing.assert_allclose(levels, [255 * value / 2000 for value in (200, 500, 1000, 2000)], atol=1)
    assert "2000 is white" in image.notes()


@pytest.mark.parametrize(
    ("kind", "form", "low", "high"),
    [
        (np.uint16, "PNG", 0, 4095),
        (np.float32, "TIFF", 0, 1.05),
        (np.int32, "TIFF", -1000, 3000),
        (np.uint16, "TIFF", 0, 65535),
        (np.float32, "TIFF", -1, 1),
    ],
)
def test_nearly_all_levels_are_kept(kind: Any, form: str, low: float, high: float) -> None:
    shades = ramp(low, high, kind)
    image = Image(size=32)
    image.fit([encoded(shades, form)] * 3)
    for cell in (encoded(shades, form), shades):
        out = image.encode(cell)[0]
        assert len(np.unique(out)) > 240
        assert (np.diff(out.ravel().astype(int)) >= 0).all()


def test_pictures_of_8_bits_are_as_they_were() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    image = fitted([encoded(pixels), pixels])
    assert "scale" not in image.state
    assert "scale" not in image.store_options
    assert not image.notes()
    assert (image.encode(encoded(pixels))[0] == pixels).all()


def test_known_ranges_stay_what_they_are() -> None:
    assert column_scale([ramp(0.2, 0.7, np.float32)]) == [0, 1]
    assert column_scale([ramp(3, 200, np.int64).round()]) == [0, 255]
    eight = np.zeros((4, 4), np.uint8)
    assert column_scale([eight]) is None
    assert column_scale([np.zeros((4, 4), bool), eight]) is None
    assert column_scale([eight, ramp(0, 9000, np.uint16)]) == [0, 65535]
    assert column_scale([]) is None


def test_single_pictures_and_pixels_do_not_move_the_scale() -> None:
    usual = [ramp(0, 4000, np.uint16) for _ in range(200)]
    broken = np.full((32, 32), 65535, np.uint16)
    hot = ramp(0, 4000, np.uint16)
    hot[0, 0] = 65535
    low, high = column_scale([*usual, hot, broken]) or (None, None)
    assert low == 0
    assert high == pytest.approx(4000, rel=0.01)
    assert column_scale([np.full((4, 4), 7.5)]) == [7.5, 8.5]
    assert column_scale([np.full((4, 4), np.nan)]) is None


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.float32, 20, elements=st.floats(width=32, allow_nan=True)), st.floats(-1e6, 1e6), st.floats(0.01, 1e6))
def test_the_scale_is_monotone_and_total(values: np.ndarray, low: float, width: float) -> None:
    out = to_uint8(values, (low, low + width))
    assert out.dtype == np.uint8
    real = ~np.isnan(values)
    order = np.argsort(values[real])
    assert (np.diff(out[real][order].astype(int)) >= 0).all()
    assert (out[~real] == 0).all()


def test_several_pictures_and_videos_have_one_scale() -> None:
    dark, light = np.full((16, 16), 200, np.uint16), np.full((16, 16), 2000, np.uint16)
    images = Images(size=16)
    images.fit([[dark], [light, dark]])
    assert images.encode([dark]).mean() < 0.2 * images.encode([light]).mean()
    video = Video(size=16)
    clip = np.stack([np.full((16, 16, 1), value, np.float32) for value in (0.0, 0.5, 3.0)])
    video.fit([clip])
    assert video.encode(clip).mean(axis=(1, 2, 3)).round().tolist() == [0, 42, 255]  # 127.5 / 3 = 42.5
    for modality in (images, video):
        assert modality.store_options["scale"] == modality.state["scale"]


def test_dicom_without_a_window_has_the_scale_of_its_column() -> None:
    pytest.importorskip("pydicom")

    cells = [dicom(np.full((8, 8), value, np.int16)) for value in (-1000, 0, 1000, 3000)]
    image = fitted(cells)
    assert image.state["scale"] == [-1000, 3000]
    np.testing.assert_allclose([image.encode(cell).mean() for cell in cells], [0, 63.75, 127.5, 255], atol=0.51)
    turned = [
        dicom(np.full((8, 8), v, np.uint16), PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11)
        for v in (0, 4095)
    ]
    image = fitted(turned)
    assert [int(image.encode(cell).mean()) for cell in turned] == [255, 0]


def test_an_older_model_reads_as_before() -> None:
    image = build("modalities", "image")
    image.state = {"height": 16, "width": 16, "channels": 1, "mean": [0.5], "deviation": [1.0]}
    assert (image.encode(encoded(np.full((16, 16), 257 * 9, np.uint16))) == 9).all()
