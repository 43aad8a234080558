"""Stacking, pooling and masking of several encoded streams for fusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sensorium.core.batch import Encoded, zeroed
from sensorium.nn.pool import masked_mean


def vectors(parts: Mapping[str, Encoded], streams: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return the streams' vectors ``[B, S, D]``, zero where absent, and presence ``[B, S]``.

    ``parts`` are the encoded streams by name, ``streams`` their order.
    """
    presence = torch.stack([parts[s].present for s in streams], dim=1)
    pooled = torch.stack([parts[s].pooled for s in streams], dim=1)
    return zeroed(pooled, presence), presence


def tokens(parts: Mapping[str, Encoded], streams: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Concatenate the tokens of all streams ``[B, N, D]``, zero where masked, and their mask ``[B, N]``.

    ``parts`` are the encoded streams by name, ``streams`` their order.
    """
    real = torch.cat([parts[s].mask & parts[s].present.unsqueeze(1) for s in streams], dim=1)
    every = torch.cat([parts[s].tokens for s in streams], dim=1)
    return zeroed(every, real), real


def shares(score: Tensor, presence: Tensor) -> Tensor:
    """Softmax of ``score`` over the streams present (axis 1 of ``[B, S, ...]``, by ``presence`` ``[B, S]``); zeros if there
    are none.
    """
    absent = ~presence.reshape(*presence.shape, *[1] * (score.dim() - 2))
    # A finite floor, not -inf: a row without streams must give zeros, not NaN.
    return score.masked_fill(absent, torch.finfo(score.dtype).min).softmax(dim=1).masked_fill(absent, 0.0)


def sizes(parts: Mapping[str, Encoded], streams: Sequence[str]) -> list[int]:
    """Return the number of tokens of each of the ``streams`` of ``parts`` in this batch."""
    return [parts[s].tokens.shape[1] for s in streams]


def owners(count: Sequence[int], like: Tensor) -> Tensor:
    """Return the stream index ``[N]`` of each token of ``tokens``, for ``count`` tokens per stream, on the device of
    ``like``.
    """
    place = torch.arange(len(count), device=like.device)
    return place.repeat_interleave(torch.tensor(count, device=like.device), output_size=sum(count))


class Gathered(nn.Module):
    """Pool fused tokens to one vector: h = Σₛ αₛ (vₛ + mean of the tokens of s), with α a learned softmax.

    Streams are weighted by name, not by their number of tokens; vₛ, the encoder's vector, is a residual connection.
    """

    def __init__(self, streams: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(streams))

    def share(self, presence: Tensor) -> Tensor:
        """Return the weight of each stream ``[B, S]``; 0 where absent by ``presence`` ``[B, S]``."""
        return shares(self.logits.expand(presence.shape), presence)

    def forward(self, pooled: Tensor, presence: Tensor, met: Sequence[Tensor], real: Sequence[Tensor]) -> Encoded:
        """Pool tokens to one vector.

        Args:
            pooled: Vectors of the streams ``[B, S, D]``.
            presence: Presence ``[B, S]``.
            met: Fused tokens ``[B, N, D]`` by stream.
            real: Their masks ``[B, N]``.
        """
        means = torch.stack([masked_mean(t, m) for t, m in zip(met, real, strict=True)], dim=1)
        aligned = zeroed(pooled + means, presence)
        fused = torch.einsum("bs,bsd->bd", self.share(presence), aligned)
        mask = torch.cat(list(real), dim=1)
        every = zeroed(torch.cat(list(met), dim=1), mask)
        return Encoded(every, mask, fused, presence.any(dim=1))


def random_subsets(present: dict[str, Tensor]) -> dict[str, Tensor]:
    """Draw a random subset of the streams of each row: never empty if it has any, and never all of two or more.

    ``present`` and the result are ``[B]`` bool by stream.
    """
    presence = torch.stack(list(present.values()), dim=1)  # [B, S]
    chance = torch.rand(presence.shape, device=presence.device)
    first = torch.where(presence, chance, -1.0).argmax(dim=1, keepdim=True)
    last = torch.where(presence, chance, 2.0).argmin(dim=1, keepdim=True)
    keep = (chance > 0.5).scatter(1, last, False).scatter(1, first, True) & presence
    return {s: keep[:, i] for i, s in enumerate(present)}
