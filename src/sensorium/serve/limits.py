"""How much one request, and all of them together, may ask of a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from sensorium.core.errors import ConfigError

MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """What is refused before it costs anything. What a cell may decode to is bounded by the modalities too.

    Args:
        body: Bytes of one request.
        file: Bytes of one file in it.
        text: Characters of one text.
        values: Numbers, texts and brackets of one JSON document: each costs far more memory than its bytes.
        rows: Rows of one request.
        parts: Parts of one multipart request.
        queue: Rows that may wait or be worked on at once; more are told to come again.
        memory: Bytes of all requests that are inside at once.
        seconds: Time for an answer, from the first byte to the last.
        upload: Seconds in which the whole request must have arrived.
        streams: Live streams at once.
        streams_each: Of one client address.
        unfinished: Connections of one client address whose request has not arrived whole.
        pixels: Of a picture, or of a frame of a video, by its header; None: what the modality itself reads.
        duration: Seconds of a sound or a video, likewise.
        tokens: Of a text.
        rate: Requests a second of one client address; None: as many as there is room for.
        request_pixels: Of all pictures and decoded frames of a request together.
        request_samples: Of all its sounds, over all channels.
        request_tokens: Of all its texts.
    """

    body: int = 64 * MIB
    file: int = 32 * MIB
    text: int = 200_000
    values: int = 1_000_000
    rows: int = 64
    parts: int = 256
    queue: int = 256
    memory: int = 512 * MIB
    seconds: float = 30.0
    upload: float = 30.0
    streams: int = 16
    streams_each: int = 8
    unfinished: int = 128
    pixels: int | None = None
    duration: float | None = None
    tokens: int | None = None
    rate: float | None = None
    request_pixels: int = 256 * MIB
    request_samples: int = 256 * MIB
    request_tokens: int = 1_000_000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not value > 0:
                raise ConfigError(f"a limit of {value} for {field.name} lets nothing in")

    def below(self, bounds: Mapping[str, float]) -> dict[str, float]:
        """Those of the limits on what a cell decodes to that are stricter than a modality's own."""
        told = {"pixels": self.pixels, "seconds": self.duration, "tokens": self.tokens}
        return {name: most for name, own in bounds.items() if (most := told.get(name)) is not None and most < own}
