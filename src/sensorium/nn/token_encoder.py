"""An encoder that is a transformer over tokens, whatever they were cut out of."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from sensorium.core.batch import Encoded
from sensorium.core.contracts import TokenEncoder
from sensorium.nn.pool import masked_mean


class Stacked(TokenEncoder):
    """Tokens of ``embed`` through the blocks of ``stack``; the vector is the mean token."""

    stack: nn.Module

    def trunk(self, tokens: Tensor, mask: Tensor) -> Tensor:
        seen: Tensor = self.stack(tokens, mask)
        return seen

    def placed(self, size: Sequence[int]) -> tuple[int, ...]:
        """The shape of the tokens of data ``[B, C, *size]`` before they were laid in a row; () where they have no place."""
        return ()

    def forward(self, data: Tensor, mask: Tensor | None = None) -> Encoded:
        """``data`` and ``mask`` as ``embed`` reads them; tokens ``[B, N, D]``."""
        tokens, real = self.embed(data, mask)
        tokens = self.trunk(tokens, real)
        grid = self.placed(data.shape[2:] if data.dim() > 2 else data.shape[1:])
        pyramid = (tokens.transpose(1, 2).reshape(-1, self.dim, *grid),) if self.gives_pyramid else ()
        return Encoded(tokens, real, masked_mean(tokens, real), real.new_ones(real.shape[0]), grid, pyramid)
