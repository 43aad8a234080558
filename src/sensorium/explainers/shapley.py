"""Shapley values of parts."""

from __future__ import annotations

import torch
from torch import nn

from sensorium.core.explainer import CHUNK, Explainer, Heat, Probe
from sensorium.core.layout import Graph, Grid, Ids, Points, Row
from sensorium.core.registry import component

_LARGE = 4_000_000
_MANY = 512


@component
class Shapley(Explainer):
    """Shapley values: adds the parts of a row one by one in random orders and averages the change in the answer for each.

    Works for every encoder and task, and the values add up exactly: those of a table's cells to the contribution of the
    table, those of words to that of the text. Needs the most passes: twice ``orders`` for each part. The default.
    Source: Strumbelj and Kononenko 2014, https://doi.org/10.1007/s10115-013-0679-x, algorithm 1; every order together with
    its reverse: Mitchell et al. 2022, https://jmlr.org/papers/v23/21-0439.html.

    Args:
        orders: Random orders, each also used in reverse; more make the values more precise. None: 8, or 1 for an encoder
            of more than four million weights (embedding tables not counted), whose passes are slow. For a row of more
            than 512 parts fewer than 8, down to 1.
        parts: Parts of a grid along each axis; None: 32 of a series (8 to 32 of each channel if it has
            several), 8 × 8 of an image, 8 × 4 × 4 of a video.
        seed: Seed of the orders.
    """

    reads = (Grid, Ids, Points, Graph, Row)
    measures = True

    preferred = 1

    def __init__(self, *, orders: int | None = None, parts: int | None = None, seed: int = 0) -> None:
        self.orders, self.parts, self.seed = orders, parts, seed

    def explain(self, probe: Probe) -> Heat:
        units, device = probe.units(self.parts), probe.data.device
        count = units.count
        ends = torch.tensor([[True] * count, [False] * count], device=device)
        full, blank = probe.kept(units, ends).double().tolist()
        orders = _orders(probe.encoder, count) if self.orders is None else self.orders
        total = torch.zeros(count, dtype=torch.float64, device=device)
        draw = torch.Generator().manual_seed(self.seed)
        for _ in range(orders if count else 0):
            order = torch.randperm(count, generator=draw).to(device)
            for way in (order, order.flip(0)):
                # Row i holds the first i + 1 parts of the order; the last is the whole row, whose answer is known. They are
                # computed in chunks, since with thousands of columns all of them together would fill the memory.
                place = way.argsort()
                chunks = torch.split(torch.arange(count - 1, device=device), CHUNK) if count > 1 else ()
                between = [probe.kept(units, place <= at[:, None]).double() for at in chunks]
                steps = torch.cat([total.new_tensor([blank]), *between, total.new_tensor([full])])
                total[way] += steps.diff()
        return Heat(units.spread(total / (2 * orders)), blank)


def _orders(encoder: nn.Module, parts: int) -> int:
    """Return the default number of orders. Embedding tables are looked up, not multiplied, and cost nothing."""
    if parts > _MANY:
        return max(1, 8 * _MANY // parts)
    tables = {id(m.weight) for m in encoder.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag))}
    return 1 if sum(weight.numel() for weight in encoder.parameters() if id(weight) not in tables) > _LARGE else 8
