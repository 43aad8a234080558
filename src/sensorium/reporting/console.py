"""Console output: progress bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console as Rich
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Console:
    """Prints progress and warnings to standard error; standard output is reserved for results.

    Args:
        quiet: Print warnings only.
        mute: Print nothing, not even warnings (for processes other than the first).
    """

    def __init__(self, quiet: bool = False, mute: bool = False) -> None:
        self.quiet, self.mute = quiet or mute, mute
        self.rich = Rich(stderr=True, highlight=False)
        self.live = self.rich.is_terminal and not self.quiet
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._printed = 0.0
        self._name, self._begun = "", False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def note(self, text: str) -> None:
        """Print ``text`` unless quiet."""
        if not self.quiet:
            self.rich.print(text, markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print ``text`` as a warning, even if quiet."""
        if self.mute:
            return
        self.rich.print(f"warning: {text}", markup=False, style="yellow", soft_wrap=True)

    def step(self, name: str, done: float, total: float, detail: str = "") -> None:
        """Report the progress of a long operation.

        Args:
            name: The operation; each has its own bar.
            done: Amount of work done.
            total: Total amount of work.
            detail: Text after the bar.
        """
        if self.quiet:
            return
        if self.live:
            self._bar(name, done, total, detail)
            return
        # Not a terminal: a line every ten seconds, and a last one for operations that printed any.
        now = time.monotonic()
        if name != self._name:
            self._printed, self._name, self._begun = now, name, False
        if now - self._printed > 10 or (done >= total and self._begun):
            self._printed, self._begun = now, done < total
            print(f"{name}: {100 * done / max(total, 1e-9):.0f} % {detail}", file=sys.stderr, flush=True)

    def _bar(self, name: str, done: float, total: float, detail: str) -> None:
        if self._progress is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=28),
                TextColumn("{task.percentage:>3.0f} %"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[detail]}"),
            )
            self._progress = Progress(*columns, console=self.rich, refresh_per_second=5)
            self._progress.start()
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total, detail=detail)
        self._progress.update(self._tasks[name], completed=done, total=total, detail=detail)

    def close(self) -> None:
        """Remove the progress bars."""
        if self._progress is not None:
            self._progress.stop()
            self._progress, self._tasks = None, {}


def span(seconds: float) -> str:
    """Format ``seconds`` as minutes and seconds: ``75`` as ``1:15``."""
    if seconds == float("inf"):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
