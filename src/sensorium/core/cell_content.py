"""The content of a cell: its own value, or the media file that it names, opened."""

from __future__ import annotations

from typing import Any, Protocol

from sensorium.core.errors import EmptyFileError
from sensorium.core.modality import Blob, Modality


class Opener(Protocol):
    """Opens media cells, or refuses them (``data.files.media_access``)."""

    def open(self, cell: Any, *, row: int | None = None, column: str | None = None) -> Any:
        """Open the file or bytes in ``cell`` of ``row`` and ``column``."""

    def open_several(self, cell: Any, *, row: int | None = None, column: str | None = None) -> list[Any]:
        """Open the files in ``cell`` of ``row`` and ``column``."""


def named_file(modality: type[Modality] | Modality, cell: Any) -> Any:
    """The media ``cell`` of ``modality``, for messages about its file; None where it is the content itself, or no media."""
    return cell if modality.media and not modality.written_out(cell) else None


def content(modality: type[Modality] | Modality, cell: Any, media: Opener, row: int | None, column: str) -> Any:
    """``cell`` as ``fit`` and ``encode`` of ``modality`` receive it: opened by ``media``. ``row`` and ``column`` name it
    in errors."""
    if not modality.media or modality.written_out(cell):
        return cell
    try:
        return (media.open_several if modality.several else media.open)(cell, row=row, column=column)
    except EmptyFileError as error:
        if not modality.empty_files:
            raise
        return Blob(b"", str(error.file))
