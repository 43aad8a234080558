"""Grad-CAM."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sensorium.core.explainer import Explainer, Heat, Probe
from sensorium.core.layout import Grid
from sensorium.core.registry import component

_SMOOTH = {1: "linear", 2: "bilinear", 3: "trilinear"}


@component
class Gradcam(Explainer):
    """Where the last convolutions saw what speaks for the answer: coarse, quick, and quiet about small things.

    Each channel of the last grid counts by its mean gradient; their weighted sum is stretched over the input. For encoders
    that keep a grid to the end. The values only rank: they do not add up to anything.
    Source: Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391, equations 1 and 2.

    Args:
        positive: Shows only what speaks for the answer, as in the paper; False: also what speaks against it.
    """

    reads = (Grid,)
    gradients = True

    def __init__(self, *, positive: bool = True) -> None:
        self.positive = positive

    def refuses(self, probe: Probe) -> str:
        told = super().refuses(probe)
        if not told and _last(probe)[1] is None:
            return "needs an encoder that keeps a grid of cells, as convolutional ones do"
        return told

    def explain(self, probe: Probe) -> Heat:
        value, grid = _last(probe)
        assert grid is not None
        (slope,) = torch.autograd.grad(value, grid)
        axes = tuple(range(2, grid.dim()))
        heat = (slope.mean(dim=axes, keepdim=True) * grid).sum(dim=1, keepdim=True).detach()  # [1, 1, *cells]
        if self.positive:
            heat = F.relu(heat)
        wide = F.interpolate(heat, size=tuple(probe.data.shape[2:]), mode=_SMOOTH[len(axes)], align_corners=False)[0]
        if probe.mask is not None:
            wide = wide * probe.mask[0].reshape(1, -1, *[1] * (wide.dim() - 2))
        return Heat(wide)


def _last(probe: Probe) -> tuple[Tensor, Tensor | None]:
    """The answer, and the last grid ``[1, C, *cells]`` that a module of the encoder handed on: with gradients."""
    dims = probe.data.dim()
    seen: list[Tensor] = []

    def note(_module: Any, _given: Any, out: Any) -> None:
        grid = out[0] if isinstance(out, tuple) and out else out
        cells = isinstance(grid, Tensor) and grid.dim() == dims and grid.is_floating_point() and grid.requires_grad
        if cells and grid.shape[0] == 1 and max(grid.shape[2:]) > 1:
            seen.append(grid)

    hooks = [module.register_forward_hook(note) for module in probe.encoder.modules() if module is not probe.encoder]
    try:
        with torch.enable_grad():
            value = probe.answer(probe.data.clone().requires_grad_(), probe.mask)[0]
    finally:
        for hook in hooks:
            hook.remove()
    return value, seen[-1] if seen and value.requires_grad else None
