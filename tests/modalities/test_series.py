"""Series: files, gaps, hostile files, standardising, augmentation."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch

from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Grid
from sensorium.core.modality import Blob
from sensorium.modalities.series import Series


def npy(array: np.ndarray) -> Blob:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=array.dtype == object)
    return Blob(file.getvalue(), "s.npy")


def text(array: np.ndarray, mark: str = ",", header: str = "") -> Blob:
    lines = [mark.join("" if np.isnan(v) else repr(float(v)) for v in row) for row in array]
    return Blob((header + "\n".join(lines)).encode(), "s.csv")


def parquet(array: np.ndarray) -> Blob:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as pq

    file = io.BytesIO()
    table = arrow.table({**{f"c{i}": array[:, i] for i in range(array.shape[1])}, "name": ["x"] * len(array)})
    pq.write_table(table, file)
    return Blob(file.getvalue(), "s.parquet")


def fitted(cells: list[Any], **options: Any) -> Series:
    series = Series(**options)
    series.fit(cells)
    json.dumps(series.state, allow_nan=False)
    return series


def walk(steps: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(steps, channels)).cumsum(axis=0) + 5


@pytest.fixture
def series() -> Series:
    return fitted([walk(20 + i, 3, i) for i in range(20)])


def test_all_kinds_of_cells_are_the_same_series(series: Series) -> None:
    steps = walk(20, 3)
    expected = steps.astype(np.float32)
    cells = [
        npy(steps),
        npy(np.asfortranarray(steps)),
        npy(steps.astype(">f8")),
        text(steps),
        text(steps, "\t"),
        text(steps, ";", "a;b;c\n"),
        text(steps, ",", '"x","y","z"\n'),
        parquet(steps),
        steps,
        steps.tolist(),
        json.dumps(steps.tolist()),
        Blob(json.dumps(steps.tolist()).encode(), "s.json"),
    ]
    for cell in cells:
        np.testing.assert_array_equal(series.encode(cell), expected)
    decimal = Blob("\n".join(";".join(repr(float(v)).replace(".", ",") for v in row) for row in steps).encode(), "s.csv")
    np.testing.assert_array_equal(series.encode(decimal), expected)
    flat = fitted([steps[:, 0]])
    for cell in (steps[:, 0], steps[:, :1], list(steps[:, 0]), npy(steps[:, 0]), text(steps[:, :1])):
        np.testing.assert_array_equal(flat.encode(cell)[:, 0], expected[:, 0])


def test_gaps_are_filled(series: Series) -> None:
    steps = np.array([[np.nan, 1, np.nan], [2, np.nan, np.nan], [np.nan, 3, np.nan], [6, np.nan, np.nan]])
    out = series.encode(steps)
    np.testing.assert_allclose(out[:, 0], [2, 2, 4, 6])
    np.testing.assert_allclose(out[:, 1], [1, 2, 3, 3])
    np.testing.assert_array_equal(series.encode(text(steps)), out)
    np.testing.assert_array_equal(series.encode([[None if np.isnan(v) else v for v in row] for row in steps]), out)
    data = series.prepare(series.collate([out])).data
    assert torch.isfinite(data).all()
    assert data[0, 2].abs().max() < 1e-5
    assert np.isfinite(series.encode(np.array([[1e300, np.inf, 1], [1, 2, 3]]))).all()


def test_what_is_learnt() -> None:
    cells = [walk(10 + i, 2, i) for i in range(100)] + [walk(5, 4)]
    series = fitted(cells)
    assert isinstance(series.layout, Grid)
    assert series.layout.channels == 2
    assert 100 <= series.layout.size[0] <= 106
    values = np.concatenate(cells[:100])
    np.testing.assert_allclose(series.state["mean"], values.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(series.state["deviation"], values.std(axis=0), rtol=1e-5)
    with pytest.raises(CellError, match="4 channels, in training they had 2"):
        series.encode(cells[-1])
    assert len(series.encode(walk(1000, 2))) == series.layout.size[0]
    assert fitted(cells, length=7).layout == Grid(2, (7,))
    assert fitted([walk(9000, 1)]).layout == Grid(1, (4096,))
    with pytest.raises(ConfigError):
        Series(length=0)


def header(shape: tuple[int, ...], kind: str = "<f8") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
    return file.getvalue()


HOSTILE = {
    "empty": b"",
    "lying header": header((10**12, 3)) + bytes(100),
    "overflowing header": header((2**62, 2**62)) + bytes(100),
    "negative shape": header((-1, 3)) + bytes(100),
    "cut": npy(walk(20, 3)).data[:-8],
    "pickle": npy(np.array([[1, None]], dtype=object)).data,
    "words": b"a,b,c\n1,2,3\n1,x,3\n",
    "ragged": b"1,2,3\n1,2\n",
    "header only": b"a,b,c\n",
    "not text": bytes(range(256)),
    "zeros": bytes(100),
    "parquet": b"PAR1 and no more",
    "json": b"[[1, 2], [3",
    "deep json": b"[" * 100_000,
    "magic only": b"\x93NUMPY",
    "strings": npy(np.array(["a", "b"])).data,
    "no steps": npy(np.zeros((0, 3))).data,
    "cube": npy(np.zeros((2, 2, 2))).data,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_cell_errors(series: Series, kind: str) -> None:
    with pytest.raises(CellError, match=r"sensors/x\.npy"):
        series.encode(Blob(HOSTILE[kind], "sensors/x.npy"))


def test_bad_cells(series: Series) -> None:
    for cell in ("hello", "[1, [2]]", [[1, 2], [3]], ["a"], [], {"a": 1}, np.array(3.0), [10**400]):
        with pytest.raises(CellError):
            series.encode(cell)


def test_flipped_bytes_are_cell_errors_or_series() -> None:
    series = fitted([walk(20, 3)])
    rng = np.random.default_rng(0)
    for data in (npy(walk(20, 3)).data, text(walk(20, 3)).data, parquet(walk(20, 3)).data):
        for _ in range(40):
            broken = bytearray(data)
            for at in rng.integers(0, len(data), 3):
                broken[at] = rng.integers(0, 256)
            with suppress(CellError):
                assert np.isfinite(series.encode(Blob(bytes(broken), "x"))).all()


def test_prepare(series: Series) -> None:
    cells = [series.encode(walk(20, 3, i)) for i in range(20)]
    field = series.prepare(series.collate([cells[0][:7], None, *cells]))
    assert field.mask is not None
    assert field.data.shape == (22, 3, 20)
    assert field.mask.sum(dim=1).tolist()[:3] == [7, 0, 20]
    assert (field.data.transpose(1, 2)[~field.mask] == 0).all()
    expected = (cells[0][:7] - np.array(series.state["mean"])) / np.array(series.state["deviation"])
    np.testing.assert_allclose(field.data[0, :, :7].T, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("augment", ["light", "strong"])
def test_augmentation(augment: Any) -> None:
    cells = [walk(20 + i, 2, i) for i in range(10)]
    series = fitted(cells, augment=augment)
    field = series.collate([series.encode(cell) for cell in cells] * 2 + [None])
    plain = series.prepare(field)
    before = torch.random.get_rng_state()
    one, same, other = (series.prepare(field, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one.data, same.data)
    assert not torch.equal(one.data, other.data)
    assert not torch.equal(one.data[0], one.data[10])
    assert one.mask is not None
    assert (one.data.transpose(1, 2)[~one.mask] == 0).all()
    likeness = torch.nn.functional.cosine_similarity(one.data[:20].flatten(1), plain.data[:20].flatten(1))
    assert likeness.mean() > 0.7
    none = fitted(cells, augment="none")
    assert torch.equal(none.prepare(field, torch.Generator()).data, plain.data)
    assert none.store_options == series.store_options


def test_sniffing() -> None:
    assert Series.sniff(["a.npy", "b.CSV"], "x").score > 0.9
    assert Series.sniff(["[1, 2, 3]", "[4, 5]"], "x").score > 0.5
    assert Series.sniff([[1, 2, 3], [1, 2]], "x").score > Series.sniff([[1, 2], [3, 4]], "x").score > 0.5
    assert Series.sniff([npy(walk(3, 2)).data], "x").score > 0.9
    assert Series.sniff(["[[1, 2], [3, 4], [5, 6]]"] * 9, "lab").score > 0.85
    for nothing in (["a.png"], [["a", "b"]], ["hello"], [3], [], ["[" * 100_000]):
        assert Series.sniff(nothing, "x").score == 0


def test_no_series_at_all() -> None:
    series = fitted([])
    assert series.encode([1, 2, 3]).shape == (1, 1)
