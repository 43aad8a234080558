"""On-disk cache of encoded cells, keyed by content and settings: each cell is decoded once.

An ``ArrayCache`` holds the arrays that one modality, with one set of options and one fitted state, made of its cells. It
is two files: the arrays end to end (``values.bin``) and an SQLite index from content digest to offset. A changed byte or
setting gives another key, so hits cannot be stale. Arrays are written before they are indexed, in one transaction; a
killed process leaves at worst unindexed bytes, which the next writer overwrites. Several processes may fill and read one
cache: SQLite's write lock orders the appends, and a file lock lets one process decode while the others wait.

Every entry has a checksum over itself and its array, verified at each look-up, once a run. An entry that fails counts as
missing: the cell is decoded again and the entry replaced.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium import __version__
from sensorium.core.errors import CellError, SensoriumError
from sensorium.core.modality import Array, Blob, Encodes, Modality
from sensorium.data.store.array_file import ArrayReader, append
from sensorium.data.store.content_digest import digest
from sensorium.data.store.file_lock import FileLock
from sensorium.data.store.index_database import connect, transaction
from sensorium.data.store.integrity import (
    FORMAT,
    checksum,
    decode_errors_as_damage,
    extent_checksum,
    is_damage,
    open_nofollow,
    refuse_links,
)

CHUNK = 16
"""Cells that a thread takes at a time: enough to make scheduling negligible, few enough to stop quickly."""
FLUSH_BYTES, FLUSH_SECONDS = 16 << 20, 2.0
"""Encoded arrays are written once they take this many bytes, or after this many seconds."""


def default_folder() -> Path:
    """Return ``$SENSORIUM_CACHE``, else ``sensorium`` in the user's cache folder. Deleting it costs only decoding again."""
    configured = os.environ.get("SENSORIUM_CACHE")
    if configured:
        return Path(configured)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sensorium"


@dataclass(frozen=True)
class Places:
    """Offset and length of each row's array in a cache, both ``[rows]``; offset -1 where a row has none.

    Args:
        offset: Byte offsets.
        length: Steps of each array; 1 where all have one shape.
        content: A digest of all cells, the same on any store.
    """

    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    content: str = ""


Opened = tuple[int, Callable[[], Any]]
"""A row number and a function that opens its cell (and may raise ``CellError``)."""
Result = Array | tuple[int, int] | CellError
"""The outcome for a cell: a new array, offset and length of a cached one, or why it cannot be used."""
Entry = tuple[int, int, str | None, int]
"""An index entry: offset, length, why the cell cannot be used (or None), and the checksum."""


