"""Pictures: formats, orientation, sizes, hostile files, augmentation."""

from __future__ import annotations

import io
import json
import struct
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from sensorium.core.errors import CellError, ConfigError
from sensorium.core.layout import Grid
from sensorium.core.modality import Blob
from sensorium.modalities.image import Image


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A colourful picture without sharp edges, so that lossy formats keep it."""
    rng = np.random.default_rng(seed)
    small = Pillow.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Pillow.Resampling.BICUBIC))


def blob(pixels: Any, form: str = "PNG", **options: Any) -> Blob:
    picture = pixels if isinstance(pixels, Pillow.Image) else Pillow.fromarray(pixels)
    file = io.BytesIO()
    picture.save(file, form, **options)
    return Blob(file.getvalue(), f"a.{form.lower()}")


def fitted(cells: list[Any], **options: Any) -> Image:
    image = Image(**options)
    image.fit(cells)
    json.dumps(image.state, allow_nan=False)
    return image


@pytest.fixture
def image() -> Image:
    return fitted([blob(smooth(32, 32, seed)) for seed in range(8)])


@pytest.mark.parametrize(("form", "off"), [("PNG", 0), ("BMP", 0), ("TIFF", 0), ("WEBP", 12), ("JPEG", 12), ("GIF", 40)])
def test_formats(image: Image, form: str, off: int) -> None:
    pixels = smooth(32, 32)
    out = image.encode(blob(pixels, form))
    assert out.dtype == np.uint8
    assert out.shape == (3, 32, 32)
    assert np.abs(out.transpose(1, 2, 0).astype(int) - pixels).mean() <= off


def test_arrays(image: Image) -> None:
    pixels = smooth(32, 32)
    expected = image.encode(blob(pixels))
    alpha = np.concatenate([pixels, np.full((32, 32, 1), 255, np.uint8)], axis=-1)
    for same in (pixels, pixels / 255.0, (pixels / 255).astype(np.float32), pixels.astype(int), pixels.tolist(), alpha):
        np.testing.assert_allclose(image.encode(same).astype(int), expected, atol=1)
    for bad in (np.zeros((0, 4)), np.zeros(5), np.full((4, 4), np.nan), np.zeros((4, 4, 7)), [["a"]], [[1], [1, 2]]):
        with pytest.raises(CellError):
            image.encode(bad)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_exif_orientation_is_undone(orientation: int, form: str) -> None:
    upright = smooth(64, 32)
    shown = Pillow.fromarray(upright)
    # What a camera stores so that the viewer's turn makes it upright again.
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = shown.transpose(Pillow.Transpose(inverse[orientation])) if orientation > 1 else shown
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if form == "JPEG" else {}
    image = fitted([blob(shown)])
    out = image.encode(blob(stored, form, exif=exif, **options)).transpose(1, 2, 0)
    assert out.shape == (64, 32, 3)
    assert np.abs(out.astype(int) - upright).mean() < 6


def test_modes_become_plain(image: Image) -> None:
    pixels = smooth(32, 32)
    base = Pillow.fromarray(pixels)
    grey = np.asarray(base.convert("L")).astype(int)
    sixteen = Pillow.fromarray((grey * 257).astype(np.uint16))
    for picture, form in ((base.convert("L"), "PNG"), (sixteen, "PNG"), (sixteen, "TIFF")):
        out = image.encode(blob(picture, form)).astype(int)
        np.testing.assert_allclose(out, np.broadcast_to(grey, out.shape), atol=1)
    assert image.encode(blob(base.convert("1"))).shape == (3, 32, 32)
    assert np.abs(image.encode(blob(base.convert("CMYK"), "TIFF")).transpose(1, 2, 0).astype(int) - pixels).mean() < 3
    floats = Pillow.fromarray((grey / 255).astype(np.float32))
    np.testing.assert_allclose(image.encode(blob(floats, "TIFF"))[0].astype(int), grey, atol=1)


def test_transparency_is_white(image: Image) -> None:
    clear = Pillow.new("RGBA", (32, 32), (255, 0, 0, 0))
    assert (image.encode(blob(clear)) == 255).all()
    half = Pillow.new("RGBA", (32, 32), (0, 0, 0, 128))
    np.testing.assert_allclose(image.encode(blob(half)).astype(int), 127, atol=1)
    palette = Pillow.new("P", (32, 32), 3)
    palette.putpalette([0] * 768)
    assert (image.encode(blob(palette, transparency=3)) == 255).all()
    assert (image.encode(blob(palette)) == 0).all()


def test_the_first_frame_of_an_animation(image: Image) -> None:
    frames = [Pillow.new("L", (32, 32), value) for value in (10, 200)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(image.encode(Blob(file.getvalue(), "a.gif")).astype(int), 10, atol=1)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((28, 28), (28, 28)), ((50, 200), (32, 128)), ((200, 50), (128, 32)), ((300, 400), (128, 128)), ((8, 8), (16, 16))],
)
def test_the_size_follows_the_pictures(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    image = fitted([blob(smooth(*shape, seed)) for seed in range(3)])
    assert image.layout == Grid(3, expected)
    assert image.encode(blob(smooth(*shape))).shape == (3, *expected)
    assert image.blank().shape == (3, *expected)


def test_a_picture_of_another_shape_is_fitted_in() -> None:
    image = fitted([blob(smooth(32, 32, seed)) for seed in range(5)])
    long = image.encode(blob(np.zeros((20, 80, 3), np.uint8)))
    fill = np.round(255 * np.array(image.state["mean"]))
    np.testing.assert_array_equal(long[:, 0, 0], fill)
    assert (long[:, 12:20] == 0).all()
    stretched = image.encode(blob(np.zeros((30, 40, 3), np.uint8)))
    assert (stretched == 0).all()


def test_grey_where_all_are_grey() -> None:
    grey = np.repeat(smooth(32, 32)[..., :1], 3, axis=-1)
    assert fitted([blob(grey, "JPEG"), blob(grey[..., 0])]).layout == Grid(1, (32, 32))
    assert fitted([blob(grey), blob(smooth(32, 32))]).layout == Grid(3, (32, 32))
    assert fitted([blob(grey)], channels="rgb").layout == Grid(3, (32, 32))
    only = fitted([blob(smooth(32, 32))], channels="grey")
    reference = np.asarray(Pillow.fromarray(smooth(32, 32)).convert("L")).astype(int)
    np.testing.assert_allclose(only.encode(blob(smooth(32, 32)))[0].astype(int), reference, atol=1)


def test_a_large_jpeg_is_reduced_while_decoding_and_looks_the_same() -> None:
    large, small = smooth(1024, 1024), smooth(64, 64)
    image = fitted([blob(small)])
    out = image.encode(blob(large, "JPEG")).transpose(1, 2, 0).astype(int)
    expected = np.asarray(Pillow.fromarray(large).resize((64, 64), Pillow.Resampling.BOX)).astype(int)
    assert np.abs(out - expected).mean() < 4


def bomb() -> bytes:
    """A PNG of 30000 × 30000 in a few bytes of header."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


