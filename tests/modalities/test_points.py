"""Points: what is kept of a cloud, and where it is put."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sensorium.core.errors import CellError, ConfigError
from sensorium.modalities.points import Points
from sensorium.modalities.series import Series

DRAW = np.random.default_rng(0)
CLOUDS = [DRAW.standard_normal((40 + i, 3)) * [3, 1, 1] + 100 for i in range(5)]


def fitted(cells: Any = CLOUDS, **options: Any) -> Points:
    modality = Points(**options)
    modality.fit(cells)
    return modality


def test_the_unit_sphere() -> None:
    modality = fitted()
    for cell in CLOUDS:
        points = modality.encode(cell * 7 - 3)  # neither place nor size matters
        whole = modality.encode(cell)
        assert np.allclose(points, whole, atol=1e-4)
        kept = points if len(points) == len(cell) else None
        assert np.linalg.norm(points, axis=1).max() == pytest.approx(1, abs=1e-5)
        if kept is not None:
            assert np.allclose(kept.mean(axis=0), 0, atol=1e-4)


def test_sizes_and_places_can_be_kept() -> None:
    for normalise, moved in (("centre", False), ("none", True)):
        modality = fitted(normalise=normalise, count=64)
        one = modality.encode(CLOUDS[0])
        assert np.allclose(modality.encode(CLOUDS[0] + 1), one + moved / modality.state["scale"], atol=1e-4)
        middle = CLOUDS[0].mean(axis=0)
        bigger = modality.encode((CLOUDS[0] - middle) * 2 + middle)
        gap = one - one.mean(axis=0)
        assert np.allclose(bigger - bigger.mean(axis=0), 2 * gap, atol=1e-4)


@pytest.mark.parametrize("sample", ["farthest", "random"])
def test_no_more_points_than_asked_for(sample: Any) -> None:
    modality = fitted(sample=sample, count=16)
    assert all(len(modality.encode(cell)) == 16 for cell in CLOUDS)
    assert len(modality.encode(CLOUDS[0][:5])) == 5
    big = np.random.default_rng(0).standard_normal((200_000, 3))
    assert len(modality.encode(big)) == 16


def test_channels_are_those_of_training() -> None:
    modality = fitted([np.c_[cell, cell[:, :1] * 5] for cell in CLOUDS])
    with pytest.raises(CellError, match="3 channels, in training they had 4"):
        modality.encode(CLOUDS[0])
    bare = fitted([np.c_[cell, cell[:, :1]] for cell in CLOUDS], extras=False)
    assert bare.encode(CLOUDS[0]).shape[1] == 3
    field = modality.prepare(modality.collate([modality.encode(np.c_[cell, cell[:, :1] * 5]) for cell in CLOUDS]))
    assert field.mask is not None
    values = field.data[..., 3][field.mask]
    assert abs(float(values.mean())) < 0.3
    assert 0.7 < float(values.std()) < 1.3


def test_augmentation_keeps_heights_and_distances() -> None:
    modality = fitted(augment="light")
    stored = modality.collate([modality.encode(cell) for cell in CLOUDS])
    plain, varied = modality.prepare(stored), modality.prepare(stored, torch.Generator().manual_seed(0))
    assert varied.mask is not None
    both = varied.mask
    assert torch.allclose(plain.data[both][:, 2], varied.data[both][:, 2], atol=0.03)
    assert torch.allclose(plain.data[both].norm(dim=1), varied.data[both].norm(dim=1), atol=0.05)
    assert not torch.allclose(plain.data[both][:, 0], varied.data[both][:, 0], atol=0.2)
    assert bool(both.any(dim=1).all())
    single = modality.prepare(modality.collate([modality.encode(CLOUDS[0][:1])]), torch.Generator().manual_seed(1))
    assert single.mask is not None
    assert bool(single.mask.all())


def test_what_is_guessed() -> None:
    assert Points.sniff(["a.ply", "b.pcd"], "x").score > 0.9
    assert Points.sniff(["a.bin"], "x").score > Series.sniff(["a.bin"], "x").score
    for cells in (CLOUDS, ["a.npy", "b.npy"]):
        assert Points.sniff(cells, "lidar_points").score > Series.sniff(cells, "lidar_points").score
        assert Points.sniff(cells, "heart").score < Series.sniff(cells, "heart").score
    assert Points.sniff(["words", 3], "points").score == 0


@pytest.mark.parametrize("count", [0, 10**6])
def test_options_are_checked(count: int) -> None:
    with pytest.raises(ConfigError, match="count"):
        Points(count=count)
