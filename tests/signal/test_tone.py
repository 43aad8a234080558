"""Tone and colour against Pillow, and what a random change may do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from sensorium.signal import augmentation, colour_transforms, rand_augment

torch.set_num_threads(1)

Pillow = Callable[[Image.Image], Image.Image]


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (12, 17, 3), dtype=np.uint8)
    small = Image.fromarray(rng.integers(40, 190, (3, 3, 3), dtype=np.uint8))
    flat = Image.fromarray(np.full((12, 17, 3), 77, np.uint8))
    return [Image.fromarray(noise), small.resize((17, 12), Image.Resampling.BICUBIC), flat]


def fractions(inputs: list[Image.Image]) -> Tensor:
    return torch.stack([torch.from_numpy(np.asarray(p).copy()).permute(2, 0, 1) for p in inputs]).double() / 255


def each(value: float) -> Tensor:
    return torch.full((3,), value, dtype=torch.float64)


CASES: dict[str, tuple[Callable[[Tensor], Tensor], Pillow, float]] = {
    "brighten": (lambda x: colour_transforms.brighten(x, each(1.4)), lambda p: ImageEnhance.Brightness(p).enhance(1.4), 1),
    "darken": (lambda x: colour_transforms.brighten(x, each(0.3)), lambda p: ImageEnhance.Brightness(p).enhance(0.3), 1),
    "contrast": (lambda x: colour_transforms.contrast(x, each(1.7)), lambda p: ImageEnhance.Contrast(p).enhance(1.7), 2),
    "saturate": (lambda x: colour_transforms.saturate(x, each(1.8)), lambda p: ImageEnhance.Color(p).enhance(1.8), 2),
    "fade": (lambda x: colour_transforms.saturate(x, each(0.2)), lambda p: ImageEnhance.Color(p).enhance(0.2), 2),
    "sharpen": (lambda x: colour_transforms.sharpen(x, each(1.9)), lambda p: ImageEnhance.Sharpness(p).enhance(1.9), 2),
    "blur": (lambda x: colour_transforms.sharpen(x, each(0.1)), lambda p: ImageEnhance.Sharpness(p).enhance(0.1), 2),
    "stretch": (colour_transforms.stretch, lambda p: ImageOps.autocontrast(p), 1.01),
    "equalise": (colour_transforms.equalise, lambda p: ImageOps.equalize(p), 0.01),
    "solarise": (lambda x: colour_transforms.solarise(x, each(128 / 255)), lambda p: ImageOps.solarize(p, 128), 0.01),
    "posterise": (lambda x: colour_transforms.posterise(x, each(3)), lambda p: ImageOps.posterize(p, 3), 0.01),
}


@pytest.mark.parametrize("name", CASES)
def test_tone_is_pillows(name: str) -> None:
    ours, theirs, off = CASES[name]
    inputs = pictures()
    made = ours(fractions(inputs)) * 255
    expected = fractions([theirs(p) for p in inputs]) * 255
    assert (made - expected).abs().max() <= off, name


def test_hue_turns_around_grey() -> None:
    inputs = fractions(pictures()) * 0.4 + 0.3  # so that nothing overflows
    turned = colour_transforms.turn_hue(inputs, each(0.3))
    torch.testing.assert_close(colour_transforms.turn_hue(inputs, each(1.0)), inputs)
    torch.testing.assert_close(colour_transforms.turn_hue(turned, each(0.7)), inputs, atol=1e-6, rtol=0)
    torch.testing.assert_close(colour_transforms.grey(turned), colour_transforms.grey(inputs), atol=1e-3, rtol=0)
    torch.testing.assert_close(turned[2], inputs[2], atol=1e-3, rtol=0)  # a grey has no hue
    assert (turned[0] - inputs[0]).abs().mean() > 0.02


def test_grey_pictures_have_no_colour_to_change() -> None:
    inputs = fractions(pictures())[:, :1]
    assert torch.equal(colour_transforms.turn_hue(inputs, each(0.3)), inputs)
    torch.testing.assert_close(colour_transforms.saturate(inputs, each(0.3)), inputs)


@pytest.mark.parametrize("name", rand_augment.CHANGES)
@pytest.mark.parametrize("shape", [(3, 3, 12, 17), (3, 1, 1, 1), (3, 1, 2, 5)])
def test_changes_keep_shape_and_range(name: str, shape: tuple[int, ...]) -> None:
    inputs = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    for by in (-1.0, 0.0, 0.6):
        made = rand_augment.CHANGES[name](inputs, torch.full((3,), by))
        assert made.shape == inputs.shape
        assert made.dtype == inputs.dtype
        assert -1e-6 <= float(made.min()) <= float(made.max()) <= 1 + 1e-6
    if name not in ("identity", "stretch", "equalise") and min(shape[1:]) > 1:
        made = rand_augment.CHANGES[name](inputs, torch.zeros(3))
        torch.testing.assert_close(made, inputs, atol=3e-3, rtol=0)
        assert (rand_augment.CHANGES[name](inputs, torch.full((3,), 0.8)) - inputs).abs().mean() > 1e-3


def test_the_policy_draws_for_each_row_and_from_the_generator_only() -> None:
    inputs = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).repeat(64, 1, 1, 1)
    before = torch.random.get_rng_state()
    one = rand_augment.random_changes(inputs, torch.Generator().manual_seed(1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one, rand_augment.random_changes(inputs, torch.Generator().manual_seed(1)))
    assert not torch.equal(one, rand_augment.random_changes(inputs, torch.Generator().manual_seed(2)))
    different = len({tuple(row.flatten()[:50].tolist()) for row in one})
    assert different > 50
    assert 0 <= one.min() <= one.max() <= 1


def test_a_crop_is_a_box_of_the_picture() -> None:
    """A ramp stays a ramp: its slope says how wide the box is, its ends where it lies."""
    ramp = torch.linspace(0, 1, 64).expand(200, 1, 48, 64)
    made = augmentation.crop(ramp, torch.Generator().manual_seed(0))
    wide = (made[:, 0, 0, 40] - made[:, 0, 0, 20]) / (20 / 63)
    assert 0.5 < wide.min() < 0.62
    assert 0.95 < wide.max() <= 1.001
    assert made.min() >= 0
    assert made.max() <= 1
    torch.testing.assert_close(made[:, 0, 0], made[:, 0, 47], atol=1e-5, rtol=0)


def test_half_are_mirrored() -> None:
    ramp = torch.linspace(0, 1, 8).expand(400, 1, 6, 8)
    made = augmentation.flip(ramp, torch.Generator().manual_seed(0), 3)
    mirrored = made[:, 0, 0, 0] == 1
    assert 150 < int(mirrored.sum()) < 250
    assert torch.equal(made[mirrored], ramp[mirrored].flip(3))
    assert torch.equal(made[~mirrored], ramp[~mirrored])
