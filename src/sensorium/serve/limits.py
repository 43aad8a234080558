"""Limits on the size of one request and of all requests together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from sensorium.core.errors import ConfigError

MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """Limits that are checked before a request is decoded. The modalities limit the decoded size of cells too.

    Args:
        body: Bytes of one request.
        file: Bytes of one file in it.
        text: Characters of one text.
        values: Numbers, strings and brackets of one JSON document, which need far more memory than their bytes.
        rows: Rows of one request.
        parts: Parts of one multipart request.
        queue: Rows that may be in progress at once; further requests get status 503.
        memory: Bytes of all requests in progress.
        seconds: Seconds for an answer, counted once the request has arrived completely.
        upload: Seconds within which the whole request must arrive.
        streams: Live streams at once.
        streams_each: Live streams of one client address.
        unfinished: Connections of one client address whose request has not arrived completely.
        pixels: Pixels of an image, a video frame or a volume, by its header; None: the limit of the modality.
        duration: Seconds of a sound or a video; None: the limit of the modality.
        tokens: Tokens of a text; None: unlimited.
        rate: Requests per second of one client address; None: unlimited.
        request_pixels: Pixels of all images and decoded frames of a request together.
        request_samples: Samples of all sounds of a request, over all channels.
        request_tokens: Tokens of all texts of a request.
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
                raise ConfigError(f"the limit {field.name} is {value}", fix="it must be positive")

    def below(self, bounds: Mapping[str, float]) -> dict[str, float]:
        """Return the limits on decoded cells that are stricter than ``bounds``, the limits of a modality."""
        limits = {"pixels": self.pixels, "seconds": self.duration, "tokens": self.tokens}
        return {name: limit for name, own in bounds.items() if (limit := limits.get(name)) is not None and limit < own}
