"""Writing of generated rows to a folder: a table that ``fit`` reads, with its media, marked as generated."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sensorium.core.answer import Attachment
from sensorium.core.errors import ConfigError
from sensorium.data.files.atomic_write import readable_disk_errors
from sensorium.data.made_rows import MARK, ROWS
from sensorium.reporting.prediction_files import escape_formula


def claim(folder: Path, *, overwrite: bool) -> None:
    """Check that made rows can be written to ``folder``, and empty it of earlier ones.

    Raises:
        ConfigError: It holds anything but made rows, or made rows and ``overwrite`` is not set.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError("is a file, not a folder", file=folder, fix="name a folder: --out made/")
    files = list(folder.iterdir()) if folder.exists() else []
    if not files:
        return
    if not is_made(folder):
        raise ConfigError("is not empty, and holds no made rows", file=folder, fix="name another folder: --out")
    if not overwrite:
        raise ConfigError("holds made rows", file=folder, fix="name another folder, or replace them: --overwrite")
    for path in files:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def is_made(folder: Path) -> bool:
    """Return whether ``folder`` holds generated rows."""
    path = folder / ROWS
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", newline="") as file:
        return MARK in next(csv.reader(file), [])


def write(folder: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write made ``rows`` to ``folder``: ``rows.csv``, and a file for each picture and recording; return their number."""
    with readable_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{ROWS}.part"
        count = 0
        with part.open("w", encoding="utf-8", newline="") as file:
            writer: Any = None
            for count, row in enumerate(rows, 1):
                if writer is None:
                    writer = csv.DictWriter(file, list(row))
                    writer.writeheader()
                writer.writerow({name: _cell(folder, name, cell, count, str(row[MARK])) for name, cell in row.items()})
        part.replace(folder / ROWS)
    return count


def _cell(folder: Path, name: str, cell: Any, row: int, by: str) -> Any:
    """Return ``cell`` as a CSV cell; media are written to a file each."""
    if isinstance(cell, Attachment):
        place = folder / "".join(c if c.isalnum() else "_" for c in name)
        place.mkdir(exist_ok=True)
        path = place / f"{row:05d}{cell.suffix}"
        path.write_bytes(_marked_file(cell, by))
        return path.relative_to(folder).as_posix()
    if isinstance(cell, (list, tuple)):
        return json.dumps(cell)
    return escape_formula(cell)


def _marked_file(medium: Attachment, by: str) -> bytes:
    """Return the bytes of a PNG or WAV file whose metadata state that it was generated."""
    out = io.BytesIO()
    if medium.kind == "audio":
        import soundfile

        with soundfile.SoundFile(out, "w", samplerate=medium.rate, channels=1, format="WAV", subtype="PCM_16") as file:
            file.software, file.comment = "sensorium", f"made by a model: {by}"
            file.write(medium.data)
        return out.getvalue()
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    about = PngInfo()
    about.add_text("Software", "sensorium")
    about.add_text("Comment", f"made by a model: {by}")
    Image.fromarray(np.ascontiguousarray(medium.data)).save(out, format="PNG", pnginfo=about)
    return out.getvalue()
