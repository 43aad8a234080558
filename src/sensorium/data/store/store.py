"""Encoded media on disk: decoded once, mapped or read ever after, keyed by content and settings.

A *shelf* holds what one modality, with one set of options and one fitted state, made of its cells. It is two files: the
arrays one after another (``values.bin``) and an SQLite index from the digest of a cell's content to a place among them.
A changed byte in a file or a changed setting is another key, so a stale hit cannot happen. Arrays are written first and
indexed in the same transaction; whatever is killed leaves at worst unindexed bytes, which the next writer overwrites.
Several processes may fill and read one shelf at once: SQLite's write lock decides who appends. They do not decode the
same cells side by side: the first to find something new has its turn, the others wait and find it done.

Every entry has a checksum over itself and its array, compared whenever a cell is looked up: once a run, before anything is
gathered. What does not agree counts as not there: the cell is decoded anew, and the new entry takes the place of the old.
"""

from __future__ import annotations

import contextlib
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
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium import __version__
from sensorium.core.errors import CellError, SensoriumError
from sensorium.core.modality import Array, Blob, Encodes, Modality
from sensorium.data.store.array_file import Values, append
from sensorium.data.store.content_digest import digest
from sensorium.data.store.file_lock import Turn
from sensorium.data.store.integrity import FORMAT, checksum, extent_checksum, is_damage, open_here, refuse_links, spoken

CHUNK = 16
"""Cells a thread takes at a time: large enough that scheduling costs nothing, small enough to stop quickly."""
FLUSH_BYTES, FLUSH_SECONDS, PATIENCE = 16 << 20, 2.0, 120.0


