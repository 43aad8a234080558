"""Grad-CAM."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sensorium.core.explainer import Explainer, Heat, Probe
from sensorium.core.layout import Grid
from sensorium.core.registry import component
from sensorium.nn.feature_hooks import grids

_SMOOTH = {1: "linear", 2: "bilinear", 3: "trilinear"}


@component
class Gradcam(Explainer):
    """Grad-CAM: where the last convolutions found evidence for the answer. Coarse and fast; misses small details.

    Each channel of the last grid is weighted by its mean gradient; the weighted sum is upsampled to the input. For
    encoders that keep a grid to the end. The values only rank: they do not add up.
    Source: Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391, equations 1 and 2.

    Args:
        positive: Show only evidence for the answer, as in the paper; False: also evidence against it.
    """

    reads = (Grid,)
    gradients = True

    def __init__(self, *, positive: bool = True) -> None:
        self.positive = positive

    def refuses(self, probe: Probe) -> str:
        reason = super().refuses(probe)
        if not reason and _last(probe) is None:
            return "needs an encoder that keeps a grid of cells, as convolutional ones do"
        return reason

    def explain(self, probe: Probe) -> Heat:
        last = _last(probe)
        assert last is not None
        grid, slope = last
        axes = tuple(range(2, grid.dim()))
        heat = (slope.mean(dim=axes, keepdim=True) * grid).sum(dim=1, keepdim=True).detach()  # [1, 1, *cells]
        if self.positive:
            heat = F.relu(heat)
        wide = F.interpolate(heat, size=tuple(probe.data.shape[2:]), mode=_SMOOTH[len(axes)], align_corners=False)[0]
        if probe.mask is not None:
            wide = wide * probe.mask[0].reshape(1, -1, *[1] * (wide.dim() - 2))
        return Heat(wide)


def _last(probe: Probe) -> tuple[Tensor, Tensor] | None:
    """Return the last grid ``[1, C, *cells]`` of convolutions on which the answer depends, and the answer's gradient."""
    with torch.enable_grad(), grids(probe.encoder, probe.data.dim() - 2) as recorded:
        value = probe.answer(probe.data.clone().requires_grad_(), probe.mask)[0]
    recorded = [grid for grid in recorded if grid.requires_grad and grid.shape[0] == 1]
    if not recorded or not value.requires_grad:
        return None
    slopes = torch.autograd.grad(value, recorded, allow_unused=True)
    used = [(grid, slope) for grid, slope in zip(recorded, slopes, strict=True) if slope is not None]
    return used[-1] if used else None
