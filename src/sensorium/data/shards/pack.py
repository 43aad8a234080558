"""Packing of a table with its media into shards, row by row, in constant memory."""

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
from sensorium.core.cell_content import Opener
from sensorium.core.errors import CellError, ConfigError, DataError, MissingExtraError
from sensorium.core.modality import Blob, Modality, is_blank
from sensorium.core.problem import Problem, add_problem
from sensorium.data.files.atomic_write import check_writable
from sensorium.data.files.media_access import names_file, parts
from sensorium.data.inspection.type_inference import infer_types
from sensorium.data.shards.shard_folder import ENDINGS, FORMAT, MANIFEST, file_digest, manifest_digest
from sensorium.data.shards.tar_shards import MEDIA
from sensorium.data.tables.table import Table

GROUP_BYTES, GROUP_ROWS = 2 << 20, 1024
"""Size of a Parquet row group, which is the unit of reading and therefore small."""

_SHARD_NAME = re.compile(r"shard-\d{5,}\.(parquet|tar)|\.shard-\d{5,}\.(parquet|tar)\.part")

Format = Literal["parquet", "tar"]
Packing = Callable[[int, int], None]
"""Receives the number of rows done and the total."""


def pack(
    table: Table,
    out: Path,
    *,
    media: Opener,
    columns: Mapping[str, Any] | None = None,
    format: Format = "parquet",
    rows_per_shard: int = 10_000,
    megabytes: float = 256.0,
    overwrite: bool = False,
    progress: Packing | None = None,
) -> list[Problem]:
    """Write a table, with the files that its cells name, as shards in a folder.

    Args:
        table: The table.
        out: The folder; made if need be.
        media: Opens media cells.
        columns: The kind of a column, by name, where the inferred one is wrong, with its options if they say that cells
            name several files: ``{"kind": "mask", "files": ["lung", "heart"]}``. Only media columns are packed, others
            are copied as they are.
        format: ``parquet`` or ``tar`` (WebDataset).
        rows_per_shard: Most rows in a shard.
        megabytes: A shard is closed once its media reach this size.
        overwrite: Whether shards in ``out`` may be replaced; those of an interrupted packing always are.
        progress: Receives progress.

    Returns:
        The cells that could not be opened; they are packed as missing.
    """
    if rows_per_shard < 1 or not megabytes > 0:
        raise ConfigError(
            "rows per shard must be at least 1, and megabytes positive", fix="--rows-per-shard 10000 --megabytes 256"
        )
    fix = "name another folder; or replace them: --overwrite (in Python: overwrite=True)"
    if (out / MANIFEST).exists() and not overwrite:
        raise DataError("holds packed shards already", file=out, fix=fix)
    if any(table.source == str(place) for place in (out, out / MANIFEST)):
        raise DataError("is the input table", file=out, fix="name another folder")
    if not len(table):
        raise DataError("the table has no rows", file=table.source)
    media_columns = _media_columns(table, columns or {})
    check_writable(out)
    out.mkdir(parents=True, exist_ok=True)
    _clear(out, overwrite)
    writer_type = _Parquet if format == "parquet" else _Tar
    plain = {name: _plain_cells(table.column(name)) for name in table.columns if name not in media_columns}
    problems: list[Problem] = []
    entries: list[dict[str, Any]] = []
    row = 0
    while row < len(table):
        name = f"shard-{len(entries):05d}.{format}"
        part = out / f".{name}.part"
        shard = writer_type(part, list(plain), plain, media_columns)
        try:
            first_row, size = row, 0
            while row < len(table) and row - first_row < rows_per_shard and size < megabytes * 2**20:
                cells = {
                    column: _open_cell(table, row, column, media, several, problems)
                    for column, several in media_columns.items()
                }
                shard.add(row, {column: kept[row] for column, kept in plain.items()}, cells)
                size += sum(len(blob.data) for cell in cells.values() for blob in cell or ())
                row += 1
                if progress is not None:
                    progress(row, len(table))
        finally:
            shard.close()
        _sync(part)
        entry = {"file": name, "rows": row - first_row, "bytes": part.stat().st_size, "sha256": file_digest(part)}
        # Listed before it is moved into place, so that the next run recognises an interrupted packing's shards.
        _write(out / f".{MANIFEST}.part", {"shards": [*entries, entry]})
        os.replace(part, out / name)
        entries.append(entry)
    slugs = _slugs(media_columns)
    manifest = {
        "format": FORMAT,
        "sensorium": __version__,
        "rows": len(table),
        "columns": {name: {"media": name in media_columns, "field": slugs.get(name)} for name in table.columns},
        "target": table.target,
        "annotations": list(table.annotations),
        "shards": entries,
    }
    part = out / f".{MANIFEST}.part"
    _write(part, manifest | {"sha256": manifest_digest(manifest)})
    os.replace(part, out / MANIFEST)
    return problems


