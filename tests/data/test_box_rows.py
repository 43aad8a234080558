"""CSV tables with a row for each box."""

from __future__ import annotations

from pathlib import Path

import pytest

from sensorium.core.errors import CellError, DataError
from sensorium.core.recipe import Recipe
from sensorium.core.registry import build
from sensorium.data.tables.table import Table
from sensorium.training.column_declaration import declare

HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax,site"


def table(folder: Path, *rows: str, header: str = HEADER) -> Table:
    path = folder / "boxes.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return Table.read(path)


def test_the_rows_of_an_image_are_one_cell(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"x")
    rows = ("a.png,9,9,cat,1,2,4,6,x", "b.png,9,9,,,,,,y", "a.png,9,9,dog,0,0,2.5,2,x")
    read = table(tmp_path, *rows)
    assert read.columns == ["filename", "site", "boxes"]
    assert read.target == "boxes"
    assert read.column("filename") == ["images/a.png", "images/b.png"]
    assert read.column("site") == ["x", "y"]
    cat, dog = {"bbox": [1, 2, 3, 4], "label": "cat"}, {"bbox": [0, 0, 2.5, 2], "label": "dog"}
    assert read.column("boxes") == [[cat, dog], []], "a row without coordinates says that nothing is there"
    assert "3 rows with a box each are read as 2 images" in read.notes[0]
    declared = declare(read, Recipe(), [], {}).schema
    assert (declared.columns["boxes"].role, declared.columns["boxes"].spec["kind"]) == ("target", "boxes")


def test_groups_are_ignored_and_what_differs_is_left_out(tmp_path: Path) -> None:
    header = "Path,Label,X1,Y1,X2,Y2,IsGroupOf,score"
    read = table(tmp_path, "a.jpg,cat,0.1,0.1,0.3,0.2,1,3", "a.jpg,cat,0.5,0.5,0.7,0.9,0,4", header=header)
    assert read.columns == ["Path", "boxes"]
    assert read.column("boxes") == [
        [{"bbox": [0.1, 0.1, 0.2, 0.1], "label": "cat", "ignore": 1}, {"bbox": [0.5, 0.5, 0.2, 0.4], "label": "cat"}]
    ]
    assert read.notes[1].endswith("left out: score")


def test_damage_costs_its_cell(tmp_path: Path) -> None:
    read = table(tmp_path, "a.png,9,9,cat,1,wide,4,6,x", "b.png,9,9,cat,4,1,2,6,x", "c.png,9,9,,1,1,2,6,x")
    boxes = build("modalities", {"kind": "boxes"})
    boxes.fit(read.column("boxes"))
    for cell, words in zip(read.column("boxes"), ("'wide'", "-2 wide", "label"), strict=True):
        with pytest.raises(CellError, match=words):
            boxes.encode(cell)


def test_a_box_of_no_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 2, column 'filename': a box of no image"):
        table(tmp_path, "a.png,9,9,cat,1,2,4,6,x", ",9,9,cat,1,2,4,6,x")


@pytest.mark.parametrize(
    "header", ["filename,xmin,ymin,xmax,ymax", "filename,class,xmin,ymin,xmax", "day,class,x1,y1,x2,y2"]
)
def test_other_tables_are_left_alone(header: str, tmp_path: Path) -> None:
    cells = ",".join(["a.png", *["1"] * header.count(",")])
    assert table(tmp_path, cells, header=header).columns == header.split(",")
    full = "image,class,x1,y1,x2,y2"
    assert table(tmp_path, "shop,3,1,2,3,4", header=full).columns == full.split(","), "images are files"
