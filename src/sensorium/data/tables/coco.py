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
    """Return the columns of a document: ``image`` (a file), ``boxes``, and what else the images have (``note``).

    Where annotations have a ``segmentation`` there is also ``mask``: regions with labels (``codecs/regions.py``), small
    ones over large ones; crowds are void, and so is the box of an annotation without a segmentation. An image without
    annotations has no boxes, and a mask that is all background; both are answers. A damaged annotation stays in its cell,
    and costs that cell only.

    Args:
        document: What ``is_coco`` accepts.
        path: The file, for messages, and beside which the images are looked for.
        add_note: Receives notes.

    Raises:
        DataError: An image has no ``id`` or ``file_name``, or two have the same ``id``.
    """
    names = {entry.get("id"): entry.get("name") for entry in document["categories"] if _is_keyed(entry, "id")}
    boxes: dict[Any, list[Any]] = {}
    outlines: dict[Any, list[Mapping[str, Any]]] = {}
    for number, image in enumerate(document["images"], 1):
        if not _is_keyed(image, "id") or not isinstance(image.get("file_name"), str) or not image["file_name"]:
            raise DataError(f"image {number} has no id or no file_name", file=path, fix=_FIX)
        if image["id"] in boxes:
            raise DataError(f"two images have the id {image['id']!r:.40}", file=path, fix="give each an id of its own")
        boxes[image["id"]], outlines[image["id"]] = [], []
    lost = 0
    for annotation in document["annotations"]:
        own = boxes.get(annotation["image_id"]) if _is_keyed(annotation, "image_id") else None
        if own is None:
            lost += 1
            continue
        category = annotation.get("category_id")
        label = names.get(category) if isinstance(category, (int, str)) else None
        crowd = {"iscrowd": 1} if annotation.get("iscrowd") in (1, True) else {}
        own.append({"bbox": annotation.get("bbox"), "label": label, **crowd})
        outlines[annotation["image_id"]].append({**annotation, "label": label, "iscrowd": bool(crowd)})
    if lost:
        add_note(f"{counted(lost, 'annotation')} of images that are not listed: left out")
    files = with_folder([image["file_name"] for image in document["images"]], path, add_note)
    masks = {}
    if any(annotation.get("segmentation") for own in outlines.values() for annotation in own):
        masks[MASK] = [_mask(image, outlines[image["id"]]) for image in document["images"]]
    more = dict.fromkeys(key for image in document["images"] for key in image if key not in _OWN)
    return AnnotatedColumns(
        {
            IMAGE: files,
            **{key: [image.get(key) for image in document["images"]] for key in more},
            BOXES: [boxes[image["id"]] for image in document["images"]],
            **masks,
        },
        BOXES,
        (BOXES, *masks),
    )


def _mask(image: Mapping[str, Any], annotations: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The mask of an image, as ``draw_regions`` reads it: crowds first, so that others cover them, then the largest."""
    sizes = [one["segmentation"].get("size") for one in annotations if isinstance(one.get("segmentation"), Mapping)]
    size = [image.get("height"), image.get("width")]
    if None in size and sizes:
        size = sizes[0]

    def order(one: Mapping[str, Any]) -> tuple[bool, float]:
        area = one.get("area")
        return bool(one.get("segmentation")) and not one["iscrowd"], -area if isinstance(area, (int, float)) else 0.0

    return {"size": size, "regions": [_region(one) for one in sorted(annotations, key=order)]}


def _region(annotation: Mapping[str, Any]) -> dict[str, Any]:
    outline, box = annotation.get("segmentation"), annotation.get("bbox")
    what = {"iscrowd": 1} if annotation["iscrowd"] else {"label": annotation["label"]}
    if outline:
        return {**what, **(outline if isinstance(outline, Mapping) else {"polygons": outline})}
    if isinstance(box, list) and len(box) == 4 and all(isinstance(number, (int, float)) for number in box):
        left, top, wide, high = box
        right, bottom = left + wide, top + high
        return {"ignore": True, "polygons": [[left, top, right, top, right, bottom, left, bottom]]}
    return {**what, "polygons": None}


def _is_keyed(item: Any, key: str) -> bool:
    return isinstance(item, Mapping) and isinstance(item.get(key), (int, str))


def with_folder(files: list[str], path: Path, add_note: AddNote) -> list[str]:
    """Return the files with the folder beside the annotations in which they are: COCO names them without it.

    Args:
        files: Their names.
        path: The file of the annotations.
        add_note: Receives a note that names the folder.
    """
    first = next(iter(files), None)
    if first is None or (path.parent / first).exists():
        return files
    for folder in (*_FOLDERS, path.stem, path.stem.removeprefix("instances_")):
        if (path.parent / folder / first).exists():
            add_note(f"images are in {folder}/")
            return [f"{folder}/{name}" for name in files]
    return files
