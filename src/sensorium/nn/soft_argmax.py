"""Places from heat maps: the expected place under a softmax, over all cells or near the most probable one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def cell_centres(count: int, length: float, like: Tensor) -> Tensor:
    """Return the centres ``[count]`` of ``count`` equal cells that fill a ``length``, with the type of ``like``."""
    return (torch.arange(count, device=like.device, dtype=like.dtype) + 0.5) * (length / count)


def soft_argmax(logits: Tensor, reach: int | None = None) -> tuple[Tensor, Tensor]:
    """Return the expected place under the softmax of each map, and the probability that it rests on.

    Source: integral regression, https://arxiv.org/abs/1711.08229; near the maximum only, since other maxima would shift
    the mean, as in https://arxiv.org/abs/1712.03917.

    Args:
        logits: ``[B, K, h, w]``.
        reach: Cells to each side of the most probable one that count; None: all cells.

    Returns:
        ``[B, K, 2]``, x and y as shares of the width and the height of the map, and the probability ``[B, K]`` of the cells
        that count.
    """
    rows, maps, high, wide = logits.shape
    whole = _precise(logits).flatten(2).softmax(dim=2).reshape(rows, maps, high, wide)
    if reach is not None:
        best = logits.flatten(2).argmax(dim=2)
        whole = whole * near(best, (high, wide), reach)
    across, down = whole.sum(dim=2), whole.sum(dim=3)
    total = across.sum(dim=2)
    x = (across * cell_centres(wide, 1.0, across)).sum(dim=2)
    y = (down * cell_centres(high, 1.0, down)).sum(dim=2)
    return torch.stack([x, y], dim=2) / total[..., None].clamp_min(1e-12), total


def near(index: Tensor, size: tuple[int, int], reach: int) -> Tensor:
    """Which cells lie within ``reach`` of a cell along both axes: ``[B, K, h, w]`` bool.

    Args:
        index: The cells ``[B, K]``, numbered row by row.
        size: Height and width of the map.
        reach: Cells to each side.
    """
    row, column = index // size[1], index % size[1]
    rows = (torch.arange(size[0], device=index.device) - row[..., None]).abs() <= reach
    columns = (torch.arange(size[1], device=index.device) - column[..., None]).abs() <= reach
    return rows[..., :, None] & columns[..., None, :]


def bell(places: Tensor, count: int, spread: float) -> Tensor:
    """Return a normal density around each place, sampled at the centres of ``count`` cells and normalised.

    Args:
        places: Shares of the axis ``[...]``.
        count: Cells along the axis.
        spread: Standard deviation in cells.

    Returns:
        ``[..., count]``, summing to 1.
    """
    cells = cell_centres(count, float(count), places)
    return (-0.5 * ((cells - places[..., None] * count) / spread).square()).softmax(dim=-1)


def place_loss(logits: Tensor, places: Tensor, spread: float) -> Tensor:
    """Return the cross-entropy of each heat map against a normal density around the true place, ``[B, K]``.

    Args:
        logits: ``[B, K, h, w]``.
        places: True x and y as shares of the width and the height ``[B, K, 2]``.
        spread: Standard deviation of the density in cells.
    """
    logs = F.log_softmax(_precise(logits).flatten(2), dim=2).reshape(logits.shape)
    across, down = (bell(places[..., i].to(logs), logits.shape[3 - i], spread) for i in range(2))
    return -torch.einsum("bkyx,bky,bkx->bk", logs, down, across)


def axis_loss(logits: Tensor, places: Tensor, spread: float) -> Tensor:
    """Return the cross-entropy of the bins of every coordinate against a normal density around the true one, ``[B, K]``.

    Source: coordinates as classes, https://arxiv.org/abs/2107.03332.

    Args:
        logits: Of the bins of x and of y ``[B, K, 2, bins]``.
        places: True x and y as shares of the range of the bins ``[B, K, 2]``.
        spread: Standard deviation of the density in bins.
    """
    wanted = bell(places, logits.shape[3], spread)
    return -(wanted * F.log_softmax(_precise(logits), dim=3)).sum(dim=(2, 3))


def _precise(logits: Tensor) -> Tensor:
    """Logits in single precision at least: a sum over thousands of cells in half precision would be none."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
