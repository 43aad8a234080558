"""How a cloud lies in space, against NumPy and SciPy, whatever the order of its points."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from torch import Tensor

from sensorium.core.batch import Field
from sensorium.core.layout import Grid
from sensorium.core.layout import Points as Cloud
from sensorium.features.points import Points


def clouds(count: int, channels: int, points: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, points + 1, (count,), generator=draw)
    lengths[0], lengths[1] = points, 1
    data = torch.randn(count, points, channels, generator=draw) * torch.tensor([2.0, 1.0, 0.5] + [1.0] * (channels - 3))
    return data, torch.arange(points) < lengths[:, None]


def field(data: Tensor, mask: Tensor | None = None) -> Field:
    return Field(data, torch.ones(len(data), dtype=torch.bool), mask)


def fitted(layout: Cloud, data: Tensor, mask: Tensor | None = None) -> Points:
    features = Points(layout)
    features.fit([field(data, mask)])
    return features


def test_numbers_are_those_of_the_formulas() -> None:
    data, mask = clouds(6, 5, 60)
    features = Points(Cloud(5, 60)).measured(data.masked_fill(~mask[..., None], 0.0), mask).numpy()
    at = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
    for result, row, real in zip(features, data.double().numpy(), mask.numpy(), strict=True):
        points = row[real]
        places = points[:, :3]
        gap = places - places.mean(axis=0)
        covariance = gap.T @ gap / len(gap)
        radius = np.linalg.norm(gap, axis=1)
        distance = pdist(places) if len(places) > 1 else np.zeros(1)
        expected = [
            places.mean(axis=0),
            covariance[np.triu_indices(3)],
            np.sqrt(np.linalg.eigvalsh(covariance).clip(0)),
            np.quantile(places, at, axis=0).T.ravel(),
            np.quantile(radius, at),
        ]
        np.testing.assert_allclose(result[:40], np.concatenate(expected), atol=2e-3)
        # Each pair is there twice, so quantiles lie between the same distances or next to them.
        twice = np.repeat(distance, 2)
        np.testing.assert_allclose(result[40:47], np.quantile(twice, at), atol=1e-4)
        for start in (47, 63, 79):
            width = 64 if start == 79 else 16
            alone = start == 63 and len(places) == 1
            assert result[start : start + width].sum() == pytest.approx(0.0 if alone else 1.0, abs=1e-4)
        assert result[143] == pytest.approx(np.log1p(len(points)), rel=1e-6)
        np.testing.assert_allclose(result[144::4], points[:, 3:].mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("points", [40, 400])
def test_order_padding_and_what_stands_there_change_nothing(points: int) -> None:
    data, mask = clouds(6, 4, points)
    features = fitted(Cloud(4, points), data, mask)
    before = features(field(data, mask))
    draw = torch.Generator().manual_seed(1)
    longer = torch.full((6, points + 11, 4), float("nan"))
    real = torch.zeros(6, points + 11, dtype=torch.bool)
    for i in range(6):
        own = data[i][mask[i]]
        place = torch.randperm(points + 11, generator=draw)[: len(own)]
        longer[i, place], real[i, place] = own, True
    torch.testing.assert_close(features(field(longer, real)), before, atol=1e-3, rtol=1e-3)


def test_some_numbers_know_no_turn() -> None:
    data, _ = clouds(4, 3, 300)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))
    features = Points(Cloud(3, 300))
    computed, turned = features.measured(data, None), features.measured(data @ turn, None)
    for kept in (slice(9, 12), slice(33, 40), slice(47, 63)):  # principal extents, radii and how they spread
        torch.testing.assert_close(computed[:, kept], turned[:, kept], atol=1e-4, rtol=1e-3)
    assert not torch.allclose(computed[:, 12:33], turned[:, 12:33], atol=0.1)


def test_numbers_are_finite_saved_and_few_enough() -> None:
    data, mask = clouds(8, 60, 30)
    features, other = fitted(Cloud(60, 30), data, mask), Points(Cloud(60, 30))
    computed = features(field(data, mask))
    assert computed.dtype == torch.float32
    assert computed.isfinite().all()
    assert features.compact(computed, field(data, mask)).shape[1] <= 256
    other.load_state_dict(features.state_dict())
    assert torch.equal(other(field(data, mask)), computed)


def test_spheres_and_cubes_are_told_apart_by_distances_alone() -> None:
    from sklearn.linear_model import LogisticRegression

    draw = torch.Generator().manual_seed(0)
    ball = torch.randn(60, 200, 3, generator=draw)
    ball = ball / ball.norm(dim=2, keepdim=True)
    cube = torch.rand(60, 200, 3, generator=draw) * 2 - 1
    data, labels = torch.cat([ball, cube]), np.repeat([0, 1], 60)
    features = fitted(Cloud(3, 200), data)(field(data))[:, 47:79].numpy()
    head = LogisticRegression(C=0.1).fit(features[::2], labels[::2])
    assert head.score(features[1::2], labels[1::2]) == 1.0


def test_what_it_reads() -> None:
    assert Points.reads(Cloud(3, 10))
    assert not Points.reads(Grid(3, (10,)))
