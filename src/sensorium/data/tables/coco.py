"""COCO's JSON of annotations as a table: a row for each image, with its boxes and its mask."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sensorium.core.errors import DataError
from sensorium.core.plurals import counted
from sensorium.data.tables.annotated_columns import AnnotatedColumns
from sensorium.data.tables.text_encoding import AddNote

IMAGE, BOXES, MASK = "image", "boxes", "mask"
"""Columns of the table."""
_FOLDERS = ("images", "image", "JPEGImages", "data")
_OWN = ("id", "file_name", "width", "height", "license", "flickr_url", "coco_url", "date_captured", IMAGE, BOXES, MASK)
_FIX = '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [...], "categories": [...]}'


def is_coco(document: Any) -> bool:
    """Return whether a JSON ``document`` lists images and annotations, as COCO's do."""
    return (
        isinstance(document, Mapping)
        and isinstance(document.get("images"), list)
        and isinstance(document.get("annotations"), list)
        and isinstance(document.get("categories"), list)
    )


def coco_columns(document: Mapping[str, Any], path: Path, add_note: AddNote) -> AnnotatedColumns:
    """Return the columns of a document: ``image`` (a file), what else the images have (``note``), ``boxes``, and ``mask``
    where an annotation has a segmentation.

    An image without annotations has no boxes, which is an answer. A damaged annotation stays in its cell, and costs that
    cell only.

    Args:
        document: What ``is_coco`` accepts.
        path: The file, for messages, and beside which the images are looked for.
        add_note: Receives notes.

    Raises:
        DataError: An image has no ``id`` or ``file_name``, or two have the same ``id``.
    """
    names = {one.get("id"): one.get("name") for one in document["categories"] if _is_keyed(one, "id")}
    annotations: dict[Any, list[Mapping[str, Any]]] = {}
    for number, image in enumerate(document["images"], 1):
        if not _is_keyed(image, "id") or not isinstance(image.get("file_name"), str) or not image["file_name"]:
            raise DataError(f"image {number} has no id or no file_name", file=path, fix=_FIX)
        if image["id"] in annotations:
            raise DataError(f"two images have the id {image['id']!r:.40}", file=path, fix="give each an id of its own")
        annotations[image["id"]] = []
    lost = 0
    for annotation in document["annotations"]:
        own = annotations.get(annotation["image_id"]) if _is_keyed(annotation, "image_id") else None
        if own is None:
            lost += 1
        else:
            category = annotation.get("category_id")
            own.append({**annotation, "label": names.get(category) if isinstance(category, (int, str)) else None})
    if lost:
        add_note(f"{counted(lost, 'annotation')} of images that are not listed: left out")
    files = _with_folder([image["file_name"] for image in document["images"]], path, add_note)
    more = dict.fromkeys(key for image in document["images"] for key in image if key not in _OWN)
    columns = {
        IMAGE: files,
        **{key: [image.get(key) for image in document["images"]] for key in more},
        BOXES: [[_box(item) for item in own] for own in annotations.values()],
    }
    segmented = any(item.get("segmentation") for own in annotations.values() for item in own)
    if segmented:
        columns[MASK] = [_mask(image, annotations[image["id"]]) for image in document["images"]]
    return AnnotatedColumns(columns, (BOXES, MASK) if segmented else (BOXES,))


def _box(annotation: Mapping[str, Any]) -> dict[str, Any]:
    crowd = {"iscrowd": 1} if _is_crowd(annotation) else {}
    return {"bbox": annotation.get("bbox"), "label": annotation["label"], **crowd}


def _mask(image: Mapping[str, Any], annotations: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The regions of an image as ``codecs/regions.py`` draws them: crowds below all others, large regions below small."""
    ordered = sorted(annotations, key=lambda item: (not _is_crowd(item), -_area(item)))
    sizes = [image.get("height"), image.get("width")]
    if None in sizes:  # run lengths bring the size with them
        outlines = (item.get("segmentation") for item in annotations)
        sizes = next((outline["size"] for outline in outlines if isinstance(outline, Mapping) and "size" in outline), sizes)
    return {"size": sizes, "regions": [_region(item) for item in ordered]}


def _region(annotation: Mapping[str, Any]) -> dict[str, Any]:
    outline = annotation.get("segmentation")
    crowd = {"iscrowd": 1} if _is_crowd(annotation) else {}
    if isinstance(outline, Mapping):
        return {"class": annotation["label"], **outline, **crowd}
    if outline:
        return {"class": annotation["label"], "polygons": outline, **crowd}
    # Annotated with a box alone: which of its pixels belong to the object is not known.
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return {"class": annotation["label"], "polygons": None}
    left, top, right, bottom = box[0], box[1], box[0] + box[2], box[1] + box[3]
    return {"polygons": [[left, top, right, top, right, bottom, left, bottom]], "ignore": 1}


def _area(annotation: Mapping[str, Any]) -> float:
    area = annotation.get("area")
    return float(area) if _is_number(area) else 0.0  # type: ignore[arg-type]


def _is_crowd(annotation: Mapping[str, Any]) -> bool:
    return annotation.get("iscrowd") in (1, True)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_keyed(item: Any, key: str) -> bool:
    return isinstance(item, Mapping) and isinstance(item.get(key), (int, str))


def _with_folder(files: list[str], path: Path, add_note: AddNote) -> list[str]:
    """The files, in the folder beside the annotations in which they are: COCO names them without it."""
    first = next(iter(files), None)
    if first is None or (path.parent / first).exists():
        return files
    for folder in (*_FOLDERS, path.stem, path.stem.removeprefix("instances_")):
        if (path.parent / folder / first).exists():
            add_note(f"images are in {folder}/")
            return [f"{folder}/{name}" for name in files]
    return files
