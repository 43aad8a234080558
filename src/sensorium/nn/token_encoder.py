"""Base class of transformer encoders over tokens."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sensorium.core.batch import Encoded
from sensorium.core.contracts import TokenEncoder
from sensorium.nn.pool import masked_mean


class Stacked(TokenEncoder):
    """Encoder that embeds tokens and runs them through a stack of blocks; its vector is the mean token."""

    stack: nn.Module

    def trunk(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Run ``tokens`` ``[B, N, D]`` with their ``mask`` ``[B, N]`` through the blocks."""
        seen: Tensor = self.stack(tokens, mask)
        return seen

    def placed(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the grid shape of the tokens of data ``[B, C, *size]``; () where they do not form a grid."""
        return ()

    def forward(self, data: Tensor, mask: Tensor | None = None) -> Encoded:
        """Encode ``data`` with ``mask``, both as ``embed`` expects them; tokens are ``[B, N, D]``."""
        tokens, real = self.embed(data, mask)
        tokens = self.trunk(tokens, real)
        grid = self.placed(data.shape[2:] if data.dim() > 2 else data.shape[1:])
        pyramid = (tokens.transpose(1, 2).reshape(-1, self.dim, *grid),) if self.gives_pyramid else ()
        return Encoded(tokens, real, masked_mean(tokens, real), real.new_ones(real.shape[0]), grid, pyramid)
