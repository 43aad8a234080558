"""Damaged and replaced files of the cache and of shards: cells are decoded anew, or an error is raised, and no other file
is changed."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.hostile.case import Case
from sensorium.core.errors import CellError, SensoriumError
from sensorium.core.modality import Array
from sensorium.data.files.media_access import LocalFiles
from sensorium.data.shards.pack import pack
from sensorium.data.shards.shard_folder import MANIFEST
from sensorium.data.store.store import ArrayCache, Opened
from sensorium.data.tables.table import Table

CELLS = [bytes([i, 7 * i % 256]) * (4 + i % 3) if i % 5 else b"bad" + bytes([i]) for i in range(40)]
BITS = 25
"""Number of bits flipped in one case, one after the other."""
PARTS = ("values.bin", "index.sqlite")


def cases() -> Iterator[Case]:
    """Return the cases of the cache of decoded media, then those of packed shards."""
    for name in PARTS:
        yield Case(f"cache: {BITS} flipped bits of {name}", partial(_flipped, name), seconds=60)
        yield Case(f"cache: {name} cut off in ten places", partial(_cut, name), seconds=60)
        for what, trap in _TRAPS.items():
            yield Case(f"cache: {what} in the place of {name}", partial(_trap, name, trap), seconds=15)
    yield Case("cache: an index of another program", _foreign)
    yield Case("cache: an index whose places lead beyond the end", partial(_forged, "UPDATE cells SET offset = 1 << 40"))
    yield Case(
        "cache: an index whose places lead before the beginning", partial(_forged, "UPDATE cells SET offset = -1 << 40")
    )
    yield Case("cache: an index whose arrays overlap", partial(_forged, "UPDATE cells SET offset = 0 WHERE offset >= 0"))
    yield Case("cache: a folder that is a link", _linked_folder)
    yield Case("cache: a folder that cannot be written", _read_only)
    for form in ("parquet", "tar"):
        yield Case(f"shards: {BITS} flipped bits of a {form}", partial(_shard, form), seconds=90)
    yield Case(f"shards: {BITS} flipped bits of the manifest", _manifest, seconds=60)
    yield Case("shards: a manifest that names a file upwards", _upwards)
    yield Case("shards: packed over somebody's shards", _others)


class _Spelt:
    """Reader of a cell's bytes as numbers; cells that begin with ``bad`` raise ``CellError``."""

    ragged = True

    def blank(self) -> Array:
        return np.zeros((0, 2), np.int16)

    def encode(self, cell: Any) -> Array:
        if cell.startswith(b"bad"):
            raise CellError(f"is number {cell[3]}")
        return np.frombuffer(cell, np.uint8).astype(np.int16).reshape(-1, 2)


def _read(folder: Path) -> list[Any]:
    """Return the values that a new run reads for every cell."""
    cache = ArrayCache(folder, _Spelt())

    def opened() -> Iterator[Opened]:
        for i, cell in enumerate(CELLS):
            yield i, partial(bytes, cell)

    places = cache.fill(len(CELLS), opened(), workers=1, progress=lambda _: None, problem=lambda row, why: None)
    data, present, mask = cache.gather(places, np.arange(len(CELLS)))
    assert mask is not None
    return [data[i][mask[i]].tolist() if has_value else None for i, has_value in enumerate(present)]


_RIGHT = [None if c.startswith(b"bad") else np.frombuffer(c, np.uint8).reshape(-1, 2).tolist() for c in CELLS]


def _right_or_told(folder: Path) -> None:
    """Check that the cells are read correctly, or that the error has a remedy."""
    try:
        result = _read(folder)
    except SensoriumError as error:
        if error.fix is None:
            raise AssertionError(f"no remedy: {error}") from None
    else:
        assert result == _RIGHT, "cells are wrong, and nothing is said"


def _whole(folder: Path) -> Path:
    """Fill a cache and move the write-ahead log of its index into the database file."""
    assert _read(folder) == _RIGHT
    with sqlite3.connect(folder / "index.sqlite") as index:
        index.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    index.close()
    return folder


def _flipped(name: str, folder: Path) -> None:
    intact = _whole(folder / "whole")
    size = (intact / name).stat().st_size
    for bit in np.random.default_rng(0).choice(8 * size, BITS).tolist():
        copy = folder / "copy"
        shutil.copytree(intact, copy)
        _flip(copy / name, bit)
        _right_or_told(copy)
        shutil.rmtree(copy)


