"""The file lock: one process decodes while others wait and reuse its result; nobody waits when nothing is missing."""

from __future__ import annotations

import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sensorium.core.modality import Array, Blob
from sensorium.data.store.file_lock import FileLock
from sensorium.data.store.store import ArrayCache, Places


class Slow:
    """A slow encoder that counts its calls."""

    ragged = False
    calls = 0
    begun = threading.Event()

    def blank(self) -> Array:
        return np.zeros(1, np.int64)

    def encode(self, cell: Any) -> Array:
        type(self).calls += 1
        type(self).begun.set()
        time.sleep(0.005)
        return np.array([int(cell.data)], np.int64)


def fill(folder: Path, cells: list[int], progress: list[int]) -> Places:
    opened = [(i, partial(Blob, str(cell).encode(), "cell")) for i, cell in enumerate(cells)]
    return ArrayCache(folder, Slow()).fill(
        len(cells), iter(opened), workers=2, progress=progress.append, problem=lambda row, error: None
    )


def test_one_fills_while_the_other_waits(tmp_path: Path) -> None:
    Slow.calls = 0
    cells, results, progress = list(range(60)), {}, {name: list[int]() for name in "ab"}

    def work(name: str) -> None:
        results[name] = fill(tmp_path, cells, progress[name])

    threads = [threading.Thread(target=work, args=name) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Slow.calls == 60, "each cell was decoded once"
    values, present, _ = ArrayCache(tmp_path, Slow()).gather(results["a"], np.arange(60))
    assert present.all()
    assert values[:, 0].tolist() == cells
    assert (results["a"].offset == results["b"].offset).all()
    assert {sum(part) for part in progress.values()} == {60}
    assert any(0 in part for part in progress.values()), "the one that waits says so"


def test_no_wait_when_everything_is_cached(tmp_path: Path) -> None:
    fill(tmp_path, [1, 2, 3], [])
    Slow.begun.clear()
    other = threading.Thread(target=fill, args=(tmp_path, list(range(100, 300)), []))
    other.start()
    Slow.begun.wait()
    began = time.monotonic()
    fill(tmp_path, [3, 2, 1], progress := [])
    assert 0 not in progress
    assert other.is_alive(), time.monotonic() - began
    other.join()


def test_lock_is_released_when_its_holder_fails(tmp_path: Path) -> None:
    waits: list[int] = []
    try:
        with FileLock(tmp_path / "turn", lambda: None) as turn:
            turn.acquire()
            turn.acquire()
            raise KeyError
    except KeyError:
        pass
    with FileLock(tmp_path / "turn", lambda: waits.append(1)) as turn:
        turn.acquire()
        assert not turn.waited
    assert not waits
