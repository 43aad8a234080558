"""The scores of a model as data: by target, by subset of streams, and of all targets together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, ClassVar, Literal

import numpy as np

from sensorium.core.answer import margin
from sensorium.core.rendering import Rendered
from sensorium.core.views import Gallery, Matrix, Scatter, Sentence, View
from sensorium.evaluation.baselines import Floor
from sensorium.evaluation.formatting import words
from sensorium.evaluation.robustness import Robustness
from sensorium.evaluation.stream_subsets import Subset

Verdict = Literal["better", "unclear", "worse", "unknown"]
"""Whether a model beats its baseline."""


@dataclass
class TargetScores:
    """One target: how well it is answered.

    Args:
        name: The target's column.
        kind: The task's kind.
        headline: The metric quoted first.
        higher_is_better: Whether more of it is better.
        rows: Rows that have this target.
        whole: All streams, in the model's order.
        metrics: Every metric.
        intervals: Its 95 % bootstrap interval.
        baseline: The same metrics of knowing the training targets alone; None where those were not given.
        verdict: Whether it beats that baseline.
        subsets: Every metric with each subset of streams, by ``image+audio``.
        subset_intervals: The headline's interval with each subset.
        shapley: What each stream brought to the headline, in its own unit; positive is better.
        losses: ``[rows of the table]``, NaN without a target: the hardest rows have the largest. Each row counts alike,
            whatever weight its class has in training.
        predictions: One a row, as the task decodes them.
        truths: The target's value a row; None where missing.
        views: What else a report draws of it, as the task says: tables, curves, sentences.
        nothing: What the baseline does, in words.
        varied: Whether the scored rows differ in their targets: else no score tells rows apart.
        macro: The metrics that are means over classes.
        floor: What the network and each expert reach by themselves, where experts answer beside it.
        findings: What it means, in sentences.
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
    nothing: str = "knowing the training targets alone"
    varied: bool = True
    macro: Collection[str] = ()
    floor: Floor | None = None
    findings: list[str] = field(default_factory=list)

    def named(self, metric: str | None = None) -> str:
        """A metric as a report writes it, the headline unless another is given: ``macro F1``."""
        return words(metric or self.headline, self.macro)

    def view(self, name: str) -> View | None:
        """The view of this name, if the task gives one."""
        return next((view for view in self.views if view.name == name), None)

    def hardest(self, count: int = 12) -> list[int]:
        """Indices of the rows with the largest losses, the worst first."""
        order = np.argsort(-np.nan_to_num(self.losses, nan=-np.inf), kind="stable")
        return [int(i) for i in order[:count] if np.isfinite(self.losses[i])]

    def least_sure(self, count: int = 6) -> list[int]:
        """Indices of the rows whose answer was closest to another, true or not: the least sure first. None of numbers."""
        margins = [margin(prediction) for prediction in self.predictions]
        order = np.argsort([1.0 if m is None else m for m in margins], kind="stable")
        return [int(i) for i in order[:count] if margins[i] is not None]


@dataclass
class Evaluation(Rendered):
    """All targets of a model on some rows. ``text()`` is for a terminal, ``to_json()`` for programs."""

    renderer: ClassVar[str] = "terminal"

    rows: int
    streams: tuple[str, ...]
    targets: dict[str, TargetScores]
    robustness: dict[str, Robustness] = field(default_factory=dict)
    """By target, where it was asked for."""

    @property
    def findings(self) -> list[str]:
        """What the scores mean, in sentences."""
        return [sentence for target in self.targets.values() for sentence in target.findings]

    def floor(self) -> dict[str, Any]:
        """By target, what each part of the model reached, as plain JSON; targets without experts are left out."""
        plain: dict[str, Any] = _plain({n: t.floor.to_json() for n, t in self.targets.items() if t.floor is not None})
        return plain

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; None where a metric says nothing. Subset scores of several targets are named ``target.metric``."""
        several = len(self.targets) > 1
        subsets: dict[str, dict[str, float]] = {}
        for name, target in self.targets.items():
            for subset, metrics in target.subsets.items():
                named = {f"{name}.{metric}" if several else metric: value for metric, value in metrics.items()}
                subsets.setdefault(subset, {}).update(named)
        each = self.targets.items()
        clean: dict[str, Any] = _plain(
            {
                "rows": self.rows,
                "streams": list(self.streams),
                "targets": {name: t.metrics for name, t in each},
                "headline": {name: t.headline for name, t in each},
                "intervals": {name: t.intervals for name, t in each},
                "baseline": {name: t.baseline for name, t in each if t.baseline is not None},
                "subsets": subsets,
                "shapley": {name: t.shapley for name, t in each if t.shapley},
                "findings": self.findings,
                **({"floor": floors} if (floors := self.floor()) else {}),
                **({"robustness": {name: r.to_json() for name, r in self.robustness.items()}} if self.robustness else {}),
                **_views(self.targets),
            }
        )
        return clean


def _views(targets: Mapping[str, TargetScores]) -> dict[str, dict[str, Any]]:
    """What each target's views hold, by the view's name and then by target; what only people read is left out."""
    found: dict[str, dict[str, Any]] = {}
    for name, target in targets.items():
        for view in target.views:
            large = isinstance(view, Matrix) and len(view.labels) > view.most
            if large or isinstance(view, (Sentence, Gallery, Scatter)):
                continue
            found.setdefault(view.name, {})[name] = view.to_json()
    return found


def _plain(value: Any) -> Any:
    """JSON has no NaN; and six digits are more than any of these numbers can say."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if isfinite(value) else None
    return value
