"""Media files that the rows of an index name, for a page that shows them."""

from __future__ import annotations

from sensorium.core.errors import CellError, ConfigError, nearest
from sensorium.core.modality import Blob, is_blank
from sensorium.data.files.media_access import LocalFiles
from sensorium.retrieval.index import Index
from sensorium.retrieval.index_files import REPAIR


def media_columns(index: Index) -> list[str]:
    """Return the shown columns of ``index`` whose cells are media files."""
    media = {column.source for column in index.predictor.schema.read if column.reader.media}
    return [column for column in index.columns if column in media]


def open_cell(index: Index, identifier: str, column: str, *, max_bytes: int) -> Blob:
    """Return the file that a shown media cell names, from within the folder of its table.

    Args:
        index: The index.
        identifier: The row.
        column: A column of ``media_columns``.
        max_bytes: Larger files are not read.

    Raises:
        ConfigError: There is no such row or column, or the index does not say where its media are.
        CellError: The cell is empty, or its file is absent, too large or outside the folder of its table.
    """
    known = media_columns(index)
    if column not in known:
        raise ConfigError(f"the index shows no media in {column!r}{nearest(column, known)}")
    place, contents = index.place_of(identifier), index.contents
    if not contents.folders:
        raise ConfigError("does not say where its media are", file=index.folder, fix=REPAIR)
    cell = contents.cells[column][place]
    root = index.folder / contents.folders[contents.folder_of[place]]
    opened = None if is_blank(cell) else LocalFiles(root, max_bytes=max_bytes).open(cell, column=column)
    if not isinstance(opened, Blob):
        raise CellError("holds no file", column=column)
    return opened


SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\x1a\x45\xdf\xa3", "video/webm"),
)
RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}


def browser_type(data: bytes) -> str | None:
    """Return the media type of a file that browsers show or play, by its first bytes; None for others.

    Formats that can hold scripts (SVG, HTML, PDF) are not among them.

    Args:
        data: The contents of the file.
    """
    if data[:4] == b"RIFF":
        return RIFF.get(data[8:12])
    if data[4:8] == b"ftyp":
        return "video/mp4"
    return next((kind for signature, kind in SIGNATURES if data.startswith(signature)), None)
