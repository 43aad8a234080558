"""Analogue forecasting: the continuation of earlier stretches of a series that resemble the most recent one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LENGTHS = (4, 8, 16)
"""Steps of a stretch that are compared."""
WIDTHS = (0.1, 0.2, 0.4)
"""Kernel widths: the squared difference, in variances of the window, at which a weight falls to 1/e."""
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
"""Candidate weights in the mix with a network."""
_ROWS = 256


class AnalogForecast(nn.Module):
    """The mean continuation of earlier stretches of the window, weighted by their similarity to the last steps.

    Nothing is learnt but the length of a stretch, the width of the kernel and the share beside the network. Where nothing
    in the past resembles its end, the forecast is the level of the window.

    Source: Lorenz 1969 (analogues), https://doi.org/10.1175/1520-0469(1969)26<636:APARBN>2.0.CO;2; Nadaraya 1964 (kernel
    regression), https://doi.org/10.1137/1109020.

    Args:
        past: Steps of the window.
        horizon: Steps ahead.
    """

    def __init__(self, past: int, horizon: int) -> None:
        super().__init__()
        self.horizon = horizon
        self.lengths = tuple(length for length in LENGTHS if past - length - horizon >= 1)
        self.length: Tensor
        self.width: Tensor
        self.share: Tensor
        self.register_buffer("length", torch.tensor(self.lengths[:1] or (LENGTHS[0],))[0])
        self.register_buffer("width", torch.tensor(WIDTHS[0]))
        self.register_buffer("share", torch.zeros(()))

    def forward(self, own: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Return the forecast ``[B, H, C]`` in the units of the window, and which rows have one ``[B]``.

        Args:
            own: The series that are forecast ``[B, C, past]``, all together compared, zero where there is no step.
            real: Which steps are real ``[B, past]``, the last of them last.
        """
        return self.at(own, real, int(self.length), float(self.width))

    def at(self, own: Tensor, real: Tensor, length: int, width: float) -> tuple[Tensor, Tensor]:
        """Return the forecast of ``own`` and ``real`` as in ``forward``, with stretches of ``length`` steps and a kernel of
        this ``width``."""
        rows, series, past = own.shape
        count = past - length - self.horizon + 1
        if count < 1:
            return own.new_zeros(rows, self.horizon, series), real.new_zeros(rows)
        usable = real[:, :count]
        far = own.new_zeros(rows, count)
        for step in range(length):
            last = own[:, :, past - length + step, None]
            far = far + (own[:, :, step : step + count] - last).square().sum(dim=1)
        near = torch.exp(-far / (width * length * series)) * usable
        total = near.sum(dim=1).clamp(min=1e-12)[:, None]
        ahead = [
            torch.einsum("bn,bcn->bc", near, own[:, :, length + step : length + step + count]) / (total + 1e-3)
            for step in range(self.horizon)
        ]
        return torch.stack(ahead, dim=1), usable.any(dim=1)

    def candidates(self, own: Tensor, real: Tensor) -> dict[tuple[int, float], tuple[Tensor, Tensor]]:
        """Return the forecasts of ``own`` and ``real``, as in ``forward``, of all lengths and widths, a few hundred rows
        at once."""
        chosen = [(length, width) for length in self.lengths for width in WIDTHS]
        parts = list(zip(torch.split(own, _ROWS), torch.split(real, _ROWS), strict=True))
        return {
            (length, width): tuple(map(torch.cat, zip(*(self.at(o, r, length, width) for o, r in parts), strict=True)))  # type: ignore[misc]
            for length, width in chosen
        }
