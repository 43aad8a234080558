"""Tables in memory, read from files, frames or Python collections."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sensorium.core.errors import DataError, nearest
from sensorium.core.plurals import counted
from sensorium.data.files.similar_names import nearby
from sensorium.data.shards.shard_folder import is_sharded, read_shards
from sensorium.data.tables.annotated_columns import AnnotatedColumns
from sensorium.data.tables.columnar import FRAMES, read_columnar
from sensorium.data.tables.compressed import COMPRESSED, inner_suffix
from sensorium.data.tables.conversations import spread
from sensorium.data.tables.delimited import read_delimited
from sensorium.data.tables.json_tables import from_records, read_json, read_jsonl
from sensorium.data.tables.media_folder import LABEL, is_media_folder, read_folder
from sensorium.data.tables.surrogates import mend
from sensorium.data.tables.text_encoding import AddNote
from sensorium.data.tables.workbook import read_workbook

Columns = dict[str, list[Any]]
READERS: dict[str, Callable[[Path, AddNote], Columns]] = {
    ".csv": lambda path, add_note: read_delimited(path, None, add_note),
    ".tsv": lambda path, add_note: read_delimited(path, "\t", add_note),
    ".txt": lambda path, add_note: read_delimited(path, None, add_note),
    ".psv": lambda path, add_note: read_delimited(path, "|", add_note),
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".xlsx": read_workbook,
    ".xlsm": read_workbook,
    ".parquet": read_columnar,
    ".arrow": read_columnar,
    ".feather": read_columnar,
    ".tar": lambda path, _: read_shards(path),
}
TEXT = (".csv", ".tsv", ".txt", ".psv", ".jsonl", ".ndjson", ".json")
"""Formats that may be compressed by another program; the others have compression of their own."""
STDIN = "-"
_STDIN_LIMIT = 16 * 2**30


class Table:
    """Rows and named columns in memory. Cells are as the source has them (CSV: text); a modality interprets them later.

    Args:
        columns: Cells by column, of equal length.
        source: What messages call the table: the path of its file, or ``<rows>`` and the like.
        root: The folder that relative media paths start from; by default that of the file, else the current one.
        numbers: Row numbers in the source, counted from 1, so that part of a table reports them correctly.
        notes: Notes to the user on how it was read, such as a fallback encoding.
        target: The default target column: the class labels of a folder of media, the boxes of annotated images.
        annotations: Columns that are annotated, of which some may be targets; the others are no inputs.
    """

    def __init__(
        self,
        columns: Mapping[str, Sequence[Any]],
        *,
        source: str = "<table>",
        root: Path | None = None,
        numbers: Sequence[int] | None = None,
        notes: Sequence[str] = (),
        target: str | None = None,
        annotations: Sequence[str] = (),
    ) -> None:
        self.notes, self.target, self.annotations = tuple(notes), target, tuple(annotations)
        self._cells = {name: cells if isinstance(cells, list) else list(cells) for name, cells in columns.items()}
        self.source = source
        self.root = root
        lengths = {name: len(cells) for name, cells in self._cells.items()}
        if len(set(lengths.values())) > 1:
            sizes = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise DataError(
                f"the columns differ in length: {sizes}", file=source, fix="give each column a cell for every row"
            )
        self._rows = next(iter(lengths.values()), len(numbers or ()))
        self._numbers = numbers

    @classmethod
    def read(cls, source: Any, *, root: Path | str | None = None) -> Table:
        """Read a table.

        Args:
            source: A path (.csv, .jsonl, .parquet, ..., a folder of shards or media, ``-`` for standard input), a frame,
                rows, columns or a ``Table``.
            root: The folder that relative media paths start from, if not the table's own.

        Raises:
            DataError: The source is not a table or cannot be read.
        """
        media_root = None if root is None else Path(root)
        if isinstance(source, Table):
            return source if media_root is None else source._with(source._cells, root=media_root)
        notes: list[str] = []
        if isinstance(source, (str, os.PathLike)):
            return _from_path(Path(source), media_root, notes)
        root = media_root or Path.cwd()
        for name, matches, columns in FRAMES:
            if matches(source):
                read = _tidied(columns(source, name, notes.append), name, notes.append)
                return cls(read, source=name, root=root, notes=notes)
        if isinstance(source, Mapping):
            columns_read = {}
            for key, cells in source.items():
                if hasattr(cells, "column_names"):
                    fix = f"name one: data[{key!r}]"
                    raise DataError("these are the parts of a data set, not one table", file="<columns>", fix=fix)
                if isinstance(cells, (str, bytes)) or not isinstance(cells, Iterable):
                    fix = "for one row write [{column: cell}], for columns {column: [cell, ...]}"
                    problem = f"not a column of cells but a {type(cells).__name__}"
                    raise DataError(problem, file="<columns>", column=str(key), fix=fix)
                columns_read[str(key)] = _plain(cells)
            columns_read = _tidied(columns_read, "<columns>", notes.append)
            return cls(columns_read, source="<columns>", root=root, notes=notes)
        if isinstance(source, Iterable) and not isinstance(source, (bytes, bytearray)):
            records = list(source)
            # The numbers give the number of rows where no row has a cell.
            numbers = range(1, len(records) + 1)
            columns_read = _tidied(from_records(records, "<rows>"), "<rows>", notes.append)
            return cls(columns_read, source="<rows>", root=root, numbers=numbers, notes=notes)
        fix = "give a path, a DataFrame, a list of rows ({column: cell}) or columns ({column: [cells]})"
        raise DataError(f"a {type(source).__name__} is not a table", fix=fix)

    @property
    def columns(self) -> list[str]:
        """The column names, in order."""
        return list(self._cells)

    def __len__(self) -> int:
        return self._rows

    def __repr__(self) -> str:
        return f"Table({self.source}: {counted(len(self), 'row')}; {', '.join(self.columns)})"

    def has(self, name: str) -> bool:
        """Return whether there is a column ``name``."""
        return name in self._cells

    def column(self, name: str) -> list[Any]:
        """Return the cells of column ``name``, not a copy; ``DataError`` where there is none."""
        if name not in self._cells:
            raise DataError(f"no column named {name!r}{nearest(name, self.columns)}", file=self.source)
        return self._cells[name]

    def row(self, i: int) -> dict[str, Any]:
        """Return row ``i`` as a mapping of column to cell."""
        return {name: cells[i] for name, cells in self._cells.items()}

    def rows(self) -> Iterator[dict[str, Any]]:
        """Iterate over the rows as mappings of column to cell."""
        return (self.row(i) for i in range(len(self)))

    def number(self, i: int) -> int:
        """Return the number of row ``i`` in the source, counted from 1, as messages give it."""
        return i + 1 if self._numbers is None else self._numbers[i]

    def take(self, indices: Iterable[int]) -> Table:
        """Return a table of the rows at ``indices``, in that order."""
        index = [int(i) for i in indices]
        cells = {name: [column[i] for i in index] for name, column in self._cells.items()}
        return self._with(cells, numbers=[self.number(i) for i in index])

    def concatenated(self, other: Table) -> Table:
        """Return a table of these rows followed by those of ``other``, another part of the same table."""
        cells = {name: [*column, *other.column(name)] for name, column in self._cells.items()}
        return self._with(cells, numbers=[part.number(i) for part in (self, other) for i in range(len(part))])

    def with_column(self, name: str, values: Sequence[Any]) -> Table:
        """Return the table with column ``name`` added or replaced by ``values``."""
        return self._with({**self._cells, name: list(values)})

    def _with(
        self, cells: dict[str, list[Any]], *, root: Path | None = None, numbers: Sequence[int] | None = None
    ) -> Table:
        return Table(
            cells,
            source=self.source,
            root=root or self.root,
            numbers=numbers or self._numbers,
            notes=self.notes,
            target=self.target,
            annotations=self.annotations,
        )


def _plain(cells: Any) -> list[Any]:
    if hasattr(cells, "to_pylist"):  # Arrow
        return list(cells.to_pylist())
    if hasattr(cells, "to_list"):  # pandas, polars
        return list(cells.to_list())
    is_vector = getattr(cells, "ndim", 0) == 1 and hasattr(cells, "tolist")
    return list(cells.tolist()) if is_vector else list(cells)


def _from_path(path: Path, root: Path | None, notes: list[str]) -> Table:
    if str(path) == STDIN:
        return _from_stdin(root, notes)
    if path.is_dir() and not is_sharded(path) and is_media_folder(path):
        columns = read_folder(path, notes.append)
        target = LABEL if LABEL in columns else None
        return Table(columns, source=str(path), root=root or path.absolute(), notes=notes, target=target)
    columns = _read(path, notes.append)
    target, annotations = (columns.target, columns.annotations) if isinstance(columns, AnnotatedColumns) else (None, ())
    root = root or path.absolute().parent
    return Table(columns, source=str(path), root=root, notes=notes, target=target, annotations=annotations)


def _from_stdin(root: Path | None, notes: list[str]) -> Table:
    """Read standard input through a temporary file, since some formats are read from their ends."""
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None or sys.stdin.isatty():
        raise DataError("there is nothing on standard input", fix="pipe a table into the command, or name a file")
    with tempfile.TemporaryDirectory(prefix="sensorium-") as folder:
        part = Path(folder) / "stdin"
        with part.open("wb") as file:
            remaining = _STDIN_LIMIT
            while remaining > 0 and (data := stream.read(min(2**20, remaining))):
                remaining -= file.write(data)
            if remaining <= 0:
                raise DataError(f"more than {_STDIN_LIMIT // 2**30} GiB on standard input", fix="write it to a file")
        path = part.rename(part.with_suffix(_suffix_of(part)))
        try:
            columns = _read(path, lambda note: notes.append(note.replace(str(path), "<stdin>")))
        except DataError as error:
            problem = error.problem.replace(str(path), "<stdin>")
            raise DataError(problem, file="<stdin>", row=error.row, column=error.column, fix=error.fix) from None
    return Table(columns, source="<stdin>", root=root or Path.cwd(), notes=notes)


def _suffix_of(path: Path) -> str:
    """The suffix of a file's format, recognised by its first bytes."""
    with path.open("rb") as file:
        head = file.read(4096)
    magic = {b"PAR1": ".parquet", b"ARROW1": ".feather", b"PK\3\4": ".xlsx", b"\xff\xff\xff\xff": ".arrow"}
    suffix = next((ending for mark, ending in magic.items() if head.startswith(mark)), None)
    if suffix is not None:
        return suffix
    compressors = {b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\xfd7zXZ\0": ".xz"}
    ending = next((ending for mark, ending in compressors.items() if head.startswith(mark)), "")
    if ending:
        from sensorium.data.tables.compressed import open_decompressed

        inner = path.with_suffix(ending)
        inner.hardlink_to(path)
        with open_decompressed(inner) as file:
            head = file.read(4096)
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    # The .json reader accepts one object per line too.
    return (".json" if start in (b"[", b"{") else ".csv") + ending


def _tidied(columns: Columns, source: str, add_note: AddNote) -> Columns:
    """Return columns that were given in memory as files are read: names and cells mended, conversations spread."""
    return spread(mend(columns, source, add_note), source, add_note)


def _read(path: Path, add_note: AddNote) -> Columns:
    if is_sharded(path):
        return read_shards(path)
    if path.is_dir():
        fix = (
            f"name a file in it ({', '.join(READERS)}), or a folder of pictures or recordings in folders named for classes"
        )
        raise DataError("is a folder, not a table", file=path, fix=fix)
    if not path.exists():
        raise DataError("no such file", file=path, fix=nearby(path))
    if not path.is_file():
        raise DataError("is not a regular file", file=path)
    suffix = inner_suffix(path)
    reader = READERS.get(suffix)
    if reader is None:
        described = suffix or "a file without an extension"
        fix = f"tables are read from {', '.join(READERS)}"
        if suffix in (".xls", ".ods", ".numbers"):
            fix = "open it in a spreadsheet and save it as .xlsx or CSV"
        elif suffix in (".sdf", ".sd", ".mol"):
            fix = "it is a cell; one of several molecules: split it after each line $$$$, and name a part in each row"
        raise DataError(f"cannot tell what {described} is", file=path, fix=fix)
    if path.suffix.lower() in COMPRESSED and suffix not in TEXT:
        raise DataError(f"{suffix} is already compressed", file=path, fix="expand it, and name the result")
    try:
        return reader(path, add_note)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", file=path) from None
