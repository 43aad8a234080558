"""Which media cells may be opened, and opening them: files under a folder, or uploads only in a server."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from sensorium.core.errors import CellError, EmptyFileError
from sensorium.core.modality import Array, Blob, Folder, is_blank
from sensorium.core.number_lists import read_number_list
from sensorium.data.files.similar_names import nearby
from sensorium.data.plain_media import plain, recognisable
from sensorium.data.shards.references import Packed

MAX_BYTES = 512 * 2**20
"""Default limit on the size of a file, in bytes."""
Opened = Blob | Folder | Array | list[Any] | dict[str, Any]
SEVERAL = 64
"""Most files that one cell may name."""
SLICES = 4096
"""Most files in a folder that one cell names."""
FILE_NAME_REFUSED = "a file may not be named here"
"""The error message for a file name in a request from the network."""
_MARKS = (";", "|", "\n")
_FOLDER_FIX = "name a file, or a folder with the DICOM slices of one scan"


def _spelled(cell: str) -> list[Any] | dict[str, Any] | None:
    """The list or mapping that a cell spells out, as ``[0.1, 0.2]``; None where it is a file name, even ``[1].png``."""
    text = cell.strip()
    if (numbers := read_number_list(text)) is not None:
        return list(numbers)
    if not (text.startswith("[") and text.endswith("]")) and not (text.startswith("{") and text.endswith("}")):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, (list, dict)) else None


def parts(cell: Any) -> list[Any]:
    """Split a cell of several files: a list, its JSON text, ``a.png;b.png`` or a single file.

    Args:
        cell: A non-missing cell.

    Returns:
        The non-blank file names or contents, in order.
    """
    if isinstance(cell, str) and not isinstance(converted := plain(cell, MAX_BYTES), str):
        cell = converted
    if isinstance(cell, str):
        values = _spelled(cell)
        if values is None:
            mark = next((mark for mark in _MARKS if mark in cell), None)
            values = [cell] if mark is None else [part.strip() for part in cell.split(mark)]
        cell = values
    if isinstance(cell, np.ndarray) and cell.dtype == object and cell.ndim == 1:
        cell = cell.tolist()  # how Parquet gives lists
    return (
        [part for part in cell if not is_blank(part)]
        if isinstance(cell, (list, tuple)) and not isinstance(cell, Blob)
        else [cell]
    )


def names_file(cell: Any) -> bool:
    """Return whether a media ``cell`` names a file or holds its bytes, rather than spelling out numbers or text."""
    cell = recognisable(cell) if isinstance(cell, str) else cell
    if isinstance(cell, str):
        return _spelled(cell) is None
    if isinstance(cell, Mapping):
        return "bytes" in cell or "path" in cell
    return isinstance(cell, (Packed, Blob, bytes, bytearray, memoryview, os.PathLike))


def weight_of(opened: Any) -> int:
    """Return the approximate memory in bytes of an ``opened`` cell."""
    if isinstance(opened, Blob):
        return len(opened.data)
    if isinstance(opened, Folder):
        return sum(len(part.data) for part in opened.files)
    if isinstance(opened, np.ndarray):
        return opened.nbytes
    if isinstance(opened, list) and opened and isinstance(opened[0], (Blob, np.ndarray)):
        return sum(map(weight_of, opened))
    return 8 * len(opened) if hasattr(opened, "__len__") else 8


class Media(ABC):
    """Opens media cells. Bytes become a ``Blob``, arrays and lists are passed on; subclasses decide what text may name.

    Args:
        max_bytes: Larger files and uploads are refused before decoding.
    """

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes

    def open(self, cell: Any, *, row: int | None = None, column: str | None = None) -> Opened:
        """Open a non-missing cell.

        Args:
            cell: A file name, bytes, an array, a tensor, a picture or a list.
            row: Row number for error messages.
            column: Column name for error messages.

        Raises:
            CellError: The cell cannot be opened; the error names file, row and column.
        """
        if isinstance(cell, Mapping) and ("bytes" in cell or "path" in cell):
            # How Hugging Face data sets store media in Parquet: bytes and their original name.
            content, name = cell.get("bytes"), cell.get("path")
            if not isinstance(content, (bytes, bytearray, memoryview, type(None))):
                # bytes(n) is n zeros: a few characters of JSON could fill the memory.
                problem = f"its bytes are of type {type(content).__name__}"
                raise CellError(problem, row=row, column=column, fix="give bytes, or leave them out")
            cell = content if name is None else name if content is None else Blob(bytes(content), str(name))
        if not isinstance(cell, (Packed, Blob, np.ndarray, list, Mapping)):
            try:
                cell = plain(cell, self.max_bytes)
            except CellError as error:
                raise CellError(error.problem, row=row, column=column, fix=error.fix) from None
        if isinstance(cell, Packed):
            cell = Blob(cell.read(self.max_bytes), cell.name)
        if isinstance(cell, str) and (spelled := _spelled(cell)) is not None:
            return spelled
        if isinstance(cell, Mapping):
            return dict(cell)
        if isinstance(cell, (str, os.PathLike)):
            return self._path(os.fspath(cell), row, column)
        if isinstance(cell, (bytes, bytearray, memoryview)):
            cell = Blob(bytes(cell), "<bytes>")
        if isinstance(cell, Blob):
            self._check(len(cell.data), cell.name, row, column)
            return cell
        if isinstance(cell, np.ndarray) and cell.dtype == object and cell.ndim == 1:
            return list(cell.tolist())
        if isinstance(cell, (np.ndarray, list)):
            return cell
        if isinstance(cell, tuple):
            return list(cell)
        fix = "a media cell is a file name, bytes, an array, a tensor, a picture or a list"
        what = f"{type(cell).__module__}.{type(cell).__qualname__}".removeprefix("builtins.")
        raise CellError(f"a cell of type {what} cannot be opened", row=row, column=column, fix=fix)

    def open_several(self, cell: Any, *, row: int | None = None, column: str | None = None) -> list[Opened]:
        """Open each file of a cell of several (see ``parts``).

        Args:
            cell: The cell; the size limit applies to each file and to all together.
            row: Row number for error messages.
            column: Column name for error messages.

        Raises:
            CellError: A file cannot be opened, or there are more than ``SEVERAL``.
        """
        contents = parts(cell)
        if not 1 <= len(contents) <= SEVERAL:
            problem = f"{len(contents)} files in one cell, not 1 to {SEVERAL}"
            raise CellError(problem, row=row, column=column)
        opened: list[Opened] = []
        total = 0
        for part in contents:
            opened.append(self.open(part, row=row, column=column))
            total += len(opened[-1].data) if isinstance(opened[-1], Blob) else 0
            self._check(max(total, 1), f"{len(contents)} files", row, column)
        return opened

    def _check(self, size: int, name: str, row: int | None, column: str | None) -> None:
        if size == 0:
            raise EmptyFileError(
                "the file is empty (0 bytes)", file=name, row=row, column=column, fix="copy it again, or clear the cell"
            )
        if size > self.max_bytes:
            problem = f"{size / 2**20:.0f} MiB, more than the limit of {self.max_bytes / 2**20:.0f} MiB"
            raise CellError(problem, file=name, row=row, column=column, fix="cut or shrink it, or raise max_bytes")

    @abstractmethod
    def _path(self, cell: str, row: int | None, column: str | None) -> Blob | Folder: ...


class Uploads(Media):
    """Media access for requests from the network: file names are refused, since they would expose the server's files."""

    def _path(self, cell: str, row: int | None, column: str | None) -> Blob:
        fix = "send the content itself, as an upload"
        raise CellError(FILE_NAME_REFUSED, file=f"{cell:.80}", row=row, column=column, fix=fix)