def _flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def _cut(name: str, folder: Path) -> None:
    intact = _whole(folder / "whole")
    size = (intact / name).stat().st_size
    for part in range(10):
        copy = folder / "copy"
        shutil.copytree(intact, copy)
        os.truncate(copy / name, size * part // 10)
        _right_or_told(copy)
        shutil.rmtree(copy)


_TRAPS: dict[str, Callable[[Path, Path], None]] = {
    "a symbolic link": lambda path, mine: path.symlink_to(mine),
    "a hard link": lambda path, mine: os.link(mine, path),
    "a pipe": lambda path, mine: os.mkfifo(path),
    "a folder": lambda path, mine: path.mkdir(),
    "a link to a device": lambda path, mine: path.symlink_to("/dev/zero"),
}


def _trap(name: str, lay: Callable[[Path, Path], None], folder: Path) -> None:
    mine, cache = folder / "thesis.txt", folder / "cache"
    mine.write_bytes(b"years of work")
    cache.mkdir()
    lay(cache / name, mine)
    _right_or_told(cache)
    assert mine.read_bytes() == b"years of work", "another file was written to"


def _foreign(folder: Path) -> None:
    cache = folder / "cache"
    cache.mkdir()
    with sqlite3.connect(cache / "index.sqlite") as index:
        index.execute("CREATE TABLE letters (text)")
        index.execute("INSERT INTO letters VALUES ('dear')")
    index.close()
    _right_or_told(cache)
    with sqlite3.connect(cache / "index.sqlite") as index:
        assert index.execute("SELECT text FROM letters").fetchall() == [("dear",)], "its rows are gone"
    index.close()


def _forged(statement: str, folder: Path) -> None:
    intact = _whole(folder / "whole")
    with sqlite3.connect(intact / "index.sqlite") as index:
        index.execute(statement)
    index.close()
    _right_or_told(intact)


def _linked_folder(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "cache").symlink_to(folder / "elsewhere")
    _right_or_told(folder / "cache")
    assert not list((folder / "elsewhere").iterdir()), "it wrote where the link leads"


def _read_only(folder: Path) -> None:
    intact = _whole(folder / "whole")
    for path in (intact, *intact.iterdir()):
        path.chmod(0o500 if path.is_dir() else 0o400)
    _right_or_told(intact)
    intact.chmod(0o700)


# ── shards ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

_ROWS = [{"text": f"row {i}", "number": str(i), "photo": f"{i}.png"} for i in range(12)]


def _packed(folder: Path, form: Any) -> Path:
    from PIL import Image

    for i in range(len(_ROWS)):
        Image.fromarray(np.full((8, 8, 3), 20 * i, np.uint8)).save(folder / f"{i}.png")
    table = Table({name: [row[name] for row in _ROWS] for name in _ROWS[0]}, source=None, root=folder)
    pack(table, folder / "packed", media=LocalFiles(folder), format=form, rows_per_shard=5)
    return folder / "packed"


def _cells(packed: Path) -> list[list[str]]:
    table = Table.read(packed)
    plain = [list(table.column(name)) for name in ("text", "number")]
    media = LocalFiles(packed)
    return [*plain, [media.open(cell).data.hex() for cell in table.column("photo")]]  # type: ignore[union-attr]


def _same_or_told(packed: Path, right: list[list[str]]) -> None:
    try:
        result = _cells(packed)
    except SensoriumError as error:
        assert str(error), "the message is empty"  # noqa: PT017
    else:
        assert result == right, "cells are wrong, and nothing is said"


def _shard(form: str, folder: Path) -> None:
    packed = _packed(folder, form)
    right = _cells(packed)
    shard = next(path for path in sorted(packed.iterdir()) if path.suffix == f".{form}")
    _each_bit(packed, shard.name, right, folder)


def _manifest(folder: Path) -> None:
    packed = _packed(folder, "parquet")
    _each_bit(packed, MANIFEST, _cells(packed), folder)


def _each_bit(packed: Path, name: str, right: list[list[str]], folder: Path) -> None:
    size = (packed / name).stat().st_size
    for number, bit in enumerate(np.random.default_rng(1).choice(8 * size, BITS).tolist()):
        copy = folder / f"copy-{number}"
        shutil.copytree(packed, copy)
        _flip(copy / name, bit)
        _same_or_told(copy, right)


def _upwards(folder: Path) -> None:
    import json

    packed = _packed(folder, "parquet")
    right = _cells(packed)
    (folder / "outside.parquet").write_bytes(next(packed.glob("*.parquet")).read_bytes())
    document = json.loads((packed / MANIFEST).read_text(encoding="utf-8"))
    document["shards"][0]["file"] = "../outside.parquet"
    document.pop("sha256", None)
    (packed / MANIFEST).write_text(json.dumps(document), encoding="utf-8")
    try:
        result = _cells(packed)
    except SensoriumError:
        return
    assert result != right, "a file outside of the folder was read"
    raise AssertionError("a manifest that leads outside was taken")


def _others(folder: Path) -> None:
    (folder / "packed").mkdir()
    (folder / "packed" / "shard-00000.parquet").write_bytes(b"somebody's")
    try:
        _packed(folder, "parquet")
    except SensoriumError:
        pass
    else:
        raise AssertionError("it packed into a folder with other shards")
    assert (folder / "packed" / "shard-00000.parquet").read_bytes() == b"somebody's", "they were overwritten"
