"""Several encoded streams side by side, as fusions read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sensorium.core.batch import Encoded, zeroed
from sensorium.nn.pool import masked_mean


def vectors(parts: Mapping[str, Encoded], streams: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The vectors ``[B, S, D]`` of ``streams`` in ``parts``, zero where absent, and which are present ``[B, S]``."""
    here = torch.stack([parts[s].present for s in streams], dim=1)
    pooled = torch.stack([parts[s].pooled for s in streams], dim=1)
    return zeroed(pooled, here), here


def tokens(parts: Mapping[str, Encoded], streams: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The tokens ``[B, N, D]`` of ``streams`` in ``parts``, one stream after the other, zero where masked, and the mask
    ``[B, N]``."""
    real = torch.cat([parts[s].mask & parts[s].present.unsqueeze(1) for s in streams], dim=1)
    every = torch.cat([parts[s].tokens for s in streams], dim=1)
    return zeroed(every, real), real


def shares(score: Tensor, here: Tensor) -> Tensor:
    """Softmax of ``score`` ``[B, S, ...]`` over the streams present (``here`` ``[B, S]``); zero in a row without any."""
    absent = ~here.reshape(*here.shape, *[1] * (score.dim() - 2))
    # A finite floor, not -inf: a row with nothing at all must give zeros, not NaN.
    return score.masked_fill(absent, torch.finfo(score.dtype).min).softmax(dim=1).masked_fill(absent, 0.0)


def sizes(parts: Mapping[str, Encoded], streams: Sequence[str]) -> list[int]:
    """The number of tokens of each of ``streams`` in ``parts``."""
    return [parts[s].tokens.shape[1] for s in streams]


def owners(count: Sequence[int], like: Tensor) -> Tensor:
    """The index of the stream of each token ``[N]``, from the number of tokens of each stream ``count``; on the device
    of ``like``."""
    place = torch.arange(len(count), device=like.device)
    return place.repeat_interleave(torch.tensor(count, device=like.device), output_size=sum(count))


class Gathered(nn.Module):
    """Tokens that have met, back to one vector: h = Σₛ αₛ (vₛ + mean of the tokens of s), α a learned softmax.

    Streams weigh by name, not by how many tokens they have; what the encoder made of a stream stays in it.
    """

    def __init__(self, streams: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(streams))

    def share(self, here: Tensor) -> Tensor:
        """The weight ``[B, S]`` of each stream, given which are present (``here``); 0 where absent."""
        return shares(self.logits.expand(here.shape), here)

    def forward(self, pooled: Tensor, here: Tensor, met: Sequence[Tensor], real: Sequence[Tensor]) -> Encoded:
        """Vectors ``[B, S, D]``, which are there ``[B, S]``, and by stream the tokens ``[B, N, D]`` and which are real."""
        means = torch.stack([masked_mean(t, m) for t, m in zip(met, real, strict=True)], dim=1)
        aligned = zeroed(pooled + means, here)
        fused = torch.einsum("bs,bsd->bd", self.share(here), aligned)
        mask = torch.cat(list(real), dim=1)
        every = zeroed(torch.cat(list(met), dim=1), mask)
        return Encoded(every, mask, fused, here.any(dim=1))


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
