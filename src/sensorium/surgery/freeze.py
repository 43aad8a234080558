"""Freezing."""

from __future__ import annotations

from sensorium.core.contracts import Operable, Surgery, chosen_streams
from sensorium.core.errors import ConfigError
from sensorium.core.registry import component
from sensorium.nn.layer_depth import depths


@component
class Freeze(Surgery):
    """Keeps the encoders of some streams as they are, all of them or all but the last blocks.

    What is frozen is also in evaluation mode (no dropout, no moving statistics). A wholly frozen encoder runs once a row:
    its outputs are stored, and its stream is not augmented unless the column says so.

    Args:
        streams: Whose encoders; none: all of them.
        unfreeze: So many blocks at the end are trained all the same, and what comes after them.
        store: Whether the outputs of a wholly frozen encoder are kept on disk rather than computed in every epoch.
    """

    def __init__(self, *, streams: list[str] | None = None, unfreeze: int = 0, store: bool = True) -> None:
        if unfreeze < 0:
            raise ConfigError(f"freeze: unfreeze is a number of blocks, not {unfreeze}")
        self.streams, self.unfreeze, self.store = streams, unfreeze, store

    def apply(self, model: Operable) -> None:
        for stream in chosen_streams(model, self.streams, "freeze"):
            encoder = model.encoders[stream]
            depth, count = depths(encoder)
            if self.unfreeze > count:
                raise ConfigError(f"freeze: the encoder of {stream!r} has {count} blocks", fix=f"unfreeze: {count} or less")
            for name, parameter in encoder.named_parameters():
                if self.unfreeze == 0 or depth[name] <= count - self.unfreeze:
                    parameter.requires_grad_(False)
