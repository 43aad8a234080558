"""Reader of DeepLabCut's tables of key points: CSV with three header rows, scorer, bodyparts and coords."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sensorium.core.errors import DataError
from sensorium.core.modality import is_blank
from sensorium.core.plurals import counted
from sensorium.data.tables.text_encoding import AddNote

_ROWS = ("scorer", "bodyparts", "coords")
_AXES = ("x", "y", "likelihood")


def is_deeplabcut(header: Sequence[str]) -> bool:
    """Return whether ``header``, the first row of a file, begins a table of DeepLabCut."""
    # The other cells repeat the name of the one scorer, which names of columns never do.
    others = [cell for cell in header[1:] if cell.strip()]
    return header[0].strip().lower() == _ROWS[0] and len(others) > 1 and len(set(others)) == 1


def read_deeplabcut(
    header: Sequence[str], records: Iterator[list[str]], path: Path, add_note: AddNote
) -> dict[str, list[Any]]:
    """Read the rows after ``header`` as two columns: ``image`` (or ``frame``) and ``keypoints``, a mapping of names.

    Image paths of DeepLabCut start from the folder of its project; where a file is not there but lies beside the table, as
    in a folder of labelled frames, it is named so. Likelihoods of predicted points are not read.

    Args:
        header: The row of scorers.
        records: The rows after it, as lists of cells.
        path: The file.
        add_note: Receives notes.

    Raises:
        DataError: A header row is missing, or a cell is not a coordinate.
    """
    heads = [list(header)]
    for expected in _ROWS[1:]:
        row = next(records, [])
        heading = row[0].strip().lower() if row else ""
        if heading == "individuals":
            fix = "export the points of one animal, or write a table with a row for each"
            raise DataError("the table has several individuals, and one is read", file=path, row=len(heads) + 1, fix=fix)
        if heading != expected or len(row) != len(header):
            raise DataError(f"no header row {expected!r} of DeepLabCut", file=path, row=len(heads) + 1)
        heads.append([cell.strip() for cell in row])
    bodyparts, axes = heads[1], [axis.lower() for axis in heads[2]]
    index = next((i for i in range(1, len(axes)) if axes[i]), len(axes))
    having = {axis: [part for part, own in zip(bodyparts, axes, strict=True) if own == axis] for axis in _AXES}
    if set(axes[index:]) - set(_AXES) or not having["x"] or having["x"] != having["y"]:
        listed = ", ".join(sorted(set(axes[index:]))) or "nothing"
        raise DataError(f"the coordinates of each point are x and y, not {listed}", file=path, row=3)
    names: list[str] = []
    points: list[dict[str, list[float] | None]] = []
    for number, record in enumerate(records, 1):
        if len(record) != len(axes):
            problem = f"{counted(len(record), 'cell')}, but the header has {counted(len(axes), 'column')}"
            raise DataError(problem, file=path, row=number)
        names.append("/".join(cell.strip() for cell in record[:index]))
        row_points: dict[str, list[float]] = {}
        for part, axis, cell in zip(bodyparts[index:], axes[index:], record[index:], strict=True):
            if axis != "likelihood":
                row_points.setdefault(part, []).append(_number(cell, path, number, part))
        points.append({part: xy if all(map(math.isfinite, xy)) else None for part, xy in row_points.items()})
    if "likelihood" in axes:
        add_note("the points are predictions of DeepLabCut; their likelihood is not read")
    if all(name.isdigit() for name in names):
        return {"frame": names, "keypoints": list(points)}
    return {"image": [_beside(name, path) for name in names], "keypoints": list(points)}


def _beside(name: str, path: Path) -> str:
    name = name.replace("\\", "/")
    last = name.rpartition("/")[2]
    return last if not (path.parent / name).exists() and (path.parent / last).exists() else name


def _number(cell: str, path: Path, row: int, part: str) -> float:
    if is_blank(cell):
        return math.nan
    try:
        return float(cell)
    except ValueError:
        raise DataError(f"{cell!r:.40} is not a coordinate", file=path, row=row, column=part) from None