UPLOADS_ONLY = Uploads()


class LocalFiles(Media):
    """Media access for tables on disk: a text cell is a path relative to ``root`` and may not lead out of it.

    Symbolic links are judged by their targets. Names are tried as written, then without surrounding blanks, with the other
    slash, and in the other Unicode normal form (macOS writes é as two characters).

    Args:
        root: The folder that relative paths start from.
        anywhere: Whether paths may lead out of ``root``, as in a user's own table.
        max_bytes: Larger files are refused before they are read.
    """

    SEARCHES = 20
    """Missing files for which similar names are looked up; a table with a wrong root must not take forever."""

    def __init__(self, root: Path | str, *, anywhere: bool = False, max_bytes: int = MAX_BYTES) -> None:
        super().__init__(max_bytes=max_bytes)
        self.root = Path(root).absolute()
        self.anywhere = anywhere
        self._base = str(self.root)
        self._real = Path(os.path.realpath(self.root))
        self._searches = 0

    def _path(self, cell: str, row: int | None, column: str | None) -> Blob | Folder:
        def error_for(problem: str, fix: str | None = None) -> CellError:
            return CellError(problem, file=f"{cell:.200}", row=row, column=column, fix=fix)

        if "\0" in cell:
            raise error_for("not a file name")
        if "://" in cell[:12]:
            raise error_for("an address, not a file", "download the files first and name them in the table")
        with contextlib.suppress(OSError, ValueError):
            folder = Path(os.path.join(self._base, cell))
            if folder.is_dir() and self._allowed(folder):
                return self._folder(folder, error_for, cell, row, column)
        if self.anywhere:
            # The common case: the cell names its file exactly. Anything else is resolved below.
            with contextlib.suppress(OSError, ValueError):
                return Blob(self._bytes(os.path.join(self._base, cell), error_for, cell, row, column), cell)
        try:
            path = next((p for p in self._spellings(cell) if self._allowed(p) and p.exists()), self.root / cell)
            if not self._allowed(path):
                raise error_for(f"leads out of {self.root}", "name files under that folder")
            if not path.exists():
                raise error_for(f"no such file under {self.root}", self._near(path))
            return Blob(self._bytes(path, error_for, cell, row, column), cell)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise error_for(f"cannot be read: {reason}", "is this column really a column of files?") from None

    def _folder(self, folder: Path, error_for: Any, cell: str, row: int | None, column: str | None) -> Folder:
        """The DICOM slices of a scan that are separate files in a folder."""
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in islice(entries, SLICES + 1) if not e.name.startswith("."))
        names = [name for name in names if os.path.splitext(name)[1].lower() in ("", ".dcm", ".ima")]
        if not names or len(names) > SLICES:
            problem = "is a folder, not a file" if not names else f"holds more than {SLICES} files"
            raise error_for(problem, _FOLDER_FIX)
        slices, total = [], 0
        for name in names:
            path = folder / name
            if path.is_dir() or not self._allowed(path):
                continue
            data = self._bytes(path, error_for, cell, row, column)
            if data[128:132] == b"DICM":
                slices.append(Blob(data, name))
                total += len(data)
                self._check(total, cell, row, column)
        if not slices:
            raise error_for("is a folder, not a file", _FOLDER_FIX)
        return Folder(tuple(slices), cell)

    def _spellings(self, cell: str) -> Iterator[Path]:
        yield self.root / cell
        for other in (cell.strip(), cell.replace("\\", "/")):
            yield self.root / other
            yield from (self.root / unicodedata.normalize(form, other) for form in ("NFC", "NFD"))

    def _allowed(self, path: Path) -> bool:
        return self.anywhere or Path(os.path.realpath(path)).is_relative_to(self._real)

    def _near(self, path: Path) -> str | None:
        if len(str(path)) > 1000:
            return "is this column really a column of files?"
        self._searches += 1
        return nearby(path) if self._searches <= self.SEARCHES else None

    def _bytes(self, path: Path | str, error_for: Any, cell: str, row: int | None, column: str | None) -> bytes:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise error_for("is a folder, not a file")
        # A pipe or a device could block for ever, or never end.
        if not stat.S_ISREG(mode):
            raise error_for("is not a regular file")
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            size = os.fstat(handle).st_size
            self._check(size, cell, row, column)
            # One byte more than its size, so that one read reaches the end; a file that grows meanwhile is cut there.
            data = os.read(handle, size + 1)
            while 0 < len(data) < size and (more := os.read(handle, size - len(data))):
                data += more
        finally:
            os.close(handle)
        self._check(len(data), cell, row, column)
        return data
