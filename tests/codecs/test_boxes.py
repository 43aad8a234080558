"""Readers of boxes: lists, COCO objects, YOLO's text and Pascal VOC's XML, and what damage is called."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.codecs.boxes import MOST, read_boxes, written_box
from sensorium.codecs.voc import read_voc
from sensorium.core.errors import CellError
from sensorium.core.modality import Blob

VOC = """<?xml version="1.0"?>
<annotation><filename>a.jpg</filename><size><width>40</width><height>30</height></size>
  <object><name>cell</name><pose>Left</pose><difficult>0</difficult>
    <bndbox><xmin>3</xmin><ymin>4</ymin><xmax>12</xmax><ymax>20</ymax></bndbox>
    <part><name>core</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>6</xmax><ymax>6</ymax></bndbox></part></object>
  <object><name>dust</name><difficult>1</difficult>
    <bndbox><ymin>1</ymin><xmin>1</xmin><ymax>2</ymax><xmax>9.5</xmax></bndbox></object>
</annotation>"""


def blob(text: str, encoding: str = "utf-8") -> Blob:
    return Blob(text.encode(encoding), "cell.file")


def test_every_way_of_writing_gives_the_same_boxes() -> None:
    corners = [[3.0, 4.0, 13.0, 10.0], [0.5, 1.0, 2.5, 3.0]]
    for written in ("xywh", "xyxy", "cxcywh"):
        cell = [[*written_box(corners[0], written), "cat"], [*written_box(corners[1], written), 7]]
        for spelled in (cell, tuple(map(tuple, cell)), blob(json.dumps(cell)), {"boxes": cell}):
            boxes = read_boxes(spelled, written)
            assert boxes.corners.tolist() == corners
            assert boxes.labels == ["cat", "7"]
            assert boxes.relative is None


def test_coco_objects_say_what_is_a_crowd() -> None:
    cell = [
        {"bbox": [1, 2, 3, 4], "label": "cat", "iscrowd": 0},
        {"box": [1, 2, 3, 4], "category": "dog", "iscrowd": 1},
        {"bbox": [1, 2, 3, 4]},
    ]
    boxes = read_boxes(cell)
    assert boxes.labels == ["cat", "dog", "object"]
    assert boxes.ignored.tolist() == [False, True, False]


def test_yolo_files_hold_shares_and_may_be_empty() -> None:
    boxes = read_boxes(blob("0 0.5 0.5 0.2 0.4\r\n\n1 0.1 0.1 0.2 0.2\n"), names=["red", "white"])
    assert boxes.labels == ["red", "white"]
    assert np.allclose(boxes.corners, [[0.4, 0.3, 0.6, 0.7], [0, 0, 0.2, 0.2]])
    assert boxes.relative
    assert read_boxes(blob("3 0.5 0.5 0.2 0.4")).labels == ["3"]
    assert read_boxes(Blob(b"", "empty.txt")).labels == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_voc_files_count_pixels_from_one(encoding: str) -> None:
    boxes = read_boxes(blob(VOC, encoding), "xyxy")
    assert boxes.labels == ["cell", "dust"]
    assert boxes.corners.tolist() == [[2, 3, 12, 20], [0, 0, 9.5, 2]]
    assert boxes.ignored.tolist() == [False, True]
    assert boxes.relative is False


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ([[1, 2, 3, 4, "a"], [1, 2, 0, 4, "a"]], "box 2 is 0 wide and 4 high: it has no area"),
        ([[1, 2, -3, 4, "a"]], "box 1 is -3 wide"),
        ([[1, 2, float("nan"), 4, "a"]], "box 1 has 'nan' where a coordinate is wanted"),
        ([[1, 2, 1e300, 4, "a"]], "where a coordinate is wanted"),
        ([[1, 2, 3, "a"]], "where a coordinate is wanted"),
        ([[1, 2, 3]], r"box 1 is \[1, 2, 3\]"),
        ([[1, 2, 3, 4, ""]], "box 1 has '' for a label"),
        ([[1, 2, 3, 4, "x" * 300]], "for a label"),
        ([{"bbox": None, "label": "a"}], "box 1 has None where four numbers are wanted"),
        ([{"bbox": [1, 2, 3, 4], "label": None}], "box 1 has 'None' for a label"),
        ([[1, 2, 3, 4]] * (MOST + 1), "more than the 5,000 allowed"),
        ("a photo", "a str is no list of boxes"),
        ({"size": 3}, "a NoneType is no list of boxes"),
        (blob("0 0.5 0.5 0.2"), r"line 1 is '0 0.5 0.5 0.2'"),
        (blob("0 100 120 30 40"), "not shares of the width and height"),
        (blob("-1 0.5 0.5 0.2 0.2"), "line 1 is"),
        (blob("[[1, 2"), "not JSON"),
        (Blob(b"\x89PNG\r\n\x1a\n\0\xff", "a.png"), "neither text nor XML"),
        (blob("<annotation><object></annotation>"), "damaged XML"),
        (blob("<annotation><object><name>a</name></object></annotation>"), "object 1 of the XML has no xmin"),
        (blob("<a>" * 40), "elements within each other"),
        (blob(f"<annotation><object><name>{'a' * 5000}</name></object></annotation>"), "more than 4096 characters"),
    ],
)
def test_damage_is_named(cell: Any, words: str) -> None:
    with pytest.raises(CellError, match=words):
        read_boxes(cell)


def test_corners_that_are_no_corners_are_named() -> None:
    with pytest.raises(CellError, match=r"box 1 ends at \(30, 40\) and begins at \(100, 20\)") as caught:
        read_boxes([[100, 20, 30, 40, "a"]], "xyxy")
    assert "xywh" in str(caught.value.fix)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_xml_with_a_document_type_is_refused(encoding: str, tmp_path: Any) -> None:
    """No entity is expanded, and no other file is read."""
    (tmp_path / "secret.txt").write_text("secret")
    one = "<annotation><object><name>&x;</name></object></annotation>"
    bombs = (
        f'<!DOCTYPE a [<!ENTITY y "aaaa"><!ENTITY x "&y;&y;&y;&y;">]>{one}',
        f'<!DOCTYPE a [<!ENTITY x SYSTEM "file://{tmp_path}/secret.txt">]>{one}',
        '<!DOCTYPE a SYSTEM "http://localhost/a.dtd"><annotation/>',
    )
    for bomb in bombs:
        with pytest.raises(CellError, match="document type"):
            read_voc(bomb.encode(encoding))


@settings(max_examples=25, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=80),
        st.text(max_size=80),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.sampled_from(["bbox", "boxes", "label"]), inner),
            max_leaves=12,
        ),
    )
)
def test_anything_else_is_an_error_of_its_cell(cell: Any) -> None:
    for one in (
        cell,
        Blob(cell if isinstance(cell, bytes) else repr(cell).encode(), "x"),
        Blob(b"<a>" + repr(cell).encode(), "x"),
    ):
        try:
            boxes = read_boxes(one)
        except CellError:
            continue
        assert (boxes.corners[:, 2:] > boxes.corners[:, :2]).all()
