"""Boxes of a set-prediction detector rasterised on a map, so that they can be read as features by place."""

from __future__ import annotations

import torch
from torch import Tensor

INNER = 0.5
"""Standard deviation of the Gaussian of a box, as a share of half of each side."""


def drawn_boxes(logits: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Draw the boxes of each row as Gaussians around their centres; gradients flow to all of them.

    Args:
        logits: Of each box, log-odds of the classes and last of nothing ``[B, Q, K + 1]``.
        boxes: Centre, width and height as shares of the image ``[B, Q, 4]``.
        size: Height and width of the map.

    Returns:
        ``[B, K + 2, h, w]``: the chance of each class, and the mean width and height of the boxes there, as shares.
        Source of the boxes: DETR, https://arxiv.org/abs/2005.12872, equation 1.
    """
    chance = logits.float().softmax(dim=-1)[..., :-1]
    middle, extent = boxes.float()[..., :2], boxes.float()[..., 2:].clamp(min=1e-3)
    down, across = ((torch.arange(n, device=boxes.device) + 0.5) / n for n in size)
    cell = extent.new_tensor([1 / size[1], 1 / size[0]])
    spread = INNER * extent / 2 + cell / 2
    x = (-0.5 * ((across - middle[..., :1]) / spread[..., :1]) ** 2).exp()  # [B, Q, w]
    y = (-0.5 * ((down - middle[..., 1:]) / spread[..., 1:]) ** 2).exp()
    glow = y[..., :, None] * x[..., None, :]  # [B, Q, h, w]
    heat = 1 - (1 - chance[..., None, None] * glow[:, :, None]).clamp(min=1e-6).log().sum(dim=1).exp()
    weight = glow * chance.sum(dim=-1)[..., None, None]
    usual = torch.einsum("bqhw,bqs->bshw", weight, extent) / weight.sum(dim=1, keepdim=True).clamp(min=1e-6)
    return torch.cat([heat, usual], dim=1)
