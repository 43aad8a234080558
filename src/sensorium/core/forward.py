"""One pass through a model, each stage computed once, when first asked for, so that objectives share it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

from torch import Tensor

from sensorium.core.batch import Batch, Encoded, hide
from sensorium.core.byname import ByName
from sensorium.core.contracts import Fusion, Task


class Passable(Protocol):
    """A model in three stages, as ``sensorium.model.Model`` is."""

    fusion: Fusion
    tasks: ByName[Task[Any]]

    def encode(self, batch: Batch) -> dict[str, Encoded]: ...
    def answer(self, fused: Encoded, streams: Mapping[str, Encoded]) -> dict[str, Any]: ...


class Forward:
    """One pass of ``model`` over ``batch``: ``streams``, then ``fused``, then ``outputs`` by target.

    ``keep`` makes encoded streams missing row by row (``[B]`` bool each) before the fusion sees them: stream dropout
    that costs no second encoding. ``streams`` are always the whole ones.
    """

    def __init__(self, model: Passable, batch: Batch, keep: Mapping[str, Tensor] | None = None) -> None:
        self.model, self.batch, self.keep = model, batch, keep

    @cached_property
    def streams(self) -> dict[str, Encoded]:
        return self.model.encode(self.batch)

    @cached_property
    def kept(self) -> dict[str, Encoded]:
        return hide(self.streams, self.keep) if self.keep else self.streams

    @cached_property
    def fused(self) -> Encoded:
        return self.model.fusion(self.kept)  # type: ignore[no-any-return]

    @cached_property
    def outputs(self) -> dict[str, Any]:
        return self.model.answer(self.fused, self.kept)

    def hidden(self, keep: Mapping[str, Tensor]) -> Forward:
        """The same pass with streams made missing: shares the encoding, fuses and answers anew."""
        other = Forward(self.model, self.batch, keep)
        other.__dict__["streams"] = self.streams
        return other
