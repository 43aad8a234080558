"""One live stream: what its client asked for, its windows as cells of a row, and how long the answers took."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sensorium.core.errors import ConfigError, nearest
from sensorium.core.modality import Array, Blob
from sensorium.core.schema import Schema
from sensorium.streaming.windows import Frames, Window, Windows

KINDS = ("audio", "series", "image")
HEADER = struct.Struct("<IQ")
"""Before the samples of each chunk: its number, and the step of the stream at which it starts."""
_STEPS = 2**22
_REMEMBERED = 10_000


@dataclass(frozen=True)
class Setup:
    """What a client says first.

    Args:
        column: The column that is streamed: sound (16-bit samples of one channel), a series (32-bit floats, channel by
            channel in each step) or pictures (one file a chunk).
        rate: Steps a second.
        seconds: Length of a window; None: what the model reads at most.
        hop: Seconds from one window to the next; None: half a window.
        reach: Chunks that are waited for before a missing one is given up.
        keep: Whether every window is answered, however late, and the client made to wait: for recordings. Else windows that
            cannot be answered in time are dropped.
        row: The other cells, the same for every window.
    """

    column: str
    rate: float = 16_000.0
    seconds: float | None = None
    hop: float | None = None
    reach: int = 3
    keep: bool = False
    row: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, given: Any) -> Setup:
        """Checked; raises ``ConfigError``."""
        if not isinstance(given, dict) or not isinstance(given.get("column"), str):
            raise ConfigError('a stream begins with {"column": ..., "rate": ...}')
        for name in given:
            if name not in cls.__dataclass_fields__:
                raise ConfigError(f"no setting named {name[:80]!r}{nearest(name, cls.__dataclass_fields__)}")
        setup = cls(**given)
        numbers = {name: getattr(setup, name) for name in ("rate", "seconds", "hop", "reach")}
        for name, value in numbers.items():
            right = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e6
            if not (right or (value is None and name in ("seconds", "hop"))):
                raise ConfigError(f"{name} is no number that can be used")
        if not isinstance(setup.row, dict):
            raise ConfigError("row is an object: column to cell")
        return setup


class Session:
    """The windows of one stream, and what is known of it. ``push`` chunks; ``cell`` makes a window a cell."""

    def __init__(self, schema: Schema, setup: Setup) -> None:
        live = [c for c in schema.inputs if c.of is None and c.spec["kind"] in KINDS]
        found = next((c for c in live if c.name == setup.column), None)
        if found is None:
            names = [c.name for c in live]
            raise ConfigError(f"no column named {setup.column[:80]!r} that could be streamed{nearest(setup.column, names)}")
        self.setup, self.kind, self.reader = setup, found.spec["kind"], found.reader
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
        self.latencies: deque[float] = deque(maxlen=_REMEMBERED)
        self.worked = 0.0

    def _steps(self) -> tuple[int, int]:
        setup = self.setup
        if not 0.001 <= self.rate <= 768_000 or setup.reach > 100:
            raise ConfigError(
                f"a rate of {self.rate:g} steps a second, or a reach of {setup.reach} chunks, is out of bounds"
            )
        own = self.reader.state["length"]
        own = own / self.reader.state["rate"] if self.kind == "audio" else own / self.rate
        seconds = own if setup.seconds is None else setup.seconds
        length = round(seconds * self.rate)
        hop = round((seconds / 2 if setup.hop is None else setup.hop) * self.rate)
        if not 1 <= length <= _STEPS or not 1 <= hop <= length or length > 1000 * hop:
            raise ConfigError(
                f"a window of {length} steps every {hop} cannot be answered", fix=f"1 to {_STEPS} steps; hop up to a window"
            )
        return length, hop

    def push(self, message: bytes) -> list[Window]:
        """A chunk with its header; the windows it completes. Raises ``SensoriumError`` on what is no chunk."""
        if len(message) <= HEADER.size:
            raise ConfigError(f"a chunk is {HEADER.size} bytes of header and then samples")
        number, start = HEADER.unpack_from(message)
        body = message[HEADER.size :]
        if isinstance(self.windows, Frames):
            return self.windows.push(number, start, body)
        size = (2 if self.kind == "audio" else 4) * self.channels
        if len(body) % size or start >= 2**53:
            raise ConfigError(f"the samples are no multiple of {size} bytes, or the stream is too long")
        data = np.frombuffer(body, "<i2" if self.kind == "audio" else "<f4").reshape(-1, self.channels)
        return self.windows.push(number, start, data)

    def row(self, window: Window) -> dict[str, Any]:
        """The row of which a window is a cell."""
        return {**self.setup.row, self.setup.column: self.cell(window)}

    def cell(self, window: Window) -> Any:
        """A window as a cell of its column: what ``Predictor.predict`` would be given."""
        if self.kind == "audio":
            return Blob(wav(window.data[:, 0], self.rate), "<stream>")
        return Blob(window.data, "<stream>") if self.kind == "image" else window.data

    def told(self, window: Window, prediction: dict[str, Any], latency: float, worked: float) -> dict[str, Any]:
        """The answer to a window, and what is known of the stream so far."""
        self.windows.counts.answered += 1
        self.latencies.append(latency)
        self.worked += worked
        return {
            "window": window.number,
            "start": window.start / self.rate,
            "end": (window.start + self.length) / self.rate,
            "filled": window.filled,
            "prediction": prediction,
            "latency_ms": round(1000 * latency, 3),
        }

    def summary(self) -> dict[str, Any]:
        """Counts, latencies and the real-time factor: seconds of work for a second of the stream (below 1 keeps up)."""
        counts = self.windows.counts
        heard = counts.answered * self.hop / self.rate
        p50, p99 = np.percentile(self.latencies, (50, 99)).tolist() if self.latencies else (None, None)
        return {
            **counts.to_json(),
            "latency_ms": {"p50": _ms(p50), "p99": _ms(p99)},
            "real_time_factor": round(self.worked / heard, 4) if heard else None,
        }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 3)


def wav(samples: Array, rate: float) -> bytes:
    """Samples ``[T]`` int16 as a WAV file."""
    data = samples.astype("<i2").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, round(rate), 2 * round(rate), 2, 16)
    return b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVE" + form + b"data" + struct.pack("<I", len(data)) + data
