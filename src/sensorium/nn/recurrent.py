"""Recurrent layers unaffected by padding, without packed sequences."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from sensorium.core.batch import zeroed

CELLS: dict[str, type[nn.GRU] | type[nn.LSTM] | type[nn.RNN]] = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}


def backwards(steps: Tensor, mask: Tensor) -> Tensor:
    """Reverse the real ``steps`` ``[B, N, D]`` of each row (by ``mask``, those at its start); its own inverse."""
    place = torch.arange(steps.shape[1], device=steps.device)
    place = mask.sum(dim=1, keepdim=True) - 1 - place  # negative for padding, which stays at the end
    return steps.gather(1, (place % steps.shape[1]).unsqueeze(-1).expand_as(steps))


class Layer(nn.Module):
    """One recurrent layer in one or two directions, ``[B, N, D]`` to ``[B, N, dim]``, zero where masked.

    The backward direction starts at each row's last real step, so padding has no effect.
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
