"""Masks as people keep them: class numbers, colours, arrays, run lengths, polygons; and what is refused."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from sensorium.codecs.mask import is_coloured, mask_size, read_mask
from sensorium.codecs.regions import draw_regions, packed_run_lengths, run_lengths
from sensorium.core.errors import CellError
from sensorium.core.modality import Blob

NUMBERS = np.arange(20, dtype=np.uint8).reshape(4, 5) % 3


def blob(picture: Image.Image, kind: str = "PNG", **options: Any) -> Blob:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return Blob(file.getvalue(), "mask.png")


def with_palette(numbers: np.ndarray) -> Image.Image:
    picture = Image.fromarray(numbers)
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    return picture


def test_numbers_are_read_as_they_stand() -> None:
    wide = NUMBERS.astype(np.uint16) * 1000
    for picture, wanted in (
        (Image.fromarray(NUMBERS), NUMBERS),
        (with_palette(NUMBERS), NUMBERS),
        (Image.fromarray(NUMBERS > 0), NUMBERS > 0),
        (Image.fromarray(wide), wide),
    ):
        cell = blob(picture)
        assert np.array_equal(read_mask(cell), wanted), picture.mode
        assert not is_coloured(cell)
        assert mask_size(cell) == (4, 5)
    assert np.array_equal(read_mask(NUMBERS.astype(np.int64)), NUMBERS)
    assert np.array_equal(read_mask(NUMBERS.tolist()), NUMBERS)
    file = io.BytesIO()
    np.save(file, NUMBERS)
    assert np.array_equal(read_mask(Blob(file.getvalue(), "mask.npy")), NUMBERS)
    assert mask_size(Blob(file.getvalue(), "mask.npy")) == (4, 5)


def test_colours_are_one_number_each() -> None:
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)[NUMBERS]
    wanted = np.array([0, 0xFF0000, 0x0000FF])[NUMBERS]
    for cell in (blob(Image.fromarray(colours)), blob(Image.fromarray(colours).convert("RGBA")), colours):
        assert np.array_equal(read_mask(cell), wanted)
        assert is_coloured(cell)
    assert np.array_equal(read_mask(blob(with_palette(NUMBERS)), palette=True), wanted)
    assert is_coloured(blob(with_palette(NUMBERS)), palette=True)


def test_a_mask_is_turned_as_its_image_is() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    cell = blob(Image.fromarray(NUMBERS), exif=exif)
    assert np.array_equal(read_mask(cell), np.rot90(NUMBERS, -1))
    assert mask_size(cell) == (5, 4)


def packed(counts: list[int]) -> str:
    """COCO's text of run lengths, as its C code writes it."""
    text = ""
    for i, count in enumerate(counts):
        x = count - (counts[i - 2] if i > 2 else 0)
        more = True
        while more:
            digit = x & 0x1F
            x >>= 5
            more = x != -1 if digit & 0x10 else x != 0
            text += chr((digit | (0x20 if more else 0)) + 48)
    return text


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_run_lengths_come_back(high: int, wide: int, seed: int, share: float) -> None:
    inside = np.random.default_rng(seed).random((high, wide)) < share
    flat = inside.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.r_[0, edges, len(flat)]).tolist()
    counts = [0, *counts] if flat[0] else counts
    for written in (counts, packed(counts)):
        assert np.array_equal(run_lengths(written, high, wide), inside)
        cell = {"size": [high, wide], "counts": written}
        assert np.array_equal(read_mask(cell), inside)


def test_polygons_cover_the_pixels_whose_middles_they_hold() -> None:
    cell = {"size": [10, 12], "regions": [{"class": 3, "polygons": [[2, 1, 8, 1, 8, 6, 2, 6]]}]}
    wanted = np.zeros((10, 12), int)
    wanted[1:6, 2:8] = 3
    assert np.array_equal(draw_regions(cell, 1000), wanted)
    both = {"size": [10, 12], "regions": [*cell["regions"], {"class": 1, "counts": [0, 20, 100]}]}  # type: ignore[misc]
    assert (draw_regions(both, 1000)[:, :2] == 1).all(), "later regions cover earlier ones"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(-9, 24), st.integers(-9, 24)), min_size=3, max_size=9))
