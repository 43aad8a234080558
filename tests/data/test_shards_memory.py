"""Packing, reading and streaming of shards hold a few rows in memory, whatever the size of the media."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sensorium.data.files.media_access import LocalFiles
from sensorium.data.shards.pack import pack
from sensorium.data.shards.row_stream import Stream
from sensorium.data.tables.table import Table

MIB = 2**20
FILES, SIZE = 40, MIB  # 40 MiB together


def peak(work: Callable[[], Any]) -> float:
    """MiB that Python and Arrow held at most."""
    import pyarrow as pa

    before = pa.total_allocated_bytes()
    arrow = 0

    def watched() -> None:
        nonlocal arrow
        result = work()
        if hasattr(result, "__next__"):
            for _ in result:
                arrow = max(arrow, pa.total_allocated_bytes() - before)
        arrow = max(arrow, pa.total_allocated_bytes() - before)

    tracemalloc.start()
    try:
        watched()
        return (tracemalloc.get_traced_memory()[1] + arrow) / MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["parquet", "tar"])
def test_memory_does_not_grow_with_the_media(tmp_path: Path, name: Any) -> None:
    for i in range(FILES):
        (tmp_path / f"{i}.png").write_bytes(bytes([i]) * SIZE)
    table = Table({"photo": [f"{i}.png" for i in range(FILES)], "n": list(range(FILES))}, root=tmp_path)
    out = tmp_path / "packed"

    def packing() -> None:
        pack(table, out, media=LocalFiles(tmp_path), columns={"photo": "image"}, format=name, rows_per_shard=15)

    # Once before it counts: what libraries load is memory too.
    few = table.take([0, 1])
    pack(few, tmp_path / "few", media=LocalFiles(tmp_path), columns={"photo": "image"}, format=name)
    Table.read(tmp_path / "few")
    assert peak(packing) < 8
    kept: list[Table] = []
    assert peak(lambda: kept.append(Table.read(out))) < 6
    assert len(kept[0]) == FILES
    assert peak(lambda: iter(Stream(out, buffer=2))) < 14
