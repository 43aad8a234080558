"""Point cloud decoder: all formats, damaged files and sampling."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.codecs import point_cloud
from sensorium.codecs.point_cloud import farthest_point_sample, random_indices, read_cloud, to_cloud
from sensorium.core.errors import CellError
from sensorium.core.modality import Blob

POINTS = np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def ply(points: Any, order: str, extra: str = "") -> bytes:
    head = f"ply\nformat {order} 1.0\ncomment made here\n{extra}element vertex {len(points)}\n"
    head += "property float intensity\nproperty float x\nproperty float y\nproperty float z\n"
    head += "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    rows = np.concatenate([points[:, 3:], points[:, :3]], axis=1)  # x need not come first
    if order == "ascii":
        body = "".join(" ".join(map(repr, row.tolist())) + "\n" for row in rows).encode() + b"3 0 1 2\n"
    else:
        body = rows.astype("<f4" if "little" in order else ">f4").tobytes() + struct.pack("<Biii", 3, 0, 1, 2)
    return head.encode() + body


def pcd(points: Any, encoding: str, count: int | None = None) -> bytes:
    n = len(points) if count is None else count
    head = "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x y z intensity _\nSIZE 4 4 4 4 1\n"
    head += f"TYPE F F F F U\nCOUNT 1 1 1 1 4\nWIDTH {n}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {n}\nDATA {encoding}\n"
    if encoding == "ascii":
        body = "".join(" ".join(map(repr, row.tolist())) + " 0 0 0 0\n" for row in points).encode()
    else:
        body = b"".join(row.astype("<f4").tobytes() + b"\0\0\0\0" for row in points)
    return head.encode() + body


FILES = {
    "a.npy": npy(POINTS),
    "a.bin": POINTS.astype("<f4").tobytes(),
    "ascii.ply": ply(POINTS, "ascii"),
    "little.ply": ply(POINTS, "binary_little_endian"),
    "big.ply": ply(POINTS, "binary_big_endian", "element camera 0\n".replace("0", "1") + "property double f\n").replace(
        b"end_header\n", b"end_header\n" + bytes(8)
    ),
    "ascii.pcd": pcd(POINTS, "ascii"),
    "binary.pcd": pcd(POINTS, "binary"),
}


@pytest.mark.parametrize("name", list(FILES))
def test_formats_give_the_same_points(name: str) -> None:
    assert np.array_equal(read_cloud(Blob(FILES[name], name)), POINTS.astype(np.float64))


@pytest.mark.parametrize("name", list(FILES))
def test_truncated_files_are_refused(name: str) -> None:
    data = FILES[name]
    body = len(data) if name.endswith((".npy", ".bin", ".pcd")) else data.index(b"end_header") + 60
    for end in {0, 3, 10, 60, body // 2, body - 25, body - 1 - (name == "ascii.pcd")}:
        if name == "a.bin" and end % 16 == 0 and end:
            continue
        with pytest.raises(CellError) as error:
            read_cloud(Blob(data[:end], name))
        assert error.value.file == name


HEADER = b"ply\nformat %s 1.0\nelement vertex %d\nproperty float x\nproperty float y\nproperty float z\nend_header\n1 2 3\n"
BAD = {
    "huge.ply": (HEADER % (b"ascii", 10**18), "allowed"),
    "large.ply": (HEADER % (b"ascii", 40_000_000), "cut short"),
    "large_binary.ply": (HEADER % (b"binary_little_endian", 40_000_000), "cut short"),
    "none.ply": (HEADER % (b"ascii", 0), "empty"),
    "odd.ply": (HEADER % (b"middle_endian", 1), "format"),
    "list.ply": (b"ply\nformat ascii 1.0\nelement vertex 1\nproperty list uchar int a\nend_header\n1 2\n", "lists"),
    "noxyz.ply": (b"ply\nformat ascii 1.0\nelement vertex 1\nproperty int a\nend_header\n1\n", "x, y and z"),
    "words.ply": (HEADER.replace(b"1 2 3", b"1 2 x") % (b"ascii", 1), "damaged"),
    "two.ply": (HEADER.replace(b"1 2 3", b"1 2     ") % (b"ascii", 1), "2 numbers"),
    "nan.ply": (HEADER.replace(b"1 2 3", b"nan 2 3") % (b"ascii", 1), "finite"),
    "empty.npy": (npy(np.zeros((0, 3))), "empty"),
    "flat.npy": (npy(np.zeros(9)), "not a point cloud"),
    "thin.npy": (npy(np.zeros((9, 2))), "not a point cloud"),
    "words.npy": (npy(np.array(["a"])), "NPY header"),
    "empty.pcd": (pcd(POINTS[:0], "binary"), "empty"),
    "huge.pcd": (pcd(POINTS, "binary", 10**9), "allowed"),
    "large.pcd": (pcd(POINTS, "ascii", 10**7), "cut short"),
    "packed.pcd": (pcd(POINTS, "binary_compressed"), "binary_compressed"),
    "odd.pcd": (b"VERSION 0.7\nFIELDS x y z\nSIZE 4 4\nTYPE F F F\nDATA ascii\n", "different lengths"),
    "type.pcd": (b"VERSION 0.7\nFIELDS x\nSIZE 3\nTYPE F\nPOINTS 1\nDATA ascii\n1\n", "unknown type"),
    "endless.pcd": (b"VERSION 0.7\n" + b"# x\n" * 30_000, "does not end"),
    "odd.bin": (b"\0" * 17, "multiple of four"),
    "nan.bin": (np.full(4, np.nan, "<f4").tobytes(), "finite"),
    "odd.xyz": (b"1 2 3\n", "known format"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BAD))
def test_invalid_files_are_refused(name: str) -> None:
    data, problem = BAD[name]
    with pytest.raises(CellError, match=problem) as error:
        read_cloud(Blob(data, name))
    assert error.value.file == name


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(["a.bin", "ascii.ply", "little.ply", "ascii.pcd", "binary.pcd", "a.npy"]), st.data())
def test_damaged_files_raise_only_cell_errors(name: str, data: st.DataObject) -> None:
    damaged = bytearray(FILES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        points = read_cloud(Blob(bytes(damaged), name))
    except CellError:
        return
    assert np.isfinite(points[:, :3]).all()


def test_points_without_a_position_are_dropped() -> None:
    points = POINTS.copy()
    points[2, 1], points[4, 0], points[5, 3] = np.nan, np.inf, np.nan
    assert np.array_equal(to_cloud(points), points[[0, 1, 3, 5, 6]].astype(np.float64), equal_nan=True)


def test_large_clouds_are_sampled_while_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(point_cloud, "KEPT", 3)
    kept = POINTS[random_indices(7, 3)].astype(np.float64)
    for name, data in FILES.items():
        assert np.array_equal(read_cloud(Blob(data, name)), kept), name


def test_farthest_point_sampling_is_greedy() -> None:
    points = np.random.default_rng(1).standard_normal((60, 3))
    indices = farthest_point_sample(points, 10)
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    for i in range(1, 10):
        gap = distance[:, indices[:i]].min(axis=1)
        assert gap[indices[i]] == pytest.approx(gap.max())
