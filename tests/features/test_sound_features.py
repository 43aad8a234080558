"""What a spectrogram is like, against NumPy and SciPy, and that padding does not count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import fft
from torch import Tensor

from sensorium.core.batch import Field
from sensorium.core.layout import Grid
from sensorium.features.sound import Sound


def sounds(count: int, channels: int, steps: int, bands: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, steps + 1, (count,), generator=draw)
    lengths[0], lengths[1] = steps, 1
    data = torch.randn(count, channels, steps, bands, generator=draw).cumsum(dim=2) * 0.3
    return data, torch.arange(steps) < lengths[:, None]


def field(data: Tensor, mask: Tensor | None = None) -> Field:
    return Field(data, torch.ones(len(data), dtype=torch.bool), mask)


def fitted(layout: Grid, data: Tensor, mask: Tensor | None = None) -> Sound:
    features = Sound(layout)
    features.fit([field(data, mask)])
    return features


def test_numbers_are_those_of_the_formulas() -> None:
    data, mask = sounds(5, 1, 30, 12)
    features = Sound(Grid(1, (30, 12), timed=True)).measured(data.masked_fill(~mask[:, None, :, None], 0.0), mask)
    cells = 12 * 16
    for row, result, real in zip(data[:, 0].double().numpy(), features, mask.numpy(), strict=True):
        sound = row[real]
        cepstra = fft.dct(sound, norm="ortho", axis=1)
        moments, quantiles = result[cells : cells + 2 * 48].reshape(24, 4), result[cells + 96 : cells + 132].reshape(12, 3)
        for part, values in ((moments[:12], cepstra), (moments[12:], sound)):
            step = np.diff(values, axis=0) if len(values) > 1 else np.zeros((1, 12))
            expected = [values.mean(0), values.std(0), np.abs(step).mean(0), step.std(0)]
            np.testing.assert_allclose(part, np.stack(expected, axis=1), atol=2e-5)
        np.testing.assert_allclose(quantiles, np.quantile(sound, (0.1, 0.5, 0.9), axis=0).T, atol=1e-5)
        np.testing.assert_allclose(result[:cells].reshape(12, 16).mean(dim=1), sound.mean(0), atol=1e-5)
        assert float(result[-1]) == pytest.approx(np.log1p(len(sound)), rel=1e-6)


@pytest.mark.parametrize(("channels", "bands"), [(1, 1), (1, 40), (3, 128), (8, 13)])
def test_numbers_are_finite_and_few_enough(channels: int, bands: int) -> None:
    data, mask = sounds(9, channels, 25, bands)
    features = fitted(Grid(channels, (25, bands), timed=True), data, mask)
    computed = features(field(data, mask))
    few = features.compact(computed, field(data, mask))
    assert computed.dtype == few.dtype == torch.float32
    assert computed.isfinite().all()
    assert few.isfinite().all()
    assert computed.shape[1] <= 3000
    assert few.shape[1] <= 256


def test_padding_and_what_stands_there_change_nothing() -> None:
    data, mask = sounds(7, 2, 25, 20)
    features = fitted(Grid(2, (25, 20), timed=True), data, mask)
    before = features(field(data, mask))
    longer = torch.full((7, 2, 60, 20), float("nan"))
    longer[:, :, :25] = data.masked_fill(~mask[:, None, :, None], float("inf"))
    real = torch.zeros(7, 60, dtype=torch.bool)
    real[:, :25] = mask
    torch.testing.assert_close(features(field(longer, real)), before, atol=1e-4, rtol=1e-4)
    for i in range(7):
        alone = features(field(data[i : i + 1, :, : int(mask[i].sum())]))
        torch.testing.assert_close(alone[0], before[i], atol=1e-4, rtol=1e-4)


def test_order_in_time_shows_in_the_course_alone() -> None:
    data, _ = sounds(20, 1, 32, 16)
    features = fitted(Grid(1, (32, 16), timed=True), data)
    computed, backwards = features(field(data)), features(field(data.flip(2)))
    course, rest = 16 * 16, slice(16 * 16, -17)
    assert not torch.allclose(computed[:, :course], backwards[:, :course], atol=0.1)
    # What a step is like turns its sign, its size and its spread do not.
    torch.testing.assert_close(computed[:, rest], backwards[:, rest], atol=1e-3, rtol=1e-3)


def test_a_model_that_is_read_back_gives_the_same() -> None:
    data, mask = sounds(7, 1, 25, 20)
    features, other = fitted(Grid(1, (25, 20), timed=True), data, mask), Sound(Grid(1, (25, 20), timed=True))
    other.load_state_dict(features.state_dict())
    assert torch.equal(other(field(data, mask)), features(field(data, mask)))


def test_what_it_reads() -> None:
    assert Sound.reads(Grid(1, (64, 40), timed=True))
    assert not Sound.reads(Grid(1, (64, 40)))
    assert not Sound.reads(Grid(1, (16000,), timed=True))
    assert not Sound.reads(Grid(3, (8, 16, 16), timed=True))
