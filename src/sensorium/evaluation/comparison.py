"""Several ways to train on the same rows, side by side: what each scores, costs and bears, and what is mere noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, nan
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from sensorium.core.rendering import Rendered
from sensorium.evaluation.formatting import number, words
from sensorium.evaluation.significance import Difference, difference, holm, seed_noise

ALPHA = 0.05


class Way(NamedTuple):
    """One way to train.

    Args:
        streams: Those it has.
        single: Whether it is a line of reference with fewer streams, and none of the ways compared.
        changes: Each part of the recipe that is compared, as a recipe writes it, and the choice.
    """

    name: str
    fusion: str
    streams: tuple[str, ...]
    single: bool
    changes: tuple[tuple[str, str], ...] = ()


@dataclass
class Entry:
    """A way to train, over its seeds.

    Args:
        scores: The metric, a seed each.
        parameters: Of the whole model.
        cpu: Seconds of the processor in training, the mean of the seeds; ``seconds`` by the clock.
        memory: Bytes of one training step, counted in tensors (``training/memory_footprint.py``).
        area: The mean area of its removal curves; NaN for a single stream.
        curves: By stream, the metric with it taken from growing shares of the rows, the mean of the seeds.
        epochs: The mean of the seeds.
        behind: By how much the best is ahead; None for the best itself.
        adjusted: The chance of that by luck, corrected for there being several.
    """

    way: Way
    scores: list[float]
    parameters: int
    cpu: float
    seconds: float
    memory: int
    area: float
    curves: dict[str, list[float]]
    epochs: float
    behind: Difference | None = None
    adjusted: float = 1.0

    @property
    def mean(self) -> float:
        return fmean(self.scores)

    @property
    def spread(self) -> float:
        """The standard deviation over the seeds; NaN for one seed."""
        return stdev(self.scores) if len(self.scores) > 1 else nan

    @property
    def told_apart(self) -> bool:
        """Whether the difference to the best is larger than the noise."""
        return self.behind is not None and self.adjusted < ALPHA


@dataclass
class Comparison(Rendered):
    """All ways, the best first: with all streams in ``entries``, one stream alone (or all but one) in ``others``.

    Args:
        what: What the ways differ in, in words: fusion, encoder of photo.
        test: What it was scored on, in words.
        steps: The shares of rows of the removal curves.
        skipped: Why a way is not here.
        baseline: The metric of knowing the training targets alone.
        budget: What every run was given, in words.
    """

    renderer: ClassVar[str] = "comparison"

    target: str
    metric: str
    higher_is_better: bool
    test: str
    rows: int
    seeds: int
    budget: str
    steps: tuple[float, ...]
    entries: list[Entry]
    others: list[Entry]
    baseline: float
    skipped: dict[str, str] = field(default_factory=dict)
    what: str = "fusion"

    @property
    def best(self) -> Entry:
        """The way with the best mean score, of those with all streams."""
        return self.entries[0]

    @property
    def findings(self) -> list[str]:
        """What it comes to, in sentences."""
        name, best = words(self.metric), self.best
        told = [
            f"The best is {best.way.name}: {name} {spread_of(best)}, on the rows it was chosen on, so a little flattered."
        ]
        alike = [entry.way.name for entry in self.entries[1:] if not entry.told_apart]
        worse = [entry.way.name for entry in self.entries[1:] if entry.told_apart]
        if alike:
            told.append(f"Not told apart from the best: {', '.join(alike)}.")
        if worse:
            told.append(f"Behind it by more than the noise: {', '.join(worse)}.")
        cheap = min([best, *(e for e in self.entries[1:] if not e.told_apart)], key=lambda e: e.parameters)
        if cheap is not best:
            told.append(f"The smallest that is not told apart is {cheap.way.name}, with {cheap.parameters:,} parameters.")
        steady = max(self.entries, key=lambda e: e.area if isfinite(e.area) else -1.0)
        if isfinite(steady.area) and len(self.entries) > 1:
            told.append(f"Losing modalities costs {steady.way.name} least (robustness area {number(steady.area)}).")
        if self.others:
            alone = self.others[0]
            gap = f"{number(best.mean)} against {number(alone.mean)}"
            ahead = alone.behind is not None and alone.behind.mean > 0
            if ahead and alone.told_apart:
                told.append(f"All modalities together are better than the best with fewer ({alone.way.name}): {gap}.")
            else:
                more = "is not told apart from" if ahead else "is no worse than"
                fewer = f"The best with fewer modalities ({alone.way.name}, {number(alone.mean)})"
                told.append(f"{fewer} {more} the best of all together ({number(best.mean)}).")
        if self.seeds == 1:
            told.append("With one seed the noise of training is not known: only that of the rows is in the intervals.")
        return told

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data; what ``evaluate --reference`` reads."""
        return {
            "target": self.target,
            "compared": self.what,
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "test": self.test,
            "rows": self.rows,
            "seeds": self.seeds,
            "budget": self.budget,
            "best": self.best.way.name,
            "baseline": self.baseline if isfinite(self.baseline) else None,
            "steps": list(self.steps),
            "runs": [_entry_json(entry) for entry in (*self.entries, *self.others)],
            "skipped": self.skipped,
            "findings": self.findings,
        }

    def markdown(self) -> str:
        """The table, for a document."""
        return str(self.render("markdown"))

    def chart(self) -> str:
        """The picture as SVG: mean scores with their spread over the seeds."""
        return str(self.render("chart"))

    def write(self, path: str | Path) -> Path:
        """One self-contained page: the table, the picture, and the cost of losing each stream."""
        return Path(self.render("write", path))


def ranked(
    entries: Sequence[Entry], draws: Mapping[str, Tensor], higher_is_better: bool
) -> tuple[list[Entry], list[Entry]]:
    """Ways with all streams, the best first, and the others, the best first, each held against the best of all.

    Args:
        draws: By name, the metric of each seed in each resample ``[S, R]``, all drawn alike.
    """
    sign = 1 if higher_is_better else -1
    order = sorted(entries, key=lambda entry: -sign * entry.mean if isfinite(entry.mean) else float("inf"))
    fused, others = [e for e in order if not e.way.single], [e for e in order if e.way.single]
    best = fused[0]
    for family in (fused[1:], others):
        noise = seed_noise([entry.scores for entry in (best, *family)])
        for entry in family:
            ahead, behind = ([sign * s for s in e.scores] for e in (best, entry))
            here, there = (sign * draws[e.way.name] for e in (best, entry))
            entry.behind = difference(ahead, behind, here, there, noise)
        adjusted = holm({e.way.name: e.behind.p for e in family if e.behind is not None})
        for entry in family:
            entry.adjusted = adjusted[entry.way.name]
    return fused, others


def spread_of(entry: Entry) -> str:
    """A mean score as people write it, with its spread over the seeds."""
    return f"{entry.mean:.3f}" + (f" ± {entry.spread:.3f}" if isfinite(entry.spread) else "")


def _entry_json(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.way.name,
        "fusion": entry.way.fusion,
        "changes": dict(entry.way.changes),
        "streams": list(entry.way.streams),
        "scores": entry.scores,
        "mean": entry.mean,
        "spread": entry.spread if isfinite(entry.spread) else None,
        "parameters": entry.parameters,
        "cpu": entry.cpu,
        "seconds": entry.seconds,
        "memory": entry.memory,
        "epochs": entry.epochs,
        "robustness_area": entry.area if isfinite(entry.area) else None,
        "curves": entry.curves,
        "behind": None if entry.behind is None else entry.behind._asdict(),
        "p": None if entry.behind is None else entry.adjusted,
        "told_apart": entry.told_apart,
    }
