"""Volumes: NIfTI, series of DICOM and arrays alike; upright, in order, on one scale; hostile files cost one cell."""

from __future__ import annotations

import gzip
import io
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sensorium.codecs import volume as signal
from sensorium.codecs.volume import is_nifti, read_volume, voxel_count
from sensorium.core.errors import CellError
from sensorium.core.layout import Grid
from sensorium.core.modality import Blob, Folder
from sensorium.core.registry import build
from sensorium.data.files import media_access
from sensorium.data.files.media_access import UPLOADS_ONLY, LocalFiles
from sensorium.data.inspection.media_checks import decode, reader
from sensorium.data.inspection.type_inference import infer_types
from sensorium.data.store.content_digest import digest
from sensorium.data.tables.table import Table
from sensorium.modalities.volume import Volume

VOXELS = np.random.default_rng(0).integers(-1000, 2000, (6, 10, 8)).astype(np.int16)


def nifti(
    voxels: np.ndarray = VOXELS, *, flips: tuple[int, int, int] = (1, 1, 1), packed: bool = False, two: bool = False
) -> bytes:
    """Voxels ``[D, H, W]``, lowest slice first and top row first, as a NIfTI file whose axes run as ``flips`` says."""
    nibabel = pytest.importorskip("nibabel")
    data = voxels[:, ::-1].transpose(2, 1, 0)[:: flips[0], :: flips[1], :: flips[2]]
    kind = nibabel.Nifti2Image if two else nibabel.Nifti1Image
    made = kind(np.ascontiguousarray(data), np.diag([*map(float, flips), 1.0])).to_bytes()
    return gzip.compress(made) if packed else made


def slices(voxels: np.ndarray = VOXELS, **tags: Any) -> list[bytes]:
    """A file of DICOM for each slice, rescaled as CT is."""
    pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    made = []
    for at, pixels in enumerate(voxels):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, f"1.2.{at + 1}"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        results = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        results.SOPClassUID, results.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        results.SeriesInstanceUID, results.InstanceNumber = "1.2.3", len(voxels) - at
        results.ImagePositionPatient, results.ImageOrientationPatient = [0, 0, 2.5 * at], [1, 0, 0, 0, 1, 0]
        results.Rows, results.Columns = pixels.shape
        results.SamplesPerPixel, results.PhotometricInterpretation = 1, "MONOCHROME2"
        results.BitsAllocated, results.BitsStored, results.HighBit, results.PixelRepresentation = 16, 16, 15, 0
        results.RescaleSlope, results.RescaleIntercept = 1, -1024
        for name, value in tags.items():
            setattr(results, name, value)
        results.PixelData = (pixels.astype(np.int32) + 1024).astype(np.uint16).tobytes()
        out = io.BytesIO()
        results.save_as(out, enforce_file_format=True)
        made.append(out.getvalue())
    return made


def folder(files: list[bytes]) -> Folder:
    return Folder(tuple(Blob(data, f"{i}.dcm") for i, data in enumerate(files)), "scan")


def npy(array: np.ndarray) -> Blob:
    file = io.BytesIO()
    np.save(file, array)
    return Blob(file.getvalue(), "a.npy")


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, 1), (-1, -1, -1)])
@pytest.mark.parametrize("packed", [False, True])
def test_nifti_is_turned_upright(flips: tuple[int, int, int], packed: bool) -> None:
    data = nifti(flips=flips, packed=packed)
    assert is_nifti(data)
    assert voxel_count(Blob(data, "a.nii")) == VOXELS.size
    np.testing.assert_array_equal(read_volume(Blob(data, "a.nii")), VOXELS)