HOSTILE: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "zeros": lambda: bytes(1000),
    "svg": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "html": lambda: b"<!DOCTYPE html><html></html>",
    "text": lambda: b"hello",
    "bomb": bomb,
    "cut png": lambda: blob(smooth(64, 64)).data[:-400],
    "cut jpeg": lambda: blob(smooth(64, 64), "JPEG").data[:600],
    "header only": lambda: blob(smooth(64, 64)).data[:33],
    "cut webp": lambda: blob(smooth(64, 64), "WEBP").data[:60],
    "cut tiff": lambda: blob(smooth(64, 64), "TIFF").data[:300],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_cell_errors(image: Image, kind: str) -> None:
    start = time.perf_counter()
    with pytest.raises(CellError) as caught:
        image.encode(Blob(HOSTILE[kind](), "photos/x.png"))
    assert "photos/x.png" in str(caught.value)
    assert time.perf_counter() - start < 2
    assert fitted([Blob(HOSTILE[kind](), "x"), blob(smooth(20, 20))]).layout == Grid(3, (20, 20))


def test_flipped_bytes_are_cell_errors_or_pictures(image: Image) -> None:
    rng = np.random.default_rng(0)
    for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        data = blob(smooth(32, 32), form).data
        for _ in range(40):
            broken = bytearray(data)
            for at in rng.integers(0, min(len(data), 300), 4):
                broken[at] = rng.integers(0, 256)
            with suppress(CellError):
                assert image.encode(Blob(bytes(broken), "x")).shape == (3, 32, 32)


