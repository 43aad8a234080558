"""Recurrent network."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from sensorium.core.batch import Encoded, zeroed
from sensorium.core.contracts import Encoder
from sensorium.core.errors import ConfigError
from sensorium.core.layout import Grid, Ids
from sensorium.core.registry import component
from sensorium.nn.pool import MeanMax
from sensorium.nn.recurrent import Layer

LONGEST = 500
"""Steps that are still read one by one: a recurrence cannot be spread over cores, and forgets over thousands."""


@component
class Recurrent(Encoder):
    """A recurrent network over words, the steps of a series or the frames of a spectrogram; one token for each step.

    Use it for short sequences in which order matters; for long ones ``patch`` and ``convnet`` are faster. In a grid
    longer than 500 steps, such as a waveform, adjacent steps are stacked. Mean and maximum over the steps give the
    vector. Padding has no effect, as with packed sequences (the tests compare them).
    Source: GRU, https://arxiv.org/abs/1406.1078; LSTM, https://doi.org/10.1162/neco.1997.9.8.1735; Elman,
    https://doi.org/10.1207/s15516709cog1402_1; stacked frames, Sak et al. 2015, https://arxiv.org/abs/1507.06947.

    Args:
        dim: Width of the tokens; even if bidirectional.
        depth: Layers.
        cell: The recurrent cell.
        bidirectional: Whether half of each layer reads backwards.
        dropout: Share of features dropped before each layer but the first, and after the last.
        stack: Adjacent steps of a grid that are stacked; None: as few as leave at most 500 steps. Words are never stacked.
    """

    reads = (Ids, Grid)

    def __init__(
        self,
        layout: Ids | Grid,
        *,
        dim: int = 128,
        depth: int = 1,
        cell: Literal["gru", "lstm", "rnn"] = "gru",
        bidirectional: bool = True,
        dropout: float = 0.1,
        stack: int | None = None,
    ) -> None:
        super().__init__()
        if bidirectional and dim % 2:
            raise ConfigError(f"two directions cannot share a width of {dim}", fix="choose an even dim")
        self.dim = dim
        self.first: nn.Module
        if isinstance(layout, Ids):
            self.first = nn.Embedding(layout.vocabulary, dim, padding_idx=0)
            nn.init.normal_(self.first.weight, std=0.5)
        else:
            self.stack = stack or math.ceil(layout.size[0] / LONGEST)
            self.first = nn.Linear(self.stack * layout.channels * math.prod(layout.size[1:]), dim)
        self.layers = nn.ModuleList(Layer(cell, dim, dim, bidirectional=bidirectional) for _ in range(depth))
        self.drop = nn.Dropout(dropout)
        self.pool = MeanMax(dim)

    def forward(self, data: Tensor, mask: Tensor | None = None) -> Encoded:
        """``data`` ``[B, N]`` ids or ``[B, C, N, ...]`` frames, ``mask`` ``[B, N]``; tokens ``[B, N, D]`` (of stacked
        frames, fewer)."""
        if isinstance(self.first, nn.Embedding):
            steps, real = data, data != 0 if mask is None else mask
        else:
            steps = data.movedim(2, 1).flatten(2)
            real = steps.new_ones(steps.shape[:2]).bool() if mask is None else mask
            steps, real = self._stacked(steps, real)
        # Zeros, not what the first layer makes of padding: a masked step may hold anything.
        tokens = zeroed(self.first(steps), real)
        for layer in self.layers:
            tokens = self.drop(layer(tokens, real))
        return Encoded(tokens, real, self.pool(tokens, real), real.new_ones(real.shape[0]), (tokens.shape[1],))

    def _stacked(self, steps: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, N, F]`` as ``[B, N / stack, stack · F]``; the last one of a row is padded with zeros."""
        if self.stack == 1:
            return steps, real
        steps = F.pad(zeroed(steps, real), (0, 0, 0, -steps.shape[1] % self.stack))
        # Real where its first step is: what is padded stands at the end.
        return steps.reshape(len(steps), -1, self.stack * steps.shape[2]), real[:, :: self.stack]
