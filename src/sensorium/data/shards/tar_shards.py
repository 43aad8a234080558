"""Tar shards in the layout of WebDataset: files of one row share a key, and what follows its first dot says which cell.

``000000012.json``, ``000000012.photo.jpg``, ``000000012.sound.wav``. Nothing is extracted: members are found by their
place in the file and read into memory. Names that lead elsewhere, links, devices and endings that are not known media
are refused.
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
"""Endings whose content is a cell of text."""
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
"""Endings whose content is opened by a modality. Pickles and archives are none of them."""
JSON = "json"
TEXT_BYTES = 64 << 20

Record = dict[str, Any]


def records(path: Path, fields: Mapping[str, str] | None = None) -> Iterator[Record]:
    """The rows of a tar shard, in order; media cells are references into it.

    Args:
        fields: What the manifest calls a member's field, and the column it belongs to; else the field is the column.
    """
    shard, key = plain_path(path), ""
    row: Record = {}
    keys: set[str] = set()
    fields_seen: set[str] = set()
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined] # it would otherwise remember every header
                if member.isdir():
                    continue
                this, field, ending = _named(member, path)
                if this != key:
                    if row:
                        yield row
                    key, row = this, {}
                    fields_seen.clear()
                    if key in keys:
                        fix = "keep the files of a row together, and give every row a key of its own"
                        raise DataError(f"holds the row {key!r:.120} twice, at two places", file=path, fix=fix)
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
        raise DataError(f"is not a whole tar file: {error}", file=path, fix="pack it again, without compression") from None


def _named(member: tarfile.TarInfo, path: Path) -> tuple[str, str, str]:
    """Key, field and ending of a member's name; refused where it is not a plain file inside."""
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\\" in member.name or "\0" in member.name:
        raise DataError(f"holds a name that leads out of it: {member.name!r:.120}", file=path)
    if not member.isreg():
        raise DataError(f"holds a link or a device: {member.name!r:.120}", file=path, fix="pack plain files")
    stem, _, field = name.name.partition(".")
    ending = field.rpartition(".")[2].lower()
    if not stem or (ending not in MEDIA and ending not in WORDS and ending != JSON):
        fix = f"members end in {', '.join(sorted(MEDIA | WORDS | {JSON}))}"
        raise DataError(f"holds {member.name!r:.120}, which is no known kind of content", file=path, fix=fix)
    return str(name.parent / stem), field, ending


def _text(row: Record, tar: tarfile.TarFile, member: tarfile.TarInfo, field: str, ending: str, path: Path) -> None:
    file = tar.extractfile(member) if member.size <= TEXT_BYTES else None
    if file is None:
        raise DataError(f"{member.name!r:.120} is more than {TEXT_BYTES >> 20} MiB of text", file=path)
    try:
        text = file.read().decode("utf-8")
        found = json.loads(text) if ending == JSON else text
    except (ValueError, RecursionError):
        raise DataError(f"{member.name!r:.120} is not {'JSON' if ending == JSON else 'UTF-8 text'}", file=path) from None
    if field == JSON and isinstance(found, dict):
        # The row's plain cells. A media cell that came before it is kept, and takes its old name from here.
        row |= {str(name): _called(row.get(str(name)), cell) for name, cell in found.items()}
    else:
        row[field] = json.dumps(found, ensure_ascii=False) if ending == JSON and not isinstance(found, str) else found


def _media(row: Record, cell: InTar, field: str, fields: Mapping[str, str] | None) -> None:
    if fields is None:
        row[field] = cell
        return
    name, _, _ = field.rpartition(".")
    slug, _, part = name.partition(".")
    column = fields.get(slug)
    if column is None:
        raise DataError(f"{cell.name!r:.120} belongs to no column that the manifest names", file=cell.shard)
    told = row.get(column)
    if part:
        names = told if isinstance(told, list) else []
        at = int(part) if part.isdecimal() else 0
        known = names[at] if at < len(names) else None
        row[column] = [*names[:at], _called(cell, known), *names[at + 1 :]]
    else:
        row[column] = _called(cell, told)


def _called(cell: Any, told: Any) -> Any:
    """The media cell under the name that its file had in the table; where it is none, what was told."""
    if isinstance(cell, InTar) and isinstance(told, str):
        return InTar(told, cell.shard, cell.offset, cell.size)
    return told if told is not None or not isinstance(cell, InTar) else cell