def test_other_forms_of_nifti() -> None:
    np.testing.assert_array_equal(read_volume(nifti(two=True)), VOXELS)
    nibabel = pytest.importorskip("nibabel")
    several = np.stack([VOXELS, VOXELS + 1], axis=-1)[:, ::-1].transpose(2, 1, 0, 3)
    made = nibabel.Nifti1Image(np.ascontiguousarray(several), np.eye(4)).to_bytes()
    for data in (made, gzip.compress(made)):
        np.testing.assert_array_equal(read_volume(data), VOXELS)
    scaled = nibabel.Nifti1Image(VOXELS[:, ::-1].transpose(2, 1, 0).copy(), np.eye(4))
    scaled.header.set_slope_inter(2, -10)
    np.testing.assert_allclose(read_volume(scaled.to_bytes()), VOXELS * 2.0 - 10)


def test_slices_of_dicom_are_in_order_of_their_positions() -> None:
    files = slices()
    shuffled = [files[i] for i in (3, 0, 5, 1, 4, 2)]
    np.testing.assert_array_equal(read_volume(folder(shuffled)), VOXELS)
    # Without positions their numbers tell, which run the other way here.
    for name in ("ImagePositionPatient", "ImageOrientationPatient"):
        shuffled = slices(**{name: None})
        np.testing.assert_array_equal(read_volume(folder(shuffled)), VOXELS[::-1])
    other = slices(VOXELS[:2], SeriesInstanceUID="9.9")
    np.testing.assert_array_equal(read_volume(folder([*other, *files])), VOXELS)


def test_arrays_and_npy() -> None:
    for cell in (VOXELS, VOXELS.tolist(), VOXELS[..., None], npy(VOXELS)):
        np.testing.assert_array_equal(read_volume(cell), VOXELS)
    for bad in (np.zeros((3, 4)), np.zeros((0, 4, 4)), "text", [[1], [1, 2]], npy(np.zeros(3)), None):
        with pytest.raises(CellError):
            read_volume(bad)


def fitted(cells: list[Any], **options: Any) -> Volume:
    volume: Volume = build("modalities", {"kind": "volume", **options})
    volume.fit(cells)
    return volume


def test_volumes_stand_on_one_grid_and_one_scale() -> None:
    cells = [np.full((12 + i, 24, 20), value, np.int16) for i, value in enumerate((-1000, 0, 1000))]
    volume = fitted(cells)
    assert volume.layout == Grid(1, (12, 24, 20))
    np.testing.assert_allclose([volume.encode(cell).mean() for cell in cells], [0, 127.5, 255], atol=0.51)
    assert volume.notes() == "voxels: -1000 is black in all of them, 1000 is white"
    window = fitted(cells, low=-450, high=1050)
    np.testing.assert_allclose([window.encode(cell).mean() for cell in cells], [0, 76.5, 246.5], atol=0.51)
    assert fitted([np.zeros((200, 400, 400), np.uint8)]).layout == Grid(1, (32, 64, 64))
    assert fitted([]).layout == Grid(1, (16, 16, 16))


