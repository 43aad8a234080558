"""Frame by frame: the frames' encoder is any, and what looks at them together sees time or does not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sensorium.core.errors import ConfigError
from sensorium.core.layout import Grid
from sensorium.encoders.frames import Frames

LAYOUT = Grid(3, (6, 16, 12))


def test_each_frame_is_encoded_by_itself() -> None:
    torch.manual_seed(0)
    encoder = Frames(LAYOUT, dim=8, temporal="mean").eval()
    data = torch.randn(2, 3, 6, 16, 12)
    tokens = encoder(data).tokens
    for t in range(6):
        assert torch.allclose(tokens[:, t], encoder.frame(data[:, :, t]).pooled, atol=1e-5)


def test_only_the_mean_does_not_see_the_order() -> None:
    torch.manual_seed(0)
    data = torch.randn(2, 3, 6, 16, 12)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    for temporal in ("mean", "gru", "transformer"):
        encoder = Frames(LAYOUT, dim=8, heads=2, temporal=temporal).eval()  # type: ignore[arg-type]
        same = torch.allclose(encoder(data).pooled, encoder(data[:, :, order]).pooled, atol=1e-5)
        assert same == (temporal == "mean")


def test_the_encoder_of_a_frame_is_any_with_its_options() -> None:
    for frame in ("patch", {"kind": "patch", "depth": 1, "dim": 12, "heads": 3}, {"kind": "convnet", "width": 4}):
        encoder = Frames(LAYOUT, dim=8, frame=frame, heads=2)  # type: ignore[arg-type]
        assert encoder(torch.randn(2, 3, 4, 16, 12)).tokens.shape == (2, 4, 8)


@pytest.mark.parametrize(
    ("layout", "options", "problem"),
    [
        (Grid(3, (6, 16)), {}, "three axes"),
        (LAYOUT, {"frame": "bag_of_words"}, "does not read pictures"),
        (LAYOUT, {"frame": "convnets"}, "convnets"),
        (LAYOUT, {"frame": {"kind": "convnet", "colour": 3}}, "colour"),
        (LAYOUT, {"temporal": "gru", "dim": 7}, "even"),
    ],
)
def test_what_does_not_fit_is_said(layout: Grid, options: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Frames(layout, **options)
