"""Boxes: where the things on an image are, and what they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sensorium.codecs.boxes import MOST, Boxes, Format, read_boxes, written_box
from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Layout, Points
from sensorium.core.modality import Array, Blob, Guess, Modality
from sensorium.core.plurals import counted
from sensorium.core.registry import component
from sensorium.language.category_values import fold_label, nearest_label

if TYPE_CHECKING:
    import torch

    from sensorium.core.batch import Field

CLASSES = 1000
"""Most classes that are learnt."""
SHARES = 1.05
"""Coordinates up to this may be shares of the picture; rounding may pass its edge."""
ELSEWHERE = 1.5
"""Boxes that reach beyond the picture by this factor belong to another picture or are written in another way."""
MOSTLY = 0.8
"""Share of cells that must be readable as boxes to suggest this kind; a damaged one is reported when it is read."""
EDGE = 1.0
"""Boxes that pass the edge by up to this many pixels are not mentioned."""
DOUBTFUL = 20
"""Boxes from which on their numbers are compared with another way of writing."""
IGNORED, RELATIVE = 1, 2
"""Bits of a stored box: a region where nothing is learnt or scored; coordinates are shares of the picture."""


@component
class BoundingBoxes(Modality):
    """Boxes on an image, each with a label: lists, COCO objects, or files of YOLO (text) or Pascal VOC (XML).

    A cell is a list ``[[x, y, width, height, "label"], ...]``, in which ``[]`` says that there is nothing to be found;
    an empty cell says that nobody looked. Objects ``{"bbox": [...], "label": ..., "iscrowd": 1}`` are read too; crowds and
    difficult objects are neither learnt nor scored. Encoded as ``[n, 6]`` float32: left, top, right, bottom, class, and
    bits (1: ignored, 2: shares of the picture). As a target they follow their image through resizing, cropping and
    augmentation.

    Args:
        format: What the four numbers of a box are: left, top, width and height (``xywh``, as in COCO); left, top, right
            and bottom (``xyxy``); centre, width and height (``cxcywh``). Files say it by their kind.
        units: ``pixels`` of the image, or shares of its width and height (``relative``); ``auto``: shares if no number of
            the training cells is above 1. Files say it by their kind.
        names: Labels by the class numbers of YOLO's files, in order; None: the numbers are the labels.
    """

    media = True
    ragged = True
    classed = True
    empty_files = True
    lies_on = ("image",)
    task = "detection"

    def __init__(
        self,
        *,
        format: Format = "xywh",
        units: Literal["auto", "pixels", "relative"] = "auto",
        names: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.format, self.units = format, units
        self.names = [str(name) for name in names or []]

    @classmethod
    def sniff(cls, cells: Sequence[Any], name: str) -> Guess:
        if cells and all(isinstance(cell, str) and cell.strip().lower().endswith(".xml") for cell in cells):
            return Guess(0.98, "every cell ends in .xml, as Pascal VOC's boxes do")
        boxes = labelled = read = 0
        for cell in cells:
            if (parsed := _spelled(cell)) is not None:
                read, boxes = read + 1, boxes + len(parsed.labels)
                labelled += _labelled(cell)
        share = read / max(len(cells), 1)
        if share < MOSTLY:
            return Guess(0.0, "most cells are no lists of boxes")
        if not boxes:
            return Guess(0.0, "no cell has a box")
        reason = f"{read} of {len(cells)} cells are lists of"
        if labelled < boxes:
            return Guess(0.4 * share, f"{reason} four numbers each, which may be boxes")
        return Guess(0.97 * share, f"{reason} boxes: four numbers and a label")

    def fit(self, cells: Iterable[Any]) -> None:
        labels: Counter[str] = Counter()
        farthest, longest, crossed, listed = 0.0, 1, 0, 0
        for cell in cells:
            try:
                boxes = read_boxes(cell, self.format, self.names)
            except CellError:
                continue  # reported by encode
            labels.update(label for label, ignored in zip(boxes.labels, boxes.ignored, strict=True) if not ignored)
            longest = max(longest, len(boxes.labels))
            if boxes.relative is None and boxes.labels:
                first, last = boxes.corners[:, :2], boxes.corners[:, 2:]
                farthest = max(farthest, float(last.max()))
                listed += len(boxes.labels)
                # The numbers as corners: every box would end right of and below where it begins.
                crossed += int((last - first > first).all(axis=1).sum())
        if len(labels) > CLASSES:
            raise ConfigError(f"boxes: there are {len(labels):,} different labels, and at most {CLASSES:,} are learnt")
        units = self.units if self.units != "auto" else "relative" if 0 < farthest <= SHARES else "pixels"
        self.state = {
            "values": sorted(labels, key=_order) or [self.names[0] if self.names else "object"],
            "units": units,
            "longest": longest,
            "farthest": farthest if units == "pixels" else 1.0,
            "corners": self.format == "xywh" and listed >= DOUBTFUL and crossed == listed,
        }

    def notes(self) -> str:
        how = {"xywh": "left, top, width, height", "xyxy": "left, top, right, bottom", "cxcywh": "centre, width, height"}
        unit = "pixels" if self.state["units"] == "pixels" else "shares of the image"
        return f"{counted(len(self.classes), 'class', 'classes')}; lists are {how[self.format]} in {unit}"

    @property
    def doubts(self) -> list[str]:
        doubts = []
        if self.state["corners"]:
            doubts.append("every box would also be one if its numbers were left, top, right, bottom: format: xyxy?")
        if self.units == "pixels" and 0 < self.state["farthest"] <= SHARES:
            doubts.append("no box reaches beyond one pixel: units: relative?")
        return doubts

    @property
    def classes(self) -> list[str]:
        return list(self.state["values"])

    @property
    def layout(self) -> Layout:
        return Points(6, self.longest)

    @property
    def longest(self) -> int:
        return max(int(self.state["longest"]), 1)

    def extent(self, cell: Any) -> Array | None:
        """Return how far the boxes reach: left, top, right and bottom of all together, and 1 if in shares, else 0."""
        try:
            boxes, relative = self._read(cell)
        except CellError:
            return None  # reported by encode
        if not boxes.labels:
            return np.zeros(5, np.float32)
        low, high = boxes.corners[:, :2].min(axis=0), boxes.corners[:, 2:].max(axis=0)
        return np.array([*low, *high, relative], np.float32)

    def framing(self, extent: Array) -> Array:
        """Return the identity: boxes are stored in the user's own units."""
        frames = np.zeros((len(extent), 2, 3), np.float32)
        frames[:, 0, 0] = frames[:, 1, 1] = 1
        return frames

    def misfit(self, extent: Array, on: Array) -> str:
        left, top, right, bottom, relative = extent.tolist()
        wide, high = (1.0, 1.0) if relative else on.tolist()
        far = max(right / max(wide, 1e-6), bottom / max(high, 1e-6), 1 - left / max(wide, 1e-6), 1 - top / max(high, 1e-6))
        if far <= ELSEWHERE:
            return ""
        size = f"{on[0]:.0f} × {on[1]:.0f} pixels"
        reach = f"({left:g}, {top:g}) to ({right:g}, {bottom:g})"
        return f"boxes from {reach} do not lie on an image of {size}: another image, format or units?"

    def adjusted(self, extent: Array, on: Array) -> str:
        left, top, right, bottom, relative = extent.tolist()
        scale = on.tolist() if relative else [1.0, 1.0]
        over = max(-left * scale[0], -top * scale[1], right * scale[0] - float(on[0]), bottom * scale[1] - float(on[1]))
        if over <= EDGE:
            return ""
        return f"a box passes the edge of its image by {over:.0f} pixels, and is cut there"

    def _read(self, cell: Any) -> tuple[Boxes, bool]:
        """The boxes of a cell, and whether they are in shares of the image."""
        boxes = read_boxes(cell, self.format, self.names)
        relative = bool(self.state["units"] == "relative") if boxes.relative is None else boxes.relative
        far = float(np.abs(boxes.corners).max()) if relative and boxes.labels else 0.0
        if far > ELSEWHERE:
            raise CellError(
                f"a box reaches to {far:g}, and boxes are in shares of the image",
                file=cell.name if isinstance(cell, Blob) else None,
                fix="units: pixels, or divide by its width and height",
            )
        return boxes, relative

    def encode(self, cell: Any) -> Array:
        boxes, relative = self._read(cell)
        codes = {name: i for i, name in enumerate(self.state["values"])}
        known = [codes.get(label, -1) for label in boxes.labels]
        strange = [
            label for label, code, off in zip(boxes.labels, known, boxes.ignored, strict=True) if code < 0 and not off
        ]
        if strange:
            label = strange[0]
            near = nearest_label(label, {fold_label(name): name for name in self.state["values"]})
            fix = f"{near!r}?" if near else "train with rows that have it"
            raise CellError(f"the label {label!r} is not known from training", fix=fix)
        bits = boxes.ignored * IGNORED + int(relative) * RELATIVE
        return np.column_stack([boxes.corners, known, bits]).astype(np.float32).reshape(-1, 6)

    def decode(self, value: Array) -> list[dict[str, Any]]:
        """Return the boxes, written as the lists of the training cells are: four numbers (``box``) and a ``label``."""
        names = self.state["values"]
        shares = self.state["units"] == "relative"
        return [
            {
                "box": [round(number, 6 if int(bits) & RELATIVE else 3) for number in written_box(corners, self.format)],
                "label": names[int(code)],
                **({"relative": True} if int(bits) & RELATIVE and not shares else {}),
            }
            for *corners, code, bits in np.asarray(value, np.float64).reshape(-1, 6).tolist()
            if not int(bits) & IGNORED
        ]

    def answer(self, corners: Array, size: tuple[float, float]) -> list[float]:
        """Return the four numbers of a box as the lists of the training cells write them.

        Args:
            corners: Left, top, right and bottom in pixels.
            size: Width and height of the image in pixels.
        """
        if self.state["units"] == "pixels":
            return [round(number, 2) for number in written_box(corners.tolist(), self.format)]
        return [round(number, 5) for number in written_box((corners / np.array(size * 2)).tolist(), self.format)]

    def corners(self, box: Sequence[float], size: tuple[float, float]) -> list[float]:
        """Return left, top, right and bottom in pixels of a ``box`` as ``answer`` writes it, on an image of ``size``."""
        four = read_boxes([[*box, "object"]], self.format).corners[0]
        scale = np.array(size * 2) if self.state["units"] == "relative" else 1.0
        return [float(number) for number in four * scale]

    def blank(self) -> Array:
        return np.zeros((0, 6), np.float32)

    def prepare(self, field: Field, generator: torch.Generator | None = None) -> Field:
        """Return boxes that are an input: ``[B, n, 6]``, coordinates as shares of the farthest of the training cells."""
        import torch

        data = field.data.float()
        scale = torch.where(data[..., 5:] >= RELATIVE, 1.0, max(float(self.state["farthest"]), 1e-6))
        data = torch.cat([data[..., :4] / scale, data[..., 4:] / max(1, len(self.state["values"]))], dim=2)
        return replace(field, data=data if field.mask is None else data * field.mask[..., None])

    def prepare_target(self, field: Field, on: Field | None = None) -> Field:
        """Return the boxes in pixels of the prepared image ``on``, cut at the edges of the original, ``[B, n, 6]``: left,
        top, right, bottom, class, 1 where ignored.

        A box turned with its image becomes the box around the ellipse that it held: the box around its own corners would
        grow with every turn. Boxes without an area inside the image are masked, as is a row without its image.
        """
        import torch

        from sensorium.signal.geometry import clipped, ellipses

        data = field.data.float()
        mask = torch.ones(data.shape[:2], dtype=torch.bool, device=data.device) if field.mask is None else field.mask
        bits = data[..., 5].long()
        flags = torch.stack([data[..., 4], (bits & IGNORED).to(data)], dim=2)
        if on is None or on.frame is None or on.extent is None:
            return replace(field, data=torch.cat([data[..., :4], flags], dim=2), mask=mask)
        size = on.extent.repeat(1, 2)[:, None]  # width, height, width, height
        corners = torch.where((bits & RELATIVE > 0)[..., None], data[..., :4] * size, data[..., :4])
        corners, _ = clipped(corners, on.extent)
        mask = mask & (corners[..., 2] > corners[..., 0]) & (corners[..., 3] > corners[..., 1])
        moved = ellipses(on.frame, corners)
        moved = torch.cat([moved, flags], dim=2) * mask[..., None]
        return replace(
            field, data=moved, mask=mask, present=field.present & on.present, where=None, frame=on.frame, extent=on.extent
        )

    @property
    def store_options(self) -> dict[str, Any]:
        state = {key: self.state[key] for key in ("values", "units")}
        return {"format": self.format, "names": self.names, "state": state}


def _order(label: str) -> tuple[int, int, str]:
    """Numbers before words, each in their order."""
    return (0, int(label), label) if label.isascii() and label.isdigit() else (1, 0, label)


def _spelled(cell: Any) -> Boxes | None:
    """The boxes of a cell that holds them itself; None where it holds something else."""
    import json

    if isinstance(cell, str):
        if cell.strip()[:1] not in ("[", "{") or len(cell) > 64 * MOST:
            return None
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            return None
    if not isinstance(cell, (list, tuple, dict)):
        return None
    for written in ("xywh", "xyxy"):  # either will do to recognise them
        try:
            return read_boxes(cell, written)
        except CellError:
            continue
    return None


def _labelled(cell: Any) -> int:
    """How many boxes of a cell have a label of letters."""
    boxes = _spelled(cell)
    return 0 if boxes is None else sum(any(map(str.isalpha, label)) and label != "object" for label in boxes.labels)
