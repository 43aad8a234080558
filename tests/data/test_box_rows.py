"""Tables with a row for each box."""

from __future__ import annotations

from pathlib import Path

import pytest

from sensorium.core.errors import CellError
from sensorium.data.tables.table import Table
from sensorium.modalities.boxes import BoundingBoxes

HEAD = "filename,width,height,class,xmin,ymin,xmax,ymax,weather,difficult,id\n"


def written(folder: Path, lines: str, head: str = HEAD) -> Table:
    path = folder / "boxes.csv"
    path.write_text(head + lines, encoding="utf-8")
    return Table.read(path)


def test_boxes_are_gathered_by_image(tmp_path: Path) -> None:
    rows = "b.png,9,9,cat,1,2,4,6,wet,0,7\na.png,9,9,,,,,,dry,,8\nb.png,9,9,dog,0,0,2.5,2,wet,1,9\n"
    table = written(tmp_path, rows)
    assert table.columns == ["filename", "weather", "boxes"]
    assert table.column("filename") == ["b.png", "a.png"]
    assert table.column("weather") == ["wet", "dry"]
    assert table.column("boxes") == [
        [{"bbox": [1, 2, 3, 4], "label": "cat"}, {"bbox": [0, 0, 2.5, 2], "label": "dog", "difficult": 1}],
        [],
    ], "an image without corners has no boxes, which is an answer"
    assert (table.target, [table.number(i) for i in range(2)]) == ("boxes", [1, 2])
    assert "columns that differ between the boxes of an image are left out: id" in table.notes[0]
    boxes = BoundingBoxes()
    boxes.fit(table.column("boxes"))
    assert boxes.classes == ["cat"]
    assert boxes.encode(table.column("boxes")[0])[0].tolist() == [1, 2, 4, 6, 0, 0]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("a.png,cat,1,2,wide,6", "box 2 has 'wide' where a coordinate is wanted"),
        ("a.png,cat,4,2,1,6", "box 2 is -3 wide and 4 high"),
        ("a.png,,1,2,4,6", "box 2 has '' for a label"),
        ("a.png,cat,1,,4,6", "box 2 has '' where a coordinate is wanted"),
    ],
)
def test_a_damaged_box_costs_its_cell(row: str, words: str, tmp_path: Path) -> None:
    table = written(tmp_path, f"a.png,cat,1,2,4,6\n{row}\nb.png,cat,1,2,4,6\n", "image,label,x1,y1,x2,y2\n")
    boxes = BoundingBoxes()
    boxes.fit(table.column("boxes"))
    with pytest.raises(CellError, match=words):
        boxes.encode(table.column("boxes")[0])
    assert len(boxes.encode(table.column("boxes")[1])) == 1


@pytest.mark.parametrize(
    ("head", "lines"),
    [
        ("image,x1,y1,x2\n", "a.png,1,2,3\na.png,1,2,3\n"),
        ("image,x1,y1,x2,y2\n", "a.png,1,2,3,4\nb.png,1,2,3,4\n"),
        ("patient,x1,y1,x2,y2\n", "1,1,2,3,4\n1,1,2,3,4\n"),
        ("image,width,height,x,y\n", "a.png,1,2,3,4\na.png,1,2,3,4\n"),
    ],
)
def test_other_tables_stay_as_they_are(head: str, lines: str, tmp_path: Path) -> None:
    table = written(tmp_path, lines, head)
    assert table.columns == head.strip().split(",")
    assert (len(table), table.target) == (2, None)
