"""Synchronised windows of several streamed columns, with a bounded wait for columns that are behind."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import NamedTuple

from sensorium.core.errors import ConfigError
from sensorium.streaming.column_stream import ColumnStream
from sensorium.streaming.windows import Frames, Window

_FRAMES = 64


class Moment(NamedTuple):
    """A stretch of a live stream that is answered as one row.

    Args:
        number: Its index from 0; skipped ones count too.
        start: Its beginning in seconds of the stream.
        end: Its end.
        parts: The window of each column that has one.
        filled: Number of missing steps.
    """

    number: int
    start: float
    end: float
    parts: Mapping[str, Window]
    filled: int


class JoinedWindows:
    """Joins windows of several columns by their number: all have the same length and hop in seconds.

    A moment is complete once every sound and series has its window. It waits for those that are behind until another is
    ``wait`` seconds beyond its end; then they are missing in it. Images are not waited for: the last one within the moment
    is part of it.

    Args:
        columns: The columns by name.
        seconds: Length of a window in seconds.
        hop: Seconds from one window to the next.
        wait: Seconds to wait for a column that is behind.

    Raises:
        ConfigError: No column is a sound or a series, or the hop is not a whole number of steps of each.
    """

    def __init__(self, columns: Mapping[str, ColumnStream], seconds: float, hop: float, wait: float) -> None:
        self.columns, self.seconds, self.hop, self.wait = columns, seconds, hop, wait
        self.timed = [name for name, column in columns.items() if column.kind != "image"]
        if not self.timed:
            raise ConfigError("at least one of several columns must be a sound or a series: images alone make no windows")
        for name in self.timed:
            if abs(hop * columns[name].rate - columns[name].hop) > 1e-6 * columns[name].hop:
                raise ConfigError(
                    f"a hop of {hop:g} seconds is no whole number of steps of {name!r} at {columns[name].rate:g} Hz",
                    fix="another hop or rate: windows of all columns begin together",
                )
        self.absent: Counter[str] = Counter()
        """By column, the moments that were answered without it."""
        self._pending: dict[int, dict[str, Window]] = {}
        self._latest = dict.fromkeys(self.timed, -1)
        self._frames: dict[str, deque[tuple[float, Window]]] = {
            name: deque(maxlen=_FRAMES) for name in columns if name not in self.timed
        }
        self._next = 0

    def add(self, name: str, windows: list[Window]) -> list[Moment]:
        """Add the new ``windows`` of the column ``name``; return the moments that are complete."""
        if name in self._frames:
            self._frames[name].extend((window.start / self.columns[name].rate, window) for window in windows)
            return []
        for window in windows:
            self._latest[name] = window.number
            if window.number >= self._next:
                parts = self._pending.setdefault(window.number, {})
                if window.filled < self.columns[name].length:  # a window without a single reading is missing
                    parts[name] = window
        return self._complete(self.wait)

    def end(self) -> list[Moment]:
        """End the stream; return the moments that remain."""
        moments: list[Moment] = []
        for name in self.timed:
            moments += self.add(name, self.columns[name].windows.end())
        return moments + self._complete(-float("inf"))

    def _complete(self, wait: float) -> list[Moment]:
        reached = max(self._reached(name) for name in self.timed)
        moments = []
        for number in sorted(self._pending):
            end = number * self.hop + self.seconds
            behind = [name for name in self.timed if self._latest[name] < number]
            if behind and reached < end + wait:
                break
            moments.append(self._moment(number, self._pending.pop(number)))
            self._next = number + 1
        return moments

    def _reached(self, name: str) -> float:
        """Seconds of the stream that have arrived of a column."""
        windows = self.columns[name].windows
        return 0.0 if isinstance(windows, Frames) else windows.reached / self.columns[name].rate

    def _moment(self, number: int, parts: dict[str, Window]) -> Moment:
        start = number * self.hop
        for name, frames in self._frames.items():
            while frames and frames[0][0] < start:
                frames.popleft()
            within = [window for time, window in frames if time < start + self.seconds]
            if within:
                parts[name] = within[-1]
        for name in self.columns:
            self.absent[name] += name not in parts
        return Moment(number, start, start + self.seconds, parts, sum(window.filled for window in parts.values()))
