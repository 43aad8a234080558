"""Several encoded streams side by side, as fusions read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sensorium.core.batch import Encoded


def vectors(parts: Mapping[str, Encoded], streams: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The streams' vectors ``[B, S, D]``, zero where absent, and which are there ``[B, S]``, in this order."""
    here = torch.stack([parts[s].present for s in streams], dim=1)
    pooled = torch.stack([parts[s].pooled for s in streams], dim=1)
    return pooled.masked_fill(~here.unsqueeze(-1), 0.0), here


def tokens(parts: Mapping[str, Encoded], streams: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The tokens of all streams ``[B, N, D]``, one stream after the other, zero where masked, and the mask ``[B, N]``."""
    real = torch.cat([parts[s].mask & parts[s].present.unsqueeze(1) for s in streams], dim=1)
    every = torch.cat([parts[s].tokens for s in streams], dim=1)
    return every.masked_fill(~real.unsqueeze(-1), 0.0), real


def shares(score: Tensor, here: Tensor) -> Tensor:
    """Softmax over the streams that are there (axis 1 of ``[B, S, ...]``); all zero in a row with none."""
    absent = ~here.reshape(*here.shape, *[1] * (score.dim() - 2))
    # A finite floor, not -inf: a row with nothing at all must give zeros, not NaN.
    return score.masked_fill(absent, torch.finfo(score.dtype).min).softmax(dim=1).masked_fill(absent, 0.0)


def random_subsets(present: dict[str, Tensor]) -> dict[str, Tensor]:
    """For each row a random subset of its streams: never none of those it has, and never all where it has two or more.

    ``present[stream]`` and the result are ``[B]`` bool.
    """
    here = torch.stack(list(present.values()), dim=1)  # [B, S]
    chance = torch.rand(here.shape, device=here.device)
    first = torch.where(here, chance, -1.0).argmax(dim=1, keepdim=True)
    last = torch.where(here, chance, 2.0).argmin(dim=1, keepdim=True)
    keep = (chance > 0.5).scatter(1, last, False).scatter(1, first, True) & here
    return {s: keep[:, i] for i, s in enumerate(present)}