def _write(path: Path, manifest: Mapping[str, Any]) -> None:
    path.unlink(missing_ok=True)  # removes a link, not its target
    path.write_text(json.dumps(manifest, ensure_ascii=False, indent=1), encoding="utf-8")
    _sync(path)


def _clear(out: Path, overwrite: bool) -> None:
    """Delete the shards of an interrupted packing and, with ``overwrite``, of a finished one, as their manifests list them.

    Any other shard is refused, rather than mixed with new ones or deleted.
    """
    listed = _shard_names(out / f".{MANIFEST}.part") | (_shard_names(out / MANIFEST) if overwrite else set())
    files = [file for file in out.iterdir() if file.is_file() and not file.is_symlink()]
    deletable = [
        file for file in files if _SHARD_NAME.fullmatch(file.name) and (file.name in listed or file.suffix == ".part")
    ]
    foreign = sorted(file.name for file in out.iterdir() if file.suffix in ENDINGS and file not in deletable)
    if foreign:
        fix = "name another folder, or delete them if nothing needs them"
        raise DataError(
            f"holds {foreign[0]!r:.120} and perhaps other shards, which were not packed here", file=out, fix=fix
        )
    (out / MANIFEST).unlink(missing_ok=True)  # first, so that a partial deletion does not look like a table
    for file in deletable:
        file.unlink()


def _shard_names(manifest: Path) -> set[str]:
    """File names of the shards that a manifest lists; none where it is truncated."""
    if not manifest.is_file() or manifest.is_symlink():
        return set()
    try:
        return {str(line["file"]) for line in json.loads(manifest.read_text(encoding="utf-8"))["shards"]}
    except (ValueError, KeyError, TypeError):
        return set()


def _media_columns(table: Table, choices: Mapping[str, Any]) -> dict[str, bool]:
    """The columns whose cells are files, and whether a cell may hold several."""
    for name in choices:
        table.column(name)
    several_of = {}
    kinds = {name: choice if isinstance(choice, str) else registry.split(choice)[0] for name, choice in choices.items()}
    for name, guessed in infer_types(table, overrides=kinds).items():
        kind = registry.find("modalities", guessed.kind) if guessed.kind else None
        if kind is None or not kind.media:
            continue
        # Options may decide whether a cell names several files: a mask with a file for each class.
        chosen = choices.get(name)
        several = kind.several if chosen is None or isinstance(chosen, str) else bool(_reader(chosen, name).several)
        filled = [cell for cell in table.column(name) if not is_blank(cell)]
        if not several and any(_several_files(cell) for cell in filled):
            fix = f"say of which class each file is: --as '{name}={{kind: mask, files: [lung, heart]}}'"
            raise DataError(
                f"some cells name several files, and {guessed.kind} reads one",
                file=table.source,
                column=name,
                fix=fix if guessed.kind == "mask" else "name one file in each cell, or leave out --as",
            )
        files = sum(
            not kind.written_out(cell) and all(map(names_file, parts(cell) if several else [cell])) for cell in filled
        )
        if files == 0:
            continue  # numbers or text in the cell itself
        if files < len(filled):
            fix = "make them one kind of cell, or pack the column as text: --as COLUMN=text"
            raise DataError("some cells name files and some do not", file=table.source, column=name, fix=fix)
        several_of[name] = several
    return several_of


