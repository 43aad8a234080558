"""Edges of images: the consensus of annotators, the loss, the mean edge map, and answers in the user's own pixels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sensorium.core.batch import Field
from sensorium.metrics.skeleton import skeleton
from sensorium.signal.edges import suppressed
from sensorium.signal.geometry import compose, identity, resample

Agreement = Literal["majority", "soft"]
SIDE = 32
"""Side in cells of the mean edge map."""
RARE = 0.02
"""Prior share of edge pixels in the mean edge map, with the weight of one image."""
MOST = 1 << 22
"""Maximum number of pixels thinned at a time."""
MARGIN = 8
"""Rows read above and below a band when it is thinned."""


def consensus(maps: Tensor, agreement: Agreement) -> tuple[Tensor, Tensor]:
    """Return the wanted probability of an edge at each pixel ``[B, h, w]``, and which pixels are known.

    An annotator agrees with a pixel if their edge passes through it or a neighbour of it, since annotations of the same
    edge differ slightly in position.

    Args:
        maps: ``[B, A, h, w]``: 1 edge, 0 none, else unknown.
        agreement: ``majority``: a drawn pixel is an edge if at least half of the annotators agree with it, otherwise
            unknown. ``soft``: the share of annotators who agree.
    """
    drawn, known = maps == 1, maps <= 1
    close = F.max_pool2d(drawn.float(), 3, stride=1, padding=1)
    votes = (close * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)
    drawn_by_any, readable = drawn.any(dim=1), known.any(dim=1)
    if agreement == "soft":
        return votes * drawn_by_any, readable
    return (drawn_by_any & (votes >= 0.5)).float(), readable & ~(drawn_by_any & (votes < 0.5))


def edge_loss(logits: Tensor, wanted: Tensor, known: Tensor, balance: float) -> Tensor:
    """Return the balanced cross-entropy of each row, ``[B]``; 0 where nothing is known.

    Source: holistically-nested edge detection, https://arxiv.org/abs/1504.06375.

    Args:
        logits: ``[B, h, w]``.
        wanted: Wanted probabilities ``[B, h, w]``.
        known: Which pixels count ``[B, h, w]``.
        balance: Exponent of the ratio of other pixels to edges by which edges weigh more: 0 counts all pixels alike, 1
            edges as much as all others.
    """
    count = known.sum(dim=(1, 2)).float()
    edges = (wanted * known).sum(dim=(1, 2))
    heavier = ((count - edges).clamp(min=1) / edges.clamp(min=1)).pow(balance)[:, None, None]
    weight = (wanted * heavier + (1 - wanted)) * known
    losses = F.binary_cross_entropy_with_logits(logits.float(), wanted, reduction="none")
    return (losses * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2)).clamp(min=1e-6)


def mean_edges(targets: Iterable[Field], agreement: Agreement) -> Tensor:
    """Return the log-odds of an edge at each place ``[32, 32]``, from the maps ``[B, A, h, w]`` of ``targets``; with
    ``agreement`` as in ``consensus``."""
    edges = torch.full((SIDE, SIDE), RARE)
    total = torch.ones(SIDE, SIDE)
    for part in targets:
        for maps in torch.split(part.data[part.present], 16):
            wanted, known = consensus(maps, agreement)
            edges += F.adaptive_avg_pool2d((wanted * known)[:, None], SIDE).sum(dim=(0, 1)).cpu()
            total += F.adaptive_avg_pool2d(known[:, None].float(), SIDE).sum(dim=(0, 1)).cpu()
    return torch.logit((edges / total).clamp(1e-4, 1 - 1e-4))


def sized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return ``maps`` ``[B, h, w]`` interpolated to ``size``."""
    if tuple(maps.shape[1:]) == size:
        return maps
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def in_user_pixels(logits: Tensor, size: tuple[int, int], field: Field, row: int, threshold: float) -> NDArray[np.float32]:
    """Return the strength of edges in the pixels of the user's image ``[H, W]``, thin lines, 0 below ``threshold``.

    Args:
        logits: ``[h, w]`` of one row.
        size: Height and width of the prepared image.
        field: The prepared images, with frame and extent.
        row: The row among them.
        threshold: Minimum strength.
    """
    assert field.frame is not None
    assert field.extent is not None
    wide, high = (max(1, int(n)) for n in field.extent[row].tolist())
    frame = field.frame[row : row + 1].float().cpu()
    ratio = frame.new_tensor([[logits.shape[1] / size[1], 0, 0], [0, logits.shape[0] / size[0], 0]])[None]
    own = compose(ratio, frame)
    strength = logits[None, None].detach().float().cpu().sigmoid()
    result = np.zeros((high, wide), np.float32)
    band = max(1, MOST // wide)
    for top in range(0, high, band):
        first, last = max(0, top - MARGIN), min(high, top + band + MARGIN)
        grid = identity(1, 2, frame).clone()
        grid[:, 1, 2] = -first
        sampled = resample(strength, own, grid, (last - first, wide), mode="bilinear")[0]
        lines = thin_lines(sampled, threshold)[0]
        until = min(high, top + band)
        result[top:until] = lines[top - first : until - first]
    return result


def thin_lines(strength: Tensor, threshold: float) -> NDArray[np.float32]:
    """Return ``strength`` ``[B, h, w]`` on lines one pixel wide, 0 elsewhere and below ``threshold``."""
    crests = suppressed(strength.detach().float()).cpu().numpy()
    lines: NDArray[np.float32] = np.where(skeleton(crests >= max(threshold, 1e-6)), crests, 0).astype(np.float32)
    return lines
