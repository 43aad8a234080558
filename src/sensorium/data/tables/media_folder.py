"""A folder of media files as a table, with the names of sub-folders as class labels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sensorium.core.errors import DataError
from sensorium.data.tables.text_encoding import AddNote

FILE, LABEL = "file", "label"
FILES = 50_000_000
"""Most files that a folder may hold."""
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".dcm", ".nii", ".nii.gz")
_SOUNDS = (".wav", ".flac", ".ogg", ".mp3", ".m4a", ".opus", ".aiff", ".aif")
_FILMS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg")
MEDIA = frozenset((*_PICTURES, *_SOUNDS, *_FILMS, ".npy", ".ply", ".pcd"))
_PARTS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing"})


def is_media_folder(path: Path) -> bool:
    """Return whether the folder ``path`` or one of its sub-folders holds media files."""
    return path.is_dir() and next(_media(path), None) is not None


def read_folder(path: Path, add_note: AddNote = lambda _: None) -> dict[str, list[Any]]:
    """Return the column ``file`` (sorted relative paths) and, for folders of classes, ``label`` (the names of the folders).

    Args:
        path: The folder.
        add_note: Receives notes on files and folders left out.
    """
    classes = sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))
    files_of = {name: sorted(_media(path / name)) for name in classes}
    empty = [name for name, files in files_of.items() if not files]
    loose = sorted(file for file in _media(path, deep=False))
    if all(name in empty for name in classes):
        return {FILE: loose}
    if empty:
        add_note(f"{path}: no media in {', '.join(empty[:5])}")
    if loose:
        add_note(f"{path}: {len(loose)} files lie outside the folders of the classes and are left out, such as {loose[0]}")
    files = [(f"{name}/{file}", name) for name in classes for file in files_of[name]]
    if len({label for _, label in files}) > 1 and {label for _, label in files} <= _PARTS:
        fix = f"name one: {', '.join(str(path / name) for name in classes)}"
        raise DataError(f"holds the parts of a data set ({', '.join(classes)}), not its classes", file=path, fix=fix)
    return {FILE: [file for file, _ in files], LABEL: [label for _, label in files]}


def _media(folder: Path, *, deep: bool = True) -> Iterator[str]:
    """Relative paths of the media files in a folder, with forward slashes; with ``deep`` in all sub-folders too."""
    count = 0
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if deep else []
        for name in names:
            lower = name.lower()
            if not name.startswith(".") and (os.path.splitext(lower)[1] in MEDIA or lower.endswith(".nii.gz")):
                count += 1
                if count > FILES:
                    raise DataError(
                        f"holds more than {FILES} files", file=folder, fix="write a table that names the files to use"
                    )
                yield Path(os.path.relpath(os.path.join(at, name), folder)).as_posix()
