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
    """Adds the parts of a row one by one, in random orders, and divides the answer among them by what each brought.

    Works for every encoder and task, and the values add up exactly: those of a table's cells to what the table brought,
    those of words to what the text brought. Takes the most answers: twice ``orders`` for each part. The default.
    Source: Strumbelj and Kononenko 2014, https://doi.org/10.1007/s10115-013-0679-x, algorithm 1; every order together with
    its reverse: Mitchell et al. 2022, https://jmlr.org/papers/v23/21-0439.html.

    Args:
        orders: Random orders, each also taken backwards; more make the values surer. None: 8, and 1 of an encoder of more
            than four million weights (tables of words not counted), whose every answer takes long. Of a row of more than
            512 parts fewer than 8 too, down to 1.
        parts: Parts of a grid along each axis; none: 32 of a series, 8 × 8 of a picture, 8 × 4 × 4 of a video.
        seed: Of the orders.
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
        whole, blank = probe.kept(units, ends).double().tolist()
        orders = _orders(probe.encoder, count) if self.orders is None else self.orders
        total = torch.zeros(count, dtype=torch.float64, device=device)
        draw = torch.Generator().manual_seed(self.seed)
        for _ in range(orders if count else 0):
            order = torch.randperm(count, generator=draw).to(device)
            for way in (order, order.flip(0)):
                # Row i holds the first i + 1 parts of the order; the last is the whole row, which is known. Some rows at a
                # time: of thousands of columns all rows together would fill the memory.
                place = way.argsort()
                some = torch.split(torch.arange(count - 1, device=device), CHUNK) if count > 1 else ()
                between = [probe.kept(units, place <= at[:, None]).double() for at in some]
                steps = torch.cat([total.new_tensor([blank]), *between, total.new_tensor([whole])])
                total[way] += steps.diff()
        return Heat(units.spread(total / (2 * orders)), blank)


def _orders(encoder: nn.Module, parts: int) -> int:
    """As many as can be waited for. A table of words is looked up, not multiplied: it costs nothing."""
    if parts > _MANY:
        return max(1, 8 * _MANY // parts)
    tables = {id(m.weight) for m in encoder.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag))}
    return 1 if sum(weight.numel() for weight in encoder.parameters() if id(weight) not in tables) > _LARGE else 8
