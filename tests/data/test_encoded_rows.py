"""Encoded rows: a batch gathered from memory and cache equals encoding its cells one by one."""

from __future__ import annotations

import functools
import operator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from sensorium.core.errors import SensoriumError
from sensorium.core.schema import Schema
from sensorium.data.encoded_rows import encode
from sensorium.data.files.media_access import LocalFiles
from sensorium.data.loader import Loader
from sensorium.data.store.store import Store
from sensorium.data.tables.table import Table


def same(one: Any, other: Any) -> None:
    """Two batches with the same numbers in them."""
    first, shape = pytree.tree_flatten(one)
    second, also = pytree.tree_flatten(other)
    assert shape == also
    for a, b in zip(first, second, strict=True):
        if a is None and b is None:
            continue
        assert isinstance(a, Tensor)
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


@pytest.fixture
def opened(trained: Any, scenes: Path, tmp_path: Path) -> tuple[Schema, Table, LocalFiles, Store]:
    return trained.schema, Table.read(scenes / "test.csv"), LocalFiles(scenes), Store(tmp_path / "store")


def test_batch_equals_its_samples(opened: tuple[Schema, Table, LocalFiles, Store]) -> None:
    schema, table, media, store = opened
    rows = encode(schema, table, media=media, store=store)
    rng = np.random.default_rng(0)
    for size in (1, 2, 7, len(table)):
        index = rng.integers(0, len(table), size)
        samples = [schema.encode(table.row(i), media=media, targets=True) for i in index.tolist()]
        same(schema.prepare(rows.batch(index)), schema.prepare(schema.collate(samples)))


def test_reopened_cache_gives_the_same(
    opened: tuple[Schema, Table, LocalFiles, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    schema, table, media, store = opened
    every = np.arange(len(table))
    first = encode(schema, table, media=media, store=store).batch(every)
    for column in schema.inputs:
        if column.reader.media:
            monkeypatch.setattr(column.reader, "encode", lambda cell: pytest.fail("decoded again"))
    same(encode(schema, table, media=media, store=Store(store.folder)).batch(every), first)


def test_selecting_rows(opened: tuple[Schema, Table, LocalFiles, Store]) -> None:
    schema, table, media, store = opened
    rows = encode(schema, table, media=media, store=store)
    part = rows.take(np.array([5, 3, 3, 0]))
    assert len(part) == 4
    same(part.batch(np.array([3, 1])), rows.batch(np.array([0, 3])))


def test_absent_column_is_missing(opened: tuple[Schema, Table, LocalFiles, Store]) -> None:
    schema, table, media, store = opened
    cells = {name: table.column(name) for name in table.columns if name not in ("photo", "note", "room", "event")}
    rows = encode(schema, Table(cells, root=table.root), media=media, store=store)
    batch = rows.batch(np.arange(len(table)))
    for stream in ("photo", "note"):
        assert not batch.inputs[stream].present.any()
    assert batch.inputs["table"].present.any()
    assert not batch.targets["event"].present.any()
    assert rows.problems == []


def test_problems_name_the_source_row(trained: Any, scenes: Path, tmp_path: Path) -> None:
    table = Table.read(scenes / "test.csv").take([4, 2])
    table = table.with_column("temperature", ["warm", "1"]).with_column("photo", ["lost.png", ""])
    rows = encode(trained.schema, table, media=LocalFiles(scenes), store=Store(tmp_path))
    assert {(p.row, p.column) for p in rows.problems} == {(5, "temperature"), (5, "photo")}


@pytest.mark.parametrize("cell", ["heavy", -1, float("inf")])
def test_invalid_weights_are_refused(cell: Any, tmp_path: Path) -> None:
    schema = Schema.declare({"x": "number", "w": {"role": "weight"}})
    schema.inputs[0].reader.fit([1, 2])
    table = Table({"x": [1, 2, 3], "w": [1, "", cell]})
    with pytest.raises(SensoriumError, match=r"row 3, column 'w': .* is not a weight"):
        encode(schema, table, media=LocalFiles(tmp_path), store=Store(tmp_path))
    good = encode(schema, Table({"x": [1, 2, 3], "w": [1, "", "2.5"]}), media=LocalFiles(tmp_path), store=Store(tmp_path))
    assert good.weight.tolist() == [1.0, 0.0, 2.5]


@pytest.mark.parametrize("size", [1, 2, 3, 8, 100])
@pytest.mark.parametrize("seed", [None, 0, 7])
@pytest.mark.parametrize("count", [0, 1, 2, 9, 17])
def test_epoch_has_every_row_once(size: int, seed: int | None, count: int, tmp_path: Path) -> None:
    schema = Schema.declare({"x": "number"})
    schema.inputs[0].reader.fit([0, 1])
    table = Table({"x": list(range(count))})
    rows = encode(schema, table, media=LocalFiles(tmp_path), store=Store(tmp_path))
    rows.weight[:] = np.arange(count)
    orders = []
    for epoch in (0, 1, 0):
        loader = Loader(rows, size, seed=seed, epoch=epoch)
        batches = [batch.weight.tolist() for batch in loader]
        assert len(batches) == len(loader)
        assert sorted(functools.reduce(operator.iadd, batches, [])) == list(range(count))
        assert all(len(batch) <= size + (seed is not None) for batch in batches)
        if seed is not None and size > 1 and count > 1:
            assert min(map(len, batches)) > 1, "a batch of one row has no statistics"
        orders.append(batches)
    assert orders[0] == orders[2]
    if seed is None:
        assert functools.reduce(operator.iadd, orders[0], []) == list(range(count))
    elif count > 8:
        assert orders[0] != orders[1]
