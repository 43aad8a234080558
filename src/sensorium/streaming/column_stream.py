"""One column of a live stream: its chunks, and its windows as cells of a row."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from sensorium.core.errors import ConfigError, nearest
from sensorium.core.modality import Array, Blob
from sensorium.core.schema import Schema
from sensorium.streaming.windows import Frames, Window, Windows

KINDS = ("audio", "series", "image")
HEADER = struct.Struct("<IQ")
"""The header of each chunk: its number, and its first step in the stream."""
_STEPS = 2**22


class ColumnStream:
    """The windows of one streamed column.

    Args:
        schema: The columns of the model.
        name: The column.
        rate: Sampling rate in Hz.
        seconds: Length of a window in seconds; None: the input length of the model.
        hop: Seconds from one window to the next; None: half a window.
        reach: Number of later chunks to wait for before a missing one is given up.

    Raises:
        ConfigError: The model has no such column to stream, or the settings are out of range.
    """

    def __init__(
        self, schema: Schema, name: str, rate: float, seconds: float | None, hop: float | None, reach: float
    ) -> None:
        live = [c for c in schema.inputs if c.of is None and c.spec["kind"] in KINDS]
        column = next((c for c in live if c.name == name), None)
        if column is None:
            raise ConfigError(
                f"no sound, series or image column named {name[:80]!r}{nearest(name, [c.name for c in live])}"
            )
        self.name, self.rate = name, float(rate)
        self.kind, self.reader = column.spec["kind"], column.reader
        self.windows: Windows | Frames
        if self.kind == "image":
            self.length = self.hop = 1
            self.channels = 0
            self.windows = Frames()
            return
        self.channels = 1 if self.kind == "audio" else int(self.reader.state["channels"])
        self.length, self.hop = self._steps(seconds, hop, reach)
        self.windows = Windows(
            self.length,
            self.hop,
            channels=self.channels,
            reach=int(reach),
            blank=0 if self.kind == "audio" else np.nan,
            dtype=np.int16 if self.kind == "audio" else np.float32,
        )

    def _steps(self, seconds: float | None, hop: float | None, reach: float) -> tuple[int, int]:
        if not 0.001 <= self.rate <= 768_000 or reach > 100:
            raise ConfigError(f"a rate of {self.rate:g} Hz or a reach of {reach} chunks is out of bounds")
        steps = self.reader.state["length"]
        default = steps / self.reader.state["rate"] if self.kind == "audio" else steps / self.rate
        seconds = default if seconds is None else seconds
        length = round(seconds * self.rate)
        step = round((seconds / 2 if hop is None else hop) * self.rate)
        if not 1 <= length <= _STEPS or not 1 <= step <= length or length > 1000 * step:
            raise ConfigError(
                f"windows of {length} steps every {step} steps are not possible",
                fix=f"use windows of 1 to {_STEPS} steps, and a hop of at most a window",
            )
        return length, step

    @property
    def unit(self) -> float:
        """Seconds in a unit of the spans that lie along it."""
        in_seconds = self.kind == "audio" or getattr(self.reader, "rate", None) is not None  # spans are in seconds already
        return 1.0 if in_seconds else 1 / self.rate

    def push(self, message: bytes) -> list[Window]:
        """Add the chunk ``message``; return the windows it completes. Raises ``SensoriumError`` if it is invalid."""
        if len(message) <= HEADER.size:
            raise ConfigError(
                f"a chunk is a header of {HEADER.size} bytes followed by data, but this one has {len(message)} bytes"
            )
        number, start = HEADER.unpack_from(message)
        body = message[HEADER.size :]
        if isinstance(self.windows, Frames):
            return self.windows.push(number, start, body)
        size = (2 if self.kind == "audio" else 4) * self.channels
        if len(body) % size or start >= 2**53:
            raise ConfigError(f"the samples are not a multiple of {size} bytes, or the stream is too long")
        data = np.frombuffer(body, "<i2" if self.kind == "audio" else "<f4").reshape(-1, self.channels)
        return self.windows.push(number, start, data)

    def cell(self, window: Window) -> Any:
        """Return ``window`` as a cell, as ``Predictor.predict`` takes it."""
        if self.kind == "audio":
            return Blob(wav(window.data[:, 0], self.rate), "<stream>")
        return Blob(window.data, "<stream>") if self.kind == "image" else window.data


def wav(samples: Array, rate: float) -> bytes:
    """Return ``samples`` (``[T]``, int16) at ``rate`` Hz as a WAV file."""
    data = samples.astype("<i2").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, round(rate), 2 * round(rate), 2, 16)
    return b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVE" + form + b"data" + struct.pack("<I", len(data)) + data
