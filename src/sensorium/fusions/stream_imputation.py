"""Imputation of absent streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sensorium.core.batch import Encoded
from sensorium.core.contracts import Fusion
from sensorium.core.errors import ConfigError
from sensorium.core.registry import build, component, resolve
from sensorium.nn.stream_imputer import StreamImputer
from sensorium.nn.streams import vectors

SLOWEST = 0.02
"""How far the running mean moves in a step once it has seen many: vectors drift as encoders learn."""


@component
class StreamImputation(Fusion):
    """Imputes the vector of an absent stream, then applies another fusion.

    A row without any stream stays empty. Use it where many rows lack a stream that the others predict; otherwise an
    absent stream is better left absent. ``generate`` learns best beside the objective ``stream_imputation``.
    Source: a generator in the manner of SMIL, Ma et al. 2021, https://arxiv.org/abs/2103.05677, without its meta-learning;
    the learnt token as in Lee et al. 2023, https://arxiv.org/abs/2303.03369.

    Args:
        fusion: The fusion applied after imputation: a name, or ``{kind: name, ...}``.
        how: ``zero`` leaves the stream absent; ``mean`` of the training vectors; ``token``, a learned vector; ``generate``
            predicts it from the streams present.
        hidden: Width of the generator's hidden layer.
    """

    def __init__(
        self,
        streams: Sequence[str],
        dim: int,
        *,
        fusion: str | dict[str, Any] = "gated",
        how: Literal["zero", "mean", "token", "generate"] = "generate",
        hidden: int = 64,
    ) -> None:
        super().__init__(streams, dim)
        count = len(self.streams)
        self.how = how
        self.inner: Fusion = build("fusions", fusion, self.streams, dim)
        self.guess = StreamImputer(count, dim, hidden) if how == "generate" else None
        self.token = nn.Parameter(torch.randn(count, dim) * 0.02) if how == "token" and count > 1 else None
        self.mean: Tensor
        self.seen: Tensor
        if how == "mean":
            self.register_buffer("mean", torch.zeros(count, dim))
            self.register_buffer("seen", torch.zeros(count))

    @classmethod
    def complete(cls, options: dict[str, Any]) -> dict[str, Any]:
        """``options`` with those of the inner fusion written out."""
        inner = resolve("fusions", options["fusion"])
        if inner["kind"] == "late":
            raise ConfigError(
                "fusions/stream_imputation: late answers from each present stream, and needs no imputation",
                fix="model.fusion=late, or impute for another fusion",
            )
        return {**options, "fusion": inner}

    def forward(self, parts: Mapping[str, Encoded]) -> Encoded:
        fused: Encoded = self.inner(self.filled(parts))
        return fused

    def weights(self, parts: Mapping[str, Encoded]) -> dict[str, Tensor]:
        share = self.inner.weights(self.filled(parts)).get("share")
        if share is None:
            return {}
        # The weight of an imputed vector comes from the streams it was predicted from.
        presence = torch.stack([parts[s].present for s in self.streams], dim=1).to(share)
        own = share * presence
        total = own.sum(dim=1, keepdim=True)
        even = presence / presence.sum(dim=1, keepdim=True).clamp(min=1)
        return {"share": torch.where(total > 0, own / total.clamp(min=torch.finfo(own.dtype).tiny), even)}

    def filled(self, parts: Mapping[str, Encoded]) -> dict[str, Encoded]:
        """``parts`` with each absent stream imputed in the rows that have another one."""
        pooled, presence = vectors(parts, self.streams)  # [B, S, D], [B, S]
        if self.how == "mean" and self.training:
            self._learn(pooled.detach(), presence)
        made = self._made(pooled, presence)
        if made is None:
            return dict(parts)
        imputed = ~presence & presence.any(dim=1, keepdim=True)
        return {s: _put(parts[s], made[:, i], imputed[:, i]) for i, s in enumerate(self.streams)}

    def _made(self, pooled: Tensor, presence: Tensor) -> Tensor | None:
        if self.guess is not None:
            made: Tensor = self.guess(pooled, presence)
            return made
        constant = self.mean if self.how == "mean" else self.token
        return None if constant is None else constant.to(pooled).expand_as(pooled)

    @torch.no_grad()
    def _learn(self, pooled: Tensor, presence: Tensor) -> None:
        count = presence.sum(dim=0)
        mean = pooled.float().sum(dim=0) / count.clamp(min=1).unsqueeze(1)
        observed = count > 0
        self.seen += observed
        step = (1 / self.seen.clamp(min=1)).clamp(min=SLOWEST) * observed
        self.mean += step.unsqueeze(1) * (mean - self.mean)


def _put(part: Encoded, vector: Tensor, imputed: Tensor) -> Encoded:
    """Return the stream with ``vector`` ``[B, D]`` as its only token in the rows that are ``imputed`` ``[B]``."""
    first = torch.zeros_like(part.mask)
    first[:, 0] = True
    presence = part.present | imputed
    token = vector.to(part.tokens).unsqueeze(1) * first.unsqueeze(-1)
    return Encoded(
        tokens=torch.where(imputed[:, None, None], token, part.tokens),
        mask=torch.where(imputed[:, None], first, part.mask),
        pooled=torch.where(imputed[:, None], vector.to(part.pooled), part.pooled),
        present=presence,
    )
