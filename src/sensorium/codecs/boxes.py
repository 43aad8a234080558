"""Boxes of a picture from untrusted cells: lists, COCO objects, YOLO's text files and Pascal VOC's XML files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from sensorium.codecs.voc import VocObject, read_voc
from sensorium.core.errors import CellError
from sensorium.core.modality import Array, Blob
from sensorium.core.scalars import plain

MOST = 5000
"""Most boxes of one cell."""
LARGEST = 1 << 24
"""Most bytes of an annotation file."""
FAR = 1e6
"""Coordinates are below this."""
LETTERS = 200
"""Most characters of a label."""
NAMELESS = "object"
"""The label of boxes without one."""
Format = Literal["xywh", "xyxy", "cxcywh"]
_FIX = '[[x, y, width, height, "label"], ...]; [] where nothing is to be seen'
_IGNORED = ("iscrowd", "crowd", "ignore", "ignored", "difficult")
_LABELS = ("label", "category", "class", "name")


class Boxes(NamedTuple):
    """The boxes of one picture.

    Args:
        corners: Left, top, right and bottom, ``[n, 4]`` float64.
        labels: The label of each.
        ignored: Which are regions where nothing is learnt or scored: crowds, difficult objects, ``[n]`` bool.
        relative: Whether coordinates are shares of the width and height of the picture; None: as the column's are.
    """

    corners: Array
    labels: list[str]
    ignored: Array
    relative: bool | None


def read_boxes(cell: Any, written: Format = "xywh", names: Sequence[str] = ()) -> Boxes:
    """Read the boxes of a cell.

    Args:
        cell: A list of boxes, each ``[a, b, c, d, label]``, ``[a, b, c, d]`` or an object with ``bbox`` or ``box`` (and
            ``relative: true`` where its numbers are shares); an object with ``boxes``; or the bytes of a file: YOLO's lines
            of text, Pascal VOC's XML, or such a list as JSON.
        written: What the four numbers of a list are: left, top, width, height; left, top, right, bottom; or the centre,
            width and height. Files say it by their kind.
        names: Labels by the class numbers of YOLO's files; empty: the number is the label.

    Raises:
        CellError: The cell holds no boxes, or a box is damaged.
    """
    if isinstance(cell, Blob):
        try:
            return _from_file(cell.data, written, names)
        except CellError as error:
            raise CellError(error.problem, file=cell.name, fix=error.fix) from None
    cell = plain(cell)
    if isinstance(cell, np.ndarray):
        cell = cell.tolist()
    if isinstance(cell, Mapping):
        cell = cell.get("boxes", cell.get("annotations"))
    if not isinstance(cell, (list, tuple)):
        raise CellError(f"a {type(cell).__name__} is no list of boxes", fix=_FIX)
    if len(cell) > MOST:
        raise CellError(f"{len(cell):,} boxes are more than the {MOST:,} allowed")
    read = [_item(item, i + 1) for i, item in enumerate(cell)]
    corners = [_corners(four, written, i + 1) for i, (four, _, _) in enumerate(read)]
    shares = {bool(item.get("relative")) for item in cell if isinstance(item, Mapping) and "relative" in item}
    if len(shares) > 1:
        raise CellError("some boxes are relative, others not", fix="write all in pixels, or all in shares")
    labels, ignored = [label for _, label, _ in read], [off for _, _, off in read]
    return _boxes(corners, labels, ignored, next(iter(shares), None))


def _boxes(corners: list[list[float]], labels: list[str], ignored: list[bool], relative: bool | None) -> Boxes:
    return Boxes(np.array(corners, np.float64).reshape(-1, 4), labels, np.array(ignored, np.bool_), relative)


def _from_file(data: bytes, written: Format, names: Sequence[str]) -> Boxes:
    if len(data) > LARGEST:
        raise CellError(f"more than {LARGEST >> 20} MiB are no list of boxes")
    start = data.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n\0")[:1]
    if start == b"<":
        return _from_voc(read_voc(data))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CellError(
            "neither text nor XML: no file of boxes", fix="name YOLO text files or Pascal VOC XML files"
        ) from None
    if start in (b"[", b"{"):
        try:
            return read_boxes(json.loads(text), written, names)
        except (ValueError, RecursionError):
            raise CellError("not JSON", fix=_FIX) from None
    return _from_yolo(text, names)


def _from_voc(objects: list[VocObject]) -> Boxes:
    if len(objects) > MOST:
        raise CellError(f"{len(objects):,} boxes are more than the {MOST:,} allowed")
    corners = []
    for i, one in enumerate(objects):
        left, top, right, bottom = (_number(value, i + 1) for value in one.corners)
        # Pascal VOC counts pixels from 1, and the last one is inside.
        corners.append(_corners([left - 1, top - 1, right, bottom], "xyxy", i + 1))
    labels = [_label(one.name, i + 1) for i, one in enumerate(objects)]
    return _boxes(corners, labels, [one.difficult for one in objects], False)


def _from_yolo(text: str, names: Sequence[str]) -> Boxes:
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if len(lines) > MOST:
        raise CellError(f"{len(lines):,} boxes are more than the {MOST:,} allowed")
    corners, labels = [], []
    for i, parts in enumerate(lines, 1):
        if len(parts) != 5 or not parts[0].isascii() or not parts[0].isdigit():
            fix = "a line is: class number, centre x, centre y, width, height (shares of the picture)"
            raise CellError(f"line {i} is {' '.join(parts)[:60]!r}", fix=fix)
        number = int(parts[0]) if len(parts[0]) < 10 else MOST
        if names and number >= len(names):
            raise CellError(f"line {i} has class {parts[0][:20]}, and classes names only {len(names)}")
        four = [_number(part, i) for part in parts[1:]]
        if max(map(abs, four)) > 2:
            raise CellError(f"line {i} has {' '.join(parts[1:])[:60]}, not shares of the width and height of a picture")
        corners.append(_corners(four, "cxcywh", i))
        labels.append(names[number] if names else str(int(parts[0][:20])))
    return _boxes(corners, labels, [False] * len(corners), True)


def written_box(corners: Sequence[float], written: Format) -> list[float]:
    """Return the four numbers of a box from its ``corners`` (left, top, right, bottom), as ``written`` says."""
    left, top, right, bottom = corners
    if written == "xyxy":
        return [left, top, right, bottom]
    wide, high = right - left, bottom - top
    return [left, top, wide, high] if written == "xywh" else [left + wide / 2, top + high / 2, wide, high]


def _item(item: Any, number: int) -> tuple[list[float], str, bool]:
    """The four numbers, the label and whether it is ignored, of one box of a list."""
    label: Any = NAMELESS
    ignored = False
    if isinstance(item, Mapping):
        four = item.get("bbox", item.get("box"))
        label = next((item[key] for key in _LABELS if key in item), NAMELESS)
        ignored = any(item.get(key) not in (None, 0, False, "0") for key in _IGNORED)
    elif isinstance(item, (list, tuple)) and len(item) in (4, 5):
        four = item[:4]
        label = item[4] if len(item) == 5 else NAMELESS
    else:
        raise CellError(f"box {number} is {str(item)[:60]}", fix=_FIX)
    if not isinstance(four, (list, tuple)) or len(four) != 4:
        raise CellError(f"box {number} has {str(four)[:60]} where four numbers are wanted", fix=_FIX)
    return [_number(value, number) for value in four], _label(label, number), ignored


def _number(value: Any, box: int) -> float:
    value = plain(value)
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not abs(number) < FAR:
        raise CellError(f"box {box} has {str(value)[:30]!r} where a coordinate is wanted")
    return number


def _label(value: Any, box: int) -> str:
    value = plain(value)
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        text = str(value).strip()
        if 0 < len(text) <= LETTERS:
            return text
    if isinstance(value, float) and value.is_integer() and abs(value) < FAR:
        return str(int(value))
    raise CellError(f"box {box} has {str(value)[:30]!r} for a label", fix="a word or a class number")


def _corners(four: Sequence[float], written: Format, number: int) -> list[float]:
    """Left, top, right and bottom of a box."""
    a, b, c, d = four
    if written == "xyxy":
        if c <= a or d <= b:
            problem = f"box {number} ends at ({c:g}, {d:g}) and begins at ({a:g}, {b:g})"
            raise CellError(problem, fix="its last two numbers are right and bottom; if width and height: format: xywh")
        return [a, b, c, d]
    if c <= 0 or d <= 0:
        raise CellError(f"box {number} is {c:g} wide and {d:g} high: it has no area", fix="remove it, or mend it")
    return [a, b, a + c, b + d] if written == "xywh" else [a - c / 2, b - d / 2, a + c / 2, b + d / 2]
