"""Labels along a live stream: of each window the part that will not change any more, on the clock of the stream."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sensorium.core.errors import ConfigError
from sensorium.model import Model

Span = list[Any]


def along(model: Model, columns: Collection[str]) -> dict[str, str]:
    """The tasks of ``model`` whose answers are spans along one of the inputs ``columns``, each with that input."""
    lying = ((name, next(iter(task.goal.lies_on.values()), "")) for name, task in model.tasks.items() if task.spans)
    return {name: column for name, column in lying if column in columns}


class LiveLabels:
    """Puts the spans of overlapping windows together: every moment is labelled once, ``delay`` seconds after it has passed.

    The label of a moment comes from the first window that reaches ``delay`` seconds beyond it, so at most that and the
    distance of windows after it; in the beginning, with the first window.

    Args:
        units: Seconds in a unit of the spans of each task whose answers are spans.
        seconds: The length of a window.
        delay: Seconds for which a label waits for what comes after it.

    Raises:
        ConfigError: The delay is not shorter than a window.
    """

    def __init__(self, units: Mapping[str, float], seconds: float, delay: float) -> None:
        if not 0 <= delay < seconds:
            raise ConfigError(
                f"a delay of {delay:g} seconds is not shorter than a window of {seconds:g}", fix="a shorter delay"
            )
        self.units, self.seconds, self.delay = units, seconds, delay
        self.until = 0.0
        self._after: dict[str, list[Span]] = {name: [] for name in units}

    def add(self, start: float, targets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Take the answers ``targets`` for the window at ``start`` seconds; return the ``labels`` of each task that are
        new, and until when labels are settled."""
        since, self.until = max(self.until, start), max(self.until, start + self.seconds - self.delay)
        labels = {}
        for name, unit in self.units.items():
            spans = [[start + a * unit, start + b * unit, label] for a, b, label in targets[name]["value"]]
            labels[name] = cut(spans, since, self.until)
            self._after[name] = cut(spans, self.until, start + self.seconds)
        return {"labels": labels, "settled": round(self.until, 6)}

    def rest(self) -> dict[str, Any]:
        """The ``labels`` after those that are settled, once the stream has ended."""
        return {"labels": self._after}


def cut(spans: list[Span], since: float, until: float) -> list[Span]:
    """The parts of ``spans`` between the seconds ``since`` and ``until``."""
    parts = ([round(max(a, since), 6), round(min(b, until), 6), label] for a, b, label in spans)
    return [part for part in parts if part[0] < part[1]]
