"""Comparison of training configurations on the same rows: scores, cost, robustness and statistical significance."""

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


class Variant(NamedTuple):
    """One training configuration.

    Args:
        name: Its display name.
        fusion: Its fusion.
        streams: The streams it is trained on.
        single: Whether it is a reference with fewer streams rather than one of the compared configurations.
        changes: The compared options of the recipe and their values.
    """

    name: str
    fusion: str
    streams: tuple[str, ...]
    single: bool
    changes: tuple[tuple[str, str], ...] = ()


@dataclass
class Entry:
    """The results of a configuration over its seeds.

    Args:
        way: The configuration.
        scores: The metric for each seed.
        parameters: Number of parameters of the model.
        cpu: CPU seconds of training, mean over the seeds.
        seconds: Wall-clock seconds of training, mean over the seeds.
        memory: Bytes of one training step, counted in tensors (``training/memory_footprint.py``).
        area: The mean area under its removal curves; NaN for a single stream.
        curves: By stream, the metric as the stream is removed from growing shares of the rows, mean over the seeds.
        epochs: Number of epochs, mean over the seeds.
        behind: The difference between the best configuration and this one; None for the best itself.
        adjusted: The p-value of that difference, adjusted for multiple comparisons.
    """

    way: Variant
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
        """The mean score over the seeds."""
        return fmean(self.scores)

    @property
    def spread(self) -> float:
        """The standard deviation over the seeds; NaN for one seed."""
        return stdev(self.scores) if len(self.scores) > 1 else nan

    @property
    def significant(self) -> bool:
        """Whether the difference to the best is statistically significant."""
        return self.behind is not None and self.adjusted < ALPHA


@dataclass
class Comparison(Rendered):
    """Results of all configurations, best first.

    Args:
        target: The scored target.
        metric: The metric.
        higher_is_better: Whether larger values are better.
        test: Description of the scored rows.
        rows: Number of scored rows.
        seeds: Number of seeds.
        budget: Description of the budget of each run.
        steps: The shares of rows at which the removal curves are evaluated.
        entries: Configurations with all streams.
        others: References with one stream, or all but one.
        baseline: The metric of a constant prediction.
        skipped: By configuration, the reason it was skipped.
        what: What the configurations differ in: fusion, encoder of photo.
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
        """The configuration with the best mean score among those with all streams."""
        return self.entries[0]

    @property
    def findings(self) -> list[str]:
        """The conclusions as sentences."""
        name, best = words(self.metric), self.best
        sentences = [
            f"Best: {best.way.name}, {name} {spread_of(best)}; slightly optimistic, as it was selected on the same rows."
        ]
        alike = [entry.way.name for entry in self.entries[1:] if not entry.significant]
        worse = [entry.way.name for entry in self.entries[1:] if entry.significant]
        if alike:
            sentences.append(f"Not significantly different from the best: {', '.join(alike)}.")
        if worse:
            sentences.append(f"Significantly worse than the best: {', '.join(worse)}.")
        cheap = min([best, *(e for e in self.entries[1:] if not e.significant)], key=lambda e: e.parameters)
        if cheap is not best:
            smallest = f"{cheap.way.name}, with {cheap.parameters:,} parameters"
            sentences.append(f"The smallest that is not significantly worse than the best is {smallest}.")
        most_robust = max(self.entries, key=lambda e: e.area if isfinite(e.area) else -1.0)
        if isfinite(most_robust.area) and len(self.entries) > 1:
            sentences.append(
                f"Most robust to missing modalities: {most_robust.way.name} (robustness area {number(most_robust.area)})."
            )
        if self.others:
            alone = self.others[0]
            gap = f"{number(best.mean)} against {number(alone.mean)}"
            ahead = alone.behind is not None and alone.behind.mean > 0
            if ahead and alone.significant:
                sentences.append(f"All modalities are significantly better than the best subset ({alone.way.name}): {gap}.")
            else:
                more = "is not significantly different from" if ahead else "is no worse than"
                fewer = f"The best subset of modalities ({alone.way.name}, {number(alone.mean)})"
                sentences.append(f"{fewer} {more} the best with all modalities ({number(best.mean)}).")
        if self.seeds == 1:
            sentences.append(
                "With one seed, the intervals reflect the sampling of rows only, not the variance of training."
            )
        return sentences

    def to_json(self) -> dict[str, Any]:
        """Return JSON-serialisable data, as read by ``evaluate --reference``."""
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
        """Return the table as Markdown."""
        return str(self.render("markdown"))

    def chart(self) -> str:
        """Return an SVG chart of the mean scores and their standard deviations over the seeds."""
        return str(self.render("chart"))

    def write(self, path: str | Path) -> Path:
        """Write a self-contained HTML page with the table and charts to ``path``."""
        return Path(self.render("write", path))


def ranked(
    entries: Sequence[Entry], draws: Mapping[str, Tensor], higher_is_better: bool
) -> tuple[list[Entry], list[Entry]]:
    """Rank configurations by mean score and test each against the best.

    Args:
        entries: The results; ``behind`` and ``adjusted`` are set.
        draws: By configuration, the metric of each seed in each resample ``[S, R]``; resamples are paired.
        higher_is_better: Whether larger values are better.

    Returns:
        The configurations with all streams, then the references, each best first.
    """
    sign = 1 if higher_is_better else -1
    order = sorted(entries, key=lambda entry: -sign * entry.mean if isfinite(entry.mean) else float("inf"))
    fused, others = [e for e in order if not e.way.single], [e for e in order if e.way.single]
    best = fused[0]
    for family in (fused[1:], others):
        noise = seed_noise([entry.scores for entry in (best, *family)])
        for entry in family:
            ahead, behind = ([sign * s for s in e.scores] for e in (best, entry))
            drawn_ahead, drawn_behind = (sign * draws[e.way.name] for e in (best, entry))
            entry.behind = difference(ahead, behind, drawn_ahead, drawn_behind, noise)
        adjusted = holm({e.way.name: e.behind.p for e in family if e.behind is not None})
        for entry in family:
            entry.adjusted = adjusted[entry.way.name]
    return fused, others


def spread_of(entry: Entry) -> str:
    """Return the mean score of ``entry`` with its standard deviation over the seeds, formatted."""
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
        "told_apart": entry.significant,
    }
