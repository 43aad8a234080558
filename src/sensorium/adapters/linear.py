"""Linear adapter."""

from __future__ import annotations

from torch import Tensor, nn

from sensorium.core.batch import Encoded, zeroed
from sensorium.core.contracts import Adapter
from sensorium.core.registry import component


@component
class Linear(Adapter):
    """One linear layer from an encoder's width to the model's, for tokens and vector alike.

    Normalised, so that no stream is louder than another when they are fused.
    Source: the projection of LLaVA, https://arxiv.org/abs/2304.08485, with https://arxiv.org/abs/1607.06450.

    Args:
        norm: Whether to normalise each token and vector (layer normalisation).
        dropout: Share of features dropped in training.
    """

    def __init__(self, dim_in: int, dim: int, *, norm: bool = True, dropout: float = 0.0) -> None:
        super().__init__(dim_in, dim)
        self.project = nn.Sequential(
            nn.Linear(dim_in, dim), nn.LayerNorm(dim) if norm else nn.Identity(), nn.Dropout(dropout)
        )

    def forward(self, part: Encoded) -> Encoded:
        tokens: Tensor = self.project(part.tokens)
        pooled: Tensor = self.project(part.pooled)
        # Zeros go in but a bias comes out: what is absent must stay zero.
        return Encoded(
            zeroed(tokens, part.mask),
            part.mask,
            zeroed(pooled, part.present),
            part.present,
            part.grid,
            part.pyramid,
        )
