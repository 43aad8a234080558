"""The file that a result is to be written to: looked at before the work, so that nothing is lost and nothing in vain."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from sensorium.core.errors import ConfigError, SensoriumError
from sensorium.data.files.atomic_write import check_writable

HEAD, MOST = 1 << 20, 64 << 20
"""Bytes of a file that are looked at, to tell whose it is: of one by lines, and of a JSON document."""
FIGURES = ({"rows", "streams", "targets"}, {"streams", "targets", "mean_shares"}, {"tables", "columns", "streams"})
"""Keys that the documents of ``evaluate``, ``explain`` and ``inspect`` have."""


def ready(path: str | Path, option: str, *, overwrite: bool = False, reads: Collection[Any] = ()) -> Path:
    """The path, whose folder is there and takes files. What stands there already is refused, unless it is an older result
    of the same kind or ``overwrite`` is given; the table that is read is refused always.

    Args:
        option: How the user named the path, for messages.
        reads: Tables that are read: a path, or anything else, which is passed over.
    """
    path = Path(path)
    if path.is_dir():
        raise ConfigError("is a folder, not a file", file=path, fix=f"name a file in it: {option} {path / 'NAME'}")
    for table in reads:
        if isinstance(table, (str, os.PathLike)) and path.exists() and Path(table).exists() and path.samefile(table):
            raise ConfigError("is the table that is read", file=path, fix=f"name another file: {option}")
    if path.is_file() and not overwrite and not older(path):
        fix = f"name another: {option}; or replace it: --overwrite (in Python: overwrite=True)"
        raise ConfigError("is there, and no earlier result of this kind", file=path, fix=fix)
    if not path.exists() or path.is_file():  # neither a pipe nor a device
        try:
            check_writable(path.parent)
            path.parent.mkdir(parents=True, exist_ok=True)
        except (SensoriumError, OSError) as error:
            problem = error.problem if isinstance(error, SensoriumError) else f"cannot be made: {error.strerror}"
            raise ConfigError(problem, file=path.parent, fix=f"name another place: {option}") from None
    return path


def older(path: Path) -> bool:
    """Whether a file is a result as it would be written now, or empty."""
    try:
        return path.stat().st_size == 0 or OURS.get(path.suffix.lower(), _figures)(path)
    except (OSError, ValueError, RecursionError):
        return False


def _first(path: Path) -> str:
    with path.open("rb") as file:
        return file.readline(HEAD).decode("utf-8").rstrip("\r\n")


def _csv(path: Path) -> bool:
    head = _first(path).split(",")
    return head[0] == "row" and (head[-1] == "missing" or head[-1].startswith("vector_"))


def _jsonl(path: Path) -> bool:
    line = json.loads(_first(path))
    return isinstance(line, dict) and {"row", "missing"} <= set(line) and bool({"targets", "vector"} & set(line))


def _page(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - HEAD))
        return b"Made by sensorium." in file.read(HEAD)


def _figures(path: Path) -> bool:
    if path.stat().st_size > MOST:
        return False
    document = json.loads(path.read_bytes())
    return isinstance(document, dict) and any(keys <= set(document) for keys in FIGURES)


def _parquet(path: Path) -> bool:
    from sensorium.data.files.vector_files import marked

    try:
        return marked(path)
    except ImportError:
        return False


OURS: dict[str, Callable[[Path], bool]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
    ".html": _page,
    ".htm": _page,
    ".json": _figures,
}
