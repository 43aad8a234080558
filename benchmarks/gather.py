"""Bandwidth of gathering a batch from the store, compared with a plain copy of as many contiguous bytes.

Both read the same mapped file at a different position each time and write into new memory. Rows are gathered in random
order, as in training, and in stored order, as in evaluation.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.measure import Cost, Results, Settings, compared, interleaved
from sensorium.core.schema import Schema
from sensorium.data.encoded_rows import Cached, encode
from sensorium.data.files.media_access import UPLOADS_ONLY
from sensorium.data.store.store import Store
from sensorium.data.tables.table import Table

BATCH = 64


def compare(name: str, size: int, rows: int, shuffled: bool, folder: Path, settings: Settings) -> Results:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(rows)]
    schema = Schema.declare({"photo": {"kind": "image", "size": size}})
    schema.columns["photo"].reader.fit(pictures[:16])
    results = encode(schema, Table({"photo": pictures}), media=UPLOADS_ONLY, store=Store(folder))
    stored = results.inputs["photo"]
    assert isinstance(stored, Cached)
    row_bytes = size * size * 3
    values = np.memmap(stored.cache.folder / "values.bin", np.uint8, "r").reshape(rows, row_bytes)
    order = rng.permutation(rows) if shuffled else np.arange(rows)
    starts = np.arange(0, rows - BATCH + 1, BATCH)

    def timed(read: Callable[[int], object]) -> Cost:
        cpu, wall = time.process_time(), time.perf_counter()
        for start in starts.tolist():
            read(start)
        return Cost(time.process_time() - cpu, time.perf_counter() - wall)

    def copy(start: int) -> None:
        np.copyto(np.empty((BATCH, row_bytes), np.uint8), values[start : start + BATCH])

    def gather(start: int) -> None:
        stored.gather(order[start : start + BATCH])

    for start in starts[:2].tolist():
        both = stored.gather(order[start : start + BATCH]).data.numpy()
        assert (both == values[order[start : start + BATCH]].reshape(both.shape)).all()
    timed(copy), timed(gather)
    mine, other = interleaved(lambda: timed(gather), lambda: timed(copy), settings.few(15, 1))
    total = len(starts) * BATCH * row_bytes / 1e9
    return [
        compared(
            f"gather, {name}, {'shuffled' if shuffled else 'in order'}",
            "CPU s a GB",
            # CPU time: nothing here waits, and wall time would include that of other programs.
            [c.cpu / total for c in mine],
            [c.cpu / total for c in other],
            inverse=True,
            at_least=0.8,
            note=f"bandwidth against a plain copy, {rows} pictures in batches of {BATCH}",
        )
    ]


def run(settings: Settings) -> Results:
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        return [
            line
            for name, size, rows in (
                ("28×28", 28, settings.few(20_000, 128)),
                ("96×96", 96, settings.few(4_000, 128)),
                ("224×224", 224, settings.few(700, 128)),
            )
            for shuffled in (True, False)
            for line in compare(name, size, rows, shuffled, at / str(size), settings)
        ]
