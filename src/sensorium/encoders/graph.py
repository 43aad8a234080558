"""Message passing over graphs."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core.batch import Encoded
from sensorium.core.contracts import Encoder
from sensorium.core.layout import Graph as Network
from sensorium.core.registry import component
from sensorium.nn.mlp import Mlp
from sensorium.nn.pool import MeanMax

RADII = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5)
"""Centres of the Gaussians of a distance, in the units of positions (ångström)."""
SPREAD, REACH = 0.5, 6.0
"""Their width, and the distance from which nodes do not influence each other."""
SHARE = 0.25
"""The weight of a Gaussian beside an edge, since an atom has many more neighbours within reach than bonds."""


def nearness(positions: Tensor, known: Tensor) -> Tensor:
    """Gaussians of the distances between nodes ``[B, R, N, N]``, which fall to zero at ``REACH``; zero from a node to
    itself and where a position is unknown.

    Args:
        positions: ``[B, N, 3]``.
        known: ``[B, N]`` bool.
    """
    apart = (positions.unsqueeze(2) - positions.unsqueeze(1)).square().sum(dim=-1)
    own = torch.eye(positions.shape[1], dtype=torch.bool, device=positions.device)
    pairs = known.unsqueeze(2) & known.unsqueeze(1) & ~own & (apart < REACH**2)
    distance = apart.masked_fill(~pairs, REACH**2).clamp(min=1e-8).sqrt()  # the root of 0 has no gradient
    within = 0.5 * (1 + torch.cos(torch.pi * distance / REACH))
    centres = distance.new_tensor(RADII).reshape(1, -1, 1, 1)
    shape = torch.exp(-0.5 * ((distance.unsqueeze(1) - centres) / SPREAD).square())
    return SHARE * shape * (within * pairs).unsqueeze(1)


class Passing(nn.Module):
    """One round of message passing: each node aggregates messages over its edges, a matrix for each kind of edge (and for
    each Gaussian of a distance), and is updated."""

    def __init__(self, dim: int, kinds: int, update: Literal["gru", "mlp"], aggregate: str, dropout: float) -> None:
        super().__init__()
        self.kinds, self.aggregate = kinds, aggregate
        self.message = nn.Linear(dim, kinds * dim, bias=False)
        self.cell = nn.GRUCell(dim, dim) if update == "gru" else None
        self.own = nn.Parameter(torch.zeros(())) if update == "mlp" else None
        self.mlp = Mlp(dim, 2 * dim, dim, dropout=dropout) if update == "mlp" else None
        self.norm = nn.LayerNorm(dim)

    def forward(self, nodes: Tensor, links: Tensor) -> Tensor:
        """``nodes`` ``[B, N, D]``, ``links`` ``[B, kinds, N, N]``: the weight at which the first node receives from the
        second."""
        messages = self.message(nodes).unflatten(2, (self.kinds, -1)).transpose(1, 2)  # [B, K, N, D]
        heard = (links @ messages).sum(dim=1)
        if self.aggregate == "mean":
            heard = heard / links.sum(dim=(1, 3)).clamp(min=1).unsqueeze(-1)
        if self.cell is not None:
            new: Tensor = self.cell(heard.flatten(0, 1), nodes.flatten(0, 1)).unflatten(0, nodes.shape[:2])
            return self.norm(new)  # type: ignore[no-any-return]
        assert self.mlp is not None
        assert self.own is not None
        return self.norm(nodes + self.mlp((1 + self.own) * nodes + heard))  # type: ignore[no-any-return]


@component
class Graph(Encoder):
    """A message passing network for molecules and other graphs; one token for each node.

    Invariant to the order of nodes. Where nodes have positions, messages also pass between those that lie within 6 Å of
    each other, by their distance alone, so that turning or moving all of them changes nothing; mirror images are told apart
    by the features of their nodes only. Source: neural message passing, https://arxiv.org/abs/1704.01212, § 2 (a matrix for
    each kind of edge and a gated unit); its perceptron is GIN's, https://arxiv.org/abs/1810.00826, equation 4.1; Gaussians
    of the distance as in SchNet, https://arxiv.org/abs/1706.08566, § 3.

    Args:
        dim: Width of the tokens and of the vector.
        depth: Rounds of message passing: the radius of the neighbourhood in edges.
        update: The update of a node: ``mlp``, a perceptron (GIN), or ``gru``, a gated unit (MPNN).
        aggregate: The aggregation over neighbours; ``sum`` can count them, ``mean`` cannot.
        readout: The pooling of nodes into the vector: the sum grows with the graph, as many properties of molecules do.
        dropout: Share of features of the perceptrons and of the final nodes dropped in training.
    """

    reads = (Network,)

    def __init__(
        self,
        layout: Network,
        *,
        dim: int = 128,
        depth: int = 3,
        update: Literal["mlp", "gru"] = "mlp",
        aggregate: Literal["sum", "mean"] = "sum",
        readout: Literal["mean_max", "sum"] = "mean_max",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.dim, self.channels, self.kinds = dim, layout.channels, layout.kinds
        self.count, self.placed = layout.count, layout.placed
        links = layout.kinds + (len(RADII) if layout.placed else 0)
        self.node = nn.Linear(layout.channels, dim)
        self.rounds = nn.ModuleList(Passing(dim, links, update, aggregate, dropout) for _ in range(depth))
        self.drop = nn.Dropout(dropout)
        self.pool = MeanMax(dim) if readout == "mean_max" else None
        self.mix = nn.Linear(dim, dim) if readout == "sum" else None

    def forward(self, data: Tensor, mask: Tensor | None = None) -> Encoded:
        """``data`` ``[B, N, channels + count]``, with positions four more, ``mask`` ``[B, N]``; tokens ``[B, N, D]``."""
        rows, count = data.shape[:2]
        real = data.new_ones(rows, count).bool() if mask is None else mask
        spread = real.unsqueeze(-1)
        nodes = self.node(data[..., : self.channels].masked_fill(~spread, 0.0)).masked_fill(~spread, 0.0)
        links = data[..., self.channels : self.channels + self.count]
        # As many columns as there are nodes; an edge to one that is padded is none.
        links = F.pad(links, (0, max(0, count - links.shape[2])))[..., :count]
        links = links.masked_fill(~(spread & real.unsqueeze(1)), 0.0)
        kinds = torch.arange(1, self.kinds + 1, device=data.device, dtype=links.dtype).reshape(1, -1, 1, 1)
        kind = (links.unsqueeze(1) == kinds).to(nodes.dtype)  # [B, K, N, N]
        if self.placed:
            known = real & (data[..., -1] > 0)
            kind = torch.cat([kind, nearness(data[..., -4:-1].masked_fill(~spread, 0.0), known).to(nodes.dtype)], dim=1)
        for passing in self.rounds:
            nodes = passing(nodes, kind).masked_fill(~spread, 0.0)
        tokens = self.drop(nodes)
        pooled = self.pool(tokens, real) if self.pool is not None else self.summed(tokens)
        return Encoded(tokens, real, pooled, real.new_ones(rows))

    def summed(self, tokens: Tensor) -> Tensor:
        """The sum of the nodes' ``tokens``, divided by 5, the root of a typical count, so that it starts on the scale of
        other streams."""
        assert self.mix is not None
        mixed: Tensor = self.mix(tokens.sum(dim=1) / 5)
        return mixed
