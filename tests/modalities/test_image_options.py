"""Pictures: the options that crop, mirror, turn and recolour, and files that try a decoder."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from sensorium.core.batch import Field
from sensorium.core.errors import CellError, ConfigError
from sensorium.core.modality import Blob
from sensorium.modalities.image import Image

torch.set_num_threads(1)


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = Pillow.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Pillow.Resampling.BICUBIC))


def blob(picture: Any, form: str, **options: Any) -> Blob:
    shown = picture if isinstance(picture, Pillow.Image) else Pillow.fromarray(picture)
    file = io.BytesIO()
    shown.save(file, form, **options)
    return Blob(file.getvalue(), f"a.{form.lower()}")


def fitted(**options: Any) -> Image:
    image = Image(**options)
    image.fit([smooth(32, 32, seed) for seed in range(6)])
    return image


def batch(image: Image, cell: Any, rows: int = 32) -> Field:
    return image.collate([image.encode(cell)] * rows)


# ── options ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "options",
    [
        {"crop": "random"},
        {"flip": "horizontal"},
        {"flip": "vertical"},
        {"flip": "both"},
        {"rotate": 30.0},
        {"colour": 0.4},
        {"augment": "auto"},
    ],
)
def test_training_changes_follow_the_generator_and_evaluation_has_none(options: dict[str, Any]) -> None:
    plain = fitted(augment="none")
    image = fitted(**{"augment": "none", **options})
    field = batch(image, smooth(32, 32))
    assert torch.equal(image.prepare(field).data, plain.prepare(field).data)
    one = image.prepare(field, torch.Generator().manual_seed(0)).data
    assert torch.equal(one, image.prepare(field, torch.Generator().manual_seed(0)).data)
    assert not torch.equal(one, plain.prepare(field).data)
    assert not torch.equal(one, image.prepare(field, torch.Generator().manual_seed(1)).data)
    assert one.isfinite().all()
    missing = image.prepare(image.collate([None, image.encode(smooth(32, 32))]), torch.Generator().manual_seed(0))
    assert not missing.data[0].any()
    # What is stored does not depend on what training does with it.
    assert image.store_options == plain.store_options


def test_both_mirrors_in_all_four_ways() -> None:
    image = fitted(augment="none", flip="both")
    field = batch(image, smooth(32, 32), 64)
    plain = image.prepare(field).data[0]
    ways = [plain, plain.flip(-1), plain.flip(-2), plain.flip(-1, -2)]
    made = image.prepare(field, torch.Generator().manual_seed(0)).data
    results = [next(i for i, way in enumerate(ways) if torch.equal(way, row)) for row in made]
    assert set(results) == {0, 1, 2, 3}


def test_rotate_says_how_far_whatever_augment_says() -> None:
    disc = np.zeros((32, 32, 3), np.uint8)
    disc[4:28, 14:18] = 255  # a bar
    still, turned = fitted(augment="light", rotate=0.0), fitted(augment="light", rotate=90.0)
    field = batch(still, disc)

    def lying(image: Image) -> torch.Tensor:
        data = image.prepare(field, torch.Generator().manual_seed(0)).data.mean(1)
        return data.mean(2).std(1) / data.mean(1).std(1)  # high for a bar that lies, low for one that stands

    assert lying(still).max() < 1
    assert lying(turned).max() > 1


def test_center_cuts_the_middle_out() -> None:
    wide = np.zeros((20, 80, 3), np.uint8)
    wide[:, 30:50] = 255
    cut = fitted(crop="center").encode(wide)
    assert (cut == 255).all()
    high = wide.transpose(1, 0, 2)
    assert (fitted(crop="center").encode(high) == 255).all()
    assert fitted(crop="center").store_options != fitted().store_options
    assert fitted(crop="center").encode(np.zeros((1, 500, 3), np.uint8)).shape == (3, 32, 32)


def test_colours_change_but_grey_stays_grey() -> None:
    image = fitted(augment="none", colour=0.5)
    grey = np.repeat(smooth(32, 32)[..., :1], 3, axis=-1)
    made = image.prepare(batch(image, grey), torch.Generator().manual_seed(0)).data
    mean, deviation = (torch.tensor(image.state[name])[:, None, None] for name in ("mean", "deviation"))
    fractions = made * deviation + mean
    assert (fractions.amax(1) - fractions.amin(1)).max() < 0.01
    coloured = image.prepare(batch(image, smooth(32, 32)), torch.Generator().manual_seed(0)).data
    assert coloured.std(dim=0).mean() > 0.1


def test_options_out_of_range_are_refused() -> None:
    for bad in ({"rotate": -1.0}, {"rotate": 181.0}, {"colour": 1.5}, {"colour": -0.1}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            Image(**bad)  # type: ignore[arg-type]


# ── files that try a decoder ───────────────────────────────────────────────────────────────────────────────────────


def test_a_picture_of_one_pixel() -> None:
    red = np.full((1, 1, 3), (255, 0, 0), np.uint8)
    for cell in (red, blob(red, "PNG"), blob(red, "GIF"), blob(red, "BMP"), blob(red, "TIFF")):
        out = fitted().encode(cell)
        assert (out[0] == 255).all()
        assert not out[1:].any()
    assert fitted().encode(blob(red, "JPEG", quality=95)).shape == (3, 32, 32)
    assert fitted().encode(blob(red, "WEBP")).shape == (3, 32, 32)
    alone = Image()
    alone.fit([red])
    assert alone.prepare(batch(alone, red), torch.Generator().manual_seed(0)).data.isfinite().all()


def test_a_cmyk_jpeg_is_not_a_negative() -> None:
    """Adobe writes CMYK inverted: read plainly, such a picture is its negative."""
    pixels = smooth(32, 32)
    out = fitted().encode(blob(Pillow.fromarray(pixels).convert("CMYK"), "JPEG", quality=95))
    assert np.abs(out.transpose(1, 2, 0).astype(int) - pixels).mean() < 6


def test_a_palette_with_an_alpha_for_each_colour() -> None:
    picture = Pillow.new("P", (32, 32), 0)
    picture.putpalette([255, 0, 0, 0, 0, 255] + [0] * 762)
    picture.paste(1, (16, 0, 32, 32))
    out = fitted().encode(blob(picture, "PNG", transparency=bytes([255, 0])))
    assert (out[0, :, :16] == 255).all()
    assert not out[1:, :, :16].any()
    assert (out[:, :, 16:] == 255).all()  # see-through is white
    half = fitted().encode(blob(picture, "PNG", transparency=bytes([128, 255])))
    np.testing.assert_allclose(half[:, 0, 0].astype(int), [255, 127, 127], atol=1)


@pytest.mark.parametrize(("form", "off"), [("GIF", 1), ("WEBP", 3), ("PNG", 0), ("TIFF", 0)])
def test_the_first_frame_of_whatever_moves(form: str, off: int) -> None:
    frames = [Pillow.new("RGB", (32, 32), (value, value, value)) for value in (30, 200, 90)]
    data = blob(frames[0], form, save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(fitted().encode(data).astype(int), 30, atol=off)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_file_cut_short_is_a_cell_error_that_names_it(form: str, share: float) -> None:
    rng = np.random.default_rng(0)
    whole = blob(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8), form)
    cut = Blob(whole.data[: int(len(whole.data) * share)], "photos/cut")
    with pytest.raises(CellError, match="photos/cut"):
        fitted().encode(cut)


def test_sixteen_bits_and_grey_with_alpha() -> None:
    ramp = np.tile(np.linspace(0, 65535, 32).astype(np.uint16), (32, 1))
    expected = np.round(ramp[0] / 257)
    for form in ("PNG", "TIFF"):
        out = fitted().encode(blob(ramp, form)).astype(int)
        np.testing.assert_allclose(out[0, 0], expected, atol=1)
    grey = Pillow.merge("LA", (Pillow.new("L", (32, 32), 0), Pillow.new("L", (32, 32), 64)))
    np.testing.assert_allclose(fitted().encode(blob(grey, "PNG")).astype(int), 255 - 64, atol=1)
