"""Folders of shards: rows with their media in Parquet or tar files, and a manifest.

folder/
  shards.json            columns, and rows, size and SHA-256 of each shard; written last
  shard-00000.parquet    or .tar
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sensorium.core.errors import DataError
from sensorium.core.modality import Blob
from sensorium.data.files.media_access import MAX_BYTES
from sensorium.data.shards import parquet_shards, tar_shards
from sensorium.data.shards.references import InTar
from sensorium.data.tables.annotated_columns import AnnotatedColumns
from sensorium.data.tables.json_tables import from_records

MANIFEST = "shards.json"
ENDINGS = (".parquet", ".tar")
FORMAT = 1
LOOKED = 100
"""Records of a tar examined for its column names."""

_checked: set[tuple[str, str, int, int, int]] = set()
"""State on disk of the shards whose digests this process has verified."""


@dataclass(frozen=True)
class Shard:
    """One file of rows.

    Args:
        path: The file.
        fields: Columns by the field of a tar member's name; None without a manifest.
        recorded_rows: The number of rows according to the manifest; None without one.
        sha256: Digest according to the manifest; None without one.
    """

    path: Path
    fields: dict[str, str] | None = None
    recorded_rows: int | None = None
    sha256: str | None = None

    def __len__(self) -> int:
        if self.recorded_rows is not None:
            return self.recorded_rows
        if self.path.suffix == ".parquet":
            return parquet_shards.count(self.path)
        return sum(1 for _ in tar_shards.records(self.path, self.fields))

    def records(self, start: int = 0, *, load: bool = False) -> Iterator[dict[str, Any]]:
        """Yield the rows from ``start`` on, with media as references or, with ``load``, their content."""
        self.check_once()
        if self.path.suffix == ".parquet":
            yield from parquet_shards.records(self.path, start, load=load)
            return
        for record in islice(tar_shards.records(self.path, self.fields), start, None):
            yield {name: _read(cell) for name, cell in record.items()} if load else record

    def columns(self) -> list[str]:
        """Return the column names; of a tar, those of its first records and its manifest."""
        if self.path.suffix == ".parquet":
            return parquet_shards.names(self.path)
        first = (name for record in islice(tar_shards.records(self.path, self.fields), LOOKED) for name in record)
        return list(dict.fromkeys([*first, *(self.fields or {}).values()]))

    def check(self) -> None:
        """Verify the file's digest against the manifest. Raises ``DataError``."""
        if self.sha256 is not None and file_digest(self.path) != self.sha256:
            fix = "copy it again, or pack it again: sensorium pack TABLE FOLDER"
            raise DataError("the shard is damaged: its digest is not the manifest's", file=self.path, fix=fix)

    def check_once(self) -> None:
        """Verify the digest unless this process has verified the file in its current state."""
        if self.sha256 is None:
            return
        status = self.path.stat()
        state = (str(self.path.absolute()), self.sha256, status.st_size, status.st_mtime_ns, status.st_ino)
        if state not in _checked:
            self.check()
            _checked.add(state)


def _read(cell: Any) -> Any:
    if isinstance(cell, list):
        return [_read(part) for part in cell]
    return Blob(cell.read(MAX_BYTES), cell.name) if isinstance(cell, InTar) else cell


def file_digest(path: Path) -> str:
    """Return the SHA-256 of the file at ``path``, in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a ``manifest`` without its own digest."""
    content = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def is_sharded(path: Path) -> bool:
    """Return whether the folder ``path`` holds shards: a manifest, or files with their suffixes."""
    if not path.is_dir():
        return False
    return (path / MANIFEST).is_file() or any(next(path.glob(f"*{ending}"), None) is not None for ending in ENDINGS)


def shards(path: Path) -> list[Shard]:
    """Return the shards of the folder ``path`` in order, or the one that it names.

    Raises:
        DataError: There are no shards, shards of both formats, or a damaged manifest.
    """
    if not path.is_dir():
        return [Shard(path)]
    if (path / MANIFEST).is_file():
        return _from_manifest(path)
    files = sorted(file for ending in ENDINGS for file in path.glob(f"*{ending}"))
    if len({file.suffix for file in files}) > 1:
        raise DataError("holds both Parquet and tar files", file=path, fix="keep one kind in a folder")
    if not files:
        raise DataError("is a folder without shards", file=path, fix="sensorium pack table.csv folder/")
    return [Shard(file) for file in files]


@dataclass(frozen=True)
class _Manifest:
    fields: dict[str, str]
    entries: list[tuple[str, int, int, str]]
    target: str | None
    annotations: tuple[str, ...]


def _manifest(path: Path) -> _Manifest:
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise DataError(f"format {manifest['format']!r} is not supported", file=path, fix="pip install -U sensorium")
        # Manifests of earlier versions have no digest of their own.
        if "sha256" in manifest and manifest["sha256"] != manifest_digest(manifest):
            fix = "copy it again, or pack the table again: sensorium pack TABLE FOLDER"
            raise DataError("the manifest is damaged: it is not what was written", file=path / MANIFEST, fix=fix)
        columns = manifest["columns"]
        fields = {entry["field"]: str(name) for name, entry in columns.items() if entry.get("field")}
        entries = [(str(s["file"]), int(s["rows"]), int(s["bytes"]), str(s["sha256"])) for s in manifest["shards"]]
        target = manifest.get("target") if manifest.get("target") in columns else None
        annotations = tuple(name for name in manifest.get("annotations", ()) if name in columns)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"the manifest cannot be read: {error!r}", file=path / MANIFEST, fix="pack it again") from None
    return _Manifest(fields, entries, target, annotations)


def _from_manifest(path: Path) -> list[Shard]:
    manifest = _manifest(path)
    result = []
    for name, rows, size, digest in manifest.entries:
        file = path / name
        if Path(name).name != name or file.suffix not in ENDINGS:
            raise DataError(f"the manifest names {name!r:.120}, which is not a shard of this folder", file=path / MANIFEST)
        if not file.is_file() or file.stat().st_size != size:
            raise DataError("the shard is missing or truncated", file=file, fix="copy it again, or pack it again")
        result.append(Shard(file, manifest.fields, rows, digest))
    return result


def recorded_answers(path: Path) -> tuple[str | None, tuple[str, ...]]:
    """Return the default target of the table packed in ``path``, and its annotated columns, as ``Table`` has them."""
    if not (path / MANIFEST).is_file():
        return None, ()
    manifest = _manifest(path)
    return manifest.target, manifest.annotations


def read_shards(path: Path) -> AnnotatedColumns:
    """Return the columns of the folder of shards or single shard at ``path``, with media as references."""
    columns = from_records((record for shard in shards(path) for record in shard.records()), path)
    return AnnotatedColumns(columns, *recorded_answers(path))