def _reader(spec: Mapping[str, Any], column: str) -> Modality:
    """The modality of a column's ``spec``; an error names the column."""
    try:
        reader: Modality = registry.build("modalities", spec)
    except ConfigError as error:
        raise ConfigError(error.problem, column=column, fix=error.fix) from None
    return reader


def _several_files(cell: Any) -> bool:
    """Whether a cell names more than one file: ``a.png;b.png``, or a list."""
    try:
        files = parts(cell)
    except CellError:
        return False  # opening it says why
    return len(files) > 1 and all(map(names_file, files))


Cell = list[Blob] | None


def _open_cell(table: Table, row: int, column: str, media: Opener, several: bool, problems: list[Problem]) -> Cell:
    cell = table.column(column)[row]
    if is_blank(cell):
        return None
    try:
        opened = (media.open_several if several else media.open)(cell, row=table.number(row), column=column)
    except CellError as error:
        file = error.file or (cell if isinstance(cell, str) else None)
        add_problem(problems, table.number(row), column, file, error.problem, fix=error.fix)
        return None
    contents = opened if several else [opened]
    blobs = [part for part in contents if isinstance(part, Blob)]
    assert len(blobs) == len(contents), "a cell that names files opens as files"
    return blobs


def _plain_cells(cells: Sequence[Any]) -> Sequence[Any]:
    """Cells as both formats can hold them: text and numbers unchanged, anything else as JSON text."""
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
    """A distinct name for each media column that is valid in a file name."""
    slugs: dict[str, str] = {}
    for name in columns:
        slug = re.sub(r"[^0-9A-Za-z_-]+", "_", name) or "media"
        slugs[name] = slug if slug not in slugs.values() else f"{slug}_{len(slugs)}"
    return slugs


def _sync(path: Path) -> None:
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
    """Parquet shards: media as structs of bytes and path, as Hugging Face stores them, in row groups of a few megabytes."""

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
        # Media are compressed already.
        compression = dict.fromkeys(names, "zstd") | {
            f"{name}.{'list.element.' if several else ''}{leaf}": "none"
            for name, several in media.items()
            for leaf in ("bytes", "path")
        }
        self.writer = parquet.ParquetWriter(
            path, self.schema, compression=compression, use_dictionary=names, store_schema=True
        )
        self.rows: list[dict[str, Any]] = []
        self.size = 0

    def add(self, row: int, cells: dict[str, Any], media: dict[str, Cell]) -> None:
        for name, contents in media.items():
            blobs = None if contents is None else [{"bytes": blob.data, "path": blob.name} for blob in contents]
            cells[name] = blobs if blobs is None or self.media[name] else blobs[0]
            self.size += sum(len(blob.data) for blob in contents or ())
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
    """Tar shards in the layout of WebDataset: ``000000012.json`` for plain cells, ``000000012.photo.jpg`` for a file."""

    def __init__(self, path: Path, names: list[str], plain: Mapping[str, Sequence[Any]], media: Mapping[str, bool]) -> None:
        self.tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed by ``close``
        self.media, self.slugs = media, _slugs(media)

    def add(self, row: int, cells: dict[str, Any], media: dict[str, Cell]) -> None:
        for name, contents in media.items():
            names = None if contents is None else [blob.name for blob in contents]
            cells[name] = names if names is None or self.media[name] else names[0]
        key = f"{row:09d}"
        self._member(f"{key}.json", json.dumps(cells, ensure_ascii=False).encode())
        for name, contents in media.items():
            for i, blob in enumerate(contents or ()):
                part = f".{i}" if self.media[name] else ""
                self._member(f"{key}.{self.slugs[name]}{part}.{_ending(blob)}", blob.data)

    def _member(self, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        self.tar.addfile(member, io.BytesIO(data))
        self.tar.members = []  # type: ignore[attr-defined] # otherwise it keeps every header in memory

    def close(self) -> None:
        self.tar.close()


def _ending(blob: Blob) -> str:
    """The suffix of a member, which gives readers the type of its content; ``bin`` where it is unknown."""
    ending = PurePosixPath(blob.name.replace("\\", "/")).suffix.lstrip(".").lower()
    return ending if ending in MEDIA else "bin"
