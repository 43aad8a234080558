"""RASTA filtering: a band-pass filter along time that removes changes too slow or too fast for speech."""

from __future__ import annotations

import torch
from torch import Tensor


def rasta(bands: Tensor, pole: float = 0.98) -> Tensor:
    """Filter log energies along time with ``0.1 (2 + z⁻¹ - z⁻³ - 2 z⁻⁴) / (1 - pole z⁻¹)``.

    The first frame is repeated backwards in time, so a constant gives zero from the start. The filter is causal: padding
    does not affect real frames. Source: Hermansky and Morgan 1994, https://doi.org/10.1109/89.326616, equation 1, without
    its lead of four frames.

    Args:
        bands: ``[B, frames, F]``.
        pole: Pole of the filter.
    """
    before = bands[:, :1].expand(-1, 4, -1)
    wide = torch.cat([before, bands], dim=1)
    count = bands.shape[1]
    back = [wide[:, 4 - n : 4 - n + count] for n in range(5)]
    out = 0.1 * (2 * back[0] + back[1] - back[3] - 2 * back[4])
    # y[t] = x[t] + pole y[t-1], unrolled by doubling: after a step of n, y contains the last 2 n terms of its sum.
    step = 1
    while step < count and (weight := pole**step) > 1e-20:
        out = out + weight * torch.nn.functional.pad(out, (0, 0, step, 0))[:, :count]
        step *= 2
    return out