def test_prepare_standardises_and_blanks_missing_rows(image: Image) -> None:
    cells = [blob(smooth(32, 32, seed)) for seed in range(8)]
    field = image.prepare(image.collate([image.encode(cell) for cell in cells] + [None]))
    assert field.data.dtype == torch.float32
    torch.testing.assert_close(field.data[:8].mean(dim=(0, 2, 3)), torch.zeros(3), atol=0.02, rtol=0)
    torch.testing.assert_close(field.data[:8].std(dim=(0, 2, 3)), torch.ones(3), atol=0.02, rtol=0)
    assert (field.data[8] == 0).all()


@pytest.mark.parametrize("augment", ["light", "strong"])
def test_augmentation_is_random_by_row_reproducible_and_mild(augment: Any) -> None:
    cells = [blob(smooth(48, 64))] * 64
    image = fitted(cells[:4], augment=augment)
    field = image.collate([image.encode(cell) for cell in cells])
    plain = image.prepare(field).data
    before = torch.random.get_rng_state()
    one = image.prepare(field, torch.Generator().manual_seed(1)).data
    same = image.prepare(field, torch.Generator().manual_seed(1)).data
    other = image.prepare(field, torch.Generator().manual_seed(2)).data
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not torch.equal(one[0], one[1])
    gap = (one - plain).square().mean()
    assert 0.001 < gap < 0.7 * (plain.flip(-1) - plain).square().mean()
    likeness = torch.nn.functional.cosine_similarity(one.flatten(1), plain.flatten(1))
    mirrored = torch.nn.functional.cosine_similarity(one.flatten(1), plain.flip(-1).flatten(1))
    assert (likeness > mirrored).float().mean() > 0.9
    if augment == "strong":
        light = fitted(cells[:4]).prepare(field, torch.Generator().manual_seed(1)).data
        assert (one - plain).square().mean() > (light - plain).square().mean()
    none = fitted(cells[:4], augment="none")
    assert torch.equal(none.prepare(field, torch.Generator().manual_seed(1)).data, plain)


def test_a_turn_does_not_shear() -> None:
    from sensorium.signal.augmentation import warp

    # A disc stays a disc of the same area however it is turned, in a picture that is not square.
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(96.0), indexing="ij")
    disc = ((y - 15.5) ** 2 + (x - 47.5) ** 2 < 100).float()[None, None].repeat(50, 1, 1, 1)
    turned = warp(disc, torch.Generator().manual_seed(0), 0.0, 0.0, 90.0)
    assert (turned - disc).abs().mean() < 0.01


def test_options() -> None:
    assert fitted([blob(smooth(32, 32))], size=20).layout == Grid(3, (20, 20))
    a, b = fitted([blob(smooth(32, 32))]), fitted([blob(smooth(32, 32))], augment="strong")
    assert a.store_options == b.store_options
    assert a.store_options != fitted([blob(smooth(32, 32))], size=20).store_options
    with pytest.raises(ConfigError):
        Image(size=0)


def test_sniffing() -> None:
    assert Image.sniff(["a.png", "b/c.JPG"], "x") == (0.98, "2 of 2 cells end in .png or .jpg")
    assert Image.sniff(["a.wav", "hello"], "x").score == 0
    assert Image.sniff([blob(smooth(8, 8)).data], "x").score > 0.9
    assert Image.sniff([smooth(8, 8)], "x").score > 0.7
    assert Image.sniff([np.zeros((100, 6))], "x").score == 0
    assert Image.sniff([], "x").score == 0


def test_no_picture_at_all() -> None:
    image = fitted([])
    assert image.encode(blob(smooth(32, 32))).shape == image.blank().shape
