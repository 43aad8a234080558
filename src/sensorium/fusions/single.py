"""No fusion."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sensorium.core.batch import Encoded
from sensorium.core.contracts import Fusion
from sensorium.core.registry import component
from sensorium.nn.pool import masked_mean
from sensorium.nn.streams import shares, tokens, vectors


@component
class Single(Fusion):
    """No fusion: the single stream unchanged, or the mean of the streams present. Has no parameters.

    The tokens are those of all streams, one after the other.
    Source: average pooling of views, https://arxiv.org/abs/1505.00880, § 3.
    """

    def weights(self, parts: Mapping[str, Encoded]) -> dict[str, Tensor]:
        pooled, presence = vectors(parts, self.streams)
        return {"share": shares(pooled.new_zeros(presence.shape), presence)}

    def forward(self, parts: Mapping[str, Encoded]) -> Encoded:
        pooled, presence = vectors(parts, self.streams)
        every, real = tokens(parts, self.streams)
        return Encoded(every, real, masked_mean(pooled, presence), presence.any(dim=1))
