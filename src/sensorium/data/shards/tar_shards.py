"""Tar shards in the layout of WebDataset: the files of a row share a key, and the rest of a name gives the column.

``000000012.json``, ``000000012.photo.jpg``, ``000000012.sound.wav``. Nothing is extracted: members are read into memory
by offset. Names that lead elsewhere, links, devices and suffixes that are not known media are refused.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from sensorium.core.errors import DataError
from sensorium.data.shards.references import InTar, plain_path

WORDS = frozenset({"txt", "cls", "cap", "id", "index"})
"""Suffixes of text cells."""
MEDIA = frozenset(
    {
        *("jpg", "jpeg", "png", "gif", "webp", "bmp", "tif", "tiff", "dcm"),
        *("wav", "flac", "mp3", "ogg", "opus", "m4a", "aac"),
        *("mp4", "m4v", "avi", "mov", "mkv", "webm"),
        *("csv", "tsv", "npy"),
        *("ply", "pcd", "xyz", "off", "obj", "pts"),
        *("mol", "sdf", "smi"),
        "bin",
    }
)
"""Suffixes of media cells, which a modality opens; pickles and archives are excluded."""
JSON = "json"
TEXT_BYTES = 64 << 20

Record = dict[str, Any]


def records(path: Path, fields: Mapping[str, str] | None = None) -> Iterator[Record]:
    """Yield the rows of a tar shard in order, with media as references.

    Args:
        path: The shard.
        fields: Columns by field, from the manifest; without it the field is the column.

    Raises:
        DataError: The archive is damaged, or holds links, unsafe names or unknown content.
    """
    shard, key = plain_path(path), ""
    row: Record = {}
    keys: set[str] = set()
    fields_seen: set[str] = set()
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined] # otherwise it keeps every header in memory
                if member.isdir():
                    continue
                row_key, field, ending = _parse_name(member, path)
                if row_key != key:
                    if row:
                        yield row
                    key, row = row_key, {}
                    fields_seen.clear()
                    if key in keys:
                        fix = "keep the files of a row together, and give every row a key of its own"
                        raise DataError(f"holds the files of row {key!r:.120} at two places", file=path, fix=fix)
                    keys.add(key)
                if field in fields_seen:
                    fix = "give every member a name of its own"
                    raise DataError(f"holds {member.name!r:.120} twice", file=path, fix=fix)
                fields_seen.add(field)
                if ending == JSON or ending in WORDS:
                    _text(row, tar, member, field, ending, path)
                else:
                    _media(row, InTar(member.name, shard, member.offset_data, member.size), field, fields)
            if row:
                yield row
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(
            f"is not a complete tar file: {error}", file=path, fix="pack it again, without compression"
        ) from None


def _parse_name(member: tarfile.TarInfo, path: Path) -> tuple[str, str, str]:
    """Key, field and suffix of a member's name. Refuses members that are not plain files inside."""
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\\" in member.name or "\0" in member.name:
        raise DataError(f"holds a name that leads out of it: {member.name!r:.120}", file=path)
    if not member.isreg():
        raise DataError(f"holds a link or a device: {member.name!r:.120}", file=path, fix="pack plain files")
    stem, _, field = name.name.partition(".")
    ending = field.rpartition(".")[2].lower()
    if not stem or (ending not in MEDIA and ending not in WORDS and ending != JSON):
        fix = f"members end in {', '.join(sorted(MEDIA | WORDS | {JSON}))}"
        raise DataError(f"holds {member.name!r:.120}, which is not a supported type of content", file=path, fix=fix)
    return str(name.parent / stem), field, ending


def _text(row: Record, tar: tarfile.TarFile, member: tarfile.TarInfo, field: str, ending: str, path: Path) -> None:
    file = tar.extractfile(member) if member.size <= TEXT_BYTES else None
    if file is None:
        raise DataError(f"{member.name!r:.120} is more than {TEXT_BYTES >> 20} MiB of text", file=path)
    try:
        text = file.read().decode("utf-8")
        content = json.loads(text) if ending == JSON else text
    except (ValueError, RecursionError):
        raise DataError(f"{member.name!r:.120} is not {'JSON' if ending == JSON else 'UTF-8 text'}", file=path) from None
    if field == JSON and isinstance(content, dict):
        # The row's plain cells. Media cells read before are kept, and get their original names from here.
        row |= {str(name): _with_name(row.get(str(name)), cell) for name, cell in content.items()}
    else:
        row[field] = json.dumps(content, ensure_ascii=False) if ending == JSON and not isinstance(content, str) else content


def _media(row: Record, cell: InTar, field: str, fields: Mapping[str, str] | None) -> None:
    if fields is None:
        row[field] = cell
        return
    name, _, _ = field.rpartition(".")
    slug, _, part = name.partition(".")
    column = fields.get(slug)
    if column is None:
        raise DataError(f"{cell.name!r:.120} belongs to no column that the manifest names", file=cell.shard)
    previous = row.get(column)
    if part:
        names = previous if isinstance(previous, list) else []
        at = int(part) if part.isdecimal() else 0
        known = names[at] if at < len(names) else None
        row[column] = [*names[:at], _with_name(cell, known), *names[at + 1 :]]
    else:
        row[column] = _with_name(cell, previous)


def _with_name(cell: Any, name: Any) -> Any:
    """A media cell under its original file name; of other cells, ``name``."""
    if isinstance(cell, InTar) and isinstance(name, str):
        return InTar(name, cell.shard, cell.offset, cell.size)
    return name if name is not None or not isinstance(cell, InTar) else cell
