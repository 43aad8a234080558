"""Random attribution values."""

from __future__ import annotations

import torch

from sensorium.core.explainer import Explainer, Heat, Probe
from sensorium.core.layout import Graph, Grid, Ids, Points, Row
from sensorium.core.registry import component


@component
class Random(Explainer):
    """Random values: the baseline that every other explainer is compared with.

    Source: the random baseline of deletion curves, https://arxiv.org/abs/1806.07421, § 4.

    Args:
        seed: Seed of the values.
        parts: Parts of a grid along each axis; None: 32 of a series (8 to 32 of each channel if it has
            several), 8 × 8 of an image, 8 × 4 × 4 of a video.
    """

    reads = (Grid, Ids, Points, Graph, Row)

    def __init__(self, *, seed: int = 0, parts: int | None = None) -> None:
        self.seed, self.parts = seed, parts

    def explain(self, probe: Probe) -> Heat:
        units = probe.units(self.parts)
        drawn = torch.randn(units.count, generator=torch.Generator().manual_seed(self.seed))
        return Heat(units.spread(drawn.to(probe.data.device)))
