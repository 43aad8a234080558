"""What a series is like, and that neither padding nor what stands there counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import signal
from torch import Tensor

from sensorium.core.batch import Field
from sensorium.core.layout import Grid, Points
from sensorium.features.series import Series
from sensorium.signal.series_statistics import powers


def rows(count: int, channels: int, steps: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, steps + 1, (count,), generator=draw)
    lengths[0] = steps
    data = torch.randn(count, channels, steps, generator=draw).cumsum(dim=2) * 0.3
    mask = torch.arange(steps) < lengths[:, None]
    return data * mask[:, None], mask


def field(data: Tensor, mask: Tensor | None = None) -> Field:
    return Field(data, torch.ones(len(data), dtype=torch.bool), mask)


def fitted(layout: Grid, data: Tensor, mask: Tensor | None = None) -> Series:
    features = Series(layout)
    features.fit([field(data[:5], None if mask is None else mask[:5]), field(data[5:], None if mask is None else mask[5:])])
    return features


@pytest.mark.parametrize("channels", [1, 4, 20, 40, 90, 300, 700])
def test_numbers_are_finite_and_not_too_many(channels: int) -> None:
    data, mask = rows(6, channels, 40)
    features = fitted(Grid(channels, (40,)), data, mask)
    computed = features(field(data, mask))
    assert computed.dtype == torch.float32
    assert computed.isfinite().all()
    assert computed.shape[1] <= 2001 + 120
    few = features.compact(computed, field(data, mask))
    assert few.shape[1] <= 301
    assert few.isfinite().all()


def test_the_training_rows_are_standardised() -> None:
    data, mask = rows(200, 2, 30)
    features = fitted(Grid(2, (30,)), data, mask)(field(data, mask))
    varies = features.std(dim=0) > 0
    assert varies.float().mean() > 0.9
    # Not exactly: what lies ten deviations away is drawn nearer.
    torch.testing.assert_close(features.mean(dim=0), torch.zeros(features.shape[1]), atol=0.05, rtol=0)
    torch.testing.assert_close(features.std(dim=0, correction=0)[varies], torch.ones(int(varies.sum())), atol=0.25, rtol=0)


def test_what_never_varied_in_training_says_nothing_later() -> None:
    data = torch.randn(8, 1, 20, generator=torch.Generator().manual_seed(0))
    features = fitted(Grid(1, (20,)), data)
    assert not features(field(data[..., :13]))[:, -1].any(), "all training rows are of one length"


@pytest.mark.parametrize("channels", [3, 600])
def test_padding_and_what_stands_there_change_nothing(channels: int) -> None:
    data, mask = rows(8, channels, 25)
    features = fitted(Grid(channels, (25,)), data, mask)
    before = features(field(data, mask))
    longer = torch.cat([data, torch.full((8, channels, 40), float("nan"))], dim=2)
    spoilt = longer.masked_fill(~torch.cat([mask, torch.zeros(8, 40, dtype=torch.bool)], dim=1)[:, None], float("nan"))
    after = features(field(spoilt, torch.cat([mask, torch.zeros(8, 40, dtype=torch.bool)], dim=1)))
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


def test_a_row_is_the_same_alone() -> None:
    data, mask = rows(8, 3, 25)
    features = fitted(Grid(3, (25,)), data, mask)
    whole = features(field(data, mask))
    for i in range(8):
        length = int(mask[i].sum())
        alone = features(field(data[i : i + 1, :, :length]))
        torch.testing.assert_close(alone[0], whole[i], atol=1e-4, rtol=1e-4)


def test_a_model_that_is_read_back_gives_the_same() -> None:
    data, mask = rows(8, 3, 25)
    features, other = fitted(Grid(3, (25,)), data, mask), Series(Grid(3, (25,)))
    other.load_state_dict(features.state_dict())
    torch.testing.assert_close(other(field(data, mask)), features(field(data, mask)), atol=0, rtol=0)


def test_powers_are_those_of_scipy() -> None:
    x = np.random.default_rng(0).normal(size=160)
    _, density = signal.welch(x - x.mean(), window="hann", nperseg=32, noverlap=16, detrend=False)
    computed = powers(torch.from_numpy(x)[None], segment=32)[0]
    np.testing.assert_allclose(computed / computed.sum(), density / density.sum(), rtol=1e-8)


def test_slow_and_fast_series_differ_in_the_spectrum_alone_where_they_should() -> None:
    time = torch.arange(128) / 128
    slow, fast = (torch.sin(2 * torch.pi * n * time + torch.rand(20, 1) * 6) for n in (4, 40))
    data = torch.cat([slow, fast])[:, None]
    features = fitted(Grid(1, (128,)), data)(field(data))
    apart = (features[:20].mean(dim=0) - features[20:].mean(dim=0)).abs()
    assert apart[20:36].max() > 1.9, "the two share no band"
    assert apart[0] < 0.5, "their means are alike"


def test_no_rows_leave_something_that_answers() -> None:
    features = Series(Grid(2, (30,)))
    features.fit([])
    data, mask = rows(4, 2, 30)
    computed = features(field(data, mask))
    assert computed.isfinite().all()


def test_what_it_reads() -> None:
    assert Series.reads(Grid(3, (20,), timed=True))
    assert not Series.reads(Grid(6, (1,)))
    assert not Series.reads(Grid(1, (20, 8), timed=True))
    assert not Series.reads(Points(3, 10))
