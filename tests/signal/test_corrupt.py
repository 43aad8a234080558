"""Corruptions do what their names and units say."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from sensorium.language.typos import with_typos
from sensorium.signal.corruption import blurred, drift, gap, noisy_picture, noisy_sound, occluded, shrunk


@pytest.mark.parametrize(("level", "decibels"), [(0.25, 20.0), (0.5, 10.0), (1.0, -10.0)])
def test_sound_has_the_signal_to_noise_ratio_of_its_level(level: float, decibels: float) -> None:
    tone = (2000 * np.sin(np.arange(40_000) * 0.1)).round().astype(np.int16)
    spoiled = noisy_sound(tone, level, np.random.default_rng(0))
    noise = spoiled.astype(float) - tone
    assert 10 * np.log10(np.mean(tone.astype(float) ** 2) / np.mean(noise**2)) == pytest.approx(decibels, abs=0.2)


def test_noise_of_silence_and_of_nothing_is_finite() -> None:
    assert noisy_sound(np.zeros(10, np.int16), 1.0, np.random.default_rng(0)).dtype == np.int16
    assert len(noisy_sound(np.zeros(0, np.int16), 1.0, np.random.default_rng(0))) == 0


@pytest.mark.parametrize("level", [0.1, 0.5, 1.0])
def test_a_gap_has_its_share_of_the_time(level: float) -> None:
    inside = gap(1000, level, np.random.default_rng(3))
    assert inside.mean() == pytest.approx(level, abs=0.002)
    assert (np.diff(np.concatenate([inside, inside[:1]]).astype(int)) == 1).sum() <= 1, "it is one stretch"
    assert (gap(1000, level / 2, np.random.default_rng(3)) <= inside).all(), "a smaller gap lies within a larger one"


@pytest.mark.parametrize("level", [0.2, 0.5, 1.0])
def test_occlusion_covers_its_share(level: float) -> None:
    white = np.full((3, 40, 60), 255, np.uint8)
    spoiled = occluded(white, level, np.random.default_rng(1), np.array([1, 2, 3], np.uint8))
    assert (spoiled[0] == 1).mean() == pytest.approx(level, abs=0.03)
    assert set(np.unique(spoiled[2])) <= {3, 255}


def test_blur_is_that_of_scipy() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (2, 40, 56)).astype(np.uint8)
    spoiled = blurred(picture, 0.4)
    sigma = 0.4 * 40 / 8
    expected = np.stack([gaussian_filter(c.astype(float), sigma, mode="nearest", radius=6) for c in picture])
    assert np.abs(spoiled - expected).max() <= 0.51


def test_picture_noise_has_its_deviation() -> None:
    grey = np.full((1, 100, 100), 128, np.uint8)
    assert noisy_picture(grey, 0.1, np.random.default_rng(0)).std() == pytest.approx(12.8, rel=0.03)


def test_drift_ends_three_deviations_away() -> None:
    line = drift(50, 2, 1.0, np.random.default_rng(0))
    assert line[0].tolist() == [0, 0]
    assert np.abs(line[-1]).tolist() == [3, 3]


def test_slips_are_as_many_as_the_level_says() -> None:
    text = " ".join(f"word{i % 7}" for i in range(2000))
    for level in (0.2, 0.7):
        slips = with_typos(text, level, np.random.default_rng(0)).split(" ")
        assert np.mean([a != b for a, b in zip(slips, text.split(" "), strict=True)]) == pytest.approx(level, abs=0.03)
    assert with_typos(text, 0.0, np.random.default_rng(0)) == text


def test_slips_in_chinese_are_other_characters_of_the_text() -> None:
    text = "今天天气很好我们去公园"
    spoiled = with_typos(text, 1.0, np.random.default_rng(0))
    assert len(spoiled) == len(text)
    assert all(a != b for a, b in zip(spoiled, text, strict=True))
    assert set(spoiled) <= set(text)
    assert with_typos("", 1.0, np.random.default_rng(0)) == ""


def test_shrunk_pictures_keep_their_places() -> None:
    ramp = np.broadcast_to(np.linspace(20, 220, 40), (3, 30, 40)).astype(np.uint8)
    assert np.abs(shrunk(ramp, 1.0)[:, :, 4:-4].astype(int) - ramp[:, :, 4:-4]).max() <= 1, "what is smooth stays"
    dot = np.zeros((1, 31, 41), np.uint8)
    dot[0, 8, 30] = 255
    spread = shrunk(dot, 1.0)[0].astype(float)
    y, x = np.mgrid[0:31, 0:41]
    middle = (spread * y).sum() / spread.sum(), (spread * x).sum() / spread.sum()
    np.testing.assert_allclose(middle, (8, 30), atol=0.5)
    halves = np.asarray(
        Image.fromarray(ramp[0]).resize((20, 15), Image.Resampling.BILINEAR).resize((40, 30), Image.Resampling.BILINEAR)
    )
    assert np.abs(shrunk(ramp, 1.0)[0].astype(int) - halves).max() <= 1, "as a file of half the size is read"
