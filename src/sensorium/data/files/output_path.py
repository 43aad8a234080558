"""Checks of an output path before the work starts, so that no file is overwritten by mistake and no work lost."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from sensorium.core.errors import ConfigError, SensoriumError
from sensorium.data.files.atomic_write import check_writable

HEAD, MOST = 1 << 20, 64 << 20
"""Bytes read to recognise an earlier result: of a file of lines, and of a JSON document."""
DOCUMENT_KEYS = ({"rows", "streams", "targets"}, {"streams", "targets", "mean_shares"}, {"tables", "columns", "streams"})
"""Keys that identify the JSON documents of ``evaluate``, ``explain`` and ``inspect``."""


def prepare_output(path: str | Path, option: str, *, overwrite: bool = False, reads: Collection[Any] = ()) -> Path:
    """Return ``path`` once its folder exists and can be written.

    An existing file is refused unless it is an earlier result of the same kind or ``overwrite`` is set; the input table is
    always refused.

    Args:
        path: The file to be written.
        option: How the user named the path, for messages.
        overwrite: Whether any existing file may be replaced.
        reads: Input tables; anything that is not a path is ignored.

    Raises:
        ConfigError: The path cannot be used.
    """
    path = Path(path)
    if path.is_dir():
        raise ConfigError("is a folder, not a file", file=path, fix=f"name a file in it: {option} {path / 'NAME'}")
    for table in reads:
        if isinstance(table, (str, os.PathLike)) and path.exists() and Path(table).exists() and path.samefile(table):
            raise ConfigError("is the input table", file=path, fix=f"name another file: {option}")
    if path.is_file() and not overwrite and not is_earlier_result(path):
        fix = f"name another: {option}; or replace it: --overwrite (in Python: overwrite=True)"
        raise ConfigError("exists and is not an earlier result of this kind", file=path, fix=fix)
    if not path.exists() or path.is_file():  # neither a pipe nor a device
        try:
            check_writable(path.parent)
            path.parent.mkdir(parents=True, exist_ok=True)
        except (SensoriumError, OSError) as error:
            problem = error.problem if isinstance(error, SensoriumError) else f"cannot be made: {error.strerror}"
            raise ConfigError(problem, file=path.parent, fix=f"name another place: {option}") from None
    return path


def is_earlier_result(path: Path) -> bool:
    """Return whether the file at ``path`` is empty or an earlier result of this kind."""
    try:
        return path.stat().st_size == 0 or IS_RESULT.get(path.suffix.lower(), _is_document)(path)
    except (OSError, ValueError, RecursionError):
        return False


def _first_line(path: Path) -> str:
    with path.open("rb") as file:
        return file.readline(HEAD).decode("utf-8").rstrip("\r\n")


def _csv(path: Path) -> bool:
    head = _first_line(path).split(",")
    return head[0] == "row" and (head[-1] == "missing" or head[-1].startswith("vector_"))


def _jsonl(path: Path) -> bool:
    line = json.loads(_first_line(path))
    return isinstance(line, dict) and {"row", "missing"} <= set(line) and bool({"targets", "vector"} & set(line))


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - HEAD))
        return b"Made by sensorium." in file.read(HEAD)


def _is_document(path: Path) -> bool:
    if path.stat().st_size > MOST:
        return False
    document = json.loads(path.read_bytes())
    return isinstance(document, dict) and any(keys <= set(document) for keys in DOCUMENT_KEYS)


def _parquet(path: Path) -> bool:
    from sensorium.data.files.vector_files import has_vectors

    try:
        return has_vectors(path)
    except ImportError:
        return False


IS_RESULT: dict[str, Callable[[Path], bool]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
    ".html": _is_page,
    ".htm": _is_page,
    ".json": _is_document,
}
"""Whether a file is an earlier result, by its suffix."""