class ArrayCache:
    """The cached arrays of one modality with one set of options and one fitted state.

    Args:
        folder: Where its files are; made if need be.
        modality: Encodes the cells; its ``blank()`` gives dtype and shape.
    """

    def __init__(self, folder: Path, modality: Encodes) -> None:
        self.folder, self.modality = folder, modality
        blank = modality.blank()
        self.dtype = blank.dtype
        self.tail = blank.shape[1:] if modality.ragged else blank.shape
        self.unit = int(np.prod(self.tail, dtype=np.int64)) * self.dtype.itemsize
        self._local = threading.local()
        self._values = ArrayReader(folder / "values.bin", self.dtype, self.tail)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            refuse_links(folder)
            (folder / "values.bin").touch()
            with transaction(self._db()) as db:
                db.execute(
                    "CREATE TABLE IF NOT EXISTS cells"
                    " (digest BLOB PRIMARY KEY, offset INTEGER, length INTEGER, problem TEXT, checksum INTEGER)"
                    " WITHOUT ROWID"
                )
                db.execute("CREATE TABLE IF NOT EXISTS extent (one INTEGER PRIMARY KEY, bytes INTEGER, checksum INTEGER)")
                db.execute("INSERT OR IGNORE INTO extent VALUES (1, 0, ?)", (extent_checksum(0),))
                self._drop_truncated(db)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from None

    def _unusable(self, error: Exception) -> SensoriumError:
        if is_damage(error):
            fix = "delete this folder: nothing is lost but the time to decode again"
            return SensoriumError(f"the cache is damaged: {error}", file=self.folder, fix=fix)
        fix = "make room or name another folder: --cache or SENSORIUM_CACHE; what was decoded before is kept"
        return SensoriumError(f"the cache cannot be written: {error}", file=self.folder, fix=fix)

    def _drop_truncated(self, db: sqlite3.Connection) -> None:
        """Remove entries of arrays beyond the end of a shortened file; they are encoded again."""
        size = (self.folder / "values.bin").stat().st_size
        if size < self._end(db):
            db.execute("DELETE FROM cells WHERE offset + length * ? > ?", (self.unit, size))
            (end,) = db.execute("SELECT IFNULL(MAX(offset + length * ?), 0) FROM cells", (self.unit,)).fetchone()
            self._set_end(db, int(end))

    def _end(self, db: sqlite3.Connection) -> int:
        """Byte offset of the next array; the end of the file where the index's record is damaged."""
        record = db.execute("SELECT bytes, checksum FROM extent WHERE one = 1").fetchone()
        end = record[0] if record is not None and record[1] == extent_checksum(record[0]) else None
        end = (self.folder / "values.bin").stat().st_size if end is None else end
        unit = max(self.unit, 1)
        return -(-end // unit) * unit

    @staticmethod
    def _set_end(db: sqlite3.Connection, end: int) -> None:
        db.execute("INSERT OR REPLACE INTO extent VALUES (1, ?, ?)", (end, extent_checksum(end)))

    def _db(self) -> sqlite3.Connection:
        db: sqlite3.Connection | None = getattr(self._local, "db", None)
        if db is None:
            db = connect(self.folder / "index.sqlite")
            self._local.db = db
        return db

    def fill(
        self,
        rows: int,
        cells: Iterator[Opened],
        *,
        workers: int,
        progress: Callable[[int], None],
        problem: Callable[[int, CellError], None],
    ) -> Places:
        """Encode the cells that are not cached, in threads, and return the place of every row.

        What was encoded before an interrupt or error is kept.

        Args:
            rows: The number of rows.
            cells: Row numbers of non-missing cells with what opens them.
            workers: Decoding threads.
            progress: Called with the number of cells done since its last call.
            problem: Called with the row and error of every cell that cannot be used.
        """
        places = Places(np.full(rows, -1, np.int64), np.zeros(rows, np.int64))
        pending: list[tuple[bytes, Array | None, str | None]] = []
        waiting: dict[bytes, list[int]] = {}
        size, last = 0, time.monotonic()
        content = hashlib.sha256(str(rows).encode())

        def flush() -> None:
            nonlocal size, last
            for key, (offset, length) in self._append(pending).items():
                for row in waiting[key]:
                    places.offset[row], places.length[row] = offset, length
            pending.clear()
            waiting.clear()
            size, last = 0, time.monotonic()

        def take(row: int, key: bytes | None, result: Result) -> None:
            nonlocal size
            progress(1)
            content.update(row.to_bytes(8) + (key or b""))
            if isinstance(result, CellError):
                problem(row, result)
                if key is not None and key not in waiting:  # an unopened cell has no digest to index
                    waiting[key] = []
                    pending.append((key, None, result.problem))
            elif isinstance(result, tuple):
                places.offset[row], places.length[row] = result
            elif key is not None:
                if key not in waiting:
                    pending.append((key, result, None))
                    size += result.nbytes
                waiting.setdefault(key, []).append(row)
            if size > FLUSH_BYTES or time.monotonic() - last > FLUSH_SECONDS:
                flush()

        with self.turn(lambda: progress(0)) as turn:
            try:
                known = self._db().execute("SELECT EXISTS (SELECT 1 FROM cells)").fetchone()[0] == 1
                with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
                    self._encode(pool, cells, 2 * workers, take, known, turn)
                flush()
            except (OSError, sqlite3.Error) as error:
                raise self._unusable(error) from None
            except BaseException:
                flush()
                raise
        return replace(places, content=content.hexdigest()[:16])

    def turn(self, waiting: Callable[[], None]) -> FileLock:
        """Return the lock held while decoding; ``waiting`` is called repeatedly while another process holds it."""
        return FileLock(self.folder / "turn", waiting)

    def _encode(
        self,
        pool: ThreadPoolExecutor,
        cells: Iterator[Opened],
        ahead: int,
        take: Callable[[int, bytes | None, Result], None],
        known: bool,
        turn: FileLock,
    ) -> None:
        """Pass row, digest and result of every cell, in order, to ``take``.

        ``known``: whether the cache has entries; an empty one is not queried cell by cell.
        """

        def work(chunk: list[Opened]) -> list[tuple[int, bytes | None, Result]]:
            return [self._encode_one(row, opened, known, turn) for row, opened in chunk]

        queue: deque[Future[list[tuple[int, bytes | None, Result]]]] = deque()
        try:
            for chunk in _chunks(cells):
                queue.append(pool.submit(work, chunk))
                if len(queue) > ahead:
                    for item in queue[0].result():
                        take(*item)
                    queue.popleft()
            while queue:
                for item in queue[0].result():
                    take(*item)
                queue.popleft()
        except KeyboardInterrupt:
            # Finish and keep the chunks already started, so that an interrupt loses no decoded cell.
            for item in [item for job in queue if not job.cancel() for item in job.result()]:
                take(*item)
            raise
        finally:
            for job in queue:
                job.cancel()

    def _encode_one(
        self, row: int, opened: Callable[[], Any], known: bool, turn: FileLock
    ) -> tuple[int, bytes | None, Result]:
        try:
            content = opened()
        except CellError as error:
            return row, None, error
        key = digest(content)
        entry = self._lookup(key) if known else None
        if entry is None:
            turn.acquire()
            entry = self._lookup(key) if turn.waited else None
        if entry is not None:
            offset, length, problem, _ = entry
            return row, key, (offset, length) if problem is None else CellError(problem, file=_name(content))
        try:
            return row, key, self.modality.encode(content)
        except CellError as error:
            return row, key, error

    def _lookup(self, key: bytes) -> Entry | None:
        query = "SELECT offset, length, problem, checksum FROM cells WHERE digest = ?"
        with decode_errors_as_damage():
            entry: Entry | None = self._db().execute(query, (key,)).fetchone()
        return entry if entry is not None and self._is_intact(key, entry) else None

    def _is_intact(self, key: bytes, entry: Entry) -> bool:
        """Return whether an entry and its array match their checksum."""
        offset, length, problem, check = entry
        if not all(type(number) is int for number in (offset, length, check)) or length < 0:
            return False  # damaged bytes may read as any SQLite type
        if problem is not None:
            return isinstance(problem, str) and offset == -1 and check == checksum(key, length, problem, b"")
        if offset < 0 or offset % (self.dtype.itemsize if self.modality.ragged else max(self.unit, 1)):
            return False
        data = self._values.raw(offset, length * self.unit)
        return data is not None and check == checksum(key, length, None, data)

    def _append(self, items: Sequence[tuple[bytes, Array | None, str | None]]) -> dict[bytes, tuple[int, int]]:
        """Write and index arrays in one transaction; return places by digest. Entries of other processes are kept."""
        places: dict[bytes, tuple[int, int]] = {}
        if not items:
            return places
        with (
            transaction(self._db()) as db,
            open(self.folder / "values.bin", "r+b", buffering=0, opener=open_nofollow) as file,
        ):
            end = self._end(db)
            file.seek(end)
            places = self._known(db, [key for key, _, _ in items])
            new: list[tuple[bytes, int, int, str | None, int]] = []
            data: list[Array] = []
            for key, array, problem in items:
                if key in places:
                    continue
                if array is None:
                    new.append((key, -1, 0, problem, checksum(key, 0, problem, b"")))
                    continue
                self._check(array)
                data.append(np.ascontiguousarray(array))
                length = len(array) if self.modality.ragged else 1
                check = checksum(key, length, None, data[-1].data if array.size else b"")
                new.append((key, end, length, None, check))
                places[key] = (end, length)
                end += array.nbytes
            append(file, data)
            os.fsync(file.fileno())
            db.executemany("INSERT OR REPLACE INTO cells VALUES (?, ?, ?, ?, ?)", new)
            self._set_end(db, end)
        return places

    def _known(self, db: sqlite3.Connection, keys: list[bytes]) -> dict[bytes, tuple[int, int]]:
        """Return the places of those of ``keys`` that are cached and intact."""
        places: dict[bytes, tuple[int, int]] = {}
        columns = "digest, offset, length, problem, checksum"
        for start in range(0, len(keys), 500):  # some SQLite builds take at most 999 values
            batch = keys[start : start + 500]
            requested = set(batch)
            query = f"SELECT {columns} FROM cells WHERE digest IN ({','.join('?' * len(batch))})"
            for key, *entry in db.execute(query, batch):
                offset, length, problem, check = entry
                # A damaged index may return keys outside the query.
                if key in requested and self._is_intact(key, (offset, length, problem, check)):
                    places[key] = (offset, length)
        return places

    def _check(self, array: Array) -> None:
        shape = array.shape[1:] if self.modality.ragged else array.shape
        if shape != self.tail or array.dtype != self.dtype:
            kind = type(self.modality).__name__
            raise TypeError(f"{kind}.encode gave {array.dtype}{array.shape}; its blank() is {self.dtype}{self.tail}")

    def gather(self, places: Places, index: NDArray[np.int64]) -> tuple[Array, NDArray[np.bool_], NDArray[np.bool_] | None]:
        """Read the arrays of the rows ``index`` ``[B]``.

        Args:
            places: Where the rows' arrays are.
            index: Row numbers.

        Returns:
            Data ``[B, ...]``, zero-padded; present ``[B]``; and for ragged arrays the mask ``[B, N]``, else None.
        """
        offset, length = places.offset[index], places.length[index]
        present = offset >= 0
        try:
            if not self.modality.ragged:
                return self._values.fixed(offset, present), present, None
            data, mask = self._values.ragged(offset, length)
            return data, present, mask
        except OSError as error:
            raise self._unusable(error) from None


class Store:
    """A folder of array caches, one for each modality and settings; by default ``default_folder()``."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()

    def cache(self, modality: Modality, kind: str, reads: Encodes | None = None) -> ArrayCache:
        """Open or create the cache of a fitted modality.

        Args:
            modality: Its options and state are part of the key.
            kind: The modality's name.
            reads: Encodes the cells instead of the modality, if given.
        """
        settings: Mapping[str, Any] = {"store": FORMAT, "version": __version__, "kind": kind, **modality.store_options}
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:24]
        name = f"{kind}-{key}" if reads is None else f"{kind}-{type(reads).__name__.lower()}-{key}"
        return ArrayCache(self.folder / name, reads or modality)


def _chunks(cells: Iterator[Opened]) -> Iterator[list[Opened]]:
    while chunk := list(islice(cells, CHUNK)):
        yield chunk


def _name(content: Any) -> str | None:
    return content.name if isinstance(content, Blob) else None
