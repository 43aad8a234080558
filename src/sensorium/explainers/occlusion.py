"""Occlusion."""

from __future__ import annotations

import torch

from sensorium.core.explainer import CHUNK, Explainer, Heat, Probe
from sensorium.core.layout import Graph, Grid, Ids, Points, Row
from sensorium.core.registry import component


@component
class Occlusion(Explainer):
    """Occlusion: the change in the answer when one part is removed: a patch, a word, a cell, a group of points.

    Works for every encoder and task. Two redundant parts hide each other: each alone can be removed.
    Source: Zeiler and Fergus 2013, https://arxiv.org/abs/1311.2901, § 2.1 (and figure 7).

    Args:
        parts: Parts of a grid along each axis; None: 32 of a series (8 to 32 of each channel if it has
            several), 8 × 8 of an image, 8 × 4 × 4 of a video.
    """

    reads = (Grid, Ids, Points, Graph, Row)
    measures = True

    def __init__(self, *, parts: int | None = None) -> None:
        self.parts = parts

    def explain(self, probe: Probe) -> Heat:
        units = probe.units(self.parts)
        every = torch.arange(units.count, device=probe.data.device)
        if not units.count:
            return Heat(units.spread(every * 0.0))
        # Some at a time: what is left without each of thousands of columns would fill the memory.
        left = torch.cat([probe.kept(units, every != gone[:, None]) for gone in torch.split(every, CHUNK)])
        return Heat(units.spread(probe.value - left))
