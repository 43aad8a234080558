"""A live stream: its settings, its windows as rows, and its latencies."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sensorium.core.errors import ConfigError, nearest
from sensorium.core.schema import Schema
from sensorium.streaming.column_stream import HEADER, KINDS, ColumnStream, wav
from sensorium.streaming.joined_windows import JoinedWindows, Moment
from sensorium.streaming.live_labels import LiveLabels
from sensorium.streaming.windows import Counts, Window

__all__ = ["HEADER", "KINDS", "Session", "Setup", "wav"]
_REMEMBERED = 10_000
_COLUMNS = 16


@dataclass(frozen=True)
class Setup:
    """The settings of a stream, sent by the client in its first message.

    Args:
        column: The column that is streamed: sound (16-bit samples of one channel), a series (32-bit floats, interleaved
            channels) or images (one file per chunk).
        rate: Sampling rate in Hz.
        columns: Several columns in place of one, each with its rate in Hz. A byte before the header of each chunk says
            which it is of, counted from 0 in this order.
        seconds: Length of a window in seconds; None: the input length of the model.
        hop: Seconds from one window to the next; None: half a window.
        wait: Seconds for which windows of several columns wait for a column that is behind; None: a hop.
        reach: Number of later chunks to wait for before a missing one is given up.
        delay: Seconds for which labels along the stream wait for what comes after them.
        keep: Whether every window is predicted, however late, while the client waits: for recordings. Otherwise windows
            that cannot be predicted in time are dropped.
        row: The other cells of every window, until the client sends others.
    """

    column: str = ""
    rate: float = 16_000.0
    seconds: float | None = None
    hop: float | None = None
    reach: int = 3
    delay: float = 0.0
    keep: bool = False
    row: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, float] | None = None
    wait: float | None = None

    @property
    def rates(self) -> dict[str, float]:
        """The rate of each streamed column, in order."""
        return {self.column: self.rate} if self.columns is None else dict(self.columns)

    @classmethod
    def from_json(cls, settings: Any) -> Setup:
        """Return validated ``settings``. Raises ``ConfigError`` if they are invalid."""
        several = isinstance(settings, dict) and settings.get("columns") is not None
        if not isinstance(settings, dict) or not (several or isinstance(settings.get("column"), str)):
            raise ConfigError("the first message of the stream has no column", fix='send {"column": ..., "rate": ...}')
        for name in settings:
            if name not in cls.__dataclass_fields__:
                raise ConfigError(f"no setting named {name[:80]!r}{nearest(name, cls.__dataclass_fields__)}")
        setup = cls(**settings)
        numbers = {name: getattr(setup, name) for name in ("rate", "seconds", "hop", "reach", "delay", "wait")}
        if several:
            if not isinstance(setup.columns, dict) or not 1 <= len(setup.columns) <= _COLUMNS or setup.column:
                raise ConfigError(
                    f"columns is not a mapping of 1 to {_COLUMNS} columns to their rates, in place of column",
                    fix='send {"columns": {"sound": 16000, "motion": 50}, ...}',
                )
            numbers |= {f"the rate of {name[:80]!r}": rate for name, rate in setup.columns.items()}
        for name, value in numbers.items():
            valid = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e6
            if not (valid or (value is None and name in ("seconds", "hop", "wait"))):
                raise ConfigError(f"{name} is not a valid number")
        if not isinstance(setup.row, dict):
            raise ConfigError("row must be an object that maps columns to cells")
        return setup


class Session:
    """The windows and statistics of one stream. ``push`` takes chunks, ``row`` converts a window to a row.

    Args:
        schema: The columns of the model.
        setup: The settings of the stream.
        along: The tasks whose answers are spans along a streamed column, each with that column (``along``).

    Raises:
        ConfigError: The model has no such column to stream, or the settings are out of range.
    """

    def __init__(self, schema: Schema, setup: Setup, along: Mapping[str, str] | None = None) -> None:
        self.setup = setup
        seconds, hop = setup.seconds, setup.hop
        if setup.columns is not None:
            if seconds is None:
                raise ConfigError("windows of several columns need a length", fix='send {"seconds": 1.0, ...}')
            hop = seconds / 2 if hop is None else hop
        self.columns = {
            name: ColumnStream(schema, name, rate, seconds, hop, setup.reach) for name, rate in setup.rates.items()
        }
        self.joined: JoinedWindows | None = None
        first = next(iter(self.columns.values()))
        self.seconds, self.hop = first.length / first.rate, first.hop / first.rate
        self.counts = first.windows.counts
        if setup.columns is not None:
            assert seconds is not None
            assert hop is not None
            self.seconds, self.hop, self.counts = seconds, hop, Counts()
            self.joined = JoinedWindows(self.columns, seconds, hop, hop if setup.wait is None else setup.wait)
        units = {
            task: self.columns[name].unit for task, name in (along or {}).items() if self.columns[name].kind != "image"
        }
        self.labels = LiveLabels(units, self.seconds, setup.delay) if units else None
        self.latencies: deque[float] = deque(maxlen=_REMEMBERED)
        self.worked = 0.0

    @property
    def opening(self) -> dict[str, Any]:
        """The message for the client before the first answer: steps of a window and of a hop, and channels, of each
        column."""
        by_column = {
            name: {"window_steps": column.length, "hop_steps": column.hop, "channels": column.channels}
            for name, column in self.columns.items()
        }
        return {"columns": by_column} if self.joined is not None else next(iter(by_column.values()))

    def push(self, message: bytes) -> list[Moment]:
        """Add the chunk ``message``; return the windows it completes. Raises ``SensoriumError`` if it is invalid."""
        if self.joined is None:
            (column,) = self.columns.values()
            return [self._alone(window) for window in column.push(message)]
        names = list(self.columns)
        if not message or message[0] >= len(names):
            raise ConfigError(f"a chunk begins with the number of its column, from 0 to {len(names) - 1}")
        name = names[message[0]]
        return self.joined.add(name, self.columns[name].push(message[1:]))

    def end(self) -> list[Moment]:
        """End the stream; return the windows that remain."""
        if self.joined is not None:
            return self.joined.end()
        (column,) = self.columns.values()
        return [self._alone(window) for window in column.windows.end()]

    def update(self, cells: Mapping[str, Any]) -> None:
        """Replace those of the other cells that ``cells`` names, for the windows to come; None: missing from now on."""
        self.setup = replace(self.setup, row={**self.setup.row, **cells})

    def _alone(self, window: Window) -> Moment:
        (column,) = self.columns.values()
        start, end = window.start / column.rate, (window.start + column.length) / column.rate
        return Moment(window.number, start, end, {column.name: window}, window.filled)

    def row(self, moment: Moment) -> dict[str, Any]:
        """Return the row with the windows of ``moment`` as the streamed cells."""
        return {**self.setup.row, **{name: self.columns[name].cell(window) for name, window in moment.parts.items()}}

    def answer(self, moment: Moment, prediction: dict[str, Any], latency: float, worked: float) -> dict[str, Any]:
        """Record a prediction and return the message for the client.

        Args:
            moment: The window, of all columns.
            prediction: Its prediction as JSON.
            latency: Seconds since the last chunk of the window arrived.
            worked: Seconds of computation.
        """
        self.counts.answered += 1
        self.latencies.append(latency)
        self.worked += worked
        live = {} if self.labels is None else self.labels.add(moment.start, prediction["targets"])
        absent = [name for name in self.columns if name not in moment.parts]
        return {
            "window": moment.number,
            "start": moment.start,
            "end": moment.end,
            "filled": moment.filled,
            **({"absent": absent} if absent else {}),
            "prediction": prediction,
            **live,
            "latency_ms": round(1000 * latency, 3),
        }

    def summary(self) -> dict[str, Any]:
        """Return counts, latencies and the real-time factor: seconds of work per second of the stream; below 1 keeps up."""
        counts = self.counts.to_json()
        parts: dict[str, Any] = {}
        if self.joined is not None:
            by_column = {name: column.windows.counts.to_json() for name, column in self.columns.items()}
            counts = {key: value + sum(counted[key] for counted in by_column.values()) for key, value in counts.items()}
            parts = {"columns": by_column, "absent": {name: n for name, n in self.joined.absent.items() if n}}
        covered = counts["answered"] * self.hop
        p50, p99 = np.percentile(self.latencies, (50, 99)).tolist() if self.latencies else (None, None)
        return {
            **counts,
            **parts,
            **({} if self.labels is None else self.labels.rest()),
            "latency_ms": {"p50": _ms(p50), "p99": _ms(p99)},
            "real_time_factor": round(self.worked / covered, 4) if covered else None,
        }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 3)
