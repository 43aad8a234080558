"""The kind of cell boxes: what it learns, what it says, and boxes that follow their image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sensorium.core.batch import Field
from sensorium.core.errors import CellError
from sensorium.core.modality import Blob
from sensorium.core.registry import build, find
from sensorium.data.inspection.type_inference import infer_types
from sensorium.data.tables.table import Table
from sensorium.signal import augmentation, geometry

CELLS = [[[2, 3, 10, 8, "cat"]], [], [[0, 0, 5, 5, "dog"], [9, 9, 4, 6, "cat"]]]


def fitted(cells: list[Any], **options: Any) -> Any:
    modality = build("modalities", {"kind": "boxes", **options})
    modality.fit(cells)
    return modality


def stored(modality: Any, cell: Any) -> Field:
    field: Field = modality.collate([modality.encode(cell)])
    return field


def image(
    frame: list[list[float]], extent: tuple[float, float], size: tuple[int, int] = (20, 20), present: bool = True
) -> Field:
    return Field(
        torch.zeros(1, 3, *size), torch.tensor([present]), frame=torch.tensor([frame]), extent=torch.tensor([extent])
    )


def test_it_learns_classes_and_units() -> None:
    modality = fitted(CELLS)
    assert modality.classes == ["cat", "dog"]
    assert modality.notes() == "2 classes; lists are left, top, width, height in pixels"
    assert modality.decode(modality.encode(CELLS[2])) == [
        {"box": [0, 0, 5, 5], "label": "dog"},
        {"box": [9, 9, 4, 6], "label": "cat"},
    ]
    assert modality.encode([]).shape == (0, 6)
    shares = fitted([[[0.5, 0.5, 0.2, 0.4, "a"]]], format="cxcywh")
    assert "shares of the image" in shares.notes()
    with pytest.raises(CellError, match="in shares of the image") as caught:
        shares.encode([[50, 50, 20, 40, "a"]])
    assert "units: pixels" in str(caught.value.fix)


def test_classes_of_numbers_are_in_order_and_unknown_labels_are_named() -> None:
    assert fitted([[[1, 1, 2, 2, k] for k in (10, 9, 2)]]).classes == ["2", "9", "10"]
    with pytest.raises(CellError, match="'Cat' is not known from training") as caught:
        fitted(CELLS).encode([[1, 1, 2, 2, "Cat"]])
    assert "'cat'?" in str(caught.value.fix)


def test_a_wrong_way_of_writing_is_doubted() -> None:
    corners = [[[i, i + 1, 3 * i + 9, 4 * i + 9, "a"]] for i in range(30)]
    assert any("xyxy" in doubt for doubt in fitted(corners).doubts)
    assert not fitted(corners, format="xyxy").doubts
    assert any("relative" in doubt for doubt in fitted([[[0.1, 0.1, 0.2, 0.2, "a"]]], units="pixels").doubts)


def test_boxes_off_the_image_are_refused_and_boxes_over_its_edge_are_noted() -> None:
    modality = fitted(CELLS)
    on = np.array([20, 20], np.float32)

    def problem_and_note(cell: Any) -> tuple[str, str]:
        extent = modality.extent(cell)
        return modality.misfit(extent, on), modality.adjusted(extent, on)

    assert problem_and_note(CELLS[0]) == ("", "")
    assert problem_and_note([]) == ("", "")
    assert problem_and_note([[15, 3, 9, 8, "cat"]]) == (
        "",
        "a box passes the edge of its image by 4 pixels, and is cut there",
    )
    assert "do not lie on an image of 20 × 20 pixels" in problem_and_note([[200, 3, 9, 8, "cat"]])[0]
    assert modality.extent([[1]]) is None


def test_boxes_follow_their_image_and_are_cut_at_its_edges() -> None:
    modality = fitted(CELLS)
    frame = [[-0.5, 0.0, 20.0], [0.0, 0.5, 1.0]]  # half as large, mirrored, one down
    ready = modality.prepare_target(
        stored(modality, [[2, 4, 10, 8, "dog"], [30, 30, 20, 4, "cat"]]), image(frame, (40, 36))
    )
    assert ready.data[0, 0].tolist() == [14, 3, 19, 7, 1, 0]
    assert ready.data[0, 1].tolist() == [0, 16, 5, 18, 0, 0]
    gone = modality.prepare_target(stored(modality, CELLS[0]), image(frame, (40, 36), present=False))
    assert not bool(gone.present[0])
    outside = modality.prepare_target(stored(modality, [[45, 4, 10, 8, "dog"]]), image(frame, (40, 36)))
    assert bool(outside.present[0])
    assert not bool(outside.mask[0, 0])


def test_shares_crowds_and_files_are_prepared_alike() -> None:
    modality = fitted([Blob(b"0 0.5 0.5 0.5 0.25", "a.txt")], names=["cell"])
    frame = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    ready = modality.prepare_target(stored(modality, Blob(b"0 0.5 0.5 0.5 0.25", "a.txt")), image(frame, (40, 16)))
    assert ready.data[0, 0].tolist() == [10, 6, 30, 10, 0, 0]
    crowd = fitted(CELLS).encode([{"bbox": [1, 1, 2, 2], "label": "crowd", "iscrowd": 1}])
    assert crowd[0, 4:].tolist() == [-1, 1]


def test_flips_move_boxes_as_they_move_pixels() -> None:
    """A picture that is bright inside its box only: after flips, the bright pixels are where the box says."""
    modality = fitted(CELLS)
    pixels = torch.zeros(8, 1, 20, 20)
    pixels[:, :, 4:12, 2:7] = 1
    moves: list[torch.Tensor] = []
    draw = torch.Generator().manual_seed(0)
    flipped = augmentation.flip(augmentation.flip(pixels, draw, 3, moves), draw, 2, moves)
    frame = geometry.apply_moves(geometry.identity(8, 2, pixels), moves)
    on = Field(flipped, torch.ones(8, dtype=torch.bool), frame=frame, extent=torch.full((8, 2), 20.0))
    cells = [modality.encode([[2, 4, 5, 8, "cat"]])] * 8
    ready = modality.prepare_target(modality.collate(cells), on)
    assert len({tuple(row) for row in ready.data[:, 0, :4].tolist()}) > 1, "some are flipped, some are not"
    for picture, (left, top, right, bottom) in zip(flipped[:, 0], ready.data[:, 0, :4].long().tolist(), strict=True):
        inside = torch.zeros(20, 20)
        inside[top:bottom, left:right] = 1
        assert torch.equal(picture, inside)


def test_a_turned_box_is_that_of_its_ellipse() -> None:
    angle = torch.tensor(0.5)
    frame = torch.stack(
        [torch.stack([angle.cos(), -angle.sin(), angle * 0]), torch.stack([angle.sin(), angle.cos(), angle * 0])]
    )
    corners = torch.tensor([[[10.0, 20.0, 40.0, 30.0]]])
    round_ = torch.linspace(0, 2 * torch.pi, 2001)
    rim = torch.stack([25 + 15 * round_.cos(), 25 + 5 * round_.sin()], dim=1)
    moved = geometry.points(frame[None], rim[None])[0]
    expected = torch.cat([moved.amin(dim=0), moved.amax(dim=0)])
    assert torch.allclose(geometry.ellipses(frame[None], corners)[0, 0], expected, atol=1e-3)
    scaled = torch.tensor([[[2.0, 0.0, 1.0], [0.0, -3.0, 4.0]]])
    assert torch.allclose(geometry.ellipses(scaled, corners), geometry.boxes(scaled, corners))


def test_columns_of_boxes_are_recognised() -> None:
    listed = [str([[1, 2, 30, 40, "cat"]]).replace("'", '"')] * 30
    table = Table({"photo": [f"{i}.jpg" for i in range(30)], "found": listed, "file": [f"{i}.xml" for i in range(30)]})
    kinds = {name: guess.kind for name, guess in infer_types(table, targets=["found"]).items()}
    assert kinds == {"photo": "image", "found": "boxes", "file": "boxes"}
    sniffed = find("modalities", "boxes").sniff
    assert sniffed([[[1, 2, 3, 4, "cat"]]] * 9 + [[[1, 2, -3, 4, "cat"]]], "x").score > 0.8, "one is damaged"
    assert sniffed([[[1, 2, 3, 4]]], "x").score < 0.5, "four numbers may be many things"
    assert sniffed([[[0, 1.5, "walk"]]], "x").score == 0
