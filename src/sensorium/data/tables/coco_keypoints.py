"""Reader of COCO's key points: a JSON document of images, annotations and categories, as one row for each image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sensorium.core.errors import DataError
from sensorium.core.plurals import counted
from sensorium.data.tables.text_encoding import AddNote

_FOLDERS = (".", "images")
"""Where images may lie beside the document."""


def is_coco_keypoints(document: Mapping[str, Any]) -> bool:
    """Return whether ``document`` is COCO's, with key points among its annotations."""
    images, annotations = document.get("images"), document.get("annotations")
    if not isinstance(images, list) or not isinstance(annotations, list):
        return False
    return any(isinstance(annotation, dict) and isinstance(annotation.get("keypoints"), list) for annotation in annotations)


def read_coco_keypoints(document: Mapping[str, Any], path: Path, add_note: AddNote) -> dict[str, list[Any]]:
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
        category.get("id"): [str(name) for name in category["keypoints"]]
        for category in document.get("categories", [])
        if isinstance(category, dict) and isinstance(category.get("keypoints"), list)
    }
    images = {image.get("id"): image.get("file_name") for image in document["images"] if isinstance(image, dict)}
    chosen: dict[Any, tuple[float, Any]] = {}
    several = set()
    for number, annotation in enumerate(document["annotations"], 1):
        if (
            not isinstance(annotation, dict)
            or not isinstance(annotation.get("keypoints"), list)
            or annotation.get("iscrowd")
        ):
            continue
        of = annotation.get("image_id")
        if of not in images:
            raise DataError(f"annotation {number} is of the image {of!r:.40}, which is not listed", file=path)
        points = annotation["keypoints"]
        if not any(points[2::3]):
            continue
        known = names.get(annotation.get("category_id"))
        if known is not None and len(points) != 3 * len(known):
            problem = f"annotation {number} has {len(points)} numbers, and its category {counted(len(known), 'point')}"
            raise DataError(problem, file=path, fix="write x, y and visible for each point of the category")
        cell: Any = points
        if known is not None:
            cell = {name: points[3 * i : 3 * i + 3] for i, name in enumerate(known)}
        area = annotation.get("area", 0)
        several |= {of} & chosen.keys()
        if of not in chosen or area > chosen[of][0]:
            chosen[of] = (area, cell)
    if several:
        add_note(
            f"{counted(len(several), 'image')} of {path.name} with several objects: the points of the largest are read"
        )
    folder = next((f for f in _FOLDERS if all((path.parent / f / str(n)).exists() for n in list(images.values())[:3])), ".")
    return {
        "image": [str(name) if folder == "." else f"{folder}/{name}" for name in images.values()],
        "keypoints": [chosen[key][1] if key in chosen else None for key in images],
    }
