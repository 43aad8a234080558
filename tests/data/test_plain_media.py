"""Media cells of other libraries and spreadsheets: read alike, or refused with the name of their type."""

from __future__ import annotations

import array
import base64
import datetime as dt
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as Pillow

from sensorium.codecs.image import open_picture
from sensorium.core.errors import CellError, reason
from sensorium.core.modality import Blob
from sensorium.data.files.media_access import UPLOADS_ONLY, LocalFiles, names_file
from sensorium.data.inspection.media_checks import decode, reader
from sensorium.data.inspection.type_inference import infer_types
from sensorium.data.plain_media import plain
from sensorium.data.tables.table import Table

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 14, 3), dtype=np.uint8)
PICTURE = Pillow.fromarray(PIXELS)


def png() -> bytes:
    file = io.BytesIO()
    PICTURE.save(file, "PNG")
    return file.getvalue()


def pandas_series(values: Any) -> Any:
    return pytest.importorskip("pandas").Series(values)


def polars_series(values: Any) -> Any:
    return pytest.importorskip("polars").Series(values)


TEXT = base64.b64encode(png()).decode()
PICTURES: dict[str, Any] = {
    "tensor": torch.from_numpy(PIXELS.copy()),
    "tensor of channels first": torch.from_numpy(PIXELS.copy()).permute(2, 0, 1),
    "array of channels first": PIXELS.transpose(2, 0, 1),
    "fractions that learn": torch.nn.Parameter(torch.from_numpy(PIXELS / 255.0)),
    "bfloat16 of nothing lost": torch.from_numpy(PIXELS // 8 * 8 / 255).to(torch.bfloat16),
    "Pillow": PICTURE,
    "Pillow with alpha": PICTURE.convert("RGBA"),
    "bytes": png(),
    "bytearray": bytearray(png()),
    "memoryview": memoryview(png()),
    "struct": {"bytes": png(), "path": None},
    "struct as pandas prints it": repr({"bytes": png(), "path": None}),
    "struct with a name, printed": repr({"bytes": png(), "path": "a b.png"}),
    "base64": TEXT,
    "base64 in lines": "\n".join(TEXT[i : i + 76] for i in range(0, len(TEXT), 76)),
    "base64 for addresses": base64.urlsafe_b64encode(png()).decode().rstrip("="),
    "data URL": f"data:image/png;base64,{TEXT}",
    "data URL with more": f"data:image/png;name=a.png;BASE64,{TEXT}",
    "bytes of a name": b"a.png",
    "name": "a.png",
    "Path": Path("a.png"),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_of_every_type_read_alike(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.png").write_bytes(png())
    opened = LocalFiles(tmp_path).open(PICTURES[kind])
    tolerance = 8 if "bfloat" in kind else 0
    np.testing.assert_allclose(open_picture(opened, 64)[0].astype(int), PIXELS, atol=tolerance)
    table = Table.read([{"x": PICTURES[kind], "i": i} for i in range(4)], root=tmp_path)
    assert infer_types(table)["x"].kind == "image"
    image = reader(table, "x", {"kind": "image"}, LocalFiles(tmp_path))
    assert decode(table, "x", image, LocalFiles(tmp_path)).problems == []


def test_transparent_picture_is_put_on_white() -> None:
    for mode in ("RGBA", "LA"):
        opened = UPLOADS_ONLY.open(Pillow.new(mode, (8, 8)))
        assert (open_picture(opened, 64)[0] == 255).all()
    assert UPLOADS_ONLY.open(Pillow.new("P", (8, 8))).shape == (8, 8, 3)


def test_file_name_in_bytes_is_a_name_and_refused_in_uploads(tmp_path: Path) -> None:
    for cell in (b"a.png", b"/etc/passwd.txt"):
        with pytest.raises(CellError, match="upload"):
            UPLOADS_ONLY.open(cell)
    assert UPLOADS_ONLY.open(b"abc") == Blob(b"abc", "<bytes>")


READINGS = [0.25, -1.0, 1.75, 0.5, 0.125, 1.0, -2.0, 3.0]
SERIES: dict[str, Any] = {
    "list": READINGS,
    "tuple": tuple(READINGS),
    "array": np.array(READINGS),
    "tensor": torch.tensor(READINGS),
    "pandas": lambda: pandas_series(READINGS),
    "polars": lambda: polars_series(READINGS),
    "array.array": array.array("d", READINGS),
    "JSON": str(READINGS),
    "numpy's print": str(np.array(READINGS)),
    "blanks between": " ".join(map(str, READINGS)),
    "objects": np.array(READINGS, dtype=object),
}


@pytest.mark.parametrize("kind", SERIES)
def test_series_of_every_type_read_alike(kind: str) -> None:
    cell = SERIES[kind]() if callable(SERIES[kind]) else SERIES[kind]
    assert list(map(float, UPLOADS_ONLY.open(cell))) == READINGS  # type: ignore[arg-type]
    if kind != "JSON":  # four times the same text is a category just as well
        assert infer_types(Table({"x": [cell] * 4, "i": [1, 2, 3, 4]}))["x"].kind in ("series", "vector")


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=2, max_side=9), elements=st.floats(-1e3, 1e3, width=16))
)
def test_printed_numpy_arrays_are_read_back(values: np.ndarray) -> None:
    printed = np.array2string(values, threshold=10**6, precision=9)
    np.testing.assert_allclose(np.asarray(plain(printed, 2**20)), values, rtol=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "12 May 2024",
        "1 2 3",
        "+49 789 658610",
        "[1].png",
        "0.1 0.2 0.3 0.4 x",
        "plain words " * 20,
        "a" * 200,
        "data: none",
        "",
        "[0.1 0.2 ... 0.9]",
        "iVBORw0KGgo",
        "2024-01-01 10:00",
        "[not numbers]",
        "192.168.0.1",
        "1;2;3;4;5;6;7;8;9",
        "{'bytes': 1}",
    ],
)
def test_other_text_is_unchanged(text: str) -> None:
    assert plain(text, 2**20) == text


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (object(), "a cell of type object"),
        (3.5, "a cell of type float"),
        (dt.date(2024, 1, 1), r"a cell of type datetime\.date"),
        (torch.nn.ReLU(), r"torch\.nn\.modules\.activation\.ReLU"),
        ("data:image/png;base64,@@@", "base64 in it is damaged"),
        (f"{TEXT[:-8]}@", "base64 in it is damaged"),
    ],
)
def test_unreadable_cell_names_its_type(tmp_path: Path, cell: Any, message: str) -> None:
    with pytest.raises(CellError, match=message) as caught:
        LocalFiles(tmp_path).open(cell, row=2, column="x")
    assert "row 2, column 'x'" in str(caught.value)
    assert len(str(caught.value)) < 700
    assert not re.search(r"0x[0-9a-f]{6}", str(caught.value))


