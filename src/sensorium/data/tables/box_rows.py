"""Tables with a row for each box, as annotation tools export them as CSV: gathered to a row for each image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sensorium.core.modality import is_blank
from sensorium.core.plurals import counted
from sensorium.data.tables.annotated_columns import AnnotatedColumns
from sensorium.data.tables.text_encoding import AddNote

BOXES = "boxes"
_IMAGES = ("filename", "image", "imageid", "imagename", "imagepath", "file", "path")
_CORNERS = (("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"), ("left", "top", "right", "bottom"))
"""Names of the columns with the corners of a box, without underscores. Those of a width and a height are often the size of
the image, and are not taken for a box."""
_LABELS = ("class", "label", "labelname", "category", "classname", "name")
_FLAGS = ("iscrowd", "ignore", "difficult")
_SIZE = ("width", "height", "imagewidth", "imageheight", "depth")
"""The size of the image, which its file tells."""


def gathered_boxes(columns: dict[str, list[Any]], add_note: AddNote) -> dict[str, list[Any]]:
    """Return a table with a row for each box as one with a row for each image and the column ``boxes``; any other as it is.

    Such a table has a column of images (``filename``, ``image``, ...), in which at least one occurs twice, and the corners
    of a box: ``xmin, ymin, xmax, ymax``, ``x1, y1, x2, y2`` or ``left, top, right, bottom``. A row whose corners are all
    empty says that its image has no boxes. A damaged box stays in its cell, and costs that cell only.

    Args:
        columns: A table as columns.
        add_note: Receives a note of what was done.
    """
    plain = {str(name).strip().lower().replace("_", "").replace(" ", ""): name for name in columns}
    corners = next(([plain[key] for key in keys] for keys in _CORNERS if all(key in plain for key in keys)), None)
    image = next((plain[key] for key in _IMAGES if key in plain), None)
    if corners is None or image is None or BOXES in columns:
        return columns
    names = [cell.strip() if isinstance(cell, str) else cell for cell in columns[image]]
    if any(is_blank(name) or not isinstance(name, (str, int)) for name in names) or len(set(names)) == len(names):
        return columns
    label = next((plain[key] for key in _LABELS if key in plain and plain[key] != image), None)
    flags = {key: plain[key] for key in _FLAGS if key in plain}
    rows: dict[Any, list[int]] = {}
    for i, name in enumerate(names):
        rows.setdefault(name, []).append(i)
    used = {image, label, *corners, *flags.values(), *(plain[key] for key in _SIZE if key in plain)}
    others = [name for name in columns if name not in used]
    kept = [name for name in others if all(len({str(columns[name][i]) for i in own}) == 1 for own in rows.values())]
    gathered = {
        image: [columns[image][own[0]] for own in rows.values()],
        **{name: [columns[name][own[0]] for own in rows.values()] for name in kept},
        BOXES: [_boxes(columns, own, corners, label, flags) for own in rows.values()],
    }
    left_out = [name for name in others if name not in kept]
    more = f"; columns that differ between the boxes of an image are left out: {', '.join(left_out)}" if left_out else ""
    add_note(f"a row for each box, read as {counted(len(rows), 'image')} with the column {BOXES!r}{more}")
    return AnnotatedColumns(gathered, (BOXES,), [own[0] + 1 for own in rows.values()])


def _boxes(
    columns: Mapping[str, list[Any]],
    rows: list[int],
    corners: list[str],
    label: str | None,
    flags: Mapping[str, str],
) -> list[dict[str, Any]]:
    """The boxes in ``rows`` of a table, as ``codecs/boxes.py`` reads them."""
    boxes = []
    for i in rows:
        cells = [columns[name][i] for name in corners]
        if all(map(is_blank, cells)):
            continue
        ignored = [key for key, name in flags.items() if not is_blank(columns[name][i]) and _number(columns[name][i]) != 0]
        numbers = [number for number in map(_number, cells) if number is not None]
        box: list[Any] = cells  # one that is no number is reported when the cell is read
        if len(numbers) == len(cells):
            left, top, right, bottom = numbers
            box = [left, top, right - left, bottom - top]
        named = {} if label is None else {"label": columns[label][i]}
        boxes.append({"bbox": box, **named, **dict.fromkeys(ignored, 1)})
    return boxes


def _number(cell: Any) -> float | None:
    try:
        number = math.nan if isinstance(cell, bool) else float(cell)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
