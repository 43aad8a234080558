"""Columns of names of unsupported files, which would be learnt as words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sensorium.core.modality import is_blank
from sensorium.data.tables.table import Table

CHECKED = 1000
_FILE = re.compile(r"[^\n]{1,300}\.([a-z][a-z0-9]{0,5})", re.IGNORECASE)
_PICTURE = "convert them to PNG or JPEG"
_SOUND = "convert them to WAV or FLAC"
_ARRAY = "save each array as a file of its own with numpy.save (.npy)"
_WORDS = "put the text itself into the cells"
REMEDIES = {
    **dict.fromkeys(("heic", "heif", "avif", "jxl", "jp2", "psd", "svg", "cr2", "nef", "arw", "dng", "raw"), _PICTURE),
    **dict.fromkeys(("wma", "amr", "aac", "ape", "mid", "midi"), _SOUND),
    **dict.fromkeys(("npz", "mat", "h5", "hdf5", "pkl", "pickle", "pt", "pth", "zarr", "edf", "fif", "wfdb"), _ARRAY),
    **dict.fromkeys(("txt", "md", "html", "htm", "pdf", "doc", "docx", "rtf", "odt", "xml"), _WORDS),
    **dict.fromkeys(("zip", "gz", "tar", "rar", "7z"), "unpack them, and name the files within"),
}


def unread(cells: Sequence[Any]) -> str | None:
    """Return what is wrong with ``cells`` that mostly name unsupported files, and the remedy; None otherwise."""
    filled = [cell for cell in cells if not is_blank(cell)][:CHECKED]
    texts = [cell.strip() for cell in filled if isinstance(cell, str)]
    matches = [_FILE.fullmatch(text) for text in texts]
    endings = Counter(match[1].lower() for match in matches if match is not None)
    unsupported = {ending: count for ending, count in endings.items() if ending in REMEDIES}
    count = sum(unsupported.values())
    if not count or count <= 0.8 * len(filled):
        return None
    ending = max(unsupported, key=lambda name: unsupported[name])
    return f"{count} of {len(filled)} cells name .{ending} files, which are not read: {REMEDIES[ending]}"


def unread_columns(table: Table, kinds: Mapping[str, str]) -> list[str]:
    """Return a warning for each column of words or categories that names unsupported files.

    Args:
        table: The table.
        kinds: The modality of each column to check.
    """
    warnings = []
    for name, kind in kinds.items():
        if kind in ("text", "category", "tags", "part_of_speech", "") and table.has(name):
            problem = unread(table.column(name))
            if problem is not None:
                warnings.append(f"column {name!r}: {problem}")
    return warnings
