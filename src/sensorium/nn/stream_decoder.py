"""Decoders from vectors back to what the streams hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from sensorium.core.batch import zeroed
from sensorium.core.layout import Layout
from sensorium.nn.mlp import Mlp
from sensorium.nn.stream_aims import places, sections

Source = Literal["others", "own", "all"]
"""From which vectors a stream is rebuilt."""
SEEN = 5_000
"""Rows from which the units of the numbers to be rebuilt are learnt, at most."""


class StreamDecoder(nn.Module):
    """Rebuild the summary of each stream (``nn/stream_aims.py``) from the vectors of streams, one network for each.

    Vectors are projected, averaged over the streams that may be read, and decoded. With ``sampled`` the projection gives
    mean and log variance of a Gaussian code, drawn in training.

    Args:
        layouts: Of the streams, by name.
        dim: Width of the vectors.
        hidden: Width of the code and of the hidden layers.
        sampled: Whether the code is drawn (a variational autoencoder).
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, layouts: Mapping[str, Layout], dim: int, hidden: int, *, sampled: bool = False) -> None:
        super().__init__()
        self.sampled = sampled
        self.sections = [sections(layout) for layout in layouts.values()]
        self.places = places([sum(parts) for parts in self.sections])
        self.size = self.places[-1].stop if self.places else 0
        self.project = nn.ModuleList(nn.Linear(dim, hidden * (2 if sampled else 1)) for _ in layouts)
        self.decode = nn.ModuleList(Mlp(hidden, hidden, sum(parts)) for parts in self.sections)
        self.register_buffer("mean", torch.zeros(self.size))
        self.register_buffer("scale", torch.ones(self.size))

    def fit(self, aims: Iterable[Tensor]) -> None:
        """Learn the units from ``aims`` ``[B, F]``, NaN where unknown: the mean of each number, the deviation of each
        section, so that always answering the mean has a squared error of 1."""
        count = torch.zeros(self.size, dtype=torch.float64)
        total, square, rows = count.clone(), count.clone(), 0
        for part in aims:
            part = part.double().cpu()
            known = part.isfinite()
            clean = torch.where(known, part, 0.0)
            count, total, square = count + known.sum(0), total + clean.sum(0), square + clean.square().sum(0)
            rows += len(part)
            if rows >= SEEN:
                break
        mean = total / count.clamp(min=1)
        variance = (square / count.clamp(min=1) - mean.square()).clamp(min=0)
        scale = torch.ones_like(mean)
        for place in places([size for parts in self.sections for size in parts]):
            deviation = float(variance[place].mean().sqrt())
            scale[place] = deviation if deviation > 1e-6 else 1.0
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    def forward(self, pooled: Tensor, presence: Tensor, source: Source) -> tuple[Tensor, Tensor]:
        """Rebuild all streams.

        Args:
            pooled: Vectors ``[B, S, D]``.
            presence: Which are present ``[B, S]``.
            source: ``others``: from all streams but itself, or from itself where a row has no other; ``own``; ``all``.

        Returns:
            The summaries in units of their deviations ``[B, F]``, and the divergence of the code from a standard normal
            ``[B]``, 0 unless it is drawn.
        """
        clean = zeroed(pooled, presence)
        code = torch.stack([f(x) for f, x in zip(self.project, clean.unbind(dim=1), strict=True)], dim=1)
        divergence = code.new_zeros(len(code))
        if self.sampled:
            mean, log_variance = code.chunk(2, dim=2)
            log_variance = log_variance.clamp(-10, 10)
            each = (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=2) / 2
            divergence = (each * presence).sum(dim=1) / presence.sum(dim=1).clamp(min=1)
            code = mean + (log_variance / 2).exp() * torch.randn_like(mean) if self.training else mean
        read = readable(presence, source).to(code.dtype)  # [B, target, source]
        share = read / read.sum(dim=2, keepdim=True).clamp(min=1)
        context = torch.einsum("bts,bsh->bth", share, code)
        made = [decode(torch.nn.functional.gelu(context[:, t])) for t, decode in enumerate(self.decode)]
        return torch.cat(made, dim=1).float(), divergence.float()

    def errors(self, rebuilt: Tensor, aims: Tensor) -> tuple[Tensor, Tensor]:
        """The mean squared error of ``rebuilt`` ``[B, F]`` for each stream ``[B, S]``, against ``aims`` ``[B, F]`` in their
        own units, and the streams of which something is known ``[B, S]``."""
        known = aims.isfinite()
        wanted = (torch.where(known, aims, self.mean) - self.mean) / self.scale
        # Far outliers would decide the gradient.
        wrong = (rebuilt - wanted.clamp(-10, 10)).square() * known
        each = [wrong[:, part].sum(dim=1) / known[:, part].sum(dim=1).clamp(min=1) for part in self.places]
        return torch.stack(each, dim=1), torch.stack([known[:, part].any(dim=1) for part in self.places], dim=1)


def readable(presence: Tensor, source: Source) -> Tensor:
    """Which streams each stream is rebuilt from ``[B, target, source]``, by ``presence`` ``[B, S]`` and ``source``."""
    own = torch.eye(presence.shape[1], dtype=torch.bool, device=presence.device)
    if source == "own":
        return own & presence[:, None, :]
    everything = presence[:, None, :].expand(-1, presence.shape[1], -1)
    if source == "all":
        return everything
    others = everything & ~own
    return torch.where(others.any(dim=2, keepdim=True), others, own & everything)