def default_folder() -> Path:
    """``$SENSORIUM_CACHE``, else the user's cache folder. Deleting it costs only the time to decode again."""
    named = os.environ.get("SENSORIUM_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sensorium"


@dataclass(frozen=True)
class Places:
    """Where on a shelf each row's array lies. ``offset[i] == -1``: the row has none.

    ``content``: a digest of all cells, which is the same on any store.
    """

    offset: NDArray[np.int64]
    length: NDArray[np.int64]
    content: str = ""


Opened = tuple[int, Callable[[], Any]]
"""A row number and what opens its cell (raises ``CellError``)."""
Found = Array | tuple[int, int] | CellError
"""What came of a cell: a new array, the offset and length of one already there, or why it cannot be used."""
Entry = tuple[int, int, str | None, int]
"""What the index says of a digest: offset, length, why it cannot be used, and the checksum of all that."""


class Shelf:
    """The encoded arrays of one modality with one set of options and state."""

    def __init__(self, folder: Path, modality: Encodes) -> None:
        self.folder, self.modality = folder, modality
        blank = modality.blank()
        self.dtype = blank.dtype
        self.tail = blank.shape[1:] if modality.ragged else blank.shape
        self.unit = int(np.prod(self.tail, dtype=np.int64)) * self.dtype.itemsize
        self._local = threading.local()
        self._values = Values(folder / "values.bin", self.dtype, self.tail)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            refuse_links(folder)
            (folder / "values.bin").touch()
            with self._transaction() as db:
                db.execute(
                    "CREATE TABLE IF NOT EXISTS cells"
                    " (digest BLOB PRIMARY KEY, offset INTEGER, length INTEGER, problem TEXT, checksum INTEGER)"
                    " WITHOUT ROWID"
                )
                db.execute("CREATE TABLE IF NOT EXISTS extent (one INTEGER PRIMARY KEY, bytes INTEGER, checksum INTEGER)")
                db.execute("INSERT OR IGNORE INTO extent VALUES (1, 0, ?)", (extent_checksum(0),))
                self._forget_lost(db)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from None

    def _unusable(self, error: Exception) -> SensoriumError:
        if is_damage(error):
            fix = "delete this folder: nothing is lost but the time to decode again"
            return SensoriumError(f"the store is damaged: {error}", file=self.folder, fix=fix)
        fix = "make room or name another folder: --cache or SENSORIUM_CACHE; what was decoded before is kept"
        return SensoriumError(f"the store cannot be written: {error}", file=self.folder, fix=fix)

    def _forget_lost(self, db: sqlite3.Connection) -> None:
        """Forget arrays that a shortened file no longer holds: they are encoded again."""
        size = (self.folder / "values.bin").stat().st_size
        if size < self._end(db):
            db.execute("DELETE FROM cells WHERE offset + length * ? > ?", (self.unit, size))
            (end,) = db.execute("SELECT IFNULL(MAX(offset + length * ?), 0) FROM cells", (self.unit,)).fetchone()
            self._set_end(db, int(end))

    def _end(self, db: sqlite3.Connection) -> int:
        """Where the next array goes. Where the index no longer says so, behind everything."""
        found = db.execute("SELECT bytes, checksum FROM extent WHERE one = 1").fetchone()
        end = found[0] if found is not None and found[1] == extent_checksum(found[0]) else None
        end = (self.folder / "values.bin").stat().st_size if end is None else end
        unit = max(self.unit, 1)
        return -(-end // unit) * unit

    @staticmethod
    def _set_end(db: sqlite3.Connection, end: int) -> None:
        db.execute("INSERT OR REPLACE INTO extent VALUES (1, ?, ?)", (end, extent_checksum(end)))

    def _db(self) -> sqlite3.Connection:
        db: sqlite3.Connection | None = getattr(self._local, "db", None)
        if db is None:
            db = sqlite3.connect(self.folder / "index.sqlite", timeout=PATIENCE, isolation_level=None)
            db.text_factory = _lenient
            until = time.monotonic() + PATIENCE
            while True:
                try:
                    db.execute("PRAGMA journal_mode=WAL")
                    break
                except sqlite3.OperationalError as error:  # of two that switch a new index at once one is told so at once
                    if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                        raise
                    time.sleep(0.01)
            self._local.db = db
        return db

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with spoken():
            db = self._db()
            db.execute("BEGIN IMMEDIATE")
        try:
            with spoken():
                yield db
                db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # a full disk has ended it already
                db.execute("ROLLBACK")
            raise

    # ── filling ────────────────────────────────────────────────────────────────────────────────────────────────────

    def fill(
        self,
        rows: int,
        cells: Iterator[Opened],
        *,
        workers: int,
        tell: Callable[[int], None],
        problem: Callable[[int, CellError], None],
    ) -> Places:
        """Encode what is not yet there, in threads, and say where every row's array lies.

        ``tell`` is called with the number of cells done since the last call; ``problem`` for every cell that could not be
        used. Interrupted at any moment, what was encoded so far is kept.
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

        def take(row: int, key: bytes | None, found: Found) -> None:
            nonlocal size
            tell(1)
            content.update(row.to_bytes(8) + (key or b""))
            if isinstance(found, CellError):
                problem(row, found)
                if key is not None and key not in waiting:  # an unopened cell has no content to remember
                    waiting[key] = []
                    pending.append((key, None, found.problem))
            elif isinstance(found, tuple):
                places.offset[row], places.length[row] = found
            elif key is not None:
                if key not in waiting:
                    pending.append((key, found, None))
                    size += found.nbytes
                waiting.setdefault(key, []).append(row)
            if size > FLUSH_BYTES or time.monotonic() - last > FLUSH_SECONDS:
                flush()

        with self.turn(lambda: tell(0)) as turn:
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

    def turn(self, waiting: Callable[[], None]) -> Turn:
        """Whose turn it is to decode; ``waiting`` is called again and again while it is another process's."""
        return Turn(self.folder / "turn", waiting)

    def _encode(
        self,
        pool: ThreadPoolExecutor,
        cells: Iterator[Opened],
        ahead: int,
        take: Callable[[int, bytes | None, Found], None],
        known: bool,
        turn: Turn,
    ) -> None:
        """Hands every cell, in order, to ``take``: row, digest, and the new array, the known place or the problem.

        ``known``: whether the shelf may hold some of them already; an empty one need not be asked cell by cell.
        """

        def work(chunk: list[Opened]) -> list[tuple[int, bytes | None, Found]]:
            return [self._one(row, opened, known, turn) for row, opened in chunk]

        queue: deque[Future[list[tuple[int, bytes | None, Found]]]] = deque()
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
            # What was begun is finished (a chunk a thread) and kept, so that an interrupt costs nothing.
            for item in [item for job in queue if not job.cancel() for item in job.result()]:
                take(*item)
            raise
        finally:
            for job in queue:
                job.cancel()

    def _one(self, row: int, opened: Callable[[], Any], known: bool, turn: Turn) -> tuple[int, bytes | None, Found]:
        try:
            content = opened()
        except CellError as error:
            return row, None, error
        key = digest(content)
        place = self._place(key) if known else None
        if place is None:
            turn.take()
            place = self._place(key) if turn.waited else None
        if place is not None:
            offset, length, problem, _ = place
            return row, key, (offset, length) if problem is None else CellError(problem, file=_name(content))
        try:
            return row, key, self.modality.encode(content)
        except CellError as error:
            return row, key, error

    def _place(self, key: bytes) -> Entry | None:
        query = "SELECT offset, length, problem, checksum FROM cells WHERE digest = ?"
        with spoken():
            found: Entry | None = self._db().execute(query, (key,)).fetchone()
        return found if found is not None and self._agrees(key, found) else None

    def _agrees(self, key: bytes, entry: Entry) -> bool:
        """Whether an entry and its array are what was once written."""
        offset, length, problem, check = entry
        if not all(type(number) is int for number in (offset, length, check)) or length < 0:
            return False  # SQLite keeps whatever kind of value damaged bytes happen to spell
        if problem is not None:
            return isinstance(problem, str) and offset == -1 and check == checksum(key, length, problem, b"")
        if offset < 0 or offset % (self.dtype.itemsize if self.modality.ragged else max(self.unit, 1)):
            return False
        data = self._values.raw(offset, length * self.unit)
        return data is not None and check == checksum(key, length, None, data)

    def _append(self, items: Sequence[tuple[bytes, Array | None, str | None]]) -> dict[bytes, tuple[int, int]]:
        """Write arrays and index them, all or nothing; where each digest lies. Another process may have been faster."""
        found: dict[bytes, tuple[int, int]] = {}
        if not items:
            return found
        with (
            self._transaction() as db,
            open(self.folder / "values.bin", "r+b", buffering=0, opener=open_here) as file,
        ):
            end = self._end(db)
            file.seek(end)
            found = self._known(db, [key for key, _, _ in items])
            new: list[tuple[bytes, int, int, str | None, int]] = []
            data: list[Array] = []
            for key, array, problem in items:
                if key in found:
                    continue
                if array is None:
                    new.append((key, -1, 0, problem, checksum(key, 0, problem, b"")))
                    continue
                self._check(array)
                data.append(np.ascontiguousarray(array))
                length = len(array) if self.modality.ragged else 1
                check = checksum(key, length, None, data[-1].data if array.size else b"")
                new.append((key, end, length, None, check))
                found[key] = (end, length)
                end += array.nbytes
            append(file, data)
            os.fsync(file.fileno())
            db.executemany("INSERT OR REPLACE INTO cells VALUES (?, ?, ?, ?, ?)", new)
            self._set_end(db, end)
        return found

    def _known(self, db: sqlite3.Connection, keys: list[bytes]) -> dict[bytes, tuple[int, int]]:
        """Where those of the digests lie that are there already, and whole."""
        found: dict[bytes, tuple[int, int]] = {}
        columns = "digest, offset, length, problem, checksum"
        for start in range(0, len(keys), 500):  # SQLite takes no more than 999 values at a time everywhere
            some = keys[start : start + 500]
            asked = set(some)
            query = f"SELECT {columns} FROM cells WHERE digest IN ({','.join('?' * len(some))})"
            for key, *entry in db.execute(query, some):
                offset, length, problem, check = entry
                # What damage made of an index may answer with what it was not asked for.
                if key in asked and self._agrees(key, (offset, length, problem, check)):
                    found[key] = (offset, length)
        return found

    def _check(self, array: Array) -> None:
        shape = array.shape[1:] if self.modality.ragged else array.shape
        if shape != self.tail or array.dtype != self.dtype:
            kind = type(self.modality).__name__
            raise TypeError(f"{kind}.encode gave {array.dtype}{array.shape}; its blank() is {self.dtype}{self.tail}")

    def gather(self, places: Places, index: NDArray[np.int64]) -> tuple[Array, NDArray[np.bool_], NDArray[np.bool_] | None]:
        """Arrays of some rows: data ``[B, ...]`` zero-padded, present ``[B]``, and for ragged ones the mask ``[B, N]``."""
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
    """A folder of shelves."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()

    def shelf(self, modality: Modality, kind: str, reads: Encodes | None = None) -> Shelf:
        """The shelf of a fitted modality; opened or made. ``reads``: what makes its arrays, if not the modality itself."""
        settings: Mapping[str, Any] = {"store": FORMAT, "version": __version__, "kind": kind, **modality.store_options}
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:24]
        name = f"{kind}-{key}" if reads is None else f"{kind}-{type(reads).__name__.lower()}-{key}"
        return Shelf(self.folder / name, reads or modality)


def _chunks(cells: Iterator[Opened]) -> Iterator[list[Opened]]:
    chunk: list[Opened] = []
    for cell in cells:
        chunk.append(cell)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _lenient(data: bytes) -> str:
    """Text of the index. What damage made of it is read too, so that its checksum can say so."""
    return data.decode("utf-8", "replace")


def _name(content: Any) -> str | None:
    return content.name if isinstance(content, Blob) else None
