"""Writes a table as shards with its media inside, one row after the other: memory holds a few rows, whatever the table."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from sensorium import __version__
from sensorium.core import registry
from sensorium.core.errors import CellError, ConfigError, DataError, MissingExtraError
from sensorium.core.modality import Blob, is_blank
from sensorium.core.schema import Opener, Problem
from sensorium.data.files.atomic_write import check_writable
from sensorium.data.files.media_access import names_file, parts
from sensorium.data.inspection.type_inference import guess
from sensorium.data.shards.shard_folder import ENDINGS, FORMAT, MANIFEST, file_digest, manifest_digest
from sensorium.data.shards.tar_shards import MEDIA
from sensorium.data.tables.table import Table

GROUP_BYTES, GROUP_ROWS = 2 << 20, 1024
"""Of a row group of Parquet: what is read to get at one cell, so it is small."""

_OURS = re.compile(r"shard-\d{5,}\.(parquet|tar)|\.shard-\d{5,}\.(parquet|tar)\.part")

Format = Literal["parquet", "tar"]
Packing = Callable[[int, int], None]
"""Told how many rows are done, of how many."""


def pack(
    table: Table,
    out: Path,
    *,
    media: Opener,
    columns: Mapping[str, str] | None = None,
    format: Format = "parquet",
    rows_per_shard: int = 10_000,
    megabytes: float = 256.0,
    overwrite: bool = False,
    tell: Packing | None = None,
) -> list[Problem]:
    """Write a table and the files that its cells name as shards; what could not be opened becomes missing and is told.

    Args:
        columns: What a column is, where the guess is wrong: media are packed, all else is kept as it stands.
        rows_per_shard: A shard holds at most so many rows.
        megabytes: A shard is closed once its media are so large.
        overwrite: Whether shards that are in ``out`` may be replaced; else they are refused, but for those of a stopped
            packing.
    """
    if rows_per_shard < 1 or not megabytes > 0:
        raise ConfigError("a shard has at least one row, and room for it", fix="--rows-per-shard 10000 --megabytes 256")
    fix = "name another folder; or replace them: --overwrite (in Python: overwrite=True)"
    if (out / MANIFEST).exists() and not overwrite:
        raise DataError("holds packed shards already", file=out, fix=fix)
    if any(table.source == str(place) for place in (out, out / MANIFEST)):
        raise DataError("is the table that is read", file=out, fix="name another folder")
    if not len(table):
        raise DataError("the table has no rows", file=table.source)
    found = _media(table, columns or {})
    check_writable(out)
    out.mkdir(parents=True, exist_ok=True)
    _clear(out, overwrite)
    make = _Parquet if format == "parquet" else _Tar
    plain = {name: _kept(table.column(name)) for name in table.columns if name not in found}
    problems: list[Problem] = []
    lines: list[dict[str, Any]] = []
    row = 0
    while row < len(table):
        name = f"shard-{len(lines):05d}.{format}"
        part = out / f".{name}.part"
        shard = make(part, list(plain), plain, found)
        try:
            begun, size = row, 0
            while row < len(table) and row - begun < rows_per_shard and size < megabytes * 2**20:
                cells = {column: _opened(table, row, column, media, several, problems) for column, several in found.items()}
                shard.add(row, {column: kept[row] for column, kept in plain.items()}, cells)
                size += sum(len(blob.data) for cell in cells.values() for blob in cell or ())
                row += 1
                if tell is not None:
                    tell(row, len(table))
        finally:
            shard.close()
        _synced(part)
        line = {"file": name, "rows": row - begun, "bytes": part.stat().st_size, "sha256": file_digest(part)}
        # Named before it is there: a packing that is stopped leaves nothing that the next does not know to be its own.
        _write(out / f".{MANIFEST}.part", {"shards": [*lines, line]})
        os.replace(part, out / name)
        lines.append(line)
    slugs = _slugs(found)
    manifest = {
        "format": FORMAT,
        "sensorium": __version__,
        "rows": len(table),
        "columns": {name: {"media": name in found, "field": slugs.get(name)} for name in table.columns},
        "shards": lines,
    }
    part = out / f".{MANIFEST}.part"
    _write(part, manifest | {"sha256": manifest_digest(manifest)})
    os.replace(part, out / MANIFEST)
    return problems


def _write(path: Path, manifest: Mapping[str, Any]) -> None:
    path.unlink(missing_ok=True)  # a link goes, and not what it leads to
    path.write_text(json.dumps(manifest, ensure_ascii=False, indent=1), encoding="utf-8")
    _synced(path)


def _clear(out: Path, overwrite: bool) -> None:
    """Delete the shards that a manifest of ours names: that of a stopped packing, and with ``overwrite`` a finished one's.

    Any other shard is somebody's data, which is refused rather than mixed with new ones or deleted.
    """
    named = _named(out / f".{MANIFEST}.part") | (_named(out / MANIFEST) if overwrite else set())
    there = [file for file in out.iterdir() if file.is_file() and not file.is_symlink()]
    ours = [file for file in there if _OURS.fullmatch(file.name) and (file.name in named or file.suffix == ".part")]
    left = sorted(file.name for file in out.iterdir() if file.suffix in ENDINGS and file not in ours)
    if left:
        fix = "name another folder, or delete them if nothing needs them"
        raise DataError(f"holds {left[0]!r:.120} and perhaps other shards, which were not packed here", file=out, fix=fix)
    (out / MANIFEST).unlink(missing_ok=True)  # first: without it what is left is no table
    for file in ours:
        file.unlink()


def _named(manifest: Path) -> set[str]:
    """The shards that a manifest names; none where it was cut off in the writing."""
    if not manifest.is_file() or manifest.is_symlink():
        return set()
    try:
        return {str(line["file"]) for line in json.loads(manifest.read_text(encoding="utf-8"))["shards"]}
    except (ValueError, KeyError, TypeError):
        return set()


def _media(table: Table, told: Mapping[str, str]) -> dict[str, bool]:
    """The columns whose cells are files, and whether a cell may hold several."""
    for name in told:
        table.column(name)
    found = {}
    for name, guessed in guess(table, overrides=told).items():
        kind = registry.find("modalities", guessed.kind) if guessed.kind else None
        if kind is None or not kind.media:
            continue
        filled = [cell for cell in table.column(name) if not is_blank(cell)]
        files = sum(all(map(names_file, parts(cell) if kind.several else [cell])) for cell in filled)
        if files == 0:
            continue  # numbers or text in the cell itself
        if files < len(filled):
            fix = "make them one kind of cell, or keep the column as it stands: --as COLUMN=text"
            raise DataError("some cells name files and some do not", file=table.source, column=name, fix=fix)
        found[name] = kind.several
    return found


Cell = list[Blob] | None


def _opened(table: Table, row: int, column: str, media: Opener, several: bool, problems: list[Problem]) -> Cell:
    cell = table.column(column)[row]
    if is_blank(cell):
        return None
    try:
        opened = (media.open_several if several else media.open)(cell, row=table.number(row), column=column)
    except CellError as error:
        file = error.file or (cell if isinstance(cell, str) else None)
        problems.append(Problem(table.number(row), column, None if file is None else str(file), error.problem))
        return None
    found = opened if several else [opened]
    blobs = [part for part in found if isinstance(part, Blob)]
    assert len(blobs) == len(found), "a cell that names files opens as files"
    return blobs


def _kept(cells: Sequence[Any]) -> Sequence[Any]:
    """Plain cells as both formats can hold them: text and numbers as they are, anything else as JSON text."""
    simple = (str, int, float, bool, type(None))
    kinds = {type(cell) for cell in cells if cell is not None}
    if kinds <= {str} or kinds <= {bool} or kinds <= {int, float}:
        return cells
    return [cell if cell is None or isinstance(cell, str) else _json(cell, simple) for cell in cells]


def _json(cell: Any, simple: tuple[type, ...]) -> str:
    if isinstance(cell, simple):
        return str(cell)
    if hasattr(cell, "isoformat"):
        return str(cell.isoformat())
    return json.dumps(cell.tolist() if hasattr(cell, "tolist") else cell, ensure_ascii=False, default=str)


def _slugs(columns: Mapping[str, bool]) -> dict[str, str]:
    """A name for each media column that can stand in a file name."""
    slugs: dict[str, str] = {}
    for name in columns:
        slug = re.sub(r"[^0-9A-Za-z_-]+", "_", name) or "media"
        slugs[name] = slug if slug not in slugs.values() else f"{slug}_{len(slugs)}"
    return slugs


def _synced(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


class _Writer(ABC):
    @abstractmethod
    def __init__(
        self, path: Path, names: list[str], plain: Mapping[str, Sequence[Any]], media: Mapping[str, bool]
    ) -> None: ...
    @abstractmethod
    def add(self, row: int, cells: dict[str, Any], media: dict[str, Cell]) -> None: ...
    @abstractmethod
    def close(self) -> None: ...


class _Parquet(_Writer):
    """Media as structs of bytes and path, as data sets on the web keep them, in row groups of a few megabytes."""

    def __init__(self, path: Path, names: list[str], plain: Mapping[str, Sequence[Any]], media: Mapping[str, bool]) -> None:
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError:
            raise MissingExtraError("writing .parquet files", "data") from None
        blob = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        fields = [pa.field(name, _type(plain[name], pa)) for name in names]
        fields += [pa.field(name, pa.list_(blob) if several else blob) for name, several in media.items()]
        self.schema, self.media = pa.schema(fields), media
        # Media are compressed already, and no two are alike.
        squeezed = dict.fromkeys(names, "zstd") | {
            f"{name}.{'list.element.' if several else ''}{leaf}": "none"
            for name, several in media.items()
            for leaf in ("bytes", "path")
        }
        self.writer = parquet.ParquetWriter(
            path, self.schema, compression=squeezed, use_dictionary=names, store_schema=True
        )
        self.rows: list[dict[str, Any]] = []
        self.size = 0

    def add(self, row: int, cells: dict[str, Any], media: dict[str, Cell]) -> None:
        for name, found in media.items():
            blobs = None if found is None else [{"bytes": blob.data, "path": blob.name} for blob in found]
            cells[name] = blobs if blobs is None or self.media[name] else blobs[0]
            self.size += sum(len(blob.data) for blob in found or ())
        self.rows.append(cells)
        if self.size >= GROUP_BYTES or len(self.rows) >= GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self.rows:
            self.writer.write_table(pa.Table.from_pylist(self.rows, schema=self.schema), row_group_size=len(self.rows))
        self.rows, self.size = [], 0

    def close(self) -> None:
        self._flush()
        self.writer.close()


def _type(cells: Sequence[Any], pa: Any) -> Any:
    kinds = {type(cell) for cell in cells if cell is not None}
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int} and all(cell is None or -(2**63) <= cell < 2**63 for cell in cells):
        return pa.int64()
    return pa.float64() if kinds and kinds <= {int, float} else pa.string()


class _Tar(_Writer):
    """The layout of WebDataset: ``000000012.json`` for the plain cells, ``000000012.photo.jpg`` for a file."""

    def __init__(self, path: Path, names: list[str], plain: Mapping[str, Sequence[Any]], media: Mapping[str, bool]) -> None:
        self.tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed by ``close``
        self.media, self.slugs = media, _slugs(media)

    def add(self, row: int, cells: dict[str, Any], media: dict[str, Cell]) -> None:
        for name, found in media.items():
            names = None if found is None else [blob.name for blob in found]
            cells[name] = names if names is None or self.media[name] else names[0]
        key = f"{row:09d}"
        self._member(f"{key}.json", json.dumps(cells, ensure_ascii=False).encode())
        for name, found in media.items():
            for i, blob in enumerate(found or ()):
                part = f".{i}" if self.media[name] else ""
                self._member(f"{key}.{self.slugs[name]}{part}.{_ending(blob)}", blob.data)

    def _member(self, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        self.tar.addfile(member, io.BytesIO(data))
        self.tar.members = []  # type: ignore[attr-defined] # it would otherwise remember every header

    def close(self) -> None:
        self.tar.close()


def _ending(blob: Blob) -> str:
    """The ending that tells readers what a file is; content without a known one is ``bin``."""
    ending = PurePosixPath(blob.name.replace("\\", "/")).suffix.lstrip(".").lower()
    return ending if ending in MEDIA else "bin"
