"""Series with gaps, on even grids, standardised by themselves, in windows; and sensors that answer badly."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Grid
from sensorium.core.modality import Blob
from sensorium.core.registry import build
from sensorium.modalities.series import Series
from sensorium.signal.series_statistics import channel_summary

NAN = np.nan


def fitted(cells: list[Any], **options: Any) -> Series:
    series: Series = build("modalities", {"kind": "series", **options})  # as a recipe does
    series.fit(cells)
    json.dumps(series.state, allow_nan=False)
    return series


def walks(count: int = 6, steps: int = 30) -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(steps + i, 2)).cumsum(axis=0) + 5 for i in range(count)]


def test_gaps_are_filled_as_asked() -> None:
    cell = np.array([[1.0, NAN, NAN, NAN, 9, 9, NAN, 11]]).T
    expected = {
        ("line", None): [1, 3, 5, 7, 9, 9, 10, 11],
        ("hold", None): [1, 1, 1, 1, 9, 9, 9, 11],
        ("nearest", None): [1, 1, 1, 9, 9, 9, 9, 11],
    }
    for (how, gap), want in expected.items():
        assert fitted([cell], fill=how, gap=gap).encode(cell)[:, 0].tolist() == want
    mean = (1 + 9 + 9 + 11) / 4
    limited = fitted([cell], gap=2)
    np.testing.assert_allclose(limited.encode(cell)[:, 0], [1, mean, mean, mean, 9, 9, 10, 11])
    assert limited.store_options != fitted([cell]).store_options


def test_missing_readings_are_told() -> None:
    cell = np.array([[1.0, NAN, 3], [4, 5, NAN]]).T
    series = fitted([cell, cell[:2]], indicator=True)
    assert series.layout == Grid(4, (3,))
    field = series.prepare(series.collate([series.encode(cell), None, series.encode(cell[:2])]))
    assert field.data[0, 2:].tolist() == [[0, 1, 0], [0, 0, 1]]
    assert field.data[2, 2:].tolist() == [[0, 1, 0], [0, 0, 0]]
    assert not field.data[1].any()
    trained = series.prepare(series.collate([series.encode(cell)] * 50), torch.Generator().manual_seed(0))
    assert set(trained.data[:, 2:].unique().tolist()) == {0.0, 1.0}


def test_a_dead_sensor_is_an_average_one_and_a_missing_one_an_error() -> None:
    series = fitted(walks())
    dead = walks()[0]
    dead[:, 1] = NAN
    data = series.prepare(series.collate([series.encode(dead)])).data
    assert data.isfinite().all()
    assert data[0, 1].abs().max() < 1e-5
    with pytest.raises(CellError, match="1 channels, in training they had 2"):
        series.encode(dead[:, :1])


@pytest.mark.parametrize("fill", ["line", "hold", "nearest"])
def test_uneven_clocks_meet_on_a_grid(fill: Any) -> None:
    """Two sensors in one table of moments, each with its own rate: on the grid both are whole."""
    fast, slow = np.arange(0, 4, 0.05), np.arange(0, 4, 0.25) + 0.01
    times = np.concatenate([fast, slow])
    values = np.full((len(times), 2), NAN)
    values[: len(fast), 0], values[len(fast) :, 1] = 3 * fast, 2 * slow
    cell = np.concatenate([times[:, None], values], axis=1)
    shuffled = np.random.default_rng(0).permutation(cell)
    series = fitted([cell, shuffled], rate=10.0, fill=fill, length=50)
    out = series.encode(shuffled)
    np.testing.assert_array_equal(out, series.encode(cell))
    grid = np.arange(len(out)) / 10
    assert len(out) == 40
    off = {"line": 1e-5, "hold": 0.51, "nearest": 0.26}[fill]
    np.testing.assert_allclose(out[:, 0], 3 * grid, atol=off)
    inside = (grid >= slow[0]) & (grid <= slow[-1])
    np.testing.assert_allclose(out[inside, 1], 2 * grid[inside], atol=off)
    assert series.layout == Grid(2, (50,))


def test_bad_clocks() -> None:
    good = np.stack([np.arange(20.0), np.arange(20.0)], axis=1)
    series = fitted([good], rate=1.0)
    for bad in (good[:, :1], np.stack([np.full(20, NAN), np.arange(20.0)], axis=1)):
        with pytest.raises(CellError):
            series.encode(bad)
    with pytest.raises(CellError, match=r"x\.csv"):
        series.encode(Blob(b"1\n2\n3\n", "x.csv"))
    # A clock that jumps a million years makes no array of a million years.
    far = np.concatenate([good, [[3e13, 1.0]]])
    assert len(series.encode(far)) == series.state["length"]
    gap = np.array([[0.0, 0], [1, 1], [9, 9], [10, 10]])
    short = fitted([gap], rate=1.0, gap=2)
    assert short.encode(gap)[5, 0] == pytest.approx(short.state["mean"][0])


def test_standardizing() -> None:
    cells = walks()
    own = fitted(cells, standardise="recording")
    field = own.prepare(own.collate([own.encode(cell) for cell in cells] + [None]))
    assert field.mask is not None
    for row, cell in enumerate(cells):
        data = field.data[row, :, : len(cell)]
        expected = (cell - cell.mean(axis=0)) / cell.std(axis=0)
        np.testing.assert_allclose(data.T[: len(expected)], expected[: data.shape[1]], rtol=0.1, atol=0.1)
        assert data.mean(dim=1).abs().max() < 1e-5
    assert not field.data.transpose(1, 2)[~field.mask].any()
    raw = fitted(cells, standardise="none")
    data = raw.prepare(raw.collate([raw.encode(cells[0])])).data
    np.testing.assert_allclose(data[0].T, cells[0][: data.shape[2]], rtol=1e-5)
    assert raw.store_options == own.store_options == fitted(cells).store_options
    flat = own.prepare(own.collate([own.encode(np.full((9, 2), 7.0))])).data
    assert not flat.any()


@pytest.mark.parametrize(("window", "step", "count"), [(10, 5, 5), (10, None, 5), (8, 8, 4), (100, None, 1)])
def test_windows_tell_what_is_in_them(window: int, step: int | None, count: int) -> None:
    cells = walks(steps=30)
    series = fitted(cells, window=window, step=step, length=30)
    assert series.layout == Grid(14, (count,))
    long, short = series.encode(cells[0]), series.encode(cells[1][:11])
    both = series.prepare(series.collate([short, None, long]))
    alone = series.prepare(series.collate([short]))
    assert both.mask is not None
    assert alone.mask is not None
    real = int(alone.mask.sum())
    assert both.mask.sum(dim=1).tolist() == [real, 0, count]
    assert both.data.shape == (3, 14, count)
    torch.testing.assert_close(both.data[0, :, :real], alone.data[0], rtol=1e-4, atol=1e-4)
    assert not both.data.transpose(1, 2)[~both.mask].any()
    standard = (long - np.array(series.state["mean"])) / np.array(series.state["deviation"])
    first = torch.from_numpy(standard[:window].T.copy())
    expected = channel_summary(first)[:, [0, 1, 4, 10, 11, 12, 16]]
    torch.testing.assert_close(both.data[2, :, 0].double(), expected.flatten(), rtol=1e-3, atol=1e-3)


def test_bad_options() -> None:
    bad: dict[str, Any]
    for bad in ({"rate": 0.0}, {"gap": -1}, {"window": 1}, {"step": 2}, {"window": 4, "step": 0}):
        with pytest.raises(ConfigError, match="series"):
            Series(**bad)


@pytest.mark.parametrize("how", Series.corruptions)
def test_what_spoils_readings_leaves_the_flags(how: str) -> None:
    cells = walks()
    plain, result = fitted(cells), fitted(cells, indicator=True)
    spoiled = result.corrupt(result.encode(cells[0]), how, 0.5, np.random.default_rng(0))
    expected = plain.corrupt(plain.encode(cells[0]), how, 0.5, np.random.default_rng(0))
    np.testing.assert_array_equal(spoiled[:, :2], expected)
    assert spoiled.dtype == np.float32
    assert not spoiled[:, 2:].any()
