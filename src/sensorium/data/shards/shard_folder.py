"""A folder of shards: rows with their media inside, in Parquet or tar files, and a manifest that knows them all.

folder/
  shards.json            columns, and of each shard its rows, size and SHA-256; written last
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
from sensorium.data.tables.json_tables import from_records

MANIFEST = "shards.json"
ENDINGS = (".parquet", ".tar")
FORMAT = 1
LOOKED = 100
"""Records of a tar that are looked at for the names of its columns: one that is missing is in no record."""

_checked: set[tuple[str, str, int, int, int]] = set()
"""Shards, as they were on the disk, that this process has compared with their digests."""


@dataclass(frozen=True)
class Shard:
    """One file of rows.

    Args:
        fields: How a tar's members name their columns; None where no manifest says.
        told: Rows as the manifest says; None without one.
        sha256: What the manifest says of its bytes; None without one.
    """

    path: Path
    fields: dict[str, str] | None = None
    told: int | None = None
    sha256: str | None = None

    def __len__(self) -> int:
        if self.told is not None:
            return self.told
        if self.path.suffix == ".parquet":
            return parquet_shards.count(self.path)
        return sum(1 for _ in tar_shards.records(self.path, self.fields))

    def records(self, start: int = 0, *, load: bool = False) -> Iterator[dict[str, Any]]:
        """Rows from ``start`` on; media as references into the shard, or with ``load`` their content."""
        self.check_once()
        if self.path.suffix == ".parquet":
            yield from parquet_shards.records(self.path, start, load=load)
            return
        for record in islice(tar_shards.records(self.path, self.fields), start, None):
            yield {name: _read(cell) for name, cell in record.items()} if load else record

    def columns(self) -> list[str]:
        """The names of its columns; of a tar those of its first records, and of its manifest."""
        if self.path.suffix == ".parquet":
            return parquet_shards.names(self.path)
        first = (name for record in islice(tar_shards.records(self.path, self.fields), LOOKED) for name in record)
        return list(dict.fromkeys([*first, *(self.fields or {}).values()]))

    def check(self) -> None:
        """Compare every byte with the manifest's digest."""
        if self.sha256 is not None and file_digest(self.path) != self.sha256:
            fix = "copy it again, or pack it again: sensorium pack TABLE FOLDER"
            raise DataError("the shard is damaged: its digest is not the manifest's", file=self.path, fix=fix)

    def check_once(self) -> None:
        """Compare every byte unless this process has found these bytes of this file right already."""
        if self.sha256 is None:
            return
        found = self.path.stat()
        state = (str(self.path.absolute()), self.sha256, found.st_size, found.st_mtime_ns, found.st_ino)
        if state not in _checked:
            self.check()
            _checked.add(state)


def _read(cell: Any) -> Any:
    if isinstance(cell, list):
        return [_read(part) for part in cell]
    return Blob(cell.read(MAX_BYTES), cell.name) if isinstance(cell, InTar) else cell


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of all that a manifest says but this."""
    said = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def is_sharded(path: Path) -> bool:
    """Whether a folder has shards in it: with a manifest, or files that end as such."""
    if not path.is_dir():
        return False
    return (path / MANIFEST).is_file() or any(next(path.glob(f"*{ending}"), None) is not None for ending in ENDINGS)


def shards(path: Path) -> list[Shard]:
    """The shards of a folder, in order, or the one that is named."""
    if not path.is_dir():
        return [Shard(path)]
    if (path / MANIFEST).is_file():
        return _manifested(path)
    found = sorted(file for ending in ENDINGS for file in path.glob(f"*{ending}"))
    if len({file.suffix for file in found}) > 1:
        raise DataError("holds both Parquet and tar files", file=path, fix="keep one kind in a folder")
    if not found:
        raise DataError("is a folder without shards", file=path, fix="sensorium pack table.csv folder/")
    return [Shard(file) for file in found]


def _manifested(path: Path) -> list[Shard]:
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise DataError(f"format {manifest['format']!r} is not known here", file=path, fix="pip install -U sensorium")
        # Manifests of earlier versions have no digest of their own.
        if "sha256" in manifest and manifest["sha256"] != manifest_digest(manifest):
            fix = "copy it again, or pack the table again: sensorium pack TABLE FOLDER"
            raise DataError("the manifest is damaged: it is not what was written", file=path / MANIFEST, fix=fix)
        fields = {told["field"]: str(name) for name, told in manifest["columns"].items() if told.get("field")}
        lines = [(str(s["file"]), int(s["rows"]), int(s["bytes"]), str(s["sha256"])) for s in manifest["shards"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"the manifest cannot be read: {error!r}", file=path / MANIFEST, fix="pack it again") from None
    found = []
    for name, rows, size, digest in lines:
        file = path / name
        if Path(name).name != name or file.suffix not in ENDINGS:
            raise DataError(f"the manifest names {name!r:.120}, which is no shard of this folder", file=path / MANIFEST)
        if not file.is_file() or file.stat().st_size != size:
            raise DataError("the shard is gone or cut short", file=file, fix="copy it again, or pack it again")
        found.append(Shard(file, fields, rows, digest))
    return found


def read_shards(path: Path) -> dict[str, list[Any]]:
    """The columns of a folder of shards, or of one: plain cells as they are, media as references to where they lie."""
    return from_records((record for shard in shards(path) for record in shard.records()), path)
