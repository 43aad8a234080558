"""Predicted places as files: COCO JSON, a CSV of points, and pictures with the answers drawn on them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from sensorium.codecs.image import open_picture, size_of_picture
from sensorium.codecs.image_arrays import to_pixels
from sensorium.codecs.regions import packed_run_lengths
from sensorium.core.answer import Answer
from sensorium.core.cell_content import Opener, content
from sensorium.core.errors import CellError, ConfigError
from sensorium.core.modality import Blob, is_blank
from sensorium.core.places import Place
from sensorium.core.schema import Schema
from sensorium.model import Model
from sensorium.reporting.place_drawing import draw_places

LONGEST = 1 << 16
"""Longer side in pixels up to which pictures are opened without reducing them."""


@dataclass(frozen=True)
class Placed:
    """The places of one answer.

    Args:
        task: The name of the task.
        column: The column of the picture.
        size: Its width and height.
        places: The places, in its pixels.
        cell: The opened picture.
    """

    task: str
    column: str
    size: tuple[int, int]
    places: list[Place]
    cell: Any

    def to_json(self) -> dict[str, Any]:
        """Return the places with the column and size of their picture; regions are attachments."""
        return {"column": self.column, "size": list(self.size), "places": [place.to_json() for place in self.places]}


def placed_answers(
    model: Model, schema: Schema, answers: Mapping[str, Answer], row: Mapping[str, Any], media: Opener
) -> list[Placed]:
    """Return the places of the answers to one row; those without a readable picture have none.

    Args:
        model: The model.
        schema: Its schema.
        answers: The answers by task.
        row: The cells of the row.
        media: Opens the pictures.
    """
    result = []
    for name, task in model.tasks.items():
        stream = task.plain.drawn_on
        if stream is None:
            continue
        column = schema.streams[stream][0]
        cell = row.get(column.source)
        if is_blank(cell):
            continue
        try:
            opened = content(column.reader, cell, media, None, column.source)
            size = size_of_picture(opened) if isinstance(opened, (Blob, bytes)) else to_pixels(opened).shape[:2]
        except CellError:
            continue  # a problem of the prediction
        if size is None:
            continue
        high, wide = size
        places = task.plain.places(answers[name], (wide, high))
        result.append(Placed(name, column.source, (wide, high), places, opened))
    return result


class PlaceFiles:
    """Writes the places of predictions row by row; a context manager.

    Args:
        model: The model.
        schema: Its schema.
        media: Opens the pictures.
        coco: The COCO JSON file to write.
        points: The CSV file to write: row, picture, label, point, x, y, confidence.
        overlay: The folder for pictures with the answers drawn on them.

    Raises:
        ConfigError: No task of the model names places.
    """

    def __init__(
        self,
        model: Model,
        schema: Schema,
        media: Opener,
        *,
        coco: Path | None = None,
        points: Path | None = None,
        overlay: Path | None = None,
    ) -> None:
        self.model, self.schema, self.media, self.overlay = model, schema, media, overlay
        names: dict[str, tuple[str, ...]] = {}
        for task in model.tasks.values():
            names |= dict(task.plain.place_names) if task.plain.drawn_on is not None else {}
        if not names:
            raise ConfigError(
                "no answer of the model names places on a picture", fix="leave out --coco, --points, --overlay"
            )
        if points is not None and not any(names.values()):
            raise ConfigError("no answer of the model has points", fix="leave out --points")
        self.labels = list(names)
        self.names = names
        self._paths = {"coco": coco, "points": points}
        self._open = ExitStack()
        self._images: list[dict[str, Any]] = []
        self._annotations = 0

    def __enter__(self) -> PlaceFiles:
        self._files: dict[str, IO[str]] = {}
        for name, path in self._paths.items():
            if path is not None:
                part = path.with_name(f".{path.name}.part")
                self._files[name] = self._open.enter_context(open(part, "w", newline="", encoding="utf-8"))
        if "coco" in self._files:
            self._files["coco"].write('{"annotations": [')
        if "points" in self._files:
            self._csv = csv.writer(self._files["points"])
            self._csv.writerow(["row", "picture", "label", "point", "x", "y", "confidence"])
        if self.overlay is not None:
            self.overlay.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if kind is None and "coco" in self._files:
            trailer = {"images": self._images, "categories": self._categories()}
            self._files["coco"].write(f"\n], {json.dumps(trailer, ensure_ascii=False)[1:]}\n")
        self._open.close()
        for path in self._paths.values():
            if path is not None:
                part = path.with_name(f".{path.name}.part")
                part.replace(path) if kind is None else part.unlink(missing_ok=True)

    def take(self, number: int, answers: Mapping[str, Answer], row: Mapping[str, Any]) -> None:
        """Write the places of one row.

        Args:
            number: The number of the row, from 1.
            answers: Its answers by task.
            row: Its cells.
        """
        placements = placed_answers(self.model, self.schema, answers, row, self.media)
        for column in dict.fromkeys(placed.column for placed in placements):
            on_it = [placed for placed in placements if placed.column == column]
            name = _name(row[column], number)
            image = len(self._images) + 1
            if "coco" in self._files:
                wide, high = on_it[0].size
                self._images.append({"id": image, "file_name": name, "width": wide, "height": high, "row": number})
            for placed in on_it:
                for place in placed.places:
                    if "coco" in self._files:
                        self._annotate(place, image)
                    if "points" in self._files:
                        for point in place.points:
                            place_of = [round(point.x, 3), round(point.y, 3), round(point.score, 5)]
                            self._csv.writerow([number, name, place.label, point.name, *place_of])
            if self.overlay is not None:
                self._draw(number, column, on_it)

    def _annotate(self, place: Place, image: int) -> None:
        self._annotations += 1
        annotation: dict[str, Any] = {
            "id": self._annotations,
            "image_id": image,
            "category_id": self.labels.index(place.label) + 1,
            "iscrowd": 0,
        }
        if place.score is not None:
            annotation["score"] = round(place.score, 5)
        if place.box is not None:
            left, top, right, bottom = place.box
            annotation["bbox"] = [round(number, 3) for number in (left, top, right - left, bottom - top)]
            annotation["area"] = round((right - left) * (bottom - top), 3)
        if place.region is not None:
            rows, columns = (np.flatnonzero(place.region.any(axis=axis)) for axis in (1, 0))
            annotation["segmentation"] = {"size": list(place.region.shape), "counts": packed_run_lengths(place.region)}
            annotation["area"] = int(place.region.sum())
            ends = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1) if len(rows) else (0, 0, 0, 0)
            annotation["bbox"] = [ends[0], ends[1], ends[2] - ends[0], ends[3] - ends[1]]
        if place.points:
            annotation["keypoints"] = [n for point in place.points for n in (round(point.x, 3), round(point.y, 3), 2)]
            annotation["num_keypoints"] = len(place.points)
        separator = ",\n" if self._annotations > 1 else "\n"
        self._files["coco"].write(separator + json.dumps(annotation))

    def _categories(self) -> list[dict[str, Any]]:
        return [
            {"id": i, "name": label, **({"keypoints": list(self.names[label])} if self.names[label] else {})}
            for i, label in enumerate(self.labels, 1)
        ]

    def _draw(self, number: int, column: str, placements: list[Placed]) -> None:
        from PIL import Image

        assert self.overlay is not None
        picture, _ = open_picture(placements[0].cell, LONGEST)
        drawn = draw_places(picture, [place for placed in placements for place in placed.places], self.labels)
        safe = "".join(c if c.isalnum() else "_" for c in column)
        Image.fromarray(np.ascontiguousarray(drawn)).save(self.overlay / f"{number}-{safe}.png")


def _name(cell: Any, number: int) -> str:
    """The file name in a ``cell``, or one made of the ``number`` of its row."""
    if isinstance(cell, Blob):
        return cell.name
    return cell if isinstance(cell, str) and not cell.startswith("data:") else f"{number}.png"
