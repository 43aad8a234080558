"""Recurrent layers in which padding has no effect, without packing: plain tensor code, the same on every device."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from sensorium.core.batch import zeroed

CELLS: dict[str, type[nn.GRU] | type[nn.LSTM] | type[nn.RNN]] = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}


def backwards(steps: Tensor, mask: Tensor) -> Tensor:
    """``steps`` ``[B, N, D]`` with the real steps of each row (``mask``, a prefix) reversed; its own inverse."""
    place = torch.arange(steps.shape[1], device=steps.device)
    place = mask.sum(dim=1, keepdim=True) - 1 - place  # negative past the end: such steps stay at the end
    return steps.gather(1, (place % steps.shape[1]).unsqueeze(-1).expand_as(steps))


class Layer(nn.Module):
    """One recurrent layer of one or two directions, ``[B, N, D]`` to ``[B, N, dim]``, zero where masked.

    The second direction reads each row from its own last real step, so what stands behind it is never seen.
    """

    def __init__(self, cell: Literal["gru", "lstm", "rnn"], dim_in: int, dim: int, *, bidirectional: bool) -> None:
        super().__init__()
        ways = 2 if bidirectional else 1
        self.ways = nn.ModuleList(CELLS[cell](dim_in, dim // ways, batch_first=True) for _ in range(ways))

    def forward(self, steps: Tensor, mask: Tensor) -> Tensor:
        out = [self.ways[0](steps)[0]]
        if len(self.ways) == 2:
            out.append(backwards(self.ways[1](backwards(steps, mask))[0], mask))
        return zeroed(torch.cat(out, dim=-1), mask)
