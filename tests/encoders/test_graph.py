"""Message passing: against the formula written out, and whatever the order of the nodes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sensorium.core.layout import Graph as Layout
from sensorium.encoders.graph import Graph

LAYOUT = Layout(5, 3, 8)


def made(rows: int = 3, count: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    kinds = torch.randint(0, 4, (rows, count, 8), generator=draw).float()
    data = torch.cat([torch.randn(rows, count, 5, generator=draw), kinds], 2).double()
    return data, torch.arange(count) < torch.tensor([[8], [5], [1]])


@pytest.mark.parametrize("update", ["mlp", "gru"])
@pytest.mark.parametrize("aggregate", ["sum", "mean"])
def test_the_formula(update: Any, aggregate: Any) -> None:
    torch.manual_seed(0)
    encoder = Graph(LAYOUT, dim=6, depth=2, update=update, aggregate=aggregate, readout="sum").double().eval()
    data, mask = made()
    out = encoder(data, mask)
    for row in range(3):
        n = int(mask[row].sum())
        h = [encoder.node(data[row, v, :5]) for v in range(n)]
        for part in encoder.rounds:
            matrices = part.message.weight.reshape(3, 6, 6)  # type: ignore[union-attr,operator]
            new = []
            for v in range(n):
                heard = [(int(data[row, v, 5 + w]), w) for w in range(n) if data[row, v, 5 + w] > 0]
                m = sum((matrices[k - 1] @ h[w] for k, w in heard), torch.zeros(6).double())
                if aggregate == "mean":
                    m = m / max(len(heard), 1)
                if update == "gru":
                    new.append(part.norm(part.cell(m[None], h[v][None])[0]))  # type: ignore[operator]
                else:
                    new.append(part.norm(h[v] + part.mlp((1 + part.own) * h[v] + m)))  # type: ignore[operator]
            h = new
        assert torch.allclose(out.tokens[row, :n], torch.stack(h), atol=1e-9)
        assert encoder.mix is not None
        assert torch.allclose(out.pooled[row], encoder.mix(torch.stack(h).sum(0) / 5), atol=1e-9)


def test_the_order_of_nodes_does_not_matter() -> None:
    torch.manual_seed(0)
    encoder = Graph(LAYOUT).double().eval()
    data, mask = made()
    order = torch.randperm(8)
    moved = torch.cat([data[:, order, :5], data[:, order][..., 5:][..., order]], 2)
    one, other = encoder(data, mask), encoder(moved, mask[:, order])
    assert torch.allclose(one.pooled, other.pooled, atol=1e-9)
    assert torch.allclose(one.tokens[:, order], other.tokens, atol=1e-9)


def test_edges_matter_and_so_does_their_kind() -> None:
    torch.manual_seed(0)
    encoder = Graph(LAYOUT).double().eval()
    data, _ = made()
    for change in (lambda k: torch.zeros_like(k), lambda k: k.clamp(max=1)):
        other = torch.cat([data[..., :5], change(data[..., 5:])], 2)
        assert not torch.allclose(encoder(data).pooled, encoder(other).pooled, atol=1e-3)


def test_a_sum_can_count_neighbours() -> None:
    torch.manual_seed(0)
    star = torch.zeros(2, 4, 12)
    star[..., 0] = 1.0
    star[0, 0, 9:11] = star[1, 0, 9:12] = 1.0  # the first node hears two or three equal ones
    for aggregate, result in (("sum", True), ("mean", False)):
        encoder = Graph(Layout(8, 1, 4), aggregate=aggregate, depth=1).eval()  # type: ignore[arg-type]
        first = encoder(star).tokens[:, 0]
        assert torch.allclose(first[0], first[1], atol=1e-5) != result
