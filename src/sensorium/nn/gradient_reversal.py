"""Gradient reversal for adversarial training with one optimiser."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return -ctx.scale * grads[0], None


def reverse(x: Tensor, scale: float = 1.0) -> Tensor:
    """Return ``x`` unchanged, with its gradient multiplied by ``-scale``.

    Source: Ganin and Lempitsky 2015, https://arxiv.org/abs/1409.7495, § 3.1.
    """
    result: Tensor = _Reversed.apply(x, scale)  # type: ignore[no-untyped-call]
    return result
