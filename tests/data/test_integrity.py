"""Integrity of the cache: damage costs a decode and never a value; nothing is written through a link."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sensorium.core.errors import CellError, SensoriumError
from sensorium.core.modality import Array
from sensorium.data.store import array_file
from sensorium.data.store.computed_arrays import ComputedArrayCache
from sensorium.data.store.integrity import FILES
from sensorium.data.store.store import ArrayCache, Opened

CELLS = [os.urandom(12 + i % 9) if i % 5 else b"bad" + bytes([i]) for i in range(60)]


class Spelt:
    """An encoder that reads a cell's bytes as numbers; cells that begin with ``bad`` cannot be used."""

    def __init__(self, ragged: bool) -> None:
        self.ragged, self.calls = ragged, 0

    def blank(self) -> Array:
        return np.zeros((0, 2) if self.ragged else (6,), np.int16)

    def encode(self, cell: Any) -> Array:
        self.calls += 1
        if cell.startswith(b"bad"):
            raise CellError(f"is number {cell[3]}")
        values = np.frombuffer(cell, np.uint8).astype(np.int16)
        return values[: len(values) // 2 * 2].reshape(-1, 2) if self.ragged else values[:6]


def read(folder: Path, modality: Spelt) -> tuple[list[Any], list[tuple[int, str]]]:
    """The arrays that a new run reads for every cell, and its problems."""
    cache = ArrayCache(folder, modality)
    problems: list[tuple[int, str]] = []

    def opened() -> Iterator[Opened]:
        for i, cell in enumerate(CELLS):
            yield i, partial(bytes, cell)

    places = cache.fill(
        len(CELLS),
        opened(),
        workers=2,
        progress=lambda _: None,
        problem=lambda row, why: problems.append((row, why.problem)),
    )
    data, present, mask = cache.gather(places, np.arange(len(CELLS)))
    rows = [data[i] if mask is None else data[i][mask[i]] for i in range(len(CELLS))]
    return [row.tolist() if is_present else None for row, is_present in zip(rows, present, strict=True)], sorted(problems)


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a cache, with its index checkpointed into one file."""
    db = sqlite3.connect(folder / "index.sqlite")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return {name: (folder / name).read_bytes() for name in ("index.sqlite", "values.bin")}


@pytest.fixture(params=[True, False], ids=["ragged", "fixed"])
def ragged(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "read"])
def test_flipped_array_bit_costs_one_decode(
    tmp_path: Path, ragged: bool, mapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not mapped:
        monkeypatch.setattr(array_file, "MAPPED_BYTES", 0)
    right = read(tmp_path / "cache", Spelt(ragged))
    files = files_of(tmp_path / "cache")
    size = len(files["values.bin"])
    for at in np.random.default_rng(0).choice(8 * size, 12, replace=False).tolist():
        folder = tmp_path / str(at)
        folder.mkdir()
        damaged = bytearray(files["values.bin"])
        damaged[at // 8] ^= 1 << at % 8
        (folder / "values.bin").write_bytes(damaged)
        (folder / "index.sqlite").write_bytes(files["index.sqlite"])
        for calls in (1, 0):
            modality = Spelt(ragged)
            assert read(folder, modality) == right
            assert modality.calls == calls


def test_flipped_index_bits_raise_or_change_nothing(tmp_path: Path, ragged: bool) -> None:
    right = read(tmp_path / "cache", Spelt(ragged))
    files = files_of(tmp_path / "cache")
    rng = np.random.default_rng(int(ragged))
    # Most bits of an index are empty room: those that something is written in are tried.
    written = np.flatnonzero(np.frombuffer(files["index.sqlite"], np.uint8))
    noticed, errors = 0, list[SensoriumError]()
    for i, at in enumerate(rng.choice(written, 60, replace=False).tolist()):
        folder = tmp_path / str(i)
        folder.mkdir()
        damaged = bytearray(files["index.sqlite"])
        damaged[at] ^= 1 << int(rng.integers(8))
        (folder / "index.sqlite").write_bytes(damaged)
        (folder / "values.bin").write_bytes(files["values.bin"])
        modality = Spelt(ragged)
        try:
            assert read(folder, modality) == right
        except SensoriumError as error:
            errors.append(error)
        else:
            noticed += modality.calls > 0
    assert all("damaged" in error.problem or "cannot be written" in error.problem for error in errors)
    assert all(error.fix is not None for error in errors)
    assert noticed + len(errors) > 10


def test_lost_end_record_overwrites_nothing(tmp_path: Path, ragged: bool) -> None:
    right = read(tmp_path, Spelt(ragged))
    with sqlite3.connect(tmp_path / "index.sqlite") as db:
        db.execute("UPDATE extent SET bytes = 24")
        db.execute("DELETE FROM cells WHERE offset >= 0 AND digest IN (SELECT digest FROM cells LIMIT 5)")
    db.close()
    assert read(tmp_path, Spelt(ragged)) == right
    assert read(tmp_path, Spelt(ragged)) == right


def test_damaged_encoder_outputs_count_as_missing(tmp_path: Path) -> None:
    keys = [bytes([i]) * 16 for i in range(4)]
    first = {key: np.full((i + 1, 3), i + 0.5, np.float32) for i, key in enumerate(keys)}
    ComputedArrayCache(tmp_path, 3).keep(first)
    path = tmp_path / "values.bin"
    damaged = bytearray(path.read_bytes())
    damaged[3 * 4 + 5] ^= 16  # within the second
    path.write_bytes(damaged)
    cache = ComputedArrayCache(tmp_path, 3)
    assert set(cache.find(keys)) == {keys[0], keys[2], keys[3]}
    cache.keep({keys[1]: first[keys[1]]})
    assert set(ComputedArrayCache(tmp_path, 3).find(keys)) == set(keys)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["symbolic", "hard", "dangling"])
def test_nothing_is_written_through_a_link(tmp_path: Path, name: str, kind: str) -> None:
    folder, mine = tmp_path / "cache", tmp_path / "thesis.txt"
    folder.mkdir()
    if kind != "dangling":
        mine.write_bytes(b"mine")
    if kind == "hard":
        os.link(mine, folder / name)
    else:
        (folder / name).symlink_to(mine)
    with pytest.raises(SensoriumError, match="link") as caught:
        read(folder, Spelt(False))
    assert name in str(caught.value)
    assert "not its target" in str(caught.value)
    assert not mine.exists() if kind == "dangling" else mine.read_bytes() == b"mine"


def test_linked_cache_is_refused_but_a_linked_store_is_not(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SensoriumError, match="symbolic link"):
        ArrayCache(tmp_path / "link", Spelt(False))
    assert list((tmp_path / "elsewhere").iterdir()) == []
    read(tmp_path / "link" / "cache", Spelt(False))


def test_pipe_in_place_of_the_index_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "index.sqlite")
    with pytest.raises(SensoriumError, match="not a regular file"):
        ArrayCache(tmp_path, Spelt(False))
