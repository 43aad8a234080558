"""COCO's JSON as a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sensorium.core.errors import CellError, ConfigError, DataError
from sensorium.core.recipe import Recipe
from sensorium.data.tables.table import Table
from sensorium.modalities.mask import VOID, Mask
from sensorium.training.column_declaration import declare
from sensorium.training.training_request import Request


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


def segmented(folder: Path) -> Path:
    square = [[1, 1, 4, 1, 4, 4, 1, 4]]
    whole = {"size": [9, 9], "counts": [0, 81]}
    return written(
        folder,
        annotations=[
            {"image_id": 7, "category_id": 2, "bbox": [1, 1, 3, 3], "area": 9, "segmentation": square},
            {"image_id": 7, "category_id": 5, "bbox": [0, 0, 9, 9], "area": 81, "segmentation": whole},
            {"image_id": 7, "category_id": 5, "bbox": [5, 5, 3, 3], "area": 9},
            {"image_id": 3, "category_id": 5, "bbox": [0, 0, 9, 9], "area": 40, "iscrowd": 1, "segmentation": whole},
            {"image_id": 3, "category_id": 5, "bbox": [1, 1, 3, 3], "area": 90, "segmentation": square},
        ],
    )


def test_segmentations_are_masks(tmp_path: Path) -> None:
    table = Table.read(segmented(tmp_path))
    assert table.columns == ["image", "note", "boxes", "mask"]
    assert (table.target, table.annotations) == ("boxes", ("boxes", "mask"))
    mask = Mask()
    mask.fit(table.column("mask"))
    assert mask.classes == ["background", "cat", "dog"]
    first, second = (mask.encode(cell) for cell in table.column("mask"))
    assert first[2, 2] == 1, "the small one lies above the large one"
    assert first[0, 0] == 2
    assert first[6, 6] == VOID, "annotated with a box alone: unknown"
    assert second[2, 2] == 2, "crowds lie below all others, whatever their area"
    assert second[0, 0] == VOID


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ([[1, 1, 4, 1]], "at least three corners"),
        ({"size": [9, 9], "counts": [5]}, "do not add up to 9 × 9"),
        ({"size": [4, 4], "counts": [16]}, r"a region of size \[4, 4\] on a mask of size \[9, 9\]"),
        ("wide", "a polygon is a list|needs counts or polygons"),
    ],
)
def test_damaged_segmentations_cost_their_cell(segmentation: Any, words: str, tmp_path: Path) -> None:
    broken = {"image_id": 7, "category_id": 2, "bbox": [1, 1, 3, 3], "segmentation": segmentation}
    table = Table.read(written(tmp_path, annotations=[broken]))
    mask = Mask()
    mask.fit(table.column("mask"))
    with pytest.raises(CellError, match=words):
        mask.encode(table.column("mask")[0])
    assert (mask.encode(table.column("mask")[1]) == 0).all(), "an image without annotations is background"


def test_regions_of_unknown_names_are_refused(tmp_path: Path) -> None:
    mask = Mask()
    mask.fit(Table.read(segmented(tmp_path)).column("mask"))
    with pytest.raises(CellError, match=r"the class 'cats' of a region is not known; did you mean cat\?"):
        mask.encode({"size": [9, 9], "regions": [{"class": "cats", "counts": [0, 81]}]})
    mixed = [{"size": [2, 2], "regions": [{"class": label, "counts": [0, 4]}]} for label in (1, "cat")]
    with pytest.raises(ConfigError, match="numbers for classes, others names"):
        Mask().fit(mixed)


def test_annotations_beside_the_target_are_no_inputs(tmp_path: Path) -> None:
    table = Table.read(segmented(tmp_path))
    boxes = declare(table, Recipe(), [], {}).schema
    assert [column.name for column in boxes.targets] == ["boxes"]
    assert "mask" not in boxes.streams
    mask = declare(table, Recipe(), ["mask"], {}).schema
    assert [column.name for column in mask.targets] == ["mask"]
    assert "boxes" not in mask.streams
    plan = Request.of(table, task="segmentation").for_table(table.target, table.annotations).plan
    assert list(plan.model.tasks) == ["mask"], "the task says which of the annotations is meant"
