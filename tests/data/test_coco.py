"""COCO's JSON as a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sensorium.core.errors import DataError
from sensorium.data.tables.table import Table


def written(folder: Path, **changes: Any) -> Path:
    document = {
        "images": [
            {"id": 7, "file_name": "b.png", "width": 9, "height": 9, "note": "two"},
            {"id": 3, "file_name": "a.png", "width": 9, "height": 9},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 5, "bbox": [0, 0, 2, 2], "iscrowd": 1},
        ],
        "categories": [{"id": 2, "name": "cat"}, {"id": 5, "name": "dog"}],
        **changes,
    }
    path = folder / "boxes.json"
    path.write_text(json.dumps(document))
    return path


def test_a_row_for_each_image(tmp_path: Path) -> None:
    table = Table.read(written(tmp_path))
    assert table.columns == ["image", "note", "boxes"]
    assert table.target == "boxes"
    assert table.column("image") == ["b.png", "a.png"]
    assert table.column("note") == ["two", None]
    assert table.column("boxes") == [
        [{"bbox": [1, 2, 3, 4], "label": "cat"}, {"bbox": [0, 0, 2, 2], "label": "dog", "iscrowd": 1}],
        [],
    ], "an image without annotations has no boxes, which is an answer"


def test_images_of_a_sibling_folder_are_resolved(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "b.png").write_bytes(b"x")
    table = Table.read(written(tmp_path))
    assert table.column("image") == ["images/b.png", "images/a.png"]
    assert table.notes == ("images are in images/",)


def test_damaged_annotations_stay_in_their_cells(tmp_path: Path) -> None:
    broken = [{"image_id": 7, "category_id": 99}, {"image_id": 3, "category_id": 2, "bbox": "wide"}, {"image_id": 4}, "x"]
    table = Table.read(written(tmp_path, annotations=broken))
    assert table.column("boxes") == [[{"bbox": None, "label": None}], [{"bbox": "wide", "label": "cat"}]]
    assert table.notes == ("2 annotations of images that are not listed: left out",)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([{"id": 1}], "image 1 has no id or no file_name"),
        ([{"id": 1, "file_name": "a"}] * 2, "two images have the id 1"),
        (["x"], "image 1"),
    ],
)
def test_broken_images_are_refused(images: list[Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        Table.read(written(tmp_path, images=images, annotations=[]))


def test_a_document_that_lacks_a_list_is_named(tmp_path: Path) -> None:
    document = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(DataError, match="COCO without 'annotations'"):
        Table.read(tmp_path / "boxes.json")
