"""Key points as cells: how they are written, what is wrong with them, and that they move with their image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sensorium.codecs.keypoints import read_keypoints
from sensorium.core.batch import Batch
from sensorium.core.errors import CellError, ConfigError, DataError
from sensorium.core.goal import Goal
from sensorium.core.schema import Schema
from sensorium.data.files.media_access import LocalFiles
from sensorium.data.inspection.type_inference import infer_types
from sensorium.data.tables.table import Table
from sensorium.heads.keypoints import paired_columns, swapped, turn_spread
from sensorium.modalities.keypoints import Keypoints
from sensorium.tasks.keypoints import Keypoints as Task

POINTS = [[3.5, 4, 2], [10, 20.25, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    "cell",
    [
        POINTS,
        json.dumps(POINTS),
        np.array(POINTS),
        [3.5, 4, 2, 10, 20.25, 1, 0, 0, 0],
        {"a": [3.5, 4], "b": [10, 20.25, 1], "c": None},
        {"a": {"x": 3.5, "y": 4}, "b": {"x": "10", "y": 20.25, "v": 1}, "c": {"x": 1, "y": 2, "visible": 0}},
        json.dumps({"a": [3.5, 4], "b": [10, 20.25, 1], "c": [float("nan"), 3]}),
        [[3.5, 4, 2], [10, 20.25, 1], None],
    ],
)
def test_all_ways_of_writing_are_the_same_points(cell: Any) -> None:
    names, points = read_keypoints(cell)
    assert np.array_equal(points, np.array(POINTS, np.float32))
    assert names == (["a", "b", "c"] if isinstance(cell, dict) or "a" in str(cell) else None)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ([[1, 2, 3]], "visibility 3"),
        ([[1, 2, 2, 0]], "point '0'"),
        ([[1, "left", 2]], "no number"),
        ({"nose": {"x": 1}}, "'nose' has no x and y"),
        ("[[1, 2", "no JSON"),
        ([1, 2, 7, 4], "4 numbers"),
        ([[1e300, 2]], "in no picture"),
        ([[1, 2]] * 2000, "2000 points"),
        ([], "no list"),
        (3, "no list"),
    ],
)
def test_damaged_cells_are_refused(cell: Any, message: str) -> None:
    with pytest.raises(CellError, match=message):
        read_keypoints(cell)


def test_units_are_learnt_and_checked() -> None:
    pixels, shares = Keypoints(), Keypoints()
    pixels.fit([POINTS])
    shares.fit([[[0.5, 0.25], [1, 0]]])
    assert (pixels.relative, shares.relative) == (False, True)
    assert "pixels" in pixels.notes()
    assert "shares of width and height" in shares.notes()
    assert "far outside an image of 8 × 8" in pixels.misfit(np.array([3.0, 4, 10, 20]), np.array([8.0, 8]))
    assert not pixels.misfit(np.array([3.0, 4, 10, 20]), np.array([20.0, 20]))
    with pytest.raises(CellError, match="not a share"):
        shares.encode([[0.5, 0.25], [12, 0]])
    with pytest.raises(CellError, match="has 3 points, but 2 are expected"):
        shares.encode(POINTS)
    named = Keypoints(names=["eye", "beak"])
    named.fit([[[0.5, 0.25], [1, 0]]])
    assert named.names == ["eye", "beak"]
    assert named.encode({"beak": [0.5, 0.75]}).tolist() == [[0, 0, 0], [0.5, 0.75, 2]]
    with pytest.raises(CellError, match="'bill'"):
        named.encode({"bill": [0.5, 0.5]})
    with pytest.raises(ConfigError):
        Keypoints(names=["eye", "eye"])


def test_columns_are_recognised() -> None:
    rows = [{"points": json.dumps([[i + 0.5, 2, 2], [3, i, 1]]), "p": [[i, 2.5], [3, 4]]} for i in range(12)]
    table = Table.read(rows)
    assert infer_types(table, targets=["points"])["points"].kind == "keypoints"
    assert infer_types(table)["p"].kind == "series", "an input of pairs may be a short series"


def test_pairs_and_paired_columns() -> None:
    names = ["nose", "left_ear", "right_ear", "L_paw", "R_paw", "uplift"]
    assert swapped(names, None) == [0, 2, 1, 4, 3, 5]
    assert swapped(names, {"nose": "uplift"}) == [5, 1, 2, 3, 4, 0]
    with pytest.raises(ConfigError, match="no point named 'tail'"):
        swapped(names, {"nose": "tail"})
    with pytest.raises(ConfigError, match="two pairs"):
        swapped(names, {"nose": "L_paw", "R_paw": "nose"})
    (nose, tail) = paired_columns(["nose_x", "tail.X", "nose_y", "nose_visible", "tail.Y"])
    assert nose == ("nose", "nose_x", "nose_y", "nose_visible")
    assert tail == ("tail", "tail.X", "tail.Y", None)
    with pytest.raises(ConfigError, match="no column for its y"):
        paired_columns(["nose_x", "tail_y"])
    with pytest.raises(ConfigError, match="no coordinate"):
        paired_columns(["nose_x", "age"])


def test_the_direction_of_shapes() -> None:
    rng = np.random.default_rng(0)

    def shapes(spread: float) -> list[Any]:
        turns = np.radians(rng.normal(30, spread, 4000))
        ends = np.stack([5 + 9 * np.cos(turns), 3 + 9 * np.sin(turns), np.full(4000, 2)], axis=1)
        return [np.array([[5, 3, 2], end]) for end in ends]

    assert turn_spread(shapes(20.0)) == pytest.approx(20, abs=1)
    assert (turn_spread(shapes(400.0)) or 0) > 100
    assert turn_spread(shapes(1.0)[:5]) is None


def test_points_move_as_pixels_do(tmp_path: Path) -> None:
    """A dot is where its point says, after turning, cropping, flipping and scaling; left and right change places."""
    rng = np.random.default_rng(0)
    wide, high = 60, 44
    down, across = np.mgrid[:high, :wide] + 0.5
    rows = []
    for i in range(40):
        x, y = rng.uniform(20, wide - 20), rng.uniform(15, high - 15)
        Image.fromarray((255 * np.exp(-((across - x) ** 2 + (down - y) ** 2) / 8)).astype(np.uint8)).save(
            tmp_path / f"{i}.png"
        )
        rows.append({"photo": f"{i}.png", "points": {"left": [x, y], "right": [x + 5, y, 1]}})
    schema = Schema.declare(
        {
            "photo": {"kind": "image", "rotate": 180.0, "flip": "both", "crop": "random"},
            "points": {"kind": "keypoints", "role": "target", "on": "photo"},
        }
    )
    files = LocalFiles(tmp_path)
    for column in schema.coded:
        column.reader.fit([files.open(row[column.name]) if column.name == "photo" else row[column.name] for row in rows])
    batch = schema.collate([schema.encode(row, media=files, targets=True) for row in rows])
    prepared = schema.prepare(batch, torch.Generator().manual_seed(0))
    task = _task(schema)
    target = task.target(prepared)
    assert target is not None
    size = torch.tensor(schema.layout("photo").size)  # type: ignore[union-attr]
    pictures = prepared.inputs["photo"].data.mean(dim=1)
    pictures = pictures - pictures.flatten(1).median(dim=1).values[:, None, None]
    y, x = torch.meshgrid(*(torch.arange(int(n)) + 0.5 for n in size), indexing="ij")
    mirrored = checked = 0
    for picture, points, frame in zip(pictures, target.data, prepared.inputs["photo"].frame, strict=True):  # type: ignore[arg-type]
        flipped = bool(torch.det(frame[:, :2]) < 0)
        own = points[1 if flipped else 0]
        place = own[:2] * size.flip(0)
        if own[2] == 0 or bool(((place < 6) | (place > size.flip(0) - 6)).any()):
            continue
        near = (((x - place[0]) ** 2 + (y - place[1]) ** 2) < 81) * picture.clamp(min=0)
        middle = torch.stack([(near * x).sum(), (near * y).sum()]) / near.sum()
        assert torch.allclose(middle, place, atol=0.7), (middle, place)
        assert own[2] == 2
        mirrored, checked = mirrored + flipped, checked + 1
    assert checked > 15
    assert 0 < mirrored < checked
    assert torch.allclose(target.data[..., 3:], batch.targets["points"].data), "in the user's units they stay"


def _task(schema: Schema) -> Task:
    goal = Goal(
        "points",
        {"points": schema.columns["points"].reader},
        {},
        {"photo": schema.layout("photo")},
        lies_on={"points": "photo"},
        bases={"points": schema.columns["photo"].reader},
    )
    return Task(goal, 8, hidden=4)


def test_a_row_without_a_labelled_point_has_no_target() -> None:
    reader = Keypoints()
    reader.fit([POINTS])
    field = reader.collate([reader.encode(POINTS), reader.encode([[1, 1, 0]] * 3), None])
    target = Task(Goal.of(reader), 8, hidden=4).target(Batch({}, {"target": field}, torch.ones(3)))
    assert target is not None
    assert target.present.tolist() == [True, False, False]


# ── tables ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_coco_is_read_as_a_row_for_each_image(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in "abc":
        (tmp_path / "images" / f"{name}.png").write_bytes(b"")
    annotation = {"category_id": 7, "iscrowd": 0}
    document = {
        "images": [{"id": i, "file_name": f"{name}.png"} for i, name in enumerate("abc")],
        "annotations": [
            {**annotation, "image_id": 0, "area": 5, "keypoints": [1, 2, 2, 0, 0, 0]},
            {**annotation, "image_id": 0, "area": 9, "keypoints": [3, 4, 2, 5, 6, 1]},
            {**annotation, "image_id": 1, "area": 9, "keypoints": [0, 0, 0, 0, 0, 0]},
        ],
        "categories": [{"id": 7, "name": "bird", "keypoints": ["beak", "tail"]}],
    }
    (tmp_path / "birds.json").write_text(json.dumps(document))
    table = Table.read(tmp_path / "birds.json")
    assert table.column("image") == ["images/a.png", "images/b.png", "images/c.png"]
    assert table.column("keypoints") == [{"beak": [3, 4, 2], "tail": [5, 6, 1]}, None, None]
    assert "1 image of birds.json with several objects" in table.notes[0]
    document["annotations"].append({**annotation, "image_id": 9, "keypoints": [1, 1, 2, 1, 1, 2]})  # type: ignore[attr-defined]
    (tmp_path / "birds.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match="not listed"):
        Table.read(tmp_path / "birds.json")


def test_deeplabcut_is_read(tmp_path: Path) -> None:
    path = tmp_path / "CollectedData_me.csv"
    head = "scorer,,,me,me,me,me\nbodyparts,,,nose,nose,tail,tail\ncoords,,,x,y,x,y\n"
    (tmp_path / "img1.png").write_bytes(b"")
    path.write_text(f"{head}labeled-data,v,img1.png,1.5,2,,\nlabeled-data,v,img2.png,3,4,5,6.25\n")
    table = Table.read(path)
    assert table.column("image") == ["img1.png", "labeled-data/v/img2.png"]
    assert table.column("keypoints") == [{"nose": [1.5, 2], "tail": None}, {"nose": [3, 4], "tail": [5, 6.25]}]
    path.write_text("scorer,net,net,net\nbodyparts,nose,nose,nose\ncoords,x,y,likelihood\n0,1,2,0.9\n1,2,3,0.8\n")
    table = Table.read(path)
    assert table.column("frame") == ["0", "1"]
    assert table.column("keypoints")[1] == {"nose": [2, 3]}
    assert "likelihood" in table.notes[0]
    path.write_text("scorer,net,net\nindividuals,one,one\nbodyparts,nose,nose\ncoords,x,y\n")
    with pytest.raises(DataError, match="several individuals"):
        Table.read(path)
    path.write_text(f"{head}labeled-data,v,img1.png,1.5,two,,\n")
    with pytest.raises(DataError, match="'two' is not a coordinate"):
        Table.read(path)
    path.write_text("scorer,team\nAda,blue\nBob,red\n")
    assert Table.read(path).columns == ["scorer", "team"], "an ordinary table may have a scorer too"
