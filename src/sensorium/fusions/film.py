"""Feature-wise linear modulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sensorium.core.batch import Encoded, zeroed
from sensorium.core.contracts import Fusion
from sensorium.core.registry import component
from sensorium.nn.mlp import Mlp
from sensorium.nn.pool import masked_mean
from sensorium.nn.streams import sizes, tokens, vectors


@component
class Film(Fusion):
    """Feature-wise linear modulation: each stream scales and shifts the features of the others.

    yₛ = (1 + γₛ) ⊙ Wₛvₛ + βₛ with [γₛ; βₛ] = Gₛ Σₜ≠ₛ fₜ(vₜ), the same for the stream's tokens; h is the mean of the yₛ,
    then a residual perceptron. Without another stream γ = β = 0, so a row with one stream takes that stream's own path.
    Use it where one stream conditions another (a question and an image) and a head reads the tokens.
    Source: FiLM, https://arxiv.org/abs/1709.07871, equations 1 and 2.

    Args:
        dropout: Share of features dropped in training.
    """

    def __init__(self, streams: Sequence[str], dim: int, *, dropout: float = 0.1) -> None:
        super().__init__(streams, dim)
        self.own = nn.ModuleList(nn.Linear(dim, dim) for _ in self.streams)
        self.factor = nn.ModuleList(Mlp(dim, 2 * dim, dim, dropout=dropout) for _ in self.streams)
        self.modulate = nn.ModuleList(nn.Linear(dim, 2 * dim, bias=False) for _ in self.streams)
        self.norm = nn.LayerNorm(dim)
        self.network = Mlp(dim, 2 * dim, dim, dropout=dropout)
        self.drop = nn.Dropout(dropout)

    def _modulation(self, pooled: Tensor, presence: Tensor) -> tuple[Tensor, Tensor]:
        """γ and β of every stream, ``[B, S, D]`` each."""
        factors = torch.stack([f(x) for f, x in zip(self.factor, pooled.unbind(dim=1), strict=True)], dim=1)
        factors = zeroed(factors, presence)
        others = factors.sum(dim=1, keepdim=True) - factors  # all but the stream's own
        modulation = torch.stack([f(x) for f, x in zip(self.modulate, others.unbind(dim=1), strict=True)], dim=1)
        gamma, beta = modulation.chunk(2, dim=-1)
        return gamma, beta

    def weights(self, parts: Mapping[str, Encoded]) -> dict[str, Tensor]:
        """``gate``: 1 + γ, the factor of each feature of each stream of ``parts``; 0 where absent."""
        pooled, presence = vectors(parts, self.streams)
        return {"gate": zeroed(1 + self._modulation(pooled, presence)[0], presence)}

    def forward(self, parts: Mapping[str, Encoded]) -> Encoded:
        pooled, presence = vectors(parts, self.streams)  # [B, S, D], [B, S]
        every, real = tokens(parts, self.streams)
        gamma, beta = self._modulation(pooled, presence)
        pieces = torch.split(every, sizes(parts, self.streams), dim=1)
        changed, vector = [], []
        for i, own in enumerate(self.own):
            scale, shift = 1 + gamma[:, i], beta[:, i]
            changed.append(scale.unsqueeze(1) * own(pieces[i]) + shift.unsqueeze(1))
            vector.append(scale * own(pooled[:, i]) + shift)
        hidden = masked_mean(torch.stack(vector, dim=1), presence)
        fused = hidden + self.drop(self.network(self.norm(hidden)))
        present = presence.any(dim=1)
        modulated = zeroed(torch.cat(changed, dim=1), real)
        return Encoded(modulated, real, zeroed(fused, present), present)
