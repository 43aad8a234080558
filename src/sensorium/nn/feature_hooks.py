"""Capture of the intermediate feature maps of an encoder by forward hooks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

_CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@contextmanager
def grids(encoder: nn.Module, axes: int) -> Iterator[list[Tensor]]:
    """Context manager: a list that receives every feature map ``[B, C, *cells]`` of ``axes`` axes that ``encoder``
    computes.

    Only modules that contain a convolution count: tokens of a series have the same number of axes as its grid.
    """
    seen: list[Tensor] = []

    def note(_module: Any, _given: Any, out: Any) -> None:
        grid = out[0] if isinstance(out, tuple) and out else out
        if isinstance(grid, Tensor) and grid.dim() == axes + 2 and grid.is_floating_point() and max(grid.shape[2:]) > 1:
            seen.append(grid)

    inside = [module for module in encoder.modules() if module is not encoder]
    hooks = [m.register_forward_hook(note) for m in inside if any(isinstance(part, _CONV) for part in m.modules())]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