def test_encoded_content_is_bounded() -> None:
    with pytest.raises(CellError, match="more than the"):
        LocalFiles(".", max_bytes=10).open(f"data:image/png;base64,{TEXT}")
    with pytest.raises(CellError, match="limit"):
        LocalFiles(".", max_bytes=len(png()) - 1).open(TEXT)


def test_errors_of_other_libraries_omit_memory_addresses() -> None:
    message = reason(RuntimeError("Error opening <_io.BytesIO object at 0x7f00deadbeef>: Format not recognised."))
    assert message == "Error opening the file: Format not recognised."
    assert reason(ValueError()) == "ValueError"


def test_several_pictures_in_lists_of_any_type() -> None:
    cell = [PICTURE, torch.from_numpy(PIXELS.copy()), {"bytes": png(), "path": None}, f"data:image/png;base64,{TEXT}"]
    opened = UPLOADS_ONLY.open_several(cell)
    assert all((open_picture(part, 64)[0] == PIXELS).all() for part in opened)
    (single,) = UPLOADS_ONLY.open_several(f"data:image/png;base64,{TEXT}")
    assert isinstance(single, Blob)


def test_moving_joints_are_a_series_and_colours_are_not() -> None:
    draw = np.random.default_rng(0)
    motion = [draw.normal(size=(20 + i, 17, 3)).astype(np.float32) for i in range(8)]
    pictures = [draw.random((20, 17, 3)).astype(np.float32) for _ in range(8)]
    table = Table({"motion": motion, "photo": pictures, "tensor": list(map(torch.from_numpy, motion))})
    assert {name: types.kind for name, types in infer_types(table).items()} == {
        "motion": "series",
        "photo": "image",
        "tensor": "series",
    }
    series = reader(table, "motion", {"kind": "series"}, UPLOADS_ONLY)
    assert series.encode(motion[0]).shape == (20, 51)
    np.testing.assert_allclose(series.encode(motion[0])[3], motion[0][3].ravel())


def test_which_cells_name_files() -> None:
    assert names_file("a.png")
    assert names_file(TEXT)
    assert not names_file(" ".join(["0.5"] * 9))
    assert not names_file("[1, 2]")