def test_a_polygon_agrees_with_counting_the_sides_left_of_each_pixel(corners: list[tuple[int, int]]) -> None:
    ring = [float(number) / 2 for corner in corners for number in corner]
    result = draw_regions({"size": [7, 9], "regions": [{"polygons": [ring]}]}, 100)
    sides = list(zip(corners, corners[1:] + corners[:1], strict=True))
    for y in range(7):
        for x in range(9):
            px, py = 2 * x + 1.0, 2 * y + 1.0  # the middle of the pixel, in halves
            crossed = [
                ax + (py - ay) * (bx - ax) / (by - ay) for (ax, ay), (bx, by) in sides if min(ay, by) <= py < max(ay, by)
            ]
            if all(abs(at - px) > 1e-6 for at in crossed) and all(py not in (ay, by) for (_, ay), (_, by) in sides):
                assert (result[y, x] == 1) == (sum(at < px for at in crossed) % 2 == 1), (x, y)


def test_a_side_on_the_edge_counts_one_of_two_neighbours() -> None:
    halves = [{"class": n, "polygons": [[x, 0, x + 2.5, 0, x + 2.5, 3, x, 3]]} for n, x in ((1, 0), (2, 2.5))]
    assert np.array_equal(draw_regions({"size": [3, 5], "regions": halves}, 100), [[1, 1, 2, 2, 2]] * 3)
    assert np.array_equal(draw_regions({"size": [3, 5], "regions": halves[::-1]}, 100), [[1, 1, 2, 2, 2]] * 3)


def test_a_polygon_of_endless_work_is_refused() -> None:
    zigzag = [float(n) for i in range(5000) for n in (i % 7, 2000 * (i % 2))]
    with pytest.raises(CellError, match="up and down too often"):
        draw_regions({"size": [2000, 8], "regions": [{"polygons": [zigzag]}]}, 10**6)


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        (Blob(b"", "a.png"), "empty"),
        (Blob(b"no picture", "a.png"), "not a picture"),
        (Blob(b"\x89PNG\r\n\x1a\n\0\0", "a.png"), "picture"),
        (np.zeros((2, 2, 4), np.uint8), "is no mask"),
        (np.zeros((0, 2), np.uint8), "is no mask"),
        (np.zeros((2, 2)), "float64"),
        (np.full((2, 2), -1), "from 0 to 65535"),
        ([[1, 2], [1]], "differ in length"),
        ({"size": [4, 4]}, "needs its regions"),
        ({"counts": [16]}, "needs its size"),
        ({"size": [10**6, 10**6], "counts": []}, "more than"),
        ({"size": [4, 4], "counts": [3, 4]}, "do not add up"),
        ({"size": [4, 4], "counts": [20, -4]}, "do not add up"),
        ({"size": [4, 4], "counts": "\x01"}, "damaged"),
        ({"size": [4, 4], "regions": [{"class": "lung", "counts": [16]}]}, "is no number"),
        ({"size": [4, 4], "regions": [{"polygons": [[1, 2, 3, 4]]}]}, "at least three corners"),
        ({"size": [4, 4], "regions": [{"polygons": [[1, 2, 3, 4, float("nan"), 1]]}]}, "at least three corners"),
        ({"size": [4, 4], "regions": [{}]}, "counts or polygons"),
        ({"size": [4, 4], "regions": [{"counts": [16]}, {"label": "cat", "counts": [16]}]}, "region 2: 'cat' is no label"),
        ({"size": [4, 4], "regions": [{"size": [2, 2], "counts": [4]}]}, "region 1: its size is"),
        (7, "is no mask"),
    ],
)
def test_what_is_no_mask_is_refused_in_words(cell: Any, why: str) -> None:
    with pytest.raises(CellError, match=why):
        read_mask(cell)


def test_a_cut_off_file_costs_its_cell_only() -> None:
    picture = Image.new("L", (60, 60))
    ImageDraw.Draw(picture).ellipse((5, 5, 50, 50), fill=1)
    whole = blob(picture).data
    for length in range(0, len(whole) - 20, 7):
        with pytest.raises(CellError):
            read_mask(Blob(whole[:length], "cut.png"))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 99))
def test_packed_run_lengths_are_read_back_and_equal_to_cocos(high: int, wide: int, share: float, seed: int) -> None:
    inside = np.random.default_rng(seed).random((high, wide)) < share
    text = packed_run_lengths(inside)
    assert np.array_equal(run_lengths(text, high, wide), inside)
    reference = pytest.importorskip("faster_coco_eval.core.mask", reason="the reference is faster-coco-eval")
    assert text.encode() == reference.encode(np.asfortranarray(inside, np.uint8))["counts"]


def test_polygons_have_a_budget_of_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    square = {"class": 1, "polygons": [[0, 0, 8, 0, 8, 8, 0, 8]] * 3}
    draw_regions({"size": [8, 8], "regions": [square]}, 64)
    monkeypatch.setattr("sensorium.codecs.regions.FILLED", 150)
    with pytest.raises(CellError, match="region 1: its polygons lie over too many pixels"):
        draw_regions({"size": [8, 8], "regions": [square]}, 64)
