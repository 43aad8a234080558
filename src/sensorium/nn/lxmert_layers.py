"""Cross-modality layers of LXMERT: cross-attention between words and regions, then self-attention in each."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.nn.attention import Attention

EPS = 1e-12  # of layer normalisation, as in BERT


class AttentionLayer(nn.Module):
    """Post-norm residual attention; rows without visible context are only normalised."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(dim, heads, dropout=dropout)
        self.drop = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim, eps=EPS)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        seen = self.drop(self.attention(x, context, mask)).masked_fill(~mask.any(dim=1)[:, None, None], 0.0)
        out: Tensor = self.norm(x + seen)
        return out

    def load(self, tensors: Mapping[str, Tensor], attention: str, output: str) -> None:
        """Load the weights from checkpoint ``tensors`` under the prefixes ``attention`` and ``output``."""
        own = self.attention
        for kind in ("weight", "bias"):
            joined = torch.cat([tensors[f"{attention}.key.{kind}"], tensors[f"{attention}.value.{kind}"]])
            _copy(own.query.get_parameter(kind), tensors[f"{attention}.query.{kind}"])
            _copy(own.key_value.get_parameter(kind), joined)
            _copy(own.output.get_parameter(kind), tensors[f"{output}.dense.{kind}"])
            _copy(self.norm.get_parameter(kind), tensors[f"{output}.LayerNorm.{kind}"])


class FeedForward(nn.Module):
    """Post-norm residual perceptron."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.drop = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(x + self.drop(self.outer(F.gelu(self.inner(x)))))
        return out

    def load(self, tensors: Mapping[str, Tensor], inner: str, outer: str) -> None:
        """Load the weights from checkpoint ``tensors`` under the prefixes ``inner`` and ``outer``."""
        for kind in ("weight", "bias"):
            _copy(self.inner.get_parameter(kind), tensors[f"{inner}.dense.{kind}"])
            _copy(self.outer.get_parameter(kind), tensors[f"{outer}.dense.{kind}"])
            _copy(self.norm.get_parameter(kind), tensors[f"{outer}.LayerNorm.{kind}"])


class CrossLayer(nn.Module):
    """One cross-modality layer. Both directions of cross-attention share their weights.

    Source: https://arxiv.org/abs/1908.07490, § 2.2, "Cross-Modality Encoder".
    """

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.cross = AttentionLayer(dim, heads, dropout)
        self.words_self, self.regions_self = AttentionLayer(dim, heads, dropout), AttentionLayer(dim, heads, dropout)
        self.words_think, self.regions_think = FeedForward(dim, hidden, dropout), FeedForward(dim, hidden, dropout)

    def forward(self, words: Tensor, some: Tensor, regions: Tensor, region_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return updated words and regions.

        Args:
            words: ``[B, N, D]``.
            some: Real words ``[B, N]``.
            regions: ``[B, M, D]``.
            region_mask: Real regions ``[B, M]``.
        """
        read, shown = self.cross(words, regions, region_mask), self.cross(regions, words, some)
        read, shown = self.words_self(read, read, some), self.regions_self(shown, shown, region_mask)
        return self.words_think(read), self.regions_think(shown)

    def load(self, tensors: Mapping[str, Tensor], prefix: str) -> None:
        """Load the weights of the ``LxmertXLayer`` under ``prefix`` from checkpoint ``tensors``."""
        self.cross.load(tensors, f"{prefix}.visual_attention.att", f"{prefix}.visual_attention.output")
        self.words_self.load(tensors, f"{prefix}.lang_self_att.self", f"{prefix}.lang_self_att.output")
        self.regions_self.load(tensors, f"{prefix}.visn_self_att.self", f"{prefix}.visn_self_att.output")
        self.words_think.load(tensors, f"{prefix}.lang_inter", f"{prefix}.lang_output")
        self.regions_think.load(tensors, f"{prefix}.visn_inter", f"{prefix}.visn_output")


class Boxes(nn.Module):
    """Position embedding of regions: corners ``[B, N, 4]`` from 0 to 1 to vectors ``[B, N, D]``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(4, dim), nn.LayerNorm(dim, eps=EPS)

    def forward(self, boxes: Tensor) -> Tensor:
        out: Tensor = self.norm(self.linear(boxes))
        return out

    def load(self, tensors: Mapping[str, Tensor], prefix: str) -> None:
        """Load the box weights of the visual feature encoder under ``prefix`` from checkpoint ``tensors``."""
        for kind in ("weight", "bias"):
            _copy(self.linear.get_parameter(kind), tensors[f"{prefix}.box_fc.{kind}"])
            _copy(self.norm.get_parameter(kind), tensors[f"{prefix}.box_layer_norm.{kind}"])


def grid_boxes(real: Tensor) -> Tensor:
    """Return corners (left, top, right, bottom) ``[B, N, 4]`` that lay the ``real`` tokens ``[B, N]`` out on a square,
    by rows.
    """
    rank = (real.cumsum(dim=1) - 1).clamp(min=0)
    side = real.sum(dim=1, keepdim=True).clamp(min=1).float().sqrt().ceil().long()
    row, column = torch.div(rank, side, rounding_mode="floor"), rank % side
    return torch.stack([column, row, column + 1, row + 1], dim=-1) / side.unsqueeze(-1)


@torch.no_grad()
def _copy(parameter: nn.Parameter, value: Tensor) -> None:
    parameter.copy_(value)
