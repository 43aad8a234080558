"""Lines of writing: one height, widths of their own, and places along them."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from sensorium.core.collation import with_frames
from sensorium.core.modality import Blob
from sensorium.modalities.line import Line
from sensorium.signal.geometry import points


def line(height: int, width: int, at: int = 0) -> Blob:
    """White paper with a black column at ``at``."""
    pixels = np.full((height, width), 255, np.uint8)
    pixels[2:-2, at : at + 2] = 0
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return Blob(file.getvalue(), "line.png")


def test_all_lines_get_one_height_and_keep_their_ratio() -> None:
    modality = Line()
    modality.fit([line(30, 100), line(30, 40), line(60, 120)])
    assert modality.state["height"] == 30
    assert modality.encode(line(30, 100)).shape == (100, 30)
    assert modality.encode(line(60, 120)).shape == (60, 30)
    assert modality.encode(line(30, 900)).shape == (modality.longest, 30), "what is longer is cut"
    assert modality.state["paper"] == 255.0


def test_lines_are_padded_and_places_along_them_are_pixels_of_the_image() -> None:
    modality = Line()
    cells = [line(30, 100, 50), line(60, 120, 80)]
    modality.fit([*cells, line(30, 60)])
    stored = modality.collate([modality.encode(cell) for cell in cells])
    field = modality.prepare(with_frames(stored, modality, [modality.extent(cell) for cell in cells]))
    assert field.data.shape == (2, 1, 100, 30)
    assert field.mask is not None
    assert field.frame is not None
    assert field.mask.sum(dim=1).tolist() == [100, 60]
    assert not field.data[1, :, 60:].any()
    place = points(field.frame, torch.tensor([[[51.0]], [[81.0]]]))[:, 0, 0]
    for i in range(2):
        darkest = int(field.data[i, 0][field.mask[i]].mean(dim=1).argmin())
        assert float(place[i]) == pytest.approx(darkest + 0.5, abs=1.0)


def test_training_moves_lines_and_leaves_paper_at_their_borders() -> None:
    modality = Line()
    cells = [line(30, 60, 20) for _ in range(8)]
    modality.fit(cells)
    stored = modality.collate([modality.encode(cell) for cell in cells])
    plain = modality.prepare(stored).data
    moved = modality.prepare(stored, torch.Generator().manual_seed(0)).data
    assert not torch.equal(plain, moved)
    assert torch.equal(moved, modality.prepare(stored, torch.Generator().manual_seed(0)).data)
    paper = float(plain[0, 0, 0, 0])
    assert float((moved[:, 0, 0] - paper).abs().mean()) < 0.5
    noisy = Line(noise=1.0)
    noisy.state = modality.state
    rough = noisy.prepare(stored, torch.Generator().manual_seed(0)).data
    assert float((rough - moved).std()) > 0.3
