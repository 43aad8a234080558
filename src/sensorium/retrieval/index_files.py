"""The files of an index: strict JSON and plain float32 numbers, each verified by its SHA-256.

idx/
  index.json     format, the model it was made with, size and SHA-256 of each file below; written last
  rows.json      the identifier and the shown cells of every row
  sides.u8       which sides each row has, [sides, rows], one byte each
  vectors.f32    unit vectors [sides, rows, width], little-endian float32; memory-mapped when read

and of an approximate index of many rows (``coarse_cells``)

  centres.f32    the centres of the cells of each side [sides, cells, width], little-endian float32
  cells.i32      the cell of each row in each side [sides, rows], little-endian int32, -1 where it lacks the side
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium import __version__
from sensorium.core.errors import ArtifactError
from sensorium.core.safe_files import open_regular, read_regular
from sensorium.core.safe_json import read_json
from sensorium.data.files.atomic_write import write_together
from sensorium.retrieval.coarse_cells import LEAST, CoarseCells

FORMAT = 2
"""The newest format; an index that is not approximate is written as format 1, which earlier versions read."""
MANIFEST, ROWS, SIDES, VECTORS = "index.json", "rows.json", "sides.u8", "vectors.f32"
CENTRES, CELLS = "centres.f32", "cells.i32"
MANIFEST_LIMIT = 1 << 20
ROWS_LIMIT = 4 << 30
BLOCK = 1 << 24
"""Bytes that are hashed at a time."""
REPAIR = "make it again: sensorium index RUN TABLE --out INDEX --overwrite"


@dataclass(frozen=True)
class Contents:
    """The contents of an index.

    Args:
        model: The digest of the model it was made with.
        run: The folder of that model, relative to the index; empty if it was never saved.
        task: The task in whose space the rows lie.
        sides: The names of the sides.
        ids: The identifier of each row.
        cells: The shown cells by column.
        following: The number that the next row without an identifier gets.
        present: Which sides each row has ``[sides, rows]``.
        vectors: Unit vectors ``[sides, rows, width]`` float32, zero where a side is absent.
        folders: Folders that media of the rows are relative to, each relative to the index.
        folder_of: For each row the number of its folder; empty in an index that names none.
        approximate: Whether search is approximate once there are ``coarse_cells.LEAST`` rows.
        coarse: The cells of an approximate index of that many rows, as read from disk.
    """

    model: str
    run: str
    task: str
    sides: tuple[str, ...]
    ids: list[str]
    cells: dict[str, list[Any]]
    following: int
    present: NDArray[np.bool_]
    vectors: NDArray[np.float32]
    folders: tuple[str, ...] = ()
    folder_of: list[int] = field(default_factory=list)
    approximate: bool = False
    coarse: CoarseCells | None = None


def write_index(folder: Path, contents: Contents) -> None:
    """Write ``contents`` to ``folder`` atomically: if killed at any moment, the folder holds a whole index or none."""
    rows: dict[str, Any] = {"ids": contents.ids, "cells": contents.cells}
    if contents.folders:
        rows |= {"folders": contents.folders, "folder_of": contents.folder_of}
    data = {
        ROWS: json.dumps(rows, ensure_ascii=False, allow_nan=False).encode(),
        SIDES: contents.present.astype(np.uint8).tobytes(),
        VECTORS: np.ascontiguousarray(contents.vectors, dtype="<f4").tobytes(),
    }
    if contents.approximate and len(contents.ids) >= LEAST:
        coarse = CoarseCells.of(contents.vectors, contents.present)
        data |= {CENTRES: coarse.centres.astype("<f4").tobytes(), CELLS: coarse.cell_of.astype("<i4").tobytes()}
    manifest: dict[str, Any] = {
        "format": FORMAT if contents.approximate else 1,
        "sensorium": __version__,
        "model": contents.model,
        "run": contents.run,
        "task": contents.task,
        "sides": list(contents.sides),
        "rows": len(contents.ids),
        "width": int(contents.vectors.shape[2]),
        "next": contents.following,
        **({"approximate": True} if contents.approximate else {}),
        "files": {name: {"sha256": hashlib.sha256(part).hexdigest(), "bytes": len(part)} for name, part in data.items()},
    }
    document = json.dumps(manifest, ensure_ascii=False, indent=1).encode()
    write_together(folder, {**data, MANIFEST: document}, last=MANIFEST)


def holds_index(folder: Path) -> bool:
    """Return whether ``folder`` holds an index, perhaps a damaged one."""
    return (folder / MANIFEST).is_file()


def read_index(folder: Path) -> Contents:
    """Read the index in ``folder``; its vectors stay on disk, memory-mapped.

    Raises:
        ArtifactError: There is none, or it is damaged: a file is absent, of another size or of another content.
    """
    if not folder.is_dir():
        raise ArtifactError("there is no such index", file=folder, fix="sensorium index RUN TABLE --out INDEX")
    if not holds_index(folder):
        raise ArtifactError(f"holds no finished index: {MANIFEST} is absent", file=folder, fix=REPAIR)
    manifest = _manifest(folder / MANIFEST)
    sides, rows, width = tuple(manifest["sides"]), manifest["rows"], manifest["width"]
    sizes = {SIDES: len(sides) * rows, VECTORS: 4 * len(sides) * rows * width, CELLS: 4 * len(sides) * rows}
    for name, entry in manifest["files"].items():
        _verify(folder / name, entry["sha256"], entry["bytes"], sizes.get(name))
    try:
        document = read_json(read_regular(folder / ROWS, ROWS_LIMIT), most=ROWS_LIMIT)
        ids, cells = document["ids"], document["cells"]
        plain = all(isinstance(one, str) for one in ids) and all(len(column) == rows for column in cells.values())
        if len(ids) != rows or len(set(ids)) != rows or not plain:
            raise ValueError("rows and cells are not of the stated number")
        folders, folder_of = tuple(document.get("folders", ())), document.get("folder_of", [])
        if not all(isinstance(folder, str) for folder in folders) or (folders and len(folder_of) != rows):
            raise ValueError("folders are not names, or not of the stated number")
        if not all(type(number) is int and 0 <= number < len(folders) for number in folder_of):
            raise ValueError("a row names a folder that does not exist")
        present = np.frombuffer(read_regular(folder / SIDES, sizes[SIDES]), np.uint8).reshape(len(sides), rows) > 0
        shape = (len(sides), rows, width)
        empty = np.zeros(shape, np.float32)
        vectors = np.memmap(folder / VECTORS, dtype="<f4", mode="r", shape=shape) if empty.size else empty
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ArtifactError(
            f"does not hold together: {' '.join(str(error).split())[:200]}", file=folder, fix=REPAIR
        ) from None
    return Contents(
        manifest["model"],
        manifest["run"],
        manifest["task"],
        sides,
        ids,
        cells,
        manifest["next"],
        present,
        vectors,
        folders,
        folder_of,
        manifest.get("approximate") is True,
        _coarse(folder, manifest, vectors) if CENTRES in manifest["files"] else None,
    )


def _coarse(folder: Path, manifest: dict[str, Any], vectors: NDArray[np.float32]) -> CoarseCells:
    """The cells of an approximate index, each number checked: they are handed to compiled code."""
    sides, rows, width = vectors.shape
    try:
        size = manifest["files"][CENTRES]["bytes"]
        centres = np.frombuffer(read_regular(folder / CENTRES, size), "<f4").reshape(sides, -1, width)
        cell_of = np.frombuffer(read_regular(folder / CELLS, 4 * sides * rows), "<i4").reshape(sides, rows)
        if not np.isfinite(centres).all() or not 0 < centres.shape[1] <= max(1, rows):
            raise ValueError("centres of cells are not numbers, or not of their number")
        if cell_of.size and not -1 <= int(cell_of.min()) <= int(cell_of.max()) < centres.shape[1]:
            raise ValueError("a row is in a cell that does not exist")
    except (OSError, ValueError) as error:
        problem = f"does not hold together: {' '.join(str(error).split())[:200]}"
        raise ArtifactError(problem, file=folder, fix=REPAIR) from None
    return CoarseCells(centres, cell_of, vectors)


def _manifest(path: Path) -> dict[str, Any]:
    """The manifest, of which every entry is known to be of its type."""
    try:
        manifest: dict[str, Any] = read_json(read_regular(path, MANIFEST_LIMIT), most=MANIFEST_LIMIT)
        version = manifest["format"]
        if type(version) is not int or version < 1:
            raise ValueError(f"format {str(version)[:60]!r} is none")
        if version > FORMAT:
            raise ArtifactError(f"format {version} is newer than this library", file=path, fix="pip install -U sensorium")
        for key in ("model", "run", "task"):
            if not isinstance(manifest[key], str):
                raise ValueError(f"{key} is not a text")
        for key in ("rows", "width", "next"):
            if type(manifest[key]) is not int or not 0 <= manifest[key] < 1 << 40:
                raise ValueError(f"{key} is not a number")
        sides = manifest["sides"]
        if not isinstance(sides, list) or not sides or not all(isinstance(side, str) for side in sides):
            raise ValueError("sides are not names")
        if set(manifest["files"]) not in ({ROWS, SIDES, VECTORS}, {ROWS, SIDES, VECTORS, CENTRES, CELLS}):
            raise ValueError(f"it must name {ROWS}, {SIDES} and {VECTORS}")
        for entry in manifest["files"].values():
            if not isinstance(entry["sha256"], str) or type(entry["bytes"]) is not int:
                raise ValueError("a file has no SHA-256 or size")
    except ArtifactError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"is not an index: {' '.join(str(error).split())[:200]}", file=path, fix=REPAIR) from None
    return manifest


def _verify(path: Path, digest: str, size: int, needed: int | None) -> None:
    """Raise ``ArtifactError`` unless the file has this size and SHA-256; of what it ``needed``, where that is known."""
    hasher = hashlib.sha256()
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            whole = os.fstat(file.fileno()).st_size
            if whole != size or (needed is not None and size != needed):
                raise ArtifactError(f"is damaged: it has {whole:,} bytes, not {needed or size:,}", file=path, fix=REPAIR)
            while block := file.read(BLOCK):
                hasher.update(block)
    except OSError as error:
        raise ArtifactError(f"cannot be read: {error.strerror or error}", file=path, fix=REPAIR) from None
    if hasher.hexdigest() != digest:
        raise ArtifactError("is damaged: its SHA-256 is not the one that was written", file=path, fix=REPAIR)
