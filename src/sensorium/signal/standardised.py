"""Base class of formula-based features, standardised over the training rows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from sensorium.core.batch import Field
from sensorium.core.expert import Features
from sensorium.core.layout import Grid, Points
from sensorium.core.modality import Array
from sensorium.signal.running_moments import Moments, subsampled

_SAMPLE = 2048
_FAR = 10.0
_LARGEST = 1e8  # its fourth power, summed over a long series, still fits float32
_SHORT = 32


class StandardisedFeatures(Features):
    """Features computed by a formula and standardised over the training rows; a constant feature is 0."""

    block: ClassVar[int] = 2**16
    """Input numbers processed at a time on a CPU."""
    mean: Tensor
    scale: Tensor

    def __init__(self, layout: Grid | Points) -> None:
        super().__init__()
        self.layout = layout
        self.declare("mean", torch.float32, 1)
        self.declare("scale", torch.float32, 1)

    @abstractmethod
    def measured(self, data: Tensor, mask: Tensor | None) -> Tensor:
        """Compute the raw features ``[B, F]``; F depends only on the layout and the options.

        Args:
            data: float32 data in the layout, zero where masked.
            mask: Real steps or points; None: all.
        """

    def learn(self, sample: Tensor) -> None:
        """Fit further parameters on a ``sample`` ``[N, F]`` of standardised training rows, evenly spaced over all of
        them.
        """

    @torch.no_grad()
    def fit(self, fields: Iterable[Field]) -> None:
        moments: Moments | None = None

        def rows() -> Iterator[Array]:
            nonlocal moments
            for field in fields:
                values = self._measured(field.data, field.mask).cpu().numpy()
                moments = moments or Moments(values.shape[1])
                moments.add(values)
                yield from map(np.copy, values)  # a view would keep its batch in memory

        sample = subsampled(rows(), _SAMPLE)
        if moments is None:
            width = self._measured(self._blank(), None).shape[1]
            moments = Moments(width)
        mean = torch.tensor(moments.mean, dtype=torch.float64)
        deviation = torch.from_numpy(np.sqrt(moments.second / max(moments.count, 1)))
        constant = deviation <= 1e-5 * mean.abs() + 1e-7
        self.keep("mean", mean)
        self.keep("scale", torch.where(constant, 0.0, 1 / deviation))
        stacked = np.stack(sample) if sample else np.zeros((0, len(mean)), np.float32)
        self.learn(self._standardised(torch.from_numpy(stacked).to(self.mean)))

    def forward(self, field: Field) -> Tensor:
        return self._standardised(self._measured(field.data, field.mask))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        errors: list[str] = rest[-1]
        sizes = {name: len(getattr(self, name)) for name in ("mean", "scale", "directions") if hasattr(self, name)}
        if len(set(sizes.values())) > 1:
            counts = ", ".join(f"{prefix}{name} {size}" for name, size in sizes.items())
            errors.append(f"the numbers of features do not agree: {counts}")

    def _standardised(self, values: Tensor) -> Tensor:
        return ((values - self.mean) * self.scale).clamp(-_FAR, _FAR)

    def _measured(self, data: Tensor, mask: Tensor | None) -> Tensor:
        # Always in float32: fourth powers overflow half precision.
        with torch.autocast(data.device.type, enabled=False):
            values = data.float().clamp(-_LARGEST, _LARGEST)
            if mask is not None:
                axes = [1] * (data.dim() - 2)
                where = mask[..., None] if isinstance(self.layout, Points) else mask.reshape(len(mask), 1, -1, *axes[1:])
                values = values.masked_fill(~where, 0.0)
            if data.device.type != "cpu":
                return self.measured(values, mask)
            # Small blocks fit the CPU cache: several times faster.
            few = max(1, self.block // max(values[:1].numel(), 1))
            parts = [slice(start, start + few) for start in range(0, max(len(values), 1), few)]
            return torch.cat([self.measured(values[at], None if mask is None else mask[at]) for at in parts])

    def _blank(self) -> Tensor:
        if isinstance(self.layout, Points):
            return torch.zeros(1, min(self.layout.count, _SHORT), self.layout.channels)
        return torch.zeros(1, self.layout.channels, *(min(n, _SHORT) for n in self.layout.size))
