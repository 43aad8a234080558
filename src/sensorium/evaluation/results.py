"""Evaluation results as data: scores by target and by subset of streams."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, ClassVar, Literal

import numpy as np

from sensorium.core.answer import margin
from sensorium.core.rendering import Rendered
from sensorium.core.report_views import Gallery, Matrix, Scatter, Sentence, View
from sensorium.evaluation.baselines import ComponentScores
from sensorium.evaluation.controls import Control
from sensorium.evaluation.formatting import words
from sensorium.evaluation.robustness import Robustness
from sensorium.evaluation.stream_subsets import Subset

Verdict = Literal["better", "unclear", "worse", "unknown"]
"""Whether a model is significantly better or worse than its baseline; ``unclear`` if neither."""


@dataclass
class TargetScores:
    """The results for one target.

    Args:
        name: The target's column.
        kind: The task's kind.
        headline: The primary metric.
        higher_is_better: Whether larger values of it are better.
        rows: Number of rows that have this target.
        whole: All streams, in the model's order.
        metrics: The value of every metric.
        intervals: The 95 % bootstrap interval of every metric.
        baseline: The same metrics of a constant prediction learnt from the training targets; None if unknown.
        losses: Unweighted loss by row of the table; NaN without a target.
        predictions: The decoded prediction of each row.
        truths: The target of each row; None where missing.
        verdict: Whether the model is significantly better than the baseline.
        subsets: Every metric with each evaluated subset of streams, by ``image+audio``.
        subset_intervals: The interval of the headline metric with each subset.
        shapley: Contribution of each stream to the headline metric (Shapley value), in its unit; positive is better.
        views: Further tables, charts and sentences that the task adds to a report.
        baseline_name: Description of the baseline.
        varied: Whether the targets of the scored rows differ; otherwise no score shows discrimination.
        macro: The metrics that are averaged over classes.
        floor: Scores of the network and each expert by themselves, for models with experts.
        controls: Scores of simple methods on the same rows, and of the model with other rows' inputs, if any.
        findings: The conclusions as sentences.
    """

    name: str
    kind: str
    headline: str
    higher_is_better: bool
    rows: int
    whole: Subset
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    baseline: dict[str, float] | None
    losses: np.ndarray[Any, Any]
    predictions: list[dict[str, Any]]
    truths: list[Any]
    verdict: Verdict = "unknown"
    subsets: dict[str, dict[str, float]] = field(default_factory=dict)
    subset_intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    shapley: dict[str, float] = field(default_factory=dict)
    views: list[View] = field(default_factory=list)
    baseline_name: str = "knowing the training targets alone"
    varied: bool = True
    macro: Collection[str] = ()
    floor: ComponentScores | None = None
    controls: dict[str, Control] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    def named(self, metric: str | None = None) -> str:
        """Return the display name of ``metric`` (by default the headline): ``macro F1``."""
        return words(metric or self.headline, self.macro)

    def view(self, name: str) -> View | None:
        """Return the view called ``name``, or None."""
        return next((view for view in self.views if view.name == name), None)

    def hardest(self, count: int = 12) -> list[int]:
        """Return the indices of the ``count`` rows with the largest losses, largest first."""
        order = np.argsort(-np.nan_to_num(self.losses, nan=-np.inf), kind="stable")
        return [int(i) for i in order[:count] if np.isfinite(self.losses[i])]

    def least_sure(self, count: int = 6) -> list[int]:
        """Return the indices of the ``count`` rows with the smallest margin between classes; none for numeric targets."""
        margins = [margin(prediction) for prediction in self.predictions]
        order = np.argsort([1.0 if m is None else m for m in margins], kind="stable")
        return [int(i) for i in order[:count] if margins[i] is not None]


@dataclass
class Evaluation(Rendered):
    """The results for all targets of a model; ``text()`` renders them for a terminal, ``to_json()`` for programs."""

    renderer: ClassVar[str] = "evaluation_text"

    rows: int
    streams: tuple[str, ...]
    targets: dict[str, TargetScores]
    robustness: dict[str, Robustness] = field(default_factory=dict)
    """By target; empty unless robustness was evaluated."""

    @property
    def findings(self) -> list[str]:
        """The conclusions on all targets as sentences."""
        return [sentence for target in self.targets.values() for sentence in target.findings]

    def floor(self) -> dict[str, Any]:
        """Return, by target, the scores of each component of the model as plain JSON; omits targets without experts."""
        plain: dict[str, Any] = _plain({n: t.floor.to_json() for n, t in self.targets.items() if t.floor is not None})
        return plain

    def _controls(self) -> dict[str, Any]:
        """Return, by target and control, every metric and the interval of the gain over it."""
        return {
            name: {control: {"scores": scores.metrics, "gain": scores.gain} for control, scores in target.controls.items()}
            for name, target in self.targets.items()
            if target.controls
        }

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON; None for undefined metrics. Subset scores of several targets are named ``target.metric``."""
        several = len(self.targets) > 1
        subsets: dict[str, dict[str, float]] = {}
        for name, target in self.targets.items():
            for subset, metrics in target.subsets.items():
                named = {f"{name}.{metric}" if several else metric: value for metric, value in metrics.items()}
                subsets.setdefault(subset, {}).update(named)
        targets = self.targets.items()
        clean: dict[str, Any] = _plain(
            {
                "rows": self.rows,
                "streams": list(self.streams),
                "targets": {name: t.metrics for name, t in targets},
                "headline": {name: t.headline for name, t in targets},
                "intervals": {name: t.intervals for name, t in targets},
                "baseline": {name: t.baseline for name, t in targets if t.baseline is not None},
                "subsets": subsets,
                "shapley": {name: t.shapley for name, t in targets if t.shapley},
                **({"controls": controls} if (controls := self._controls()) else {}),
                "findings": self.findings,
                **({"floor": floors} if (floors := self.floor()) else {}),
                **({"robustness": {name: r.to_json() for name, r in self.robustness.items()}} if self.robustness else {}),
                **_views(self.targets),
            }
        )
        return clean


def _views(targets: Mapping[str, TargetScores]) -> dict[str, dict[str, Any]]:
    """Return the data of the tasks' views, by view and then by target, without those meant only for display."""
    views: dict[str, dict[str, Any]] = {}
    for name, target in targets.items():
        for view in target.views:
            large = isinstance(view, Matrix) and len(view.labels) > view.most
            if large or isinstance(view, (Sentence, Gallery, Scatter)):
                continue
            views.setdefault(view.name, {})[name] = view.to_json()
    return views


def _plain(value: Any) -> Any:
    """Replace NaN by None, which JSON lacks, and round floats to six significant digits."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if isfinite(value) else None
    return value
