"""Masks as a kind of cell: their classes are learnt or given, and they follow their image."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from sensorium.core.batch import Field
from sensorium.core.errors import CellError, ConfigError
from sensorium.core.registry import build, find
from sensorium.modalities.mask import Mask

DRAW = np.random.default_rng(0)


def fitted(cells: list[Any], **options: Any) -> Any:
    mask = build("modalities", {"kind": "mask", **options})
    mask.fit(iter(cells))
    return mask


def test_numbers_become_classes_and_come_back() -> None:
    cell = DRAW.choice([0, 3, 7], (30, 40)).astype(np.uint8)
    mask = fitted([cell])
    assert mask.classes == ["0", "3", "7"]
    assert mask.background == 0
    assert (mask.state["height"], mask.state["width"]) == (30, 40)
    codes = mask.encode(cell)
    assert set(np.unique(codes)) == {0, 1, 2}
    assert np.array_equal(mask.decode(codes).data, cell)
    assert mask.decode(codes).kind == "mask"


@pytest.mark.parametrize(
    ("values", "classes", "void"),
    [
        ([0, 1, 255], ["0", "1"], [255]),
        ([0, 255], ["0", "255"], []),
        ([0, 128, 255], ["0", "128", "255"], []),
        ([1, 2, 3], ["1", "2", "3"], []),
    ],
)
def test_255_is_void_beside_small_numbers_alone(values: list[int], classes: list[str], void: list[int]) -> None:
    cell = np.array(values, np.uint8)[DRAW.integers(0, len(values), (20, 20))]
    mask = fitted([cell])
    assert mask.classes == classes
    assert mask.state["void"] == void
    assert bool((mask.encode(cell) == 255).any()) == bool(void)
    assert ("is void" in mask.notes()) == bool(void)


def test_void_can_be_said() -> None:
    cell = DRAW.integers(0, 3, (20, 20)).astype(np.uint8)
    assert fitted([cell], void="2").classes == ["0", "1"]
    assert fitted([np.where(cell == 2, 255, cell).astype(np.uint8)], void="none").classes == ["0", "1", "255"]


def test_colours_are_learnt_or_given() -> None:
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
    cell = colours[DRAW.integers(0, 3, (24, 24))]
    mask = fitted([cell])
    assert mask.classes == ["#000000", "#0000ff", "#ff0000"]
    assert mask.background == 0
    answer = mask.decode(mask.encode(cell))
    assert answer.kind == "image", "written in the colours of the training masks"
    assert np.array_equal(answer.data, cell)
    named = fitted([cell], classes={"ground": "#000000", "lung": "#ff0000"})
    assert named.classes == ["ground", "lung"]
    codes = named.encode(cell)
    assert np.array_equal(codes == 255, (cell == [0, 0, 255]).all(axis=2)), "colours of no class are void"
    assert np.array_equal(codes == 1, (cell == [255, 0, 0]).all(axis=2))


def test_a_value_that_training_did_not_have_is_void() -> None:
    cell = DRAW.integers(0, 2, (20, 20)).astype(np.uint8)
    other = cell.copy()
    other[:3] = 9
    assert (fitted([cell]).encode(other)[:3] == 255).all()


def test_smoothed_edges_are_taken_for_the_nearest_class() -> None:
    cell = np.zeros((64, 64), np.uint8)
    cell[16:48, 16:48] = 250
    cell[15, :] = DRAW.integers(1, 250, 64)  # as saving as JPEG does
    cell[:, 15] = DRAW.integers(1, 250, 64)
    mask = fitted([cell])
    assert mask.classes == ["0", "250"]
    assert "nearest" in mask.notes()
    assert np.array_equal(mask.encode(cell)[15], cell[15] > 125)


def test_a_photo_is_no_mask() -> None:
    with pytest.raises(ConfigError, match="as photos have"):
        fitted([DRAW.integers(0, 256, (64, 64, 3), dtype=np.uint8)])
    with pytest.raises(ConfigError, match="as photos have"):
        fitted([DRAW.integers(0, 256, (64, 64), dtype=np.uint8)])


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"size": 2}, "not between"),
        ({"classes": {"a": 1}}, "2 to 254"),
        ({"classes": {"a": 1, "b": 1}}, "2 to 254"),
        ({"classes": {"a": 1, "b": "red"}}, "no class number and no colour"),
        ({"void": "white"}, "no class number and no colour"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        build("modalities", {"kind": "mask", **options})


def framed(mask: Any, cell: np.ndarray, image: Any, pixels: np.ndarray, generator: Any = None) -> tuple[Field, Field]:
    """The mask and its image, prepared together as a batch is."""
    from sensorium.core.collation import with_frames

    on = with_frames(image.collate([image.encode(pixels)]), image, [image.extent(pixels)])
    on = image.prepare(on, generator)
    stored = with_frames(mask.collate([mask.encode(cell)]), mask, [mask.extent(cell)])
    return mask.prepare_target(stored, on), on


@pytest.mark.parametrize("options", [{}, {"flip": "horizontal"}, {"rotate": 90.0}, {"crop": "random"}, {"share": 0.7}])
def test_it_follows_its_image_whatever_is_done_to_that(options: dict[str, Any]) -> None:
    """An image that shows its own mask: after augmentation they still agree."""
    cell = np.zeros((60, 60), np.uint8)
    cell[10:35, 20:50] = 1
    pixels = cell * 255
    image = build(
        "modalities", {"kind": "image", "size": 60, "mean": [0.0], "deviation": [1.0], "augment": "none", **options}
    )
    image.fit(iter([pixels]))
    for seed in range(6):
        target, on = framed(fitted([cell]), cell, image, pixels, torch.Generator().manual_seed(seed))
        known = target.data[0] != 255
        agree = (on.data[0, 0] > 0.5)[known] == (target.data[0] == 1)[known]
        assert float(agree.float().mean()) > 0.97


def test_a_finer_mask_than_its_image_keeps_its_edges() -> None:
    cell = DRAW.integers(0, 2, (64, 64)).astype(np.uint8)
    pixels = np.zeros((64, 64), np.uint8)
    image = build("modalities", {"kind": "image", "size": 32})
    image.fit(iter([pixels]))
    target, on = framed(fitted([cell]), cell, image, pixels)
    assert on.data.shape[2:] == (32, 32)
    assert torch.equal(target.data[0], torch.from_numpy(cell))


def test_another_size_is_stretched_and_another_shape_refused() -> None:
    cell = DRAW.integers(0, 2, (32, 32)).astype(np.uint8)
    pixels = np.zeros((64, 64), np.uint8)
    image, mask = build("modalities", {"kind": "image", "size": 32}), fitted([cell])
    image.fit(iter([pixels]))
    target, _ = framed(mask, cell, image, pixels)
    assert torch.equal(target.data[0], torch.from_numpy(cell))
    assert mask.misfit(np.array([32.0, 32.0]), np.array([64.0, 64.0])) == ""
    assert mask.misfit(np.array([33.0, 50.0]), np.array([100.0, 150.0])) == "", "rounded"
    assert "32 × 32 pixels does not lie on an image of 64 × 48" in mask.misfit(np.array([32, 32]), np.array([64, 48]))


def test_as_an_input_it_is_a_grid_of_indicators() -> None:
    cell = DRAW.integers(0, 3, (20, 20)).astype(np.uint8)
    mask = fitted([cell])
    data = mask.prepare(mask.collate([mask.encode(cell), None])).data
    assert torch.equal(data[0].argmax(dim=0), torch.from_numpy(cell).long())
    assert float(data[1].abs().sum()) == 0


def test_it_is_inferred_for_targets_alone() -> None:
    from sensorium.data.inspection.type_inference import infer_types
    from sensorium.data.tables.table import Table

    cells = [f"masks/{i}.png" for i in range(30)]
    table = Table({"photo": [f"photos/{i}.jpg" for i in range(30)], "mask": cells})
    assert infer_types(table, targets=["mask"])["mask"].kind == "mask"
    assert {name: types.kind for name, types in infer_types(table).items()} == {"photo": "image", "mask": "image"}
    assert find("modalities", "mask").task == "segmentation"


def test_a_file_for_each_class_makes_one_mask() -> None:
    lung, heart = np.zeros((12, 10), np.uint8), np.zeros((12, 10), np.uint8)
    lung[2:8], heart[6:10] = 255, 1
    mask = fitted([[lung, heart]], files=["lung", "heart"])
    assert mask.several
    assert not build("modalities", "mask").several
    assert mask.classes == ["background", "lung", "heart"]
    codes = mask.encode([lung, heart])
    assert codes[:, 0].tolist() == [0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 0, 0]
    assert mask.extent([lung, heart]).tolist() == [10, 12]
    with pytest.raises(CellError, match="1 files for 2 classes"):
        mask.encode([lung])
    with pytest.raises(CellError, match="differ in size"):
        mask.encode([lung, heart[:5]])
    with pytest.raises(ConfigError, match="without classes and palette"):
        build("modalities", {"kind": "mask", "files": ["lung"], "classes": {"a": 0, "b": 1}})


def test_crowds_and_ignored_regions_are_void() -> None:
    square = [[0, 0, 4, 0, 4, 4, 0, 4]]
    other = [[5, 5, 9, 5, 9, 9, 5, 9]]
    cell = {
        "size": [10, 10],
        "regions": [{"class": 1, "polygons": square}, {"class": 1, "polygons": other, "iscrowd": 1}],
    }
    mask = fitted([cell])
    assert mask.classes == ["0", "1"]
    codes = mask.encode(cell)
    assert (codes[0:4, 0:4] == 1).all()
    assert (codes[6:8, 6:8] == 255).all()


def test_regions_as_a_target_are_recognised_as_masks() -> None:
    cell = {"size": [4, 4], "regions": [{"class": "lung", "polygons": [[0, 0, 2, 0, 2, 2, 0, 2]]}]}
    for cells in ([cell], [json.dumps(cell)], [{"size": [4, 4], "counts": [0, 16]}]):
        guess = Mask.sniff(cells, "area")
        assert guess.score > 0.9, guess
    assert Mask.sniff([{"size": [4, 4]}], "area").score < 0.5