def test_shrinking_takes_means() -> None:
    voxels = np.random.default_rng(1).integers(0, 256, (16, 16, 16), dtype=np.uint8)
    small = fitted([voxels], size=8).encode(voxels)[0]
    means = voxels.reshape(8, 2, 8, 2, 8, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(small, means, atol=0.51)
    grown = fitted([np.zeros((8, 8, 8), np.uint8)]).encode(np.full((2, 3, 4), 7, np.uint8))
    assert (grown == 7).all()


def test_a_batch_is_standard_and_moved_in_training() -> None:
    draw = np.random.default_rng(0)
    cells = [draw.normal(size=(8, 16, 12)).astype(np.float32) for _ in range(8)]
    volume = fitted(cells, augment="light")
    field = volume.collate([*map(volume.encode, cells), None])
    plain = volume.prepare(field)
    assert plain.data.shape == (9, 1, 8, 16, 12)
    assert abs(float(plain.data[:8].mean())) < 0.02
    assert float(plain.data[:8].std()) == pytest.approx(1, abs=0.02)
    moved = volume.prepare(field, torch.Generator().manual_seed(0))
    assert not torch.equal(moved.data, plain.data)
    assert not plain.data[8].any()
    assert not moved.data[8].any()


def test_it_is_recognised() -> None:
    assert Volume.sniff(["a.nii", "b.NII.GZ"], "scan").score > 0.9
    assert Volume.sniff([nifti(packed=True)], "scan").score > 0.9
    assert Volume.sniff(["a.png", "a.gz", np.zeros((30, 20, 3))], "x").score == 0
    table = Table(
        {"scan": [VOXELS + i for i in range(4)], "photo": [np.zeros((20, 20, 3), np.uint8) + i for i in range(4)]}
    )
    assert {name: types.kind for name, types in infer_types(table).items()} == {"scan": "volume", "photo": "image"}


def test_a_cell_may_name_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(3):
        (tmp_path / f"scan{i}").mkdir()
        for at, data in enumerate(slices(VOXELS + i)):
            (tmp_path / f"scan{i}" / f"{at}.dcm").write_bytes(data)
        (tmp_path / f"scan{i}" / "DICOMDIR").write_bytes(b"no slice")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "a.txt").write_text("x")
    opener = LocalFiles(tmp_path)
    opened = opener.open("scan0")
    assert isinstance(opened, Folder)
    assert digest(opened) != digest(opener.open("scan1"))
    table = Table({"scan": ["scan0", "scan1", "scan2", "plain", "scan0"]}, root=tmp_path)
    volume = reader(table, "scan", {"kind": "volume"}, opener)
    result = decode(table, "scan", volume, opener)
    assert [p.row for p in result.problems] == [4]
    assert "is a folder, not a file" in result.problems[0].problem
    assert result.digests[0] == result.digests[4] != result.digests[1]
    image = build("modalities", "image")
    image.fit([np.zeros((9, 9), np.uint8)])
    with pytest.raises(CellError, match="not a picture"):
        image.encode(opened)
    with pytest.raises(CellError, match="upload"):
        UPLOADS_ONLY.open("scan0")
    with pytest.raises(CellError, match="leads out"):
        LocalFiles(tmp_path / "plain").open("../scan0")
    with pytest.raises(CellError, match="limit"):
        LocalFiles(tmp_path, max_bytes=3000).open("scan0")
    monkeypatch.setattr(media_access, "SLICES", 3)
    with pytest.raises(CellError, match="more than 3 files"):
        opener.open("scan0")


def test_hostile_volumes_cost_one_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    good, packed = nifti(), nifti(packed=True)
    huge = bytearray(good)
    struct.pack_into("<8h", huge, 40, 3, 30000, 30000, 30000, 1, 1, 1, 1)
    for data in (
        b"",
        good[:200],
        good[:-50],
        packed[:-30],
        packed[:40],
        bytes(huge),
        gzip.compress(bytes(huge)),
        b"rubbish" * 99,
    ):
        with pytest.raises(CellError, match="scan"):
            read_volume(Blob(data, "scan.nii"))
    with pytest.raises(CellError, match="more than"):
        read_volume(bytes(huge))
    draw = np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(good)
        for at in draw.integers(0, 352, 3):
            broken[at] = draw.integers(0, 256)
        with suppress(CellError):
            assert read_volume(Blob(bytes(broken), "scan.nii")).ndim == 3
    for files in ([slices()[0][:300]], [b"\0" * 128 + b"DICM"], [slices(Rows=60000, Columns=60000)[0]]):
        with pytest.raises(CellError, match="scan"):
            read_volume(folder(files))
    monkeypatch.setattr(signal, "VOXELS", 100)
    with pytest.raises(CellError, match="voxels are more than"):
        read_volume(folder(slices()))


def test_a_compressed_bomb_is_not_expanded() -> None:
    import tracemalloc

    bomb = gzip.compress(nifti() + bytes(200 * 2**20))
    tracemalloc.start()
    np.testing.assert_array_equal(read_volume(bomb), VOXELS)
    assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    tracemalloc.stop()
