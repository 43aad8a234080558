"""The SQLite index of a cache: connections that tolerate damage and other processes, and transactions."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from sensorium.data.store.integrity import decode_errors_as_damage

LOCK_SECONDS = 120.0
"""How long to wait for another process's transaction."""


def connect(path: Path) -> sqlite3.Connection:
    """Open the index at ``path`` in autocommit mode with write-ahead logging; created if need be."""
    db = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)
    db.text_factory = _lenient
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            with decode_errors_as_damage():
                db.execute("PRAGMA journal_mode=WAL")
            return db
        except sqlite3.OperationalError as error:  # another process is switching the same new index
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """A write transaction on ``db``, rolled back on any exception."""
    with decode_errors_as_damage():
        db.execute("BEGIN IMMEDIATE")
    try:
        with decode_errors_as_damage():
            yield db
            db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # not where a full disk ended it
            db.execute("ROLLBACK")
        raise


def _lenient(data: bytes) -> str:
    """Decode text of the index, replacing damaged bytes, so that the checksum can report them."""
    return data.decode("utf-8", "replace")
