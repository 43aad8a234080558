"""Reader of COCO's key points: a JSON document of images, annotations and categories, as one row for each image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sensorium.core.errors import DataError
from sensorium.core.plurals import counted
from sensorium.data.tables.annotated_columns import AnnotatedColumns
from sensorium.data.tables.text_encoding import AddNote

_FOLDERS = (".", "images")
"""Where images may lie beside the document."""


def is_coco_keypoints(document: Mapping[str, Any]) -> bool:
    """Return whether ``document`` is COCO's, with key points among its annotations."""
    images, annotations = document.get("images"), document.get("annotations")
    if not isinstance(images, list) or not isinstance(annotations, list):
        return False
    return any(isinstance(one, dict) and isinstance(one.get("keypoints"), list) for one in annotations)


def read_coco_keypoints(document: Mapping[str, Any], path: Path, add_note: AddNote) -> AnnotatedColumns:
    """Read ``document`` as the columns ``image`` and ``keypoints``, a mapping of names where the category names its points.

    An image without annotated points has no target. Of several annotated objects the largest counts, crowds apart.

    Args:
        document: The parsed JSON.
        path: Its file, for messages and to find the images.
        add_note: Receives notes.

    Raises:
        DataError: An annotation belongs to no image, or has another number of points than its category names.
    """
    names = {
        one.get("id"): [str(name) for name in one["keypoints"]]
        for one in document.get("categories", [])
        if isinstance(one, dict) and isinstance(one.get("keypoints"), list)
    }
    images = {one.get("id"): one.get("file_name") for one in document["images"] if isinstance(one, dict)}
    chosen: dict[Any, tuple[float, Any]] = {}
    several = set()
    for number, one in enumerate(document["annotations"], 1):
        if not isinstance(one, dict) or not isinstance(one.get("keypoints"), list) or one.get("iscrowd"):
            continue
        of = one.get("image_id")
        if of not in images:
            raise DataError(f"annotation {number} is of the image {of!r:.40}, which is not listed", file=path)
        points = one["keypoints"]
        if not any(points[2::3]):
            continue
        known = names.get(one.get("category_id"))
        if known is not None and len(points) != 3 * len(known):
            problem = f"annotation {number} has {len(points)} numbers, and its category {counted(len(known), 'point')}"
            raise DataError(problem, file=path, fix="write x, y and visible for each point of the category")
        cell: Any = points
        if known is not None:
            cell = {name: points[3 * i : 3 * i + 3] for i, name in enumerate(known)}
        area = one.get("area", 0)
        several |= {of} & chosen.keys()
        if of not in chosen or area > chosen[of][0]:
            chosen[of] = (area, cell)
    if several:
        add_note(
            f"{counted(len(several), 'image')} of {path.name} with several objects: the points of the largest are read"
        )
    folder = next((f for f in _FOLDERS if all((path.parent / f / str(n)).exists() for n in list(images.values())[:3])), ".")
    columns: dict[str, list[Any]] = {
        "image": [str(name) if folder == "." else f"{folder}/{name}" for name in images.values()],
        "keypoints": [chosen[key][1] if key in chosen else None for key in images],
    }
    return AnnotatedColumns(columns, ("keypoints",))
