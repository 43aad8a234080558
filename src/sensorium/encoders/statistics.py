"""Statistical features of series."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sensorium.core.batch import Encoded, zeroed
from sensorium.core.contracts import Encoder
from sensorium.core.errors import ConfigError
from sensorium.core.layout import Grid
from sensorium.core.registry import component
from sensorium.nn.mlp import Mlp
from sensorium.signal.series_statistics import NAMES, channel_summary, correlations

_FAR = 10.0


@component
class Statistics(Encoder):
    """Statistics of a whole series and a small perceptron over them; one token for each channel.

    Moments, quantiles, crossings, energy and entropy of the spectrum, autocorrelations; correlations of channels enter
    the vector only. Use it for few rows, or where the timing of events does not matter: it learns from dozens of
    recordings at very little cost.
    Source: the features of Anguita et al. 2013, https://www.esann.org/sites/default/files/proceedings/legacy/es2013-84.pdf.

    Args:
        dim: Width of the tokens and of the vector.
        depth: Hidden layers.
        width: Width of the hidden layers.
        across: Whether the vector includes the correlations of all pairs of channels.
        dropout: Share of hidden features dropped in training.
    """

    reads = (Grid,)

    def __init__(
        self,
        layout: Grid,
        *,
        dim: int = 128,
        depth: int = 1,
        width: int = 128,
        across: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if len(layout.size) != 1:
            raise ConfigError(
                f"statistics reads series, a grid of one axis, not of {len(layout.size)}", fix="take convnet or patch"
            )
        self.dim, self.channels = dim, layout.channels
        self.across = across and layout.channels > 1
        pairs = layout.channels * (layout.channels - 1) // 2 if self.across else 0
        self.place = nn.Parameter(torch.randn(layout.channels, len(NAMES)) * 0.02)
        self.token = Mlp(len(NAMES), width, dim, depth=depth, dropout=dropout)
        self.vector = Mlp(layout.channels * len(NAMES) + pairs, width, dim, depth=depth, dropout=dropout)

    def forward(self, data: Tensor, mask: Tensor | None = None) -> Encoded:
        """``data`` ``[B, C, T]``, ``mask`` ``[B, T]``; tokens ``[B, C, D]``."""
        real = data.new_ones((data.shape[0], data.shape[2])).bool() if mask is None else mask
        # In single precision, whatever the network computes in: fourth powers overflow half floats.
        with torch.autocast(data.device.type, enabled=False):
            wide = data.float()
            summary = self._near(channel_summary(wide, real[:, None]))
            pairs = [self._near(correlations(wide, real))] if self.across else []
        tokens = self.token(summary + self.place)
        pooled = self.vector(torch.cat([summary.flatten(1), *pairs], dim=1))
        presence = real.any(dim=1)
        token_mask = presence[:, None].expand(-1, self.channels)
        return Encoded(zeroed(tokens, token_mask), token_mask, pooled, torch.ones_like(presence))

    @staticmethod
    def _near(values: Tensor) -> Tensor:
        """Small values unchanged, large ones compressed: kurtosis is unbounded."""
        return torch.where(values.abs() <= 1, values, values.sign() * (1 + values.abs().clamp_min(1).log()).clamp_max(_FAR))
