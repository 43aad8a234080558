"""Tables with a row for each box (``filename, class, xmin, ymin, xmax, ymax``) as a table with a row for each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sensorium.core.errors import DataError
from sensorium.core.modality import is_blank
from sensorium.core.plurals import counted
from sensorium.data.tables.annotated_columns import AnnotatedColumns
from sensorium.data.tables.coco import BOXES, with_folder
from sensorium.data.tables.text_encoding import AddNote

CORNERS = (("xmin", "ymin", "xmax", "ymax"), ("x_min", "y_min", "x_max", "y_max"), ("x1", "y1", "x2", "y2"))
"""Names of left, top, right and bottom, in lower case."""
_IMAGES = ("filename", "file_name", "image", "image_path", "path", "file", "img")
_LABELS = ("class", "label", "category", "name", "class_name", "label_name", "labelname")
_SIZES = ("width", "height", "depth")
_IGNORED = ("iscrowd", "crowd", "ignore", "ignored", "difficult", "isgroupof")
_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".dcm")


def is_box_rows(columns: Mapping[str, Sequence[Any]]) -> bool:
    """Return whether text ``columns`` are boxes: an image file, a label and four coordinates, by their names."""
    roles = _roles(columns)
    if roles is None:
        return False
    named = [cell for cell in columns[roles["image"]] if not is_blank(cell)]
    return bool(named) and all(cell.strip().lower().endswith(_ENDINGS) for cell in named)


def box_columns(columns: Mapping[str, Sequence[Any]], path: Path, add_note: AddNote) -> AnnotatedColumns:
    """Return a row for each image: the image, what else is the same in all its rows, and ``boxes``.

    A row without coordinates says that nothing is on its image. A damaged coordinate stays in the cell of its image, and
    costs that cell only.

    Args:
        columns: What ``is_box_rows`` accepts.
        path: The file, for messages, and beside which the images are looked for.
        add_note: Receives notes.

    Raises:
        DataError: A row names no image.
    """
    roles = _roles(columns)
    assert roles is not None, "the caller has checked them"
    image, label = roles["image"], roles["label"]
    ignored = [name for name in columns if name.lower() in _IGNORED]
    drawn = {*roles.values(), *ignored, *(name for name in columns if name.lower() in _SIZES)}
    others = [name for name in columns if name not in drawn]
    first: dict[str, int] = {}
    boxes: dict[str, list[Any]] = {}
    varied: set[str] = set()
    for row, cell in enumerate(columns[image]):
        if is_blank(cell):
            raise DataError("a box of no image", file=path, row=row + 1, column=image, fix="name its file")
        key = cell.strip()
        own = boxes.setdefault(key, [])
        start = first.setdefault(key, row)
        varied |= {name for name in others if columns[name][row] != columns[name][start]}
        four = [columns[roles[corner]][row] for corner in CORNERS[0]]
        if not all(map(is_blank, four)):
            flags = {"ignore": 1} if any(_is_set(columns[name][row]) for name in ignored) else {}
            own.append({"bbox": _box(four), "label": columns[label][row], **flags})
    add_note(
        f"{counted(len(columns[image]), 'row')} with a box each are read as {counted(len(boxes), 'image')} with the column "
        f"{BOXES!r}: left, top, width and height"
    )
    if varied:
        add_note(f"columns that differ between the boxes of an image are left out: {', '.join(sorted(varied))}")
    files = with_folder(list(boxes), path, add_note)
    kept = {name: [columns[name][row] for row in first.values()] for name in others if name not in varied}
    return AnnotatedColumns({image: files, **kept, BOXES: list(boxes.values())}, BOXES, (BOXES,))


def _roles(columns: Mapping[str, Any]) -> dict[str, str] | None:
    """The columns of the image, the label and each corner; None where one is lacking, or ``boxes`` is a column."""
    lower = {name.lower(): name for name in columns}
    image, label = (next((lower[name] for name in names if name in lower), None) for names in (_IMAGES, _LABELS))
    corners = next((names for names in CORNERS if all(name in lower for name in names)), None)
    if image is None or label is None or corners is None or BOXES in columns:
        return None
    return {"image": image, "label": label, **dict(zip(CORNERS[0], (lower[name] for name in corners), strict=True))}


def _box(four: Sequence[str]) -> list[Any]:
    """Left, top, width and height; the cells as they stand where one is no number, which is reported when it is read."""
    try:
        left, top, right, bottom = map(float, four)
    except ValueError:
        return list(four)
    # Differences of decimal fractions, without their binary remainder.
    return [left, top, round(right - left, 6), round(bottom - top, 6)]


def _is_set(cell: str) -> bool:
    return not is_blank(cell) and cell.strip().lower() not in ("0", "0.0", "false", "no", "-1")
