"""COCO's JSON as a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sensorium.codecs.regions import draw_regions
from sensorium.core.errors import CellError, DataError
from sensorium.core.recipe import Recipe
from sensorium.data.files.media_access import LocalFiles
from sensorium.data.shards.pack import pack
from sensorium.data.tables.table import Table
from sensorium.reporting.console import Console
from sensorium.training.column_declaration import declare
from sensorium.training.shard_training import from_shards
from sensorium.training.training_request import Request, with_task


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


def test_segmentations_become_masks(tmp_path: Path) -> None:
    ring = [[0, 0, 4, 0, 4, 4, 0, 4]]
    of = {"image_id": 7, "category_id": 2, "bbox": [0, 0, 4, 4]}
    annotations = [
        {**of, "area": 4, "segmentation": [[1, 1, 3, 1, 3, 3, 1, 3]], "category_id": 5},
        {**of, "area": 16, "segmentation": ring},
        {**of, "area": 9, "segmentation": {"size": [9, 9], "counts": [72, 9]}, "iscrowd": 1},
        {**of, "bbox": [6, 6, 2, 2], "segmentation": []},
    ]
    table = Table.read(written(tmp_path, annotations=annotations))
    assert table.columns == ["image", "note", "boxes", "mask"]
    assert table.target == "boxes"
    assert table.annotations == ("boxes", "mask")
    first, second = table.column("mask")
    assert second == {"size": [9, 9], "regions": []}, "an image without annotations is all background"
    mask = draw_regions(first, 1000, {"cat": 2, "dog": 5}.__getitem__)
    wanted = np.zeros((9, 9), int)
    wanted[:4, :4] = 2
    wanted[1:3, 1:3] = 5  # the smaller over the larger, whatever their order
    wanted[6:8, 6:8] = wanted[:, 8] = -1  # a box without a segmentation, and a crowd
    assert np.array_equal(mask, wanted)


def test_the_size_of_a_mask_may_be_that_of_its_run_lengths(tmp_path: Path) -> None:
    outline = {"size": [3, 2], "counts": [0, 6]}
    annotations = [{"image_id": 1, "category_id": 2, "bbox": [0, 0, 2, 3], "segmentation": outline}]
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}]
    first, second = Table.read(written(tmp_path, images=images, annotations=annotations)).column("mask")
    assert draw_regions(first, 10, lambda _: 1).all()
    with pytest.raises(CellError, match="needs its size"):
        draw_regions(second, 10)


def test_the_task_chooses_among_the_annotations(tmp_path: Path) -> None:
    annotations = [{"image_id": 7, "category_id": 2, "bbox": [0, 0, 2, 3], "segmentation": [[0, 0, 2, 0, 2, 3]]}]
    table = Table.read(written(tmp_path, annotations=annotations))
    for task, target, other in (("segmentation", "mask", "boxes"), ("detection", "boxes", "mask")):
        request = Request(source=table, plan=with_task(Recipe(), task, None, {}))
        request = request.for_table(table.target, table.annotations)
        schema = declare(table, request.plan, [], {}).schema
        assert (schema.columns[target].role, schema.columns[other].role) == ("target", "ignore")
    schema = declare(table, Recipe(), ["mask"], {}).schema
    assert schema.columns["mask"].spec["kind"] == "mask", "recognised by its regions"
    assert schema.columns["boxes"].role == "ignore", "what is annotated is no input"


@pytest.mark.parametrize("name", ["parquet", "tar"])
def test_what_is_annotated_is_known_after_packing(tmp_path: Path, name: Any) -> None:
    from PIL import Image

    for file in ("a.png", "b.png"):
        Image.new("RGB", (9, 9)).save(tmp_path / file)
    annotations = [{"image_id": 7, "category_id": 2, "bbox": [0, 0, 2, 3], "segmentation": [[0, 0, 2, 0, 2, 3]]}]
    table = Table.read(written(tmp_path, annotations=annotations))
    assert pack(table, tmp_path / "packed", media=LocalFiles(tmp_path), format=name) == []
    again = Table.read(tmp_path / "packed")
    assert (again.target, again.annotations) == ("boxes", ("boxes", "mask"))
    for column in ("boxes", "mask"):
        assert [json.loads(cell) for cell in again.column(column)] == table.column(column)
    schema = declare(again, Recipe(), ["mask"], {}).schema
    assert schema.columns["boxes"].role == "ignore", "what is annotated is no input"
    request = Request(
        source=tmp_path / "packed", valid=tmp_path / "packed", plan=with_task(Recipe(), "detection", None, {})
    )
    streamed = from_shards(request, Console(quiet=True)).schema
    assert (streamed.columns["boxes"].role, streamed.columns["mask"].role) == ("target", "ignore")


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
