"""A live stream: its settings, its windows as cells of a row, and its latencies."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sensorium.core.errors import ConfigError, nearest
from sensorium.core.modality import Array, Blob
from sensorium.core.schema import Schema
from sensorium.streaming.live_labels import LiveLabels
from sensorium.streaming.windows import Frames, Window, Windows

KINDS = ("audio", "series", "image")
HEADER = struct.Struct("<IQ")
"""The header of each chunk: its number, and its first step in the stream."""
_STEPS = 2**22
_REMEMBERED = 10_000


@dataclass(frozen=True)
class Setup:
    """The settings of a stream, sent by the client in its first message.

    Args:
        column: The column that is streamed: sound (16-bit samples of one channel), a series (32-bit floats, interleaved
            channels) or images (one file per chunk).
        rate: Sampling rate in Hz.
        seconds: Length of a window in seconds; None: the input length of the model.
        hop: Seconds from one window to the next; None: half a window.
        reach: Number of later chunks to wait for before a missing one is given up.
        delay: Seconds for which labels along the stream wait for what comes after them.
        keep: Whether every window is predicted, however late, while the client waits: for recordings. Otherwise windows
            that cannot be predicted in time are dropped.
        row: The other cells of every window, until the client sends others.
    """

    column: str
    rate: float = 16_000.0
    seconds: float | None = None
    hop: float | None = None
    reach: int = 3
    delay: float = 0.0
    keep: bool = False
    row: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, settings: Any) -> Setup:
        """Return validated ``settings``. Raises ``ConfigError`` if they are invalid."""
        if not isinstance(settings, dict) or not isinstance(settings.get("column"), str):
            raise ConfigError("the first message of the stream has no column", fix='send {"column": ..., "rate": ...}')
        for name in settings:
            if name not in cls.__dataclass_fields__:
                raise ConfigError(f"no setting named {name[:80]!r}{nearest(name, cls.__dataclass_fields__)}")
        setup = cls(**settings)
        numbers = {name: getattr(setup, name) for name in ("rate", "seconds", "hop", "reach", "delay")}
        for name, value in numbers.items():
            valid = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e6
            if not (valid or (value is None and name in ("seconds", "hop"))):
                raise ConfigError(f"{name} is not a valid number")
        if not isinstance(setup.row, dict):
            raise ConfigError("row must be an object that maps columns to cells")
        return setup


class Session:
    """The windows and statistics of one stream. ``push`` takes chunks, ``row`` converts a window to a row.

    Args:
        schema: The columns of the model.
        setup: The settings of the stream.
        along: The tasks whose answers are spans along the streamed column (``along``).

    Raises:
        ConfigError: The model has no such column to stream, or the settings are out of range.
    """

    def __init__(self, schema: Schema, setup: Setup, along: Collection[str] = ()) -> None:
        live = [c for c in schema.inputs if c.of is None and c.spec["kind"] in KINDS]
        column = next((c for c in live if c.name == setup.column), None)
        if column is None:
            names = [c.name for c in live]
            hint = nearest(setup.column, names)
            raise ConfigError(f"no sound, series or image column named {setup.column[:80]!r}{hint}")
        self.setup, self.kind, self.reader = setup, column.spec["kind"], column.reader
        self.rate = float(setup.rate)
        self.windows: Windows | Frames
        if self.kind == "image":
            self.length = self.hop = 1
            self.channels = 0
            self.windows = Frames()
        else:
            self.channels = 1 if self.kind == "audio" else int(self.reader.state["channels"])
            self.length, self.hop = self._steps()
            self.windows = Windows(
                self.length,
                self.hop,
                channels=self.channels,
                reach=int(setup.reach),
                blank=0 if self.kind == "audio" else np.nan,
                dtype=np.int16 if self.kind == "audio" else np.float32,
            )
        self.labels = None
        if along and self.kind != "image":
            own = self.kind == "audio" or getattr(self.reader, "rate", None) is not None  # spans are in seconds already
            self.labels = LiveLabels(along, self.length / self.rate, setup.delay, 1.0 if own else 1 / self.rate)
        self.latencies: deque[float] = deque(maxlen=_REMEMBERED)
        self.worked = 0.0

    def _steps(self) -> tuple[int, int]:
        setup = self.setup
        if not 0.001 <= self.rate <= 768_000 or setup.reach > 100:
            raise ConfigError(f"a rate of {self.rate:g} Hz or a reach of {setup.reach} chunks is out of bounds")
        steps = self.reader.state["length"]
        default = steps / self.reader.state["rate"] if self.kind == "audio" else steps / self.rate
        seconds = default if setup.seconds is None else setup.seconds
        length = round(seconds * self.rate)
        hop = round((seconds / 2 if setup.hop is None else setup.hop) * self.rate)
        if not 1 <= length <= _STEPS or not 1 <= hop <= length or length > 1000 * hop:
            raise ConfigError(
                f"windows of {length} steps every {hop} steps are not possible",
                fix=f"use windows of 1 to {_STEPS} steps, and a hop of at most a window",
            )
        return length, hop

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

    def update(self, cells: Mapping[str, Any]) -> None:
        """Replace those of the other cells that ``cells`` names, for the windows to come; None: missing from now on."""
        self.setup = replace(self.setup, row={**self.setup.row, **cells})

    def row(self, window: Window) -> dict[str, Any]:
        """Return the row with ``window`` as the streamed cell."""
        return {**self.setup.row, self.setup.column: self.cell(window)}

    def cell(self, window: Window) -> Any:
        """Return ``window`` as a cell, as ``Predictor.predict`` takes it."""
        if self.kind == "audio":
            return Blob(wav(window.data[:, 0], self.rate), "<stream>")
        return Blob(window.data, "<stream>") if self.kind == "image" else window.data

    def answer(self, window: Window, prediction: dict[str, Any], latency: float, worked: float) -> dict[str, Any]:
        """Record a prediction and return the message for the client.

        Args:
            window: The window.
            prediction: Its prediction as JSON.
            latency: Seconds since the last chunk of the window arrived.
            worked: Seconds of computation.
        """
        self.windows.counts.answered += 1
        self.latencies.append(latency)
        self.worked += worked
        start = window.start / self.rate
        live = {} if self.labels is None else self.labels.add(start, prediction["targets"])
        return {
            "window": window.number,
            "start": start,
            "end": (window.start + self.length) / self.rate,
            "filled": window.filled,
            "prediction": prediction,
            **live,
            "latency_ms": round(1000 * latency, 3),
        }

    def summary(self) -> dict[str, Any]:
        """Return counts, latencies and the real-time factor: seconds of work per second of the stream; below 1 keeps up."""
        counts = self.windows.counts
        covered = counts.answered * self.hop / self.rate
        p50, p99 = np.percentile(self.latencies, (50, 99)).tolist() if self.latencies else (None, None)
        return {
            **counts.to_json(),
            **({} if self.labels is None else self.labels.rest()),
            "latency_ms": {"p50": _ms(p50), "p99": _ms(p99)},
            "real_time_factor": round(self.worked / covered, 4) if covered else None,
        }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 3)


def wav(samples: Array, rate: float) -> bytes:
    """Return ``samples`` (``[T]``, int16) at ``rate`` Hz as a WAV file."""
    data = samples.astype("<i2").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, round(rate), 2 * round(rate), 2, 16)
    return b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVE" + form + b"data" + struct.pack("<I", len(data)) + data
